"""What one backend can hold of the arguments: the published schemas have nothing else.

Validation takes all of it, on every backend. What no schema names is refused by `backends.capabilities.unsupported`
where it is given all the same: its sentence says what can be done instead, and "unknown argument" would not. So each
rule here has its sentence there; a test asks both about every backend and every field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from batchcall_mcp.backends.capabilities import Capabilities

_Schema: TypeAlias = dict[str, Any]
_Rule: TypeAlias = Callable[[_Schema, Capabilities], _Schema | None]
"""The schema of an argument for one backend; None where the backend has no field for it."""

MOST_AT_ONCE = 1000
"""Calls of one batch call, on any backend: a lower limit is published."""


def held(arguments: _Schema, capabilities: Capabilities) -> _Schema:
    """The schema of a tool's arguments for one backend. Pure.

    An argument whose default the backend cannot hold is required.
    """
    return _held(arguments, capabilities, "")


def _held(schema: _Schema, capabilities: Capabilities, path: str) -> _Schema:
    if "items" in schema:
        return {**schema, "items": _held(schema["items"], capabilities, path)}
    if "properties" not in schema:
        return schema
    properties, required = {}, list(schema.get("required", []))
    for name, inner in schema["properties"].items():
        place = f"{path}.{name}".lstrip(".")
        kept = _RULES[place](inner, capabilities) if place in _RULES else inner
        if kept is not None:
            properties[name] = _held(kept, capabilities, place)
            if "default" in inner and "default" not in kept and name not in required:
                required.append(name)
    return {**schema, "properties": properties} | ({"required": required} if required else {})


def _only_if(holds: Callable[[Capabilities], bool]) -> _Rule:
    return lambda schema, can: schema if holds(can) else None


def _columns(schema: _Schema, can: Capabilities) -> _Schema:
    """What becomes of the other columns of a file, where that is said."""
    said = schema["description"]
    return schema if can.dynamic_variables else {**schema, "description": said.replace(_BECOME_VARIABLES, _NOT_SENT)}


def _ends(schema: _Schema, can: Capabilities) -> _Schema | None:
    if can.ends == "none":
        return None
    said = schema["description"]
    return {**schema, "description": said.replace(*_NO_DATE)} if can.ends == "time" else schema


def _most_at_once(schema: _Schema, can: Capabilities) -> _Schema | None:
    if can.max_concurrency is None:
        return None
    return schema if can.max_concurrency >= MOST_AT_ONCE else {**schema, "maximum": can.max_concurrency}


def _at_most(schema: _Schema, most: int | None) -> _Schema:
    return schema if most is None else {**schema, "maximum": most}


def _zone(_schema: _Schema, can: Capabilities) -> _Schema:
    if can.windows == "one_zone":
        return {"description": "one IANA zone for all", "type": "string"}
    return {"const": "UTC", "type": "string"} if can.windows == "utc" else _schema


def _outcomes(schema: _Schema, can: Capabilities) -> _Schema:
    words = [word for word in schema["items"]["enum"] if word in can.retry_outcomes]
    return {**schema, "items": {**schema["items"], "enum": words}}


_BECOME_VARIABLES = "other columns become variables"
_NOT_SENT = "other columns are not sent"
_NO_DATE = ("; a date: after its end, in each person's zone", ": ISO 8601 with an offset")
_RULES: Mapping[str, _Rule] = {
    "window": _only_if(lambda can: can.windows != "none"),
    "window.days": _only_if(lambda can: can.window_days),
    "window.timezone": _zone,
    "ends_at": _ends,
    "max_concurrency": _most_at_once,
    "first": _only_if(lambda can: can.first),
    "retry": _only_if(lambda can: can.retry_policy),
    "retry.on": _outcomes,
    "retry.max_retries": lambda schema, can: _at_most(schema, can.limits.retries),
    "retry.after_minutes": lambda schema, can: _at_most(schema, can.limits.retry_minutes),
    "retry.at": _only_if(lambda can: can.retry_at),
    "tasks_file": _columns,
    "tasks.name": _only_if(lambda can: can.task_names),
    "tasks.dynamic_variables": _only_if(lambda can: can.dynamic_variables),
    "tasks.max_retries": _only_if(lambda can: can.task_max_retries),
    "tasks.timezone": _only_if(lambda can: can.task_timezones),
    "tasks.not_before": _only_if(lambda can: can.not_before),
}
"""By the path of the argument, in every tool that has it."""
