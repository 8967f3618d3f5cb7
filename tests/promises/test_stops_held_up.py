"""A stop while the ledger cannot be used: "no lock, limit or broken ledger may hold it up" (entries.py)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa
from anyio.abc import ByteStream, SocketAttribute

from batchcall_mcp.guard.ledger.database import _LOCK
from tests.postgresql import _server, postgresql_url
from tests.vendors import magpipe
from tests.vendors.magpipe import Magpipe
from tests.walks.stage import FROM, NEW_YORK, Model, Person, number, playing

PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 2)]
LONGEST_S = 20
"""Far more than a stop needs, and less than any time limit of the ledger's own."""


@asynccontextmanager
async def running(tmp_path: Path, **variables: str) -> AsyncIterator[tuple[Model, Magpipe, str]]:
    """A server that has written to its ledger before, and a batch call of which nobody is called yet."""
    vendor = Magpipe()
    batch = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "scheduled")
    async with (
        vendor.served() as url,
        playing(
            "auto", Person(), backend="magpipe", url=url, api_key=magpipe.KEY, data_dir=tmp_path, **variables
        ) as model,
    ):
        await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": PEOPLE[0]}])
        yield model, vendor, batch["id"]


async def test_postgresql_that_has_gone_away(tmp_path: Path) -> None:
    url = postgresql_url()
    name = sa.make_url(url).database
    admin = sa.create_engine(
        sa.make_url(_server().get_uri()).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    async with running(tmp_path, database_url=url) as (model, vendor, batch_id):
        with admin.connect() as connection:
            connection.execute(sa.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            connection.execute(
                sa.text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname='{name}'")
            )
        admin.dispose()
        await model.call("cancel_batch_call", batch_call_id=batch_id)
    assert vendor.batches[batch_id]["status"] == "cancelled"


async def status_soon(model: Model, vendor: Magpipe, batch_id: str, let_go: Callable[[], None]) -> str:
    """The batch call's state while the ledger is still held; then the ledger is let go, and the call ends."""

    async def cancel() -> None:
        await model.client.call_tool("cancel_batch_call", {"batch_call_id": batch_id})

    async with anyio.create_task_group() as group:
        group.start_soon(cancel)
        with anyio.move_on_after(LONGEST_S):
            while vendor.batches[batch_id]["status"] != "cancelled":  # noqa: ASYNC110 - a server sets it
                await anyio.sleep(0.01)
        status: str = vendor.batches[batch_id]["status"]
        let_go()
    return status


@pytest.mark.timeout(120)
async def test_postgresql_on_which_another_server_hangs(tmp_path: Path) -> None:
    """It was stopped (SIGSTOP, a debugger, a machine that swaps) in the middle of a transaction."""
    url = postgresql_url()
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    other = engine.connect()
    async with running(tmp_path, database_url=url) as (model, vendor, batch_id):
        other.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        status = await status_soon(model, vendor, batch_id, other.close)
    engine.dispose()
    assert status == "cancelled", f"while the ledger was held it stayed {status}"


@pytest.mark.timeout(120)
async def test_sqlite_that_another_process_holds(tmp_path: Path) -> None:
    async with running(tmp_path) as (model, vendor, batch_id):
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        status = await status_soon(model, vendor, batch_id, other.close)
    assert status == "cancelled", f"while the ledger was held it stayed {status}"


async def test_a_data_folder_in_which_nothing_can_be_made(tmp_path: Path) -> None:
    """No room for the folder of locks: its place is taken by a file."""
    (tmp_path / "owners").write_text("")
    vendor = Magpipe()
    batch = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "scheduled")
    async with (
        vendor.served() as url,
        playing("auto", Person(), backend="magpipe", url=url, api_key=magpipe.KEY, data_dir=tmp_path) as model,
    ):
        await model.call("cancel_batch_call", batch_call_id=batch["id"])
    assert vendor.batches[batch["id"]]["status"] == "cancelled"


class Frozen:
    """Stands before PostgreSQL; once it is frozen, nothing passes and nothing is closed: its machine has lost power."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self.passes = anyio.Event()
        self.frozen = False

    async def __call__(self, client: ByteStream) -> None:
        async with client, await anyio.connect_unix(self._socket) as server, anyio.create_task_group() as group:
            group.start_soon(self._pass, client, server)
            await self._pass(server, client)
            group.cancel_scope.cancel()

    async def _pass(self, source: ByteStream, target: ByteStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                part = await source.receive()
                if self.frozen:
                    await self.passes.wait()
                await target.send(part)


@pytest.mark.timeout(120)
async def test_postgresql_whose_machine_has_lost_power(tmp_path: Path) -> None:
    address = sa.make_url(postgresql_url())
    frozen = Frozen(f"{address.query['host']}/.s.PGSQL.5432")
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, frozen)
        port = listener.extra(SocketAttribute.local_port)
        url = address.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)

        def let_go() -> None:
            frozen.frozen = False
            frozen.passes.set()

        async with running(tmp_path, database_url=url) as (model, vendor, batch_id):
            frozen.frozen = True
            status = await status_soon(model, vendor, batch_id, let_go)
        group.cancel_scope.cancel()
    assert status == "cancelled", f"while the ledger was held it stayed {status}"
