"""The emergency stop's second half: pause, or else cancel, all that is live, as far as one caller's key reaches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, TypeAlias

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.writes import launch
from batchcall_mcp.errors import BatchCallError, NotFound, NotSupported, QuotaExceeded, UnexpectedResponse
from batchcall_mcp.model import FINISHED, BatchCall, BatchStatus, CallTask, ListQuery, TaskStatus

DIALLING = frozenset({BatchStatus.SCHEDULED, BatchStatus.RUNNING, BatchStatus.RECURRING, BatchStatus.UNKNOWN})
"""What dials, or will without anybody asking again; one whose state is not known may."""
_MOST_PAGES = 100
_LONGEST_RUN = timedelta(days=1)
_LAST_RUN = "The series is over; its last run may still call people, and is not shown. Look at the backend's own page."

Reached: TypeAlias = Literal["called", "in a call", "never called", "not known"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What became of one live batch call. `words`: the result's or the error's own words."""

    batch_call_id: str
    was: BatchStatus
    done: Literal["paused", "cancelled", "not stopped"]
    words: str


@dataclass(slots=True)
class Round:
    """What one caller's backend said; filled as it goes, so what was done before something broke counts too."""

    stopped: list[Stopped] = field(default_factory=list)
    over: set[str] = field(default_factory=set)
    """Those that the backend says are over, or does not have any more."""
    asked: set[str] = field(default_factory=set)


async def stop_live(context: CallContext, launched: Collection[str], found: Round) -> None:
    """Stop one after the other; one that cannot be stopped keeps none of the others from it.

    Args:
        context: one caller's way to the backend.
        launched: batch calls that are known to have been launched there: they are asked for if no list shows them.
        found: is filled.

    Raises:
        BatchCallError: not all batch calls could be listed; those that could be, and all of `launched`, were stopped.
    """
    broken: BatchCallError | None = None
    try:
        await _stop_listed(context, found)
    except BatchCallError as error:
        broken = error
    for batch_call_id in launched:
        if batch_call_id not in found.asked:
            believed = broken is None or isinstance(broken, NotSupported)
            await _stop_one(context, batch_call_id, found, believed=believed)
    if broken is not None:
        raise broken


async def _stop_listed(context: CallContext, found: Round) -> None:
    if Operation.LIST not in context.backend.capabilities.operations:
        raise NotSupported(
            f"{context.backend.name} cannot list batch calls: only those launched from here are known. Look at the "
            "backend's own page for others."
        )
    cursor: str | None = None
    unread: tuple[str, ...] = ()
    for _ in range(_MOST_PAGES):
        # Page by page: what is seen is stopped before more is read. A stop moves nothing in a list by creation.
        page = await context.backend.list(ListQuery(limit=100, cursor=cursor))
        unread += page.notes
        for one in page.batch_calls:
            if one.status is BatchStatus.PAUSED and not context.backend.capabilities.pause_stops:
                await _stop_one(context, one.batch_call_id, found)
            else:
                await _look_at(context, one, found)
        cursor = page.next_cursor
        if cursor is None:
            if unread:
                raise UnexpectedResponse(" ".join(unread))
            return
    raise QuotaExceeded(f"The account has more batch calls than the {_MOST_PAGES * 100} newest that were read.")


async def _stop_one(context: CallContext, batch_call_id: str, found: Round, *, believed: bool = True) -> None:
    """`believed`: that it is not there; where a list could not be read, a 404 may be that of a proxy."""
    try:
        one = await context.backend.get(batch_call_id)
    except NotFound as error:
        found.asked.add(batch_call_id)
        if believed:
            found.over.add(batch_call_id)
        else:
            was = BatchStatus.UNKNOWN
            found.stopped.append(Stopped(batch_call_id=batch_call_id, was=was, done="not stopped", words=error.message))
    except BatchCallError:
        # What cannot be read may be stopped all the same.
        await _look_at(context, BatchCall(batch_call_id=batch_call_id, status=BatchStatus.UNKNOWN), found)
    else:
        await _look_at(context, one, found)


async def _look_at(context: CallContext, one: BatchCall, found: Round) -> None:
    found.asked.add(one.batch_call_id)
    if one.status in FINISHED:
        found.over.add(one.batch_call_id)
        if _last_run_may_dial(context, one):
            found.stopped.append(
                Stopped(batch_call_id=one.batch_call_id, was=one.status, done="not stopped", words=_LAST_RUN)
            )
    elif one.status in DIALLING or one.run_dials or one.pause_may_lapse:
        found.stopped.append(await _stopped(context, one))


def _last_run_may_dial(context: CallContext, one: BatchCall) -> bool:
    """A series is over when its last run has begun; no list shows the run."""
    ended = one.completed_at
    lately = ended is None or context.clock() - ended < _LONGEST_RUN
    return one.is_series and not context.backend.capabilities.pause_stops and lately


async def _stopped(context: CallContext, one: BatchCall) -> Stopped:
    """A pause can be undone, so it is tried first; but a series that is paused lets its run dial on."""
    ways = [(Operation.PAUSE, launch.pause), (Operation.CANCEL, launch.cancel)]
    if not context.backend.capabilities.pause_stops or one.status is BatchStatus.RECURRING:
        ways.reverse()
    words = (
        f"{context.backend.name} can neither pause nor cancel: its phones may ring on. Stop it at the backend itself."
    )
    for operation, stop in ways:
        if operation not in context.backend.capabilities.operations:
            continue
        try:
            outcome = await stop(context, one.batch_call_id)
        except BatchCallError as error:
            words = error.message
        else:
            done: Literal["paused", "cancelled", "not stopped"] = (
                "paused" if operation is Operation.PAUSE else "cancelled"
            )
            if outcome.batch_call is not None and outcome.batch_call.pause_may_lapse:
                done = "not stopped"
            return Stopped(batch_call_id=one.batch_call_id, was=one.status, done=done, words=outcome.summary)
    return Stopped(batch_call_id=one.batch_call_id, was=one.status, done="not stopped", words=words)


def reached(task: CallTask) -> Reached:
    """Whether this person was called, as far as the backend says."""
    if task.status is TaskStatus.CALLING:
        return "in a call"
    if task.attempts or task.status in _CALLED:
        return "called"
    return "never called" if task.status in _WAITING else "not known"


_CALLED = frozenset(
    {
        TaskStatus.COMPLETED,
        TaskStatus.PLACED,
        TaskStatus.NO_ANSWER,
        TaskStatus.BUSY,
        TaskStatus.VOICEMAIL,
        TaskStatus.FAILED,
        TaskStatus.INTERRUPTED,
    }
)
_WAITING = frozenset({TaskStatus.PENDING, TaskStatus.SKIPPED, TaskStatus.CANCELLED, TaskStatus.EXPIRED})
