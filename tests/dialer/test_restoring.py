"""Restoring an old back-up, as docs/dialer.md has it, dials nobody a second time."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.dialer.conftest import NewCaller, numbers

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "dialer.md").read_text(encoding="utf-8")


def documented(pattern: str) -> str:
    found = re.search(pattern, DOCUMENTED, re.DOTALL)
    assert found is not None
    return found[1]


def run(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)


def restore(copy: Path, database: Path) -> None:
    shutil.copy(copy, database)
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


@pytest.mark.parametrize("paused", [True, False])
async def test_a_restored_database_that_was_paused_first_dials_nobody(
    new_caller: NewCaller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paused: bool
) -> None:
    """Without the statement everybody is dialled again, which is why it is there; resumed, the batch call goes on."""
    monkeypatch.chdir(tmp_path)
    database = tmp_path / "dialer.db"
    async with new_caller(start=False) as caller:
        batch_call_id = await caller.create(numbers(5), send_now=True)
        # The copy is made while the dialer is open, with everything still in the write-ahead log.
        run(database, documented(r'sqlite3 dialer\.db "(VACUUM INTO [^"]*)"'))
    async with new_caller() as caller:
        await caller.until_status(batch_call_id, "completed")
    assert len(caller.dialled()) == 5

    restore(tmp_path / "backup.db", database)
    if paused:
        run(database, documented(r"```sql\n(.*?)```"))
    async with new_caller() as caller:
        if paused:
            other = await caller.create(numbers(1, 1), send_now=True)
            await caller.until_status(other, "completed")
            assert (await caller.get(batch_call_id))["status"] == "paused"
            assert len(caller.dialled()) == 6
            await caller.ask("POST", f"/batch-call/{batch_call_id}/resume")
        await caller.until_status(batch_call_id, "completed")
    assert len(caller.dialled()) == (11 if paused else 10)
