"""`batchcall-mcp dialer`: the dialer as a server of its own, and its keys."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import multiprocessing.process
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any, Final

import anyio
import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.carriers.base import Carrier, HasAccount
from batchcall_mcp.dialer.rest.rate_limiter import Limiter
from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.storage.api_keys import KeyPair
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.notifications.events import tell_nobody
from batchcall_mcp.notifications.notifier import Notifier
from batchcall_mcp.settings import Settings
from batchcall_mcp.sockets import bound_socket, url_of

LOG = logging.getLogger(__name__)
_NOT_STARTED: Final = 3
_LONGEST_SILENCE: Final = 120
"""Rounds of half a second, in which a worker may answer nothing: because it is being imported, on a busy machine."""


def serve(
    settings: Settings,
    prepare: Callable[[Settings], None],
    *,
    host: str,
    port: int,
    workers: int = 1,
    drain_seconds: float = 0,
) -> None:
    """Serve and dial until SIGINT or SIGTERM. On the first start one key pair is made, or taken from the settings.

    `prepare` is what every further process does first: a module's function, because it is sent there.

    Raises:
        SystemExit: after a signal (0).
        ConfigurationError: the address cannot be had, the data folder, the database or the do-not-call list cannot be
            used, several workers are asked for on SQLite, or only one half of the first pair is set.
    """
    given = _given_pair(settings)
    if workers > 1 and settings.database_url is None:
        raise ConfigurationError(
            f"--workers {workers} needs PostgreSQL, because one process alone dials from a SQLite file. Nothing was "
            "started. Name a database with --database-url postgresql://…, or omit --workers."
        )
    with bound_socket(host, port) as listening:
        notifier = Notifier.of(settings)
        dialer = _dialer(settings, drain_seconds, notifier)
        store = dialer.store()
        with store.usable():
            _say_pair(store, given)
        if workers == 1:
            try:
                anyio.run(_serve, dialer, listening, url_of(host, listening))
            finally:
                if notifier is not None:
                    notifier.close()
            return
        # What cannot work is said here, once, and not by every worker.
        store.check_privileges()
        dialer.load_do_not_call(store)
        store.close()
        _say_hello(dialer.carrier, url_of(host, listening), workers)
        app = partial(worker_app, settings, drain_seconds, prepare)
        Workers(_config(app, factory=True, workers=workers), [listening]).run()


def worker_app(settings: Settings, drain_seconds: float, prepare: Callable[[Settings], None]) -> FastAPI:
    """The app of one of several workers, made in its own process; it ends with the process that started it."""
    prepare(settings)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True, name="batchcall-parent").start()
    notifier = Notifier.of(settings)
    app = _dialer(settings, drain_seconds, notifier).app
    if notifier is not None:
        app.router.lifespan_context = partial(_closing, notifier, app.router.lifespan_context)
    return app


class Workers(Multiprocess):
    """Replaces a worker that has ended, or that has been silent for a minute.

    uvicorn waits 5 s for each answer. A worker that takes longer to be imported is killed and started again, for ever;
    one that is slow for once loses its calls. And while uvicorn waits, it hears no signal. Rounds are counted, not
    seconds: a machine that was suspended finds its workers as they were.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._silent = Counter[Process]()

    def keep_subprocess_alive(self) -> None:
        for place, worker in enumerate(self.processes):
            if worker.process.is_alive() and self._silence(worker) < _LONGEST_SILENCE:
                continue
            LOG.warning(
                "The dialling process %d %s.", worker.pid, "hangs" if worker.process.is_alive() else "has ended"
            )
            worker.kill()
            worker.join()
            del self._silent[worker]
            if worker.exitcode == STARTUP_FAILURE:  # the next one would fail in the same way
                self.should_exit.set()
                return
            self.processes[place] = Process(self.config, self.sockets)
            self.processes[place].start()

    def _silence(self, worker: Process) -> int:
        """For how many rounds it has not answered."""
        if not self._silent[worker]:
            worker.parent_conn.send(b"ping")
        elif worker.parent_conn.poll():
            worker.parent_conn.recv()
            worker.parent_conn.send(b"ping")
            self._silent[worker] = 0
        self._silent[worker] += 1
        return self._silent[worker]


