"""Messages for webhooks, written inside the transaction that makes the change: both are committed, or none.

`delivery` sends them.
"""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import sqlalchemy as sa

from batchcall_mcp.clock import from_ms
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.storage.store import CHUNK, chunks
from batchcall_mcp.dialer.storage.tables import batch_calls, tasks, webhook_outbox, webhooks

Event: TypeAlias = Literal[
    "batch_call.scheduled",
    "batch_call.started",
    "batch_call.paused",
    "batch_call.resumed",
    "batch_call.cancelled",
    "batch_call.completed",
    "task.finished",
]
"""What a webhook can ask for."""


def batch_call_events(tx: sa.Connection, events: Iterable[tuple[str, Event]], now: int) -> None:
    """Report batch calls (id, event), as they are in this transaction; where nobody listens it is one small query."""
    for chunk in chunks(events, CHUNK):
        ids = {batch_call_id for batch_call_id, _ in chunk}
        listeners = _listeners(tx, sa.select(batch_calls.c.organization_id).where(batch_calls.c.batch_call_id.in_(ids)))
        if not listeners:
            continue
        rows = {
            row["batch_call_id"]: dict(row)
            for row in tx.execute(
                sa.select(*_OF_BATCH_CALL, batch_calls.c.organization_id).where(batch_calls.c.batch_call_id.in_(ids))
            ).mappings()
        }
        _write(tx, listeners, [(event, rows[batch_call_id]) for batch_call_id, event in chunk], now)


def task_events(tx: sa.Connection, task_ids: Iterable[str], now: int) -> None:
    """Report those of these tasks that are over, as they are in this transaction; a redial that waits is not over.

    Where nobody listens it is one small query for every 500 tasks.
    """
    for chunk in chunks(task_ids, CHUNK):
        mine = tasks.c.task_id.in_(chunk)
        listeners = _listeners(
            tx,
            sa.select(batch_calls.c.organization_id).where(
                batch_calls.c.batch_call_id.in_(sa.select(tasks.c.batch_call_id).where(mine))
            ),
            "task.finished",
        )
        if not listeners:
            continue
        rows = tx.execute(
            sa.select(*_OF_TASK, batch_calls.c.organization_id)
            .join(batch_calls, batch_calls.c.batch_call_id == tasks.c.batch_call_id)
            .where(mine, tasks.c.status.not_in(sorted(rules.UNFINISHED)))
        ).mappings()
        _write(tx, listeners, [("task.finished", dict(row)) for row in rows], now)


_OF_BATCH_CALL: Final = batch_calls.c[
    "batch_call_id", "name", "status", "status_reason", "total_task_count", "retry_of"
]
_OF_TASK: Final = tasks.c["task_id", "batch_call_id", "to_number", "status", "attempts"]
"""What a message holds; a task's variables never."""


def _listeners(
    tx: sa.Connection, organizations: sa.Select[tuple[str]], event: Event | None = None
) -> dict[str, list[Any]]:
    """Webhooks by organisation; those that want `event`, if it is given."""
    query = (
        sa.select(webhooks.c.webhook_id, webhooks.c.organization_id, webhooks.c.events)
        .where(webhooks.c.organization_id.in_(organizations))
        # A webhook that is deleted at this moment goes after this transaction, which would fail without it.
        .with_for_update(read=True, key_share=True)
    )
    found: dict[str, list[Any]] = defaultdict(list)
    for row in tx.execute(query):
        if event is None or row.events is None or event in row.events:
            found[row.organization_id].append(row)
    return found


def _write(
    tx: sa.Connection,
    listeners: Mapping[str, Sequence[Any]],
    events: Iterable[tuple[Event, dict[str, Any]]],
    now: int,
) -> None:
    at = from_ms(now).isoformat(timespec="milliseconds")
    messages = []
    for event, row in events:
        data = {name: value for name, value in row.items() if name != "organization_id" and value is not None}
        payload = json.dumps({"type": event, "timestamp": at, "data": data}, separators=(",", ":"))
        messages += [
            {
                "message_id": f"msg_{secrets.token_hex(16)}",
                "webhook_id": listener.webhook_id,
                "event": event,
                "payload": payload,
                "created_at": now,
                "due_at": now,
                "tries": 0,
            }
            for listener in listeners.get(row["organization_id"], ())
            if listener.events is None or event in listener.events
        ]
    if messages:
        tx.execute(webhook_outbox.insert(), messages)
