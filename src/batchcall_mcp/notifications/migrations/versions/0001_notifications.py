"""Notifications that wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "notifications",
        sa.Column("message_id", sa.String, primary_key=True),
        sa.Column("event", sa.String, nullable=False),
        sa.Column("payload", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("tries", sa.Integer, nullable=False),
    )
    op.create_index("notifications_due", "notifications", ["due_at"])
    op.create_index("notifications_by_age", "notifications", ["created_at"])
