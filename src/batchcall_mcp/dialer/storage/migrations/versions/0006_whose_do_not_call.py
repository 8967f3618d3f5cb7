"""Whose a number of the do-not-call list is, where it comes from, and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table again with more columns. What is there is from the operator's file."""
    op.rename_table("do_not_call", "do_not_call_before")
    op.create_table(
        "do_not_call",
        sa.Column("entry_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("to_number", sa.String, nullable=False),
        sa.Column("organization_id", sa.String),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("to_number", "organization_id", "source"),
    )
    op.create_index("do_not_call_of_organization", "do_not_call", ["organization_id", "entry_id"])
    op.execute(
        "INSERT INTO do_not_call (to_number, source, added_at) SELECT to_number, 'file:', added_at "
        "FROM do_not_call_before"
    )
    op.drop_table("do_not_call_before")
