"""The dialer's tables. Moments are integers: milliseconds since 1970, UTC."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

batch_calls = sa.Table(
    "batch_calls",
    metadata,
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
    sa.Index("batch_calls_of_organization", "organization_id", "created_at"),
    sa.Index("batch_calls_by_status", "status"),
)

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("task_id", sa.String, primary_key=True),
    sa.Column(
        "batch_call_id", sa.String, sa.ForeignKey(batch_calls.c.batch_call_id, ondelete="CASCADE"), nullable=False
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
    # Everything that is asked again and again is answered from this one without touching the rows.
    sa.Index("tasks_by_status", "batch_call_id", "status", "due_at", "position", "attempts", "answered"),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("task_id", sa.String, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    # No foreign keys: deleting a batch call must not let its people be called beyond the daily cap.
    sa.Column("batch_call_id", sa.String, nullable=False),
    sa.Column("organization_id", sa.String, nullable=False),
    sa.Column("to_number", sa.String, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("outcome", sa.String),
    sa.Column("error_message", sa.String),
    sa.Index("attempts_of_number", "organization_id", "to_number", "started_at"),
    sa.Index("attempts_of_day", "organization_id", "started_at"),
)

do_not_call = sa.Table(
    "do_not_call",
    metadata,
    sa.Column("to_number", sa.String, primary_key=True),
    sa.Column("added_at", sa.BigInteger, nullable=False),
)

recorded_answers = sa.Table(
    "recorded_answers",
    metadata,
    sa.Column("organization_id", sa.String, primary_key=True),
    sa.Column("idempotency_key", sa.String, primary_key=True),
    sa.Column("fingerprint", sa.String, nullable=False),
    sa.Column("answer", sa.JSON, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_hash", sa.String, primary_key=True),
    sa.Column("secret_hash", sa.String, nullable=False),
    sa.Column("organization_id", sa.String, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)
