"""How many people a launch calls before it pauses by itself, and which batch call a test call is of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add two columns. What was launched before calls everybody."""
    op.add_column("batch_calls", sa.Column("first", sa.Integer))
    op.add_column("batch_calls", sa.Column("test_of", sa.String))
