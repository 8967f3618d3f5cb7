"""What a model reads when its arguments are wrong: the field, the reason, the nearest name that exists."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from batchcall_mcp.text import shortened

_MOST_PROBLEMS: Final = 10
_MOST_CHARACTERS: Final = 60
_SECRET = re.compile(r"key|secret|token|password|code", re.IGNORECASE)
_MEMBER = re.compile(r"<\w+\.\w+: ('[^']*')>")
"""A member of an enumeration, as Python writes it."""
_TOO_SHORT = frozenset({"string_too_short", "too_short"})
_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})

_REASONS: Final[Mapping[str, str]] = {
    "missing": "is required",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "string_pattern_mismatch": "must match {pattern}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "dataclass_type": "must be an object",
}


def describe_arguments(error: ValidationError, arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """One readable text for all that is wrong. Values are cut, and not shown of fields whose name may mean a secret."""
    problems: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        path = _path(problem, arguments)
        reason = _reason(problem, path, schema)
        reasons = problems.setdefault(_written(path), [])
        if reason not in reasons:
            reasons.append(reason)
    lines = []
    for where, (first, *others) in problems.items():
        alternatives = " or ".join([first, *(reason.removeprefix("must be ") for reason in others)])
        lines.append(sentence(f"{where or 'arguments'}: {alternatives}"))
    if len(lines) > _MOST_PROBLEMS:
        lines = [*lines[:_MOST_PROBLEMS], f"And {len(lines) - _MOST_PROBLEMS} more."]
    return f"[invalid_input] {' '.join(lines)} Nothing was sent."


def nearest(name: str, known: Iterable[str]) -> str:
    """A question for the name that was probably meant, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def quoted(value: Any) -> str:
    """A value as the model wrote it, cut."""
    text = repr(value) if isinstance(value, str) else str(value)
    if isinstance(value, bool) or value is None:
        text = {True: "true", False: "false", None: "null"}[value]
    return shortened(text, _MOST_CHARACTERS)


def sentence(text: str) -> str:
    """With its full stop, unless it asks."""
    return text if text.endswith("?") else text + "."


def _reason(problem: ErrorDetails, path: Sequence[str | int], schema: Mapping[str, Any]) -> str:
    kind, name = problem["type"], str(path[-1]) if path else ""
    if kind in _UNKNOWN:
        known = _known(path[:-1], schema)
        there = f"; there are {', '.join(known)}" if known else ""
        return "unknown argument" + (nearest(name, known) or there)
    context = problem.get("ctx", {})
    if kind == "value_error":
        reason = str(context.get("error", "is not valid"))
    elif kind in _TOO_SHORT and context.get("min_length") == 1:
        reason = "must not be empty"
    elif kind in _REASONS:
        reason = _MEMBER.sub(r"\1", _REASONS[kind].format(**context))
    else:
        message = problem["msg"]
        reason = message[:1].lower() + message[1:]
    value = problem["input"]
    secret = any(_SECRET.search(str(part)) for part in path)
    if kind == "missing" or secret or not isinstance(value, str | int | float | None):
        return reason
    return f"{reason} (got {quoted(value)})"


def _path(problem: ErrorDetails, arguments: Any) -> list[str | int]:
    """The place in what was sent; pydantic also names the arm of a union, which nobody wrote."""
    place, path = arguments, []
    location = problem["loc"]
    for index, part in enumerate(location):
        if isinstance(place, Mapping) and part in place:
            place = place[str(part)]
        elif isinstance(place, list) and isinstance(part, int) and part < len(place):
            place = place[part]
        elif index + 1 < len(location) or problem["type"] != "missing":
            if index == 0:
                path.append(part)
            continue
        path.append(part)
    return path


def _written(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{quoted(part)[1:-1]}" if text else quoted(part)[1:-1]
    return text


def _known(path: Sequence[str | int], schema: Mapping[str, Any]) -> list[str]:
    """Names that the schema has at a place."""
    here = _alternative_schemas(schema)
    for part in path:
        inner = (one.get("items") if isinstance(part, int) else one.get("properties", {}).get(part) for one in here)
        here = [found for one in inner if one for found in _alternative_schemas(one)]
    return sorted({name for one in here for name in one.get("properties", {})})


def _alternative_schemas(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [schema, *(arm for word in ("anyOf", "oneOf") for arm in schema.get(word, []))]
