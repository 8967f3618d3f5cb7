"""What came of attempts, written down: outcomes, redials, batch calls that are finished, and dials that never were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Final, get_args

import sqlalchemy as sa

from batchcall_mcp import calling_hours
from batchcall_mcp.clock import from_ms, to_ms
from batchcall_mcp.dialer.carriers.base import SIMULATED, Attempt, Outcome, OutcomeStatus
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.records import BatchCallRecord, HeldBy
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.engine import broken
from batchcall_mcp.dialer.storage import commands, do_not_call, outbox
from batchcall_mcp.dialer.storage.store import CHUNK, chunks, report
from batchcall_mcp.dialer.storage.tables import NOT_DUE, REVISED, UNEXPLAINED, attempts, batch_calls, tasks
from batchcall_mcp.model import AnsweredBy, TaskStatus
from batchcall_mcp.money import Money, of_millionths, parse_money
from batchcall_mcp.notifications.events import Notice
from batchcall_mcp.text import shortened

FAILING: Final = (
    "{failed} of the last {of} calls failed. Check the caller number and the carrier, then resume it to call the "
    "people who were not called."
)
OPTED_OUT: Final = "opted out in a call of {batch_call_id}"
LONGEST_CHOICE: Final = 100
LONGEST_SUMMARY: Final = 2_000
LONGEST_CALL_S: Final = 10_000_000
"""What lasts longer is a mistake."""
_LONGEST: Final = {
    "error": LONGEST_SUMMARY,
    "summary": LONGEST_SUMMARY,
    "choice": LONGEST_CHOICE,
    "backend_status": LONGEST_CHOICE,
}
INTERRUPTED: Final = "the dialer stopped during the call; its outcome is not known"


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that is over, with what came of it.

    `opted_out`: the person does not want to be called again by this organisation. `permanent`: no rule dials this
    number again. The rest is as the carrier says, but for `claimed_at`: the claim that is over, where the same attempt
    may have been claimed again meanwhile; None: whichever there is.
    """

    task_id: str
    n: int
    batch_call_id: str
    status: TaskStatus
    error: str | None = None
    opted_out: bool = False
    duration_seconds: float | None = None
    answered_by: AnsweredBy | None = None
    choice: str | None = None
    permanent: bool = False
    backend_status: str | None = None
    cost: Money | None = None
    summary: str | None = None
    claimed_at: datetime | None = None

    @classmethod
    def of(cls, attempt: Attempt, outcome: Outcome) -> Ended:
        """What a carrier says of an attempt, as far as a database keeps it: a carrier may be anybody's.

        Raises:
            ValueError: that does not end a call.
        """
        if outcome.status not in get_args(OutcomeStatus):
            raise ValueError(f"{outcome.status!r} does not end a call")
        said = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
        said |= {name: shortened(said[name], longest) for name, longest in _LONGEST.items() if said[name] is not None}
        if outcome.duration_seconds is not None and not 0 <= outcome.duration_seconds < LONGEST_CALL_S:
            said["duration_seconds"] = None
        said["cost"] = None if outcome.cost is None else _writable(outcome.cost)
        return cls(attempt.task_id, attempt.n, attempt.batch_call_id, **said, claimed_at=attempt.claimed_at)


def locked(
    tx: sa.Connection, batch_call_ids: Iterable[str], unread: AbstractSet[str] = frozenset()
) -> dict[str, BatchCallRecord]:
    """These batch calls, their state held still until the transaction ends.

    Always in the same order, so that two transactions never wait for each other. Those of `unread` are only held: they
    are broken.

    Raises:
        Broken: one of them cannot be read.
    """
    records: dict[str, BatchCallRecord] = {}
    for chunk in chunks(sorted(set(batch_call_ids)), CHUNK):
        if not unread.isdisjoint(chunk):
            held = sa.select(batch_calls.c.batch_call_id).where(batch_calls.c.batch_call_id.in_(chunk))
            tx.execute(held.order_by(batch_calls.c.batch_call_id).with_for_update())
        query = sa.select(batch_calls).order_by(batch_calls.c.batch_call_id).with_for_update()
        for row in _rows(tx, query, set(chunk) - set(unread)):
            with broken.concerning(row["batch_call_id"]):
                record = BatchCallRecord.of(row)
                record.check_numbers()
                records[row["batch_call_id"]] = record
    return records


