"""The table of notifications that wait. Moments are integers: milliseconds since 1970, UTC.

`migrations/` makes it; a test compares both.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("message_id", sa.String, primary_key=True),
    sa.Column("event", sa.String, nullable=False),
    sa.Column("payload", sa.String, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Index("notifications_due", "due_at"),
    sa.Index("notifications_by_age", "created_at"),
)
"""`due_at` is null once it is delivered or given up: it stays for a while, so that nobody is notified twice."""
