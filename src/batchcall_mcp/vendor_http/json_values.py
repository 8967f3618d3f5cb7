"""Reading single values out of a backend's JSON without trusting it: what cannot be meant is None, nothing raises."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from batchcall_mcp.clock import from_epoch
from batchcall_mcp.money import Money, parse_money

TEXT_LIMIT = 1000
R = TypeVar("R")
T = TypeVar("T", bound=str)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_MILLISECONDS_END = 1e14
"""Of an epoch number that can be meant: the year 5138."""
_WHOLE_END = 2**53


def text(value: Any, limit: int = TEXT_LIMIT) -> str | None:
    """A string without control characters, cut to `limit`; a number as its digits; else None."""
    if value is None:  # most members of most tasks
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value) if abs(value) < _WHOLE_END else ""
    if not isinstance(value, str):
        return None
    return without_controls(value[:limit]).strip() or None


def without_controls(value: str) -> str:
    """Control characters, line breaks, overrides of the writing direction and half characters as spaces.

    What joins letters (Persian, emoji) stays: an agent speaks these words. `text.printable` is for what a person reads.
    """
    if value.isprintable():  # nearly every text of a list of 100,000
        return value
    return _UNPRINTABLE.sub(" ", value)


def whole(value: Any) -> int | None:
    """A count: a whole number from zero on, also as digits or as a float without a fraction."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not 0 <= value < _WHOLE_END or value != int(value):
        return None
    return int(value)


def seconds(value: Any) -> float | None:
    """A length of time from zero on, to the millisecond."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _WHOLE_END:
        return None
    return round(float(value), 3)


def money(value: Any) -> Money | None:
    """An amount with its currency: `{"amount": "0.14", "currency": "USD"}`."""
    if not isinstance(value, dict):
        return None
    try:
        return parse_money(f"{text(value.get('amount'))} {text(value.get('currency'))}")
    except ValueError:
        return None


def usd(value: Any, per: int = 1) -> Money | None:
    """An amount in US dollars that is a bare number; `per` 100, where the number counts cents."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _WHOLE_END:
        return None
    amount = f"{value / per:.6f}".rstrip("0").rstrip(".")
    return money({"amount": amount, "currency": "USD"})


def moment(value: Any) -> datetime | None:
    """A moment as aware UTC: ISO 8601 (without an offset: UTC), or epoch seconds or milliseconds by magnitude.

    Zero and negative numbers mean "not set".
    """
    if value is None:
        return None
    if isinstance(value, str):
        stripped = value.strip()
        if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,6})?", stripped):
            return _iso(stripped)
        value = float(stripped)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not 0 < value < _MILLISECONDS_END:
        return None
    return from_epoch(value)


def _iso(value: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def time_of_day(value: Any) -> str | None:
    """`HH:MM` out of `HH:MM` or `HH:MM:SS`, up to `24:00`."""
    if not isinstance(value, str):
        return None
    found = re.fullmatch(r"(?P<time>([01][0-9]|2[0-3]):[0-5][0-9]|24:00)(:[0-9]{2}(\.[0-9]+)?)?", value.strip())
    return found["time"] if found else None


def status(words: Mapping[str, T], word: Any, unknown: T) -> tuple[T, str | None]:
    """The model's status for a backend's word in any letter case, and the word itself where it says something else."""
    if isinstance(word, str) and word == (known := words.get(word)):  # as our dialer says it
        return known, None
    raw = text(word, 100)
    lower = (raw or "").lower()
    known = words.get(lower, unknown)
    return known, raw if lower != known else None


def variables(value: Any) -> dict[str, str]:
    """Variables as strings; what is not a string is shown as JSON."""
    if not isinstance(value, dict):
        return {}
    return {
        without_controls(str(name)): without_controls(item if isinstance(item, str) else json.dumps(item, default=str))
        for name, item in value.items()
        if item is not None
    }


def unpacked(value: Any) -> Any:
    """What a string of JSON holds; None if it is none."""
    try:
        return json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return None


def rows(value: Any) -> tuple[list[Mapping[str, Any]], int]:
    """The objects of a list, and how many other things were in it."""
    if not isinstance(value, list):
        return [], 0
    found: list[Mapping[str, Any]] = [item for item in value if isinstance(item, dict)]
    return found, len(value) - len(found)


def read_each(items: list[Any], read: Callable[[Mapping[str, Any]], R | None]) -> tuple[R, ...]:
    """What `read` makes of the objects of a list, without those that it cannot read."""
    return tuple(found for data in rows(items)[0] if (found := read(data)) is not None)


def first(data: Mapping[str, Any], name: str, *others: str) -> Any:
    """The first of these members that is there and not null."""
    found = data.get(name)
    for other in others:
        if found is not None:
            break
        found = data.get(other)
    return found


def names(value: Any) -> Iterable[str]:
    """Names of variables in any of the shapes that a backend may list them in: names, a mapping, or objects."""
    if isinstance(value, Mapping):
        return [str(name) for name in value]
    if not isinstance(value, list):
        return []
    found = (text(first(item, "name", "key", "variable") if isinstance(item, dict) else item) for item in value)
    return [name for name in found if name]


@cache
def _ways(path: str) -> tuple[tuple[str, ...], ...]:
    """Paths are written in adapters, so they are few; rows are many."""
    return tuple(tuple(one.split(".")) for one in path.split("|"))


def inside(data: Any, path: str) -> Any:
    """What lies at a path such as `metadata.cost` or `numbers.0`; of paths joined by `|` the first that is there."""
    for names in _ways(path):
        found = data
        for name in names:
            if isinstance(found, list):
                found = found[int(name)] if name.isdigit() and int(name) < len(found) else None
            else:
                found = found.get(name) if isinstance(found, dict) else None
        if found is not None:
            return found
    return None


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("scheduled_at", "created_at", "started_at", "completed_at", "attempted_at", "expires_at"), moment),
    **dict.fromkeys(("max_concurrency", "attempts", "total", "pending", "calling", "sent", "picked_up"), whole),
    **dict.fromkeys(("completed", "no_answer", "busy", "voicemail", "failed", "skipped", "cancelled"), whole),
    **dict.fromkeys(("dynamic_variables", "extracted"), variables),
}


def members(data: Any, paths: Mapping[str, str]) -> dict[str, Any]:
    """Fields of the model by their paths in a vendor's row, each read as its name wants: a moment, a count or a text.

    `seconds` and `money` depend on the vendor's units: an adapter reads them itself.
    """
    found: dict[str, Any] = {}
    for name, path in paths.items():
        read: Callable[[Any], Any] = _READERS.get(name, text)
        found[name] = read(inside(data, path))
    return found
