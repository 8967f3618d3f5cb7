"""A review of the emergency stop: dials after it has returned, launches that pass it, what keeps it from working."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.storage import stops
from batchcall_mcp.dialer.storage.store import Store
from tests.dialer.conftest import Caller, NewCaller, emptied_postgresql, eventually, numbers
from tests.dialer.conftest import clock as clock  # noqa: PLC0414 - a fixture
from tests.dialer.conftest import new_caller as new_caller  # noqa: PLC0414 - a fixture
from tests.operator.processes import command, dialling, of_magpipe, of_zudu, serving, variables
from tests.operator.test_stop import PAIR, PEOPLE, draft, until
from tests.operator.test_stop_drills import MANY_TASKS, start, without_key
from tests.postgresql import postgresql_url
from tests.vendors.magpipe import Magpipe, Refused
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, Person, dials

STOPPED = "nothing is launched from now on"


def admin(url: str) -> sa.Engine:
    return sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")


async def test_a_dialer_whose_database_is_fine_is_stopped_although_another_one_cannot_be_opened(tmp_path: Path) -> None:
    """A broken dialer.db of another time lies in the folder from which the operator types the command."""
    database = postgresql_url()
    settings = variables(tmp_path / "dialer", simulated_speed="40", calling_hours="00:00-24:00", **PAIR)
    async with dialling(settings | {"BATCHCALL_DATABASE_URL": database}) as url:
        there = variables(tmp_path / "server", backend="batchcall", url=url, **PAIR)
        async with serving(there, Person()) as model:
            await start(model, "November", MANY_TASKS, max_concurrency=2, window=ALWAYS)
            await until(lambda: dials(tmp_path / "dialer").total() >= 10)
            (tmp_path / "server" / "dialer.db").write_bytes(b"no database " * 1000)
            stopped = await command(without_key(there), "stop", "--database-url", database)
        assert stopped.code == 1
        assert "paused: " in stopped.out, stopped.out + stopped.err


async def test_one_process_that_hangs_in_a_dial_does_not_keep_the_others_dialling(new_caller: NewCaller) -> None:
    """PostgreSQL: its session shares the lock and does not end. Nobody else may dial on because of that."""
    database = emptied_postgresql()
    async with new_caller(simulated_speed=300.0, database=database) as caller:
        await caller.create(numbers(2_000), send_now=True, max_concurrency=5)
        await eventually(lambda: len(caller.dialled()) >= 20)
        engine = admin(database)
        with engine.connect() as hung:
            hung.execution_options(isolation_level="READ COMMITTED")
            with hung.begin():
                stops.share(hung)
                with pytest.raises(sa.exc.OperationalError):
                    await anyio.to_thread.run_sync(stop, caller, 0.2)
                store = opened(caller)
                with store.reading() as tx:
                    on = stops.since(tx)
                store.close()
        engine.dispose()
        assert on is not None, "the stop is written nowhere, and every other process dials on"


def opened(caller: Caller) -> Store:
    found = Store.open_existing(caller.dialer._database, caller.clock)
    assert found is not None
    return found


def stop(caller: Caller, wait_s: float = 30) -> None:
    store = opened(caller)
    try:
        stops.stop(store, wait_s)
    finally:
        store.close()


class _Cut:
    """A carrier that is asked for several dials in one transaction; before the second one the session is cut.

    A machine that was suspended, a server that ends idle transactions, a network that came apart: with the session
    goes the lock, and the process does not notice until it speaks to the database again.
    """

    def __init__(self, caller: Caller, cut: Callable[[], None]) -> None:
        self._place = caller.dialer._carrier.dial
        self._caller, self._cut = caller, cut
        self.after: list[str] = []
        self.stopped = False

    def __call__(self, attempt: Attempt) -> None:
        self._place(attempt)
        if self.stopped:
            self.after.append(attempt.to_number)
        else:
            self._cut()
            stop(self._caller)
            self.stopped = True


async def test_a_dialer_that_lost_its_session_dials_nobody_after_the_stop(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = emptied_postgresql()
    engine = admin(database)

    def cut() -> None:
        with engine.connect() as tx:
            held = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'"
            assert tx.exec_driver_sql(held).all()

    async with new_caller(simulated_speed=300.0, database=database) as caller:
        carrier = _Cut(caller, cut)
        monkeypatch.setattr(caller.dialer._carrier, "dial", carrier)
        batch_call_id = await caller.create(numbers(50), send_now=True, max_concurrency=20)
        await eventually(lambda: carrier.stopped)
        await caller.until(batch_call_id, lambda data: data["counts"]["calling"] == 0)
    engine.dispose()
    assert carrier.after == []


async def test_the_database_that_is_named_holds_the_ledger_of_servers_too(tmp_path: Path) -> None:
    """`serve` with BATCHCALL_DATABASE_URL, and an operator who names that database with the option."""
    vendor, database = Zudu(), postgresql_url()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path / "server", database_url=database)
        async with serving(there, Person()) as model:
            launch = await draft(model, "November")
            stopped = await command(variables(tmp_path / "operator"), "stop", "--database-url", database)
            await model.client.call_tool("start_batch_call", launch)
    assert vendor.dialled == [] or STOPPED not in stopped.out, stopped.out + stopped.err


async def test_a_role_that_may_not_read_the_dialers_tables_keeps_nothing_else_from_being_stopped(
    tmp_path: Path,
) -> None:
    """A traceback in the middle: what is live at the vendor is not stopped."""
    database, vendor = postgresql_url(), Magpipe()
    Store.open(database).close()
    engine = admin(database)
    with engine.connect() as tx:
        tx.exec_driver_sql("DROP ROLE IF EXISTS reader")
        tx.exec_driver_sql("CREATE ROLE reader LOGIN")
    engine.dispose()
    scheduled = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "scheduled")
    mine = sa.make_url(database).set(username="reader", password=None).render_as_string(hide_password=False)
    async with vendor.served() as url:
        stopped = await command(of_magpipe(url, tmp_path), "stop", "--database-url", mine)
    assert vendor.batches[scheduled["id"]]["status"] == "cancelled", stopped.out + stopped.err
    assert "Traceback" not in stopped.err


async def test_a_lock_that_cannot_be_taken_keeps_nothing_else_from_being_stopped(tmp_path: Path) -> None:
    """The file beside dialer.db belongs to somebody else; here its place is taken by a folder."""
    vendor = Magpipe()
    Store.open(tmp_path / "dialer.db").close()
    (tmp_path / "dialer.db.opening.lock").unlink(missing_ok=True)
    (tmp_path / "dialer.db.opening.lock").mkdir()
    scheduled = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "scheduled")
    async with vendor.served() as url:
        stopped = await command(of_magpipe(url, tmp_path), "stop")
    assert vendor.batches[scheduled["id"]]["status"] == "cancelled", stopped.out + stopped.err
    assert "Traceback" not in stopped.err


class _Unread(Magpipe):
    """It takes what it is asked for, and cannot be read: `list` works, `get` does not."""

    def _get(self, body: dict[str, Any]) -> dict[str, Any]:
        raise Refused(503, "upstream timed out")


@pytest.mark.parametrize("status", ["scheduled", "running"])
async def test_a_pause_that_magpipe_has_for_series_alone_is_not_said_of_another_batch_call(
    status: str, tmp_path: Path
) -> None:
    """`pause_series` succeeds although nothing matched; what could not be read back is not paused."""
    vendor = _Unread()
    batch = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, status)
    async with vendor.served() as url:
        stopped = await command(of_magpipe(url, tmp_path, request_timeout_s="1"), "stop")
    left = vendor.batches[batch["id"]]["status"]
    assert left == "cancelled" or (stopped.code, "not stopped: " in stopped.out) == (1, True), (left, stopped.out)


async def test_a_pause_that_could_not_be_read_back_is_not_called_one(tmp_path: Path) -> None:
    """The tool too: what Magpipe calls a success may have matched nothing."""
    vendor = _Unread()
    batch = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "running")
    async with vendor.served() as url, serving(of_magpipe(url, tmp_path, request_timeout_s="1"), Person()) as model:
        text = await model.refused("pause_batch_call", "outcome_unknown", batch_call_id=batch["id"])
    assert "get_batch_call" in text
    assert vendor.batches[batch["id"]]["status"] == "running"
