"""What a question showed, a person's no, and which launches are simulated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add a table and two columns; nothing that is there changes."""
    op.create_table(
        "question_sets",
        sa.Column("question", sa.String, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("members", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("question_sets_by_age", "question_sets", ["at"])
    op.add_column("codes", sa.Column("declined_at", sa.BigInteger))
    op.add_column("writes", sa.Column("simulated", sa.Boolean, nullable=False, server_default=sa.false()))
