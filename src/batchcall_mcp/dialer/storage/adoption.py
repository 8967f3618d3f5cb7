"""Accepting that a database dials in another place than before: what would dial is paused, a person decides."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from filelock import FileLock, Timeout

from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import commands, installation, queries
from batchcall_mcp.dialer.storage.installation import Location
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import batch_calls, tasks
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.model import TaskStatus

_PAUSED: Final = (
    "The dialer's database was copied, moved or restored, and then adopted in its new place. Resume it if its people "
    "were not called meanwhile."
)


class NotAdopted(BatchCallError):
    """A dialer on the original would call the same people."""


@dataclass(frozen=True, slots=True)
class Live:
    """A batch call that is not over; `waiting` of its `total` people were never called."""

    batch_call_id: str
    organization_id: str
    name: str | None
    scheduled_at: int | None
    waiting: int
    total: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """Where the database dialled before, and what is live in it."""

    before: str
    original_is_there: bool
    paused: list[Live]
    scheduled: list[Live]


def adopt(store: Store) -> Adopted | None:
    """Make the file that is open the one that dials; None if it is already.

    Raises:
        NotAdopted: the original is in use, or is the same file under another name.
    """
    file = store.file
    with store.writing() as tx:
        if file is None:
            return None
        here = Location.of(file)
        before = installation.last(tx)
        if before in {None, here} and not installation.is_older(tx, file):
            return None
        elsewhere = before if before not in {None, here} else None
        if elsewhere is not None:
            _check_original(elsewhere, here)
        now = store.now()
        commands.pause(tx, queries.dialling(tx, now), "error", _PAUSED, now)
        installation.settle(tx, file)
        return Adopted(
            (elsewhere or here).path,
            elsewhere is not None and elsewhere.is_taken,
            paused=_live(tx, (State.PAUSED,)),
            scheduled=_live(tx, (State.SCHEDULED,)),
        )


def _check_original(before: Location, now: Location) -> None:
    if not before.is_taken:
        return
    if before.inode == now.inode:
        raise NotAdopted(
            f"{before.path} and {now.path} are one file under two names, which no database survives. Nothing was "
            "changed. End every dialer, remove one of the names, then try again."
        )
    lock = FileLock(f"{before.path}.engine.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise NotAdopted(
            f"A dialer dials from the original at this moment, {before.path}: both would call the same people. "
            "Nothing was changed. End that one first."
        ) from None
    except OSError:  # it cannot be looked at; the answer names it
        return
    lock.release()


def _live(tx: sa.Connection, states: Collection[State]) -> list[Live]:
    waiting = (
        sa.select(sa.func.count())
        .where(
            tasks.c.batch_call_id == batch_calls.c.batch_call_id,
            tasks.c.status == TaskStatus.PENDING,
            tasks.c.attempts == 0,
        )
        .scalar_subquery()
    )
    query = sa.select(batch_calls, waiting.label("waiting")).where(batch_calls.c.status.in_(states))
    return [
        Live(row.batch_call_id, row.organization_id, row.name, row.scheduled_at, row.waiting, row.total_task_count)
        for row in tx.execute(query.order_by(batch_calls.c.created_at, batch_calls.c.batch_call_id))
    ]
