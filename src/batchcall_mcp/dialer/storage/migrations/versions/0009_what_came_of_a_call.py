"""How long somebody was talked to, who answered, and what they chose."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add columns; of what an older version has dialled nobody knows them."""
    op.add_column("tasks", sa.Column("duration_ms", sa.BigInteger))
    op.add_column("tasks", sa.Column("answered_by", sa.String))
    op.add_column("tasks", sa.Column("choice", sa.String))
