"""The moment that is given with a date, before which nobody is called."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add a column; what an older version has scheduled for a date begins as it was to begin."""
    op.add_column("batch_calls", sa.Column("earliest_at", sa.BigInteger))
