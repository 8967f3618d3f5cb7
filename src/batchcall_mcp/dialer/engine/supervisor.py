"""Runs one engine with its lanes, from launch to hand-over, and takes over the work of processes that died."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.clock import utc_now
from batchcall_mcp.dialer.carriers.base import Carrier
from batchcall_mcp.dialer.carriers.gate import Gate
from batchcall_mcp.dialer.engine import heartbeat, lateness
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from batchcall_mcp.dialer.engine.engine import POLL_SECONDS, Engine
from batchcall_mcp.dialer.engine.lanes.opening import DbosLanes, Lanes, LocalLanes
from batchcall_mcp.dialer.engine.rate_pacing import AccountPace
from batchcall_mcp.dialer.storage.store import Store

if TYPE_CHECKING:
    from batchcall_mcp.dialer.engine.lanes.dbos_queue import DbosQueue

LOG = logging.getLogger(__name__)
_TIDY_EVERY_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How an engine dials. See `Dispatch` for the rules.

    Attributes:
        late_after: for how long due calls may be missed while no engine runs before their batch call is paused; None:
            however long.
        poll_seconds: how late another process's write may be noticed.
        drain_seconds: how long calls in progress may go on after `closing`, before they are cut off.
        test_numbers: see `Dispatch`.
        beat_seconds: how often a process that dials on PostgreSQL says that it lives; the same in all of them.
    """

    daily_cap: int
    retry_delay: timedelta
    min_gap: timedelta = timedelta(0)
    late_after: timedelta | None = None
    poll_seconds: float = POLL_SECONDS
    drain_seconds: float = 0
    beat_seconds: float = heartbeat.BEAT_SECONDS
    test_numbers: frozenset[str] = frozenset()


