"""The whole dialer in one object: REST API, database, and the engine if no other process runs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import timedelta
from hmac import compare_digest
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import sqlalchemy as sa
from fastapi import FastAPI
from filelock import FileLock, Timeout

from batchcall_mcp.calling_hours import parse_calling_hours
from batchcall_mcp.clock import Clock, utc_now
from batchcall_mcp.dialer.carriers import registry
from batchcall_mcp.dialer.carriers.base import Carrier, ReportsCalls
from batchcall_mcp.dialer.carriers.simulated import CARRIER_RECORD, SimulatedCarrier
from batchcall_mcp.dialer.engine import heartbeat
from batchcall_mcp.dialer.engine.engine import AWAY, BACK, OUTAGE, POLL_SECONDS
from batchcall_mcp.dialer.engine.heartbeat import BEAT_SECONDS
from batchcall_mcp.dialer.engine.supervisor import EngineOptions, Supervisor
from batchcall_mcp.dialer.rest import do_not_call_routes, webhook_routes
from batchcall_mcp.dialer.rest.account.placing import Placing
from batchcall_mcp.dialer.rest.health import STALLED_S, EngineHealth
from batchcall_mcp.dialer.rest.routes import ApiDependencies, build_app
from batchcall_mcp.dialer.rest.service import Service
from batchcall_mcp.dialer.rest.webhook_service import WebhookService
from batchcall_mcp.dialer.retention import Retention
from batchcall_mcp.dialer.storage import api_keys, do_not_call, installation
from batchcall_mcp.dialer.storage.api_keys import LOCAL
from batchcall_mcp.dialer.storage.do_not_call import DoNotCallFiles
from batchcall_mcp.dialer.storage.store import Store, database_location
from batchcall_mcp.dialer.webhooks import carrier_events
from batchcall_mcp.dialer.webhooks.delivery import Deliveries
from batchcall_mcp.dialer.webhooks.predial import PredialGate, PredialUrl
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.held_files import HeldFile
from batchcall_mcp.notifications.events import Tell, tell_nobody
from batchcall_mcp.settings import STOP_FILE, Settings
from batchcall_mcp.signed_http.url_policy import WebhookAddresses

if TYPE_CHECKING:
    from batchcall_mcp.dialer.rest.rate_limiter import Limiter

LOG = logging.getLogger(__name__)
DAILY_CAP: Final = 3
CAPACITY: Final = 50
RETRY_DELAY: Final = timedelta(minutes=5)
"""Before a redial that no retry rule times; of the simulator, whose time runs faster, it is divided by its speed."""
MIN_GAP: Final = timedelta(minutes=15)
LOCK_RETRY_SECONDS: Final = 1.0
LATE_AFTER: Final = timedelta(hours=1)


@runtime_checkable
class _Closes(Protocol):
    """A carrier with connections of its own."""

    async def aclose(self) -> None: ...


class EmbeddedDialer:
    """Cheap to make; `start` opens the database and dispatches.

    Any number of processes may run one on the same database, and all of them serve. On PostgreSQL all of them dial; on
    a SQLite file the one that holds its lock does, and when it ends another goes on. See EngineOptions for the rest.

    Args:
        data_dir: holds the database, its lock and the record of what the carrier dialled; made if it is not there.
        database: a SQLite file, or the URL of a PostgreSQL database; `dialer.db` in data_dir if not given.
        do_not_call: files of numbers that are never dialled; each is read again when it changes.
        countries: ISO 3166 codes of those that real phones may be rung in; None: those of the caller numbers.
        calling_hours: local hours `HH:MM-HH:MM` for batch calls that give none.
        carrier: what it dials through; None: the simulator, with `simulated_speed` and `capacity` (most calls at once).
        limiter: how many requests are taken; none if the only caller is this process.
        min_gap: between dials of one number by different batch calls of an organisation, if the carrier places real
            calls.
        test_numbers: those that a test call (`test_of`) may dial whatever the daily cap and `min_gap` say.
        predial: who is asked before each dial; None: nobody.
        tell: gets a notice of each batch call that is late or over.
        retention: how long after their batch call people are erased; None: never.
        public_url: where the carrier's vendor finds this app, to report calls by itself; None: it does not.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        carrier: Carrier | None = None,
        countries: frozenset[str] | None = None,
        simulated_speed: float = 20,
        database: Path | str | None = None,
        do_not_call: Sequence[Path] = (),
        default_region: str | None = None,
        calling_hours: str = "08:00-21:00",
        daily_cap: int = DAILY_CAP,
        clock: Clock = utc_now,
        poll_seconds: float = POLL_SECONDS,
        drain_seconds: float = 0,
        capacity: int = CAPACITY,
        webhook_addresses: WebhookAddresses | None = None,
        limiter: Limiter | None = None,
        beat_seconds: float = BEAT_SECONDS,
        late_after: timedelta | None = LATE_AFTER,
        min_gap: timedelta = MIN_GAP,
        test_numbers: Iterable[str] = (),
        predial: PredialUrl | None = None,
        tell: Tell = tell_nobody,
        public_url: str | None = None,
        retention: timedelta | None = None,
    ) -> None:
        self.credentials: Final = api_keys.new_pair()
        self._database = database or data_dir / "dialer.db"
        self._stop_file = data_dir / STOP_FILE
        self._clock = clock
        self._webhook_addresses = webhook_addresses or WebhookAddresses()
        self._predial = predial
        self._tell = tell
        self._retention = retention
        self._record = data_dir / CARRIER_RECORD
        self._do_not_call = DoNotCallFiles(do_not_call, default_region)
        self._carrier: Final[Carrier] = carrier or SimulatedCarrier(
            data_dir / CARRIER_RECORD, speed=simulated_speed, clock=clock, capacity=capacity
        )
        simulator = self._carrier if isinstance(self._carrier, SimulatedCarrier) else None
        self._simulator: Final = simulator
        # With the simulated carrier no gap: no phone rings, and two batch calls to one sample list both dial.
        gap = min_gap if self._carrier.places_real_calls else timedelta(0)
        self._options = EngineOptions(
            daily_cap=daily_cap,
            retry_delay=RETRY_DELAY if simulator is None else RETRY_DELAY / simulated_speed,
            min_gap=gap,
            late_after=late_after,
            poll_seconds=poll_seconds,
            drain_seconds=drain_seconds,
            beat_seconds=beat_seconds,
            test_numbers=frozenset(test_numbers),
        )
        self._store: Store | None = None
        self._lock_file: HeldFile | None = None
        self._opening = threading.Lock()
        self._starting = asyncio.Lock()
        self._closing = asyncio.Event()
        self._settled = asyncio.Event()
        self._holder: asyncio.Task[None] | None = None
        self._supervisor: Supervisor | None = None
        self._away = False
        self._failures = 0
        self._dials = False
        self._worked_at = 0.0
        self._unusable: str | None = None
        placing = Placing(self._carrier, countries)
        service = Service(self.store, placing, parse_calling_hours(calling_hours), daily_cap, gap, self._written)
        dependencies = ApiDependencies(service, self.verify, self._engine_health, limiter)
        self.app: Final[FastAPI] = build_app(dependencies, self._lifespan)
        do_not_call_routes.install(self.app, self.store)
        webhook_routes.install(self.app, WebhookService(self.store, self._webhook_addresses))
        if public_url is not None and isinstance(self._carrier, ReportsCalls):
            stranger = carrier_events.anybody if limiter is None else limiter.unknown
            carrier_events.install(self.app, self._carrier, self.store, public_url, stranger=stranger)

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        drain_seconds: float = 0,
        limiter: Limiter | None = None,
        tell: Tell = tell_nobody,
    ) -> EmbeddedDialer:
        """The dialer that the settings describe, not started.

        Raises:
            ConfigurationError: its carrier is unknown, or lacks a setting.
        """
        return cls(
            settings.data_dir,
            database=database_location(settings),
            carrier=registry.carrier_of(settings),
            countries=settings.countries,
            drain_seconds=drain_seconds,
            webhook_addresses=WebhookAddresses.of(settings),
            limiter=limiter,
            simulated_speed=settings.simulated_speed,
            do_not_call=settings.do_not_call,
            default_region=settings.default_region,
            calling_hours=settings.calling_hours,
            late_after=timedelta(minutes=settings.late_start_minutes) or None,
            min_gap=timedelta(minutes=settings.min_gap_minutes),
            test_numbers=settings.test_numbers,
            predial=PredialUrl.of(settings),
            tell=tell,
            public_url=settings.public_url,
            retention=None if settings.retention_days is None else timedelta(days=settings.retention_days),
        )

    def store(self) -> Store:
        """The database; the first call opens it. Blocks."""
        with self._opening:
            if self._store is None:
                self._store = Store.open(self._database, self._clock, self._stop_file, self._tell)
                self._store.asks_gate = self._predial is not None
                self._store.watch(lambda: self._lock_file)
                if self._simulator is not None:
                    self._store.watch(self._simulator.held_file)
            return self._store

    def verify(self, api_key: str, api_secret: str) -> str | None:
        """The organisation of a key pair, or None. Blocks for one look into the database."""
        mine = (
            compare_digest(given.encode(), own.encode())
            for given, own in zip((api_key, api_secret), self.credentials, strict=True)
        )
        return LOCAL if all(list(mine)) else api_keys.organization_of(self.store(), api_key, api_secret)

    def load_do_not_call(self, store: Store) -> None:
        """Store the numbers of the do-not-call files. Blocks.

        Raises:
            ConfigurationError: one of them cannot be read.
        """
        self._do_not_call.load(store)

    async def start(self) -> None:
        """Open the database and dispatch, now if nobody else does, or as soon as nobody else does. Idempotent.

        Raises:
            ConfigurationError: a do-not-call file cannot be read, or the database's role lacks a privilege.
        """
        async with self._starting:
            if self._holder is not None:
                return
            store = await asyncio.to_thread(self.store)
            await asyncio.to_thread(store.check_privileges)
            await asyncio.to_thread(self.load_do_not_call, store)
            if self._predial is not None:
                await asyncio.to_thread(_note_the_gate, store)
            self._closing.clear()
            self._settled.clear()
            self._dials = False
            self._holder = asyncio.get_running_loop().create_task(self._hold(store))
            await self._settled.wait()

    async def aclose(self) -> None:
        """Place no further call and let another process take over; calls in progress are `interrupted`."""
        async with self._starting:
            holder, self._holder = self._holder, None
            if holder is not None:
                self._closing.set()
                await holder
                self._dials = False
            if self._store is not None:
                self._store.close()
                self._store = None
            if self._simulator is not None:
                self._simulator.close()
            elif isinstance(self._carrier, _Closes):
                await self._carrier.aclose()

    @property
    def carrier(self) -> Carrier:
        """What it dials through."""
        return self._carrier

    async def _hold(self, store: Store) -> None:
        lock = None if store.shared else self._engine_lock()
        while not self._closing.is_set():
            try:
                if lock is not None:
                    lock.acquire(timeout=0)
                    self._lock_file = HeldFile.at(Path(lock.lock_file))
            except Timeout:
                self._dials = False
                await self._pause()
                continue
            if lock is not None and await self._may_not_dial(store):
                self._dials, self._lock_file = False, None
                lock.release()  # for a process that may
                await self._pause()
                continue
            if not self._dials:
                self._dials, self._worked_at = True, monotonic()
            try:
                await self._dispatch(store)
            except Exception as error:  # noqa: BLE001 - it is said, and the engine starts again
                await self._say(error, store)
                await self._pause()
            finally:
                self._supervisor = None
                self._lock_file = None
                if lock is not None:
                    lock.release()
        self._settled.set()

    async def _may_not_dial(self, store: Store) -> bool:
        """Whether it is this process that may not dial, for lack of the gate for example; said once."""
        try:
            halt = await asyncio.to_thread(store.halted)
        except OUTAGE:  # the engine waits for the database itself
            return False
        if halt is None or not halt.of_process:
            return False
        await self._say(ConfigurationError(str(halt)), store)
        return True

    async def _say(self, error: Exception, store: Store) -> None:
        """Why the engine has ended, once for what goes on; what nobody expected is counted too."""
        if isinstance(error, OUTAGE):  # while it launched or closed; else the engine waits for the database itself
            if not self._away and not self._closing.is_set():
                LOG.warning(AWAY, getattr(error, "orig", error))
            self._away = True
        elif isinstance(error, ConfigurationError):
            if error.message != self._unusable:
                LOG.error("%s", error)
            self._unusable = error.message
        else:
            LOG.error("The dialer's engine failed; it starts again", exc_info=error)
            self._failures += 1
            with contextlib.suppress(sa.exc.SQLAlchemyError):  # the log has it, and this process's own count
                await asyncio.to_thread(heartbeat.count_failure, store)

    def _engine_lock(self) -> FileLock:
        """Next to the file itself: a link to it is the same database."""
        return FileLock(f"{os.path.realpath(self._database)}.engine.lock", thread_local=False)

    async def _dispatch(self, store: Store) -> None:
        own = await asyncio.to_thread(store.for_dialling)
        try:
            await self._dispatch_from(own, store)
        finally:
            if own is not store:
                await asyncio.to_thread(own.close)

    async def _dispatch_from(self, own: Store, store: Store) -> None:
        await asyncio.to_thread(self._do_not_call.forget_others, own)
        loop = asyncio.get_running_loop()
        gate = None if self._predial is None else PredialGate(self._predial, self._clock, loop)
        supervisor = Supervisor(
            own,
            self._carrier,
            self._options,
            before_claims=lambda: self._do_not_call.refresh(own),
            worked=self._worked,
            gate=gate,
        )

        def launched() -> None:
            self._supervisor = supervisor
            self._settled.set()
            if self._away:
                self._away = False
                LOG.warning(BACK)

        deliveries = Deliveries(store, self._webhook_addresses)
        sending = loop.create_task(deliveries.run())
        erasing = None
        if self._retention is not None:
            erasing = loop.create_task(Retention(store, self._retention, self._record).run())
        try:
            await supervisor.run(self._closing, launched)
        finally:
            if gate is not None:
                gate.close()
            deliveries.stop()
            await sending
            if erasing is not None:
                erasing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await erasing

    async def _pause(self) -> None:
        self._settled.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), LOCK_RETRY_SECONDS)

    def _written(self) -> None:
        if (supervisor := self._supervisor) is not None:
            supervisor.engine.wake()

    def _engine_state(self) -> str:
        return "running" if self._supervisor is not None else "standby"

    def _worked(self) -> None:
        self._worked_at = monotonic()

    def _engine_health(self) -> EngineHealth:
        stalled = self._dials and monotonic() - self._worked_at > STALLED_S
        return EngineHealth(self._engine_state(), self._failures, stalled=stalled)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        await self.start()
        try:
            yield
        finally:
            with self._hurried_by_a_signal():
                await self.aclose()

    @contextlib.contextmanager
    def _hurried_by_a_signal(self) -> Iterator[None]:
        """A second signal cuts off the calls in progress."""
        supervisor = self._supervisor
        in_main_thread = threading.current_thread() is threading.main_thread()
        if supervisor is None or not self._options.drain_seconds or not in_main_thread:
            yield
            return

        def hurry(_number: int, _frame: FrameType | None) -> None:
            supervisor.engine.cut()

        before = {number: signal.signal(number, hurry) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _note_the_gate(store: Store) -> None:
    """Before anything dials: from now on nobody is dialled from this database without being asked about."""
    with store.reading() as look:
        if installation.is_gated(look):
            return
    with store.writing() as tx:
        do_not_call.hold(tx)  # the last dial of a process without it is over
        if installation.set_gated(tx, gated=True):
            LOG.info("Each call is asked about at the gate; a process without it dials nothing from this database.")
