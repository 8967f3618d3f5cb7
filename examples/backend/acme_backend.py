"""Acme Calls, a vendor that does not exist: an adapter as another package may bring it (docs/writing-a-backend.md).

Registered in that package's pyproject.toml, and chosen with BATCHCALL_BACKEND=acme:

    [project.entry-points."batchcall_mcp.backends"]
    acme = "acme_backend:AcmeBackend"
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from batchcall_mcp.backends.account_reading import Listing
from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.rest_backend import RestBackend
from batchcall_mcp.backends.row_reading import batch_from, same, task_from
from batchcall_mcp.errors import BatchCallError, IllegalTransition
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallTask,
    Counts,
    ListQuery,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.http_errors import Refusal
from batchcall_mcp.vendor_http.json_values import whole
from batchcall_mcp.vendor_http.paging import CursorPages, InlinePages, OffsetPages, Pages
from batchcall_mcp.vendor_http.status_map import StatusMap
from batchcall_mcp.vendor_http.times import epoch_s

CAMPAIGNS = StatusMap(
    {
        "new": BatchStatus.DRAFT,
        "planned": BatchStatus.SCHEDULED,
        "live": BatchStatus.RUNNING,
        "done": BatchStatus.COMPLETED,
        "stopped": BatchStatus.CANCELLED,
    },
    BatchStatus.UNKNOWN,
)
WORDS = {
    "waiting": TaskStatus.PENDING,
    "dialing": TaskStatus.CALLING,
    "answered": TaskStatus.COMPLETED,
    "missed": TaskStatus.NO_ANSWER,
    "engaged": TaskStatus.BUSY,
    "error": TaskStatus.FAILED,
    "dropped": TaskStatus.CANCELLED,
}
CONTACTS = StatusMap(WORDS, TaskStatus.UNKNOWN)
CAMPAIGN = {
    "batch_call_id": "id",
    "name": "title",
    "from_number": "from.phone",
    "agent_id": "agent",
    "scheduled_at": "start_at",
    "created_at": "created",
    "max_concurrency": "lines",
}
CONTACT = same("name error") | {
    "to_number": "phone",
    "task_id": "id",
    "dynamic_variables": "fields",
    "attempted_at": "dialed",
}


class AcmeBackend(RestBackend):
    """Drafts that are started now or at a time; a campaign that is live is stopped for those not called yet."""

    name = "acme"
    title = "Acme Calls"
    default_url = "https://api.acme.example/v1"
    key_header = "X-Acme-Key"
    key_prefix = ""
    capabilities = Capabilities(
        operations=frozenset(
            {
                *(Operation.ACCOUNT, Operation.CREATE, Operation.GET, Operation.LIST),
                *(Operation.START, Operation.CANCEL, Operation.DELETE),
            }
        ),
        drafts="full",
        limits=Limits(tasks=200, name_length=80, ahead=timedelta(days=30)),
        required=frozenset({"from_number", "agent_id"}),
        caller="id",
        task_page_size=50,
        outcomes=tuple(WORDS.values()),
        stop="pending_only",
        cancel_effect="Calls in progress go on to their end; people who were not called yet are dropped.",
        max_concurrency=20,
        dynamic_variables=True,
        returns_variables=True,
        task_names=True,
        needs_secret=False,
        limitations=("It redials nobody; retry_batch_call makes a new draft of those who were not reached.",),
    )
    calls: ClassVar = {
        Operation.GET: HttpCall("GET", "/campaigns/{id}"),
        Operation.START: HttpCall("POST", "/campaigns/{id}/start"),
        Operation.CANCEL: HttpCall("POST", "/campaigns/{id}/stop"),
        Operation.DELETE: HttpCall("DELETE", "/campaigns/{id}"),
    }
    allowed: ClassVar = {
        Operation.START: frozenset({BatchStatus.DRAFT, BatchStatus.SCHEDULED}),
        Operation.CANCEL: frozenset({BatchStatus.SCHEDULED, BatchStatus.RUNNING}),
        Operation.DELETE: frozenset({BatchStatus.DRAFT, BatchStatus.COMPLETED, BatchStatus.CANCELLED}),
    }
    numbers_at = Listing(
        InlinePages(HttpCall("GET", "/numbers"), "numbers"),
        {"from_number": "phone", "name": "label", "number_id": "id"},
    )
    agents_at = Listing(InlinePages(HttpCall("GET", "/agents"), None), {"agent_id": "id", "name": "name"})

    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        """A campaign without `start_at` is dialled at once, so a draft says `hold`."""
        contacts = [
            given(phone=task.to_number, name=task.name, fields=dict(task.dynamic_variables) or None)
            for task in request.tasks or ()
        ]
        body = given(
            title=self.name_of(request),
            agent=request.agent_id,
            number_id=await self.number_id(request.from_number or ""),
            contacts=contacts,
            lines=request.max_concurrency,
            start_at=epoch_s(request.trigger_at) if request.trigger_at else None,
            hold=True if request.trigger_at is None and not request.send_now else None,
        )
        return HttpCall("POST", "/campaigns", json=body)

    async def start(self, current: BatchCall, at: datetime | None, idempotency_key: str | None = None) -> BatchCall:
        """With a time or without."""
        if at is None:
            return await super().start(current, None, idempotency_key)
        call = HttpCall("POST", "/campaigns/{id}/start", json={"start_at": epoch_s(at)})
        return await self.act(Operation.START, current, call.at(id=current.batch_call_id))

    def task_pages(self, batch_call_id: str, query: TaskQuery) -> Pages:  # noqa: ARG002 - Acme filters nothing
        """Pages are numbered from 1."""
        call = HttpCall("GET", "/campaigns/{id}/contacts").at(id=batch_call_id)
        return OffsetPages(
            lambda page, size: HttpCall(call.method, call.path, query={"page": page + 1, "per_page": size}),
            "contacts",
            self.capabilities.task_page_size,
        )

    def list_pages(self, query: ListQuery) -> Pages:  # noqa: ARG002 - Acme filters nothing
        """Newest first; each page names the next one."""
        return CursorPages(
            lambda after: HttpCall("GET", "/campaigns", query=given(after=after)),
            "campaigns",
            lambda answer: answer.get("next_after"),
        )

    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        """A campaign; `size` is the only count that Acme gives."""
        counts = Counts(total=whole(data.get("size")))
        return batch_from(data, CAMPAIGN, CAMPAIGNS, self.title, counts=counts)

    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        """A contact."""
        return task_from(data, CONTACT, CONTACTS)

    def recognise(self, refusal: Refusal) -> type[BatchCallError] | None:
        """Acme says 400 for a state that does not allow it."""
        is_state = refusal.status == 400 and "campaign is" in refusal.words.lower()
        return IllegalTransition if is_state else None
