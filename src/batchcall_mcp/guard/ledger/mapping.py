"""The ledger's rows as entries, and what both its writing and its reading side ask of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp.backends.base import FIRST_ZONE, Operation
from batchcall_mcp.clock import span_ms, to_ms
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.write_record import STOPS, Entry, Evidence, Newest, WriteState
from batchcall_mcp.model import FINISHED, BatchStatus

_DAY: Final = timedelta(days=1)
CLOCKS_APART_MS: Final = 60_000
"""How far the clocks of machines on one ledger may be apart."""
_RESTS: Final = frozenset({*map(str, FINISHED), str(BatchStatus.DRAFT)})
"""What the status of a batch call is that calls nobody; Zudu makes a draft of what is cancelled before its start."""
NOT_REFUSED: Final = t.writes.c.state != WriteState.REFUSED
OPEN: Final = t.writes.c.state.in_([WriteState.SENDING, WriteState.UNKNOWN])


def of(backend: str, batch_call_id: str | None) -> sa.ColumnElement[bool]:
    """Every write to a batch call."""
    return (t.writes.c.backend == backend) & (t.writes.c.batch_call_id == batch_call_id)


def last(tx: sa.Connection, condition: sa.ColumnElement[bool]) -> Entry | None:
    """The newest entry of which this is so."""
    row = tx.execute(sa.select(t.writes).where(condition).order_by(t.writes.c.write_id.desc()).limit(1)).first()
    return None if row is None else read(row)


def newest_of(tx: sa.Connection, backend: str, batch_call_id: str) -> Entry | None:
    """The last write to a batch call that was not refused."""
    return last(tx, of(backend, batch_call_id) & NOT_REFUSED)


def newest_launch_of(tx: sa.Connection, backend: str, batch_call_id: str) -> Entry | None:
    """The last launch of a batch call that was not refused."""
    return last(tx, of(backend, batch_call_id) & NOT_REFUSED & t.writes.c.dials)


def open_launch_of(tx: sa.Connection, backend: str, batch_call_id: str) -> Entry | None:
    """The first launch of a batch call whose outcome nobody knows."""
    launches = sa.select(t.writes).where(of(backend, batch_call_id) & OPEN & t.writes.c.dials)
    row = tx.execute(launches.order_by(t.writes.c.write_id).limit(1)).first()
    return None if row is None else read(row)


def open_changes_of(tx: sa.Connection, backend: str, batch_call_id: str) -> list[Entry]:
    """The changes of a batch call of which nobody knows whether they arrived, oldest first."""
    open_changes = of(backend, batch_call_id) & OPEN & ~t.writes.c.dials & t.writes.c.operation.not_in(STOPS)
    return [read(row) for row in tx.execute(sa.select(t.writes).where(open_changes).order_by(t.writes.c.write_id))]


def launches_after(tx: sa.Connection, since: Newest, *, simulated: bool, sent_after: int = 0) -> list[Entry]:
    """Launches that were recorded since, or sent once more since, by any caller to any backend."""
    again = (t.writes.c.sent_at != t.writes.c.at) & (t.writes.c.sent_at > since.at - CLOCKS_APART_MS)
    newer = ((t.writes.c.write_id > since.write_id) | again) & (t.writes.c.sent_at > sent_after)
    found = newer & t.writes.c.dials & NOT_REFUSED & (t.writes.c.simulated == simulated)
    return [read(row) for row in tx.execute(sa.select(t.writes).where(found).order_by(t.writes.c.write_id))]


def standing(tx: sa.Connection, launches: Sequence[Entry]) -> list[Entry]:
    """Those that were not withdrawn: cancelled or deleted before they were to begin, so that they called nobody."""
    if not launches:
        return []
    # There are many launches and few that were withdrawn, so most of them need no look of their own.
    ends = t.writes.c.operation.in_([Operation.CANCEL, Operation.DELETE]) & (t.writes.c.state == WriteState.DONE)
    since = t.writes.c.write_id > min(launch.write_id for launch in launches)
    found = tx.execute(sa.select(t.writes.c.backend, t.writes.c.batch_call_id).where(since & ends))
    ended = {(backend, batch_call_id) for backend, batch_call_id in found}
    return [
        launch
        for launch in launches
        if (launch.backend, launch.batch_call_id) not in ended or not _is_withdrawn(tx, launch)
    ]


def _is_withdrawn(tx: sa.Connection, launch: Entry) -> bool:
    if launch.batch_call_id is None or launch.starts_at is None:
        return False
    newest = newest_of(tx, launch.backend, launch.batch_call_id)
    return newest is not None and _ends(newest) and newest.sent_at + CLOCKS_APART_MS < _begins(launch)


def _begins(launch: Entry) -> int:
    """When a launch may call its first person."""
    ahead = FIRST_ZONE if launch.evidence.trigger_on is not None else timedelta()
    return (launch.starts_at or 0) - span_ms(ahead)


def is_ended(tx: sa.Connection, launch: Entry) -> bool:
    """Whether its caller has cancelled or deleted its batch call since, and done nothing more to it.

    Not one that was sent before the launch was answered: the launch may have arrived after it.
    """
    mine = of(launch.backend, launch.batch_call_id) & (t.writes.c.caller == launch.caller) & NOT_REFUSED
    newest = last(tx, mine) or launch
    return _ends(newest) and launch.settled_at is not None and launch.settled_at <= newest.sent_at


def _ends(write: Entry) -> bool:
    """Whether the backend answered that nobody is called any more; a cancel that it took may have changed nothing."""
    if write.state is not WriteState.DONE:
        return False
    return write.operation is Operation.DELETE or (write.operation is Operation.CANCEL and write.status in _RESTS)


def numbers_of(tx: sa.Connection, write_id: int) -> set[bytes]:
    """Whom a launch may dial, hashed."""
    return numbers_of_each(tx, [write_id])[write_id]


def numbers_of_each(tx: sa.Connection, write_ids: Collection[int]) -> dict[int, set[bytes]]:
    """The same of several launches."""
    query = sa.select(t.dialled.c.write_id, t.dialled.c.number_hash).where(t.dialled.c.write_id.in_(write_ids))
    numbers: dict[int, set[bytes]] = {write_id: set() for write_id in write_ids}
    for write_id, digest in tx.execute(query):
        numbers[write_id].add(bytes(digest))
    return numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    """Of a launch that is counted together with those of its day: people of its own batch call count once."""

    backend: str = ""
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
    columns = (getattr(t.writes.c, name) for name in ("write_id", "backend", "batch_call_id", "operation", "calls"))
    launches = sa.select(*columns).where(of_day, NOT_REFUSED, t.writes.c.simulated == simulated)
    again = 0
    groups: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for write_id, backend, batch_call_id, operation, calls in tx.execute(launches):
        if write_id == mine.write_id:
            continue
        if operation == Operation.RETRY:
            again += calls or 0
        else:
            name = (backend, batch_call_id or f"entry {write_id}")
            groups.setdefault(name, []).append((write_id, calls or 0))
    own = () if mine.calls_again else groups.pop((mine.backend, mine.batch_call_id or ""), ())
    others = sum(_people(tx, group) for group in groups.values())
    before = set[bytes]().union(*(numbers_of(tx, write_id) for write_id, _ in own))
    return again + others + len(before.difference(mine.numbers))


def _people(tx: sa.Connection, launches: Sequence[tuple[int, int]]) -> int:
    """Different people of launches of one batch call, each with its calls: those of unknown numbers may be others."""
    if len(launches) == 1:
        return launches[0][1]
    known = numbers_of_each(tx, [write_id for write_id, _ in launches]).values()
    unknown = (max(calls - len(numbers), 0) for numbers, (_, calls) in zip(known, launches, strict=True))
    return len(set[bytes]().union(*known)) + sum(unknown)


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
