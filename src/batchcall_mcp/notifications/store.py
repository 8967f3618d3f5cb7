"""Notifications that wait: a table of its own, in the shared PostgreSQL database or in `notifications.db`.

Not in the ledger's tables: what reports a launch must not hold up the transaction that records one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.clock import Clock, span_ms, utc_now
from batchcall_mcp.database import Schema
from batchcall_mcp.notifications.events import Notice, most_of
from batchcall_mcp.notifications.tables import notifications
from batchcall_mcp.settings import Settings
from batchcall_mcp.signed_http.post import Result
from batchcall_mcp.signed_http.retries import next_try

STORE_FILE: Final = "notifications.db"
MOST_WAITING: Final = 1_000
"""Beyond it a new one is dropped: who is not reached for so long is not helped by more."""
LEASE: Final = timedelta(seconds=60)
"""How long a claimed one is its sender's: longer than any try."""
KEPT: Final = timedelta(days=7)
"""After this an old one is removed: delivered, given up, or never sent because nothing ran."""
_LOCK: Final = 0x62617463685F6E6F


@dataclass(frozen=True, slots=True)
class Claimed:
    """One that this process sends now; `tries` counts this one too."""

    message_id: str
    event: str
    payload: str
    tries: int


class NotificationStore(database.Database):
    """One open store. Any number of processes may send from it, and no two send one at the same time."""

    schema = Schema(
        name="The store of notifications",
        migrations=Path(__file__).parent / "migrations",
        head="0001",
        versions="notifications_version",
        lock=_LOCK,
    )

    @classmethod
    def open(cls, settings: Settings, clock: Clock = utc_now) -> NotificationStore:
        """The store that the settings name.

        Raises:
            ConfigurationError: it cannot be opened, or a newer version of this program made it.
        """
        return cls(cls.opened(settings.database(STORE_FILE)), clock)

    def add(self, notices: Iterable[Notice]) -> int:
        """Keep these until they are delivered; gives how many were dropped because too many wait.

        Raises:
            ConfigurationError: the database cannot be used.
        """
        dropped = 0
        with self._writing() as tx:
            now = self.now()
            tx.execute(notifications.delete().where(notifications.c.created_at < now - span_ms(KEPT)))
            waiting = sa.select(sa.func.count()).where(notifications.c.due_at.is_not(None))
            wait = int(tx.scalar(waiting) or 0)
            for notice in notices:
                message_id = notice.message_id()
                known = sa.select(notifications.c.message_id).where(notifications.c.message_id == message_id)
                if tx.scalar(known) is not None:
                    continue  # another process has seen the same
                if wait >= most_of(notice.event, MOST_WAITING):
                    dropped += 1
                    continue
                wait += 1
                made = {"message_id": message_id, "event": notice.event, "payload": notice.payload(self.clock())}
                tx.execute(notifications.insert().values(created_at=now, due_at=now, tries=0, **made))
        return dropped

    def claim(self, most: int) -> list[Claimed]:
        """Those that are due, oldest first: this process's for as long as `LEASE`.

        Raises:
            ConfigurationError: the database cannot be used.
        """
        due = notifications.c.due_at <= self.now()
        with self.usable(), self.reading() as tx:
            if most <= 0 or tx.scalar(sa.select(notifications.c.message_id).where(due).limit(1)) is None:
                return []
        with self._writing() as tx:
            rows = tx.execute(sa.select(notifications).where(due).order_by(notifications.c.due_at).limit(most)).all()
            mine = notifications.c.message_id.in_([row.message_id for row in rows])
            until = self.now() + span_ms(LEASE)
            tx.execute(notifications.update().where(mine).values(due_at=until, tries=notifications.c.tries + 1))
        return [Claimed(row.message_id, row.event, row.payload, row.tries + 1) for row in rows]

    def record(self, claimed: Claimed, result: Result) -> timedelta | None:
        """Write down what came of a try; gives after how long it is tried again, if it is.

        Raises:
            ConfigurationError: the database cannot be used.
        """
        again = None if result.error is None else next_try(claimed.tries, result)
        this = notifications.c.message_id == claimed.message_id
        # Another try may have begun after this one's lease; then that one decides.
        mine = this if result.error is None else this & (notifications.c.tries == claimed.tries)
        with self._writing() as tx:
            due_at = None if again is None else self.now() + span_ms(again)
            tx.execute(notifications.update().where(mine).values(due_at=due_at))
        return again

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self.usable(), database.writing(self.engine, _LOCK) as tx:
            yield tx
