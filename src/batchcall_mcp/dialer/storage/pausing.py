"""Batch calls that the dialer pauses by itself, each with its reason; a confirmed resume goes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa

from batchcall_mcp.dialer.domain.records import ReasonCode
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import outbox
from batchcall_mcp.dialer.storage.store import CHUNK, chunks
from batchcall_mcp.dialer.storage.tables import REVISED, batch_calls

LIVE: Final = frozenset({State.SCHEDULED, State.SENT})
"""What dials, or will when its time comes."""


def pause(tx: sa.Connection, batch_call_ids: Iterable[str], code: ReasonCode, text: str, now: int) -> list[str]:
    """Pause those of these batch calls that are live; gives their ids.

    Args:
        tx: the transaction; it holds the state of the batch calls still from here on.
        batch_call_ids: of any organisation.
        code: for programs.
        text: for people: what happened, and what to do.
        now: milliseconds.
    """
    values = {"status": State.PAUSED, "status_reason": code, "status_reason_text": text, "updated_at": now}
    paused: list[str] = []
    # In the order in which everybody locks them, so that two transactions never wait for each other.
    for chunk in chunks(sorted(set(batch_call_ids)), CHUNK):
        live = batch_calls.c.batch_call_id.in_(chunk) & batch_calls.c.status.in_(sorted(LIVE))
        held = sa.select(batch_calls.c.batch_call_id).where(live).order_by(batch_calls.c.batch_call_id)
        found = list(tx.execute(held.with_for_update()).scalars())
        if found:
            of_them = batch_calls.c.batch_call_id.in_(found)
            tx.execute(batch_calls.update().where(of_them).values({**values, **REVISED}))
            outbox.batch_call_events(tx, [(key, "batch_call.paused") for key in found], now)
            paused += found
    return paused


def dialling(tx: sa.Connection, now: int) -> list[str]:
    """The batch calls that dial at this moment, or would have begun to."""
    arrived = (batch_calls.c.status == State.SCHEDULED) & (batch_calls.c.scheduled_at <= now)
    query = sa.select(batch_calls.c.batch_call_id).where((batch_calls.c.status == State.SENT) | arrived)
    return list(tx.execute(query).scalars())
