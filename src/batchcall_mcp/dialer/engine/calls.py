"""The calls in progress of one engine: each ends with what came of it, or goes on when this process ends."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import sqlalchemy as sa

from batchcall_mcp.clock import Clock
from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    Carrier,
    CarrierUnavailable,
    NoLongerWanted,
    NotCallable,
    Outcome,
)
from batchcall_mcp.dialer.domain.predial import Patience, Verdict
from batchcall_mcp.dialer.engine import claims
from batchcall_mcp.dialer.engine.dispatch import CARRIER_RESTS, Dispatch, HoursEnd, Unplaced
from batchcall_mcp.dialer.engine.left_calls import LeftCall
from batchcall_mcp.dialer.engine.outcomes import INTERRUPTED, LONGEST_SUMMARY, Ended
from batchcall_mcp.dialer.engine.rate_pacing import LEAVES_WITHIN
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.text import shortened

LOG = logging.getLogger(__name__)
LOST: Final = "the carrier failed while it was asked to dial; whether the phone rang is not known"
_TICK_S: Final = 0.1
_TICKS_TO_BEGIN: Final = 20
_TICKS_TO_WRITE: Final = 100
"""How long a batch call is held while a request begins to leave, and then while its bytes do. In ticks: a process that
was stopped for an hour, and goes on, has as much time as one that was not."""
_LONGEST_WAIT_S: Final = 3.0
"""For the account's next call, with a connection that is open."""
_LONGEST_REST: Final = timedelta(hours=1)

Over: TypeAlias = Ended | Unplaced
"""What came of an attempt."""


class _Unused(Exception):
    """No request left with this permit."""


class _Permit:
    """That a request may leave. A thread holds the batch call from the moment at which it may until it has; whoever
    comes too late for that, because the process was stopped for example, has to ask again.
    """

    def __init__(self) -> None:
        self.wait: Final = Future[float]()
        self._asked_at: datetime | None = None
        self._lock = threading.Lock()
        self._is_begun = self._is_over = False
        self._written = threading.Event()

    def grant(self, wait: float, asked_at: datetime) -> None:
        """`wait`: seconds until it has to be asked for again; 0: the request may leave. By the thread."""
        self._asked_at = asked_at
        self.wait.set_result(wait)

    def begin(self, now: datetime) -> bool:
        """Whether the request may leave now. By the event loop, just before it does."""
        with self._lock:
            soon = self._asked_at is not None and abs(now - self._asked_at) < LEAVES_WITHIN
            self._is_begun = soon and not self._is_over
            return self._is_begun

    def end(self) -> None:
        """The request has left, or does not. By the event loop."""
        self._written.set()

    def hold(self) -> None:
        """Wait until the request has left. By the thread.

        Raises:
            _Unused: none does any more.
        """
        self._wait(_TICKS_TO_BEGIN)
        with self._lock:
            self._is_over = True
            if not self._is_begun:
                raise _Unused
        if not self._wait(_TICKS_TO_WRITE):
            LOG.warning("A request for a call leaves slowly; its batch call is no longer held meanwhile")

    def _wait(self, ticks: int) -> bool:
        return any(self._written.wait(_TICK_S) for _ in range(ticks))


class CallLine:
    """See `carriers.base.Line`.

    `may_have_rung`: a request for the call was let through, by this process or before. `is_known`: the vendor's id is.
    """

    def __init__(
        self, attempt: Attempt, dispatch: Dispatch, threads: ThreadPoolExecutor, left: LeftCall | None = None
    ) -> None:
        self.call_id: Final = None if left is None else left.call_id
        self.asked_since: Final = None if left is None else left.since
        self.may_have_rung = left is not None
        self.is_known = self.call_id is not None
        self._attempt = attempt
        self._dispatch = dispatch
        self._threads = threads

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        permit = await self._permitted()
        self.may_have_rung = True
        try:
            yield
        finally:
            permit.end()

    async def _permitted(self) -> _Permit:
        while True:
            permit = _Permit()
            self._threads.submit(self._hold, permit)
            try:
                wait = await asyncio.wrap_future(permit.wait)
                begins = not wait and permit.begin(self._dispatch.store.clock())
            except BaseException:
                permit.end()
                raise
            if begins:
                return permit
            permit.end()
            if wait > _LONGEST_WAIT_S:
                raise NoLongerWanted("the carrier's account is to be left alone")
            await asyncio.sleep(wait)

    def _hold(self, permit: _Permit) -> None:
        if not permit.wait.set_running_or_notify_cancel():
            return
        try:
            asked_at = self._dispatch.store.clock()
            with self._dispatch.sending(self._attempt) as wait:
                permit.grant(wait, asked_at)
                if not wait:
                    permit.hold()
        except _Unused:
            LOG.debug("a request for a call came too late for its permit")
        except Exception as error:  # noqa: BLE001 - whatever it is, the request must know
            if permit.wait.done():  # it has left, and whoever reads it by its id will see so
                LOG.warning("That a call has begun is not written down: %s", type(error).__name__)
            elif isinstance(error, NoLongerWanted):
                permit.wait.set_exception(error)
            else:
                LOG.warning("A call is not asked for, because the database does not work: %s", type(error).__name__)
                permit.wait.set_exception(NoLongerWanted("the dialer's database does not work"))

    async def placed(self, call_id: str) -> None:
        self.is_known = True
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._threads, self._dispatch.placed, self._attempt, call_id
            )
        except sa.exc.SQLAlchemyError as error:  # a process that goes on looks it up
            LOG.warning("The id of a call is not written down: %s", type(error).__name__)


