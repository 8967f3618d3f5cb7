"""The emergency stop in the dialer's own database: while it is on, nothing is dialled or launched for anybody.

Whoever dials or launches holds a lock that it shares with the others, until its transaction ends; whoever stops waits
for all of them. So when a stop returns, the last dial is over and no launch is on its way. SQLite needs no such lock,
because it has one writer at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.dialer import pausing
from batchcall_mcp.dialer.records import from_ms
from batchcall_mcp.dialer.store import Store
from batchcall_mcp.dialer.tables import batch_calls, dialer_stops
from batchcall_mcp.errors import IllegalTransition

_LOCK: Final = 0x62617463685F7374
_CLEAR: Final = "`batchcall-mcp stop --clear` lifts it"
PAUSED: Final = f"The emergency stop paused it. {_CLEAR}; then resume it to call the people who were not called."


class EmergencyStop(IllegalTransition):
    """Nothing is launched while the emergency stop is on."""

    code = "emergency_stop"


def file_is_there(stop_file: Path | None) -> bool:
    """Whether somebody put the file there: any kind of file, a link that leads nowhere too.

    A folder that cannot be looked into may hold it.
    """
    if stop_file is None:
        return False
    try:
        os.lstat(stop_file)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def share(tx: sa.Connection) -> None:
    """Let no stop take effect until this transaction ends. To be asked for before any row is locked."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_LOCK)))


def since(tx: sa.Connection) -> datetime | None:
    """Since when the database says that it is on; None: it is not."""
    at = tx.scalar(sa.select(sa.func.min(dialer_stops.c.at)).where(dialer_stops.c.cleared_at.is_(None)))
    return None if at is None else from_ms(at)


def check(tx: sa.Connection, stop_file: Path | None) -> None:
    """Refuse a launch while the emergency stop is on; hold off one that is about to be made.

    Raises:
        EmergencyStop: it is on.
    """
    share(tx)
    at = since(tx)
    if at is not None or file_is_there(stop_file):
        when = "" if at is None else f" since {at:%Y-%m-%d %H:%M UTC}"
        raise EmergencyStop(f"The emergency stop is on{when}: nothing is launched. Nothing was changed; {_CLEAR}.")


def stop(store: Store, wait_s: float = database.LONGEST_WAIT_S) -> list[str]:
    """Stop everything: from when this returns no engine dials, whatever process it is in.

    Returns:
        The batch calls that this paused, of all organisations.

    Raises:
        sqlalchemy.exc.OperationalError: another transaction has not ended within `wait_s` seconds; nothing was changed.
    """
    return _exclusive(store, wait_s, _stop)


def clear(store: Store) -> None:
    """Lift it. What it paused stays paused.

    Raises:
        sqlalchemy.exc.OperationalError: see `stop`.
    """
    _exclusive(store, database.LONGEST_WAIT_S, _clear)


def _exclusive(store: Store, wait_s: float, work: Callable[[sa.Connection, int], list[str]]) -> list[str]:
    with database.writing(store.engine, _LOCK, wait_s) as tx:
        return work(tx, store.now())


def _stop(tx: sa.Connection, now: int) -> list[str]:
    if since(tx) is None:
        tx.execute(dialer_stops.insert().values(at=now))
    live = sa.select(batch_calls.c.batch_call_id).where(batch_calls.c.status.in_(sorted(pausing.LIVE)))
    return pausing.pause(tx, list(tx.execute(live).scalars()), "stopped", PAUSED, now)


def _clear(tx: sa.Connection, now: int) -> list[str]:
    tx.execute(dialer_stops.update().where(dialer_stops.c.cleared_at.is_(None)).values(cleared_at=now))
    return []
