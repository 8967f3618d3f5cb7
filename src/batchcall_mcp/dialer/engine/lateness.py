"""A batch call whose engine was away does not simply dial on: what is late is paused, and a person decides.

Late: for longer than the operator allows no engine ran, while one of its tasks was due inside its window. To wait for
a window, a redial or the daily cap is not late; nor is what was launched after the engine had come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp import calling_hours
from batchcall_mcp.clock import from_ms, to_ms
from batchcall_mcp.dialer.domain.records import BatchCallRecord
from batchcall_mcp.dialer.domain.rules import State, expired
from batchcall_mcp.dialer.engine import outcomes
from batchcall_mcp.dialer.engine.broken import concerning, without_broken
from batchcall_mcp.dialer.storage import pausing
from batchcall_mcp.dialer.storage.installation import note_ran
from batchcall_mcp.dialer.storage.store import INSERTED_AT_ONCE, Store
from batchcall_mcp.dialer.storage.tables import batch_calls, installation, tasks
from batchcall_mcp.model import CallingWindow, TaskStatus

MARKED_EVERY: Final = timedelta(minutes=1)
"""How often an engine says that it runs."""
_MOMENT: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Gap:
    """The time in which no engine ran. `start` None: as far as is known, none ever did."""

    start: datetime | None
    end: datetime


def may_have_been_away(said_at: datetime | None, now: datetime, late_after: timedelta | None) -> bool:
    """Whether an engine has to look at when the last one ran, itself or another one.

    What it said itself a moment ago, by its own clock, is enough: another machine's clock may be wrong.

    Args:
        said_at: when this engine last said that it runs; None: it has just come.
        now: the time.
        late_after: for how long calls may be missed before they are late; None: nothing ever is.
    """
    return late_after is not None and (said_at is None or now - said_at > late_after)


def is_late(window: CallingWindow, zones: Sequence[str], due: datetime, gap: Gap, late_after: timedelta) -> bool:
    """Whether a task that was due could have been dialled for too long while no engine ran.

    Too long is `late_after`, added up over its openings, or a whole opening that is shorter: its day is over.
    """
    start = due if gap.start is None else max(due, gap.start)
    if start >= gap.end:
        return False
    missed = calling_hours.openings(window, zones, start, gap.end)
    whole = any(
        closes < gap.end and (opens > start or not calling_hours.is_open(window, zones, start - _MOMENT))
        for opens, closes in missed
    )
    return whole or sum((closes - opens for opens, closes in missed), timedelta()) > late_after


def judge(store: Store, late_after: timedelta) -> list[str]:
    """Pause what is late since an engine last ran.

    One engine decides, before any of them claims: the others wait for its transaction.

    Returns:
        The batch calls that this paused.
    """
    return without_broken(store, lambda broken: _judge(store, late_after, broken))


def mark(store: Store, at: datetime) -> None:
    """Say that an engine ran at a moment: it has looked for work, and may dial."""
    with store.writing() as tx:
        _write(tx, engine_ran_at=to_ms(at))
    if store.file is not None and store.file.is_in_place:
        note_ran(store.file, to_ms(at))


def pause_redials(tx: sa.Connection, began: Mapping[str, int], now: int) -> list[str]:
    """Pause those batch calls whose redial follows a call from before the last absence: its time was in there.

    Args:
        tx: the transaction, which holds the batch calls.
        began: when the call that is followed by a redial began, by batch call; milliseconds.
        now: milliseconds.
    """
    if not began:
        return []
    away = tx.execute(sa.select(installation.c.away_from, installation.c.away_until)).first()
    if away is None or away.away_until is None:
        return []
    gap = Gap(None if away.away_from is None else from_ms(away.away_from), from_ms(away.away_until))
    late = [key for key, at in began.items() if at < away.away_until]
    return pausing.pause(tx, late, "late", _text(gap), now)


def _judge(store: Store, late_after: timedelta, broken: frozenset[str]) -> list[str]:
    with store.writing() as tx:
        now = store.clock()
        row = tx.execute(sa.select(installation.c.engine_ran_at).with_for_update()).first()
        ran_at = None if row is None else row.engine_ran_at
        gap = Gap(None if ran_at is None else from_ms(ran_at), now)
        if gap.start is not None and gap.end - gap.start <= late_after:
            return []
        _write(tx, away_from=ran_at, away_until=to_ms(now))
        late: list[str] = []
        for key, record in _live(tx, broken).items():
            with concerning(key):
                if _is_late(tx, record, gap, late_after):
                    late.append(key)
        return pausing.pause(tx, late, "late", _text(gap), to_ms(now))


def _write(tx: sa.Connection, **values: int | None) -> None:
    if not tx.execute(installation.update().values(values)).rowcount:
        tx.execute(installation.insert().values(one=1, **values))


def _text(gap: Gap) -> str:
    away = "" if gap.start is None else f" from {gap.start:%Y-%m-%d %H:%M} to {gap.end:%Y-%m-%d %H:%M UTC}"
    return (
        f"The dialer did not run{away} and missed calls that were due. Nobody was called late; resume it to call now."
    )


def _live(tx: sa.Connection, broken: frozenset[str]) -> dict[str, BatchCallRecord]:
    live = sa.select(batch_calls.c.batch_call_id).where(batch_calls.c.status.in_(sorted(pausing.LIVE)))
    held = outcomes.locked(tx, list(tx.execute(live).scalars()), broken)
    return {key: record for key, record in held.items() if record.status in pausing.LIVE}


def _is_late(tx: sa.Connection, record: BatchCallRecord, gap: Gap, late_after: timedelta) -> bool:
    begins = from_ms(record.launched_at or record.created_at)
    if record.status is State.SCHEDULED and record.scheduled_at is not None:
        begins = max(begins, from_ms(record.scheduled_at))
    if begins >= gap.end or expired(record.expires(), gap.end):
        return False
    window = record.calling_window()
    known: dict[tuple[tuple[str, ...], datetime], bool] = {}
    for row in _due(tx, record.batch_call_id, gap.end):
        zones = calling_hours.recipient_zones(row.to_number, row.timezone, record.timezone)
        due = max(begins, from_ms(row.due_at), gap.start or begins)
        key = zones, due
        if key not in known:
            known[key] = is_late(window, zones, due, gap, late_after)
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
