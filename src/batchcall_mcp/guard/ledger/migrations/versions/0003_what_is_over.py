"""When the backend said that what a launch started is over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add a column; of what was launched before nothing is known."""
    op.add_column("writes", sa.Column("over_at", sa.BigInteger))
