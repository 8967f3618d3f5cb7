"""Dates on the called people's clocks, and call-backs that were promised."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add columns; what an older version has scheduled has none of them."""
    op.add_column("batch_calls", sa.Column("trigger_date", sa.String))
    op.add_column("batch_calls", sa.Column("expires_date", sa.String))
    op.add_column("tasks", sa.Column("not_before", sa.BigInteger))
