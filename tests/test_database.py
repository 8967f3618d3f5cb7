"""Opening SQLite."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.database import open_sqlite, reading
from batchcall_mcp.errors import ConfigurationError
from tests.made_once import SQLITE

METADATA = sa.MetaData()
NUMBERS = sa.Table("numbers", METADATA, sa.Column("n", sa.Integer, primary_key=True))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "on the way" / "it.db"


@pytest.fixture
def engine(path: Path) -> Iterator[sa.Engine]:
    engine = open_sqlite(path)
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


def test_every_commit_is_on_disk_and_readers_are_not_blocked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write-ahead log, synchronous=FULL (2), foreign keys on."""
    monkeypatch.setattr(database, "_SQLITE", SQLITE)
    engine = open_sqlite(path)
    with reading(engine) as tx:
        found = [
            tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    engine.dispose()
    assert found == ["wal", 2, 1]


def test_the_file_is_its_owners_only(engine: sa.Engine, path: Path) -> None:
    """It holds phone numbers."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_reader_sees_the_state_before_a_transaction_that_is_open(engine: sa.Engine) -> None:
    """And does not wait for it."""
    with engine.begin() as writer:
        writer.execute(NUMBERS.insert().values(n=1))
        with reading(engine) as tx:
            assert tx.execute(sa.select(NUMBERS)).all() == []
    with reading(engine) as tx:
        assert tx.execute(sa.select(NUMBERS)).all() == [(1,)]


def test_what_fails_is_rolled_back(engine: sa.Engine) -> None:
    """The driver's own transactions are off, so that BEGIN and ROLLBACK are ours."""

    def twice() -> None:
        with engine.begin() as tx:
            tx.execute(NUMBERS.insert().values(n=1))
            tx.execute(NUMBERS.insert().values(n=1))

    with pytest.raises(sa.exc.IntegrityError):
        twice()
    with reading(engine) as tx:
        assert tx.execute(sa.select(NUMBERS)).all() == []


def test_read_then_write_is_one_step_for_all_processes(path: Path, engine: sa.Engine) -> None:
    """Four processes that each count and then insert the count 50 times never meet: BEGIN IMMEDIATE."""
    script = (
        "import sqlalchemy as sa, sys, pathlib\n"
        "from batchcall_mcp.database import open_sqlite\n"
        "engine = open_sqlite(pathlib.Path(sys.argv[1]))\n"
        "for _ in range(50):\n"
        "    with engine.begin() as tx:\n"
        "        n = tx.execute(sa.text('select count(*) from numbers')).scalar_one()\n"
        "        tx.execute(sa.text('insert into numbers values (:n)'), {'n': n})\n"
        "engine.dispose()\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    with reading(engine) as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(NUMBERS)).scalar_one() == 200


def test_processes_may_open_a_new_file_at_the_same_time(tmp_path: Path) -> None:
    """Each MCP client starts its own server, all at once."""
    path = tmp_path / "new.db"
    script = (
        "import sys, pathlib\n"
        "from batchcall_mcp.dialer.storage.store import Store\n"
        "sys.stdin.read()\n"
        "Store.open(pathlib.Path(sys.argv[1])).close()\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]


def test_a_folder_that_cannot_be_made_is_the_operators_to_mend(tmp_path: Path) -> None:
    """The text names the variable, as root too: a file stands where the folder should be."""
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="BATCHCALL_DATA_DIR"):
        open_sqlite(tmp_path / "file" / "it.db")


def test_a_file_that_is_no_database_is_said_with_its_name(path: Path) -> None:
    """Not a traceback, and not a database in its place."""
    path.parent.mkdir(parents=True)
    path.write_text("customers, and not a database at all\n" * 50)
    with pytest.raises(ConfigurationError, match=r"it\.db cannot be opened: file is not a database"):
        open_sqlite(path)
    assert path.read_text().startswith("customers")
