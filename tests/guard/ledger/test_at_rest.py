"""What a ledger shows without being opened for use."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from batchcall_mcp.guard.ledger import at_rest
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.settings import Settings


def test_a_ledger_of_today_and_a_folder_that_can_be_made_are_usable(tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / at_rest.FILE
    assert at_rest.is_usable(path)
    assert not path.parent.exists(), "a look makes nothing"
    Ledger.open(Settings(data_dir=path.parent)).close()
    assert at_rest.is_usable(path)


def test_it_is_also_usable_while_another_process_writes(tmp_path: Path) -> None:
    ledger = Ledger.open(Settings(data_dir=tmp_path))
    with ledger.database.writing():
        assert at_rest.is_usable(tmp_path / at_rest.FILE)
    ledger.close()


@pytest.mark.parametrize("version", ["0001", "9999", None])
def test_a_ledger_of_another_version_has_to_be_opened(tmp_path: Path, version: str | None) -> None:
    path = tmp_path / at_rest.FILE
    Ledger.open(Settings(data_dir=tmp_path)).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
        if version is not None:
            connection.execute("INSERT INTO alembic_version VALUES (?)", (version,))
    assert not at_rest.is_usable(path)


@pytest.mark.parametrize("content", [b"", b"name,phone\n", b"SQLite format 3\0" + bytes(100)])
def test_a_file_that_is_no_ledger_has_to_be_opened(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / at_rest.FILE
    path.write_bytes(content)
    assert not at_rest.is_usable(path)


def test_a_file_in_the_place_of_the_folder_is_not_usable(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert not at_rest.is_usable(tmp_path / "data" / at_rest.FILE)