def paused(tx: sa.Connection, batch_call_ids: Iterable[str]) -> Sequence[sa.Row[str, str, int | None]]:
    """Those of these batch calls that are paused, as `claims.expire` takes them; the state of all of them held still.

    Nothing else of them is read: one that is broken expires like any other.
    """
    columns = (batch_calls.c.batch_call_id, batch_calls.c.status, batch_calls.c.expires_at)
    query = sa.select(*columns).order_by(batch_calls.c.batch_call_id).with_for_update()
    return [
        row
        for chunk in chunks(sorted(set(batch_call_ids)), CHUNK)
        for row in tx.execute(query.where(batch_calls.c.batch_call_id.in_(chunk)))
        if row.status == State.PAUSED
    ]


def _rows(tx: sa.Connection, query: sa.Select[Any], wanted: AbstractSet[str]) -> Sequence[sa.RowMapping]:
    try:
        return tx.execute(query.where(batch_calls.c.batch_call_id.in_(wanted))).mappings().all()
    except ValueError:  # the JSON of one of them; which one is not said
        for key in sorted(wanted):
            with broken.concerning(key):
                tx.execute(query.where(batch_calls.c.batch_call_id == key)).all()
        raise


def record(
    tx: sa.Connection,
    ended: Sequence[Ended],
    records: dict[str, BatchCallRecord],
    *,
    now: datetime,
    retry_delay: timedelta,
) -> dict[str, int]:
    """Write outcomes, each once: what somebody else has ended (a takeover) stays as it is.

    `records` are their batch calls, locked; of those that are not there nobody is dialled again.

    Returns:
        When the first call began that a redial follows, by batch call.
    """
    if not ended:
        return {}
    _opt_out(tx, [end for end in ended if end.opted_out], to_ms(now))
    rows = {
        row.task_id: row
        for chunk in chunks(ended, CHUNK)
        for row in tx.execute(sa.select(tasks).where(tasks.c.task_id.in_([end.task_id for end in chunk])))
    }
    paced = {key for key, record in records.items() if record.calls_per_second is not None}
    tx.execute(
        _ATTEMPT_ENDED,
        [
            {
                "id": end.task_id,
                "nth": end.n,
                "at": to_ms(now),
                "how": end.status,
                "why": end.error,
                "placed": to_ms(now) if end.batch_call_id in paced else None,
                "claimed": None if end.claimed_at is None else to_ms(end.claimed_at),
            }
            for end in ended
        ],
    )
    values = []
    began: dict[str, int] = {}
    for end in ended:
        row = rows.get(end.task_id)
        if row is not None and _is_of(end, row):
            with broken.concerning(end.batch_call_id):
                again = _again_at(end, row, records.get(end.batch_call_id), now, retry_delay)
                value = _ended(end, row, again, now)
                if again is not None:
                    at = int(row.attempted_at)
                    began[end.batch_call_id] = min(at, began.get(end.batch_call_id, at))
            values.append(value)
    if values:
        tx.execute(_TASK_ENDED, values)
        outbox.task_events(tx, [value["id"] for value in values], to_ms(now))
    return began


def _is_of(end: Ended, row: Any) -> bool:
    """Whether it is the call that this task is in."""
    at = row.attempted_at
    # One that is no number is an error of its batch call, which shows when it is counted with.
    is_claim = end.claimed_at is None or not isinstance(at, int) or at == to_ms(end.claimed_at)
    return bool(row.status == TaskStatus.CALLING and row.attempts == end.n and is_claim)


def _opt_out(tx: sa.Connection, ended: Sequence[Ended], now: int) -> None:
    """Put them on their organisation's list, whatever has become of the attempt or of its batch call meanwhile."""
    for end in ended:
        this = (attempts.c.task_id == end.task_id) & (attempts.c.n == end.n)
        row = tx.execute(sa.select(*attempts.c["organization_id", "carrier", "to_number"]).where(this)).one_or_none()
        if row is not None:
            reason = OPTED_OUT.format(batch_call_id=end.batch_call_id)
            do_not_call.opt_out(tx, row.organization_id, row.carrier, row.to_number, reason, now)