class Supervisor:
    """One engine in this process, which dials until it is stopped.

    On a SQLite file the caller holds the engine's lock; on PostgreSQL there may be any number. `before_claims` and
    `worked` are the engine's, and so is `gate`.
    """

    def __init__(
        self,
        store: Store,
        carrier: Carrier,
        options: EngineOptions,
        *,
        before_claims: Callable[[], None],
        worked: Callable[[], None] = lambda: None,
        gate: Gate | None = None,
        dispatch: type[Dispatch] = Dispatch,
    ) -> None:
        self.worker_id: Final = f"worker_{secrets.token_hex(8)}"
        self._store = store
        self._carrier = carrier
        self._options = options
        pace = None
        if carrier.calls_per_second is not None:
            pace = AccountPace(carrier.name, carrier.capacity, carrier.calls_per_second)
        self._dispatch = dispatch(
            store,
            self.worker_id,
            daily_cap=options.daily_cap,
            retry_delay=options.retry_delay,
            capacity=carrier.capacity if store.shared else None,
            min_gap=options.min_gap,
            pause_on_failures=carrier.places_real_calls,
            test_numbers=options.test_numbers,
            carrier=carrier.name,
            account=pace,
        )
        self.engine: Final = Engine(
            self._dispatch,
            store,
            carrier,
            before_claims=before_claims,
            poll_seconds=options.poll_seconds,
            late_after=options.late_after,
            worked=worked,
            gate=gate,
        )
        self._watch = heartbeat.Watch()
        self._clocks = database.ClockWatch(utc_now)

    async def run(self, closing: asyncio.Event, launched: Callable[[], None]) -> None:
        """Dial until `closing`. `launched` is called when it does."""
        await asyncio.to_thread(self._take_up)
        loop = asyncio.get_running_loop()
        queue = DbosLanes(self._launch, self.engine.wake) if self._store.shared else None
        lanes: Lanes = queue or LocalLanes(self.engine.lane, loop)
        # Threads of its own: the default pool may be full of requests that wait for the engine's transactions.
        threads = ThreadPoolExecutor(2, "batchcall-dialer")
        engine: asyncio.Future[None] = loop.run_in_executor(threads, self.engine.run, lanes)
        closed = loop.create_task(closing.wait())
        companions: list[asyncio.Task[Any]] = [closed]
        if queue is not None:
            companions.append(loop.create_task(self._beat(queue, threads)))
        launched()
        try:
            either: set[asyncio.Future[Any]] = {engine, closed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            self.engine.stop()
            if self._options.drain_seconds and self.engine.calls:
                LOG.warning(
                    "Ending: no further call is placed; %d in progress may go on for up to %g s.",
                    self.engine.calls,
                    self._options.drain_seconds,
                )
            await asyncio.wait({engine}, timeout=self._options.drain_seconds)
            self.engine.cut()
            await engine
        finally:
            # Also when it was cancelled: neither the engine nor a sign of life may go on after the hand-over.
            self.engine.cut()
            for task in companions:
                task.cancel()
            await asyncio.gather(*companions, return_exceptions=True)
            await asyncio.to_thread(threads.shutdown)
            await asyncio.to_thread(self.engine.close)
            await asyncio.to_thread(self._hand_over, lanes)

    def _take_up(self) -> None:
        """Be one of those that dial."""
        if not self._store.shared:
            self._dispatch.take_up()
        if self._dispatch.halted() is None and self._options.late_after is not None:
            # Before the calls are marked that a process left: a redial of them is late too.
            lateness.judge(self._store, self._carrier.name, self._options.late_after)
        if not self._store.shared and not self._carrier.calls_outlive_us:
            # The process that holds the file's lock is alone: all others are gone, whatever they left.
            self._dispatch.interrupt_others()
        living = heartbeat.beat(self._store, self.worker_id, self._carrier.capacity)
        if not self._store.shared:
            heartbeat.forget(self._store, list(living))

    def _launch(self) -> DbosQueue:
        from batchcall_mcp.dialer.engine.lanes.dbos_queue import DbosQueue

        queue = DbosQueue(
            self._store,
            self.worker_id,
            capacity=self._carrier.capacity,
            poll_seconds=self._options.poll_seconds,
            run_lane=self.engine.lane,
            carrier=self._carrier.name,
        )
        try:
            queue.take_over(heartbeat.listed(self._store))
        except BaseException:
            queue.close()
            raise
        return queue

    async def _beat(self, lanes: DbosLanes, threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        tidied = monotonic()
        while True:
            await asyncio.sleep(self._options.beat_seconds)
            try:
                await loop.run_in_executor(threads, self._look_after_the_others, lanes)
                if (launched := lanes.launched) and monotonic() - tidied > _TIDY_EVERY_S:
                    tidied = monotonic()
                    await loop.run_in_executor(threads, launched.tidy)
            except sa.exc.SQLAlchemyError as error:  # gone, or all connections are in use
                LOG.debug("no sign of life could be given, nor seen: %s", type(error).__name__)
            except Exception:  # who gives no more signs of life is taken for dead, and others dial its people
                LOG.exception("Looking after the other processes failed; it is tried again")

    def _look_after_the_others(self, lanes: DbosLanes) -> None:
        beats = heartbeat.beat(self._store, self.worker_id, self._carrier.capacity)
        if self._clocks.is_due:
            with self._store.reading() as tx:
                self._clocks.off(tx)
        dead = self._watch.dead(beats)
        if dead:
            heartbeat.forget(self._store, dead)
        # Also those of a process whose taker-over died in the meantime.
        interrupted = 0 if self._carrier.calls_outlive_us else self._dispatch.interrupt_orphans()
        self.engine.look_for_left_calls()
        if dead or interrupted:
            # A process that has not dialled yet opens lanes of its own for what is left.
            launched = lanes.launched
            resumed = launched.take_over(beats.keys() - set(dead)) if launched else 0
            LOG.warning(
                "%d dialling process(es) died; %d calls in progress are marked interrupted, %d lanes taken over.",
                len(dead),
                interrupted,
                resumed,
            )
            self.engine.wake()

    def _hand_over(self, lanes: Lanes) -> None:
        """Leave nothing behind that is not known to be over."""
        try:
            with contextlib.suppress(sa.exc.SQLAlchemyError):  # the engine that goes on finds it by itself
                if not self._carrier.calls_outlive_us:
                    self._dispatch.interrupt([self.worker_id])
                heartbeat.forget(self._store, [self.worker_id])
        finally:
            lanes.close()
