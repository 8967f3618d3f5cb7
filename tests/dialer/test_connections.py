"""PostgreSQL's connections are few: the engine keeps its own, others give theirs back, and none is needed to end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import psycopg
import pytest
import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.dialer import app
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.engine import scheduler
from batchcall_mcp.dialer.storage.api_keys import KeyPair
from batchcall_mcp.dialer.storage.store import RESERVED, Store
from tests import forked
from tests.dialer.conftest import NewCaller, body, client_of, dialled, eventually, numbers
from tests.postgresql import Outage, postgresql_url

PAIR = KeyPair("key-of-the-test", "secret-of-the-test")
HEADERS = {"X-API-KEY": PAIR.api_key, "X-API-SECRET": PAIR.api_secret}
MOST = 12


@pytest.fixture
def server() -> Iterator[Outage]:
    """A PostgreSQL of its own."""
    # Not pytest's own folder, which another user (PostgreSQL does not run as root) cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="batchcall-connections-"))
    made = Outage(folder)
    yield made
    made.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def small(server: Outage) -> Outage:
    """One that takes twelve connections."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET max_connections = {MOST}")
    server.begin()
    server.end()
    return server


@contextmanager
def full(server: Outage) -> Iterator[list[psycopg.Connection[Any]]]:
    """Others have taken every connection that there was."""
    taken: list[psycopg.Connection[Any]] = []
    try:
        while True:
            try:
                taken.append(psycopg.connect(server.url))
            except psycopg.OperationalError:
                break
        yield taken
    finally:
        for connection in taken:
            connection.close()


def connections(url: str) -> int:
    """Those of everybody else."""
    with psycopg.connect(url) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        found = connection.execute(query).fetchone()
    assert found is not None
    return int(found[0])


def in_use(connection: psycopg.Connection[Any]) -> int:
    """All that there are, this one too."""
    found = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchone()
    connection.rollback()
    assert found is not None
    return int(found[0])


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_an_engine_dials_though_no_connection_is_left(small: Outage, tmp_path: Path) -> None:
    """What it needs it has had since it started: also the lanes, which it has not needed until now."""
    dialer = EmbeddedDialer(tmp_path, database=small.url, simulated_speed=1000.0, calling_hours="00:00-24:00")
    await dialer.start()
    try:
        async with client_of(dialer.app, *dialer.credentials) as http:
            soon = (dialer.store().clock() + timedelta(seconds=2)).isoformat()
            answer = await http.post("/batch-call", json=body(numbers(60), trigger_timestamp=soon))
            assert answer.status_code == 200
        with full(small) as taken:

            def all_but_the_engines() -> bool:
                """PostgreSQL counts a connection until its own process has ended, a little after it was closed."""
                dialer.store().engine.dispose()
                with suppress(psycopg.OperationalError):
                    taken.append(psycopg.connect(small.url))
                return len(taken) == MOST - RESERVED

            if len(taken) < MOST - RESERVED:
                wait_until(all_but_the_engines)
            assert len(taken) == MOST - RESERVED
            await eventually(lambda: len(dialled(tmp_path)) == 60)
    finally:
        await dialer.aclose()


async def test_connections_that_nobody_uses_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a pool of requests; the engine's stay."""
    monkeypatch.setattr(database, "_IDLE_S", 0.2)
    url = postgresql_url()
    dialer = EmbeddedDialer(tmp_path, database=url)
    await dialer.start()
    try:
        async with client_of(dialer.app, *dialer.credentials) as http, anyio.create_task_group() as burst:
            for _ in range(60):
                burst.start_soon(http.get, "/batch-call/list")
        await eventually(lambda: connections(url) == RESERVED)
        async with client_of(dialer.app, *dialer.credentials) as http:
            assert (await http.get("/batch-call/list")).status_code == 200
    finally:
        await dialer.aclose()
    await eventually(lambda: connections(url) == 0)