def _again_at(
    end: Ended, row: Any, batch_call: BatchCallRecord | None, now: datetime, retry_delay: timedelta
) -> datetime | None:
    """When the person is dialled again."""
    if batch_call is None or end.opted_out or end.permanent:
        return None
    if end.status is TaskStatus.INTERRUPTED and batch_call.carrier != SIMULATED:
        return None  # perhaps somebody was talked to: only a person decides to ring them again
    zones = calling_hours.recipient_zones(row.to_number, row.timezone, batch_call.timezone)
    again = rules.redial_at(
        batch_call.redialing(),
        end.status,
        attempts=end.n,
        max_retries=row.max_retries,
        zone=zones[0] if zones else "UTC",
        now=now,
        default_delay=retry_delay,
    )
    ends = batch_call.dates().end(batch_call.calling_window(), zones)
    if batch_call.status is State.CANCELLED or rules.closes_before(ends, again):
        return None
    return again


def _ended(end: Ended, row: Any, again: datetime | None, now: datetime) -> dict[str, Any]:
    return {
        "id": end.task_id,
        "nth": end.n,
        "now_is": TaskStatus.PENDING if again else end.status,
        "outcome": end.status,
        "due": to_ms(again) if again else None,
        "held": "retry" if again else None,
        "picked_up": row.answered or end.status in rules.ANSWERED,
        "why": end.error,
        "at": None if again else to_ms(now),
        "lasted": None if end.duration_seconds is None else round(end.duration_seconds * 1000),
        "who": end.answered_by,
        "chose": end.choice,
        "word": end.backend_status,
        "cost": _cost(end, row.cost),
        "summary": end.summary,
    }


def _cost(end: Ended, before: str | None) -> str | None:
    """Of all calls to this person. What is in another currency than the last call is not added up, nor what is more
    than can be meant.
    """
    if end.cost is None or before is None:
        return before if end.cost is None else str(end.cost)
    earlier = parse_money(before)
    both = end.cost if earlier.currency != end.cost.currency else earlier.plus(end.cost)
    return str(both if both.is_sound else end.cost)


def _writable(cost: Money) -> Money | None:
    """As it is read again: in millionths, and none that no call costs."""
    return of_millionths(cost.millionths, cost.currency) if cost.is_sound else None


def pause_failing(
    tx: sa.Connection, batch_call_ids: Iterable[str], records: Mapping[str, BatchCallRecord], now: int
) -> set[str]:
    """Pause those of these batch calls of whose last attempts too many failed, while people wait; gives their ids.

    Only attempts that began since it was last launched count: the person who resumed it knows of the others.
    """
    paused: set[str] = set()
    for key in sorted(set(batch_call_ids) & records.keys()):
        record = records[key]
        if not record.pause_on_failures or record.status is not State.SENT:
            continue
        since = record.launched_at or 0
        mine = (attempts.c.batch_call_id == key) & attempts.c.outcome.is_not(None) & (attempts.c.ended_at >= since)
        latest = (
            sa.select(attempts.c.outcome)
            .where(mine, attempts.c.started_at >= since)
            .order_by(attempts.c.ended_at.desc())
            .limit(rules.LOOKED_BACK)
        )
        with broken.concerning(key):
            last = [TaskStatus(outcome) for outcome in tx.execute(latest).scalars()]
        waiting = sa.select(tasks.c.task_id).where(tasks.c.batch_call_id == key, tasks.c.status == TaskStatus.PENDING)
        if rules.failing(last) and tx.execute(waiting.limit(1)).first() is not None:
            text = FAILING.format(failed=last.count(TaskStatus.FAILED), of=len(last))
            paused.update(commands.pause(tx, [key], "failing", text, now))
    return paused


def finish(tx: sa.Connection, batch_call_ids: Iterable[str], now: int) -> None:
    """Complete those of these batch calls that have nothing left to do, also those paused during their last calls."""
    unfinished = sa.exists().where(
        tasks.c.batch_call_id == batch_calls.c.batch_call_id, tasks.c.status.in_(sorted(rules.UNFINISHED))
    )
    for chunk in chunks(sorted(set(batch_call_ids)), CHUNK):
        begun = sa.or_(
            batch_calls.c.status == State.SENT,
            (batch_calls.c.status == State.PAUSED) & batch_calls.c.started_at.is_not(None),
        )
        running = batch_calls.c.batch_call_id.in_(chunk) & begun
        values = {"status": State.COMPLETED, "completed_at": now, "updated_at": now, **UNEXPLAINED}
        done = batch_calls.update().where(running, ~unfinished).values({**values, **REVISED})
        of_each = batch_calls.c.batch_call_id, batch_calls.c.total_task_count
        completed = tx.execute(done.returning(*of_each)).all()
        outbox.batch_call_events(tx, [(key, "batch_call.completed") for key, _ in completed], now)
        said = Notice(event="finished", backend="dialer", status=State.COMPLETED, at=from_ms(now))
        report(tx, [replace(said, batch_call_id=key, calls=calls) for key, calls in completed])


