"""Calls that a process asked a carrier for, or was about to, and left: whoever dials next reads what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from batchcall_mcp.clock import from_ms
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.engine import heartbeat, outcomes
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from batchcall_mcp.dialer.storage.store import CHUNK, chunks
from batchcall_mcp.dialer.storage.tables import attempts, batch_calls, tasks, workers
from batchcall_mcp.model import TaskStatus


@dataclass(frozen=True, slots=True)
class LeftCall:
    """One of them. It may have been asked for from `since` on; `call_id` is the vendor's, where that is known."""

    attempt: Attempt
    call_id: str | None
    since: datetime


def find(dispatch: Dispatch) -> list[LeftCall]:
    """Calls in progress of its carrier that were left by processes which are no more in the list of workers."""
    query = (
        sa.select(attempts, batch_calls.c.from_number, batch_calls.c.agent_id, tasks.c.dynamic_variables)
        .outerjoin(batch_calls, batch_calls.c.batch_call_id == attempts.c.batch_call_id)
        .outerjoin(tasks, tasks.c.task_id == attempts.c.task_id)
        .where(attempts.c.carrier == dispatch.carrier, attempts.c.outcome.is_(None), _left())
    )
    with dispatch.store.reading() as look:
        return [_read(row) for row in look.execute(query)]


def take_over(dispatch: Dispatch, left: Sequence[LeftCall]) -> list[LeftCall]:
    """Make them this worker's, unless another one was faster; gives those that are. May be done again.

    Those for which no request may have left are due again, as if they had never been started. The batch calls are held:
    a process that was taken for dead, and lives, has asked for its call before this, or asks no more.
    """
    keys = {one.attempt.batch_call_id for one in left}
    mine = _left() | (attempts.c.worker_id == dispatch.worker_id)
    with dispatch.store.writing() as tx:
        outcomes.locked(tx, keys, keys)
        if dispatch.capacity is not None:
            heartbeat.enlist(tx, dispatch.worker_id, dispatch.capacity, dispatch.store.now())
        outcomes.withdraw(tx, _never_asked_for(tx, dispatch, left), dispatch.store.now())
        return [
            one
            for one in left
            if tx.execute(
                attempts.update()
                .where(attempts.c.task_id == one.attempt.task_id, attempts.c.n == one.attempt.n)
                .where(attempts.c.outcome.is_(None), mine)
                .values(worker_id=dispatch.worker_id)
            ).rowcount
        ]


def _never_asked_for(tx: sa.Connection, dispatch: Dispatch, left: Sequence[LeftCall]) -> list[sa.Row[Any]]:
    query = (
        sa.select(attempts.c.task_id, attempts.c.n, attempts.c.batch_call_id)
        .join(tasks, (tasks.c.task_id == attempts.c.task_id) & (tasks.c.attempts == attempts.c.n))
        .where(attempts.c.carrier == dispatch.carrier, attempts.c.outcome.is_(None), _left())
        .where(attempts.c.asked_at.is_(None), tasks.c.status == TaskStatus.CALLING)
        .with_for_update(of=attempts)
    )
    found: list[sa.Row[Any]] = []
    for chunk in chunks([one.attempt.task_id for one in left], CHUNK):
        found += tx.execute(query.where(attempts.c.task_id.in_(chunk)))
    return found


def _left() -> sa.ColumnElement[bool]:
    return sa.or_(attempts.c.worker_id.is_(None), attempts.c.worker_id.not_in(sa.select(workers.c.worker_id)))


def _read(row: sa.Row[Any]) -> LeftCall:
    attempt = Attempt(
        task_id=row.task_id,
        n=row.n,
        batch_call_id=row.batch_call_id,
        from_number=row.from_number or "",
        to_number=row.to_number,
        organization_id=row.organization_id,
        agent_id=row.agent_id,
        dynamic_variables=row.dynamic_variables,
        claimed_at=from_ms(row.started_at),
    )
    return LeftCall(attempt, row.carrier_call_id, from_ms(row.asked_at or row.started_at))
