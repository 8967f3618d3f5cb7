"""start, pause, resume, cancel, delete: the life of a batch call that exists."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from batchcall_mcp.backends.base import KeepsDates, ReadTasks, SkipsAtStart, StartsFirst, unread
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.next_call import Next, after_cancel
from batchcall_mcp.batch_calls.timestamps import When, read_start, read_when
from batchcall_mcp.batch_calls.writes.results import Result, ResultWord, status_words
from batchcall_mcp.batch_calls.writes.write import Judged, People, Write
from batchcall_mcp.calling_hours import check_timezone, is_timezone
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
from batchcall_mcp.guard.preflight.changes import end_change, scheduled_words
from batchcall_mcp.guard.preflight.dates import check_promises
from batchcall_mcp.model import FINISHED, BatchCall, BatchCallRequest, BatchStatus, CallTask, TaskStatus
from batchcall_mcp.text import quoted

# One whose state is in words that nobody knows may be called: it counts.
_DIALS = frozenset({BatchStatus.SCHEDULED, BatchStatus.RUNNING, BatchStatus.RECURRING})
_LAPSES = (
    "It still reads the list, and may run once it is through: read it again soon, and pause it again if it is running"
)
_LONGEST_NAME = 80
_WAITING = frozenset({TaskStatus.PENDING, TaskStatus.UNKNOWN, None})


async def start(
    context: CallContext,
    batch_call_id: str,
    when: str,
    idempotency_key: str | None = None,
    *,
    first: int | None = None,
    timezone: str | None = None,
    ends: str | None = None,
) -> Result:
    """Launch now, at a moment or on a date; moves one that is scheduled.

    `first`: so many people, then a pause until a resume. `ends`: from when on nobody is called. A time without an
    offset is in `timezone`, else in the one that the batch call has.

    Raises:
        IllegalTransition: it is finished or paused; nothing was sent.
        NotSupported: a time, on a backend that can only start drafts at once, or `first`, which it cannot hold.
    """
    context.require(Operation.START)
    zone = check_timezone(timezone) if timezone else None
    # Wrong words are refused before anything is read.
    _check_time(context, _asked(when, ends, zone or "UTC", first))
    current, read, seen = await context.look(batch_call_id)
    known = current.timezone if current.timezone and is_timezone(current.timezone) else None
    request = _asked(when, ends, zone or known, first)
    await _check_dates(context, request, current, read)
    _check_first(current, first)
    at = request.trigger_at
    write = Write(context, Operation.START, request, current, seen=seen, key=idempotency_key)

    async def already() -> Result | None:
        return await _unstartable(context, current, write)

    async def people() -> People:
        time = _scheduled_for(current)
        moves = (f"It is scheduled for {time}: this moves it.",) if time else ()
        return await _stored(context, current, read, moves, end_change(request, current))

    def send(judged: Judged, ticket: Ticket) -> Awaitable[BatchCall]:
        # The question said that a time in the past means now; a backend might refuse it, or read it as another time.
        later = judged.starts_at or (at if at is not None and at > context.clock() else None)
        backend, key = context.backend, ticket.backend_key
        if (ends is not None or request.trigger_on is not None) and isinstance(backend, KeepsDates):
            return backend.start_as(current, replace(request, trigger_at=later), judged.skipped_tasks, key)
        if judged.skipped and isinstance(backend, SkipsAtStart):
            return backend.start_without(current, later, judged.skipped_tasks, key, first=first)
        if first is not None and isinstance(backend, StartsFirst):
            return backend.start_first(current, later, first, key)
        return backend.start(current, later, key)

    async def report(started: BatchCall, judged: Judged) -> Result:
        time, state = _scheduled_for(started), status_words(started.status, started.backend_status)
        return Result(
            result="scheduled" if time else "started",
            summary=(
                f"{batch_call_id} is scheduled for {time}."
                if time
                else f"The backend took the start of {batch_call_id}; its {state}"
            )
            + _pauses(judged),
            next=context.next_of(started),
            batch_call=started,
            preflight=judged.preflight,
        )

    return await write.run(
        already=already,
        people=people,
        send=send,
        report=report,
        did=partial(_launched, request),
    )


def _check_time(context: CallContext, request: BatchCallRequest) -> None:
    drafts = context.backend.capabilities.drafts
    if not request.send_now and drafts != "full":
        how = "To schedule, make the batch call with its time (create_batch_call, trigger_timestamp)."
        raise NotSupported(
            f'{context.backend.name} cannot schedule a draft that is stored: trigger_timestamp can only be "now" here. '
            f"Nothing was sent. {'Start it when it is time.' if drafts == 'now_only' else how}"
        )


async def _unstartable(context: CallContext, current: BatchCall, write: Write) -> Result | None:
    """A result, where nothing is left to start.

    Raises:
        IllegalTransition: it is finished or paused; nothing was sent.
    """
    batch_call_id = current.batch_call_id
    if current.status is BatchStatus.RUNNING:
        return _nothing(current, f"{batch_call_id} is already running.", context.next_of(current))
    if current.status is BatchStatus.PAUSED:
        raise IllegalTransition(f"{batch_call_id} is paused. Nothing was sent. resume_batch_call continues it.")
    if current.status in FINISHED:
        raise IllegalTransition(
            f"{batch_call_id} is {current.status}; starting it again could call everybody again. Nothing was sent."
            f"{await write.done_before()} retry_batch_call calls only the people who were not reached."
        )
    return None


def _scheduled_for(current: BatchCall) -> str | None:
    """The date or the minute for which it is scheduled; None: it is not."""
    if current.status is not BatchStatus.SCHEDULED or current.scheduled_at is None:
        return None
    return scheduled_words(current) if current.scheduled_on else f"{current.scheduled_at:%Y-%m-%d %H:%M UTC}"


def _asked(when: str, ends: str | None, zone: str | None, first: int | None) -> BatchCallRequest:
    """A launch in words, as a request."""
    begin = read_start(when, zone)
    end = When() if ends is None else read_when(ends, zone, "ends_at")
    return BatchCallRequest(
        trigger_at=begin.at, trigger_on=begin.on, send_now=begin.now, ends_at=end.at, ends_on=end.on, first=first
    )


async def _check_dates(context: CallContext, request: BatchCallRequest, current: BatchCall, read: ReadTasks) -> None:
    """Refuse a date or an end that the backend cannot hold: with the moment to give instead, where there is one.

    Raises:
        NotSupported: it cannot; nothing was sent.
        InvalidInput: it ends before it begins; nothing was sent.
    """
    context.require_fields(replace(request, trigger_on=None))
    if request.trigger_on is not None and not context.backend.capabilities.trigger_dates:
        tasks = await context.tasks_or_none(current, read)
        named = tuple(CallTask(to_number=one.to_number) for one in tasks or ())
        zone = replace(request, timezone=current.timezone, window=current.window)
        request = replace(zone, tasks=named)
    context.require_fields(request)
    check_promises(request, current, context.backend.capabilities, context.limits.calling_hours)


def _check_first(current: BatchCall, first: int | None) -> None:
    if first is not None and not current.holds_first:
        raise NotSupported(
            f"first: the server of {current.batch_call_id} does not say that it can pause after so many people; it "
            "would call everybody. Nothing was sent. Make a batch call of the first people with create_batch_call."
        )


def _launched(request: BatchCallRequest, found: BatchCall) -> tuple[ResultWord, str]:
    later = not request.send_now or found.status is BatchStatus.SCHEDULED
    return "scheduled" if later else "started", f"launched {found.batch_call_id}"


def _pauses(judged: Judged) -> str:
    if not judged.preflight.is_for_the_first:
        return ""
    return f" After the first {judged.preflight.calls} people it pauses, until resume_batch_call is confirmed."


async def pause(context: CallContext, batch_call_id: str) -> Result:
    """No new dial; calls in progress go on.

    Raises:
        IllegalTransition: the backend took the request, and the batch call goes on as it was.
    """
    current = await _current(context, Operation.PAUSE, batch_call_id)
    if current.status is BatchStatus.PAUSED:
        late = await _may_still_arrive(context, current)
        late += f" {_LAPSES}." if current.pause_may_lapse else ""
        return _nothing(current, f"{batch_call_id} is already paused.{late}", context.next_of(current))

    async def report(paused: BatchCall, _judged: Judged) -> Result:
        paused = await _stopped(context, paused, Operation.PAUSE)
        effect = (
            "no new run of the series starts; one that dials already goes on (cancel_batch_call ends it too)"
            if current.status is BatchStatus.RECURRING
            else context.backend.capabilities.pause_effect or "no new call is placed"
        )
        if paused.pause_may_lapse:
            effect = f"the backend took the pause. {_LAPSES}"
        return Result(
            result="paused",
            summary=f"{batch_call_id}: {effect}. Its status is {paused.status}.",
            next=context.next_of(paused),
            batch_call=paused,
        )

    write = Write(context, Operation.PAUSE, current=current)
    return await write.run(send=lambda _judged, _ticket: context.backend.pause(current), report=report)


async def resume(context: CallContext, batch_call_id: str) -> Result:
    """Dial on, after a confirmation."""
    context.require(Operation.RESUME)
    current, read, seen = await context.look(batch_call_id)

    async def already() -> Result | None:
        if current.status is BatchStatus.RUNNING:
            return _nothing(current, f"{batch_call_id} is running.", context.next_of(current))
        if current.status is not BatchStatus.PAUSED:
            raise IllegalTransition(f"{batch_call_id} is {current.status}, not paused. Nothing was sent.")
        return None

    async def report(resumed: BatchCall, judged: Judged) -> Result:
        return Result(
            result="resumed",
            summary=_resumed(resumed),
            next=context.next_of(resumed),
            batch_call=resumed,
            preflight=judged.preflight,
        )

    return await Write(context, Operation.RESUME, current=current, seen=seen).run(
        already=already,
        people=partial(_stored, context, current, read),
        send=lambda _judged, ticket: context.backend.resume(current, ticket.backend_key),
        report=report,
    )


def _resumed(after: BatchCall) -> str:
    state = status_words(after.status, after.backend_status)
    if after.status in {BatchStatus.UNKNOWN, BatchStatus.PAUSED}:
        return f"The backend took the resume of {after.batch_call_id}; its {state}"
    return f"{after.batch_call_id} continues; its {state}"


async def cancel(context: CallContext, batch_call_id: str) -> Result:
    """Cancel what has not been dialled."""
    current = await _current(context, Operation.CANCEL, batch_call_id)
    if current.status in FINISHED:
        done = f"{batch_call_id} is already {current.status}; there is nothing to cancel."
        return _nothing(current, done, context.next_of(current))
    if current.status is BatchStatus.DRAFT and Operation.DELETE in context.backend.capabilities.operations:
        late = await _may_still_arrive(context, current)
        what = f"is a draft.{late}" if late else "is a draft and dials nobody;"
        return _nothing(current, f"{batch_call_id} {what} delete_batch_call removes it.")

    async def report(cancelled: BatchCall, _judged: Judged) -> Result:
        cancelled = await _stopped(context, cancelled, Operation.CANCEL)
        return Result(
            result="cancelled",
            summary=f"Cancelled what {batch_call_id} had not dialled; its status is {cancelled.status}. "
            + context.backend.capabilities.cancel_effect,
            next=after_cancel(cancelled, context.offer),
            batch_call=cancelled,
        )

    write = Write(context, Operation.CANCEL, current=current)
    return await write.run(send=lambda _judged, _ticket: context.backend.cancel(current), report=report)


async def delete(context: CallContext, batch_call_id: str) -> Result:
    """Remove a batch call for good: one that has results only after a yes, because they are lost.

    It is not a stop: it waits for its place in the ledger, and one that may still dial cannot be deleted.

    Raises:
        IllegalTransition: its state does not allow it; nothing was sent.
        NotConfirmed: a person said no or did not answer, or nobody is asked; nothing was sent.
    """
    context.require(Operation.DELETE)
    current, _, seen = await context.look(batch_call_id)

    async def people() -> People:
        return People(question=what_is_lost(current) if has_results(current) else None)

    async def send(_judged: Judged, _ticket: Ticket) -> BatchCall:
        await context.backend.delete(current)
        return current

    async def report(_deleted: BatchCall, _judged: Judged) -> Result:
        return Result(result="deleted", summary=f"{batch_call_id} is deleted for good.")

    write = Write(context, Operation.DELETE, current=current, seen=seen)
    return await write.run(people=people, send=send, report=report)


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
    return f"Delete {which} for good? {lost} are lost: export_batch_call saves them first. This cannot be undone."


async def _current(context: CallContext, operation: Operation, batch_call_id: str) -> BatchCall:
    """What is to be stopped; of one that no answer speaks of, the id that was asked for is enough."""
    context.require(operation)
    try:
        return await context.backend.get(batch_call_id)
    except (BackendUnavailable, RateLimited, UnexpectedResponse):
        return unread(batch_call_id)


async def _stopped(context: CallContext, after: BatchCall, operation: Operation) -> BatchCall:
    """What a stop left: a success in words alone, or one that came too late, stops nobody's phone.

    An answer that does not say how the batch call is now says nothing about it: then it is read.

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
            f"{took} and {said}: its phones may still ring. Read it with get_batch_call; if it still dials, stop it at "
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


async def _stored(
    context: CallContext,
    current: BatchCall,
    read: ReadTasks,
    warnings: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> People:
    """The list that the backend holds, of which those are called who were not yet."""
    tasks = await context.tasks_or_none(current, read)
    to_call = None if tasks is None else waiting(tasks)
    return People(tasks=tasks, to_call=to_call, warnings=warnings, changes=changes)


def waiting(tasks: Sequence[CallTask]) -> list[CallTask]:
    """Those of a list that the backend holds who were not called yet: a launch calls these. Pure."""
    return [task for task in tasks if task.status in _WAITING]


def _nothing(current: BatchCall, summary: str, following: Next = None) -> Result:
    return Result(
        result="nothing_to_do",
        summary=f"{summary} Nothing was sent.",
        next=following,
        batch_call=current,
    )
