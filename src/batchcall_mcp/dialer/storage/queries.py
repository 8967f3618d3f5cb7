"""What is asked of the dialer's database.

Functions take the open transaction first; what belongs to another organisation is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from batchcall_mcp.clock import span_ms, to_ms
from batchcall_mcp.dialer.carriers.base import SIMULATED
from batchcall_mcp.dialer.domain.dates import Person
from batchcall_mcp.dialer.domain.records import (
    BatchCallRecord,
    HeldBack,
    Results,
    SortBy,
    SortOrder,
    TaskCounts,
    TaskFilter,
    TaskRecord,
)
from batchcall_mcp.dialer.domain.rules import DAY, State
from batchcall_mcp.dialer.storage.store import INSERTED_AT_ONCE
from batchcall_mcp.dialer.storage.tables import attempts, batch_calls, tasks
from batchcall_mcp.errors import NotFound
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.money import total

MOST_CHOICES = 50
"""Of one batch call that are counted apart."""
_TASK_COLUMNS = [tasks.c[field.name] for field in fields(TaskRecord)]

# Asked for every request, so built once: to build such a statement takes longer than to run it.
_ONE = sa.select(batch_calls).where(
    batch_calls.c.batch_call_id == sa.bindparam("batch_call_id"),
    batch_calls.c.organization_id == sa.bindparam("organization_id"),
)
_ONE_LOCKED = _ONE.with_for_update()
_COUNTS = (
    sa.select(
        tasks.c.batch_call_id,
        tasks.c.status,
        sa.func.count().label("total"),
        sa.func.count(sa.case((tasks.c.attempts > 0, 1))).label("sent"),
        sa.func.count(sa.case((tasks.c.answered, 1))).label("picked_up"),
    )
    .where(tasks.c.batch_call_id.in_(sa.bindparam("batch_call_ids", expanding=True)))
    .group_by(tasks.c.batch_call_id, tasks.c.status)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCallQuery:
    """A page of batch calls; `page` counts from 0, moments are milliseconds."""

    status: tuple[str, ...] = ()
    agent_id: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    created_after: int | None = None
    page: int = 0
    limit: int = 20
    sort_by: SortBy = "updated_at"
    sort_order: SortOrder = "descending"


def get(tx: sa.Connection, organization_id: str, batch_call_id: str, *, lock: bool = False) -> BatchCallRecord:
    """One batch call; `lock` holds its state still until the transaction ends.

    Raises:
        NotFound: there is none with this id in this organisation.
    """
    asked = {"batch_call_id": batch_call_id, "organization_id": organization_id}
    # PostgreSQL takes no NUL, not even to look for.
    found = None if "\0" in batch_call_id else tx.execute(_ONE_LOCKED if lock else _ONE, asked)
    row = None if found is None else found.mappings().one_or_none()
    if row is None:
        raise NotFound(f"There is no batch call {batch_call_id!r} in this organization. Nothing was changed.")
    return BatchCallRecord.of(row)


def counts(tx: sa.Connection, batch_call_ids: Iterable[str]) -> dict[str, TaskCounts]:
    """Counts of several batch calls, from one pass over an index."""
    rows: dict[str, list[sa.Row[Any]]] = {}
    for row in tx.execute(_COUNTS, {"batch_call_ids": list(batch_call_ids)}):
        rows.setdefault(row.batch_call_id, []).append(row)
    return {
        batch_call_id: TaskCounts(
            by_status={TaskStatus(row.status): row.total for row in group},
            sent=sum(row.sent for row in group),
            picked_up=sum(row.picked_up for row in group),
        )
        for batch_call_id, group in rows.items()
    }


def held_back(
    tx: sa.Connection, record: BatchCallRecord, now: datetime, daily_cap: int, min_gap: timedelta = timedelta(0)
) -> list[HeldBack]:
    """Who of its pending tasks would not be dialled now, by reason.

    While it dials: what its claims put off, and redials that wait. Before: the daily cap and the gap to other batch
    calls, from what the organisation has dialled, as it is at the time at which it is to begin. What is over holds
    nobody.
    """
    if record.status in _BEFORE_IT_DIALS:
        at = to_ms(now)
        if record.status is State.SCHEDULED and record.scheduled_at is not None:
            at = max(at, record.scheduled_at)
        return [*_capped(tx, record, at, daily_cap), *_too_soon(tx, record, at, daily_cap, min_gap)]
    held = (tasks.c.batch_call_id == record.batch_call_id) & tasks.c.held_by.is_not(None)
    query = (
        sa.select(tasks.c.held_by, sa.func.count().label("calls"), sa.func.min(tasks.c.due_at).label("until"))
        .where(held, tasks.c.due_at > to_ms(now))
        .group_by(tasks.c.held_by)
        .order_by(tasks.c.held_by)
    )
    return [HeldBack(reason=row.held_by, calls=row.calls, until=row.until) for row in tx.execute(query)]


_BEFORE_IT_DIALS = frozenset({State.DRAFT, State.SCHEDULED})


def counted_for(organization_id: str, carrier: str) -> sa.ColumnElement[bool]:
    """Of its attempts, those that count where this carrier dials: what the simulator did was no call."""
    is_simulated = attempts.c.carrier == SIMULATED
    alike = is_simulated if carrier == SIMULATED else ~is_simulated
    return (attempts.c.organization_id == organization_id) & alike


def _capped(tx: sa.Connection, record: BatchCallRecord, at: int, daily_cap: int) -> list[HeldBack]:
    """From the attempts to the tasks: nobody was dialled so often on most days, and then no task is looked at."""
    day = span_ms(DAY)
    of_the_day = (attempts.c.started_at > at - day) & counted_for(record.organization_id, record.carrier)
    often = _dialled_often(record, at, daily_cap)
    if tx.execute(often.limit(1)).first() is None:
        return []
    waiting = (tasks.c.batch_call_id == record.batch_call_id) & (tasks.c.status == TaskStatus.PENDING)
    # Not a join: SQLite would go through all tasks for each of the numbers.
    held = sa.select(sa.func.count()).where(waiting, tasks.c.to_number.in_(often))
    calls = tx.execute(held).scalar_one()
    if not calls:
        return []
    latest_first = sa.func.row_number().over(partition_by=attempts.c.to_number, order_by=attempts.c.started_at.desc())
    ranked = sa.select(attempts.c.to_number, attempts.c.started_at, latest_first.label("nth")).where(of_the_day)
    recent = ranked.subquery()
    # As `rules.capped_until`: a day after the attempt that is the last one allowed.
    listed = recent.c.to_number.in_(sa.select(tasks.c.to_number).where(waiting))
    first = sa.select(sa.func.min(recent.c.started_at)).where(recent.c.nth == daily_cap, listed)
    return [HeldBack(reason="daily_cap", calls=calls, until=tx.execute(first).scalar_one() + day)]


def _dialled_often(record: BatchCallRecord, at: int, daily_cap: int) -> sa.Select[tuple[str]]:
    of_the_day = (attempts.c.started_at > at - span_ms(DAY)) & counted_for(record.organization_id, record.carrier)
    numbers = sa.select(attempts.c.to_number).where(of_the_day).group_by(attempts.c.to_number)
    return numbers.having(sa.func.count() >= daily_cap)


def _too_soon(
    tx: sa.Connection, record: BatchCallRecord, at: int, daily_cap: int, min_gap: timedelta
) -> list[HeldBack]:
    """Whom another batch call has just dialled; who waits for the next day does not wait for this too."""
    gap = span_ms(min_gap)
    just_now = (
        counted_for(record.organization_id, record.carrier)
        & (attempts.c.started_at > at - gap)
        & (attempts.c.batch_call_id != record.batch_call_id)
    )
    if not gap or tx.execute(sa.select(attempts.c.task_id).where(just_now).limit(1)).first() is None:
        return []
    held = (
        (tasks.c.batch_call_id == record.batch_call_id)
        & (tasks.c.status == TaskStatus.PENDING)
        & tasks.c.to_number.not_in(_dialled_often(record, at, daily_cap))
    )
    recent = sa.select(attempts.c.to_number).where(just_now)
    calls = tx.execute(sa.select(sa.func.count()).where(held, tasks.c.to_number.in_(recent))).scalar_one()
    if not calls:
        return []
    listed = attempts.c.to_number.in_(sa.select(tasks.c.to_number).where(held))
    last = (
        sa.select(sa.func.max(attempts.c.started_at).label("at"))
        .where(just_now, listed)
        .group_by(attempts.c.to_number)
        .subquery()
    )
    return [
        HeldBack(reason="min_gap", calls=calls, until=tx.execute(sa.select(sa.func.min(last.c.at))).scalar_one() + gap)
    ]


def find(tx: sa.Connection, organization_id: str, query: BatchCallQuery) -> tuple[list[BatchCallRecord], int]:
    """A page of batch calls, and how many there are in all."""
    column = batch_calls.c["scheduled_at" if query.sort_by == "scheduled_timestamp" else query.sort_by]
    conditions = [batch_calls.c.organization_id == organization_id]
    if query.status:
        conditions.append(batch_calls.c.status.in_(query.status))
    if query.agent_id:
        conditions.append(batch_calls.c.agent_id.in_(query.agent_id))
    if query.name:
        conditions.append(sa.or_(*(batch_calls.c.name.icontains(part, autoescape=True) for part in query.name)))
    if query.created_after is not None:
        conditions.append(batch_calls.c.created_at > query.created_after)
    total = tx.execute(sa.select(sa.func.count()).select_from(batch_calls).where(*conditions)).scalar_one()
    # Of two made in the same millisecond the order must be the same on every page.
    order: list[sa.ColumnElement[Any]] = [column, batch_calls.c.created_at, batch_calls.c.batch_call_id]
    if query.sort_order == "descending":
        order = [part.desc() for part in order]
    page = sa.select(batch_calls).where(*conditions).order_by(*order)
    rows = tx.execute(page.limit(query.limit).offset(query.page * query.limit)).mappings()
    return [BatchCallRecord.of(row) for row in rows], total


def find_tasks(
    tx: sa.Connection, batch_call_id: str, wanted: TaskFilter, *, page: int, limit: int
) -> tuple[list[TaskRecord], int]:
    """A page of tasks in the order of the list, and how many there are in all."""
    conditions = [tasks.c.batch_call_id == batch_call_id]
    if wanted.takes_all:
        # Positions have no gaps: neither the tasks before the page nor those after it have to be gone through.
        last = sa.select(sa.func.max(tasks.c.position)).where(*conditions)
        total = tx.execute(last).scalar_one()
        total = 0 if total is None else total + 1
        first, after = (sa.literal(at * limit, sa.BigInteger) for at in (page, page + 1))  # beyond 32 bits
        conditions += [tasks.c.position >= first, tasks.c.position < after]
        asked = sa.select(*_TASK_COLUMNS).where(*conditions)
    else:
        if wanted.statuses:
            conditions.append(tasks.c.status.in_(wanted.statuses))
        for name in ("to_number", "choice", "answered_by"):
            if getattr(wanted, name) is not None:
                conditions.append(tasks.c[name] == getattr(wanted, name))
        total = tx.execute(sa.select(sa.func.count()).select_from(tasks).where(*conditions)).scalar_one()
        asked = sa.select(*_TASK_COLUMNS).where(*conditions).limit(limit).offset(page * limit)
    rows = tx.execute(asked.order_by(tasks.c.position)).all()
    return [TaskRecord(*row) for row in rows], total


def results(tx: sa.Connection, batch_call_id: str) -> Results:
    """What came of the calls of a list, from one pass over its rows; the choices that most people made first."""
    query = (
        sa.select(tasks.c.choice, sa.func.count().label("people"), sa.func.sum(tasks.c.duration_ms).label("talk_ms"))
        .where(tasks.c.batch_call_id == batch_call_id)
        .group_by(tasks.c.choice)
        .order_by(sa.func.count().desc(), tasks.c.choice)
    )
    rows = tx.execute(query).all()
    paid = sa.select(tasks.c.cost, sa.func.count().label("calls")).where(
        tasks.c.batch_call_id == batch_call_id, tasks.c.cost.is_not(None)
    )
    costs = tx.execute(paid.group_by(tasks.c.cost)).all()
    chosen = [row for row in rows if row.choice is not None]
    return Results(
        talk_ms=sum(int(row.talk_ms or 0) for row in rows),
        choices={row.choice: row.people for row in chosen[:MOST_CHOICES]},
        cost=total((row.cost, row.calls) for row in costs),
    )


def tasks_after(tx: sa.Connection, batch_call_id: str, position: int, limit: int) -> Sequence[sa.RowMapping]:
    """The next tasks of the list, with their positions."""
    query = sa.select(*_TASK_COLUMNS, tasks.c.position).where(
        # Bounded above too (positions have no gaps): after a large upload PostgreSQL would sort all that come after.
        tasks.c.batch_call_id == batch_call_id,
        tasks.c.position > position,
        tasks.c.position <= position + limit,
    )
    return tx.execute(query.order_by(tasks.c.position).limit(limit)).mappings().all()


def people(tx: sa.Connection, batch_call_id: str, *, promised: bool = False) -> Iterator[Person]:
    """Where the people of its list are, a part at a time; `promised`: only those with a promised call-back."""
    wanted = tasks.c.batch_call_id == batch_call_id
    if promised:
        wanted &= tasks.c.not_before.is_not(None)
    query = sa.select(tasks.c.position, tasks.c.to_number, tasks.c.timezone, tasks.c.not_before)
    after = -1
    while rows := tx.execute(
        query.where(wanted, tasks.c.position > after).order_by(tasks.c.position).limit(INSERTED_AT_ONCE)
    ).all():
        for row in rows:
            yield Person(*row)
        after = rows[-1].position


def waiting(tx: sa.Connection, batch_call_id: str) -> Iterator[tuple[int, str, str | None]]:
    """Whom it has still to call, a part at a time: place in the list, number, variables as JSON."""
    pending = (tasks.c.batch_call_id == batch_call_id) & (tasks.c.status == TaskStatus.PENDING)
    query = sa.select(tasks.c.position, tasks.c.to_number, tasks.c.dynamic_variables).where(pending)
    after = -1
    while rows := tx.execute(
        query.where(tasks.c.position > after).order_by(tasks.c.position).limit(INSERTED_AT_ONCE)
    ).all():
        yield from (tuple(row) for row in rows)
        after = rows[-1].position


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCall:
    """An attempt of a task. `carrier_call_id`: by which its carrier knows it; None: it does not."""

    task: TaskRecord
    attempt_id: str
    carrier: str
    carrier_call_id: str | None


def call_of(tx: sa.Connection, batch_call_id: str, task_id: str, n: int | None) -> PlacedCall:
    """Attempt `n` of a task; None: the last one.

    Raises:
        NotFound: it is not a task of this batch call, or it has no such attempt.
    """
    made = [row for row in attempts_of(tx, batch_call_id, task_id) if n is None or row["n"] == n]
    if not made:
        raise NotFound(f"Task {task_id!r} has no such call. Nothing was changed.")
    row = tx.execute(sa.select(*_TASK_COLUMNS).where(tasks.c.task_id == task_id)).one()
    last = made[-1]
    return PlacedCall(
        task=TaskRecord(*row),
        attempt_id=f"{task_id}:{last['n']}",
        carrier=last["carrier"],
        carrier_call_id=last["carrier_call_id"],
    )


def attempts_of(tx: sa.Connection, batch_call_id: str, task_id: str) -> Sequence[sa.RowMapping]:
    """The attempts of a task, oldest first.

    Raises:
        NotFound: it is not a task of this batch call.
    """
    known = sa.select(tasks.c.task_id).where(tasks.c.batch_call_id == batch_call_id, tasks.c.task_id == task_id)
    if "\0" in task_id or tx.execute(known).one_or_none() is None:
        raise NotFound(f"There is no task {task_id!r} in this batch call. Nothing was changed.")
    query = sa.select(attempts).where(attempts.c.batch_call_id == batch_call_id, attempts.c.task_id == task_id)
    return tx.execute(query.order_by(attempts.c.n)).mappings().all()


def attempts_since(tx: sa.Connection, organization_id: str, since: int, carrier: str) -> int:
    """Dials that the organisation has placed since a moment, as they count where this carrier dials."""
    query = sa.select(sa.func.count()).where(counted_for(organization_id, carrier), attempts.c.started_at >= since)
    return tx.execute(query).scalar_one()


def dialling(tx: sa.Connection, now: int) -> list[str]:
    """The batch calls that dial at this moment, or would have begun to."""
    arrived = (batch_calls.c.status == State.SCHEDULED) & (batch_calls.c.scheduled_at <= now)
    query = sa.select(batch_calls.c.batch_call_id).where((batch_calls.c.status == State.SENT) | arrived)
    return list(tx.execute(query).scalars())
