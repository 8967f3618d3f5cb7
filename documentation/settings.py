"""docs/settings.md: every BATCHCALL_* variable, from the fields of `Settings` and what stands below them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from batchcall_mcp.money import Money
from batchcall_mcp.settings import PREFIX, Settings
from documentation.markdown import code, codes, number, table

GROUPS = {
    "The account": ("backend", "url", "api_key", "api_secret"),
    "What may be done": (
        "mode",
        "confirm",
        "approval_page",
        "undo_seconds",
        "test_numbers",
        "skip_people_max",
        "accept_no_stop",
    ),
    "Limits": (
        *("max_calls_per_launch", "max_calls_per_day", "cost_per_minute", "max_cost_per_launch", "max_cost_per_day"),
        "rate_limit",
    ),
    "Lists and people": (
        "files",
        "default_region",
        "do_not_call",
        "require_consent",
        "calling_hours",
        "retention_days",
    ),
    "Storage and network": (
        "data_dir",
        "database_url",
        "request_timeout_s",
        "allowed_hosts",
        "log_level",
        "log_format",
        "fast_start",
    ),
    "Real phones on the built-in dialer": (
        *("carrier", "carrier_key", "carrier_secret", "carrier_url", "carrier_concurrency", "carrier_calls_per_second"),
        *("agents", "countries", "public_url"),
    ),
    "How the dialer works": (
        *("late_start_minutes", "min_gap_minutes", "simulated_speed", "webhooks_to_private_addresses"),
        *("predial_url", "predial_secret"),
    ),
    "Notifications": ("notify_url", "notify_secret"),
}
OTHERS = "Others"
"""Of settings that are in no group."""
_LISTS = {Path: "paths, separated by `:` (Windows: `;`)", str: "values, separated by commas"}
_PLAIN = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "secret text",
    Money: "amount and currency, such as `0.14 USD`",
}
_SPECIAL = {
    "calling_hours": "`HH:MM-HH:MM`",
    "default_region": "two letters",
    "database_url": "`postgresql://…`",
    "skip_people_max": "percent, 0 to 100",
}
_LIMITS = (
    ("ge", "at least {}"),
    ("gt", "more than {}"),
    ("le", "at most {}"),
    ("lt", "less than {}"),
    ("max_length", "at most {} characters"),
)
_UNITS = {"_seconds": "seconds", "timeout_s": "seconds", "_minutes": "minutes", "_days": "days"}
_DEFAULTS = {
    "files": "`batchcall` in your documents folder",
    "data_dir": "your data folder",
    "skip_people_max": "`10%`",
}
"""Those that depend on the computer, or that people write otherwise."""
_NONE = "\N{EN DASH}"
_UNSET = re.compile(r"\s*If it is not set: (.+)\.$")


def render() -> str:
    """All settings, by what they are for."""
    meanings = documented()
    grouped = {name for names in GROUPS.values() for name in names}
    groups = {**GROUPS, OTHERS: tuple(name for name in Settings.model_fields if name not in grouped)}
    return "\n".join(
        f"## {title}\n\n" + table(("variable", "value", "default", "meaning"), [_row(name, meanings) for name in names])
        for title, names in groups.items()
        if names
    )


def documented() -> dict[str, str]:
    """The text below each field.

    Raises:
        ValueError: a field has none.
    """
    body = [node for part in ast.parse(inspect.getsource(Settings)).body for node in getattr(part, "body", ())]
    found = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
            if not text:
                raise ValueError(f"Settings.{field.target.id} has no text below it that says what it means")
            found[field.target.id] = " ".join(str(text).split())
    return found


def _row(name: str, meanings: dict[str, str]) -> tuple[str, str, str, str]:
    field = Settings.model_fields[name]
    unset = _UNSET.search(meanings[name])
    default = unset[1] if unset else _DEFAULTS.get(name) or _default(field)
    return (
        code(PREFIX + name.upper()),
        _SPECIAL.get(name) or _kind(name, field),
        default,
        _UNSET.sub("", meanings[name]),
    )


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.default_factory or value in (None, (), frozenset()):
        return _NONE
    return code(str(value).lower() if isinstance(value, bool) else value)


def _kind(name: str, field: FieldInfo) -> str:
    if name.endswith("url"):
        return "URL"
    unit = next((f" of {unit}" for ending, unit in _UNITS.items() if name.endswith(ending)), "")
    return ", ".join([_type(field.annotation) + unit, *_limits(field.metadata)])


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), [one for one in get_args(annotation) if one not in (NoneType, ...)]
    if origin is Literal:
        return codes(arguments)
    if origin in (Union, UnionType):
        return " or ".join(map(_type, arguments))
    if origin in (tuple, frozenset):
        return _LISTS[arguments[0]]
    return _PLAIN[annotation]


def _limits(metadata: Iterable[Any]) -> Iterable[str]:
    for one in metadata:
        for name, text in _LIMITS:
            if (limit := getattr(one, name, None)) is not None:
                yield text.format(number(limit))
