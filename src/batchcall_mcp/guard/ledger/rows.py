"""The ledger's rows as entries, and what both its writing and its reading side ask of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp.backends.base import Operation
from batchcall_mcp.guard.entries import STOPS, Entry, Evidence, WriteState
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


def open_change_of(tx: sa.Connection, backend: str, batch_call_id: str, after: int) -> Entry | None:
    """The first change of a batch call that was sent after a moment, and of which nobody knows whether it arrived."""
    of_it = (t.writes.c.backend == backend) & (t.writes.c.batch_call_id == batch_call_id) & OPEN & ~t.writes.c.dials
    changes = of_it & t.writes.c.operation.not_in(STOPS) & (t.writes.c.sent_at > after)
    row = tx.execute(sa.select(t.writes).where(changes).order_by(t.writes.c.write_id).limit(1)).first()
    return None if row is None else read(row)


def newest_launch_of(tx: sa.Connection, backend: str, batch_call_id: str) -> Entry | None:
    """The last launch of a batch call that was not refused."""
    of_it = (t.writes.c.backend == backend) & (t.writes.c.batch_call_id == batch_call_id) & NOT_REFUSED
    query = sa.select(t.writes).where(of_it, t.writes.c.dials).order_by(t.writes.c.write_id.desc()).limit(1)
    row = tx.execute(query).first()
    return None if row is None else read(row)


def launches_after(tx: sa.Connection, write_id: int, *, simulated: bool, after: int = 0) -> list[Entry]:
    """Launches that were recorded after an entry, and sent after a moment, by any caller to any backend."""
    newer = (t.writes.c.write_id > write_id) & (t.writes.c.sent_at > after)
    found = newer & t.writes.c.dials & NOT_REFUSED & (t.writes.c.simulated == simulated)
    return [read(row) for row in tx.execute(sa.select(t.writes).where(found).order_by(t.writes.c.write_id))]


def is_withdrawn(tx: sa.Connection, launch: Entry) -> bool:
    """Whether the last that was done to the batch call of a launch was to cancel or delete it."""
    if launch.batch_call_id is None:
        return False
    newest = newest_of(tx, launch.backend, launch.batch_call_id)
    ends = {Operation.CANCEL, Operation.DELETE}
    return newest is not None and newest.operation in ends and newest.state is WriteState.DONE


def numbers_of(tx: sa.Connection, write_id: int) -> set[bytes]:
    """Whom a launch may dial, hashed."""
    query = sa.select(t.dialled.c.number_hash).where(t.dialled.c.write_id == write_id)
    return {bytes(digest) for digest in tx.scalars(query)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    """Of a launch that is counted together with those of its day: people of its own batch call count once."""

    batch_call_id: str | None = None
    write_id: int | None = None
    numbers: Collection[bytes] = ()
    calls_again: bool = False
    """A retry calls people again, so those whom its batch call has called count too."""


def calls_on(tx: sa.Connection, day: datetime, *, simulated: bool, mine: Mine) -> int:
    """People whom launches may call that start on a UTC day, by all callers; those that are `mine` are not counted.

    The people of one batch call count once, however often it is launched; others in their place count too.
    """
    midnight = day.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    of_day = (t.writes.c.starts_at >= to_ms(midnight)) & (t.writes.c.starts_at < to_ms(midnight + _DAY))
    launches = sa.select(t.writes.c.write_id, t.writes.c.batch_call_id, t.writes.c.operation, t.writes.c.calls).where(
        of_day, NOT_REFUSED, t.writes.c.simulated == simulated
    )
    again = 0
    groups: dict[str, list[tuple[int, int]]] = {}
    for write_id, batch_call_id, operation, calls in tx.execute(launches):
        if write_id == mine.write_id:
            continue
        if operation == Operation.RETRY:
            again += calls or 0
        else:
            groups.setdefault(batch_call_id or f"entry {write_id}", []).append((write_id, calls or 0))
    own = () if mine.calls_again else groups.pop(mine.batch_call_id or "", ())
    others = sum(
        _people(tx, [write_id for write_id, _ in group], max(calls for _, calls in group)) for group in groups.values()
    )
    before = set[bytes]().union(*(numbers_of(tx, write_id) for write_id, _ in own))
    return again + others + len(before.difference(mine.numbers))


def _people(tx: sa.Connection, write_ids: Sequence[int], at_least: int) -> int:
    """Different people of these launches; `at_least` so many were said, where their numbers are not known."""
    if len(write_ids) == 1:
        return at_least
    query = sa.select(sa.func.count(sa.distinct(t.dialled.c.number_hash))).where(t.dialled.c.write_id.in_(write_ids))
    return max(tx.scalar(query) or 0, at_least)


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
