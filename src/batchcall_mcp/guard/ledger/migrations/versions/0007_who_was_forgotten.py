"""Numbers that are to be forgotten, hashed: nobody calls them again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add a table; nobody was forgotten before."""
    op.create_table(
        "forgotten",
        sa.Column("number_hash", sa.LargeBinary, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
