"""Webhooks as tests use them: messages in an outbox, and rounds of sending that end."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import anyio
import sqlalchemy as sa

from batchcall_mcp.clock import Clock
from batchcall_mcp.dialer.rest.webhook_service import WebhookService
from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.storage.api_keys import KeyPair
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import webhook_outbox, webhooks
from batchcall_mcp.dialer.webhooks.delivery import Deliveries
from batchcall_mcp.signed_http.url_policy import WebhookAddresses
from tests.dialer.conftest import Caller

SECRET = "whsec_c2VjcmV0LW9mLTMyLWJ5dGVzLWZvci10aGVzZS10ZXN0cw=="
LOCAL = WebhookAddresses(allow_private=True)
PUBLIC = WebhookAddresses(resolve=lambda _host, _port: ["93.184.216.34"])
_NUMBERS = itertools.count()


def opened(where: Path | str, clock: Clock) -> Store:
    return Store.open(where / "dialer.db" if isinstance(where, Path) else where, clock)


def add_webhook(
    store: Store, url: str, *, events: list[str] | None = None, organization_id: str = "local", secret: str = SECRET
) -> str:
    webhook_id = f"webhook_{next(_NUMBERS)}"
    with store.writing() as tx:
        tx.execute(
            webhooks.insert().values(
                webhook_id=webhook_id,
                organization_id=organization_id,
                url=url,
                secret=secret,
                events=events,
                created_at=store.now(),
            )
        )
    return webhook_id


def add_messages(store: Store, webhook_id: str, count: int = 1) -> list[str]:
    """Messages that are due now."""
    ids = [f"msg_{next(_NUMBERS)}" for _ in range(count)]
    with store.writing() as tx:
        tx.execute(
            webhook_outbox.insert(),
            [
                {
                    "message_id": message_id,
                    "webhook_id": webhook_id,
                    "event": "task.finished",
                    "payload": '{"type":"task.finished"}',
                    "created_at": store.now(),
                    "due_at": store.now(),
                    "tries": 0,
                }
                for message_id in ids
            ],
        )
    return ids


def messages(store: Store) -> list[dict[str, Any]]:
    """The outbox, in the order in which it was written."""
    with store.reading() as tx:
        place = "ctid" if store.shared else "rowid"
        return [dict(row) for row in tx.execute(sa.select(webhook_outbox).order_by(sa.text(place))).mappings()]


def message(store: Store, message_id: str) -> dict[str, Any]:
    with store.reading() as tx:
        mine = webhook_outbox.c.message_id == message_id
        return dict(tx.execute(sa.select(webhook_outbox).where(mine)).mappings().one())


async def turn(deliveries: Deliveries) -> None:
    """Send and record what is due at this moment of the clock, and nothing else."""
    with anyio.fail_after(60):
        while claimed := await deliveries._step():
            async with anyio.create_task_group() as sending:
                for one in claimed:
                    sending.start_soon(deliveries._send, one)


def with_webhooks(caller: Caller, addresses: WebhookAddresses) -> Caller:
    """The REST face with these rules of where webhooks may go."""
    caller.dialer.app.state.webhooks = WebhookService(caller.dialer.store, addresses)
    return caller


def another_organization(caller: Caller) -> dict[str, str]:
    """Headers of a key pair of an organisation of its own."""
    pair: KeyPair = api_keys.new_pair()
    api_keys.add(caller.dialer.store(), pair, "another")
    return {"X-API-KEY": pair.api_key, "X-API-SECRET": pair.api_secret}
