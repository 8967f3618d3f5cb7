"""Opening SQLite as the dialer and the ledger need it: write-ahead log, every commit on disk, one writer at a time."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event


def open_sqlite(path: Path) -> sa.Engine:
    """Open (and create) a SQLite file.

    Transactions begin with BEGIN IMMEDIATE, so that a read followed by a write cannot fail half-way for a lock, and
    wait up to 30 s for another process's transaction.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def _configure(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
