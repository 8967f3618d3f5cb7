"""start, pause, resume, cancel, delete: the life of a batch call that exists."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Literal

from batchcall_mcp.backends.base import Never, Operation, SkipsAtStart, unread
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.writes.results import Result, noted, replayed, waiting
from batchcall_mcp.batch_calls.writes.write import Write
from batchcall_mcp.errors import (
    BackendUnavailable,
    BatchCallError,
    IllegalTransition,
    NotSupported,
    OutcomeUnknown,
    RateLimited,
    UnexpectedResponse,
)
from batchcall_mcp.guard.delivery.write_sender import Ticket, in_time
from batchcall_mcp.model import FINISHED, BatchCall, BatchCallRequest, BatchStatus, CallTask, TaskStatus
from batchcall_mcp.text import quoted

# One whose state is in words that nobody knows may be called: it counts.
_DIALS = frozenset({BatchStatus.SCHEDULED, BatchStatus.RUNNING, BatchStatus.RECURRING})
_LONGEST_NAME = 80
_WAITING = frozenset({TaskStatus.PENDING, TaskStatus.UNKNOWN, None})


async def start(
    context: CallContext, batch_call_id: str, when: datetime | Literal["now"], idempotency_key: str | None = None
) -> Result:
    """Launch now or at a moment; moves one that is scheduled.

    Raises:
        IllegalTransition: it is finished or paused; nothing was sent.
        NotSupported: a time, on a backend that can only start drafts at once.
    """
    context.require(Operation.START)
    context.guard.check_mode(Operation.START, Never())
    if when != "now" and context.backend.capabilities.drafts != "full":
        raise NotSupported(
            f'{context.backend.name} cannot schedule a draft that is stored: trigger_timestamp can only be "now" here. '
            "Nothing was sent. To schedule, make the batch call with its time (create_batch_call, trigger_timestamp)."
        )
    current = await context.look(batch_call_id)
    at = None if when == "now" else when
    request = BatchCallRequest(trigger_at=at, send_now=at is None)
    write = Write(context, Operation.START, request, current, key=idempotency_key)
    earlier = await write.earlier()
    if earlier is not None:
        return replayed(earlier, "started" if at is None else "scheduled", f"launched {batch_call_id}")
    if current.status is BatchStatus.RUNNING:
        return _nothing(current, f"{batch_call_id} is already running.")
    if current.status is BatchStatus.PAUSED:
        raise IllegalTransition(f"{batch_call_id} is paused. Nothing was sent. resume_batch_call dials on.")
    if current.status in FINISHED:
        raise IllegalTransition(
            f"{batch_call_id} is {current.status}; starting it again could call everybody again. Nothing was sent."
            f"{await write.done_before()} retry_batch_call calls only who was not reached."
        )
    context.backend.check_state(Operation.START, request, current)
    tasks = await context.tasks_or_none(current)
    moved: tuple[str, ...] = ()
    if current.status is BatchStatus.SCHEDULED and current.scheduled_at is not None:
        moved = (f"It is scheduled for {current.scheduled_at:%Y-%m-%d %H:%M UTC}: this moves it.",)
    found, needed = await write.admit(tasks, warnings=moved, to_call=_to_call(tasks))
    if needed:
        return waiting(needed, found, context.tool, current)
    if write.overtaken:
        return replayed(write.overtaken, "started" if at is None else "scheduled", f"launched {batch_call_id}")
    # The question said that a time in the past means now; a backend might refuse it, or read it as another time.
    later = at if at is not None and at > context.clock() else None
    skip = write.skipped_tasks
    sent = await write.send(
        lambda ticket: (
            context.backend.start_without(current, later, skip, ticket.backend_key)
            if skip and isinstance(context.backend, SkipsAtStart)
            else context.backend.start(current, later, ticket.backend_key)
        )
    )
    started = sent.batch_call
    scheduled = started.status is BatchStatus.SCHEDULED and started.scheduled_at is not None
    if sent.replayed:
        return replayed(sent, "scheduled" if scheduled else "started", f"launched {batch_call_id}")
    summary = (
        f"{batch_call_id} is scheduled for {started.scheduled_at:%Y-%m-%d %H:%M UTC}."
        if scheduled
        else f"The backend took the start of {batch_call_id}; its status is {started.status}."
    )
    return Result(
        result="scheduled" if scheduled else "started",
        summary=summary,
        next=f"watch_batch_call with batch_call_id={batch_call_id}.",
        batch_call=started,
        preflight=found,
        skipped_rows=write.skipped_rows,
        notes=noted(write.skipped_note, sent.note),
    )


async def pause(context: CallContext, batch_call_id: str) -> Result:
    """No new dial; calls in progress go on.

    Raises:
        IllegalTransition: the backend took the request, and the batch call goes on as it was.
    """
    current = await _current(context, Operation.PAUSE, batch_call_id)
    if current.status is BatchStatus.PAUSED:
        return _nothing(current, f"{batch_call_id} is already paused.{await _may_still_arrive(context, current)}")
    write = Write(context, Operation.PAUSE, BatchCallRequest(), current)
    sent = await write.send(lambda _ticket: context.backend.pause(current))
    paused = await _stopped(context, sent.batch_call, Operation.PAUSE)
    effect = (
        "no new run of the series starts; one that dials already goes on (cancel_batch_call ends it too)"
        if current.status is BatchStatus.RECURRING
        else "no new call is placed"
    )
    return Result(
        result="paused",
        summary=f"{batch_call_id}: {effect}. Its status is {paused.status}.",
        next=f"resume_batch_call goes on, cancel_batch_call ends it: batch_call_id={batch_call_id}.",
        batch_call=paused,
        notes=noted(sent.note),
    )


async def resume(context: CallContext, batch_call_id: str) -> Result:
    """Dial on, after a confirmation."""
    context.require(Operation.RESUME)
    context.guard.check_mode(Operation.RESUME, Never())
    current = await context.look(batch_call_id)
    write = Write(context, Operation.RESUME, BatchCallRequest(), current)
    earlier = await write.earlier()
    if earlier is not None:
        return replayed(earlier, "resumed", f"resumed {batch_call_id}")
    if current.status is BatchStatus.RUNNING:
        return _nothing(current, f"{batch_call_id} is running.")
    if current.status is not BatchStatus.PAUSED:
        raise IllegalTransition(f"{batch_call_id} is {current.status}, not paused. Nothing was sent.")
    context.backend.check_state(Operation.RESUME, None, current)
    tasks = await context.tasks_or_none(current)
    found, needed = await write.admit(tasks, to_call=_to_call(tasks))
    if needed:
        return waiting(needed, found, context.tool, current)
    if write.overtaken:
        return replayed(write.overtaken, "resumed", f"resumed {batch_call_id}")
    sent = await write.send(lambda ticket: context.backend.resume(current, ticket.backend_key))
    resumed = sent.batch_call
    if sent.replayed:
        return replayed(sent, "resumed", f"resumed {batch_call_id}")
    return Result(
        result="resumed",
        summary=f"{batch_call_id} goes on; its status is {resumed.status}.",
        next=f"watch_batch_call with batch_call_id={batch_call_id}.",
        batch_call=resumed,
        preflight=found,
        notes=noted(sent.note),
    )


async def cancel(context: CallContext, batch_call_id: str) -> Result:
    """Take back what has not been dialled."""
    current = await _current(context, Operation.CANCEL, batch_call_id)
    if current.status in FINISHED:
        return _nothing(current, f"{batch_call_id} is already {current.status}; there is nothing to take back.")
    if current.status is BatchStatus.DRAFT and Operation.DELETE in context.backend.capabilities.operations:
        late = await _may_still_arrive(context, current)
        what = f"is a draft.{late}" if late else "is a draft and dials nobody;"
        return _nothing(current, f"{batch_call_id} {what} delete_batch_call removes it.")
    write = Write(context, Operation.CANCEL, BatchCallRequest(), current)
    sent = await write.send(lambda _ticket: context.backend.cancel(current))
    cancelled = await _stopped(context, sent.batch_call, Operation.CANCEL)
    return Result(
        result="cancelled",
        summary=f"Took back what {batch_call_id} had not dialled; its status is {cancelled.status}. "
        + context.backend.capabilities.cancel_effect,
        next=f"get_batch_call with batch_call_id={batch_call_id} shows who was called before.",
        batch_call=cancelled,
        notes=noted(sent.note),
    )


async def delete(context: CallContext, batch_call_id: str) -> Result:
    """Remove a batch call for good: one that has results only after a yes, because they are lost.

    It is not a stop: it waits for its place in the ledger, and one that may still dial cannot be deleted.

    Raises:
        IllegalTransition: its state does not allow it; nothing was sent.
        NotConfirmed: a person said no or did not answer, or nobody is asked; nothing was sent.
    """
    context.require(Operation.DELETE)
    context.guard.check_mode(Operation.DELETE, Never())
    current = await context.look(batch_call_id)
    write = Write(context, Operation.DELETE, BatchCallRequest(), current)
    await write.earlier()  # a launch of it that may still take effect stands in the way
    context.backend.check_state(Operation.DELETE, None, current)
    if has_results(current):
        found, needed = await write.admit(None, asks=True, question=what_is_lost(current))
        if needed:  # the preflight of a deletion says nothing: it calls nobody
            return replace(waiting(needed, found, context.tool, current), preflight=None)

    async def remove(_ticket: Ticket) -> BatchCall:
        await context.backend.delete(current)
        return current

    sent = await write.send(remove)
    return Result(result="deleted", summary=f"{batch_call_id} is deleted for good.", notes=noted(sent.note))


def has_results(current: BatchCall) -> bool:
    """Whether anybody of it was called, or may have been: unsure means yes. Pure."""
    counts = current.counts
    dialled = (counts.calling, counts.sent, counts.picked_up, counts.completed, counts.failed, counts.not_reached)
    never = current.status in {BatchStatus.DRAFT, BatchStatus.SCHEDULED} and not any(dialled)
    return not never or any((current.started_at, current.completed_at, current.last_sent_at))


def what_is_lost(current: BatchCall) -> str:
    """The question before a deletion. Pure."""
    which = current.batch_call_id
    if current.name:
        # Without quotes of its own: what follows the closing one is ours, not the name's.
        which = quoted(current.name.replace('"', "'"), _LONGEST_NAME) + f" ({which})"
    calls = current.counts.sent
    lost = f"Results of {calls:,} call{'s' if calls > 1 else ''}" if calls else "Its list and its results"
    return f"Delete {which} for good? {lost} are lost: export_batch_call keeps them first. This cannot be undone."


async def _current(context: CallContext, operation: Operation, batch_call_id: str) -> BatchCall:
    """What is to be stopped; of one that no answer speaks of, the id that was asked for is enough."""
    context.require(operation)
    context.guard.check_mode(operation, Never())
    try:
        current = await context.backend.get(batch_call_id)
    except (BackendUnavailable, RateLimited, UnexpectedResponse):
        return unread(batch_call_id)
    return current


async def _stopped(context: CallContext, after: BatchCall, operation: Operation) -> BatchCall:
    """What a stop left: a success in words alone, or one that came too late, stops nobody's phone.

    An answer that does not say how the batch call is now is no word on it: then it is read.

    Raises:
        IllegalTransition: it dials on.
        OutcomeUnknown: the backend does not say whether it does.
    """
    if after.status is BatchStatus.UNKNOWN:
        with suppress(BatchCallError):
            after = await context.backend.get(after.batch_call_id)
    took = f"The backend took the {operation} of {after.batch_call_id}"
    if after.status is BatchStatus.UNKNOWN:
        said = f"says {quoted(after.backend_status)}" if after.backend_status else "does not say what it is now"
        raise OutcomeUnknown(
            f"{took} and {said}: its phones may still ring. Read it with get_batch_call; if it dials on, stop it at "
            "the backend itself."
        )
    if after.status in _DIALS:
        raise IllegalTransition(
            f"{took}, and it is {after.status}: its phones may still ring. Try again, or stop it at the backend itself."
        )
    return after


async def _may_still_arrive(context: CallContext, current: BatchCall) -> str:
    """A sentence about a launch of it that was sent and that the backend does not show, or nothing."""
    if not await context.ledger_in_time():
        return ""
    ledger = await context.open_ledger()
    entry = await in_time(partial(ledger.history.open_launch_of, context.backend_address, current.batch_call_id))
    if entry is None:
        return ""
    return f" A launch of it (ledger entry {entry.write_id}) got no answer and may still take effect."


def _to_call(tasks: list[CallTask] | None) -> list[CallTask] | None:
    return None if tasks is None else [task for task in tasks if task.status in _WAITING]


def _nothing(current: BatchCall, summary: str) -> Result:
    return Result(
        result="nothing_to_do",
        summary=f"{summary} Nothing was sent.",
        next=f"get_batch_call with batch_call_id={current.batch_call_id}.",
        batch_call=current,
    )
