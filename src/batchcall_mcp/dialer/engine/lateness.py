"""A batch call whose engine was away does not simply dial on: what is late is paused, and a person decides.

Late: for longer than the operator allows no engine of its carrier ran, while one of its tasks was due inside its
window. To wait for a window, a redial or the daily cap is not late; nor is what was launched after the engine had come
back. Of what is scheduled for a date, only those are late whose date is over by then: the others are still called on
it. Of what is scheduled for several dates, those are late who missed all of one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp import calling_hours
from batchcall_mcp.call_dates import ANY_DATE, CallDates, Spans
from batchcall_mcp.clock import from_ms, to_ms
from batchcall_mcp.dialer.domain.records import BatchCallRecord
from batchcall_mcp.dialer.domain.rules import State, expired
from batchcall_mcp.dialer.engine import outcomes
from batchcall_mcp.dialer.engine.broken import concerning, without_broken
from batchcall_mcp.dialer.storage import commands, installation
from batchcall_mcp.dialer.storage.store import INSERTED_AT_ONCE, Store
from batchcall_mcp.dialer.storage.tables import batch_calls, carriers, tasks
from batchcall_mcp.dialer.storage.tables import installation as places
from batchcall_mcp.model import CallingWindow, TaskStatus

LOG = logging.getLogger(__name__)
MARKED_EVERY: Final = timedelta(minutes=1)
"""How often an engine says that it runs."""
_MOMENT: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Gap:
    """The time in which no engine ran. `start` None: as far as is known, none ever did."""

    start: datetime | None
    end: datetime


def is_late(
    window: CallingWindow,
    zones: Sequence[str],
    due: datetime,
    gap: Gap,
    late_after: timedelta,
    dates: CallDates = ANY_DATE,
) -> bool:
    """Whether a task that was due could have been dialled for too long while no engine ran.

    Too long is `late_after`, added up over its openings, or a whole opening that is shorter: its day is over. Who is to
    be called on a date was agreed to be called at any time of it: too long is until there is no such time any more. Of
    several dates, a whole opening is.
    """
    start = due if gap.start is None else max(due, gap.start)
    if start >= gap.end:
        return False
    missed = dates.openings(window, zones, start, gap.end)
    if dates.first is not None and missed and dates.next_open(window, zones, gap.end) is None:
        return True
    if dates.first is not None and dates.first == dates.last:
        return False
    whole = any(
        closes < gap.end and (opens > start or not dates.may_call(window, zones, start - _MOMENT))
        for opens, closes in missed
    )
    return whole or (dates.first is None and _summed(missed) > late_after)


def _summed(spans: Spans) -> timedelta:
    return sum((closes - opens for opens, closes in spans), timedelta())


def judge(store: Store, carrier: str, late_after: timedelta) -> list[str]:
    """Pause what is late since an engine with this carrier last ran.

    One engine decides, before any of them claims: the others wait for its transaction.

    Returns:
        The batch calls that this paused.
    """
    return without_broken(store, lambda broken: _judge(store, carrier, late_after, broken))


def may_have_been_away(said_at: datetime | None, now: datetime, late_after: timedelta | None) -> bool:
    """Whether an engine has to look at when the last one ran, itself or another one.

    What it said itself a moment ago (`said_at`), by its own clock, is enough: another machine's clock may be wrong.
    """
    return late_after is not None and (said_at is None or now - said_at > late_after)


def mark(store: Store, carrier: str, at: datetime) -> None:
    """Say that an engine with this carrier ran at a moment: it has looked for work, and may dial."""
    with store.writing() as tx:
        installation.write(tx, engine_ran_at=to_ms(at))
        installation.write_carrier(tx, carrier, engine_ran_at=to_ms(at))
    if store.file is not None and store.file.is_in_place:
        installation.note_ran(store.file, to_ms(at))


class Attendance:
    """When this engine ran, which it says now and then, and judges what was missed if it may have been away.

    `late_after`: for how long calls may be missed before they are late; None: nothing ever is.
    """

    def __init__(self, store: Store, carrier: str, late_after: timedelta | None) -> None:
        self._store = store
        self._carrier = carrier
        self._late_after = late_after
        self._judged_at: datetime | None = None
        self._said_at: datetime | None = None
        self.has_dialled = False
        """Since it last said that it runs."""

    @property
    def began(self) -> bool:
        """Whether it has said that it runs."""
        return self._said_at is not None

    def judge(self) -> None:
        """Before the first look after a gap: what was missed in it is not dialled without being asked for."""
        self._judged_at = self._store.clock()
        if self._late_after is None or not may_have_been_away(self._said_at, self._judged_at, self._late_after):
            return
        late = judge(self._store, self._carrier, self._late_after)
        if late:
            LOG.warning("%d batch calls are paused: their calls were missed while no dialer ran.", len(late))

    def mark(self, *, rests: bool) -> None:
        """Say now and then that this engine runs: not while it fails, or waits for its turn.

        As of the judging: the machine may have slept since. On a SQLite file also when it `rests` and has dialled
        since: a back-up from before those dials is known by it.
        """
        at = self._judged_at
        if at is None:
            return
        again = self._said_at is None or abs(at - self._said_at) >= MARKED_EVERY
        if again or (rests and self.has_dialled and self._store.file is not None):
            mark(self._store, self._carrier, at)
            self._said_at = at
            self.has_dialled = False


def pause_redials(tx: sa.Connection, carrier: str, began: Mapping[str, int], now: int) -> list[str]:
    """Pause those batch calls whose redial follows a call from before the last absence: its time was in there.

    `began` says when that call began, by batch call, in milliseconds. The transaction holds the batch calls.
    """
    if not began:
        return []
    away = tx.execute(sa.select(carriers).where(carriers.c.carrier == carrier)).first()
    if away is None or away.away_until is None:
        return []
    gap = Gap(None if away.away_from is None else from_ms(away.away_from), from_ms(away.away_until))
    late = [key for key, at in began.items() if at < away.away_until]
    return commands.pause(tx, late, "late", _text(gap), now)


def _judge(store: Store, carrier: str, late_after: timedelta, broken: frozenset[str]) -> list[str]:
    with store.writing() as tx:
        now = store.clock()
        tx.execute(sa.select(places.c.one).with_for_update()).first()  # one engine at a time
        ran_at = tx.scalar(sa.select(carriers.c.engine_ran_at).where(carriers.c.carrier == carrier))
        gap = Gap(None if ran_at is None else from_ms(ran_at), now)
        if gap.start is not None and gap.end - gap.start <= late_after:
            return []
        late: list[str] = []
        for key, record in _live(tx, carrier, broken).items():
            with concerning(key):
                if _is_late(tx, record, gap, late_after):
                    late.append(key)
        installation.write_carrier(tx, carrier, away_from=ran_at, away_until=to_ms(now))
        return commands.pause(tx, late, "late", _text(gap), to_ms(now))


def _text(gap: Gap) -> str:
    away = "" if gap.start is None else f" from {gap.start:%Y-%m-%d %H:%M} to {gap.end:%Y-%m-%d %H:%M UTC}"
    return (
        f"The dialer did not run{away} and missed calls that were due. Nobody was called late; resume it to call now."
    )


def _live(tx: sa.Connection, carrier: str, broken: frozenset[str]) -> dict[str, BatchCallRecord]:
    live = sa.select(batch_calls.c.batch_call_id).where(
        batch_calls.c.status.in_(sorted(commands.LIVE)), batch_calls.c.carrier == carrier
    )
    held = outcomes.locked(tx, list(tx.execute(live).scalars()), broken)
    return {key: record for key, record in held.items() if record.status in commands.LIVE}


def _is_late(tx: sa.Connection, record: BatchCallRecord, gap: Gap, late_after: timedelta) -> bool:
    begins = from_ms(record.launched_at or record.created_at)
    if record.status is State.SCHEDULED and record.scheduled_at is not None:
        begins = max(begins, from_ms(record.scheduled_at))
    if begins >= gap.end or expired(record.expires(), gap.end):
        return False
    window, dates = record.calling_window(), record.dates()
    known: dict[tuple[tuple[str, ...], datetime], bool] = {}
    for row in _due(tx, record.batch_call_id, gap.end):
        zones = calling_hours.recipient_zones(row.to_number, row.timezone, record.timezone)
        due = max(begins, from_ms(row.due_at), gap.start or begins)
        key = zones, due
        if key not in known:
            known[key] = is_late(window, zones, due, gap, late_after, dates)
        if known[key]:
            return True
    return False


def _due(tx: sa.Connection, batch_call_id: str, now: datetime) -> Iterator[Any]:
    """Its tasks that wait to be dialled and are due, a part at a time: most batch calls are late by their first."""
    mine = (
        (tasks.c.batch_call_id == batch_call_id)
        & (tasks.c.status == TaskStatus.PENDING)
        & (tasks.c.due_at <= to_ms(now))
    )
    query = sa.select(tasks.c.to_number, tasks.c.timezone, tasks.c.due_at, tasks.c.position).order_by(tasks.c.position)
    after = -1
    while rows := tx.execute(query.where(mine, tasks.c.position > after).limit(INSERTED_AT_ONCE)).all():
        yield from rows
        after = rows[-1].position
