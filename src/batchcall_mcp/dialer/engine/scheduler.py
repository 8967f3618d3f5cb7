"""What there is to dial, and how many lanes that is worth: one look without a lock, and a pure decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import nsmallest
from math import ceil
from types import MappingProxyType, NoneType
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp.clock import from_ms
from batchcall_mcp.dialer.carriers.base import SIMULATED
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import first_people
from batchcall_mcp.dialer.storage.store import CHUNK, Store, chunks
from batchcall_mcp.dialer.storage.tables import batch_calls, is_no_number, tasks
from batchcall_mcp.model import TaskStatus


@dataclass(frozen=True, slots=True)
class Open:
    """A running batch call with tasks that are due: how many calls it could place, and is placing.

    `due` is counted no further than the carrier's capacity; `calling` and `last_sent_at` are over all processes;
    `calls_per_second` is no faster than the carrier's account.
    """

    batch_call_id: str
    due: int
    calling: int
    max_concurrency: int
    calls_per_second: float | None
    last_sent_at: int | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What one look found.

    `moves` are batch calls whose state has to change: their time has come, or has run out, or all is done. `next_at`
    is when there will be something that now is not.
    """

    open: tuple[Open, ...]
    moves: tuple[str, ...]
    next_at: datetime | None


def look(store: Store, capacity: int, carrier: str = SIMULATED, calls_per_second: float | None = None) -> Work:
    """What there is to do with this carrier, from indexes alone; the database gives one row for all that only waits.

    `calls_per_second`: of the carrier's account; None: it has no limit.
    """
    now = store.now()
    with store.reading() as tx:
        found = tx.execute(_LOOK, {"now": now, "carrier": carrier}).all()
        named = [row for row in found if row.batch_call_id is not None]
        acting = _details(tx, [row.batch_call_id for row in named if row.status == State.SENT])
        rows = [row for row in named if not _ends_its_first(row, now, acting)]
        dialling = [row.batch_call_id for row in rows if _dials(row, now, acting)]
        due = {key: _due(tx, key, now, capacity) for key in dialling}
    moments = [
        moment
        for row in found
        if row.batch_call_id is None
        for moment in (row.next_at, row.expires_at)
        if isinstance(moment, int)
    ]
    return Work(
        open=tuple(_open(acting[key], count, calls_per_second) for key, count in due.items()),
        moves=tuple(row.batch_call_id for row in rows if _moves(row, now, acting)),
        next_at=from_ms(min(moments)) if moments else None,
    )


def _open(details: sa.Row[Any], due: int, of_account: float | None) -> Open:
    known = {name: value for name, value in details._asdict().items() if name != "first_done"}
    paces = [pace for pace in (known.pop("calls_per_second"), of_account) if pace is not None]
    return Open(due=due, calls_per_second=min(paces, default=None), **known)


def _of_it() -> sa.ColumnElement[bool]:
    return tasks.c.batch_call_id == batch_calls.c.batch_call_id


def _statement() -> sa.CompoundSelect[Any]:
    """The batch calls that something is to be done with now, and a row without a name: when there will be more."""
    now: sa.BindParameter[int] = sa.bindparam("now", type_=sa.BigInteger)
    first = sa.select(sa.func.min(tasks.c.due_at)).where(_of_it(), tasks.c.status == TaskStatus.PENDING)
    expires = batch_calls.c.expires_at
    found = (
        sa.select(
            batch_calls.c.batch_call_id,
            batch_calls.c.status,
            sa.case(
                (batch_calls.c.status == State.SCHEDULED, batch_calls.c.scheduled_at), else_=first.scalar_subquery()
            ).label("next_at"),
            # A time to start comes before the time to end is looked at.
            sa.case((batch_calls.c.status != State.SCHEDULED, expires)).label("expires_at"),
        )
        .where(
            batch_calls.c.carrier == sa.bindparam("carrier"),
            sa.or_(
                batch_calls.c.status.in_((State.SENT, State.SCHEDULED)),
                sa.and_(batch_calls.c.status == State.PAUSED, expires.is_not(None)),
            ),
        )
        .cte("found")
    )
    goes_on = found.c.status != State.PAUSED
    acts = sa.or_(
        sa.and_(goes_on, sa.or_(found.c.next_at.is_(None), found.c.next_at <= now)),
        sa.and_(goes_on, sa.or_(is_no_number(found.c.next_at), is_no_number(found.c.expires_at))),
        sa.and_(found.c.next_at.is_not(None), found.c.expires_at <= now),
    )
    later = sa.select(
        sa.cast(sa.null(), sa.String),
        sa.cast(sa.null(), sa.String),
        sa.func.min(sa.case((sa.and_(goes_on, found.c.next_at > now), found.c.next_at))),
        sa.func.min(sa.case((sa.and_(found.c.next_at.is_not(None), found.c.expires_at > now), found.c.expires_at))),
    ).select_from(found)
    return sa.union_all(sa.select(found).where(acts), later)


