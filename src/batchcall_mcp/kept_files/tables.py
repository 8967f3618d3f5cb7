"""The tables of kept files. Moments are integers: milliseconds since 1970, UTC. Owners are hashes.

`migrations/` makes them; a test compares both.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()
_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")

files = sa.Table(
    "kept_files",
    metadata,
    sa.Column("file_id", _ID, primary_key=True, autoincrement=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("kept_until", sa.BigInteger, nullable=False),
    sa.Index("kept_files_by_name", "owner", "name", unique=True),
    sa.Index("kept_files_by_age", "kept_until"),
)

parts = sa.Table(
    "kept_file_parts",
    metadata,
    sa.Column("file_id", _ID, sa.ForeignKey(files.c.file_id, ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
"""The content of a file, a bounded part a row: no process holds a whole file in memory."""
