"""Cartesia Line, call batches. A create dials, and a retry calls everybody again whose call failed or went unanswered.

Sources: the vendor's API reference of version 2026-08-14 and the models generated from it, docs.cartesia.ai.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, Literal

from batchcall_mcp.backends.account_reading import Listing
from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.inline_tasks import InlineTasks
from batchcall_mcp.backends.row_reading import batch_from, same, task_from
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallTask,
    Counts,
    ListQuery,
    TaskStatus,
)
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.json_values import moment, rows, seconds, text, whole
from batchcall_mcp.vendor_http.paging import CursorPages, InlinePages, Pages
from batchcall_mcp.vendor_http.status_map import StatusMap, counts_of
from batchcall_mcp.vendor_http.times import iso_offset
from batchcall_mcp.vendor_http.transcripts import turns

VERSION = "2026-08-14"
"""Of the API: its recipients take `dynamic_variables`; those of 2026-03-01 took the same under the name `metadata`."""
BATCHES = "/agents/calls/batches"
ONE = BATCHES + "/{id}"
ASKED = {
    Operation.GET: HttpCall("GET", ONE),
    Operation.GET_CALL: HttpCall("GET", "/agents/calls/{call_id}", query={"expand": "transcript"}),
    Operation.CANCEL: HttpCall("POST", ONE + "/cancel"),
    Operation.RETRY: HttpCall("POST", ONE + "/retry"),
}
AUDIO = HttpCall("GET", "/agents/calls/{call_id}/audio")
OLD_AGENTS = InlinePages(HttpCall("GET", "/agents"), "summaries")
MAX_RECIPIENTS = 5_000
STATES = StatusMap(
    {"pending": BatchStatus.SCHEDULED, "in_progress": BatchStatus.RUNNING}
    | {str(one): one for one in (BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.CANCELLED)},
    BatchStatus.UNKNOWN,
)
TASKS = StatusMap(
    dict.fromkeys(("pending", "queued"), TaskStatus.PENDING)
    | dict.fromkeys(("dispatched", "created", "started", "active"), TaskStatus.CALLING)
    | {"completed": TaskStatus.COMPLETED, "failed": TaskStatus.FAILED, "cancelled": TaskStatus.CANCELLED},
    TaskStatus.UNKNOWN,
    refine=(
        "ended",
        {"dial_no_answer": TaskStatus.NO_ANSWER, "dial_busy": TaskStatus.BUSY} | {"dial_failed": TaskStatus.FAILED},
    ),
)
"""Words of a recipient are free text: those of its queue and of a call; others are shown as they are.

