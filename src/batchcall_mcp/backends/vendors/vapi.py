"""Vapi's campaigns, version 2 (https://docs.vapi.ai/campaigns): creating one dials, and then it can only be ended.

Sources: VapiAI/docs, `fern/apis/api/openapi.json` and `fern/campaigns/`; vapi_server_sdk 3.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, Literal

from batchcall_mcp.backends.account_reading import Listing
from batchcall_mcp.backends.capabilities import LAUNCHING, Capabilities, Limits, Operation
from batchcall_mcp.backends.rest_backend import RestBackend
from batchcall_mcp.backends.row_reading import batch_from, call_from, same, task_from
from batchcall_mcp.clock import utc_now
from batchcall_mcp.errors import BatchCallError, InvalidInput, NotFound
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
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.http_errors import Refusal
from batchcall_mcp.vendor_http.json_values import inside, members, moment, text, usd, whole
from batchcall_mcp.vendor_http.paging import InlinePages, OffsetPages, Pages
from batchcall_mcp.vendor_http.status_map import StatusMap, counts_of
from batchcall_mcp.vendor_http.times import iso_z
from batchcall_mcp.vendor_http.transcripts import turns, turns_in

PATH = "/v2/campaign"
LIST_PAGE = 100
CONTACTS_PAGE = 1000
ALL = {"limit": 1000}
MAX_CONCURRENCY = 500  # in the newest SDK; the organization's own limit may be less
AT_ONCE = 10  # Vapi's default; its guide wants a number to be sent
LONGEST_NAME = 40  # characters in the name of a contact

_BY_USER = ("campaign.scheduled.ended-by-user", "campaign.in-progress.ended-by-user")
BATCHES = StatusMap(
    {
        "scheduled": BatchStatus.SCHEDULED,
        "in-progress": BatchStatus.RUNNING,
        "ended": BatchStatus.COMPLETED,
        "cancelled": BatchStatus.CANCELLED,
    },
    BatchStatus.UNKNOWN,
    refine=("endedReason", dict.fromkeys(_BY_USER, BatchStatus.CANCELLED)),
)
_ENDINGS = {"customer-did-not-answer": TaskStatus.NO_ANSWER, "customer-busy": TaskStatus.BUSY}
STATES = StatusMap(
    {
        **dict.fromkeys(("contact.pending", "scheduled", "queued"), TaskStatus.PENDING),
        **dict.fromkeys(("contact.dispatched", "ringing", "in-progress", "forwarding"), TaskStatus.CALLING),
        **dict.fromkeys(("contact.completed", "ended"), TaskStatus.COMPLETED),
        "contact.failed": TaskStatus.FAILED,
        **dict.fromkeys(("contact.skipped", "contact.predial-failed"), TaskStatus.SKIPPED),
    },
    TaskStatus.UNKNOWN,
    refine=("endedReason", _ENDINGS | {"voicemail": TaskStatus.VOICEMAIL}),
)
"""Of contacts, and of calls."""
_NO_ASSISTANT = ("assistant-not-", "assistant-request-", "assistant-join-")
_BROKE = ("error", "failed", "misdialed", "rejected", "deleted", "call.ringing.", "no-call-received", *_NO_ASSISTANT)
"""Parts of an endedReason, of which there are some 600: the call could not be placed, or broke."""

_BATCH = same("name") | {
    "batch_call_id": "id",
    "from_number": "phoneNumberId",
    "agent_id": "assistantId|squadId|workflowId",
    "scheduled_at": "schedulePlan.earliestAt",
    "expires_at": "schedulePlan.latestAt",
    "created_at": "createdAt",
    "max_concurrency": "maxConcurrency",
    "organization_id": "orgId",
}
_TASK = same("name") | {"to_number": "number", "task_id": "id", "call_id": "callId", "attempted_at": "dispatchedAt"}
_CALL = {
    "to_number": "customer.number",
    "name": "customer.name",
    "call_id": "id",
    "attempted_at": "startedAt|createdAt",
    "completed_at": "endedAt",
    "summary": "analysis.summary",
    "extracted": "analysis.structuredData",
}
_SPEAKERS: Mapping[str, Literal["agent", "person"]] = {"bot": "agent", "assistant": "agent", "user": "person"}
_RECORDING = "artifact.recordingUrl|artifact.recording.mono.combinedUrl|recordingUrl"
_COUNTERS = ("pending", "dispatched", "completed", "failed", "skipped", "predialFailed")


class VapiBackend(RestBackend):
    """Vapi's service: creating dials, ids of numbers, no windows, no redials, an end that is a moment."""

    name = "vapi"
    title = "Vapi"
    default_url = "https://api.vapi.ai"
    capabilities = Capabilities(
        operations=frozenset(Operation) - LAUNCHING - {Operation.PAUSE} | {Operation.CREATE},
        drafts="none",
        limits=Limits(tasks=10_000),
        required=frozenset({"from_number", "agent_id"}),
        caller="id",
        task_page_size=CONTACTS_PAGE,
        outcomes=(
            *(TaskStatus.PENDING, TaskStatus.CALLING, TaskStatus.COMPLETED, TaskStatus.NO_ANSWER),
            *(TaskStatus.BUSY, TaskStatus.VOICEMAIL, TaskStatus.FAILED, TaskStatus.SKIPPED),
        ),
        stop="any_time",
        cancel_effect="Nobody else is dialled; calls in progress go on to their end.",
        ends="time",
        max_concurrency=MAX_CONCURRENCY,
        dynamic_variables=True,
        task_names=True,
        needs_secret=False,
        limitations=(
            "Creating dials: at once, or at trigger_timestamp. Nothing of it can be changed afterwards.",
            "Campaigns (v2) have to be enabled for the organization, and its free Vapi numbers cannot be used.",
            f"Without max_concurrency {AT_ONCE} calls are made at once; more than the organization has is refused.",
            "A call that could not be placed for an hour is given up.",
            "It counts a call as completed when it has ended, also if nobody answered; each task says why it ended.",
            "Its own way to run a campaign again calls everybody, those already reached too, and is never used.",
        ),
    )
    calls: ClassVar = {
        Operation.GET: HttpCall("GET", PATH + "/{id}", query={"includeCounters": "true"}),
        Operation.CANCEL: HttpCall("PATCH", PATH + "/{id}", json={"status": "cancelled"}),
        Operation.DELETE: HttpCall("DELETE", PATH + "/{id}"),
        Operation.GET_CALL: HttpCall("GET", "/call/{call_id}"),
    }
    allowed: ClassVar = {Operation.CANCEL: frozenset({BatchStatus.SCHEDULED, BatchStatus.RUNNING})}
    numbers_at = Listing(
        InlinePages(HttpCall("GET", "/phone-number", query=ALL), None),
        same("name") | {"from_number": "number", "number_id": "id"},
        lambda row: text(row.get("status")) in {None, "active"},
    )
    agents_at = Listing(InlinePages(HttpCall("GET", "/assistant", query=ALL), None), same("name") | {"agent_id": "id"})
    batch_of_call = "campaignId"

    def check_state(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> None:
        """Refuse names of people that Vapi would refuse, too."""
        super().check_state(operation, request, current)
        long = [task.to_number for task in (request and request.tasks) or () if len(task.name or "") > LONGEST_NAME]
        if long:
            raise InvalidInput(f"name of {long[0]}: Vapi takes {LONGEST_NAME} characters. Nothing was sent.")

    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        """What Vapi's schema allows to be missing, its guide requires: all of it is sent."""
        begin = request.trigger_at or (utc_now() if request.ends_at else None)  # a plan needs its beginning
        plan = given(earliestAt=begin and iso_z(begin), latestAt=request.ends_at and iso_z(request.ends_at))
        body = given(
            name=self.name_of(request),
            assistantId=request.agent_id,
            phoneNumberId=await self.number_id(request.from_number or ""),
            maxConcurrency=request.max_concurrency or AT_ONCE,
            schedulePlan=plan or None,
            customers=[_customer(task) for task in request.tasks or ()],
        )
        return HttpCall("POST", PATH, json=body)

    async def get(self, batch_call_id: str) -> BatchCall:
        """With how its calls went, where one page holds all contacts: the counters say only that they have ended."""
        found = await super().get(batch_call_id)
        if not found.counts.sent or (found.counts.total or 0) > CONTACTS_PAGE:
            return found
        page = await self.tasks(batch_call_id, TaskQuery(limit=CONTACTS_PAGE))
        states = (task.status or TaskStatus.UNKNOWN for task in page.tasks)
        counts = counts_of(states, self.capabilities.outcomes, found.counts.total)
        return replace(found, counts=replace(counts, picked_up=found.counts.picked_up))

    def list_pages(self, query: ListQuery) -> Pages:
        """Newest first; archived ones are not in it."""
        asked: dict[str, str | int] = {"includeCounters": "true"}
        if query.status in {BatchStatus.SCHEDULED, BatchStatus.RUNNING, BatchStatus.COMPLETED}:
            (asked["status"],) = BATCHES.words_for([query.status])
        if query.created_after is not None:
            asked["createdAtGt"] = iso_z(query.created_after - timedelta(milliseconds=1))
        return _pages(PATH, asked, LIST_PAGE)

    def task_pages(self, batch_call_id: str, query: TaskQuery) -> Pages:
        """In the order of the list. Nothing is filtered there: people would move between pages while it dials."""
        size = CONTACTS_PAGE if query.is_filtered or query.limit > LIST_PAGE else LIST_PAGE
        return _pages(HttpCall("GET", PATH + "/{id}/contacts").at(id=batch_call_id).path, {}, size)

    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        """A campaign. `scheduled` also means "about to start dialing", which is not our `scheduled`."""
        found = batch_from(data, _BATCH, BATCHES, self.title, counts=_counts(data))
        if found.status is BatchStatus.SCHEDULED and (found.scheduled_at is None or found.scheduled_at <= utc_now()):
            return replace(found, status=BatchStatus.UNKNOWN, backend_status="scheduled")
        return found

    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        """A contact. Its variables do not come back."""
        return _ended(task_from(data, _TASK, STATES))

    def read_call(self, data: Mapping[str, Any]) -> Call:
        """A call, with its artifacts."""
        task = _ended(task_from(data, _CALL, STATES, cost=usd(data.get("cost"))))
        began, ended = moment(data.get("startedAt")), task.completed_at
        lasted = (ended - began).total_seconds() if began and ended and ended >= began else None
        said = turns(inside(data, "artifact.messages|messages"), _SPEAKERS, at="secondsFromStart")
        said = said or turns_in(inside(data, "artifact.transcript|transcript"), "ai") or said
        task = replace(task, duration_seconds=lasted)
        return call_from(data, task, said, recording=_RECORDING, ended="endedReason")

    def recognise(self, refusal: Refusal) -> type[BatchCallError] | None:
        """An id that is none of Vapi's is 400."""
        return NotFound if refusal.status == 400 and "uuid" in refusal.words.lower() else None  # noqa: PLR2004 - HTTP


def _customer(task: CallTask) -> dict[str, Any]:
    overrides = {"variableValues": dict(task.dynamic_variables)} if task.dynamic_variables else None
    return given(number=task.to_number, name=task.name, assistantOverrides=overrides)


def _pages(path: str, asked: Mapping[str, str | int], size: int) -> Pages:
    return OffsetPages(
        lambda page, size: HttpCall("GET", path, query={**asked, "page": page + 1, "limit": size}),
        "results",
        size,
        lambda answer: (inside(answer, "metadata.itemsPerPage"), inside(answer, "metadata.hasNextPage")),
    )


def _counts(data: Mapping[str, Any]) -> Counts:
    """Without what Vapi counts as completed or failed: a call has completed when it has ended, however it went."""
    found: dict[str, Any] = {name: whole(inside(data, f"contactCounters.{name}")) for name in _COUNTERS}
    if None in found.values():
        return Counts()
    more = members(data, {"sent": "callMetrics.dialed", "picked_up": "callMetrics.connected"})
    more |= {"pending": found["pending"], "calling": found["dispatched"]}
    return Counts(total=sum(found.values()), skipped=found["skipped"] + found["predialFailed"], **more)


def _ended(task: CallTask) -> CallTask:
    """With what its endedReason says besides."""
    if task.status is TaskStatus.VOICEMAIL:
        return replace(task, answered_by="machine")
    broke = task.status is TaskStatus.COMPLETED and any(part in (task.backend_status or "") for part in _BROKE)
    return replace(task, status=TaskStatus.FAILED) if broke else task