def withdraw(
    tx: sa.Connection,
    withdrawn: Sequence[Attempt | sa.Row[Any]],
    now: int,
    *,
    held_until: int | None = None,
    held_by: HeldBy = "carrier",
    why: str | None = None,
) -> None:
    """Undo attempts (or rows of them) that no carrier has dialled, as if they had never been started.

    `held_until`: `held_by` let none of them through, and they are due again only then. `why`: for people.
    """
    held: HeldBy | None = None if held_until is None else held_by
    cancelled = (
        sa.select(batch_calls.c.batch_call_id)
        .where(batch_calls.c.batch_call_id == tasks.c.batch_call_id, batch_calls.c.status == State.CANCELLED)
        .exists()
    )
    at = sa.literal(now, sa.BigInteger)
    for attempt in withdrawn:
        tx.execute(attempts.delete().where(attempts.c.task_id == attempt.task_id, attempts.c.n == attempt.n))
        ended = sa.func.coalesce(tasks.c.last_outcome, TaskStatus.CANCELLED)
        earlier = sa.select(sa.func.max(attempts.c.started_at)).where(attempts.c.task_id == attempt.task_id)
        tx.execute(
            tasks.update()
            .where(tasks.c.task_id == attempt.task_id)
            .values(
                status=sa.case((cancelled, ended), else_=TaskStatus.PENDING),
                # Since it was claimed: how long it waits already is not forgotten.
                due_at=sa.case(
                    (cancelled, sa.null()),
                    else_=sa.func.coalesce(tasks.c.attempted_at, at)
                    if held_until is None
                    else sa.literal(held_until, sa.BigInteger),
                ),
                held_by=sa.case((cancelled, sa.null()), else_=sa.literal(held, sa.String)),
                completed_at=sa.case((cancelled, at), else_=sa.null()),
                attempts=attempt.n - 1,
                call_id=f"{attempt.task_id}:{attempt.n - 1}" if attempt.n > 1 else None,
                attempted_at=earlier.scalar_subquery(),
                error_message=sa.case((cancelled, sa.null()), else_=sa.literal(why, sa.String)),
            )
        )
    # Of those dialled before; the message of the cancelled batch call covers the others.
    outbox.task_events(tx, [attempt.task_id for attempt in withdrawn if attempt.n > 1], now)


def refuse(tx: sa.Connection, refused: Mapping[str, str], now: int) -> None:
    """End these waiting tasks, each for its reason. One that was dialled before keeps the outcome of that dial."""
    for task_id, reason in refused.items():
        waiting = (tasks.c.task_id == task_id) & (tasks.c.status == TaskStatus.PENDING)
        ending = sa.func.coalesce(tasks.c.last_outcome, TaskStatus.SKIPPED)
        tx.execute(
            tasks.update().where(waiting).values(status=ending, error_message=reason, completed_at=now, **NOT_DUE)
        )
    outbox.task_events(tx, list(refused), now)


_ATTEMPT_ENDED = (
    attempts.update()
    .where(attempts.c.task_id == sa.bindparam("id"), attempts.c.n == sa.bindparam("nth"), attempts.c.outcome.is_(None))
    .where(
        attempts.c.started_at == sa.func.coalesce(sa.bindparam("claimed", type_=sa.BigInteger), attempts.c.started_at)
    )
    .values(
        ended_at=sa.bindparam("at"),
        outcome=sa.bindparam("how"),
        error_message=sa.bindparam("why"),
        # Whose placing was never committed (a crash, a database that failed) was perhaps dialled, not later than now.
        placed_at=sa.func.coalesce(attempts.c.placed_at, sa.bindparam("placed", type_=sa.BigInteger)),
    )
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
        held_by=sa.bindparam("held"),
        answered=sa.bindparam("picked_up"),
        error_message=sa.bindparam("why"),
        completed_at=sa.bindparam("at"),
        duration_ms=sa.bindparam("lasted"),
        answered_by=sa.bindparam("who"),
        # What the carrier reported during this call (`webhooks.key_presses`) stays, where its outcome says nothing.
        choice=sa.func.coalesce(sa.bindparam("chose", type_=sa.String), tasks.c.choice),
        backend_status=sa.bindparam("word"),
        cost=sa.bindparam("cost"),
        summary=sa.bindparam("summary"),
    )
)
