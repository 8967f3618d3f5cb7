"""watch_batch_call: wait for a batch call, within a limit, without flooding anybody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias

import anyio

from batchcall_mcp.batch_calls.relay import Relay
from batchcall_mcp.model import FINISHED, BatchCall, BatchStatus, Counts

Until: TypeAlias = Literal["finished", "started", "changed"]
Progress: TypeAlias = Callable[[float, float | None, str], Awaitable[None]]
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Watched:
    """How the wait ended."""

    batch_call: BatchCall
    summary: str
    next: str


async def watch(
    relay: Relay,
    batch_call_id: str,
    until: Until,
    timeout_s: float,
    progress: Progress,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> Watched:
    """Wait until it is finished, started or changed; at most `timeout_s` seconds, less if nothing can happen."""
    first, _ = await relay.backend.get(batch_call_id)
    current = first
    deadline = relay.clock() + timedelta(seconds=timeout_s)
    wait_s = _FIRST_WAIT_S
    while True:
        if _reached(until, first, current):
            return _ended(current, reached=True)
        idle = _why_idle(current, deadline - relay.clock(), relay)
        if idle is not None:
            return Watched(current, summary=idle[0], next=idle[1])
        await progress(*_progress(current.counts), _progress_words(current))
        left_s = (deadline - relay.clock()).total_seconds()
        if left_s <= 0:
            return _ended(current, reached=False)
        await sleep(min(wait_s, left_s))
        wait_s = min(wait_s * 1.5, _LONGEST_WAIT_S)
        current, _ = await relay.backend.get(batch_call_id)


def _reached(until: Until, first: BatchCall, current: BatchCall) -> bool:
    if current.status in FINISHED:
        return True
    if until == "started":
        return current.status is BatchStatus.RUNNING
    return until == "changed" and (current.status, current.counts) != (first.status, first.counts)


def _why_idle(current: BatchCall, left: timedelta, relay: Relay) -> tuple[str, str] | None:
    """Why nothing can happen before the limit, and how to go on."""
    name = current.batch_call_id
    if current.status is BatchStatus.DRAFT:
        return (
            f"{name} is a draft: nothing happens until it is started.",
            f"start_batch_call with batch_call_id={name}.",
        )
    if current.status is BatchStatus.PAUSED:
        why = "" if current.status_reason is None else f" {current.status_reason.text}"
        return (
            f"{name} is paused; no new call is placed.{why}",
            f"resume_batch_call with batch_call_id={name}, after a person has agreed.",
        )
    at = current.scheduled_at
    if current.status is BatchStatus.SCHEDULED and at is not None and at - relay.clock() > left:
        return (
            f"{name} is scheduled for {at:%Y-%m-%d %H:%M UTC}; nothing to watch before.",
            "Ask again then, or start_batch_call to move it.",
        )
    return None


def _ended(current: BatchCall, *, reached: bool) -> Watched:
    name = current.batch_call_id
    if current.status in FINISHED:
        following = f'get_batch_call with batch_call_id={name} and task_status=["not_reached"] shows who was missed.'
    else:
        following = f"watch_batch_call with batch_call_id={name} goes on watching."
    still = "" if reached else "still "
    return Watched(current, summary=f"{still}{_progress_words(current)}", next=following)


def done(counts: Counts) -> int | None:
    """Tasks that need nothing more, where the backend tells."""
    if counts.total is not None and counts.pending is not None and counts.calling is not None:
        return counts.total - counts.pending - counts.calling
    return counts.sent if counts.sent is not None else counts.completed


def _progress(counts: Counts) -> tuple[float, float | None]:
    return float(done(counts) or 0), None if counts.total is None else float(counts.total)


def _progress_words(current: BatchCall) -> str:
    counts = current.counts
    finished = done(counts)
    how_far = f", {finished} of {counts.total} done" if finished is not None and counts.total is not None else ""
    so_far = "" if current.status in FINISHED else " so far"
    missed = f", {counts.not_reached} not reached{so_far}" if counts.not_reached else ""
    return f"{current.status}{how_far}{missed} ({current.batch_call_id})."