def test_one_who_looks_every_second_keeps_one_connection_open_and_not_all() -> None:
    """As the webhooks' sender does, in every dialer."""
    engine = database.open_postgresql(postgresql_url())
    idle = database._IdleConnections(engine)
    with engine.connect(), engine.connect():
        pass
    pool: Any = engine.pool
    assert pool.checkedin() == 2
    engine.connect().close()
    idle._look()
    assert engine.pool is pool, "two were needed a moment ago"
    idle._shared_at -= database._IDLE_S
    idle._look()
    assert engine.pool is not pool
    engine.connect().close()
    pool = engine.pool
    idle._look()
    assert engine.pool is pool, "the one that is needed stays"
    engine.dispose()


def test_a_pool_in_use_is_not_closed() -> None:
    """Whoever holds a connection of it goes on with it, and gives it back to the same pool."""
    engine = database.open_postgresql(postgresql_url())
    idle = database._IdleConnections(engine)
    pool = engine.pool
    with engine.connect():
        idle._look()
        assert engine.pool is pool
    idle._used_at -= database._IDLE_S
    idle._look()
    assert engine.pool is not pool
    engine.dispose()


def test_a_connection_that_comes_back_after_its_pool_was_closed_is_closed() -> None:
    """Somebody took it between the look that found none in use and the closing; or a store is closed meanwhile."""
    url = postgresql_url()
    engine = database.open_postgresql(url)
    with engine.connect():
        engine.dispose()
        assert connections(url) == 1
    wait_until(lambda: connections(url) == 0)
    with engine.connect():
        pass
    assert connections(url) == 1, "one that is given back to its own pool stays open"
    engine.dispose()


def test_connections_that_cannot_be_reserved_leave_none_open(small: Outage) -> None:
    """The engine tries again a second later."""
    store = Store.open(small.url)
    with full(small) as taken:
        taken.pop().close()
        with pytest.raises(sa.exc.OperationalError):
            store.for_dialling()
        # PostgreSQL counts a connection until its own process has ended, which is a little after ours was closed.
        wait_until(lambda: in_use(taken[0]) == len(taken))
    store.close()


@contextmanager
def running(url: str, folder: Path, workers: int = 1) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """`batchcall-mcp dialer` on a database, its port, and the file of its log."""
    environment = {
        "BATCHCALL_API_KEY": PAIR.api_key,
        "BATCHCALL_API_SECRET": PAIR.api_secret,
        "BATCHCALL_DATA_DIR": str(folder),
        "BATCHCALL_SIMULATED_SPEED": "1000",
        "BATCHCALL_RATE_LIMIT": "10000",
    }
    said = Path(tempfile.mkstemp(dir=folder)[1])
    with said.open("w") as stderr:
        command = [*forked.program(), "dialer", "--port", "0", "--database-url", url, "--workers", str(workers)]
        process = subprocess.Popen(command, stderr=stderr, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + 30
        while (found := re.search(r"no phone rings. http://[\d.]+:(\d+)", said.read_text())) is None:
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.05)
        yield process, int(found[1]), said
    finally:
        process.kill()
        process.wait()


