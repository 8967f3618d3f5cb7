"""A launch of the first people of a list only: how many more may be dialled, and the pause after them.

Who was dialled is counted from the attempts, in the transaction that holds the batch call: a claim that was withdrawn
counts no more, and neither a crash nor another engine makes one person more of it. Redials of these people go on until
the pause, and then wait for the resume as everybody does.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from batchcall_mcp.dialer.domain.records import BatchCallRecord
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import commands
from batchcall_mcp.dialer.storage.tables import attempts, batch_calls, tasks
from batchcall_mcp.model import TaskStatus


def _dialled(batch_call_id: sa.ColumnElement[str]) -> sa.ScalarSelect[int]:
    """How many people: each has one first attempt."""
    mine = (attempts.c.batch_call_id == batch_call_id) & (attempts.c.n == 1)
    return sa.select(sa.func.count()).select_from(attempts).where(mine).scalar_subquery()


def _new(batch_call_id: sa.ColumnElement[str]) -> sa.Select[tuple[str]]:
    """Those who wait and were never dialled."""
    return sa.select(tasks.c.task_id).where(
        tasks.c.batch_call_id == batch_call_id, tasks.c.status == TaskStatus.PENDING, tasks.c.attempts == 0
    )


def are_dialled() -> sa.ColumnElement[bool]:
    """Of a row of `batch_calls`: its first people were dialled, and others wait."""
    key = batch_calls.c.batch_call_id
    first = batch_calls.c.first
    return sa.and_(first.is_not(None), _dialled(key) >= first, _new(key).correlate(batch_calls).exists())


def room(tx: sa.Connection, record: BatchCallRecord) -> int | None:
    """How many more people may be dialled before it pauses; None: there is no such limit, or nobody else waits."""
    if record.first is None:
        return None
    key = sa.literal(record.batch_call_id)
    left = record.first - tx.execute(sa.select(_dialled(key))).scalar_one()
    if left <= 0 and tx.execute(_new(key).limit(1)).first() is None:
        return None
    return max(0, left)


def pause_done(tx: sa.Connection, records: Mapping[str, BatchCallRecord], now: int) -> set[str]:
    """Pause those of these batch calls, locked, whose first people were called; gives their ids.

    Not before the last of these calls has ended: a claim that is not placed yet is one of them.
    """
    paused: set[str] = set()
    for key, record in sorted(records.items()):
        if record.first is None or record.status is not State.SENT or room(tx, record) != 0:
            continue
        calling = (tasks.c.batch_call_id == key) & (tasks.c.status == TaskStatus.CALLING)
        if tx.execute(sa.select(tasks.c.task_id).where(calling).limit(1)).first() is None:
            waiting = tx.execute(sa.select(sa.func.count()).select_from(_new(sa.literal(key)).subquery())).scalar_one()
            paused.update(commands.pause(tx, [key], "first_done", _text(record.first, waiting), now))
    return paused


def _text(first: int, waiting: int) -> str:
    were = "The first person was called" if first == 1 else f"The first {first:,} people were called"
    others = "1 other waits" if waiting == 1 else f"{waiting:,} others wait"
    return f"{were}, as it was started for; {others}. Resume it to call them."
