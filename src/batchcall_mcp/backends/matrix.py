"""What each of our backends can do, as the tables of docs/backends.md: generated, and therefore always right."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.registry import BUILT_IN, backend_class
from batchcall_mcp.model import TaskStatus

_STOP = {
    "any_time": "whenever it is not over",
    "before_start": "only before it starts",
    "pending_only": "for those who were not dialled yet",
    "never": "no",
}
_WINDOWS = {
    "full": "each person's own time zone, or one",
    "one_zone": "one time zone",
    "utc": "UTC",
    "none": "no",
}
_DRAFTS = {
    "full": "yes",
    "start_now_only": "yes, but a stored one starts only now",
    "now_only": "yes, and they start only now",
    "none": "no: creating dials",
}


_ENDS = {"none": "no", "time": "at a moment", "date": "at a moment, or with a date of each person's own"}
_ARGUMENTS = {"trigger_at": "trigger_timestamp", "trigger_on": "trigger_timestamp", "ends_on": "ends_at"}


def _updates(can: Capabilities) -> str:
    """By the names that the tools use."""
    if Operation.UPDATE not in can.operations:
        return "no"
    return ", ".join(sorted({_ARGUMENTS.get(name, name) for name in can.update_fields}))


def _window(can: Capabilities) -> str:
    over = can.windows == "none" or can.over_midnight
    return _WINDOWS[can.windows] + ("" if over else ", not over midnight")


def _most(number: int | None) -> str:
    return "no limit" if number is None else f"{number:,}"


def _task_fields(can: Capabilities) -> str:
    held = {
        "variables": can.dynamic_variables,
        "name": can.task_names,
        "time zone": can.task_timezones,
        "max_retries": can.task_max_retries,
    }
    return ", ".join(name for name, has in held.items() if has) or "none"


_RETRIES = {
    "named": "exactly the tasks that are named",
    "all_unreached": "everybody who was not reached, in the same batch call",
    "child_draft": "everybody who was not reached, as a new draft",
    "none": "no: a new batch call of those who were not reached",
}
_REPORTED = {"all": "everybody", "dialled_only": "people who were dialled", "none": "nobody"}
_CALLERS = {
    "number": "the number",
    "id": "the number (its id is looked up)",
    "pool": "a pool of numbers, which take turns",
}

_Column: TypeAlias = tuple[str, Callable[[Capabilities], str]]
_TABLES: tuple[tuple[str, tuple[_Column, ...]], ...] = (
    (
        "Making and launching",
        (
            ("drafts", lambda can: _DRAFTS[can.drafts]),
            ("create needs", lambda can: ", ".join(sorted(can.required))),
            ("update", _updates),
            ("adds people", lambda can: _yes(Operation.APPEND in can.operations)),
            ("dials again", lambda can: _RETRIES[can.retry]),
            ("start of the first people only", lambda can: _yes(can.first)),
            ("keeps idempotency keys", lambda can: _yes(can.idempotency == "key")),
        ),
    ),
    (
        "Stopping",
        (
            ("cancel is possible", lambda can: _STOP[can.stop] if Operation.CANCEL in can.operations else "no"),
            ("what cancel does", lambda can: can.cancel_effect),
            ("pause and resume", lambda can: _yes({Operation.PAUSE, Operation.RESUME} <= can.operations)),
            ("delete", lambda can: _yes(Operation.DELETE in can.operations)),
        ),
    ),
    (
        "When",
        (
            (
                "calling window",
                _window,
            ),
            ("by day of the week", lambda can: _yes(can.windows != "none" and can.window_days)),
            ("a date of each person's own", lambda can: _yes(can.trigger_dates)),
            ("end (ends_at)", lambda can: _ENDS[can.ends]),
            ("promised call-backs (not_before)", lambda can: _yes(can.not_before)),
            ("retry after", lambda can: ", ".join(can.retry_outcomes) if can.retry_policy else "no"),
            ("how far ahead, and how late", lambda can: _times(can.limits)),
        ),
    ),
    (
        "Who, and how many",
        (
            (
                "tasks in one batch call",
                lambda can: "no limit" if can.limits.tasks is None else f"{can.limits.tasks:,}",
            ),
            ("from_number names", lambda can: _CALLERS[can.caller]),
            ("who speaks", lambda can: "agent_id" if can.agent == "per_batch" else "the agent of from_number"),
            ("max_concurrency", lambda can: "no" if can.max_concurrency is None else f"up to {can.max_concurrency:,}"),
            ("fields of a task", _task_fields),
        ),
    ),
    (
        "What comes back",
        (
            ("tasks are listed", lambda can: _REPORTED[can.tasks_reported]),
            ("task states", lambda can: ", ".join(_outcomes(can))),
            ("results of a task", lambda can: ", ".join(sorted(can.results)) or "its state alone"),
            ("variables", lambda can: _yes(can.returns_variables)),
            ("get_call", lambda can: _yes(Operation.GET_CALL in can.operations)),
            ("list", lambda can: "yes" if Operation.LIST in can.operations else "what the ledger knows"),
            ("what a minute costs", lambda can: _yes(can.prices)),
            ("credentials", lambda can: "key and secret" if can.needs_secret else "key"),
        ),
    ),
)


def render() -> str:
    """The tables, a row for each backend, and under them what to know before planning on each."""
    backends = [backend_class(name) for name in BUILT_IN]
    lines = []
    for title, columns in _TABLES:
        lines += [f"### {title}", "", _line(["backend", *(column for column, _ in columns)])]
        lines += [_line(["---"] * (len(columns) + 1))]
        for backend in backends:
            page = f"[`{backend.name}`](backends/{backend.name}.md)"
            lines += [_line([page, *(cell(backend.capabilities) for _, cell in columns)])]
        lines += [""]
    lines += ["### What to know before you plan"]
    for backend in backends:
        lines += ["", f"`{backend.name}`:", "", *(f"- {sentence}" for sentence in backend.capabilities.limitations)]
    return "\n".join(lines) + "\n"


def _times(limits: Limits) -> str:
    said = []
    if limits.ahead is not None:
        said.append(f"at most {limits.ahead.days} days ahead")
    if limits.lead is not None:
        said.append(f"at least {limits.lead.total_seconds() / 60:g} minutes ahead")
    if limits.rounding is not None:
        said.append(f"moved up to the next {limits.rounding.total_seconds() / 60:g} minutes")
    return ", ".join(said) or "any time"


def _outcomes(can: Capabilities) -> tuple[str, ...]:
    everything = set(TaskStatus) - {TaskStatus.PLACED, TaskStatus.UNKNOWN}
    return ("all",) if everything <= set(can.outcomes) else tuple(status.value for status in can.outcomes)


def _yes(value: bool) -> str:  # noqa: FBT001 - it is the value
    return "yes" if value else "no"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
