"""Whether a database is dialled from with a gate before each dial."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column; an older version did not say it."""
    op.add_column("installation", sa.Column("gated", sa.Boolean))
