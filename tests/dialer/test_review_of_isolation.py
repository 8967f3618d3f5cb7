"""Found in review: a restored file that dials again, an engine that spins, and rows that stop everybody."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier
from batchcall_mcp.dialer.engine import broken, engine, scheduler
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from batchcall_mcp.dialer.storage.adoption import NotAdopted, adopt
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import tasks
from tests.dialer.conftest import Caller, NewCaller, emptied_postgresql, eventually, numbers
from tests.dialer.test_copied_database import SAYS, copied
from tests.dialer.test_one_harms_no_other import others_draft, raw, row, stored, until_paused


async def test_a_back_up_copied_over_the_database_dials_nobody_again(new_caller: NewCaller, tmp_path: Path) -> None:
    """`cp backup.db dialer.db`: the file keeps its path and its inode. It is ten minutes old, so nothing is late."""
    folder = tmp_path / "data"
    async with new_caller(folder=folder) as caller:
        await caller.until_status(await caller.create(numbers(1, 1), send_now=True), "completed")
    async with new_caller(folder=folder, start=False) as caller:
        batch_call_id = await caller.create(numbers(5), send_now=True)
    copied(folder / "dialer.db", folder / "backup.db")
    caller.clock.forward(minutes=10)
    async with new_caller(folder=folder, late_after=timedelta(hours=1)) as caller:
        await caller.until_status(batch_call_id, "completed")
    rang = len(caller.dialled())
    inode = (folder / "dialer.db").stat().st_ino
    for suffix in ("-wal", "-shm"):
        (folder / f"dialer.db{suffix}").unlink(missing_ok=True)
    shutil.copy(folder / "backup.db", folder / "dialer.db")
    assert (folder / "dialer.db").stat().st_ino == inode
    async with new_caller(folder=folder, late_after=timedelta(hours=1)) as caller:
        data = await caller.until(batch_call_id, lambda data: data["status"] != "sent")
        assert len(caller.dialled()) == rang
        assert (data["status"], SAYS in data["status_reason"]["text"]) == ("paused", True)


def moves_left(caller: Caller) -> tuple[str, ...]:
    """What is left to move after one look: with anything, the engine looks again at once, and so on without end."""
    store = caller.dialer.store()
    dispatch = Dispatch(store, "one", daily_cap=3, retry_delay=timedelta(0))
    dispatch.start_arrived(scheduler.look(store, 50).moves)
    return scheduler.look(store, 50).moves


async def test_a_broken_batch_call_that_expires_while_it_is_paused_lets_no_engine_spin(new_caller: NewCaller) -> None:
    """Each look writes a traceback too: gigabytes of log, and one core."""
    async with new_caller(start=False) as caller:
        expires = (caller.clock() + timedelta(hours=1)).isoformat()
        bad = await caller.create(numbers(3), send_now=True, expires_timestamp=expires)
        raw(caller, bad, "window", '{"start": "00:0')
        stored(caller, bad, status="paused", status_reason="error")
        caller.clock.forward(hours=2)
        assert moves_left(caller) == ()


async def test_a_waiting_task_that_is_never_due_lets_no_engine_spin(desk: Caller) -> None:
    bad = await desk.create(numbers(3), send_now=True)
    with desk.dialer.store().writing() as tx:
        tx.execute(tasks.update().where(tasks.c.batch_call_id == bad).values(due_at=None))
    assert moves_left(desk) == ()


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("column", "status"),
    [
        ("scheduled_at", "scheduled"),
        ("expires_at", "sent"),
        ("max_concurrency", "sent"),
        ("calls_per_second", "sent"),
        ("last_sent_at", "sent"),
    ],
)
async def test_text_where_a_number_belongs_is_one_batch_call_s_error(
    new_caller: NewCaller, column: str, status: str
) -> None:
    """A disk has changed it: SQLite keeps any text in any column. Nobody else may feel it."""
    async with new_caller(simulated_speed=60.0, late_after=timedelta(hours=1)) as caller:
        bad = await others_draft(caller, numbers(3, 7))
        raw(caller, bad, column, "soon")
        stored(caller, bad, status=status)
        mine = await caller.create(numbers(2, 1), send_now=True)
        await caller.until_status(mine, "completed")
        also = await caller.create(numbers(2, 2), send_now=True)
        await caller.until_status(also, "completed")
        assert caller.dialer._failures == 0
        if column != "last_sent_at":
            assert (await until_paused(caller, bad))["status_reason"] == "error"


@pytest.mark.sweep
@pytest.mark.parametrize("column", ["due_at", "max_retries", "to_number", "position"])
async def test_a_task_with_text_where_a_number_belongs_is_one_batch_call_s_error(
    new_caller: NewCaller, column: str
) -> None:
    async with new_caller(simulated_speed=60.0, late_after=timedelta(hours=1)) as caller:
        bad = await others_draft(caller, numbers(3, 7), retry_config={"enabled": True, "max_attempts": 1})
        with caller.dialer.store().writing() as tx:
            # Its only waiting task, so no number is in front of the text.
            tx.execute(tasks.delete().where(tasks.c.batch_call_id == bad, tasks.c.position > 0))
            query = f"UPDATE tasks SET {column} = 'soon' WHERE batch_call_id = :id"
            tx.execute(sa.text(query), {"id": bad})
        stored(caller, bad, status="sent")
        mine = await caller.create(numbers(2, 1), send_now=True)
        await caller.until_status(mine, "completed")
        also = await caller.create(numbers(2, 2), send_now=True)
        await caller.until_status(also, "completed")
        assert caller.dialer._failures == 0


HUGE: dict[str, Any] = {
    "after longer than time lasts": {
        "retry_rules": [
            {"condition": "busy", "enabled": True, "retry_timing": {"duration_minutes": 1e300}},
        ]
    },
    "at a time that no clock shows": {
        "retry_rules": [{"condition": "busy", "enabled": True, "retry_timing": {"time": "99:99"}}]
    },
    "rules that are no list": {"retry_rules": {"enabled": True}},
    "a limit that is a word": {"retry_config": {"enabled": True, "max_attempts": "often"}},
    "a zone of a batch call": {"timezone": "Nowhere/At_All"},
    "concurrency below nothing": {"max_concurrency": -5},
    "nobody's number": {"from_number": ""},
}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_what_no_version_would_store_stops_nobody_else(new_caller: NewCaller, kind: str) -> None:
    database = {"database": emptied_postgresql()} if kind == "postgresql" else {}
    async with new_caller(simulated_speed=60.0, **database) as caller:
        everybody = numbers(5 * len(HUGE), 7)
        for at, (what, columns) in enumerate(HUGE.items()):
            people = everybody[5 * at : 5 * at + 5]
            bad = await others_draft(caller, people[:3])
            stored(caller, bad, **columns, status="sent")
            mine = await caller.create(people[3:], send_now=True)
            await caller.until_status(mine, "completed")
            assert caller.dialer._failures == 0, what
            assert row(caller, bad)["status"] in {"paused", "completed", "sent"}, what
        mine = await caller.create(numbers(2, 1), send_now=True)  # with all of them there
        await caller.until_status(mine, "completed")
        assert caller.dialer._failures == 0


async def test_a_second_dialer_on_a_symbolic_link_to_the_file_waits(new_caller: NewCaller, tmp_path: Path) -> None:
    """Two data folders, `dialer.db` of one is a link into the other: one database, so one engine."""
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    (second / "dialer.db").symlink_to(first / "dialer.db")
    rule = {"condition": "interrupted", "enabled": True, "retry_timing": {"type": "AFTER", "duration_minutes": 0}}
    async with new_caller(folder=first, simulated_speed=10.0) as one:
        batch_call_id = await one.create(numbers(1, 1), send_now=True, retry_rules=[rule])
        await one.until(batch_call_id, lambda data: data["counts"]["calling"] == 1)
        async with new_caller(folder=second) as other:
            data = await one.until_status(batch_call_id, "completed")
            assert (data["counts"]["completed"], len(one.dialled()) + len(other.dialled())) == (1, 1)
            assert (await other.http.get("/healthz")).json()["engine"] == "standby"


async def test_a_dialer_whose_file_is_a_symbolic_link_keeps_a_copy_from_being_adopted(
    new_caller: NewCaller, tmp_path: Path
) -> None:
    """Both would call the same people; whether the original is in use is looked up beside the file itself."""
    disk, first, second = tmp_path / "disk", tmp_path / "first", tmp_path / "second"
    for folder in (disk, first, second):
        folder.mkdir()
    (first / "dialer.db").symlink_to(disk / "dialer.db")
    async with new_caller(folder=first) as one:
        await one.create(numbers(3), trigger_timestamp=(one.clock() + timedelta(hours=1)).isoformat())
        copied(disk / "dialer.db", second / "dialer.db")
        store = Store.open(second / "dialer.db", one.clock)
        try:
            with pytest.raises(NotAdopted, match="dials from the original at this moment"):
                adopt(store)
        finally:
            store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_carrier_that_failed_pauses_its_batch_call_though_the_database_was_away_then(
    new_caller: NewCaller, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dialled, and raised; the pause finds no database. Then nobody is paused, and a rule rings the phone again."""
    place, pause = SimulatedCarrier.dial, broken.pause
    raised, away = list[str](), [True]

    def dials_and_fails(self: SimulatedCarrier, attempt: Attempt) -> None:
        place(self, attempt)
        if not raised:
            raised.append(attempt.attempt_id)
            raise RuntimeError("nobody thought of this")

    def pauses(*args: Any) -> None:
        if away:
            away.clear()
            raise sa.exc.OperationalError("BEGIN", None, Exception("the server is away"))
        pause(*args)

    monkeypatch.setattr(SimulatedCarrier, "dial", dials_and_fails)
    monkeypatch.setattr(broken, "pause", pauses)
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.01)
    database = {"database": emptied_postgresql()} if kind == "postgresql" else {}
    rule = {"condition": "interrupted", "enabled": True, "retry_timing": {"type": "AFTER", "duration_minutes": 0}}
    async with new_caller(**database) as caller:
        bad = await caller.create(numbers(1), send_now=True, retry_rules=[rule])
        data = await caller.until(bad, lambda data: data["status"] != "sent")
        assert (data["status"], len(caller.dialled())) == ("paused", 1)
        assert data["status_reason"]["code"] == "error"


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("column", "wrong"),
    [
        ("max_concurrency", 1.5),
        ("max_concurrency", b"soon"),
        ("launched_at", "soon"),
        ("scheduled_at", 9e999),
        ("expires_at", b"soon"),
        ("pause_on_failures", "soon"),
    ],
)
@pytest.mark.parametrize("status", ["sent", "scheduled"])
async def test_what_is_not_a_whole_number_is_one_batch_call_s_error(
    new_caller: NewCaller, column: str, wrong: object, status: str
) -> None:
    """Fractions, bytes and infinity too, which a disk or another program can leave in a file."""
    async with new_caller(simulated_speed=60.0, late_after=timedelta(hours=1)) as caller:
        bad = await others_draft(caller, numbers(3, 7))
        stored(caller, bad, scheduled_at=caller.dialer.store().now())
        with caller.dialer.store().writing() as tx:
            query = f"UPDATE batch_calls SET {column} = :wrong WHERE batch_call_id = :id"
            tx.execute(sa.text(query), {"wrong": wrong, "id": bad})
        stored(caller, bad, status=status)
        if column == "pause_on_failures":  # whatever is there means yes or no
            await eventually(lambda: row(caller, bad)["status"] == "completed")
        else:
            assert (await until_paused(caller, bad))["status_reason"] == "error"
        mine = await caller.create(numbers(2, 1), send_now=True)
        await caller.until_status(mine, "completed")
        assert caller.dialer._failures == 0
        assert moves_left(caller) == ()