_LOOK = _statement()
_MOMENT: Final = (int, NoneType)


def _details(tx: sa.Connection, batch_call_ids: Sequence[str]) -> dict[str, Any]:
    calling = sa.select(sa.func.count()).where(_of_it(), tasks.c.status == TaskStatus.CALLING)
    return {
        row.batch_call_id: row
        for chunk in chunks(batch_call_ids, CHUNK)
        for row in tx.execute(
            sa.select(
                batch_calls.c.batch_call_id,
                batch_calls.c.max_concurrency,
                batch_calls.c.calls_per_second,
                batch_calls.c.last_sent_at,
                calling.scalar_subquery().label("calling"),
                first_people.are_dialled().label("first_done"),
            ).where(batch_calls.c.batch_call_id.in_(chunk))
        )
    }


def _dials(row: sa.Row[Any], now: int, acting: Mapping[str, Any]) -> bool:
    if row.status != State.SENT or not _is_sound(row, acting[row.batch_call_id]):
        return False
    if acting[row.batch_call_id].first_done:
        return False
    over = row.expires_at is not None and row.expires_at <= now
    return row.next_at is not None and row.next_at <= now and not over


def _ends_its_first(row: sa.Row[Any], now: int, acting: Mapping[str, Any]) -> bool:
    """Its first people are being called; when these calls have ended it is paused, and until then nothing is to do."""
    if row.status != State.SENT or not _is_sound(row, acting[row.batch_call_id]):
        return False
    over = row.expires_at is not None and row.expires_at <= now
    return bool(acting[row.batch_call_id].first_done and acting[row.batch_call_id].calling and not over)


def _is_sound(row: sa.Row[Any], details: sa.Row[Any]) -> bool:
    """Whether what is computed with are numbers. One that is not makes a move of it, which says what is wrong."""
    return (
        isinstance(row.next_at, _MOMENT)
        and isinstance(row.expires_at, _MOMENT)
        and isinstance(details.last_sent_at, _MOMENT)
        and isinstance(details.max_concurrency, int)
        and isinstance(details.calls_per_second, int | float | None)
    )


def _moves(row: sa.Row[Any], now: int, acting: Mapping[str, Any]) -> bool:
    if row.status == State.SENT and row.next_at is None:
        return bool(acting[row.batch_call_id].calling == 0)
    return not _dials(row, now, acting)


def _due(tx: sa.Connection, batch_call_id: str, now: int, limit: int) -> int:
    some = (
        sa.select(sa.literal(1))
        .where(tasks.c.batch_call_id == batch_call_id, tasks.c.status == TaskStatus.PENDING, tasks.c.due_at <= now)
        .limit(limit)
        .subquery()
    )
    return tx.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()


@dataclass(frozen=True, slots=True)
class Plan:
    """Lanes to open, and lanes to end after the call they are on, so that others get theirs."""

    opened: Mapping[str, int]
    ended: Mapping[str, int]


def plan(
    work: Sequence[Open],
    lanes: Mapping[str, int],
    *,
    waiting: Mapping[str, int],
    capacity: int,
    parked: Mapping[str, int] = MappingProxyType({}),
) -> Plan:
    """Divide this process's lanes among the batch calls that have something to dial; none of them starves.

    Args:
        work: batch calls with due tasks.
        lanes: this process's lanes, by batch call.
        waiting: lanes that were opened and that no process has taken up yet.
        capacity: most calls at once in this process.
        parked: those of `lanes` that wait for the moment at which they may dial, by batch call.
    """
    could = {
        one.batch_call_id: _could(one, lanes.get(one.batch_call_id, 0), parked.get(one.batch_call_id, 0))
        for one in work
    }
    # Of more batch calls than there are lines, those get one that have waited longest: they take turns.
    wanting = [one for one in work if could[one.batch_call_id]]
    turns = nsmallest(capacity, wanting, key=lambda one: one.last_sent_at or 0)
    first = could.keys() & {one.batch_call_id for one in turns}
    wanted = [lines if key in first else 0 for key, lines in could.items()]
    shares = dict(zip(could, rules.fair_shares(wanted, capacity), strict=True))
    room = capacity - sum(lanes.values()) - sum(waiting.values())
    opened: dict[str, int] = {}
    ended: dict[str, int] = {}
    for batch_call_id, share in shares.items():
        has = lanes.get(batch_call_id, 0) + waiting.get(batch_call_id, 0)
        if share > has and room > 0:
            opened[batch_call_id] = min(share - has, room)
            room -= opened[batch_call_id]
        elif share < has:
            ended[batch_call_id] = has - share
    return Plan(opened, ended)


def _could(one: Open, lanes: int, parked: int) -> int:
    """Lanes that this process could use for it: those it has, and those that its limits leave room for."""
    more = min(one.due, one.max_concurrency - one.calling)
    if one.calls_per_second is not None:
        # Those that wait for their moment are no use in larger numbers.
        more = min(more, ceil(rules.pace(one.calls_per_second)) - parked)
    return lanes + max(0, more)
