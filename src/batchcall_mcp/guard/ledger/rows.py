"""The ledger's rows as entries, and what both its writing and its reading side ask of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp.backends.base import Operation
from batchcall_mcp.guard.entries import Entry, Evidence, WriteState
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.ledger.database import to_ms

_DAY: Final = timedelta(days=1)
NOT_REFUSED: Final = t.writes.c.state != WriteState.REFUSED
OPEN: Final = t.writes.c.state.in_([WriteState.SENDING, WriteState.UNKNOWN])


def newest_of(tx: sa.Connection, backend: str, batch_call_id: str) -> Entry | None:
    """The last write to a batch call that was not refused."""
    of_it = (t.writes.c.backend == backend) & (t.writes.c.batch_call_id == batch_call_id) & NOT_REFUSED
    row = tx.execute(sa.select(t.writes).where(of_it).order_by(t.writes.c.write_id.desc()).limit(1)).first()
    return None if row is None else read(row)


def open_launch_of(tx: sa.Connection, backend: str, batch_call_id: str) -> Entry | None:
    """The first launch of a batch call whose outcome nobody knows."""
    of_it = (t.writes.c.backend == backend) & (t.writes.c.batch_call_id == batch_call_id) & OPEN & t.writes.c.dials
    row = tx.execute(sa.select(t.writes).where(of_it).order_by(t.writes.c.write_id).limit(1)).first()
    return None if row is None else read(row)


def calls_on(tx: sa.Connection, day: datetime, beside: str | None = None, beside_entry: int | None = None) -> int:
    """People whom launches may call that start on a UTC day; those of one batch call, or of one entry, aside."""
    midnight = day.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    query = sa.select(t.writes.c.write_id, t.writes.c.batch_call_id, t.writes.c.operation, t.writes.c.calls).where(
        t.writes.c.starts_at >= to_ms(midnight), t.writes.c.starts_at < to_ms(midnight + _DAY), NOT_REFUSED
    )
    most: dict[str, int] = {}
    again = 0
    for write_id, batch_call_id, operation, calls in tx.execute(query):
        if write_id == beside_entry:
            continue
        if operation == Operation.RETRY:
            again += calls or 0
        else:
            name = batch_call_id or f"entry {write_id}"
            most[name] = max(most.get(name, 0), calls or 0)
    most.pop(beside or "", None)
    return again + sum(most.values())


def entry_of(tx: sa.Connection, write_id: int) -> Entry:
    """An entry that is there."""
    return read(tx.execute(sa.select(t.writes).where(t.writes.c.write_id == write_id)).one())


def read(row: sa.Row[Any]) -> Entry:
    """A whole row of `writes`."""
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a row's columns by name
    return Entry(
        **values
        | {
            "operation": Operation(values["operation"]),
            "state": WriteState(values["state"]),
            "evidence": Evidence(**values["evidence"]),
        }
    )