class Calls:
    """All of them run on one event loop, from whichever their lanes ask: a carrier's connections belong to it."""

    def __init__(self, carrier: Carrier, dispatch: Dispatch, loop: asyncio.AbstractEventLoop) -> None:
        self._carrier = carrier
        self._dispatch = dispatch
        self.loop: Final = loop
        # One is enough: those of an account leave one after the other.
        self._threads = ThreadPoolExecutor(1, "batchcall-sending")
        self._live: dict[str, asyncio.Task[object]] = {}
        self._lost: set[str] = set()
        self._cutting = False

    def __len__(self) -> int:
        return len(self._live)

    def lost(self, attempt: Attempt) -> None:
        """The carrier failed while it was asked to dial: nobody waits for its outcome."""
        self._lost.add(attempt.attempt_id)

    def cut(self) -> None:
        """End them now. From any thread; those of a carrier that keeps its calls go on without this process."""

        def cut() -> None:
            self._cutting = True
            for call in self._live.values():
                call.cancel()

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(cut)

    def close(self) -> None:
        """None of them is left."""
        self._threads.shutdown()

    async def until_over(self, attempt: Attempt, left: LeftCall | None = None) -> Over | None:
        """What came of a call, one that a process has `left` too; None: it goes on without this process."""
        if asyncio.get_running_loop() is self.loop:
            return await self._until_over(attempt, left)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._until_over(attempt, left), self.loop))

    async def _until_over(self, attempt: Attempt, left: LeftCall | None) -> Over | None:
        if attempt.attempt_id in self._lost:
            self._lost.discard(attempt.attempt_id)
            return _interrupted(attempt, LOST)
        line = CallLine(attempt, self._dispatch, self._threads, left)
        call = self.loop.create_task(self._carrier.outcome(attempt, line))
        self._live[attempt.attempt_id] = call
        if self._cutting:
            call.cancel()
        try:
            return Ended.of(attempt, await call)
        except asyncio.CancelledError:
            return self._cut_off(attempt, line)
        except Exception as error:  # noqa: BLE001 - whatever a carrier raises, everybody else's calls go on
            return self._failed(attempt, line, error)
        finally:
            del self._live[attempt.attempt_id]

    def _failed(self, attempt: Attempt, line: CallLine, error: Exception) -> Over:
        """What it means that a carrier raised this."""
        if isinstance(error, NoLongerWanted):
            if line.may_have_rung:
                return _interrupted(attempt, f"it was asked for once, and {error}")
            until = error.until if isinstance(error, HoursEnd) else None
            return Unplaced(attempt=attempt, until=until, held_by="calling_hours")
        if isinstance(error, AccountAtFault | CarrierUnavailable | NotCallable):
            if line.asked_since is not None and not line.is_known:  # it says nothing of what an earlier process did
                return _interrupted(attempt, f"the dialer stopped while it asked for the call, and then: {error}")
            return unplaced(attempt, error, self._dispatch.store.clock)
        LOG.error("The carrier lost attempt %s", attempt.attempt_id, exc_info=error)
        if line.may_have_rung:
            return _interrupted(attempt, LOST)
        return Ended.of(attempt, Outcome(TaskStatus.FAILED, "the carrier lost the call"))

    def _cut_off(self, attempt: Attempt, line: CallLine) -> Over | None:
        if not self._carrier.calls_outlive_us:
            return _interrupted(attempt, INTERRUPTED)
        return None if line.may_have_rung else Unplaced(attempt=attempt)


def unplaced(attempt: Attempt, error: AccountAtFault | CarrierUnavailable | NotCallable, clock: Clock) -> Unplaced:
    """What it means that a carrier rang nobody."""
    why = shortened(str(error), LONGEST_SUMMARY)
    if isinstance(error, NotCallable):
        return Unplaced(attempt=attempt, reason=why, never=True)
    if isinstance(error, AccountAtFault):
        return Unplaced(attempt=attempt, reason=why, at_fault=True)
    asked = timedelta(seconds=min(error.retry_after or 0, _LONGEST_REST.total_seconds()))
    until: datetime = clock() + max(CARRIER_RESTS, asked)
    reason = f"{why}; tried again not before {until.isoformat(timespec='seconds')}"
    return Unplaced(attempt=attempt, reason=reason, until=until, whole_account=error.whole_account)


def held_by_gate(patience: Patience, attempt: Attempt, verdict: Verdict, now: datetime) -> Unplaced | None:
    """Why the gate before each dial does not let a call through; None: it does."""
    reason = verdict.reason or "no reason given"
    if verdict.said == "nothing":
        until, went_down = patience.unclear(attempt.task_id, reason, now)
        if went_down:
            LOG.warning("The pre-dial gate gives no clear answer (%s); calls wait, and are tried again", reason)
        return Unplaced(attempt=attempt, reason=claims.asked_again(reason, until), held_by="predial", until=until)
    if patience.clear(attempt.task_id):
        LOG.warning("The pre-dial gate answers again; dialling goes on.")
    if verdict.said == "no":
        return Unplaced(attempt=attempt, reason=f"the pre-dial gate refused it: {reason}", never=True)
    return None


def _interrupted(attempt: Attempt, why: str) -> Ended:
    return Ended.of(attempt, Outcome(TaskStatus.INTERRUPTED, shortened(why, LONGEST_SUMMARY)))
