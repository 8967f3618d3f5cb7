"""The ledger's tables. Moments are integers: milliseconds since 1970, UTC. Callers, numbers and keys are hashes.

`migrations/` makes them; a test compares both.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()
_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")

writes = sa.Table(
    "writes",
    metadata,
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
    sa.Column("simulated", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("over_at", sa.BigInteger),
    sa.Column("max_dials", sa.Integer),
    sa.Column("dial_cost", sa.BigInteger),
    sa.Column("currency", sa.String),
    sa.Index("writes_equal", "caller", "backend", "operation", "fingerprint"),
    sa.Index("writes_by_key", "caller", "backend", "operation", "key_hash"),
    sa.Index("writes_of_batch_call", "backend", "batch_call_id", "write_id"),
    sa.Index("writes_of_day", "starts_at"),
    sa.Index("writes_by_state", "state"),
)

codes = sa.Table(
    "codes",
    metadata,
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
    sa.Column("declined_at", sa.BigInteger),
    sa.Index("codes_of_launch", "caller", "binding"),
    sa.Index("codes_by_age", "issued_at"),
)
"""kind: `code` (a tool takes it) or `approval` (only a person in a terminal does). `sealed` opens with the code."""

question_sets = sa.Table(
    "question_sets",
    metadata,
    sa.Column("question", sa.String, primary_key=True),
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("members", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("caller", sa.String, nullable=False, server_default=""),
    sa.Index("question_sets_by_age", "at"),
    sa.Index("question_sets_of_caller", "caller", "at"),
)
"""Who would be called, and what is warned of, of a question that can still be answered: sealed hashes."""

used_answers = sa.Table(
    "used_answers",
    metadata,
    sa.Column("answer_hash", sa.String, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
)

secret_keys = sa.Table(
    "secret_keys",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)

dialled = sa.Table(
    "dialled",
    metadata,
    sa.Column("write_id", _ID, sa.ForeignKey(writes.c.write_id), primary_key=True),
    sa.Column("number_hash", sa.LargeBinary, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("dials", sa.Integer, nullable=False),
    sa.Index("dialled_by_age", "at"),
)
"""Which numbers a launch may have dialled, and at most how often; kept for three days."""

forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("number_hash", sa.LargeBinary, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
)
"""Numbers whose people were erased, and who are not called again; kept for good."""

stops = sa.Table(
    "stops",
    metadata,
    sa.Column("stop_id", _ID, primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("cleared_at", sa.BigInteger),
)

audit_files = sa.Table(
    "audit_files",
    metadata,
    sa.Column("file", sa.String, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)
"""How far the audit file of a data folder has been copied, in bytes. `file` is a hash of machine, path and begin."""

audit_events = sa.Table(
    "audit_events",
    metadata,
    sa.Column("event_id", _ID, primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("machine", sa.String, nullable=False),
    sa.Column("line", sa.String, nullable=False),
    sa.Index("audit_events_by_time", "at", "event_id"),
)
"""The audit files of every machine on this database, line by line."""
