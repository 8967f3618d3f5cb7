"""Which carrier dials a batch call, the ids of its calls there, and when each carrier's engine ran."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add them; whatever an older version has dialled, or waits there, is the simulator's."""
    for table in ("batch_calls", "attempts"):
        op.add_column(table, sa.Column("carrier", sa.String, nullable=False, server_default="simulated"))
    op.add_column("attempts", sa.Column("asked_at", sa.BigInteger))
    op.add_column("attempts", sa.Column("carrier_call_id", sa.String))
    for column in ("backend_status", "cost", "summary"):
        op.add_column("tasks", sa.Column(column, sa.String))
    known = sa.text("carrier_call_id IS NOT NULL")
    op.create_index("attempts_at_carrier", "attempts", ["carrier_call_id"], sqlite_where=known, postgresql_where=known)
    op.create_table(
        "carriers",
        sa.Column("carrier", sa.String, primary_key=True),
        sa.Column("engine_ran_at", sa.BigInteger),
        sa.Column("away_from", sa.BigInteger),
        sa.Column("away_until", sa.BigInteger),
        sa.Column("next_call_at", sa.BigInteger),
    )
    op.execute(
        "INSERT INTO carriers (carrier, engine_ran_at, away_from, away_until) "
        "SELECT 'simulated', engine_ran_at, away_from, away_until FROM installation"
    )
    for column in ("away_from", "away_until"):
        op.drop_column("installation", column)
