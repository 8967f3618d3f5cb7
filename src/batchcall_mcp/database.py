"""Opening SQLite as the dialer needs it: write-ahead log, every commit on disk, one writer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from batchcall_mcp.errors import ConfigurationError

_READING = {"batchcall_reading": True}


def open_sqlite(path: Path) -> sa.Engine:
    """Open (and create, readable by its owner only) a SQLite file.

    Transactions begin with BEGIN IMMEDIATE, so that a read followed by a write cannot fail half-way for a lock, and
    wait up to 30 s for another process's transaction. Those of `reading` take no lock at all.

    Raises:
        ConfigurationError: the folder cannot be made or written, or the file is no database.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {path.parent} cannot be used: {error.strerror}. Nothing was sent. "
            "Make it writable, or name another one with BATCHCALL_DATA_DIR."
        ) from error
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def _configure(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        reads_only = _READING.items() <= connection.get_execution_options().items()
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    try:
        engine.connect().close()
    except sa.exc.DatabaseError as error:
        engine.dispose()
        raise ConfigurationError(
            f"The database {path} cannot be opened: {error.orig}. Nothing was sent. Repair it or move it away, or name "
            "another folder with BATCHCALL_DATA_DIR."
        ) from error
    return engine


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One consistent look at the database that neither waits for a writer nor makes one wait."""
    with engine.connect() as connection:
        yield connection.execution_options(**_READING)
