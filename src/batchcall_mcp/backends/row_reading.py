"""A vendor's rows as ours, by the paths of their fields: what every adapter does in the same way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from batchcall_mcp.errors import UnexpectedResponse
from batchcall_mcp.model import BatchCall, BatchStatus, Call, CallTask, TaskStatus, Turn
from batchcall_mcp.vendor_http.json_values import inside, members, text
from batchcall_mcp.vendor_http.status_map import StatusMap

_LONGEST_URL = 2000
"""Of a recording: signed ones are long."""


def same(names: str) -> dict[str, str]:
    """Paths of fields that the vendor calls as we do."""
    return {name: name for name in names.split()}


def batch_from(
    row: Mapping[str, Any], paths: Mapping[str, str], states: StatusMap[BatchStatus], title: str, **more: Any
) -> BatchCall:
    """A batch call; `paths` leads to its fields by their names in the model, `more` are those that are made otherwise.

    Its state lies in `status`, or where `paths` says.

    Raises:
        UnexpectedResponse: it has no id.
    """
    found = members(row, {name: path for name, path in paths.items() if name != "status"})
    if found["batch_call_id"] is None:
        raise unreadable_batch(title)
    status, backend_status = states.read(row, paths.get("status", "status"))
    return BatchCall(**{**found, "status": status, "backend_status": backend_status, **more})


def task_from(
    row: Mapping[str, Any],
    paths: Mapping[str, str],
    states: StatusMap[TaskStatus],
    *,
    own: Collection[str] = (),
    **more: Any,
) -> CallTask:
    """A task, read in the same way. `own`: names among the variables that are the vendor's, and nobody's variables."""
    found = members(row, {name: path for name, path in paths.items() if name != "status"})
    found["to_number"] = found["to_number"] or ""
    if own:
        given = found["dynamic_variables"].items()
        found["dynamic_variables"] = {name: value for name, value in given if name not in own}
    status, backend_status = states.read(row, paths.get("status", "status"))
    return CallTask(**{**found, "status": status, "backend_status": backend_status, **more})


def call_from(
    row: Mapping[str, Any], task: CallTask, transcript: tuple[Turn, ...] | None, *, recording: str, ended: str
) -> Call:
    """A call, of which the task says how it went; `recording` and `ended` (why) are paths."""
    address, reason = text(inside(row, recording), _LONGEST_URL), text(inside(row, ended))
    call_id = task.call_id or ""
    return Call(call_id=call_id, task=task, transcript=transcript, recording_url=address, ended_reason=reason)


def unreadable_batch(title: str, what: str = "without an id of a batch call") -> UnexpectedResponse:
    """The error of a reader, for an answer that is not about one batch call. Pure."""
    return UnexpectedResponse(f"{title} answered {what}. Look it up with list_batch_calls.")
