"""Bolna (https://www.bolna.ai/docs): a list is a CSV file in a form, and scheduling a batch is its start.

Sources: bolna-ai/skills, references/openapi.yml; the pages batch-calling, quickstarts/batch, auto-retry and agents-md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from json import dumps
from typing import Any, ClassVar

from batchcall_mcp.backends.account_reading import Listing
from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.rest_backend import RestBackend
from batchcall_mcp.backends.row_reading import batch_from, call_from, same, task_from
from batchcall_mcp.clock import utc_now
from batchcall_mcp.errors import IllegalTransition, NotFound
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallTask,
    Counts,
    ListQuery,
    RetryPolicy,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.vendor_http.http_call import FormFile, HttpCall, csv_of, given
from batchcall_mcp.vendor_http.json_values import inside, seconds, usd, whole
from batchcall_mcp.vendor_http.paging import InlinePages, JoinedPages, Pages
from batchcall_mcp.vendor_http.status_map import StatusMap, counts_of
from batchcall_mcp.vendor_http.times import iso_offset, next_mark
from batchcall_mcp.vendor_http.transcripts import turns_in

NUMBER = "contact_number"
LEAD, MARK = timedelta(minutes=2), timedelta(minutes=10)
DELETES = "A batch that waits for its time is deleted, if Bolna does not stop it."

BATCHES = StatusMap(
    {
        "created": BatchStatus.DRAFT,
        "scheduled": BatchStatus.SCHEDULED,
        **dict.fromkeys(("queued", "running"), BatchStatus.RUNNING),
        "completed": BatchStatus.COMPLETED,
        **dict.fromkeys(("stopped", "canceled"), BatchStatus.CANCELLED),
        "failed": BatchStatus.FAILED,
    },
    BatchStatus.UNKNOWN,
)
TASKS = StatusMap(
    {
        **dict.fromkeys(("prepared", "scheduled", "queued", "rescheduled"), TaskStatus.PENDING),
        **dict.fromkeys(("initiated", "ringing", "in-progress", "call-disconnected"), TaskStatus.CALLING),
        "completed": TaskStatus.COMPLETED,
        "no-answer": TaskStatus.NO_ANSWER,
        "busy": TaskStatus.BUSY,
        **dict.fromkeys(("failed", "error", "balance-low"), TaskStatus.FAILED),
        **dict.fromkeys(("canceled", "stopped"), TaskStatus.CANCELLED),
    },
    TaskStatus.UNKNOWN,
)
_BATCH = same("agent_id scheduled_at created_at") | {
    "batch_call_id": "batch_id",
    "name": "file_name",
    "from_number": "from_phone_numbers.0|from_phone_number",
}
_TASK = {"task_id": "id", "call_id": "id", "error": "error_message", "extracted": "extracted_data"} | {
    "to_number": f"telephony_data.to_number|context_details.recipient_data.{NUMBER}",
    "dynamic_variables": "context_details.recipient_data",
}
_LIST = HttpCall("GET", "/batches/{agent_id}/all")


class BolnaBackend(RestBackend):
    """Bolna's service: drafts that are scheduled once, a stop, no pause, no windows of its own."""

    name = "bolna"
    title = "Bolna"
    default_url = "https://api.bolna.ai"
    capabilities = Capabilities(
        operations=frozenset(Operation)
        - {Operation.UPDATE, Operation.APPEND, Operation.PAUSE, Operation.RESUME, Operation.RETRY},
        drafts="full",
        limits=Limits(lead=LEAD, rounding=MARK, retries=3),
        required=frozenset({"from_number", "agent_id"}),
        tasks_reported="dialled_only",
        task_page_size=10_000,
        outcomes=(*TASKS.reported, TaskStatus.VOICEMAIL),
        results=frozenset({"duration_seconds", "answered_by", "cost", "extracted"}),
        stop="pending_only",
        cancel_effect=f"Calls that wait are not made; of calls in progress Bolna says nothing. {DELETES}",
        dynamic_variables=True,
        retry_policy=True,
        retry_at=False,
        needs_secret=False,
        limitations=(
            "A start is at least 2 minutes ahead and moves up to the next ten-minute mark: now means that mark.",
            "A batch is scheduled once: for another time delete it and create another one.",
            "People are listed once a batch runs, not before.",
            "Calling hours are the agent's own, set at Bolna; a batch has no window.",
            "How many calls a machine answered is seen in the tasks, not in the counts.",
            "A retry policy holds 1 to 3 dials after the first, and is not reported by Bolna.",
        ),
    )
    calls: ClassVar = {
        Operation.GET: HttpCall("GET", "/batches/{id}"),
        Operation.START: HttpCall("POST", "/batches/{id}/schedule"),
        Operation.CANCEL: HttpCall("POST", "/batches/{id}/stop"),
        Operation.DELETE: HttpCall("DELETE", "/batches/{id}"),
        Operation.GET_CALL: HttpCall("GET", "/executions/{call_id}"),
    }
    allowed: ClassVar = {
        Operation.START: frozenset({BatchStatus.DRAFT}),
        Operation.CANCEL: frozenset({BatchStatus.SCHEDULED, BatchStatus.RUNNING}),
        Operation.DELETE: frozenset(BatchStatus) - {BatchStatus.RUNNING, BatchStatus.UNKNOWN},
    }
    instead: ClassVar = {
        Operation.START: "A batch is scheduled once: for another time delete it and create another one.",
        Operation.DELETE: "Stop it first, with cancel_batch_call.",
    }
    refusals: ClassVar = {
        "not queued or running": IllegalTransition,  # with a 404
        **dict.fromkeys(("Batch not found", "Execution not found"), NotFound),
    }
    own_variables = frozenset({NUMBER})
    batch_of_call = "batch_id"
    numbers_at = Listing(InlinePages(HttpCall("GET", "/phone-numbers/all"), None), {"from_number": "phone_number"})
    agents_at = Listing(InlinePages(HttpCall("GET", "/v2/agent/all"), None), {"agent_id": "id", "name": "agent_name"})

    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        """A form with the list as a file. The name of the file is all the name that a batch has."""
        name = re.sub(r'[\\/"\r\n]', "-", self.name_of(request))
        form: dict[str, str | list[str] | FormFile] = {
            "agent_id": request.agent_id or "",
            "file": FormFile(f"{name}.csv", csv_of(request.tasks or (), NUMBER)),
            "from_phone_numbers": [request.from_number or ""],
        }
        if request.retry is not None and request.retry.max_retries:  # without one Bolna dials nobody again
            form["retry_config"] = _retry_config(request.retry)
        return HttpCall("POST", "/batches", form=form)

    async def create(self, request: BatchCallRequest, idempotency_key: str | None = None) -> BatchCall:
        """A batch is a draft until it is scheduled, which is a request of its own."""
        made = await super().create(replace(request, send_now=None, trigger_at=None, status=None), idempotency_key)
        return await self.start(made, request.trigger_at) if request.send_now or request.trigger_at else made

    async def cancel(self, current: BatchCall) -> BatchCall:
        """Stop it; one that waits for its time is deleted where Bolna stops only what runs."""
        try:
            return await super().cancel(current)
        except IllegalTransition:
            # Its time may have come since it was read: with it a delete would take what came of it.
            if (await self.get(current.batch_call_id)).status is not BatchStatus.SCHEDULED:
                raise
            await self.delete(current)
            return replace(current, status=BatchStatus.CANCELLED, notes=(*current.notes, DELETES))

    async def start(self, current: BatchCall, at: datetime | None, idempotency_key: str | None = None) -> BatchCall:  # noqa: ARG002 - the protocol's
        """Schedule it: at its time, which Bolna moves up to a mark, or at the first mark that it can take."""
        soonest = utc_now() + LEAD
        when = at if at is not None and at >= soonest else next_mark(soonest, MARK)
        # With "Z" instead of an offset Bolna answers an error of its own, and nobody knows what is scheduled.
        call = replace(self.call(Operation.START, current.batch_call_id), form={"scheduled_at": iso_offset(when)})
        return await self.act(Operation.START, current, call)

    def task_pages(self, batch_call_id: str, query: TaskQuery) -> Pages:  # noqa: ARG002 - it filters nothing
        """All executions come with every read."""
        return InlinePages(HttpCall("GET", "/batches/{id}/executions").at(id=batch_call_id), None)

    def list_pages(self, query: ListQuery) -> Pages:
        """Batches are listed by agent: without one, those of every agent are read."""

        async def parts() -> list[tuple[HttpCall, Mapping[str, str]]]:
            ids = [query.agent_id] if query.agent_id else [one.agent_id for one in await self.agents()]
            return [(_LIST.at(agent_id=agent_id), {"agent_id": agent_id}) for agent_id in ids]

        return JoinedPages(parts, "created_at")

    def read_created(self, data: Mapping[str, Any], request: BatchCallRequest) -> BatchCall:  # noqa: ARG002 - the kit's
        """Its id, and its status under another name."""
        return self.read_batch({**data, "status": data.get("state")})

    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        """A batch. `executed` says that everybody was called once, not that all is over: its calls say that."""
        counted = TASKS.counted(data.get("execution_status"))
        found = batch_from(
            data,
            _BATCH,
            BATCHES,
            self.title,
            counts=_counts(counted, whole(data.get("total_contacts")), whole(data.get("valid_contacts"))),
            hides_retry=True,
            notes=("Its caller numbers take turns.",) if inside(data, "from_phone_numbers.1") else (),
        )
        if counted and (found.status is BatchStatus.COMPLETED or (found.backend_status or "").lower() == "executed"):
            open_ = counted[TaskStatus.PENDING] + counted[TaskStatus.CALLING] + counted[TaskStatus.UNKNOWN]
            found = replace(found, status=BatchStatus.RUNNING if open_ else BatchStatus.COMPLETED)
        return replace(found, name=found.name and (found.name.removesuffix(".csv") or found.name))

    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        """An execution."""
        spent, lasted = usd(data.get("total_cost"), per=100), seconds(data.get("conversation_duration")) or None
        machine = "machine" if data.get("answered_by_voice_mail") is True else None
        found = task_from(data, _TASK, TASKS, own=[NUMBER], duration_seconds=lasted, answered_by=machine, cost=spent)
        if machine and found.status is TaskStatus.COMPLETED:
            found = replace(found, status=TaskStatus.VOICEMAIL, backend_status="completed")
        again = whole(inside(data, "batch_run_details.retried"))
        dials = None if again is None else again + (found.status not in (TaskStatus.PENDING, TaskStatus.UNKNOWN))
        # Until a call is over, its cost is 0 because nobody knows it.
        is_over = found.status not in (TaskStatus.PENDING, TaskStatus.CALLING, TaskStatus.UNKNOWN)
        return replace(found, attempts=dials or None, cost=found.cost if is_over else None)

    def read_call(self, data: Mapping[str, Any]) -> Call:
        """An execution with what was said in it."""
        said, recording = turns_in(data.get("transcript")), "telephony_data.recording_url"
        return call_from(data, self.read_task(data), said, recording=recording, ended="telephony_data.hangup_reason")


def _retry_config(retry: RetryPolicy) -> str:
    waits = None if retry.after_minutes is None else [retry.after_minutes] * retry.max_retries
    config = given(
        enabled=True,
        max_retries=retry.max_retries,
        retry_on_statuses=[outcome.replace("_", "-") for outcome in retry.on if outcome != "voicemail"],
        retry_on_voicemail="voicemail" in retry.on,
        retry_intervals_minutes=waits,
    )
    return dumps(config)


def _counts(counted: Counter[TaskStatus], total: int | None, valid: int | None) -> Counts:
    """Of a batch: contacts that Bolna cannot read are skipped, and valid ones without an execution wait.

    Its `completed` are those that somebody or a machine answered, so how many were reached is not known.
    """
    calls, total = counted.total(), valid if total is None else total
    if total is None or valid is None or not calls <= valid <= total or counted[TaskStatus.UNKNOWN]:
        return Counts(total=total)
    counted = counted + Counter({TaskStatus.PENDING: valid - calls, TaskStatus.SKIPPED: total - valid})
    known = {*TASKS.reported, TaskStatus.SKIPPED} - {TaskStatus.COMPLETED}
    return replace(counts_of(counted.elements(), known), picked_up=counted[TaskStatus.COMPLETED], not_reached=None)
