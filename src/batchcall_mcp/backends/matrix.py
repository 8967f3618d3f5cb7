"""What each of our backends can do, as the table of docs/backends.md: generated, and therefore always right."""

from __future__ import annotations

from collections.abc import Callable

from batchcall_mcp.backends.capabilities import Capabilities, Operation
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
_DRAFTS = {"full": "yes", "start_now_only": "yes, but a stored one starts only now", "none": "no: creating dials"}


_ENDS = {"none": "no", "time": "at a moment", "date": "at a moment, or with a date of each person's own"}
_ARGUMENTS = {"trigger_at": "trigger_timestamp", "trigger_on": "trigger_timestamp", "ends_on": "ends_at"}


def _updates(can: Capabilities) -> str:
    """By the names that the tools use."""
    if Operation.UPDATE not in can.operations:
        return "no"
    return ", ".join(sorted({_ARGUMENTS.get(name, name) for name in can.update_fields}))


_ROWS: tuple[tuple[str, Callable[[Capabilities], str]], ...] = (
    ("drafts", lambda can: _DRAFTS[can.drafts]),
    ("update", _updates),
    ("adds people", lambda can: _yes(Operation.APPEND in can.operations)),
    ("pause and resume", lambda can: _yes({Operation.PAUSE, Operation.RESUME} <= can.operations)),
    ("cancel is possible", lambda can: _STOP[can.stop] if Operation.CANCEL in can.operations else "no"),
    ("what cancel does", lambda can: can.cancel_effect),
    ("redials exactly the tasks named", lambda can: _yes(Operation.RETRY in can.operations)),
    ("delete", lambda can: _yes(Operation.DELETE in can.operations)),
    ("tasks in one batch call", lambda can: "no limit" if can.limits.tasks is None else f"{can.limits.tasks:,}"),
    ("task states reported", lambda can: ", ".join(_outcomes(can))),
    ("results of a task", lambda can: ", ".join(sorted(can.results)) or "its state alone"),
    ("what was said in a call (get_call)", lambda can: _yes(Operation.GET_CALL in can.operations)),
    ("calling window", lambda can: _WINDOWS[can.windows] + ("" if can.over_midnight else ", not over midnight")),
    ("window by day of the week", lambda can: _yes(can.windows != "none" and can.window_days)),
    ("start on a date of each person's own", lambda can: _yes(can.trigger_dates)),
    ("end (ends_at)", lambda can: _ENDS[can.ends]),
    ("promised call-backs (not_before of a task)", lambda can: _yes(can.not_before)),
    ("max_concurrency", lambda can: "no" if can.max_concurrency is None else f"up to {can.max_concurrency:,}"),
    ("variables for the agent", lambda can: _yes(can.dynamic_variables)),
    ("start of the first people only", lambda can: _yes(can.first)),
    ("reports what a minute costs", lambda can: _yes(can.prices)),
    ("returns variables", lambda can: _yes(can.returns_variables)),
    ("name of a task", lambda can: _yes(can.task_names)),
    ("time zone of a task", lambda can: _yes(can.task_timezones)),
    ("max_retries of a task", lambda can: _yes(can.task_max_retries)),
    ("retry after", lambda can: ", ".join(can.retry_outcomes) if can.retry_policy else "no"),
    ("who speaks", lambda can: "agent_id" if can.agent == "per_batch" else "the agent of from_number"),
    ("keeps idempotency keys itself", lambda can: _yes(can.idempotency == "key")),
    ("credentials", lambda can: "key and secret" if can.needs_secret else "key"),
)


def render() -> str:
    """The table, and under it what to know before planning on each backend."""
    backends = [backend_class(name) for name in BUILT_IN]
    lines = [_line(["", *(f"`{name}`" for name in BUILT_IN)]), _line(["---"] * (len(BUILT_IN) + 1))]
    lines += [_line([title, *(cell(backend.capabilities) for backend in backends)]) for title, cell in _ROWS]
    for backend in backends:
        lines += ["", f"`{backend.name}`:", "", *(f"- {sentence}" for sentence in backend.capabilities.limitations)]
    return "\n".join(lines) + "\n"


def _outcomes(can: Capabilities) -> tuple[str, ...]:
    everything = set(TaskStatus) - {TaskStatus.PLACED, TaskStatus.UNKNOWN}
    return ("all",) if everything <= set(can.outcomes) else tuple(status.value for status in can.outcomes)


def _yes(value: bool) -> str:  # noqa: FBT001 - it is the value
    return "yes" if value else "no"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
