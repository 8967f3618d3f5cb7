"""The ledger as it began."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "writes",
        sa.Column("write_id", _ID, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
        sa.Column("caller", sa.String, nullable=False),
        sa.Column("backend", sa.String, nullable=False),
        sa.Column("tool", sa.String, nullable=False),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("batch_call_id", sa.String),
        sa.Column("key_hash", sa.String),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("dials", sa.Boolean, nullable=False),
        sa.Column("calls", sa.Integer),
        sa.Column("starts_at", sa.BigInteger),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("backend_key", sa.String, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("status", sa.String),
        sa.Column("absent_at", sa.BigInteger),
        sa.Column("settled_at", sa.BigInteger),
    )
    op.create_index("writes_equal", "writes", ["caller", "backend", "operation", "fingerprint"])
    op.create_index("writes_by_key", "writes", ["caller", "backend", "operation", "key_hash"])
    op.create_index("writes_of_batch_call", "writes", ["backend", "batch_call_id", "write_id"])
    op.create_index("writes_of_day", "writes", ["starts_at"])
    op.create_index("writes_by_state", "writes", ["state"])
    op.create_table(
        "codes",
        sa.Column("code_hash", sa.String, primary_key=True),
        sa.Column("caller", sa.String, nullable=False),
        sa.Column("tool", sa.String, nullable=False),
        sa.Column("binding", sa.String, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=False),
        sa.Column("approved_at", sa.BigInteger),
        sa.Column("used_at", sa.BigInteger),
    )
    op.create_index("codes_of_launch", "codes", ["caller", "binding"])
    op.create_index("codes_by_age", "codes", ["issued_at"])
    op.create_table(
        "used_answers",
        sa.Column("answer_hash", sa.String, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "secret_keys",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "dialled",
        sa.Column("write_id", _ID, sa.ForeignKey("writes.write_id"), primary_key=True),
        sa.Column("number_hash", sa.LargeBinary, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("dials", sa.Integer, nullable=False),
    )
    op.create_index("dialled_by_age", "dialled", ["at"])
    op.create_table(
        "stops",
        sa.Column("stop_id", _ID, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("cleared_at", sa.BigInteger),
    )
