"""One schema on both databases; what cannot be opened says so in words, without a secret."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.ledger.tables import metadata
from batchcall_mcp.guard.write_record import Entry, WriteState
from batchcall_mcp.settings import Settings
from tests.guard.ledger.test_writes import START
from tests.postgresql import postgresql_url


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Of a database of its own, which it may spoil."""
    where = {"database_url": postgresql_url()} if request.param == "postgresql" else {}
    return Settings.model_validate({"data_dir": tmp_path, **where})


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


@pytest.mark.parametrize("how", ["begin", "take over"])
def test_a_process_that_runs_launches_nothing_when_a_newer_version_has_migrated(ledger: Ledger, how: str) -> None:
    """Nothing is recorded, and nothing is sent; what was sent before can still be recorded as over."""
    entry = ledger.writes.begin(START)
    assert isinstance(entry, Entry)
    entry = ledger.writes.finish(entry.write_id, WriteState.UNKNOWN)
    with ledger.database.engine.begin() as tx:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    launch = partial(ledger.writes.take_over, entry) if how == "take over" else ledger.writes.begin
    intent = START if how == "take over" else replace(START, batch_call_id="bc_2", numbers=(("+14155550109", 1),))
    with pytest.raises(ConfigurationError, match=r"of version 9999 now.*Nothing was sent\. Restart it on the newest"):
        launch(intent)
    assert ledger.history.unsettled() == [entry]
    assert ledger.writes.finish(entry.write_id, WriteState.DONE).state is WriteState.DONE


def test_a_ledger_whose_role_may_not_make_tables_names_what_it_needs(tmp_path: Path) -> None:
    owner = sa.make_url(postgresql_url())
    small = owner.set(username=f"no_create_{owner.database}", password="hunter2")
    admin = sa.create_engine(owner.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as tx:
        tx.execute(sa.text(f"CREATE ROLE {small.username} LOGIN PASSWORD 'hunter2'"))
    admin.dispose()
    url = small.render_as_string(hide_password=False)
    settings = Settings.model_validate({"data_dir": tmp_path, "database_url": url})

    with pytest.raises(ConfigurationError, match="needs CREATE on the schema public") as caught:
        Ledger.open(settings)
    assert "hunter2" not in caught.value.message
    assert "\n" not in caught.value.message


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
