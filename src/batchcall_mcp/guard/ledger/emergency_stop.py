"""The emergency stop: a row that every process on the ledger sees, and a file for when the database cannot be asked."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

from batchcall_mcp.clock import from_ms
from batchcall_mcp.database import LONGEST_WAIT_S
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.ledger.database import LedgerDatabase
from batchcall_mcp.settings import STOP_FILE

LOG: Final = logging.getLogger(__name__)


class Stops:
    """Either of the two stops every launch."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def since(self) -> datetime | None:
        """Since when nothing may be launched; None if nothing is in the way."""
        with self._database.reading() as connection:
            return self.since_in(connection)

    def since_in(self, tx: sa.Connection) -> datetime | None:
        """The same, within a transaction."""
        at = tx.scalar(sa.select(sa.func.max(t.stops.c.at)).where(t.stops.c.cleared_at.is_(None)))
        if at is not None:
            return from_ms(at)
        try:  # lstat: a link that leads nowhere is a stop too
            return datetime.fromtimestamp((self._database.data_dir / STOP_FILE).lstat().st_mtime, UTC)
        except FileNotFoundError:
            return None

    def stop(self, wait_s: float) -> None:
        """From when this returns no launch is recorded, and so none is sent, by any process on this ledger.

        Raises:
            ConfigurationError: it could not be written in this time.
        """
        with self._database.writing(wait_s) as tx:
            tx.execute(t.stops.insert().values(at=self._database.now()))
            _end_every_yes(tx)

    def stop_if_older(self) -> None:
        """Have a restored ledger launch nothing until a person has compared it with what happened since.

        Raises:
            ConfigurationError: it is one, and the stop could not be written.
        """
        if not self._database.is_older():
            return
        self.stop(LONGEST_WAIT_S)
        self._database.note_newest()
        Audit(self._database.data_dir).note(Event(event="stop", caller="ledger", tool="stop", outcome="older"))
        LOG.warning(
            "The ledger is older than the data folder %s knows: a back-up was restored. It does not know what was "
            "launched since, so the emergency stop is on. `batchcall-mcp audit` shows what was written; docs/backup.md "
            "says what to compare. Then `batchcall-mcp stop --clear`.",
            self._database.data_dir,
        )

    def clear(self) -> None:
        """Lift it."""
        with self._database.writing() as tx:
            tx.execute(t.stops.update().where(t.stops.c.cleared_at.is_(None)).values(cleared_at=self._database.now()))
            _end_every_yes(tx)
        (self._database.data_dir / STOP_FILE).unlink(missing_ok=True)


def _end_every_yes(tx: sa.Connection) -> None:
    """What was approved before a stop was approved in another situation: after it a person is asked again."""
    tx.execute(t.codes.delete().where(t.codes.c.used_at.is_(None)))
