"""A revision of each batch call, from which its ETag is made; why a task is not dialled before a later time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; what is put off already says so in its words."""
    op.add_column("batch_calls", sa.Column("revision", sa.Integer, nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("held_by", sa.String))
    op.execute(
        """
        UPDATE tasks SET held_by = CASE
            WHEN error_message LIKE 'outside calling hours; %' THEN 'calling_hours'
            WHEN error_message LIKE 'dialled % times in 24 hours; %' THEN 'daily_cap'
            ELSE 'retry' END
        WHERE status = 'pending' AND due_at IS NOT NULL
        AND (error_message LIKE 'outside calling hours; %' OR error_message LIKE 'dialled % times in 24 hours; %'
            OR last_outcome IS NOT NULL)
        """
    )
    op.create_index(
        "tasks_held",
        "tasks",
        ["batch_call_id", "held_by", "due_at"],
        sqlite_where=sa.text("held_by IS NOT NULL"),
        postgresql_where=sa.text("held_by IS NOT NULL"),
    )
