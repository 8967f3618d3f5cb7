"""The dispatcher: one for each database, run by whoever holds its lock. It sleeps until something is due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import Attempt, Carrier
from batchcall_mcp.dialer.dispatch import INTERRUPTED, Dispatch, Ended
from batchcall_mcp.dialer.records import Clock
from batchcall_mcp.model import TaskStatus

LOG = logging.getLogger(__name__)
POLL_SECONDS: Final = 0.5
"""How late another process's write may be noticed; a write in this process wakes the engine at once."""
RETRY_SECONDS: Final = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Claimed:
    started: list[Attempt]
    since: datetime
    idle: bool
    next_at: datetime | None


class Engine:
    """Claims what is due, has the carrier dial it, and writes down what came of it.

    Args:
        dispatch: the transactions.
        carrier: what dials.
        clock: the same one as the store's.
        before_claims: called in the worker thread before anything is claimed.
        poll_seconds: see POLL_SECONDS.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        carrier: Carrier,
        *,
        clock: Clock,
        before_claims: Callable[[], None],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._dispatch = dispatch
        self._carrier = carrier
        self._clock = clock
        self._before_claims = before_claims
        self._poll_seconds = poll_seconds
        self._live: dict[str, tuple[Attempt, asyncio.Task[None]]] = {}
        self._ended: list[Ended] = []
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._thread = ThreadPoolExecutor(1, "batchcall-dialer")

    def wake(self) -> None:
        """Look for work now. May be called from any thread."""
        self._loop.call_soon_threadsafe(self._wake.set)

    def stop(self) -> None:
        """Place no further call; `run` then ends."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Dispatch until `stop`; what a dead engine left without an outcome is first marked `interrupted`."""
        try:
            await self._insist(self._dispatch.interrupt_open_attempts)
            while not self._stopping:
                self._wake.clear()
                await self._turn()
        finally:
            self._stopping = True
            await self._hang_up()

    async def _insist(self, work: Callable[..., T], *args: object) -> T:
        """Run `work` in the thread until the database takes it: an outcome that is known must not be lost."""
        while True:
            try:
                return await self._loop.run_in_executor(self._thread, work, *args)
            except sa.exc.OperationalError as error:
                if self._stopping:
                    raise
                LOG.warning("The dialer's database does not work; nothing is dialled until it does: %s", error.orig)
                await asyncio.sleep(RETRY_SECONDS)

    async def _turn(self) -> None:
        ended = self._ended.copy()
        claimed = await self._insist(self._claim, ended, self._carrier.capacity - len(self._live))
        del self._ended[: len(ended)]
        if claimed.started:
            placed: dict[str, Attempt] = {}
            await self._insist(self._place, claimed, placed)
            for attempt in placed.values():
                self._live[attempt.attempt_id] = attempt, self._loop.create_task(self._follow(attempt))
        elif claimed.idle and not (self._ended or self._stopping):
            await self._sleep(claimed.next_at)

    def _claim(self, ended: list[Ended], room: int) -> _Claimed:
        self._before_claims()
        work = self._dispatch.look(room)
        since = self._clock()
        due = tuple(dict.fromkeys((*work.due, *(end.batch_call_id for end in ended))))
        started = self._dispatch.record_and_claim(ended, due, room) if due else []
        return _Claimed(started, since, idle=not due, next_at=work.next_at)

    def _place(self, claimed: _Claimed, placed: dict[str, Attempt]) -> None:
        """Have the carrier dial; what a first try `placed` before the database failed is not asked for again."""
        waiting = [attempt for attempt in claimed.started if attempt.attempt_id not in placed]
        with self._dispatch.placing(waiting, claimed.since, lambda: not self._stopping) as may_dial:
            for attempt in may_dial:
                placed[attempt.attempt_id] = attempt
                self._carrier.place(attempt)

    async def _follow(self, attempt: Attempt) -> None:
        try:
            outcome = await self._carrier.outcome(attempt)
            status, error = outcome.status, outcome.error
        except Exception:
            LOG.exception("The carrier lost attempt %s", attempt.attempt_id)
            status, error = TaskStatus.FAILED, "the carrier lost the call"
        del self._live[attempt.attempt_id]
        self._ended.append(Ended(attempt.task_id, attempt.n, attempt.batch_call_id, status, error))
        self._wake.set()

    async def _sleep(self, until: datetime | None) -> None:
        seconds = self._poll_seconds
        if until is not None:
            seconds = min(seconds, max(0.0, (until - self._clock()).total_seconds()))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def _hang_up(self) -> None:
        """Write down what is known; whoever is still on the line is cut off, and says so as `interrupted`."""
        for attempt, follower in self._live.values():
            follower.cancel()
            self._carrier.hang_up(attempt)
            self._ended.append(
                Ended(attempt.task_id, attempt.n, attempt.batch_call_id, TaskStatus.INTERRUPTED, INTERRUPTED)
            )
        self._live.clear()
        try:
            if self._ended:
                await self._loop.run_in_executor(self._thread, self._dispatch.record_and_claim, self._ended, (), 0)
        finally:
            # The lock goes to somebody else after this: no transaction of ours may still be under way.
            self._thread.shutdown()
