"""Speechify voice agents, batch calls. A create dials; a recipient that is completed was dialled, and no more is said.

Sources: the vendor's OpenAPI document (as generated for tryAGI/Speechify), docs.speechify.ai/voice-agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, Literal

from batchcall_mcp.backends.account_reading import Listing
from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.limits import check_variables
from batchcall_mcp.backends.rest_backend import RestBackend
from batchcall_mcp.backends.row_reading import batch_from, call_from, same, task_from
from batchcall_mcp.errors import OutcomeUnknown
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallTask,
    Counts,
    ListQuery,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.vendor_http.http_call import HttpCall, given, path_part
from batchcall_mcp.vendor_http.json_values import inside, moment, seconds, text, usd, whole
from batchcall_mcp.vendor_http.paging import CursorPages, Pages
from batchcall_mcp.vendor_http.status_map import StatusMap
from batchcall_mcp.vendor_http.times import iso_z
from batchcall_mcp.vendor_http.transcripts import turns

VERSION = "2026-09-13"
"""Of the API, as its SDK of August 2026 names it.

Unnamed, it is the workspace's own. Before 2026-06-28 `dynamic_variables` had another name: people would be called
without theirs.
"""
BATCHES, CONVERSATIONS = "/v1/agents/batch-calls", "/v1/agents/conversations"
PAGE = 200
MOST_MESSAGES = 2000
RESERVED = "system__"
"""How names of variables begin that Speechify fills itself."""
STATES = StatusMap(
    {str(one): one for one in (BatchStatus.RUNNING, BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.CANCELLED)}
    | {"scheduled": BatchStatus.SCHEDULED},
    BatchStatus.UNKNOWN,
)
"""Without pending: that is scheduled where it waits for a time, and else may dial at any moment. `scheduled` itself is
a word of an older guide."""
TASKS = StatusMap(
    {str(one): one for one in (TaskStatus.PENDING, TaskStatus.FAILED, TaskStatus.CANCELLED)}
    | {"dialing": TaskStatus.CALLING, "completed": TaskStatus.PLACED},
    TaskStatus.UNKNOWN,
)
OUTCOMES = (TaskStatus.PENDING, TaskStatus.CALLING, TaskStatus.PLACED, TaskStatus.FAILED, TaskStatus.CANCELLED)
CALLS = StatusMap(
    dict.fromkeys(("pending", "active"), TaskStatus.CALLING)
    | {"completed": TaskStatus.PLACED, "failed": TaskStatus.FAILED},
    TaskStatus.UNKNOWN,
    refine=(
        "end_reason",
        dict.fromkeys(("voicemail_message_left", "voicemail_hangup", "ivr_hangup"), TaskStatus.VOICEMAIL)
        | dict.fromkeys(("dial_rejected", "dial_failed", "unavailable_hangup"), TaskStatus.FAILED)
        | {"dial_no_answer": TaskStatus.NO_ANSWER, "dial_busy": TaskStatus.BUSY},
    ),
)
"""Of a conversation; that it is completed does not say that a person was on the line."""
_BATCH = same("name agent_id scheduled_at created_at started_at") | {
    "batch_call_id": "id",
    "from_number": "phone_number_id",
    "completed_at": "ended_at",
}
VARIABLES = "dynamic_variables|dynamic_vars"
"""The second is the name in older pages, and is never sent."""
_TASK = same("error attempted_at") | {
    "dynamic_variables": VARIABLES,
    "to_number": "phone",
    "task_id": "id",
    "call_id": "conversation_id",
    "completed_at": "ended_at",
}
_CALL = same("to_number") | {
    "dynamic_variables": VARIABLES,
    "call_id": "id",
    "attempted_at": "started_at|created_at",
    "completed_at": "ended_at",
}
SPEAKERS: Mapping[str, Literal["agent", "person"]] = {"assistant": "agent", "operator": "agent", "user": "person"}


def _pages(path: str, items: str) -> Pages:
    """Every list of Speechify's is cut in the same way."""
    return CursorPages(
        lambda cursor: HttpCall("GET", path, query=given(limit=PAGE, cursor=cursor)),
        items,
        lambda answer: answer.get("next_cursor") if answer.get("has_more") else None,
    )


def _calls_out(row: Mapping[str, Any]) -> bool:
    """By its capabilities; older answers only name its provider."""
    can = row.get("capabilities")
    return "outbound" in can if isinstance(can, list) else inside(row, "type|provider") != "livekit"


