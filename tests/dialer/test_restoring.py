"""A dialer on an old back-up dials nobody a second time; tests/operator/test_backup_page.py follows the whole page."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from batchcall_mcp.dialer.storage.adoption import adopt
from tests.dialer.conftest import NewCaller, numbers
from tests.dialer.test_copied_database import ADOPT
from tests.operator.processes import command, variables


def run(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)


def restore(copy: Path, database: Path) -> None:
    shutil.copy(copy, database)
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


async def test_a_restored_database_dials_nobody(new_caller: NewCaller, tmp_path: Path) -> None:
    """Because the file next to the database knows; adopted and resumed, it goes on."""
    database = tmp_path / "dialer.db"
    async with new_caller(start=False) as caller:
        batch_call_id = await caller.create(numbers(5), send_now=True)
        # The copy is made while the dialer is open, with everything still in the write-ahead log.
        run(database, f"VACUUM INTO '{tmp_path / 'backup.db'}'")
    async with new_caller() as caller:
        await caller.until_status(batch_call_id, "completed")
    assert len(caller.dialled()) == 5

    restore(tmp_path / "backup.db", database)
    async with new_caller() as caller:
        await caller.until_status(batch_call_id, "paused")
        refused = await caller.ask("POST", f"/batch-call/{batch_call_id}/resume", status=409)
        assert (refused["code"], ADOPT in refused["error"]) == ("dialer_halted", True)
        assert adopt(caller.dialer.store()) is not None
        other = await caller.create(numbers(1, 1), send_now=True)
        await caller.until_status(other, "completed")
        assert (await caller.get(batch_call_id))["status"] == "paused"
        assert len(caller.dialled()) == 6
        await caller.ask("POST", f"/batch-call/{batch_call_id}/resume")
        await caller.until_status(batch_call_id, "completed")
    assert len(caller.dialled()) == 11


@dataclass(frozen=True)
class Restored:
    """A back-up from before five people were dialled, written into the file of the database."""

    folder: Path
    batch_call_id: str

    @property
    def known(self) -> Path:
        return self.folder / "dialer.db.ran"


@pytest.fixture
async def restored(new_caller: NewCaller, tmp_path: Path) -> Restored:
    """The back-up is seven seconds old when a dialer ends that had begun before."""
    folder = tmp_path / "data"
    async with new_caller(folder=folder) as caller:
        await caller.until_status(await caller.create(numbers(1, 1), send_now=True), "completed")
        draft = await caller.create(numbers(5))
        caller.clock.forward(seconds=2)
        run(folder / "dialer.db", f"VACUUM INTO '{folder / 'backup.db'}'")
        run(folder / "backup.db", "UPDATE batch_calls SET status = 'sent' WHERE status = 'draft'")
        caller.clock.forward(seconds=5)
        await caller.ask("POST", f"/batch-call/{draft}/execute")
        await caller.until_status(draft, "completed")
    restore(folder / "backup.db", folder / "dialer.db")
    return Restored(folder, draft)


async def test_a_back_up_of_seconds_ago_is_noticed_and_adopted_once(new_caller: NewCaller, restored: Restored) -> None:
    """`dialer adopt` before the dialer starts, as the documentation has it; the next start asks nothing."""
    adopted = await command(variables(restored.folder), "dialer", "adopt")
    assert (adopted.code, adopted.err) == (0, "")
    assert f"paused: {restored.batch_call_id} of local, 5 of 5 people not called" in adopted.out
    assert "original" not in adopted.out.replace("by the original", "")
    for last in (2, 3):
        async with new_caller(folder=restored.folder) as caller:
            assert (await caller.get(restored.batch_call_id))["status"] == "paused"
            await caller.until_status(await caller.create(numbers(1, last), send_now=True), "completed")
    assert len(caller.dialled()) == 8
    assert "nothing to adopt" in (await command(variables(restored.folder), "dialer", "adopt")).out


async def test_an_older_database_stays_unaccepted_whatever_becomes_of_the_file(
    new_caller: NewCaller, restored: Restored
) -> None:
    async with new_caller(folder=restored.folder) as caller:
        await caller.until_status(restored.batch_call_id, "paused")
    restored.known.unlink()
    async with new_caller(folder=restored.folder) as caller:
        await caller.ask("POST", f"/batch-call/{restored.batch_call_id}/resume", status=409)
    assert len(caller.dialled()) == 6


@pytest.mark.parametrize("known", [None, "", "soon", "1"])
async def test_what_says_nothing_or_less_than_the_database_does_not_halt(
    new_caller: NewCaller, restored: Restored, known: str | None
) -> None:
    """Deleted, cut short, or left behind by a crash between the database's word and the file's."""
    if known is None:
        restored.known.unlink()
    else:
        restored.known.write_text(known)
    async with new_caller(folder=restored.folder) as caller:
        await caller.until_status(restored.batch_call_id, "completed")


async def test_a_new_database_next_to_what_is_left_of_a_deleted_one_dials(
    new_caller: NewCaller, restored: Restored
) -> None:
    for suffix in ("", "-wal", "-shm"):
        (restored.folder / f"dialer.db{suffix}").unlink(missing_ok=True)
    for _ in range(2):
        async with new_caller(folder=restored.folder) as caller:
            await caller.until_status(await caller.create(numbers(1, 2), send_now=True), "completed")


async def test_a_file_that_cannot_be_written_does_not_fall_behind(
    new_caller: NewCaller, restored: Restored, caplog: pytest.LogCaptureFixture
) -> None:
    """It is removed, so the next start does not take the database for an older or newer one; and the engine goes on."""
    restored.known.write_text("1")
    restored.known.with_name("dialer.db.ran.new").mkdir()
    async with new_caller(folder=restored.folder) as caller:
        await caller.until_status(restored.batch_call_id, "completed")
    assert not restored.known.exists()
    assert "a restored back-up may not be noticed" in caplog.text
    assert caller.dialer._failures == 0