def engines(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM workers").fetchone()
    return 0 if row is None else int(row[0])


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what another process does."""
    with anyio.fail_after(60):
        while True:
            if await reached():
                return
            await anyio.sleep(0.02)


def ready(http: httpx2.AsyncClient, *, url: str = "") -> Callable[[], Awaitable[bool]]:
    async def is_ready() -> bool:
        return (await http.get(f"{url}/readyz")).status_code == 200

    return is_ready


def stalled(http: httpx2.AsyncClient) -> Callable[[], Awaitable[bool]]:
    async def is_stalled() -> bool:
        answer = await http.get("/readyz")
        return (answer.status_code, answer.json().get("code")) == (503, "engine_stalled")

    return is_stalled


async def test_a_burst_of_reads_leaves_the_engines_what_they_need(small: Outage, tmp_path: Path) -> None:
    """Three processes on twelve connections: 240 reads at once, and then everybody on the list is called."""
    with (
        running(small.url, tmp_path) as (_, first, _),
        running(small.url, tmp_path) as (_, second, _),
        running(small.url, tmp_path) as (_, third, _),
    ):
        urls = [f"http://127.0.0.1:{port}" for port in (first, second, third)]
        async with httpx2.AsyncClient(headers=HEADERS, timeout=60, limits=httpx2.Limits(max_connections=240)) as http:
            async with anyio.create_task_group() as burst:
                for n in range(240):
                    burst.start_soon(http.get, f"{urls[n % 3]}/batch-call/list")
            headers = {"Idempotency-Key": "once"}
            asked = body(numbers(60), send_now=True)
            made: list[str] = []

            async def created() -> bool:
                answer = await http.post(f"{urls[0]}/batch-call", json=asked, headers=headers)
                if answer.status_code == 200:
                    made.append(answer.json()["data"]["batch_call_id"])
                return bool(made)

            async def completed() -> bool:
                answer = await http.get(f"{urls[2]}/batch-call/{made[0]}")
                return answer.status_code == 200 and answer.json()["data"]["status"] == "completed"

            await until(created)
            await eventually(lambda: len(dialled(tmp_path)) == 60)
            await until(completed)
            for url in urls:
                await until(ready(http, url=url))


async def test_a_process_whose_engine_cannot_work_is_not_ready(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database answers requests all the same; and when the engine works again, it is ready again."""
    monkeypatch.setattr(app, "STALLED_S", 0.2)
    look = scheduler.look
    away = [True]

    def fails(*asked: Any) -> scheduler.Work:
        if away:
            raise sa.exc.OperationalError("SELECT 1", None, Exception("all connections are in use"))
        return look(*asked)

    async with new_caller() as caller:
        await until(ready(caller.http))
        monkeypatch.setattr(scheduler, "look", fails)
        await until(stalled(caller.http))
        assert (await caller.http.get("/healthz")).status_code == 200
        away.clear()
        await until(ready(caller.http))


async def test_an_engine_that_fails_at_every_start_is_not_ready(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it runs for a moment each time."""
    monkeypatch.setattr(app, "STALLED_S", 0.2)
    monkeypatch.setattr(app, "LOCK_RETRY_SECONDS", 0.01)

    def fails(*_asked: Any) -> scheduler.Work:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(scheduler, "look", fails)
    async with new_caller() as caller:
        await until(stalled(caller.http))


async def test_a_process_that_only_serves_is_ready(new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one dials from its SQLite file."""
    monkeypatch.setattr(app, "STALLED_S", 0.0)
    async with new_caller(), new_caller() as second:
        answer = await second.http.get("/readyz")
        assert (answer.status_code, answer.json()["engine"]) == (200, "standby")


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("dialling", "workers"), [(False, 1), (True, 2)], ids=["one with nothing to dial", "two after calls"]
)
async def test_a_signal_while_the_database_is_away_ends_it_without_waiting(
    server: Outage, tmp_path: Path, dialling: bool, workers: int
) -> None:
    """No call is in progress: the minute that calls would have to end is not waited for."""
    with running(server.url, tmp_path, workers=workers) as (process, port, said):
        async with httpx2.AsyncClient(headers=HEADERS, base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            await until(ready(http))
            # Only one of them has answered: the outage is to meet all of them at work.
            await eventually(lambda: engines(server.url) == workers)
            if dialling:
                created = await http.post("/batch-call", json=body(numbers(5), send_now=True))
                path = f"/batch-call/{created.json()['data']['batch_call_id']}"

                async def completed() -> bool:
                    return bool((await http.get(path)).json()["data"]["status"] == "completed")

                await until(completed)
        await anyio.to_thread.run_sync(server.begin)

        async def noticed() -> bool:
            return said.read_text().count("database does not work") >= workers

        await until(noticed)
        process.send_signal(signal.SIGTERM)
        # Left to itself, each waited for a minute and more.
        await anyio.to_thread.run_sync(process.wait, 50)
    assert process.returncode == 0