class SpeechifyBackend(RestBackend):
    """Batch calls of a workspace."""

    name = "speechify"
    title = "Speechify"
    default_url = "https://api.speechify.ai"
    headers: ClassVar = {"Speechify-Version": VERSION}
    capabilities = Capabilities(
        operations=frozenset(
            {
                *(Operation.ACCOUNT, Operation.CREATE, Operation.GET, Operation.LIST),
                *(Operation.CANCEL, Operation.GET_CALL),
            }
        ),
        drafts="none",
        limits=Limits(tasks=1000, ahead=timedelta(days=30)),
        required=frozenset({"agent_id"}),
        task_page_size=PAGE,
        outcomes=OUTCOMES,
        caller="id",
        stop="any_time",
        cancel_effect=(
            "Nobody else is dialled; Speechify's documents do not say whether calls that were placed are ended."
        ),
        idempotency="key",
        keys_kept=timedelta(hours=23),  # 24 by its documents; clocks may be set
        dynamic_variables=True,
        returns_variables=True,
        needs_secret=False,
        key_begins="sk_",
        limitations=(
            "Creating a batch call dials: at its time, or at once.",
            "Its tasks say who was dialled and whose dial failed, not who was reached; each call says that.",
            "Only people whose dial failed can be called again as not reached.",
            "Without from_number, the number of the agent calls. Numbers of the provider livekit cannot call out.",
            "It keeps idempotency keys for 24 hours: a create without an answer is not sent again after 23.",
        ),
    )
    calls: ClassVar = {
        Operation.GET: HttpCall("GET", BATCHES + "/{id}", has_error=True),
        Operation.CANCEL: HttpCall("POST", BATCHES + "/{id}/cancel", has_error=True),
        Operation.GET_CALL: HttpCall("GET", CONVERSATIONS + "/{call_id}"),
    }
    allowed: ClassVar = {Operation.CANCEL: frozenset({BatchStatus.SCHEDULED, BatchStatus.RUNNING})}
    refusals: ClassVar = {"idempotency_conflict": OutcomeUnknown}  # an earlier request has the key, and may yet dial
    batch_of_call = "batch_id"  # its documents have no such member: the call is looked up among the recipients
    numbers_at = Listing(
        _pages("/v1/agents/phone-numbers", "numbers"),
        {"from_number": "e164", "name": "label", "number_id": "id"},
        _calls_out,
    )
    agents_at = Listing(_pages("/v1/agents", "agents"), {"agent_id": "id", "name": "name"})

    def check_state(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> None:
        """Without variables under its reserved names."""
        super().check_state(operation, request, current)
        if operation is Operation.CREATE and request is not None:
            names = {name for task in request.tasks or () for name in task.dynamic_variables}
            check_variables(request, {name for name in names if name.startswith(RESERVED)}, self.title)

    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        """The time in RFC 3339; a caller number as its id."""
        body = given(
            name=self.name_of(request),
            agent_id=request.agent_id,
            phone_number_id=await self.number_id(request.from_number) if request.from_number else None,
            scheduled_at=iso_z(request.trigger_at) if request.trigger_at else None,
            recipients=[
                given(phone=task.to_number, dynamic_variables=dict(task.dynamic_variables) or None)
                for task in request.tasks or ()
            ],
        )
        return HttpCall("POST", BATCHES, json=body, has_error=True)

    def task_pages(self, batch_call_id: str, query: TaskQuery) -> Pages:  # noqa: ARG002 - it filters nothing
        """The recipients, by their ids."""
        return _pages(f"{BATCHES}/{path_part(batch_call_id)}/recipients", "recipients")

    def list_pages(self, query: ListQuery) -> Pages:  # noqa: ARG002 - it filters nothing
        """The workspace's, newest first."""
        return _pages(BATCHES, "batches")

    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        """`completed` counts those who were dialled, so it is no count of ours."""
        dialled, failed = whole(data.get("completed")), whole(data.get("failed"))
        is_over = dialled is not None and failed is not None and moment(data.get("ended_at")) is not None
        sent = (dialled or 0) + (failed or 0) if is_over else None
        why = text(data.get("error"))
        found = batch_from(
            data,
            _BATCH,
            STATES,
            self.title,
            counts=Counts(total=whole(data.get("total")), sent=sent, failed=failed),
            notes=(f"{self.title} says why it failed: {why}",) if why else (),
        )
        waits = found.backend_status == "pending" and found.scheduled_at is not None and found.started_at is None
        return replace(found, status=BatchStatus.SCHEDULED) if waits else found

    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        """A recipient."""
        return task_from(data, _TASK, TASKS)

    async def get_call(self, batch_call_id: str, call_id: str) -> Call:
        """The conversation, then its messages; they count from when somebody joined."""
        found = await super().get_call(batch_call_id, call_id)
        pages = _pages(f"{CONVERSATIONS}/{path_part(call_id)}/messages", "messages")
        doing = f"read what was said in call {call_id}"
        said = await pages.scan(self._http, doing, dict, cursor=None, limit=MOST_MESSAGES)
        transcript = turns(list(said.found), SPEAKERS, said="content", at="started_at", begin=found.task.attempted_at)
        return replace(found, transcript=transcript)

    def read_call(self, data: Mapping[str, Any]) -> Call:
        """A conversation; its length is in milliseconds, its cost in cents."""
        lasted = seconds(data.get("duration_ms"))
        task = task_from(
            data,
            _CALL,
            CALLS,
            duration_seconds=None if lasted is None else lasted / 1000,
            cost=usd(data.get("cost_cents"), 100),
        )
        return call_from(data, task, None, recording="recording_url", ended="end_reason")
