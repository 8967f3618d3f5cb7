"""When the people of a batch call were erased, because it has been over for long enough."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add a column; nobody's people were erased before."""
    op.add_column("batch_calls", sa.Column("erased_at", sa.BigInteger))
