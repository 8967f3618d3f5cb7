"""A database keeps its batch calls when the program becomes newer.

`first_version.sql` and `first_version.carrier.jsonl` were written by the first dialer (commit e0dc447), which was
killed while it dialled: a draft, a finished, a paused and a scheduled batch call, and one that is half done.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from batchcall_mcp import database
from batchcall_mcp.clock import utc_now
from batchcall_mcp.dialer.storage import commands, queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import metadata
from batchcall_mcp.errors import ConfigurationError
from tests.dialer.conftest import NewCaller
from tests.postgresql import postgresql_url

HERE = Path(__file__).parent


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The data folder of a first dialer."""
    with sqlite3.connect(tmp_path / "dialer.db") as connection:
        connection.executescript((HERE / "first_version.sql").read_text(encoding="utf-8"))
    connection.close()
    shutil.copy(HERE / "first_version.carrier.jsonl", tmp_path / "carrier.jsonl")
    return tmp_path


@pytest.mark.parametrize("kind", ["new", "old", "postgresql"])
def test_the_migrations_make_the_tables_that_the_code_uses(kind: str, request: pytest.FixtureRequest) -> None:
    where: Path | str = postgresql_url() if kind == "postgresql" else request.getfixturevalue("tmp_path") / "dialer.db"
    if kind == "old":
        request.getfixturevalue("old")
    store = Store.open(where)
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": "dialer_version"})
        assert compare_metadata(context, metadata) == []
    store.close()


def test_no_row_is_lost(old: Path) -> None:
    def rows(tx: sa.Connection) -> dict[str, list[tuple[object, ...]]]:
        return {
            table: [tuple(row) for row in tx.exec_driver_sql(f"SELECT {columns} FROM {table} ORDER BY 1, 2")]
            for table, columns in columns_of.items()
        }

    plain = sa.create_engine(f"sqlite:///{old / 'dialer.db'}")
    with plain.connect() as tx:
        columns_of = {
            table: ", ".join(f'"{column["name"]}"' for column in sa.inspect(tx).get_columns(table))
            for table in sa.inspect(tx).get_table_names()
        }
        before = rows(tx)
    plain.dispose()
    assert len(before["tasks"]) == 49
    store = Store.open(old / "dialer.db")
    with store.reading() as tx:
        assert rows(tx) == before
    store.close()


async def test_what_the_first_version_began_is_finished(old: Path, new_caller: NewCaller) -> None:
    """Nobody is dialled again who was on the line; everybody else is dialled; the others are as they were."""
    with sqlite3.connect(old / "dialer.db") as connection:
        ids = dict(connection.execute("SELECT name, batch_call_id FROM batch_calls"))
    connection.close()
    async with new_caller(clock=utc_now) as caller:
        done = await caller.until_status(ids["half done"], "completed")
        assert {name: (await caller.get(batch_call_id))["status"] for name, batch_call_id in ids.items()} == {
            "a draft": "draft",
            "finished": "completed",
            "paused": "paused",
            "scheduled": "scheduled",
            "half done": "completed",
        }
        assert done["counts"]["interrupted"] == 8
        assert (done["counts"]["completed"], done["counts"]["busy"]) == (27, 5)
        await caller.ask("POST", f"/batch-call/{ids['paused']}/resume")
        await caller.ask("POST", f"/batch-call/{ids['a draft']}/execute")
        for name in ("paused", "a draft"):
            assert (await caller.until_status(ids[name], "completed"))["counts"]["completed"] == len(
                await caller.tasks(ids[name])
            )
        dialled = Counter(line["attempt_id"] for line in caller.dialled())
    assert max(dialled.values()) == 1


def test_a_database_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "dialer.db")
    with store.writing() as tx:
        tx.execute(sa.text("UPDATE dialer_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(ConfigurationError, match="9999, which this version of batchcall-mcp does not know"):
        Store.open(tmp_path / "dialer.db")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_the_second_version_put_off_has_its_reason_and_every_batch_call_a_revision(
    kind: str, tmp_path: Path
) -> None:
    """The words of its error message are all that says why."""
    where: Path | str = postgresql_url() if kind == "postgresql" else tmp_path / "dialer.db"
    engine = database.open_postgresql(where) if isinstance(where, str) else database.open_sqlite(where)
    with engine.begin() as tx:
        replace(Store.schema, head="0002").migrate(tx)
        tx.execute(
            sa.text(
                "INSERT INTO batch_calls (batch_call_id, organization_id, from_number, status, total_task_count,"
                " max_concurrency, \"window\", created_at, updated_at) VALUES ('b', 'o', '+14155550199', 'sent', 6, 1,"
                " '{}', 1, 1)"
            )
        )
        for position, (status, due_at, last_outcome, said) in enumerate(
            [
                ("pending", 5, None, None),
                ("pending", 5, None, "outside calling hours; next attempt not before 2026-11-24T07:00+00:00"),
                ("pending", 5, "busy", "dialled 3 times in 24 hours; next attempt not before 2026-11-24T07:00+00:00"),
                ("pending", 5, "failed", "the line broke"),
                ("busy", None, "busy", "busy"),
                ("pending", 5, None, "another process is deciding about the same number; looked at again in a moment"),
            ]
        ):
            tx.execute(
                sa.text(
                    "INSERT INTO tasks (task_id, batch_call_id, position, to_number, status, attempts, answered, "
                    "due_at, last_outcome, error_message, created_at) VALUES (:id, 'b', :position, '+14155550120',"
                    " :status, 0, false, :due_at, :last_outcome, :said, 1)"
                ),
                {
                    "id": f"t{position}",
                    "position": position,
                    "status": status,
                    "due_at": due_at,
                    "last_outcome": last_outcome,
                    "said": said,
                },
            )
    engine.dispose()
    store = Store.open(where)
    with store.reading() as tx:
        held = tx.execute(sa.text("SELECT held_by FROM tasks ORDER BY position")).scalars().all()
        assert held == [None, "calling_hours", "daily_cap", "retry", None, None]
        assert tx.execute(sa.text("SELECT revision FROM batch_calls")).scalars().all() == [0]
        first = queries.get(tx, "o", "b")
    with store.writing() as tx:
        changed = commands.update(tx, first, {"name": "another"}, None, 2)
    assert (first.revision, changed.revision) == (0, 1)
    store.close()
