"""The engine's transactions: what is due, starting attempts, their outcomes, and what a crash left behind.

The rules that keep anybody from being called twice or after a stop are held here, by SQL, whoever runs the engine:
`claim` commits an attempt before `placing` lets the carrier dial it, and both look at the batch call's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp import calling_hours
from batchcall_mcp.dialer import claims, rules
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.records import BatchCallRecord, from_ms, to_ms
from batchcall_mcp.dialer.rules import State
from batchcall_mcp.dialer.store import CHUNK, Store, chunks
from batchcall_mcp.dialer.tables import attempts, batch_calls, tasks
from batchcall_mcp.model import TaskStatus

STALE_AFTER: Final = timedelta(seconds=10)
"""A claim that could not be placed for so long (a machine that slept) is checked again instead of dialled."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that is over, with what came of it."""

    task_id: str
    n: int
    batch_call_id: str
    status: TaskStatus
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Batch calls that need a transaction now, and when the next one will."""

    due: tuple[str, ...]
    next_at: datetime | None


class Dispatch:
    """What the engine does with the database. For one worker thread.

    Args:
        store: the database.
        daily_cap: most attempts at a number within 24 hours, over all batch calls of an organisation.
        retry_delay: how long to wait before a redial that no retry rule times.
    """

    def __init__(self, store: Store, *, daily_cap: int, retry_delay: timedelta) -> None:
        self._store = store
        self._daily_cap = daily_cap
        self._retry_delay = retry_delay

    def look(self, room: int) -> Work:
        """What there is to do with `room` free lines, without taking a lock."""
        task = tasks.c
        of_it = task.batch_call_id == batch_calls.c.batch_call_id
        pending = sa.select(sa.func.min(task.due_at)).where(of_it, task.status == TaskStatus.PENDING)
        calling = sa.select(sa.func.count()).where(of_it, task.status == TaskStatus.CALLING)
        query = sa.select(
            batch_calls.c.batch_call_id,
            batch_calls.c.status,
            batch_calls.c.scheduled_at,
            batch_calls.c.max_concurrency,
            pending.scalar_subquery().label("due_at"),
            calling.scalar_subquery().label("calling"),
        ).where(batch_calls.c.status.in_((State.SENT, State.SCHEDULED)))
        with self._store.reading() as tx:
            rows = tx.execute(query).all()
        now, due, later = self._store.now(), [], []
        for row in rows:
            if row.status == State.SENT and row.due_at is None:
                if row.calling == 0:
                    due.append(row.batch_call_id)
                continue
            if row.status == State.SENT and (room == 0 or row.calling >= row.max_concurrency):
                continue
            moment = row.due_at if row.status == State.SENT else row.scheduled_at
            if moment <= now:
                due.append(row.batch_call_id)
            else:
                later.append(moment)
        return Work(tuple(due), from_ms(min(later)) if later else None)

    def record_and_claim(self, ended: Sequence[Ended], due: Sequence[str], room: int) -> list[Attempt]:
        """One transaction: write outcomes, then start attempts of the batch calls that are due.

        What it returns is committed, so that a crash from here on makes it `interrupted`, never dialled again.
        """
        touched = {*due, *(end.batch_call_id for end in ended)}
        with self._store.writing() as tx:
            now = self._store.clock()
            self._record(tx, ended, now)
            started = self._claim(tx, due, room, now) if due else []
            _finish(tx, touched, to_ms(now))
        return started

    @contextmanager
    def placing(
        self, started: Sequence[Attempt], since: datetime, may_dial: Callable[[], bool]
    ) -> Iterator[list[Attempt]]:
        """Hold the state of the batch calls still while the carrier is asked to dial.

        Yields those that may still be dialled. The others, because somebody paused or cancelled since
        `record_and_claim` or because the claim is stale, are taken back as if they had never been started.
        """
        with self._store.writing() as tx:
            open_ids = {
                row.batch_call_id
                for row in tx.execute(
                    sa.select(batch_calls.c.batch_call_id)
                    .where(
                        batch_calls.c.batch_call_id.in_({attempt.batch_call_id for attempt in started}),
                        batch_calls.c.status == State.SENT,
                    )
                    .with_for_update(read=True)
                )
            }
            ours = {
                (row.task_id, row.attempts)
                for chunk in chunks(started, CHUNK)
                for row in tx.execute(
                    sa.select(tasks.c.task_id, tasks.c.attempts).where(
                        tasks.c.task_id.in_([attempt.task_id for attempt in chunk]),
                        tasks.c.status == TaskStatus.CALLING,
                    )
                )
            }
            fresh = may_dial() and self._store.clock() - since < STALE_AFTER
            mine = [attempt for attempt in started if (attempt.task_id, attempt.n) in ours]
            placed = [attempt for attempt in mine if fresh and attempt.batch_call_id in open_ids]
            _withdraw(tx, [attempt for attempt in mine if attempt not in placed], self._store.now())
            yield placed

    def interrupt_open_attempts(self) -> int:
        """Mark every attempt without an outcome as `interrupted`; for whoever has just got the engine's lock."""
        query = sa.select(tasks.c.task_id, tasks.c.attempts, tasks.c.batch_call_id).where(
            tasks.c.status == TaskStatus.CALLING
        )
        with self._store.writing() as tx:
            now = self._store.clock()
            ended = [
                Ended(row.task_id, row.attempts, row.batch_call_id, TaskStatus.INTERRUPTED, INTERRUPTED)
                for row in tx.execute(query)
            ]
            self._record(tx, ended, now)
            _finish(tx, {end.batch_call_id for end in ended}, to_ms(now))
        return len(ended)

    def _claim(self, tx: sa.Connection, due: Sequence[str], room: int, now: datetime) -> list[Attempt]:
        at = to_ms(now)
        arrived = (batch_calls.c.status == State.SCHEDULED) & (batch_calls.c.scheduled_at <= at)
        tx.execute(batch_calls.update().where(arrived).values(status=State.SENT, started_at=at, updated_at=at))
        records = [
            BatchCallRecord.of(row)
            for chunk in chunks(due, CHUNK)
            for row in tx.execute(
                sa.select(batch_calls)
                .where(batch_calls.c.batch_call_id.in_(chunk), batch_calls.c.status == State.SENT)
                .with_for_update(skip_locked=True)
            ).mappings()
        ]
        calling = _calling(tx, [record.batch_call_id for record in records])
        wanted = [max(0, record.max_concurrency - calling.get(record.batch_call_id, 0)) for record in records]
        started: list[Attempt] = []
        for record, share in zip(records, rules.fair_shares(wanted, room), strict=True):
            if share:
                started += claims.start_due(tx, record, share, now=now, daily_cap=self._daily_cap)
        return started

    def _record(self, tx: sa.Connection, ended: Sequence[Ended], now: datetime) -> None:
        records = _batch_calls(tx, {end.batch_call_id for end in ended})
        rows = {
            row.task_id: row
            for chunk in chunks(ended, CHUNK)
            for row in tx.execute(sa.select(tasks).where(tasks.c.task_id.in_([end.task_id for end in chunk])))
        }
        if ended:
            tx.execute(
                _ATTEMPT_ENDED,
                [
                    {"id": end.task_id, "nth": end.n, "at": to_ms(now), "how": end.status, "why": end.error}
                    for end in ended
                ],
            )
            tx.execute(
                _TASK_ENDED, [self._ended(end, rows[end.task_id], records[end.batch_call_id], now) for end in ended]
            )

    def _ended(self, end: Ended, row: Any, record: BatchCallRecord, now: datetime) -> dict[str, Any]:
        zones = calling_hours.recipient_zones(row.to_number, row.timezone, record.timezone)
        again = rules.redial_at(
            record.redialing(),
            end.status,
            attempts=end.n,
            max_retries=row.max_retries,
            zone=zones[0] if zones else "UTC",
            now=now,
            default_delay=self._retry_delay,
        )
        if record.status is State.CANCELLED:
            again = None
        return {
            "id": end.task_id,
            "nth": end.n,
            "now_is": TaskStatus.PENDING if again else end.status,
            "outcome": end.status,
            "due": to_ms(again) if again else None,
            "picked_up": row.answered or end.status in rules.ANSWERED,
            "why": end.error,
            "at": None if again else to_ms(now),
        }


