"""Whose a question is, and the audit record of every machine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add two tables and a column; what is there stays, and counts for nobody."""
    op.add_column("question_sets", sa.Column("caller", sa.String, nullable=False, server_default=""))
    op.create_index("question_sets_of_caller", "question_sets", ["caller", "at"])
    op.create_table(
        "audit_files",
        sa.Column("file", sa.String, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "audit_events",
        sa.Column("event_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("machine", sa.String, nullable=False),
        sa.Column("line", sa.String, nullable=False),
    )
    op.create_index("audit_events_by_time", "audit_events", ["at", "event_id"])