@pytest.mark.parametrize("column", ["attempts", "attempted_at"])
async def test_a_redial_that_cannot_be_counted_is_one_batch_call_s_error(new_caller: NewCaller, column: str) -> None:
    async with new_caller(simulated_speed=60.0, late_after=timedelta(hours=1)) as caller:
        rule = {"condition": "voicemail", "enabled": True, "retry_timing": {"type": "AFTER", "duration_minutes": 0}}
        bad = await others_draft(caller, numbers(1, 8), retry_rules=[rule])
        stored(caller, bad, status="sent")
        await eventually(lambda: len(caller.dialled()) == 1)
        with caller.dialer.store().writing() as tx:
            query = f"UPDATE tasks SET {column} = 'soon' WHERE batch_call_id = :id"
            tx.execute(sa.text(query), {"id": bad})
        mine = await caller.create(numbers(2, 1), send_now=True)
        await caller.until_status(mine, "completed")
        if column == "attempted_at":
            assert (await until_paused(caller, bad))["status_reason"] == "error"
        assert caller.dialer._failures == 0
        assert len([line for line in caller.dialled() if line["to_number"] == numbers(1, 8)[0]]) == 1


@pytest.mark.parametrize("status", ["sent", "paused", "scheduled"])
@pytest.mark.parametrize("column", ["scheduled_at", "expires_at", "max_concurrency", "due_at"])
async def test_text_where_a_moment_belongs_lets_no_engine_spin(new_caller: NewCaller, column: str, status: str) -> None:
    async with new_caller(start=False) as caller:
        expires = (caller.clock() + timedelta(hours=1)).isoformat()
        bad = await caller.create(numbers(3), send_now=True, expires_timestamp=expires)
        stored(caller, bad, scheduled_at=caller.dialer.store().now())
        if column == "due_at":
            with caller.dialer.store().writing() as tx:
                tx.execute(sa.text("UPDATE tasks SET due_at = 'soon'"))
        else:
            raw(caller, bad, column, "soon")
        stored(caller, bad, status=status)
        moves_left(caller)  # a schedule begins first
        assert moves_left(caller) == ()
        caller.clock.forward(hours=2)
        moves_left(caller)
        assert moves_left(caller) == ()
