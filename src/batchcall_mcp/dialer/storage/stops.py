"""The emergency stop in the dialer's own database: while it is on, nothing is dialled or launched for anybody.

A process that dials or launches holds a lock that it shares with the others, until its transaction ends. A stop waits
for all of them. So when a stop returns, the last dial is over and no launch is on its way. SQLite needs no such lock,
because it has one writer at a time.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.clock import from_ms
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import commands, queries
from batchcall_mcp.dialer.storage.store import CHUNK, INSERTED_AT_ONCE, Store, chunks
from batchcall_mcp.dialer.storage.tables import batch_calls, dialer_stops, tasks
from batchcall_mcp.errors import IllegalTransition
from batchcall_mcp.model import CallTask, TaskStatus

_LOCK: Final = 0x62617463685F7374
_LIVE: Final = sa.select(batch_calls.c.batch_call_id).where(batch_calls.c.status.in_(sorted(commands.LIVE)))
_CLEAR: Final = "Only the operator lifts it: `batchcall-mcp stop --clear`."
_PAUSED: Final = f"The emergency stop paused it. {_CLEAR} Then resume it to call the people who were not called."


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


def is_on(store: Store) -> bool:
    """Whether the database says that it is on, in a look of its own."""
    with store.reading() as tx:
        return since(tx) is not None


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
        raise EmergencyStop(f"The emergency stop is on{when}: nothing is launched. Nothing was changed. {_CLEAR}")


@dataclass(frozen=True, slots=True)
class Paused:
    """A batch call that the emergency stop paused, before or after its start."""

    batch_call_id: str
    started: bool


def stop(store: Store, wait_s: float = database.LONGEST_WAIT_S) -> int:
    """Stop everything: from when this returns no engine dials, whatever process it is in.

    Returns:
        How many batch calls this paused, of all organisations.

    Raises:
        sqlalchemy.exc.OperationalError: another transaction has not ended within `wait_s` seconds. Nobody else begins
            to dial, but what is live is not paused.
    """
    with store.writing() as tx:
        # First without the lock: from here on nobody begins to dial, also while one that hangs is waited for.
        if since(tx) is None:
            tx.execute(dialer_stops.insert().values(at=store.now()))
    with database.writing(store.engine, _LOCK, wait_s) as tx:
        return _pause_live(tx, store.now())


def obey_file(store: Store) -> int | None:
    """Stop everything if the file is there and no stop is on yet, or one that was cut off has left something live.

    A stop is lifted by removing the file and then clearing the row. So the file is looked at again in the transaction
    that writes the row: a stop that is being lifted does not come back.

    Returns:
        How many batch calls this paused; None: it stopped nothing.

    Raises:
        sqlalchemy.exc.OperationalError: see `stop`.
    """
    if not file_is_there(store.stop_file):
        return None
    if is_on(store):
        if not _is_live(store):
            return None
    else:
        with store.writing() as tx:
            share(tx)
            if since(tx) is not None or not file_is_there(store.stop_file):
                return None
            tx.execute(dialer_stops.insert().values(at=store.now()))
    with database.writing(store.engine, _LOCK) as tx:
        return None if since(tx) is None else _pause_live(tx, store.now())


def _is_live(store: Store) -> bool:
    with store.reading() as tx:
        return tx.execute(_LIVE.limit(1)).first() is not None


def _pause_live(tx: sa.Connection, now: int) -> int:
    return len(commands.pause(tx, list(tx.execute(_LIVE).scalars()), "stopped", _PAUSED, now))


def clear(store: Store) -> None:
    """Lift it. What it paused stays paused; a stop that was cut off before it had paused what is live does so now.

    Raises:
        sqlalchemy.exc.OperationalError: see `stop`.
    """
    with database.writing(store.engine, _LOCK) as tx:
        if since(tx) is not None:
            _pause_live(tx, store.now())
        on = dialer_stops.c.cleared_at.is_(None)
        tx.execute(dialer_stops.update().where(on).values(cleared_at=store.now()))


def paused_by_it(store: Store) -> list[Paused]:
    """The batch calls of all organisations that are paused because of an emergency stop, oldest first."""
    because = (batch_calls.c.status == State.PAUSED) & (batch_calls.c.status_reason == "stopped")
    query = sa.select(batch_calls.c.batch_call_id, batch_calls.c.started_at).where(because)
    with store.reading() as tx:
        rows = tx.execute(query.order_by(batch_calls.c.created_at, batch_calls.c.batch_call_id))
        return [Paused(row.batch_call_id, row.started_at is not None) for row in rows]


def in_progress(store: Store) -> int:
    """How many people are in a call, of all batch calls."""
    with store.reading() as tx:
        calling = sa.select(sa.func.count()).select_from(tasks).where(tasks.c.status == TaskStatus.CALLING)
        return tx.execute(calling).scalar_one()


def known(store: Store, batch_call_ids: Collection[str]) -> set[str]:
    """Those of these batch calls that the database has, of any organisation."""
    with store.reading() as tx:
        return {
            found
            for chunk in chunks(batch_call_ids, CHUNK)
            for found in tx.execute(
                sa.select(batch_calls.c.batch_call_id).where(batch_calls.c.batch_call_id.in_(chunk))
            ).scalars()
        }


def people(store: Store, batch_call_id: str) -> Iterator[CallTask]:
    """Everybody on the list of a batch call, of any organisation."""
    after = -1
    while True:
        with store.reading() as tx:
            rows = queries.tasks_after(tx, batch_call_id, after, INSERTED_AT_ONCE)
        for row in rows:
            yield CallTask(
                to_number=row["to_number"],
                name=row["name"],
                task_id=row["task_id"],
                status=TaskStatus(row["status"]),
                attempts=row["attempts"],
            )
        if not rows:
            return
        after = rows[-1]["position"]
