"""Calls per second of a batch call, exact over all processes: counted from its attempts while it is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from batchcall_mcp.clock import from_ms, to_ms
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.records import BatchCallRecord
from batchcall_mcp.dialer.engine import broken
from batchcall_mcp.dialer.storage.tables import attempts


def allowed(tx: sa.Connection, record: BatchCallRecord, share: int, now: datetime) -> tuple[int, datetime | None]:
    """How many of `share` attempts may be started, and when the next one may, if that is what holds them back.

    What has been started and not yet been placed, by whichever process, is counted as if it were placed now.
    """
    pace = record.pace()
    if pace is None or share <= 0:
        return share, None
    room, again_at = rules.paced(_placed(tx, record.batch_call_id, pace, now), now, pace)
    on_its_way = sa.select(sa.func.count()).where(
        attempts.c.batch_call_id == record.batch_call_id, attempts.c.placed_at.is_(None), attempts.c.outcome.is_(None)
    )
    room = max(0, room - tx.execute(on_its_way).scalar_one())
    if room >= share:
        return share, None
    return room, again_at or now + timedelta(seconds=1 / pace)


def keep(
    tx: sa.Connection, wanted: Sequence[Attempt], running: Mapping[str, BatchCallRecord], now: datetime
) -> list[Attempt]:
    """Those that may be placed at this moment. `running` are their batch calls, locked."""
    room: dict[str, int] = {}
    for key, record in running.items():
        with broken.concerning(key):
            pace = record.pace()
            if pace is not None:
                room[key] = rules.paced(_placed(tx, key, pace, now), now, pace)[0]
    kept: list[Attempt] = []
    for attempt in wanted:
        left = room.get(attempt.batch_call_id)
        if left is not None:
            if left <= 0:
                continue
            room[attempt.batch_call_id] = left - 1
        kept.append(attempt)
    return kept


def remember(
    tx: sa.Connection, placed: Sequence[Attempt], running: Mapping[str, BatchCallRecord], now: datetime
) -> None:
    """Write down that these were placed. `now` is taken after the carrier was asked: never before one of the dials.

    The next window, which is counted from here, then cannot reach back over one of them.
    """
    mine = [attempt for attempt in placed if running[attempt.batch_call_id].calls_per_second is not None]
    if mine:
        tx.execute(_PLACED, [{"id": attempt.task_id, "nth": attempt.n, "at": to_ms(now)} for attempt in mine])


def _placed(tx: sa.Connection, batch_call_id: str, pace: float, now: datetime) -> list[datetime]:
    """The moments that can matter: those of the longest window (a second, or the gap of a slower pace)."""
    since = to_ms(now - timedelta(seconds=max(1.0, 1 / pace)))
    query = sa.select(attempts.c.placed_at).where(
        attempts.c.batch_call_id == batch_call_id, attempts.c.placed_at >= since
    )
    return [from_ms(at) for at in tx.execute(query).scalars()]


_PLACED = (
    attempts.update()
    .where(attempts.c.task_id == sa.bindparam("id"), attempts.c.n == sa.bindparam("nth"))
    .values(placed_at=sa.bindparam("at"))
)
