"""Webhooks of an organisation: registered, listed, removed, and what became of their messages.

What belongs to another organisation is not there.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from batchcall_mcp.dialer.rest.messages import mapping
from batchcall_mcp.dialer.rest.service import Answer
from batchcall_mcp.dialer.storage.outbox import Event
from batchcall_mcp.dialer.storage.store import Store, WriteRequest
from batchcall_mcp.dialer.storage.tables import webhook_outbox, webhooks
from batchcall_mcp.errors import IllegalTransition, NotFound
from batchcall_mcp.signed_http.url_policy import MAX_URL, NotAllowed, WebhookAddresses

MOST: Final = 10
"""Webhooks of one organisation."""
_SECRET_BYTES: Final = 32
_NUL: Final = "\0"
"""PostgreSQL takes none, not even to look for."""


class TooManyWebhooks(IllegalTransition):
    """The organisation has as many as it may have."""

    code = "too_many_webhooks"


class WebhookBody(BaseModel):
    """A webhook as it is asked for. Without `events`: every event, also those that later versions add."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(min_length=1, max_length=MAX_URL)]
    events: Annotated[list[Event] | None, Field(min_length=1, max_length=20)] = None


@dataclass(frozen=True)
class WebhookService:
    """What can be asked about webhooks. All block and run in worker threads."""

    open_store: Callable[[], Store]
    addresses: WebhookAddresses

    def create(self, write: WriteRequest, body: bytes) -> Answer:
        """Register one. Its secret is shown now, and again to a repetition of this write, whose answer may be lost.

        Raises:
            InvalidInput: the body is wrong, or no webhook may go there.
            TooManyWebhooks: there are ten.
        """
        asked = mapping.parse(WebhookBody, body)
        refused: NotAllowed | None = None
        # Before the transaction, which waits for no resolver; a repetition is answered whatever is found now.
        try:
            self.addresses.destination(asked.url)
        except NotAllowed as error:
            refused = error
        store = self.open_store()

        def effect(tx: sa.Connection) -> Mapping[str, Any]:
            if refused is not None:
                raise refused
            if store.shared:
                # So that two at once do not both find room; who reads goes on.
                tx.execute(sa.text("LOCK TABLE webhooks IN SHARE ROW EXCLUSIVE MODE"))
            mine = sa.select(sa.func.count()).where(webhooks.c.organization_id == write.organization_id)
            if tx.execute(mine).scalar_one() >= MOST:
                raise TooManyWebhooks(
                    f"This organization has {MOST} webhooks, which is the most. Nothing was changed; delete one first."
                )
            values = {
                "webhook_id": f"webhook_{secrets.token_hex(16)}",
                "url": asked.url,
                "events": None if asked.events is None else sorted(set(asked.events)),
                "created_at": store.now(),
            }
            secret = "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii")
            tx.execute(webhooks.insert().values(**values, organization_id=write.organization_id, secret=secret))
            return {"message": "Webhook created successfully", "data": _webhook_json(values)}

        answer, replayed = store.once(write, effect)
        with store.reading() as tx:
            # Not in the recorded answer: a secret has one place, and goes with its webhook.
            secret = tx.scalar(sa.select(webhooks.c.secret).where(_one(write.organization_id, answer["data"])))
        shown = answer["data"] if secret is None else {**answer["data"], "secret": secret}
        return Answer(answer["message"], shown, replayed)

    def find(self, organization_id: str) -> Answer:
        """All of them, without their secrets."""
        query = (
            sa.select(*_SHOWN)
            .where(webhooks.c.organization_id == organization_id)
            .order_by(webhooks.c.created_at, webhooks.c.webhook_id)
        )
        with self.open_store().reading() as tx:
            found = [_webhook_json(dict(row)) for row in tx.execute(query).mappings()]
        return Answer("Webhooks retrieved successfully", {"webhooks": found})

    def delete(self, write: WriteRequest, webhook_id: str) -> Answer:
        """Remove one and all its messages. What is being sent at this moment may still arrive.

        Raises:
            NotFound: there is none.
        """

        def effect(tx: sa.Connection) -> Mapping[str, Any]:
            mine = _one(write.organization_id, {"webhook_id": webhook_id})
            if _NUL in webhook_id or tx.execute(webhooks.delete().where(mine)).rowcount == 0:
                raise _no_webhook(webhook_id)
            return {"message": "Webhook deleted successfully", "data": None}

        answer, replayed = self.open_store().once(write, effect)
        return Answer(answer["message"], None, replayed)

    def find_deliveries(self, organization_id: str, webhook_id: str, *, page: int, limit: int) -> Answer:
        """A page of its messages, newest first.

        Raises:
            NotFound: there is no such webhook.
        """
        query = (
            sa.select(*_DELIVERY)
            .where(webhook_outbox.c.webhook_id == webhook_id)
            .order_by(webhook_outbox.c.created_at.desc(), webhook_outbox.c.message_id.desc())
            .offset(page * limit)
            .limit(limit + 1)
        )
        with self.open_store().reading() as tx:
            _look_up(tx, organization_id, webhook_id)
            found = [_delivery_json(dict(row)) for row in tx.execute(query).mappings()]
        pagination = {
            "page": page,
            "limit": limit,
            "has_next_page": len(found) > limit,
            "has_previous_page": page > 0,
        }
        return Answer("Deliveries retrieved successfully", {"deliveries": found[:limit], "pagination": pagination})

    def resend(self, write: WriteRequest, webhook_id: str, message_id: str) -> Answer:
        """Make a message due now, with all its tries, whatever became of it before.

        Raises:
            NotFound: there is no such message of this webhook.
        """
        store = self.open_store()
        mine = (webhook_outbox.c.webhook_id == webhook_id) & (webhook_outbox.c.message_id == message_id)

        def effect(tx: sa.Connection) -> Mapping[str, Any]:
            _look_up(tx, write.organization_id, webhook_id)
            values = {"due_at": store.now(), "tries": 0, "delivered_at": None, "last_error": None}
            if _NUL in message_id or tx.execute(webhook_outbox.update().where(mine).values(values)).rowcount == 0:
                raise NotFound(f"There is no message {message_id!r} of this webhook. Nothing was changed.")
            row = tx.execute(sa.select(*_DELIVERY).where(mine)).mappings().one()
            return {"message": "The message will be sent again", "data": _delivery_json(dict(row))}

        answer, replayed = store.once(write, effect)
        return Answer.recorded(answer, replayed=replayed)


_SHOWN: Final = webhooks.c["webhook_id", "url", "events", "created_at"]
_DELIVERY: Final = webhook_outbox.c[
    "message_id", "event", "created_at", "tries", "delivered_at", "due_at", "last_error"
]


def _one(organization_id: str, named: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(webhooks.c.webhook_id == named["webhook_id"], webhooks.c.organization_id == organization_id)


def _look_up(tx: sa.Connection, organization_id: str, webhook_id: str) -> None:
    mine = _one(organization_id, {"webhook_id": webhook_id})
    if _NUL in webhook_id or tx.scalar(sa.select(webhooks.c.webhook_id).where(mine)) is None:
        raise _no_webhook(webhook_id)


def _no_webhook(webhook_id: str) -> NotFound:
    return NotFound(f"There is no webhook {webhook_id!r} in this organization. Nothing was changed.")


def _webhook_json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "created_at": mapping.iso(row["created_at"])}


def _delivery_json(row: Mapping[str, Any]) -> dict[str, Any]:
    moments = {name: mapping.iso(row[name]) for name in ("created_at", "delivered_at", "due_at")}
    return {**row, **moments}
