"""Bland, batches v2. A create dials; a batch call has no status of its own, its logs have.

Source: docs.bland.ai, the pages of batches v2 (api-v2) and of calls (api-v1). There is no OpenAPI document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from batchcall_mcp.backends.account_reading import Listing
from batchcall_mcp.backends.base import matches
from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.rest_backend import RestBackend
from batchcall_mcp.backends.row_reading import batch_from, task_from
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.model import (
    FINISHED,
    AnsweredBy,
    BatchCall,
    BatchCallPage,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallerNumber,
    CallTask,
    Counts,
    ListQuery,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.json_values import inside, moment, rows, seconds, text, unpacked, usd, whole
from batchcall_mcp.vendor_http.paging import InlinePages, OffsetPages, Pages, each
from batchcall_mcp.vendor_http.status_map import StatusMap
from batchcall_mcp.vendor_http.times import iso_offset
from batchcall_mcp.vendor_http.transcripts import turns

ONE = "/v2/batches/{id}"
ASKED = {
    Operation.GET: HttpCall("GET", ONE),
    Operation.CANCEL: HttpCall("POST", ONE + "/stop"),
    Operation.GET_CALL: HttpCall("GET", "/v1/calls/{call_id}"),
}
LOGS = HttpCall("GET", ONE + "/logs", query={"take": 20, "direction": "desc"})
STATES = StatusMap(
    dict.fromkeys(("dispatching", "in_progress", "in_progress_chunked"), BatchStatus.RUNNING)
    | dict.fromkeys(("completed", "completed_partial"), BatchStatus.COMPLETED)
    | {"waiting_for_scheduled_calls": BatchStatus.SCHEDULED, "failed": BatchStatus.FAILED},
    BatchStatus.UNKNOWN,
)
"""Not validating: it is accepted, and may dial at any moment."""
TASKS = StatusMap(
    dict.fromkeys(("new", "queued"), TaskStatus.PENDING)
    | dict.fromkeys(("allocated", "started"), TaskStatus.CALLING)
    | dict.fromkeys(("complete", "completed"), TaskStatus.PLACED)
    | {"busy": TaskStatus.BUSY, "no-answer": TaskStatus.NO_ANSWER, "canceled": TaskStatus.CANCELLED}
    | dict.fromkeys(("failed", "call_error", "queue_error", "pre_queue_error"), TaskStatus.FAILED),
    TaskStatus.UNKNOWN,
    refine=(
        "answer",
        {"human": TaskStatus.COMPLETED, "voicemail": TaskStatus.VOICEMAIL, "no-answer": TaskStatus.NO_ANSWER},
    ),
)
OUTCOMES = tuple(one for one in TaskStatus if one not in {"skipped", "expired", "interrupted", "unknown"})
NUMBER = {"from_number": "phone_number"}
_BATCH = {
    "batch_call_id": "id",
    "name": "description",
    "created_at": "created_at",
    "from_number": "global.from",
    "agent_id": "global.pathway_id",
}
_TASK = {
    "to_number": "request_data.phone_number|to",
    "task_id": "call_id",
    "call_id": "call_id",
    "status": "word",
    "error": "error_message",
    "attempted_at": "created_at",
    "summary": "summary",
}
_ANSWERED: Mapping[Any, AnsweredBy] = {"human": "human", "voicemail": "machine"}
SPEAKERS: Mapping[str, Literal["agent", "person"]] = {"assistant": "agent", "robot": "agent", "user": "person"}
_PROGRESS = re.compile(r"Requested: (?P<total>\d{1,9})\..*Dispatched: (?P<sent>\d{1,9})\.")


class BlandBackend(RestBackend):
    """Batches of an organization."""

    name = "bland"
    title = "Bland"
    default_url = "https://api.bland.ai"
    key_header = "authorization"
    key_prefix = ""
    capabilities = Capabilities(
        operations=frozenset({Operation.ACCOUNT, Operation.CREATE, Operation.LIST, *ASKED}),
        drafts="none",
        limits=Limits(name_length=60),
        required=frozenset({"agent_id"}),
        tasks_reported="dialled_only",
        task_page_size=500,
        outcomes=OUTCOMES,
        results=frozenset({"duration_seconds", "answered_by", "cost", "summary"}),
        stop="any_time",
        cancel_effect="Nobody else is dialled; Bland's documents do not say whether calls in progress are ended.",
        dynamic_variables=True,
        needs_secret=False,
        limitations=(
            "Creating a batch call dials: at its time, or at once.",
            "agent_id is the id of a pathway; a prompt in words cannot be given.",
            "People are shown only once they were dialled; before, not even their number is known.",
            "Its state is read from its logs, which may go on to say in_progress after a stop.",
            "Whether a person or a machine answered is asked for in every batch call (answered_by_enabled).",
        ),
    )
    calls: ClassVar = ASKED
    allowed: ClassVar = {Operation.CANCEL: frozenset({BatchStatus.SCHEDULED, BatchStatus.RUNNING})}
    batch_of_call = "batch_id"
    lists_others = True
    own_variables = frozenset({"phone_number"})  # it gives back the number called among the variables

    numbers_at = Listing(InlinePages(HttpCall("GET", "/v1/outbound"), "outbound_numbers"), NUMBER)
    inbound_at = Listing(InlinePages(HttpCall("GET", "/v1/inbound"), "inbound_numbers"), NUMBER)
    agents_at = Listing(
        InlinePages(HttpCall("GET", "/v1/pathway"), "pathways|data", or_bare=True),
        {"agent_id": "id|pathway_id", "name": "name"},
    )

    async def numbers(self) -> tuple[CallerNumber, ...]:
        """Those for outbound calls and those for inbound calls: an owner of a number can call from it."""
        inbound = await self.listed("list the inbound numbers", self.inbound_at)
        return (*await super().numbers(), *(CallerNumber(**row) for row in inbound if row["from_number"]))

    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        """Each call has its own start_time; one without, or in the past, is sent immediately."""
        at = iso_offset(request.trigger_at).replace("T", " ") if request.trigger_at else None
        shared = {"pathway_id": request.agent_id, "from": request.from_number, "answered_by_enabled": True}
        body = {
            "global": given(**shared),
            "call_objects": [
                given(phone_number=task.to_number, request_data=dict(task.dynamic_variables) or None, start_time=at)
                for task in request.tasks or ()
            ],
            "description": self.name_of(request),
        }
        return HttpCall("POST", "/v2/batches/create", json=body)

    def read_created(self, data: Mapping[str, Any], request: BatchCallRequest) -> BatchCall:  # noqa: ARG002 - the kit's
        """Nothing but the id."""
        return batch_from(data, {"batch_call_id": "data.batch_id"}, STATES, self.title)

    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        """`call_objects` is a preview: only a start time that all of it has is read, and nobody is counted."""
        row = data["data"] if isinstance(data.get("data"), dict) else data
        preview = rows(row.get("call_objects"))[0]
        starts = {text(one.get("start_time")) for one in preview}
        at = moment(starts.pop()) if len(starts) == 1 else None
        return batch_from(
            {**row, "global": unpacked(row.get("base_prompt"))}, _BATCH, STATES, self.title, scheduled_at=at
        )

    async def get(self, batch_call_id: str) -> BatchCall:
        """The batch, then its logs."""
        return await self._with_logs(await super().get(batch_call_id))

    async def _with_logs(self, found: BatchCall) -> BatchCall:
        doing = f"read the logs of batch call {found.batch_call_id}"
        try:
            answer = await self._http.read(doing, LOGS.at(id=found.batch_call_id))
        except BatchCallError as error:
            return replace(found, notes=(f"Its state is not known. {error.message}",))
        return as_logged(found, rows(answer.get("data"))[0])

    async def list(self, query: ListQuery) -> BatchCallPage:
        """A page, each with its logs; they say which of them have the state that was asked for."""
        page = await super().list(replace(query, status=None))
        found = await each(page.batch_calls, self._with_logs)
        return replace(page, batch_calls=tuple(one for one in found if matches(one, query)))

    def list_pages(self, query: ListQuery) -> Pages:  # noqa: ARG002 - it filters nothing
        """Newest first. No page says how many `take` may be: few are asked for."""
        return OffsetPages(
            lambda page, size: HttpCall("GET", "/v2/batches/list", query={"take": size, "skip": page * size}),
            "data",
            50,
        )

    def task_pages(self, batch_call_id: str, query: TaskQuery) -> Pages:  # noqa: ARG002 - it filters nothing
        """The calls of the batch, the oldest first, so that pages stay where they are while others are dialled."""
        asked: dict[str, str | int] = {"batch_id": batch_call_id, "ascending": "true"}
        return OffsetPages(
            lambda page, size: HttpCall("GET", "/v1/calls", query=asked | {"from": page * size, "limit": size}),
            "calls",
            self.capabilities.task_page_size,
        )

    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        """A call."""
        word = inside(data, "status|queue_status")
        if data.get("completed") is True and TASKS.of(word)[0] in {TaskStatus.PENDING, TaskStatus.CALLING}:
            word = "completed"  # this member is more up-to-date than the others
        answered = data.get("answered_by") if TASKS.of(word)[0] is TaskStatus.PLACED else None
        minutes = seconds(data.get("call_length"))
        return task_from(
            {**data, "word": word, "answer": answered},
            _TASK,
            TASKS,
            duration_seconds=None if minutes is None else seconds(minutes * 60),
            answered_by=_ANSWERED.get(answered),
            cost=usd(data.get("price")),
        )

    async def cancel(self, current: BatchCall) -> BatchCall:
        """Stop it. That the answer has no errors means that it was stopped; its logs need not say so."""
        after = await super().cancel(current)
        if after.status in FINISHED:
            return after
        note = f"Bland answered that it was stopped. Its logs say {after.backend_status or after.status}."
        return replace(after, status=BatchStatus.CANCELLED, notes=(note,))

    def read_call(self, data: Mapping[str, Any]) -> Call:
        """A call; its recording is there if the pathway records."""
        task = self.read_task(data)
        said, begin = data.get("transcripts"), moment(data.get("started_at"))
        return Call(
            call_id=task.call_id or "",
            task=task,
            transcript=turns(said, SPEAKERS, by="user", said="text", at="created_at", begin=begin),
            recording_url=text(data.get("recording_url")),
            ended_reason=text(data.get("call_ended_by")),
        )


def as_logged(found: BatchCall, logs: Sequence[Mapping[str, Any]]) -> BatchCall:
    """What the logs say of a batch call; the newest comes first. Pure."""
    progress = [one for row in logs if (one := _PROGRESS.search(text(inside(row, "payload.message")) or ""))]
    counts = Counts(total=int(progress[0]["total"]), sent=int(progress[0]["sent"])) if progress else found.counts
    for row in logs:
        if row.get("event_type") == "complete":
            # Its successful calls are not those that a person answered: only their number is read.
            counts, at = Counts(total=whole(inside(row, "payload.calls_total"))), moment(row.get("timestamp"))
            return replace(found, status=BatchStatus.COMPLETED, backend_status=None, counts=counts, completed_at=at)
        if (word := inside(row, "payload.state_change")) is not None:
            status, backend_status = STATES.of(word)
            return replace(found, status=status, backend_status=backend_status, counts=counts)
    return replace(found, counts=counts)