A completed call that ended in an `error` was answered all the same, and a retry leaves that person alone.
"""
_BATCH = same("name agent_id scheduled_at created_at") | {
    "batch_call_id": "id",
    "from_number": "from_number_id",
    "max_concurrency": "target_concurrency_limit",
}
_TASK = same("to_number") | {
    "task_id": "id",
    "call_id": "agent_call_id",
    "error": "error_message",
    "dynamic_variables": "dynamic_variables|metadata",
}
_CALL = same("summary") | {
    "to_number": "telephony_params.to",
    "call_id": "id",
    "error": "error_message",
    "attempted_at": "start_time",
    "dynamic_variables": "dynamic_variables|metadata",
}
SPEAKERS: Mapping[str, Literal["agent", "person"]] = {"assistant": "agent", "user": "person"}
_VARIABLE = re.compile(r"(?!system__|secret__)[A-Za-z_][A-Za-z0-9_]{0,63}")


def pages_of(path: str, *, or_bare: bool = False, **asked: str | None) -> CursorPages:
    """Pages of a list, each after the last id of the one before it, which not every list names."""

    def following(answer: Mapping[str, Any]) -> Any:
        found = rows(answer.get("data"))[0]
        return answer.get("has_more") and (answer.get("next_page") or (found[-1].get("id") if found else None))

    return CursorPages(
        lambda last: HttpCall("GET", path, query=given(**asked, limit=100, starting_after=last)),
        "data",
        following,
        or_bare=or_bare,
    )


class CartesiaBackend(InlineTasks):
    """Call batches of an organization."""

    name = "cartesia"
    title = "Cartesia"
    default_url = "https://api.cartesia.ai"
    headers: ClassVar = {"Cartesia-Version": VERSION}
    capabilities = Capabilities(
        operations=frozenset({Operation.ACCOUNT, Operation.CREATE, Operation.LIST, *ASKED}),
        drafts="none",
        limits=Limits(tasks=MAX_RECIPIENTS, variables_bytes=16 * 1024, ahead=timedelta(days=30)),
        required=frozenset({"from_number", "agent_id"}),
        task_page_size=MAX_RECIPIENTS,
        outcomes=TASKS.reported,
        retry="all_unreached",
        caller="id",
        stop="any_time",
        cancel_effect="Cartesia dials nobody else; calls in progress go on to their end.",
        max_concurrency=MAX_RECIPIENTS,
        dynamic_variables=True,
        returns_variables=True,
        needs_secret=False,
        key_begins="sk_car_",
        limitations=(
            "Creating a batch call dials: at its time, or at once.",
            "A retry calls everybody again who was not reached, in the same batch call; it cannot name people.",
            "A batch call that was cancelled cannot be retried; make a new one.",
            "A call that a machine answered is completed: Cartesia does not report voicemail.",
            "Without max_concurrency half of the calls that the organization may make at once are used.",
            "Numbers that Cartesia provides call the United States only.",
            "A recording can be fetched with the API key alone.",
        ),
    )
    calls: ClassVar = ASKED
    allowed: ClassVar = {
        Operation.CANCEL: frozenset({BatchStatus.SCHEDULED, BatchStatus.RUNNING}),
        Operation.RETRY: frozenset({BatchStatus.COMPLETED, BatchStatus.FAILED}),
    }
    instead: ClassVar = {
        Operation.RETRY: "watch_batch_call waits for its end. After a cancel, use create_batch_call with tasks_from.",
    }
    batch_of_call = "batch_id"  # a call never names its batch call: it has to be one of the tasks'

    numbers_at = Listing(
        pages_of("/agents/phone-numbers", or_bare=True),  # pages have both forms
        {"from_number": "number|phone_numbers.0.number", "name": "label|name", "number_id": "phone_numbers.0.id|id"},
        otherwise=OLD_AGENTS,  # an agent has one number at most
    )
    agents_at = Listing(
        pages_of("/v1/agents"),
        {"agent_id": "id", "name": "name"},
        lambda row: row.get("deleted_at") is None,
        otherwise=OLD_AGENTS,
    )

    def check_state(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> None:
        """As the kit does; and a create with a variable whose name no variable can have.

        Raises:
            InvalidInput: nothing was sent.
        """
        super().check_state(operation, request, current)
        tasks = request.tasks or () if request is not None and operation is Operation.CREATE else ()
        names = {name for task in tasks for name in task.dynamic_variables if not _VARIABLE.fullmatch(name)}
        if names:
            raise InvalidInput(
                f"dynamic_variables: {min(names)} cannot be the name of a variable at Cartesia. Nothing was sent. Use "
                "up to 64 letters, digits and underscores, not a digit first, and neither system__ nor secret__."
            )

    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        """Queue it. How long it rings and how long a call may be is left to Cartesia, and so is the region."""
        body = {
            "name": self.name_of(request),
            "agent_id": request.agent_id,
            "from_number_id": await self.number_id(request.from_number or ""),
            "recipients": [
                given(to_number=task.to_number, dynamic_variables=dict(task.dynamic_variables) or None)
                for task in request.tasks or ()
            ],
        }
        at = iso_offset(request.trigger_at) if request.trigger_at else None
        limits = given(scheduled_at=at, target_concurrency_limit=request.max_concurrency)
        return HttpCall("POST", BATCHES, json=body | limits)

    def list_pages(self, query: ListQuery) -> Pages:
        """Newest first, without their recipients."""
        return pages_of(BATCHES, agent_id=query.agent_id)

    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        """Its status speaks of dispatching alone: it is completed once everybody was handed to the dialer.

        Recipients are dispatched who never reached a dial, and finished who were not reached: neither is shown.
        """
        total, finished = whole(data.get("total_calls_scheduled")), whole(data.get("total_calls_finished"))
        counts = Counts(total=total)
        if isinstance(data.get("recipients"), list):
            tasks = [self.read_task(one) for one in rows(data["recipients"])[0]]
            counts = counts_of((one.status or TaskStatus.UNKNOWN for one in tasks), self.capabilities.outcomes, total)
            undialled = sum(one.status is TaskStatus.FAILED and one.call_id is None for one in tasks)
            counts = replace(counts, sent=(counts.sent or 0) - undialled)
        retries = whole(data.get("retry_count"))
        notes = (f"Who was not reached was called again. Retries so far: {retries}.",) if retries else ()
        found = batch_from(data, _BATCH, STATES, self.title, counts=counts, notes=notes)
        is_over = found.status in {BatchStatus.COMPLETED, BatchStatus.FAILED}
        unfinished = found.status is BatchStatus.COMPLETED and finished is not None and finished < (total or 0)
        if is_over and (counts.calling or counts.pending or unfinished):  # pending: a retry has just queued them
            return replace(found, status=BatchStatus.RUNNING, backend_status=str(found.status))
        begun = retries or whole(data.get("total_calls_dispatched")) or data.get("admitted_at") is not None
        waits = found.scheduled_at and found.created_at and found.scheduled_at > found.created_at and not begun
        if found.status is BatchStatus.SCHEDULED and not waits:
            return replace(found, status=BatchStatus.UNKNOWN)  # accepted: it may dial at any moment
        return found

    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        """A recipient. Why a call ended counts only where the latest call is over: a retry puts people in the queue."""
        is_over = TASKS.of(data.get("status"))[0] in {TaskStatus.COMPLETED, TaskStatus.FAILED}
        return task_from({**data, "ended": data.get("end_reason") if is_over else None}, _TASK, TASKS)

    def read_call(self, data: Mapping[str, Any]) -> Call:
        """A call; its audio can be had with the key alone, and there is no price."""
        begin, end = moment(data.get("start_time")), moment(data.get("end_time"))
        task = task_from(
            {**data, "ended": data.get("end_reason")},
            _CALL,
            TASKS,
            duration_seconds=seconds((end - begin).total_seconds()) if begin and end else None,
        )
        is_kept = not data.get("zdr_enabled") and data.get("redacted_at") is None  # neither kept at all nor deleted
        is_recorded = is_kept and task.status is TaskStatus.COMPLETED and task.call_id is not None
        return Call(
            call_id=task.call_id or "",
            task=task,
            transcript=turns(data.get("transcript"), SPEAKERS, said="text", at="start_timestamp"),
            recording_url=self._http.address_of(AUDIO.at(call_id=task.call_id or "")) if is_recorded else None,
            ended_reason=text(data.get("end_reason")),
        )
