"""Several processes dial from one database; calls per second, expiry, webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what is new; every column that an old row lacks may be null."""
    op.add_column("batch_calls", sa.Column("calls_per_second", sa.Float))
    op.add_column("batch_calls", sa.Column("expires_at", sa.BigInteger))
    op.add_column("attempts", sa.Column("worker_id", sa.String))
    op.add_column("attempts", sa.Column("placed_at", sa.BigInteger))
    op.create_index("attempts_of_batch_call", "attempts", ["batch_call_id", "placed_at"])
    op.create_index("attempts_by_outcome", "attempts", ["organization_id", "outcome", "ended_at"])
    op.create_index(
        "attempts_open",
        "attempts",
        ["worker_id"],
        sqlite_where=sa.text("outcome IS NULL"),
        postgresql_where=sa.text("outcome IS NULL"),
    )
    op.add_column("api_keys", sa.Column("hint", sa.String))
    op.add_column("api_keys", sa.Column("revoked_at", sa.BigInteger))
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.String, primary_key=True),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("beats", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.String, primary_key=True),
        sa.Column("organization_id", sa.String, nullable=False),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("secret", sa.String, nullable=False),
        sa.Column("events", sa.JSON(none_as_null=True)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_webhooks_organization_id", "webhooks", ["organization_id"])
    op.create_table(
        "webhook_outbox",
        sa.Column("message_id", sa.String, primary_key=True),
        sa.Column("webhook_id", sa.String, sa.ForeignKey("webhooks.webhook_id", ondelete="CASCADE"), nullable=False),
        sa.Column("event", sa.String, nullable=False),
        sa.Column("payload", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("delivered_at", sa.BigInteger),
        sa.Column("last_error", sa.String),
    )
    op.create_index(
        "webhook_outbox_due",
        "webhook_outbox",
        ["webhook_id", "due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("webhook_outbox_of_webhook", "webhook_outbox", ["webhook_id", "created_at"])
