"""One schema on both databases; what cannot be opened says so in words, without a secret."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.ledger.tables import metadata
from batchcall_mcp.settings import Settings


def test_the_migrations_make_the_tables_that_the_code_uses(ledger: Ledger) -> None:
    with ledger.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [one for one in compare_metadata(context, metadata) if not _is_alembics_own(one)]
    assert differences == []


def _is_alembics_own(difference: object) -> bool:
    return "alembic_version" in repr(difference)


def test_opening_it_again_keeps_what_is_in_it(ledger: Ledger, settings: Settings) -> None:
    pepper = ledger.hashed("a")
    ledger.stops.stop(1)

    again = Ledger.open(settings)
    assert again.hashed("a") == pepper
    assert again.stops.since() is not None
    again.close()


def test_a_ledger_of_a_newer_version_is_not_touched(ledger: Ledger, settings: Settings) -> None:
    with ledger.database.engine.begin() as tx:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(ConfigurationError, match="9999, which this version of batchcall-mcp does not know"):
        Ledger.open(settings)


def test_a_file_that_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("no database " * 1000)

    with pytest.raises(ConfigurationError, match=r"ledger\.db cannot be opened"):
        Ledger.open(Settings(data_dir=tmp_path))


@pytest.mark.parametrize(
    "url", ["postgresql://operator:hunter2@127.0.0.1:1/ledger", "postgresql://operator:hunter2@:none/x"]
)
def test_a_postgresql_that_is_not_there_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "database_url": url})

    with pytest.raises(ConfigurationError, match=r"BATCHCALL_DATABASE_URL.* cannot be opened") as caught:
        Ledger.open(settings)
    assert "hunter2" not in str(caught.value)


def test_the_sqlite_file_is_its_owners_alone(tmp_path: Path) -> None:
    Ledger.open(Settings(data_dir=tmp_path)).close()

    assert (tmp_path / "ledger.db").stat().st_mode & 0o077 == 0
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_database_that_cannot_be_written_any_more_is_refused_in_words(tmp_path: Path) -> None:
    ledger = Ledger.open(Settings(data_dir=tmp_path))
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("DROP TABLE stops")
    connection.close()

    with pytest.raises(ConfigurationError, match="recorded before it is sent, cannot be used"):
        ledger.stops.stop(1)
    ledger.close()