INTERRUPTED: Final = "the dialer stopped during the call; its outcome is not known"

_ATTEMPT_ENDED = (
    attempts.update()
    .where(attempts.c.task_id == sa.bindparam("id"), attempts.c.n == sa.bindparam("nth"), attempts.c.outcome.is_(None))
    .values(ended_at=sa.bindparam("at"), outcome=sa.bindparam("how"), error_message=sa.bindparam("why"))
)
_TASK_ENDED = (
    tasks.update()
    .where(
        tasks.c.task_id == sa.bindparam("id"),
        tasks.c.attempts == sa.bindparam("nth"),
        tasks.c.status == TaskStatus.CALLING,
    )
    .values(
        status=sa.bindparam("now_is"),
        last_outcome=sa.bindparam("outcome"),
        due_at=sa.bindparam("due"),
        answered=sa.bindparam("picked_up"),
        error_message=sa.bindparam("why"),
        completed_at=sa.bindparam("at"),
    )
)


def _batch_calls(tx: sa.Connection, batch_call_ids: Iterable[str]) -> dict[str, BatchCallRecord]:
    rows = [
        row
        for chunk in chunks(batch_call_ids, CHUNK)
        for row in tx.execute(
            sa.select(batch_calls).where(batch_calls.c.batch_call_id.in_(chunk)).with_for_update()
        ).mappings()
    ]
    return {row["batch_call_id"]: BatchCallRecord.of(row) for row in rows}


