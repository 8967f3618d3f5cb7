"""The first dialer: SQLite, one engine a file. Its databases have no version; they are taken for this one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "batch_calls",
        sa.Column("batch_call_id", sa.String, primary_key=True),
        sa.Column("organization_id", sa.String, nullable=False),
        sa.Column("name", sa.String),
        sa.Column("from_number", sa.String, nullable=False),
        sa.Column("agent_id", sa.String),
        sa.Column("timezone", sa.String),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("total_task_count", sa.Integer, nullable=False),
        sa.Column("max_concurrency", sa.Integer, nullable=False),
        sa.Column("window", sa.JSON, nullable=False),
        sa.Column("retry_config", sa.JSON(none_as_null=True)),
        sa.Column("retry_rules", sa.JSON(none_as_null=True)),
        sa.Column("retry_of", sa.String),
        sa.Column("scheduled_at", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("last_sent_at", sa.BigInteger),
    )
    op.create_index("batch_calls_of_organization", "batch_calls", ["organization_id", "created_at"])
    op.create_index("batch_calls_by_status", "batch_calls", ["status"])
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.String, primary_key=True),
        sa.Column(
            "batch_call_id", sa.String, sa.ForeignKey("batch_calls.batch_call_id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("to_number", sa.String, nullable=False),
        sa.Column("name", sa.String),
        sa.Column("dynamic_variables", sa.String),
        sa.Column("max_retries", sa.Integer),
        sa.Column("timezone", sa.String),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("answered", sa.Boolean, nullable=False),
        sa.Column("last_outcome", sa.String),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("call_id", sa.String),
        sa.Column("error_message", sa.String),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("attempted_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
        sa.UniqueConstraint("batch_call_id", "position"),
    )
    op.create_index(
        "tasks_by_status", "tasks", ["batch_call_id", "status", "due_at", "position", "attempts", "answered"]
    )
    op.create_table(
        "attempts",
        sa.Column("task_id", sa.String, primary_key=True),
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("batch_call_id", sa.String, nullable=False),
        sa.Column("organization_id", sa.String, nullable=False),
        sa.Column("to_number", sa.String, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("outcome", sa.String),
        sa.Column("error_message", sa.String),
    )
    op.create_index("attempts_of_number", "attempts", ["organization_id", "to_number", "started_at"])
    op.create_index("attempts_of_day", "attempts", ["organization_id", "started_at"])
    op.create_table(
        "do_not_call",
        sa.Column("to_number", sa.String, primary_key=True),
        sa.Column("added_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "recorded_answers",
        sa.Column("organization_id", sa.String, primary_key=True),
        sa.Column("idempotency_key", sa.String, primary_key=True),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("answer", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_recorded_answers_created_at", "recorded_answers", ["created_at"])
    op.create_table(
        "api_keys",
        sa.Column("key_hash", sa.String, primary_key=True),
        sa.Column("secret_hash", sa.String, nullable=False),
        sa.Column("organization_id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
