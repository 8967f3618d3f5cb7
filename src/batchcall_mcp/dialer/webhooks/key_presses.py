"""What people press during calls, as their carrier reports it: it is of an attempt, whichever process dials that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp.clock import span_ms
from batchcall_mcp.dialer.carriers.base import DO_NOT_CALL, KeyPress
from batchcall_mcp.dialer.storage import do_not_call
from batchcall_mcp.dialer.storage.tables import attempts, batch_calls, tasks
from batchcall_mcp.model import TaskStatus

OPTED_OUT: Final = "pressed the key for it in a call of {batch_call_id}"
LATEST: Final = timedelta(minutes=30)
"""After the end of a call: what is reported later was kept back, or is sent again, and is no choice any more. An
opt-out holds whenever it comes."""
RECENT: Final = timedelta(hours=2)
"""How long a call can have begun before a key is pressed in it, where the carrier's id of the call is not known."""


@dataclass(frozen=True, slots=True)
class Pressed:
    """A key press that is known here: how the call goes on is its agent's."""

    agent_id: str | None


def keep(
    tx: sa.Connection, carrier: str, press: KeyPress, meaning: Callable[[str | None, str], str | None], now: int
) -> Pressed | None:
    """Keep what the keys stand for as the task's choice; who opts out is called by their organisation no more.

    Gives None for a call that is not of this database. `tx` writes; no batch call is locked in it.
    """
    if not all(text.isprintable() for text in (press.call_id, press.from_number, press.to_number)):
        return None  # PostgreSQL would not even look for it
    calls = _by_call_id(tx, carrier, press.call_id) or _without_call_id(tx, carrier, press, now)
    chosen = [(call, meaning(call.agent_id, press.keys)) for call in calls]
    if any(choice == DO_NOT_CALL for _, choice in chosen):
        do_not_call.hold(tx)
    for call, choice in chosen:
        if choice == DO_NOT_CALL:
            reason = OPTED_OUT.format(batch_call_id=call.batch_call_id)
            do_not_call.add(tx, call.organization_id, "carrier", {call.to_number: reason}, now)
        late = call.ended_at is not None and call.ended_at < now - span_ms(LATEST)
        if choice is not None and len(calls) == 1 and not late:
            this = (tasks.c.task_id == call.task_id) & (tasks.c.attempts == call.n)
            tx.execute(tasks.update().where(this).values(choice=choice))
    return Pressed(calls[0].agent_id) if calls else None


def _by_call_id(tx: sa.Connection, carrier: str, call_id: str) -> Sequence[sa.Row[Any]]:
    return tx.execute(_CALLS.where(attempts.c.carrier == carrier, attempts.c.carrier_call_id == call_id)).all()


def _without_call_id(tx: sa.Connection, carrier: str, press: KeyPress, now: int) -> Sequence[sa.Row[Any]]:
    """The calls that it may be whose id is not known: the answer to the request for it was lost.

    Of several it is not known in which one the key was pressed, and yet who does not want to be called.
    """
    # Of organisations that call from this number: those of an index. All attempts there ever were are not gone through.
    calls_from_it = sa.select(batch_calls.c.organization_id).where(batch_calls.c.from_number == press.from_number)
    lost = attempts.c.outcome.is_(None) | (attempts.c.outcome == TaskStatus.INTERRUPTED)
    return tx.execute(
        _CALLS.where(
            attempts.c.organization_id.in_(calls_from_it),
            attempts.c.carrier == carrier,
            attempts.c.carrier_call_id.is_(None),
            attempts.c.to_number == press.to_number,
            attempts.c.started_at > now - span_ms(RECENT),
            batch_calls.c.from_number == press.from_number,
            lost,
        )
    ).all()


_CALLS: Final[sa.Select[Any]] = sa.select(
    *attempts.c["task_id", "n", "batch_call_id", "organization_id", "to_number", "ended_at"],
    batch_calls.c.agent_id,
).select_from(attempts.outerjoin(batch_calls, batch_calls.c.batch_call_id == attempts.c.batch_call_id))
