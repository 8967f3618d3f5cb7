"""Starting the attempts of one batch call, inside the transaction that holds its state still."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import sqlalchemy as sa

from batchcall_mcp import calling_hours
from batchcall_mcp.clock import from_ms, to_ms
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.records import BatchCallRecord, HeldBy
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import outbox
from batchcall_mcp.dialer.storage.store import CHUNK, chunks
from batchcall_mcp.dialer.storage.tables import attempts, batch_calls, do_not_call, is_no_number, tasks
from batchcall_mcp.model import CallingWindow, TaskStatus

LOOKED_AT_ONCE: Final = 2_000
"""Most tasks that one transaction puts off or leaves out, so that it stays short."""

ZONE_UNKNOWN: Final = "time zone of the number is not known; give a timezone"
DO_NOT_CALL: Final = "the number is on the do-not-call list"
NEVER_OPEN: Final = "the calling window never opens"
ELSEWHERE: Final = "another process is deciding about the same number; looked at again in a moment"
_MOMENT: Final = timedelta(seconds=1)
EXPIRED: Final = "the batch call expired before this task could be dialled"
_MAY_EXPIRE: Final = frozenset({State.SENT, State.PAUSED})


@dataclass(frozen=True, slots=True)
class _PutOff:
    until: datetime
    reason: str
    held_by: HeldBy | None


@dataclass(frozen=True, slots=True)
class _LeftOut:
    status: TaskStatus
    reason: str


class _Gate:
    """May this task be dialled at this moment? One for each batch call and transaction, so that answers are reused."""

    def __init__(self, record: BatchCallRecord, now: datetime, daily_cap: int, min_gap: timedelta) -> None:
        self._window: CallingWindow = record.calling_window()
        self._timezone = record.timezone
        self._now = now
        self._cap = daily_cap
        self._gap = min_gap
        self._expires = record.expires()
        self._hours: dict[tuple[str, ...], _PutOff | _LeftOut | None] = {}
        self.never: set[str] = set()
        self.elsewhere: set[str] = set()
        self.dialled: dict[str, list[datetime]] = {}
        self.dialled_by_others: dict[str, datetime] = {}

    def check(self, to_number: str, timezone: str | None) -> _PutOff | _LeftOut | None:
        verdict = self._judge(to_number, timezone)
        if isinstance(verdict, _PutOff) and rules.closes_before(self._expires, verdict.until):
            return _LeftOut(TaskStatus.EXPIRED, EXPIRED)
        return verdict

    def _judge(self, to_number: str, timezone: str | None) -> _PutOff | _LeftOut | None:
        if to_number in self.never:
            return _LeftOut(TaskStatus.SKIPPED, DO_NOT_CALL)
        zones = (
            calling_hours.recipient_zones(to_number, timezone, self._timezone)
            if self._window.timezone == "recipient"
            else (self._window.timezone,)
        )
        if zones not in self._hours:
            self._hours[zones] = self._closed(zones)
        closed = self._hours[zones]
        if closed:
            return closed
        if to_number in self.elsewhere:
            return _PutOff(self._now + _MOMENT, ELSEWHERE, None)
        until = rules.capped_until(self.dialled.get(to_number, ()), self._now, self._cap)
        if until:
            reason = f"dialled {self._cap} times in 24 hours; next attempt not before {_iso(until)}"
            return _PutOff(until, reason, "daily_cap")
        until = rules.apart_until(self.dialled_by_others.get(to_number), self._now, self._gap)
        if until:
            reason = f"another batch call dialled the number; next attempt not before {_iso(until)}"
            return _PutOff(until, reason, "min_gap")
        return None

    def _closed(self, zones: tuple[str, ...]) -> _PutOff | _LeftOut | None:
        if not zones:
            return _LeftOut(TaskStatus.SKIPPED, ZONE_UNKNOWN)
        if calling_hours.is_open(self._window, zones, self._now):
            return None
        opens = calling_hours.next_open(self._window, zones, self._now)
        if opens is None:
            return _LeftOut(TaskStatus.EXPIRED, NEVER_OPEN)
        reason = f"outside calling hours; next attempt not before {_iso(opens)}"
        return _PutOff(opens, reason, "calling_hours")


@dataclass(frozen=True, slots=True)
class Claim:
    """The attempts that a transaction started; `more`: due tasks are left that it has not looked at."""

    started: list[Attempt]
    more: bool


def start_due(
    tx: sa.Connection,
    record: BatchCallRecord,
    share: int,
    *,
    now: datetime,
    daily_cap: int,
    worker_id: str,
    min_gap: timedelta = timedelta(0),
) -> Claim:
    """Start up to `share` attempts. A due task that may not be dialled now gets a new due time, or ends with a reason.

    So that a task which is due is either started or no longer due, and nothing has to be asked twice.
    """
    if rules.expired(record.expires(), now):
        return Claim([], more=False)
    gate = _Gate(record, now, daily_cap, min_gap)
    started: list[Attempt] = []
    looked, limit = 0, share + 10
    while len(started) < share and looked < LOOKED_AT_ONCE:
        candidates = tx.execute(
            sa.select(tasks)
            .where(
                tasks.c.batch_call_id == record.batch_call_id,
                tasks.c.status == TaskStatus.PENDING,
                tasks.c.due_at <= to_ms(now),
            )
            .order_by(tasks.c.due_at, tasks.c.position)
            .limit(limit)
        ).all()
        _learn(tx, gate, record, [row.to_number for row in candidates], now)
        started += _decide(tx, gate, record, candidates, share - len(started), now, worker_id)
        looked += len(candidates)
        if len(candidates) < limit:
            break
        limit = CHUNK
    if started:
        mine = batch_calls.c.batch_call_id == record.batch_call_id
        tx.execute(batch_calls.update().where(mine).values(last_sent_at=to_ms(now)))
    return Claim(started, more=looked >= LOOKED_AT_ONCE and len(started) < share)


def check_due(tx: sa.Connection, record: BatchCallRecord, now: datetime) -> None:
    """Go on only if each of its tasks that wait is due at some time: without one it would be looked at without end.

    Raises:
        ValueError: one never is.
    """
    if record.status is not State.SENT or rules.expired(record.expires(), now):
        return
    waiting = (tasks.c.batch_call_id == record.batch_call_id) & (tasks.c.status == TaskStatus.PENDING)
    never = sa.select(tasks.c.task_id).where(waiting, tasks.c.due_at.is_(None) | is_no_number(tasks.c.due_at))
    if tx.execute(never.limit(1)).first() is not None:
        raise ValueError("one of its tasks waits, and is never due")


class MayExpire(Protocol):
    """What has to be known of a batch call: its record, or a row of these columns."""

    @property
    def batch_call_id(self) -> str: ...

    @property
    def status(self) -> str: ...

    @property
    def expires_at(self) -> int | None: ...


def expire(tx: sa.Connection, record: MayExpire, now: int) -> None:
    """End what waits in a batch call whose time is over, a part at a time. Who was dialled keeps the last outcome."""
    at = record.expires_at
    if not isinstance(at, int) or at > now or record.status not in _MAY_EXPIRE:
        return
    waiting = (
        sa.select(tasks.c.task_id)
        .where(tasks.c.batch_call_id == record.batch_call_id, tasks.c.status == TaskStatus.PENDING)
        .limit(LOOKED_AT_ONCE)
    )
    for chunk in chunks(list(tx.execute(waiting).scalars()), CHUNK):
        tx.execute(
            tasks.update()
            .where(tasks.c.task_id.in_(chunk))
            .values(
                status=sa.func.coalesce(tasks.c.last_outcome, TaskStatus.EXPIRED),
                due_at=None,
                held_by=None,
                error_message=EXPIRED,
                completed_at=now,
            )
        )
        outbox.task_events(tx, chunk, now)


def _learn(tx: sa.Connection, gate: _Gate, record: BatchCallRecord, numbers: Iterable[str], now: datetime) -> None:
    for chunk in chunks(sorted(set(numbers) - gate.dialled.keys()), CHUNK):
        gate.never.update(
            tx.execute(sa.select(do_not_call.c.to_number).where(do_not_call.c.to_number.in_(chunk))).scalars()
        )
        recent = sa.select(attempts.c.to_number, attempts.c.started_at, attempts.c.batch_call_id).where(
            attempts.c.organization_id == record.organization_id,
            attempts.c.to_number.in_(chunk),
            attempts.c.started_at > to_ms(now - rules.DAY),
        )
        gate.dialled.update({number: [] for number in chunk})
        for row in tx.execute(recent):
            at = from_ms(row.started_at)
            gate.dialled[row.to_number].append(at)
            if row.batch_call_id != record.batch_call_id:
                gate.dialled_by_others[row.to_number] = max(at, gate.dialled_by_others.get(row.to_number, at))


def _hold(
    tx: sa.Connection,
    gate: _Gate,
    record: BatchCallRecord,
    candidates: Sequence[sa.Row[Any]],
    room: int,
    now: datetime,
) -> set[str] | None:
    """Keep other processes from deciding about the same numbers at the same time: the daily cap and the gap are exact.

    Without waiting, so that no two ever wait for each other. Gives the numbers that may be started; None: all, because
    SQLite has one writer at a time.
    """
    if tx.dialect.name != "postgresql":
        return None
    free = [row.to_number for row in candidates if gate.check(row.to_number, row.timezone) is None][:room]
    number = sa.func.unnest(sa.literal(sorted(set(free)), sa.ARRAY(sa.String))).column_valued("number")
    lock = sa.func.hashtextextended(sa.literal(record.organization_id + ":") + number, sa.literal(0, sa.BigInteger))
    query = sa.select(number).where(~sa.func.pg_try_advisory_xact_lock(lock, type_=sa.Boolean))
    gate.elsewhere.update(tx.execute(query).scalars())
    for one in set(free) & gate.dialled.keys():
        del gate.dialled[one]
    _learn(tx, gate, record, free, now)
    return set(free)


def _decide(
    tx: sa.Connection,
    gate: _Gate,
    record: BatchCallRecord,
    candidates: Sequence[sa.Row[Any]],
    room: int,
    now: datetime,
    worker_id: str,
) -> list[Attempt]:
    started: list[Attempt] = []
    put_off: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    held = _hold(tx, gate, record, candidates, room, now)
    for row in candidates:
        if len(started) == room:
            break
        verdict = gate.check(row.to_number, row.timezone)
        if verdict is None and held is not None and row.to_number not in held:
            break  # those before were put off; it is its turn in the next transaction
        match verdict:
            case _PutOff(until, reason, held_by):
                put_off.append({"id": row.task_id, "due": to_ms(until), "why": reason, "held": held_by})
            case _LeftOut(status, reason):
                # Who was dialled before keeps the outcome of that dial.
                ending = row.last_outcome or status
                left_out.append({"id": row.task_id, "how": ending, "why": reason, "at": to_ms(now)})
            case None:
                gate.dialled[row.to_number].append(now)
                started.append(_attempt(record, row))
    if put_off:
        tx.execute(_PUT_OFF, put_off)
    if left_out:
        tx.execute(_LEFT_OUT, left_out)
        outbox.task_events(tx, [one["id"] for one in left_out], to_ms(now))
    if started:
        _write_attempts(tx, record, started, to_ms(now), worker_id)
    return started


def _attempt(record: BatchCallRecord, row: Any) -> Attempt:
    return Attempt(
        task_id=row.task_id,
        n=row.attempts + 1,
        batch_call_id=record.batch_call_id,
        from_number=record.from_number,
        to_number=row.to_number,
        agent_id=record.agent_id,
        dynamic_variables=row.dynamic_variables,
    )


def _write_attempts(
    tx: sa.Connection, record: BatchCallRecord, started: Sequence[Attempt], at: int, worker_id: str
) -> None:
    tx.execute(
        attempts.insert(),
        [
            {
                "task_id": attempt.task_id,
                "n": attempt.n,
                "batch_call_id": record.batch_call_id,
                "organization_id": record.organization_id,
                "to_number": attempt.to_number,
                "worker_id": worker_id,
                "started_at": at,
            }
            for attempt in started
        ],
    )
    tx.execute(
        _STARTED,
        [{"id": attempt.task_id, "nth": attempt.n, "call": attempt.attempt_id, "at": at} for attempt in started],
    )


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes")


_WAITING = (tasks.c.task_id == sa.bindparam("id")) & (tasks.c.status == TaskStatus.PENDING)
_PUT_OFF = (
    tasks.update()
    .where(_WAITING)
    .values(due_at=sa.bindparam("due"), error_message=sa.bindparam("why"), held_by=sa.bindparam("held"))
)
_LEFT_OUT = (
    tasks.update()
    .where(_WAITING)
    .values(
        status=sa.bindparam("how"),
        error_message=sa.bindparam("why"),
        due_at=None,
        held_by=None,
        completed_at=sa.bindparam("at"),
    )
)
_STARTED = (
    tasks.update()
    .where(_WAITING)
    .values(
        status=TaskStatus.CALLING,
        attempts=sa.bindparam("nth"),
        call_id=sa.bindparam("call"),
        attempted_at=sa.bindparam("at"),
        due_at=None,
        held_by=None,
        error_message=None,
    )
)
