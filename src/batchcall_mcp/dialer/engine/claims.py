"""Starting the attempts of one batch call, inside the transaction that holds its state still."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp import calling_hours
from batchcall_mcp.clock import from_ms, to_ms
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.predial import Rest
from batchcall_mcp.dialer.domain.records import BatchCallRecord, HeldBy
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import do_not_call, outbox, queries
from batchcall_mcp.dialer.storage.store import CHUNK, chunks
from batchcall_mcp.dialer.storage.tables import NOT_DUE, attempts, batch_calls, is_no_number, tasks
from batchcall_mcp.model import TaskStatus

LOOKED_AT_ONCE: Final = 2_000
"""Most tasks that one transaction postpones or excludes, so that it stays short."""

ZONE_UNKNOWN: Final = "time zone of the number is not known; give a timezone"
DO_NOT_CALL: Final = "the number is on the do-not-call list"
NEVER_OPEN: Final = "the calling window never opens"
ELSEWHERE: Final = "another process is deciding about the same number; looked at again in a moment"
_MOMENT: Final = timedelta(seconds=1)
EXPIRED: Final = "the batch call expired before this task could be dialled"
DATE_OVER: Final = "the date was over where this person is, before this task could be dialled"
_WAITS_FOR: Final[Mapping[HeldBy, str]] = {
    "calling_hours": "outside calling hours",
    "date": "the date has not begun where this person is",
    "not_before": "a call-back is promised for later",
}
_MAY_EXPIRE: Final = frozenset({State.SENT, State.PAUSED})


@dataclass(frozen=True, slots=True)
class _Postponed:
    until: datetime
    reason: str
    held_by: HeldBy | None


@dataclass(frozen=True, slots=True)
class _Excluded:
    status: TaskStatus
    reason: str


class _Gate:
    """May this task be dialled at this moment? One for each batch call and transaction, so that answers are reused."""

    def __init__(
        self,
        tx: sa.Connection,
        record: BatchCallRecord,
        now: datetime,
        cap: int,
        gap: timedelta,
        test_numbers: frozenset[str],
        rest: Rest | None,
    ) -> None:
        self.tx = tx
        self.record = record
        self.now = now
        self._cap = cap
        self._gap = gap
        self._rings_as_often_as_asked = frozenset() if record.test_of is None else test_numbers
        self._rest = rest
        self._window = record.calling_window()
        self._dates = record.dates()
        self._hours: dict[tuple[str, ...], _Postponed | _Excluded | None] = {}
        self._never: set[str] = set()
        self._elsewhere: set[str] = set()
        self.dialled: dict[str, list[datetime]] = {}
        self._dialled_by_others: dict[str, datetime] = {}

    def check(self, row: sa.Row[Any]) -> _Postponed | _Excluded | None:
        zones = self._zones(row)
        verdict = self._judge(row.to_number, zones, row.not_before)
        if isinstance(verdict, _Postponed) and rules.closes_before(self._dates.end(self._window, zones), verdict.until):
            return self._over()
        if verdict is None and self._rest is not None:
            # Although it expires meanwhile: perhaps it is asked about in time.
            return _Postponed(self._rest.until, asked_again(self._rest.reason, self._rest.until), "predial")
        return verdict

    def until(self, row: sa.Row[Any]) -> datetime | None:
        """From when on this task must not be dialled any more; None: there is no such moment."""
        return self._dates.end(self._window, self._zones(row))

    def _zones(self, row: sa.Row[Any]) -> tuple[str, ...]:
        if self._window.timezone != calling_hours.RECIPIENT:
            return (self._window.timezone,)
        return calling_hours.recipient_zones(row.to_number, row.timezone, self.record.timezone)

    def _over(self) -> _Excluded:
        return _Excluded(TaskStatus.EXPIRED, DATE_OVER if self._dates.named else EXPIRED)

    def _judge(self, to_number: str, zones: tuple[str, ...], not_before: int | None) -> _Postponed | _Excluded | None:
        if to_number in self._never:
            return _Excluded(TaskStatus.SKIPPED, DO_NOT_CALL)
        if zones not in self._hours:
            self._hours[zones] = self._closed(zones)
        promised = None if not_before is None else from_ms(not_before)
        early = promised is not None and promised > self.now
        closed = self._closed(zones, promised) if early else self._hours[zones]
        if closed:
            return closed
        if to_number in self._elsewhere:
            return _Postponed(self.now + _MOMENT, ELSEWHERE, None)
        return None if to_number in self._rings_as_often_as_asked else self._too_often(to_number)

    def _too_often(self, to_number: str) -> _Postponed | None:
        """By the daily cap of the number, and by the gap between batch calls."""
        until = rules.capped_until(self.dialled.get(to_number, ()), self.now, self._cap)
        if until:
            reason = f"dialled {self._cap} times in 24 hours; next attempt not before {_iso(until)}"
            return _Postponed(until, reason, "daily_cap")
        until = rules.apart_until(self._dialled_by_others.get(to_number), self.now, self._gap)
        if until:
            reason = f"another batch call dialled the number; next attempt not before {_iso(until)}"
            return _Postponed(until, reason, "min_gap")
        return None

    def _closed(self, zones: tuple[str, ...], promised: datetime | None = None) -> _Postponed | _Excluded | None:
        """`promised`: a moment still to come before which this person is not called."""
        if not zones:
            return _Excluded(TaskStatus.SKIPPED, ZONE_UNKNOWN)
        if promised is None and self._dates.may_call(self._window, zones, self.now):
            return None
        opens = self._dates.next_open(self._window, zones, self.now, promised)
        if opens is None:
            in_hours = calling_hours.next_open(self._window, zones, self.now)
            return _Excluded(TaskStatus.EXPIRED, NEVER_OPEN) if in_hours is None else self._over()
        held_by: HeldBy = "calling_hours" if self._dates.allow(self._window, zones, self.now) else "date"
        if promised is not None:
            held_by = "not_before"
        return _Postponed(opens, f"{_WAITS_FOR[held_by]}; next attempt not before {_iso(opens)}", held_by)

    def learn(self, numbers: Iterable[str]) -> None:
        """Look up what is not known of these numbers: the do-not-call list, and their dials of the last day."""
        for chunk in chunks(sorted(set(numbers) - self.dialled.keys()), CHUNK):
            self._never |= do_not_call.listed(self.tx, chunk, self.record.organization_id, self.record.carrier)
            recent = sa.select(attempts.c.to_number, attempts.c.started_at, attempts.c.batch_call_id).where(
                queries.counted_for(self.record.organization_id, self.record.carrier),
                attempts.c.to_number.in_(chunk),
                attempts.c.started_at > to_ms(self.now - rules.DAY),
            )
            self.dialled.update({number: [] for number in chunk})
            for row in self.tx.execute(recent):
                at = from_ms(row.started_at)
                self.dialled[row.to_number].append(at)
                if row.batch_call_id != self.record.batch_call_id:
                    last = self._dialled_by_others.get(row.to_number, at)
                    self._dialled_by_others[row.to_number] = max(at, last)

    def hold(self, candidates: Sequence[sa.Row[Any]], room: int) -> set[str] | None:
        """Keep other processes from deciding about the same numbers at the same time: cap and gap are exact.

        Without waiting, so that no two ever wait for each other. Gives the numbers that may be started; None: all,
        because SQLite has one writer at a time.
        """
        if self.tx.dialect.name != "postgresql":
            return None
        free = [row.to_number for row in candidates if self.check(row) is None][:room]
        number = sa.func.unnest(sa.literal(sorted(set(free)), sa.ARRAY(sa.String))).column_valued("number")
        mine = sa.literal(self.record.organization_id + ":") + number
        lock = sa.func.hashtextextended(mine, sa.literal(0, sa.BigInteger))
        query = sa.select(number).where(~sa.func.pg_try_advisory_xact_lock(lock, type_=sa.Boolean))
        self._elsewhere.update(self.tx.execute(query).scalars())
        for one in set(free) & self.dialled.keys():
            del self.dialled[one]
        self.learn(free)
        return set(free)


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
    test_numbers: frozenset[str] = frozenset(),
    rest: Rest | None = None,
) -> Claim:
    """Start up to `share` attempts. A due task that may not be dialled now gets a new due time, or ends with a reason.

    A task that was due is then either started or no longer due, and nothing has to be asked twice. During a `rest`
    those that could be dialled wait for the gate before each dial.
    """
    if rules.expired(record.expires(), now):
        return Claim([], more=False)
    gate = _Gate(tx, record, now, daily_cap, min_gap, test_numbers, rest)
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
        gate.learn(row.to_number for row in candidates)
        started += _decide(gate, candidates, share - len(started), worker_id)
        looked += len(candidates)
        if len(candidates) < limit:
            break
        limit = CHUNK
    if started:
        mine = batch_calls.c.batch_call_id == record.batch_call_id
        tx.execute(batch_calls.update().where(mine).values(last_sent_at=to_ms(now)))
    return Claim(started, more=looked >= LOOKED_AT_ONCE and len(started) < share)


def closed(tx: sa.Connection, record: BatchCallRecord, attempt: Attempt, now: datetime) -> bool:
    """Whether the hours or the date of this person are over at this moment, although its claim found them open."""
    timezone = tx.scalar(sa.select(tasks.c.timezone).where(tasks.c.task_id == attempt.task_id))
    window = record.calling_window()
    if window.timezone == calling_hours.RECIPIENT:
        zones = calling_hours.recipient_zones(attempt.to_number, timezone, record.timezone)
    else:
        zones = (window.timezone,)
    return not record.dates().may_call(window, zones, now)


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


def expire(tx: sa.Connection, record: BatchCallRecord | sa.Row[str, str, int | None], now: int) -> None:
    """End what waits in a batch call whose time is over, a part at a time. A task that was dialled keeps its outcome.

    A row needs batch_call_id, status and expires_at.
    """
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
                error_message=EXPIRED,
                completed_at=now,
                **NOT_DUE,
            )
        )
        outbox.task_events(tx, chunk, now)


def _decide(gate: _Gate, candidates: Sequence[sa.Row[Any]], room: int, worker_id: str) -> list[Attempt]:
    tx, at = gate.tx, to_ms(gate.now)
    started: list[Attempt] = []
    postponed: list[dict[str, Any]] = []
    excluded: list[dict[str, Any]] = []
    held = gate.hold(candidates, room)
    for row in candidates:
        if len(started) == room:
            break
        verdict = gate.check(row)
        if verdict is None and held is not None and row.to_number not in held:
            break  # those before were postponed; it is its turn in the next transaction
        match verdict:
            case _Postponed(until, reason, held_by):
                postponed.append({"id": row.task_id, "due": to_ms(until), "why": reason, "held": held_by})
            case _Excluded(status, reason):
                # A task that was dialled before keeps the outcome of that dial.
                ending = row.last_outcome or status
                excluded.append({"id": row.task_id, "how": ending, "why": reason, "at": at})
            case None:
                gate.dialled[row.to_number].append(gate.now)
                started.append(_attempt(gate.record, row, gate.until(row), from_ms(at)))
    if postponed:
        tx.execute(_POSTPONED, postponed)
    if excluded:
        tx.execute(_EXCLUDED, excluded)
        outbox.task_events(tx, [one["id"] for one in excluded], at)
    if started:
        _write_attempts(tx, gate.record, started, at, worker_id)
    return started


def _attempt(record: BatchCallRecord, row: Any, until: datetime | None, claimed_at: datetime) -> Attempt:
    return Attempt(
        task_id=row.task_id,
        n=row.attempts + 1,
        batch_call_id=record.batch_call_id,
        from_number=record.from_number,
        to_number=row.to_number,
        organization_id=record.organization_id,
        agent_id=record.agent_id,
        dynamic_variables=row.dynamic_variables,
        until=until,
        claimed_at=claimed_at,
    )


def _write_attempts(
    tx: sa.Connection, record: BatchCallRecord, started: Sequence[Attempt], at: int, worker_id: str
) -> None:
    same = {
        "batch_call_id": record.batch_call_id,
        "organization_id": record.organization_id,
        "carrier": record.carrier,
        "worker_id": worker_id,
        "started_at": at,
    }
    tx.execute(
        attempts.insert(), [{"task_id": one.task_id, "n": one.n, "to_number": one.to_number, **same} for one in started]
    )
    tx.execute(_STARTED, [{"id": one.task_id, "nth": one.n, "call": one.attempt_id, "at": at} for one in started])


def asked_again(reason: str, until: datetime) -> str:
    """What a task says that the gate before each dial has put off."""
    return f"the pre-dial gate gives no clear answer ({reason}); asked again not before {_iso(until)}"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes")


_WAITING = (tasks.c.task_id == sa.bindparam("id")) & (tasks.c.status == TaskStatus.PENDING)
_POSTPONED = (
    tasks.update()
    .where(_WAITING)
    .values(due_at=sa.bindparam("due"), error_message=sa.bindparam("why"), held_by=sa.bindparam("held"))
)
_EXCLUDED = (
    tasks.update()
    .where(_WAITING)
    .values(
        status=sa.bindparam("how"),
        error_message=sa.bindparam("why"),
        completed_at=sa.bindparam("at"),
        **NOT_DUE,
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
        error_message=None,
        choice=None,  # what was chosen in the call before this one
        **NOT_DUE,
    )
)
