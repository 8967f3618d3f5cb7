"""The one paragraph that a person reads before phones ring: judged in five seconds, at most 90 words as a rule. Pure.

First what is unusual, then how many people, where and when on their own clocks, who the first is, who speaks and from
which number, who is skipped, how long it takes, and whether it can be stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from batchcall_mcp.guard.people import without_numbers, written
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.guard.preflight.preflight import Preflight
from batchcall_mcp.guard.preflight.recipient_warnings import NO_COUNTRY
from batchcall_mcp.model import BatchCall, BatchCallRequest
from batchcall_mcp.recipients.phone.countries import country_name
from batchcall_mcp.recipients.validation import SkipReason
from batchcall_mcp.text import in_quotes

_LONGEST_NAME: Final = 60
_MOST_COUNTRIES: Final = 3
_REASONS: Final = {"later_batch_call": "in a later batch call", "already_there": "already there"}
_OTHERS: Final = "The others are called only after you resume it."


def question(preflight: Preflight, request: BatchCallRequest, current: BatchCall | None, backend: str) -> str:
    """The paragraph about one launch, made from its preflight."""
    sentences = [
        *_first(preflight),
        f"Call {_whom(preflight, current)} {preflight.when or 'now'}{_called(request, current)}, through {backend}.",
        *([_OTHERS] if preflight.is_for_the_first else []),
        *_who(preflight, request, current),
        *_skipped(preflight),
        *_how_long(preflight, request, current),
        *([f"{preflight.cost[0].upper()}{preflight.cost[1:]}."] if preflight.cost else []),
        *(note for note in preflight.notes if note not in preflight.unusual),
    ]
    if preflight.can_stop and preflight.can_stop not in preflight.warnings:
        sentences.append(preflight.can_stop)
    if preflight.simulated:
        sentences.append("The carrier is simulated: no real phone rings.")
    return " ".join(sentences)


def skipped_words(skipped: Mapping[str, int]) -> str:
    """`5 invalid, 4 duplicates, 3 do-not-call`."""
    order = {str(kind): place for place, kind in enumerate(SkipReason)}
    kinds = sorted(skipped, key=lambda kind: order.get(kind, len(order)))
    return ", ".join(_reason(kind, skipped[kind]) for kind in kinds)


def _first(preflight: Preflight) -> Iterable[str]:
    """What is unusual: that nothing can be stopped, what changes, and every warning."""
    if preflight.can_stop in preflight.warnings:
        yield preflight.can_stop
    yield from preflight.unusual
    yield from (warning for warning in preflight.warnings if warning != preflight.can_stop)


def _whom(preflight: Preflight, current: BatchCall | None) -> str:
    if preflight.calls is None:
        total = current.counts.total if current else None
        return "an unknown number of people" + ("" if total is None else f" (the backend counts {total:,})")
    if preflight.is_for_the_first:
        listed = "all" if preflight.listed is None else f"{preflight.listed:,} people"
        return f"{preflight.calls:,} of {listed}" + _places(preflight)
    return counted(preflight.calls, "person", "people") + _places(preflight)


def _places(preflight: Preflight) -> str:
    """` (170 United States, 18 United Kingdom)`; one country without its number."""
    known = {region: calls for region, calls in preflight.countries.items() if region != NO_COUNTRY}
    if not known:
        return ""
    nowhere = (
        (preflight.listed or preflight.calls or 0)
        - sum(preflight.countries.values())
        + preflight.countries.get(NO_COUNTRY, 0)
    )
    if len(known) == 1 and not nowhere:
        return f" ({country_name(next(iter(known)))})"
    # The last of four is as short as "1 other country".
    most = _MOST_COUNTRIES if len(known) > _MOST_COUNTRIES + 1 else len(known)
    parts = [f"{calls:,} {country_name(region)}" for region, calls in list(known.items())[:most]]
    others = (preflight.country_count or len(known)) - most
    more = f" and {counted(others, 'other country', 'other countries')}" if others > 0 else ""
    unknown = f", {preflight.countries[NO_COUNTRY]:,} of no known country" if NO_COUNTRY in preflight.countries else ""
    return f" ({', '.join(parts)}{more}{unknown})"


def _called(request: BatchCallRequest, current: BatchCall | None) -> str:
    name = request.name or (current.name if current else None)
    return f" for {in_quotes(without_numbers(name[: 2 * _LONGEST_NAME]), _LONGEST_NAME)}" if name else ""


def _who(preflight: Preflight, request: BatchCallRequest, current: BatchCall | None) -> Iterable[str]:
    """Who is called first, who speaks, and from which number."""
    if preflight.first:
        yield f"{'Person' if preflight.calls == 1 else 'First on the list'}: {preflight.first}."
    from_number = request.from_number or (current.from_number if current else None)
    source = f"from {written(from_number)}" if from_number else "from the batch call's number"
    if preflight.takes_turns and from_number:
        source = f"from the numbers of the pool of {written(from_number)}, which take turns"
    if preflight.agent:
        yield f"{preflight.agent} speaks, {source}."
    else:
        yield f"{source.capitalize()}{'' if preflight.simulated else '; which agent speaks is not known'}."
    if preflight.begins:
        yield f"It begins: {preflight.begins}"


def _skipped(preflight: Preflight) -> Iterable[str]:
    """Rows that are not called: of the list given now, and of the one that the backend holds."""
    if rows := sum(preflight.skipped_rows.values()):
        yield f"{counted(rows, 'row is', 'rows are')} skipped: {skipped_words(preflight.skipped_rows)}."
    if rows := sum(preflight.skipped_before.values()):
        yield f"{counted(rows, 'row was', 'rows were')} skipped: {skipped_words(preflight.skipped_before)}."


def _reason(kind: str, count: int) -> str:
    if kind == "duplicate":
        return counted(count, "duplicate")
    return f"{count:,} {_REASONS.get(kind) or kind.replace('_', '-')}"


def _how_long(preflight: Preflight, request: BatchCallRequest, current: BatchCall | None) -> Iterable[str]:
    asked = request.max_concurrency or (current.max_concurrency if current else None)
    concurrency = min(filter(None, (asked, preflight.calls_at_once)), default=None)
    matters = concurrency is not None and (preflight.calls is None or concurrency < preflight.calls)
    parts = [
        preflight.duration or "",
        f"at most {concurrency} at once" if matters else "",
        _dials(preflight),
    ]
    said = ", ".join(part for part in parts if part)
    if said:
        yield f"{said[0].upper()}{said[1:]}."


def _dials(preflight: Preflight) -> str:
    calls, most, each = preflight.calls, preflight.max_dials, preflight.dials_each
    if not (calls and most and each) or most <= calls:
        return ""
    if calls == 1:
        return f"up to {each} dials"
    return f"up to {each} dials each" + ("" if most == calls * each else f" and {most:,} in all")
