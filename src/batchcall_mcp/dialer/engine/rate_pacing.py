"""Calls per second, exact over all processes: of a batch call, counted from its attempts while it is held, and of a
carrier's account, whose next call has a moment in the carrier's row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp.clock import from_ms, to_ms
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.records import BatchCallRecord
from batchcall_mcp.dialer.engine import broken
from batchcall_mcp.dialer.storage import installation
from batchcall_mcp.dialer.storage.tables import attempts

_SLOWER: Final = 1.1
"""Calls of an account begin so much further apart than they may: what one waits on its way must not bring it too near
to the next one.
"""
_LINES_FALL_FREE: Final = timedelta(seconds=1)
"""When to look again where other processes have all lines of an account."""
LEAVES_WITHIN: Final = timedelta(seconds=5)
"""How long a permit to ask a carrier for a call counts. So hours and dates must be open for as long from then on."""
_LONGEST_REST: Final = timedelta(hours=1)
_MOMENT_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class AccountPace:
    """What a carrier's account may do, over all batch calls and processes: calls at once, and a second."""

    carrier: str
    at_once: int
    calls_per_second: float

    @property
    def gap(self) -> timedelta:
        return timedelta(seconds=_SLOWER / self.calls_per_second)


def account_room(tx: sa.Connection, account: AccountPace, now: datetime, counts_for: timedelta) -> tuple[int, datetime]:
    """How many more attempts may be started, of whichever batch call, and when more may be. Holds the carrier's row.

    No more are on their way to the carrier than it takes in a second: they would wait there. Of a claim that is older
    than it `counts_for` nothing leaves any more.
    """
    row = installation.of_carrier(tx, account.carrier)
    claimed = attempts.c.started_at > to_ms(now - counts_for)
    open_ones = tx.execute(
        sa.select(sa.func.count(), sa.func.count().filter(attempts.c.placed_at.is_(None), claimed)).where(
            attempts.c.carrier == account.carrier, attempts.c.outcome.is_(None)
        )
    ).one()
    in_progress, on_their_way = open_ones
    if in_progress >= account.at_once:
        return 0, now + _LINES_FALL_FREE
    begins = _begins(row, account, now)
    if begins > now:
        return 0, now + _look_again(begins - now, account)
    room = min(account.at_once - in_progress, max(0, ceil(account.calls_per_second) - on_their_way))
    return room, now + account.gap


def account_wait(tx: sa.Connection, account: AccountPace, now: datetime) -> timedelta:
    """How long until it is to be asked again whether the account may begin its next call; 0: now. Holds its row."""
    begins = _begins(installation.of_carrier(tx, account.carrier), account, now)
    return _look_again(max(timedelta(), begins - now), account)


def take_turn(tx: sa.Connection, account: AccountPace, now: datetime) -> datetime:
    """Let nobody else begin a call of the account until this one has left, whenever that is; gives until when."""
    return _write_next(tx, account, now + LEAVES_WITHIN + account.gap)


def give_back(tx: sa.Connection, account: AccountPace, turn: datetime, now: datetime) -> None:
    """No call has left in this turn."""
    if _begins(installation.of_carrier(tx, account.carrier), account, now) == turn:
        _write_next(tx, account, now)


def _look_again(wait: timedelta, account: AccountPace) -> timedelta:
    """Whose turn it is may leave at once; only a rest that the vendor asked for is known to be longer."""
    return wait if wait > LEAVES_WITHIN + account.gap else min(wait, account.gap)


def wait_of(tx: sa.Connection, account: AccountPace, turn: datetime | None, now: datetime) -> float:
    """Seconds to wait for whoever took a turn; 0, unless the account is to be left alone since then, or it took so long
    that the turn is another one's.
    """
    begins = _begins(installation.of_carrier(tx, account.carrier), account, now)
    return 0.0 if begins == turn else max((begins - now).total_seconds(), _MOMENT_S)


def begun(tx: sa.Connection, account: AccountPace, attempt: Attempt, at: datetime) -> None:
    """Write down that a call of the account has begun."""
    tx.execute(_PLACED, [{"id": attempt.task_id, "nth": attempt.n, "at": to_ms(at)}])
    _write_next(tx, account, at + account.gap)


def leave_alone(tx: sa.Connection, account: AccountPace, until: datetime, now: datetime) -> None:
    """Begin no call of the account before then, not even the one whose turn it is: the vendor asks for it."""
    begins = _begins(installation.of_carrier(tx, account.carrier), account, now)
    _write_next(tx, account, max(until, begins + timedelta(seconds=_MOMENT_S)))


def _write_next(tx: sa.Connection, account: AccountPace, at: datetime) -> datetime:
    milliseconds = ceil(at.timestamp() * 1000)
    installation.write_carrier(tx, account.carrier, next_call_at=milliseconds)
    return from_ms(milliseconds)


def _begins(row: sa.Row[Any] | None, account: AccountPace, now: datetime) -> datetime:
    """When the next call may begin. What lies further ahead than anybody asks for is from before the clock was set."""
    at = None if row is None or row.next_call_at is None else from_ms(row.next_call_at)
    return now if at is None or at - now > max(_LONGEST_REST, LEAVES_WITHIN + account.gap) else at


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
