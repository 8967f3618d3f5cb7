"""A ledger that is older than what its data folder knows: a restored one launches nothing without a word."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from batchcall_mcp.errors import PermissionDenied
from batchcall_mcp.guard.audit import FILE_NAME, Reading
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.ledger.tables import metadata
from batchcall_mcp.guard.write_record import Entry, WriteState
from batchcall_mcp.settings import Settings
from tests.guard.ledger.test_writes import START
from tests.postgresql import postgresql_url

SAYS = "is older than the data folder"


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    where = {"database_url": postgresql_url()} if request.param == "postgresql" else {}
    return Settings.model_validate({"data_dir": tmp_path / "data", **where})


def wrote(settings: Settings, times: int = 1) -> None:
    with closing(Ledger.open(settings)) as ledger:
        for _ in range(times):
            entry = ledger.writes.begin(START)
            assert isinstance(entry, Entry)
            ledger.writes.finish(entry.write_id, WriteState.REFUSED)


def restore(settings: Settings) -> None:
    """The state before the newest entry, as a back-up has it."""
    if settings.database_url is not None:
        with closing(Ledger.open(settings)) as ledger, ledger.database.writing() as tx:
            newest = sa.select(sa.func.max(metadata.tables["writes"].c.write_id)).scalar_subquery()
            for name in ("dialled", "writes"):
                table = metadata.tables[name]
                tx.execute(table.delete().where(table.c.write_id == newest))
        return
    (settings.data_dir / "ledger.db").unlink()
    shutil.copy(settings.data_dir / "backup.db", settings.data_dir / "ledger.db")


def back_up(settings: Settings) -> None:
    if settings.database_url is None:
        with closing(sqlite3.connect(settings.data_dir / "ledger.db")) as connection:
            connection.execute(f"VACUUM INTO '{settings.data_dir / 'backup.db'}'")


def test_it_launches_nothing_until_a_person_lifts_the_stop(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """An equal call, also one with a key, would be a new one to it."""
    wrote(settings)
    back_up(settings)
    wrote(settings)
    restore(settings)

    with closing(Ledger.open(settings)) as ledger:
        assert caplog.text.count(SAYS) == 1
        with pytest.raises(PermissionDenied, match="emergency stop is on"):
            ledger.writes.begin(START)
    (event,) = [one for one in Reading(settings.data_dir / FILE_NAME) if one["event"] == "stop"]
    assert (event["caller"], event["outcome"]) == ("ledger", "older")
    with closing(Ledger.open(settings)) as ledger:
        assert caplog.text.count(SAYS) == 1
        ledger.stops.clear()
        assert isinstance(ledger.writes.begin(START), Entry)
    with closing(Ledger.open(settings)) as ledger:
        assert ledger.stops.since() is None


def test_one_that_was_not_restored_is_not_held_up(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        wrote(settings, 2)
    assert SAYS not in caplog.text


@pytest.mark.parametrize("known", [None, b"", b"soon", b"\xff 9", b"another 00000000000000000009\n"])
def test_what_is_not_about_this_ledger_says_nothing(tmp_path: Path, known: bytes | None) -> None:
    """Removed, torn, or of another database: a new ledger knows nothing, and there is nothing that it should know."""
    settings = Settings.model_validate({"data_dir": tmp_path})
    wrote(settings)
    place = tmp_path / "ledger.newest"
    assert place.stat().st_mode & 0o777 == 0o600
    place.unlink()
    if known is not None:
        place.write_bytes(known)
    wrote(settings)


def test_a_file_that_cannot_be_written_holds_up_no_write(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "ledger.newest").mkdir()
    wrote(Settings.model_validate({"data_dir": tmp_path}), 2)
    assert caplog.text.count("a restored ledger may not be noticed") == 1
