"""How often a launch may dial at most, and what one dial costs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add three columns. Of launches that are there the dials are known, as far as their numbers are kept."""
    for name, kind in (("max_dials", sa.Integer), ("dial_cost", sa.BigInteger), ("currency", sa.String)):
        op.add_column("writes", sa.Column(name, kind))
    op.execute(
        "UPDATE writes SET max_dials = (SELECT SUM(dials) FROM dialled WHERE dialled.write_id = writes.write_id)"
    )