@asynccontextmanager
async def _closing(
    notifier: Notifier, lifespan: Callable[[Any], AbstractAsyncContextManager[Any]], app: FastAPI
) -> AsyncIterator[Any]:
    """A worker's last calls end while it closes: that a batch call is finished is kept before the process is gone."""
    try:
        async with lifespan(app) as state:
            yield state
    finally:
        await asyncio.to_thread(notifier.close)


def _dialer(settings: Settings, drain_seconds: float, notifier: Notifier | None) -> EmbeddedDialer:
    if notifier is not None:
        notifier.start()
    tell = tell_nobody if notifier is None else notifier.tell
    return EmbeddedDialer.of(settings, drain_seconds=drain_seconds, limiter=Limiter.of(settings), tell=tell)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """Nobody could stop a worker that went on dialling without the command that started it."""
    parent.join()
    signal.raise_signal(signal.SIGTERM)


def _config(app: Callable[..., object], *, factory: bool = False, workers: int = 1) -> uvicorn.Config:
    # The process's own log, whose lines are masked; no access log: a URL may hold a phone number.
    return uvicorn.Config(
        app,
        factory=factory,
        workers=workers,
        log_config=None,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
        timeout_worker_healthcheck=_LONGEST_SILENCE // 2,  # of one that is to replace another after SIGHUP
    )


async def _serve(dialer: EmbeddedDialer, listening: socket.socket, url: str) -> None:
    # Not left to uvicorn, which would print a traceback of a setting that does not work.
    await dialer.start()
    try:
        _say_hello(dialer.carrier, url, 1)

        def _leave(_number: int, _frame: FrameType | None) -> None:
            raise SystemExit(0)

        # uvicorn stops by itself on these, then raises them again for the handlers that were there before.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        server = uvicorn.Server(_config(dialer.app))
        await server.serve([listening])
        if not server.started:
            raise SystemExit(_NOT_STARTED)
    finally:
        await dialer.aclose()


def _say_hello(carrier: Carrier, url: str, workers: int) -> None:
    by = "" if workers == 1 else f", by {workers} processes"
    rings = "no phone rings"
    if carrier.places_real_calls:
        payer = f", and {carrier.payer} pays" if isinstance(carrier, HasAccount) else ""
        rings = f"real phones ring{payer}"
    _say(f"Dialling through {carrier.title}{by}: {rings}. {url}")


def _given_pair(settings: Settings) -> KeyPair | None:
    if settings.api_key is None and settings.api_secret is None:
        return None
    if settings.api_key is None or settings.api_secret is None:
        raise ConfigurationError(
            "BATCHCALL_API_KEY and BATCHCALL_API_SECRET belong together, and only one is set. Nothing was started."
        )
    return KeyPair(settings.api_key.get_secret_value(), settings.api_secret.get_secret_value())


def _say_pair(store: Store, given: KeyPair | None) -> None:
    """What to call with, where it has to be said: a new pair, or that the one in the settings is not known."""
    first = api_keys.first_pair(store, given)
    if first is not None and given is None:
        _say(
            "The first key pair, shown only now (in a request: X-API-KEY and X-API-SECRET):\n"
            f"BATCHCALL_API_KEY={first.api_key}\nBATCHCALL_API_SECRET={first.api_secret}"
        )
    elif first is not None:
        _say("The first key pair is BATCHCALL_API_KEY and BATCHCALL_API_SECRET.")
    elif given is not None and api_keys.organization_of(store, *given) is None:
        _say(
            "BATCHCALL_API_KEY and BATCHCALL_API_SECRET are not a pair that this dialer knows: it takes them only at "
            "its first start. `batchcall-mcp dialer keys create` makes another pair."
        )


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
