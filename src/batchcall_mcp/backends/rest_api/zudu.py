"""Zudu (https://docs.zudu.ai): the batch-call REST API without our extensions."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from batchcall_mcp.backends.base import is_unread
from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.rest_api.batchcall import BatchCallBackend
from batchcall_mcp.errors import IllegalTransition, NotSupported
from batchcall_mcp.model import BatchCall, BatchStatus, TaskStatus

MAX_TASKS = 1000


class ZuduBackend(BatchCallBackend):
    """Zudu's own service: no pause, no stop once it dials, no idempotency key, one time zone a batch call."""

    name: ClassVar[str] = "zudu"
    default_url: ClassVar[str] = "https://api.zudu.ai"
    extended: ClassVar[bool] = False
    capabilities: ClassVar[Capabilities] = replace(
        BatchCallBackend.capabilities,
        operations=BatchCallBackend.capabilities.operations
        - {Operation.APPEND, Operation.PAUSE, Operation.RESUME, Operation.RETRY, Operation.GET_CALL},
        limits=Limits(tasks=MAX_TASKS, name_length=255),
        retry="none",
        outcomes=(TaskStatus.PENDING, TaskStatus.CALLING, TaskStatus.COMPLETED, TaskStatus.FAILED),
        results=frozenset(),
        stop="before_start",
        cancel_effect=(
            "A scheduled batch call becomes a draft again. Zudu cannot stop calls once a batch call has started."
        ),
        windows="one_zone",
        trigger_dates=False,
        ends="none",
        not_before=False,
        window_days=False,
        max_concurrency=None,
        first=False,
        prices=False,
        idempotency="none",
        returns_variables=False,
        task_names=False,
        task_timezones=False,
        retry_outcomes=("no_answer", "busy", "voicemail"),
        update_fields=BatchCallBackend.capabilities.update_fields
        - {"max_concurrency", "trigger_on", "ends_at", "ends_on"},
        limitations=(
            "A batch call that has started cannot be paused or stopped.",
            "Its tasks say completed or failed, not why: no answer, busy and voicemail are not distinguished.",
            "Variables are not returned, so from_number, window and retry change only together with tasks.",
            "It keeps no idempotency keys: the ledger here knows a repeated request, Zudu does not.",
        ),
    )

    async def cancel(self, current: BatchCall) -> BatchCall:
        """Back to draft, which is all that the documents offer (update page: `draft` is an accepted status).

        Raises:
            NotSupported: it has started; nothing changed.
            IllegalTransition: it is neither scheduled nor running.
        """
        doing = f"cancel batch call {current.batch_call_id}"
        if current.status is BatchStatus.RUNNING:
            raise NotSupported(
                f"Could not {doing}: Zudu cannot stop calls of a batch call that has started. Nothing changed; the "
                "calls go on. Watch it with get_batch_call, or ask Zudu's support."
            )
        if is_unread(current):  # it may wait for its time: that much can be cancelled
            after = await self._back_to_draft(current)
            return replace(after, notes=(*after.notes, "Calls that had started before go on."))
        if current.status is not BatchStatus.SCHEDULED:
            raise IllegalTransition(
                f"Could not {doing}: it is {current.backend_status or current.status}. Nothing was sent."
            )
        after = await self._back_to_draft(current)
        if after.status is BatchStatus.DRAFT:
            return after
        note = f"Zudu took the request, but says {after.backend_status or after.status}: its phones may still ring."
        return replace(after, notes=(*after.notes, note))