def _calling(tx: sa.Connection, batch_call_ids: Sequence[str]) -> dict[str, int]:
    return {
        row.batch_call_id: row.calling
        for chunk in chunks(batch_call_ids, CHUNK)
        for row in tx.execute(
            sa.select(tasks.c.batch_call_id, sa.func.count().label("calling"))
            .where(tasks.c.batch_call_id.in_(chunk), tasks.c.status == TaskStatus.CALLING)
            .group_by(tasks.c.batch_call_id)
        )
    }


def _finish(tx: sa.Connection, batch_call_ids: Iterable[str], now: int) -> None:
    """Complete those of these batch calls that have nothing left to do."""
    unfinished = sa.exists().where(
        tasks.c.batch_call_id == batch_calls.c.batch_call_id, tasks.c.status.in_(sorted(rules.UNFINISHED))
    )
    for chunk in chunks(batch_call_ids, CHUNK):
        running = batch_calls.c.batch_call_id.in_(chunk) & (batch_calls.c.status == State.SENT)
        values = {"status": State.COMPLETED, "completed_at": now, "updated_at": now}
        tx.execute(batch_calls.update().where(running, ~unfinished).values(values))


def _withdraw(tx: sa.Connection, withdrawn: Sequence[Attempt], now: int) -> None:
    """Undo attempts that the carrier was never asked to dial."""
    cancelled = (
        sa.select(batch_calls.c.batch_call_id)
        .where(batch_calls.c.batch_call_id == tasks.c.batch_call_id, batch_calls.c.status == State.CANCELLED)
        .exists()
    )
    for attempt in withdrawn:
        tx.execute(attempts.delete().where(attempts.c.task_id == attempt.task_id, attempts.c.n == attempt.n))
        ended = sa.func.coalesce(tasks.c.last_outcome, TaskStatus.CANCELLED)
        earlier = sa.select(sa.func.max(attempts.c.started_at)).where(attempts.c.task_id == attempt.task_id)
        tx.execute(
            tasks.update()
            .where(tasks.c.task_id == attempt.task_id)
            .values(
                status=sa.case((cancelled, ended), else_=TaskStatus.PENDING),
                due_at=sa.case((cancelled, None), else_=now),
                completed_at=sa.case((cancelled, now), else_=None),
                attempts=attempt.n - 1,
                call_id=f"{attempt.task_id}:{attempt.n - 1}" if attempt.n > 1 else None,
                attempted_at=earlier.scalar_subquery(),
            )
        )
