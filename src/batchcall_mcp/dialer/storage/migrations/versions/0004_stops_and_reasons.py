"""The emergency stop, why a batch call has its status, when it was last launched, and what is known of the engines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add tables, columns and an index. When an engine last ran is known from what it wrote last."""
    op.add_column("batch_calls", sa.Column("status_reason", sa.String))
    op.add_column("batch_calls", sa.Column("status_reason_text", sa.String))
    op.add_column("batch_calls", sa.Column("launched_at", sa.BigInteger))
    op.add_column("batch_calls", sa.Column("pause_on_failures", sa.Boolean, nullable=False, server_default=sa.true()))
    op.execute(
        "UPDATE batch_calls SET launched_at = COALESCE(started_at, created_at) WHERE status NOT IN ('draft', 'failed')"
    )
    ended = sa.text("outcome IS NOT NULL")
    op.create_index(
        "attempts_ended", "attempts", ["batch_call_id", "ended_at"], sqlite_where=ended, postgresql_where=ended
    )
    op.create_table(
        "dialer_stops",
        sa.Column("stop_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("cleared_at", sa.BigInteger),
    )
    op.create_table(
        "installation",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("engine_ran_at", sa.BigInteger),
        sa.Column("away_from", sa.BigInteger),
        sa.Column("away_until", sa.BigInteger),
        sa.Column("engine_failures", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("path", sa.String),
        sa.Column("inode", sa.String),
    )
    op.execute(
        """
        INSERT INTO installation (one, engine_ran_at) SELECT 1, MAX(at) FROM (
            SELECT MAX(started_at) AS at FROM attempts
            UNION ALL SELECT MAX(ended_at) FROM attempts
            UNION ALL SELECT MAX(started_at) FROM batch_calls
            UNION ALL SELECT MAX(started_at) FROM workers
        ) AS moments
        """
    )
