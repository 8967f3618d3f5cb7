"""ElevenLabs Agents, batch calling. A create dials, and a retry calls everybody again whose call failed.

Sources: the vendor's OpenAPI document (November 2026), its SDK 2.78, elevenlabs.io/docs/eleven-agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from batchcall_mcp.backends.account_reading import Listing
from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.inline_tasks import InlineTasks
from batchcall_mcp.backends.row_reading import batch_from, same, task_from
from batchcall_mcp.model import (
    FINISHED,
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
from batchcall_mcp.vendor_http.json_values import inside, rows, seconds, text, usd, variables, whole
from batchcall_mcp.vendor_http.paging import CursorPages, InlinePages, Pages
from batchcall_mcp.vendor_http.status_map import StatusMap, counts_of
from batchcall_mcp.vendor_http.times import epoch_s
from batchcall_mcp.vendor_http.transcripts import turns

BATCHES = "/v1/convai/batch-calling"
ONE = BATCHES + "/{id}"
AUDIO = HttpCall("GET", "/v1/convai/conversations/{call_id}/audio")
MAX_RECIPIENTS = 10_000
OVER = (BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.CANCELLED)
STATES = StatusMap(
    {str(status): status for status in OVER} | {"pending": BatchStatus.SCHEDULED, "in_progress": BatchStatus.RUNNING},
    BatchStatus.UNKNOWN,
)
ENDS = (TaskStatus.COMPLETED, TaskStatus.VOICEMAIL, TaskStatus.FAILED, TaskStatus.CANCELLED)
TASKS = StatusMap(
    {str(status): status for status in (TaskStatus.PENDING, *ENDS)}
    | dict.fromkeys(("dispatched", "initiated", "in_progress"), TaskStatus.CALLING),
    TaskStatus.UNKNOWN,
)
CALLS = StatusMap(
    dict.fromkeys(("initiated", "in-progress"), TaskStatus.CALLING)
    | dict.fromkeys(("processing", "done"), TaskStatus.PLACED)
    | {"failed": TaskStatus.FAILED},
    TaskStatus.UNKNOWN,
    refine=(
        "call_result",
        {str(one): one for one in (TaskStatus.VOICEMAIL, TaskStatus.BUSY, TaskStatus.NO_ANSWER, TaskStatus.FAILED)}
        | {"answered": TaskStatus.COMPLETED},
    ),
)
"""A conversation that is done does not say how it went; the newer member call_result does."""
_BATCH = same("name agent_id timezone") | {
    "batch_call_id": "id",
    "from_number": "phone_number_id",
    "scheduled_at": "scheduled_time_unix",
    "created_at": "created_at_unix",
    "max_concurrency": "target_concurrency_limit",
}
_TASK = {
    "to_number": "phone_number",
    "task_id": "id",
    "call_id": "conversation_id",
    "dynamic_variables": "conversation_initiation_client_data.dynamic_variables",
}
_CALL = {
    "to_number": "metadata.phone_call.external_number",
    "task_id": "metadata.batch_call.batch_call_recipient_id",
    "call_id": "conversation_id",
    "attempted_at": "metadata.start_time_unix_secs",
    "summary": "analysis.transcript_summary",
}
SPEAKERS: Mapping[str, Literal["agent", "person"]] = {"agent": "agent", "user": "person"}


class ElevenLabsBackend(InlineTasks):
    """Batch calls of a workspace."""

    name = "elevenlabs"
    title = "ElevenLabs"
    default_url = "https://api.elevenlabs.io"
    key_header = "xi-api-key"
    key_prefix = ""
    capabilities = Capabilities(
        operations=frozenset(Operation)
        - {Operation.UPDATE, Operation.APPEND, Operation.START, Operation.PAUSE, Operation.RESUME},
        drafts="none",
        limits=Limits(tasks=MAX_RECIPIENTS),
        required=frozenset({"from_number", "agent_id"}),
        task_page_size=MAX_RECIPIENTS,
        outcomes=(TaskStatus.PENDING, TaskStatus.CALLING, *ENDS),
        retry="all_unreached",
        caller="id",
        stop="any_time",
        cancel_effect=(
            "ElevenLabs sets everybody to cancelled; its documents do not say whether calls in progress are ended."
        ),
        max_concurrency=MAX_RECIPIENTS,
        dynamic_variables=True,
        returns_variables=True,
        needs_secret=False,
        limitations=(
            "Creating a batch call dials: at its time, or at once.",
            "A retry calls everybody again whose call failed, in the same batch call; it cannot name people.",
            "Its documents do not say whether a retry also calls people whose call went to voicemail.",
            "A call that nobody answered and a busy line are both failed.",
            "After a cancel, people who were reached may be shown as cancelled too.",
            "A recording can be fetched with the API key alone (header xi-api-key).",
            "Only numbers that can call out are accepted, and only after the terms of batch calling were accepted.",
        ),
    )
    calls: ClassVar = {
        Operation.GET: HttpCall("GET", ONE),
        Operation.CANCEL: HttpCall("POST", ONE + "/cancel"),
        Operation.RETRY: HttpCall("POST", ONE + "/retry"),
        Operation.DELETE: HttpCall("DELETE", ONE),
        Operation.GET_CALL: HttpCall("GET", "/v1/convai/conversations/{call_id}"),
    }
    allowed: ClassVar = {
        Operation.CANCEL: frozenset({BatchStatus.SCHEDULED, BatchStatus.RUNNING}),
        Operation.RETRY: frozenset({BatchStatus.COMPLETED, BatchStatus.FAILED}),
        Operation.DELETE: FINISHED,
    }
    instead: ClassVar = {
        Operation.RETRY: "While calls ring, it would call people twice: watch_batch_call waits for the end.",
    }
    numbers_at = Listing(
        InlinePages(HttpCall("GET", "/v1/convai/phone-numbers"), None),
        {"from_number": "phone_number", "name": "label", "number_id": "phone_number_id"},
        lambda row: row.get("supports_outbound") is not False,  # deprecated: a number without it can call out
    )
    agents_at = Listing(
        CursorPages(
            lambda cursor: HttpCall("GET", "/v1/convai/agents", query=given(page_size=100, cursor=cursor)),
            "agents",
            lambda answer: answer.get("has_more") and answer.get("next_cursor"),
        ),
        same("agent_id name"),
    )
    batch_of_call = "metadata.batch_call.batch_call_id"

    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        """Submit; the time in whole seconds. A caller number goes as its id, never as a number."""
        body = given(
            call_name=self.name_of(request),
            agent_id=request.agent_id,
            agent_phone_number_id=await self.number_id(request.from_number or ""),
            scheduled_time_unix=epoch_s(request.trigger_at) if request.trigger_at else None,
            timezone=request.timezone,
            target_concurrency_limit=request.max_concurrency,
            recipients=[
                given(
                    phone_number=task.to_number,
                    conversation_initiation_client_data={"dynamic_variables": dict(task.dynamic_variables)}
                    if task.dynamic_variables
                    else None,
                )
                for task in request.tasks or ()
            ],
        )
        return HttpCall("POST", BATCHES + "/submit", json=body)

    def list_pages(self, query: ListQuery) -> Pages:
        """The workspace's, newest first."""
        asked = given(limit=100, agent_id=query.agent_id)
        return CursorPages(
            lambda cursor: HttpCall("GET", BATCHES + "/workspace", query=asked | given(last_doc=cursor)),
            "batch_calls",
            lambda answer: answer.get("has_more") and answer.get("next_doc"),
        )

    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        """With its people the counts are taken from them. `total_calls_finished` counts every outcome: not used."""
        total, sent = whole(data.get("total_calls_scheduled")), whole(data.get("total_calls_dispatched"))
        counts = Counts(total=total, sent=sent)
        if isinstance(data.get("recipients"), list):
            states = (TASKS.read(one)[0] for one in rows(data["recipients"])[0])
            counts = counts_of(states, self.capabilities.outcomes, total)
            # After a cancel nobody's state shows that they were called. A retry is one more call to the same person.
            counts = replace(counts, sent=max(counts.sent or 0, min(sent or 0, counts.total or 0)))
        retries = whole(data.get("retry_count"))
        notes = (f"Its people whose call failed were called again. Retries so far: {retries}.",) if retries else ()
        found = batch_from(data, _BATCH, STATES, self.title, counts=counts, notes=notes)
        waits = found.scheduled_at and found.created_at and found.scheduled_at > found.created_at and not sent
        if found.status is BatchStatus.SCHEDULED and not waits:
            return replace(found, status=BatchStatus.UNKNOWN)  # accepted: it may dial at any moment
        return found

    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        """A recipient."""
        return task_from(data, _TASK, TASKS)

    def read_call(self, data: Mapping[str, Any]) -> Call:
        """A conversation. Its audio can be had with the key alone; `cost` is in credits, `cost_fiat` in USD."""
        collected = inside(data, "analysis.data_collection_results")
        values = {name: inside(one, "value") for name, one in collected.items()} if isinstance(collected, dict) else {}
        task = task_from(
            {**data, "call_result": inside(data, "metadata.phone_call.call_result")},
            _CALL,
            CALLS,
            duration_seconds=seconds(inside(data, "metadata.call_duration_secs")),
            cost=usd(inside(data, "metadata.cost_fiat")),
            extracted=variables(values),
        )
        is_recorded = data.get("has_audio") is True and task.call_id is not None
        return Call(
            call_id=task.call_id or "",
            task=task,
            transcript=turns(data.get("transcript"), SPEAKERS, at="time_in_call_secs"),
            recording_url=self._http.address_of(AUDIO.at(call_id=task.call_id or "")) if is_recorded else None,
            ended_reason=text(inside(data, "metadata.termination_reason")),
        )
