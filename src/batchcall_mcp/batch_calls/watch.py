"""watch_batch_call: wait for a batch call, within a limit, without flooding anybody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import anyio

from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.next_call import Next, Offer, after_watch
from batchcall_mcp.calling_hours import is_open, is_timezone, next_open
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
    next: Next


async def watch(
    context: CallContext,
    batch_call_id: str,
    until: Until,
    timeout_s: float,
    progress: Progress,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> Watched:
    """Wait until it is finished, started or changed; at most `timeout_s` seconds, less if nothing can happen."""
    first = await context.backend.get(batch_call_id)
    current = first
    deadline = context.clock() + timedelta(seconds=timeout_s)
    wait_s = _FIRST_WAIT_S
    while True:
        now = context.clock()
        if _reached(until, first, current):
            await context.note_over(current, now)
            return ended(current, now, context.offer, reached=True)
        idle = why_idle(current, now, deadline, context.offer)
        if idle is not None:
            return idle
        await progress(*_progress(current.counts), progress_words(current))
        left_s = (deadline - now).total_seconds()
        if left_s <= 0:
            return ended(current, now, context.offer, reached=False)
        await sleep(min(wait_s, left_s))
        wait_s = min(wait_s * 1.5, _LONGEST_WAIT_S)
        current = await context.backend.get(batch_call_id)


def _reached(until: Until, first: BatchCall, current: BatchCall) -> bool:
    if current.status in FINISHED:
        return True
    if until == "started":
        return current.status is BatchStatus.RUNNING
    return until == "changed" and (current.status, current.counts) != (first.status, first.counts)


def why_idle(current: BatchCall, now: datetime, deadline: datetime, offer: Offer) -> Watched | None:
    """Why nothing can happen before the limit, and how to go on; None where something can. Pure."""
    name = current.batch_call_id
    following = after_watch(current, offer, now, reached=False, idle=True)
    if current.status is BatchStatus.DRAFT:
        return Watched(current, f"{name} is a draft: nothing happens until it is started.", following)
    if current.counts.calling:
        return None
    if current.status is BatchStatus.PAUSED:
        why = "" if current.status_reason is None else f" {current.status_reason.text}"
        return Watched(current, f"{name} is paused; no new call is placed.{why}", following)
    at = current.scheduled_at
    if current.status is BatchStatus.SCHEDULED and at is not None and at > deadline:
        until = f"{name} is scheduled for {at:%Y-%m-%d %H:%M UTC}; nothing to watch before."
        return Watched(current, until, following)
    waits = waits_until(current, now)
    if waits is not None and waits > deadline and current.counts.calling == 0:
        return ended(current, now, offer, reached=False)
    return None


def waits_until(current: BatchCall, now: datetime) -> datetime | None:
    """Until when a running batch call places no call at all, as far as the backend or its window shows. Pure."""
    if current.status is not BatchStatus.RUNNING:
        return None
    pending, held = current.counts.pending, current.held_back
    if pending and held and sum(one.calls for one in held) >= pending:
        moments = [one.until for one in held if one.until is not None]
        return min(moments) if len(moments) == len(held) and min(moments) > now else None
    window = current.window
    if pending == 0 or window is None or not is_timezone(window.timezone):  # of each person's own zone others know
        return None
    return None if is_open(window, (), now) else next_open(window, (), now)


def ended(current: BatchCall, now: datetime, offer: Offer, *, reached: bool) -> Watched:
    """What the wait has shown, and how to go on. Pure."""
    waits = waits_until(current, now)
    following = after_watch(current, offer, now, reached=reached, idle=waits is not None)
    if current.status in FINISHED:
        return Watched(current, progress_words(current), following)
    still = ("" if reached else "still ") + progress_words(current) + gate_words(current)
    if waits is not None:
        still += f" No call starts before {waits:%Y-%m-%d %H:%M UTC}."
    return Watched(current, still, following)


def gate_words(current: BatchCall) -> str:
    """Who waits because a gate is asked before each dial and gives no clear answer; nothing if nobody does. Pure."""
    waiting = sum(one.calls for one in current.held_back if one.reason == "predial")
    if current.status is not BatchStatus.RUNNING or not waiting:
        return ""
    return (
        f" {waiting:,} wait{'s' if waiting == 1 else ''} for the pre-dial gate, which gives no clear answer; it is "
        "asked again by itself."
    )


def done(counts: Counts) -> int | None:
    """Tasks that need nothing more, where that is reported: one in a call does, and one that is redialled. Pure."""
    if counts.total is not None and counts.pending is not None and counts.calling is not None:
        return counts.total - counts.pending - counts.calling
    return None


def _progress(counts: Counts) -> tuple[float, float | None]:
    finished = done(counts)
    least = counts.completed if finished is None else finished
    return float(least or 0), None if counts.total is None else float(counts.total)


def progress_words(current: BatchCall) -> str:
    """How far it is, in the backend's own figures: "dialled" where it does not say who is still in a call. Pure."""
    counts = current.counts
    finished = done(counts)
    figures = (("done", finished), ("dialled", counts.sent), ("completed", counts.completed))
    known = next(((word, number) for word, number in figures if number is not None), None)
    how_far = f", {known[1]} of {counts.total} {known[0]}" if known is not None and counts.total is not None else ""
    calling = f", {counts.calling} in a call" if counts.calling else ""
    so_far = "" if current.status in FINISHED else " so far"
    missed = f", {counts.not_reached} not reached{so_far}" if counts.not_reached else ""
    return f"{current.status}{how_far}{calling}{missed} ({current.batch_call_id})."
