"""The emergency stop's second half: pause, or else cancel, whatever is live, as far as one caller's key reaches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from batchcall_mcp.backends.base import Operation
from batchcall_mcp.batch_calls import launch
from batchcall_mcp.batch_calls.relay import Relay
from batchcall_mcp.errors import BatchCallError, QuotaExceeded
from batchcall_mcp.model import BatchCall, BatchStatus, ListQuery

DIALLING = frozenset({BatchStatus.SCHEDULED, BatchStatus.RUNNING, BatchStatus.RECURRING, BatchStatus.UNKNOWN})
"""What dials, or will without anybody asking again; one whose state is not known may."""
_MOST_PAGES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What became of one live batch call. `told`: the result's or the error's own words."""

    batch_call_id: str
    was: BatchStatus
    done: Literal["paused", "cancelled", "not stopped"]
    told: str


async def stop_live(relay: Relay) -> AsyncIterator[Stopped]:
    """Stop one after the other; one that cannot be stopped keeps none of the others from it.

    Raises:
        BatchCallError: not all batch calls could be listed; those that could be were stopped before.
    """
    relay.require(Operation.LIST)
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        # Page by page: what is seen is stopped before more is read. A stop moves nothing in a list by creation.
        page = await relay.backend.list(ListQuery(limit=100, cursor=cursor))
        for one in page.batch_calls:
            if one.status in DIALLING:
                yield await _stopped(relay, one)
        cursor = page.next_cursor
        if cursor is None:
            return
    raise QuotaExceeded(f"The account has more batch calls than the {_MOST_PAGES * 100} newest, which were read.")


async def _stopped(relay: Relay, one: BatchCall) -> Stopped:
    """A pause can be taken back, so that it is tried first; but a series that is paused lets its run dial on."""
    ways = [(Operation.PAUSE, launch.pause), (Operation.CANCEL, launch.cancel)]
    if one.status is BatchStatus.RECURRING:
        ways.reverse()
    told = f"{relay.backend.name} can neither pause nor cancel."
    for operation, stop in ways:
        if operation not in relay.backend.capabilities.operations:
            continue
        try:
            outcome = await stop(relay, one.batch_call_id)
        except BatchCallError as error:
            told = error.message
        else:
            done: Literal["paused", "cancelled"] = "paused" if operation is Operation.PAUSE else "cancelled"
            return Stopped(batch_call_id=one.batch_call_id, was=one.status, done=done, told=outcome.summary)
    return Stopped(batch_call_id=one.batch_call_id, was=one.status, done="not stopped", told=told)
