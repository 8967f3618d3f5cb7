"""start, pause, resume, cancel, delete: the life of a batch call that exists."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from batchcall_mcp.backends.base import Never, Operation
from batchcall_mcp.batch_calls.outcome import Outcome, waiting
from batchcall_mcp.batch_calls.relay import Relay
from batchcall_mcp.errors import IllegalTransition, NotSupported
from batchcall_mcp.model import FINISHED, BatchCall, BatchCallRequest, BatchStatus, CallTask, TaskStatus

# One whose state is in words that nobody knows may be called: it counts.
_WAITING = frozenset({TaskStatus.PENDING, TaskStatus.UNKNOWN, None})


async def start(
    relay: Relay, batch_call_id: str, when: datetime | Literal["now"], idempotency_key: str | None = None
) -> Outcome:
    """Launch now or at a moment; moves one that is scheduled.

    Raises:
        IllegalTransition: it is finished or paused; nothing was sent.
        NotSupported: a time, on a backend that can only start drafts at once.
    """
    relay.require(Operation.START)
    relay.guard.check_mode(Operation.START, Never())
    if when != "now" and relay.backend.capabilities.drafts != "full":
        raise NotSupported(
            f'{relay.backend.name} cannot schedule a draft that is stored: trigger_timestamp can only be "now" here. '
            "Nothing was sent. To schedule, make the batch call with its time (create_batch_call, trigger_timestamp)."
        )
    current, _ = await relay.backend.get(batch_call_id)
    if current.status is BatchStatus.RUNNING:
        return _nothing(current, f"{batch_call_id} is already running.")
    if current.status is BatchStatus.PAUSED:
        raise IllegalTransition(f"{batch_call_id} is paused. Nothing was sent. resume_batch_call dials on.")
    if current.status in FINISHED:
        raise IllegalTransition(
            f"{batch_call_id} is {current.status}; starting it again could call everybody again. Nothing was sent. "
            "retry_batch_call calls only who was not reached."
        )
    tasks = await relay.tasks_or_none(batch_call_id)
    at = None if when == "now" else when
    request = BatchCallRequest(trigger_at=at, send_now=at is None)
    moved: tuple[str, ...] = ()
    if current.status is BatchStatus.SCHEDULED and current.scheduled_at is not None:
        moved = (f"It is scheduled for {current.scheduled_at:%Y-%m-%d %H:%M UTC}: this moves it.",)
    found, needed = await relay.admit(Operation.START, request, current, tasks, warnings=moved, to_call=_to_call(tasks))
    if needed:
        return waiting(needed, found, relay.tool, current)
    # The question said that a time in the past means now; a backend might refuse it, or read it as another time.
    later = at if at is not None and at > relay.clock() else None
    started = await relay.backend.start(current, later, idempotency_key)
    scheduled = started.status is BatchStatus.SCHEDULED and started.scheduled_at is not None
    summary = _earlier(started) or (
        f"{batch_call_id} is scheduled for {started.scheduled_at:%Y-%m-%d %H:%M UTC}."
        if scheduled
        else f"The backend took the start of {batch_call_id}; its status is {started.status}."
    )
    return Outcome(
        result="scheduled" if scheduled else "started",
        summary=summary,
        next=f"watch_batch_call with batch_call_id={batch_call_id}.",
        batch_call=started,
        preflight=found,
    )


async def pause(relay: Relay, batch_call_id: str) -> Outcome:
    """No new dial; calls in progress go on."""
    current = await _current(relay, Operation.PAUSE, batch_call_id)
    if current.status is BatchStatus.PAUSED:
        return _nothing(current, f"{batch_call_id} is already paused.")
    paused = await relay.backend.pause(current)
    return Outcome(
        result="paused",
        summary=f"{batch_call_id}: no new call is placed. Its status is {paused.status}.",
        next=f"resume_batch_call or cancel_batch_call with batch_call_id={batch_call_id}.",
        batch_call=paused,
    )


async def resume(relay: Relay, batch_call_id: str) -> Outcome:
    """Dial on, after a confirmation."""
    current = await _current(relay, Operation.RESUME, batch_call_id)
    if current.status is BatchStatus.RUNNING:
        return _nothing(current, f"{batch_call_id} is running.")
    if current.status is not BatchStatus.PAUSED:
        raise IllegalTransition(f"{batch_call_id} is {current.status}, not paused. Nothing was sent.")
    tasks = await relay.tasks_or_none(batch_call_id)
    found, needed = await relay.admit(Operation.RESUME, BatchCallRequest(), current, tasks, to_call=_to_call(tasks))
    if needed:
        return waiting(needed, found, relay.tool, current)
    resumed = await relay.backend.resume(current)
    return Outcome(
        result="resumed",
        summary=f"{batch_call_id} goes on; its status is {resumed.status}.",
        next=f"watch_batch_call with batch_call_id={batch_call_id}.",
        batch_call=resumed,
        preflight=found,
    )


async def cancel(relay: Relay, batch_call_id: str) -> Outcome:
    """Take back what has not been dialled."""
    current = await _current(relay, Operation.CANCEL, batch_call_id)
    if current.status in FINISHED:
        return _nothing(current, f"{batch_call_id} is already {current.status}; there is nothing to take back.")
    if current.status is BatchStatus.DRAFT and Operation.DELETE in relay.backend.capabilities.operations:
        return _nothing(current, f"{batch_call_id} is a draft and dials nobody; delete_batch_call removes it.")
    cancelled = await relay.backend.cancel(current)
    return Outcome(
        result="cancelled",
        summary=f"Took back what {batch_call_id} had not dialled; its status is {cancelled.status}. "
        + relay.backend.capabilities.cancel_effect,
        next=f"get_batch_call with batch_call_id={batch_call_id} shows who was called before.",
        batch_call=cancelled,
    )


async def delete(relay: Relay, batch_call_id: str) -> Outcome:
    """Remove a batch call for good."""
    current = await _current(relay, Operation.DELETE, batch_call_id)
    await relay.backend.delete(current)
    return Outcome(result="deleted", summary=f"{batch_call_id} is deleted for good.")


async def _current(relay: Relay, operation: Operation, batch_call_id: str) -> BatchCall:
    relay.require(operation)
    relay.guard.check_mode(operation, Never())
    current, _ = await relay.backend.get(batch_call_id)
    return current


def _earlier(started: BatchCall) -> str | None:
    if not started.replayed:
        return None
    return (
        f"This idempotency_key started {started.batch_call_id} before; nothing was started now. "
        f"Its status is {started.status}."
    )


def _to_call(tasks: list[CallTask] | None) -> list[CallTask] | None:
    return None if tasks is None else [task for task in tasks if task.status in _WAITING]


def _nothing(current: BatchCall, summary: str) -> Outcome:
    return Outcome(
        result="nothing_to_do",
        summary=f"{summary} Nothing was sent.",
        next=f"get_batch_call with batch_call_id={current.batch_call_id}.",
        batch_call=current,
    )
