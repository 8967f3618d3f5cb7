"""One open ledger: the entries, the codes, the emergency stop and the shared record over one database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

from batchcall_mcp.clock import utc_now
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.ledger.codes import Codes
from batchcall_mcp.guard.ledger.database import LedgerDatabase
from batchcall_mcp.guard.ledger.emergency_stop import Stops
from batchcall_mcp.guard.ledger.forgotten import Forgotten
from batchcall_mcp.guard.ledger.history import History
from batchcall_mcp.guard.ledger.process_locks import FileOwners, Owners, PostgresOwners
from batchcall_mcp.guard.ledger.shared_audit import SharedAudit
from batchcall_mcp.guard.ledger.writes import Writes
from batchcall_mcp.guard.write_record import ARRIVES_WITHIN_S
from batchcall_mcp.settings import Settings


class Ledger:
    """Shared by all callers of a process. Every method of it and its parts blocks: none belongs on an event loop."""

    def __init__(self, database: LedgerDatabase, *, may_arrive_s: float = 60) -> None:
        self.database: Final = database
        self._owners: Owners = FileOwners(database.data_dir / "owners")
        if database.shared:
            self._owners = PostgresOwners(database.engine)
        self.audit: Final = SharedAudit(database)
        self.codes: Final = Codes(database)
        self.stops: Final = Stops(database)
        self.history: Final = History(database)
        self.forgotten: Final = Forgotten(database)
        self.writes: Final = Writes(database, self.codes, self.stops, self._owners, may_arrive_s=may_arrive_s)

    @classmethod
    def open(cls, settings: Settings, clock: Callable[[], datetime] = utc_now) -> Ledger:
        """The ledger that the settings name, brought to today's schema.

        Raises:
            ConfigurationError: it cannot be opened, or a newer version of this program made it.
        """
        opened = cls(LedgerDatabase.open(settings, clock), may_arrive_s=settings.request_timeout_s + ARRIVES_WITHIN_S)
        with suppress(ConfigurationError):  # the database is busy; the next code does it too
            opened.codes.forget_old()
        with suppress(ConfigurationError):  # it is busy; who launches looks again
            opened.stops.stop_if_older()
            opened.database.note_if_unknown()
        if opened.database.shared:
            opened.audit.start()
        return opened

    @classmethod
    def open_existing(cls, settings: Settings) -> Ledger | None:
        """The same, if a server has used it before; nothing is made.

        Raises:
            ConfigurationError: see `open`.
        """
        return cls.open(settings) if LedgerDatabase.is_there(settings) else None

    def hashed(self, text: str) -> str:
        """A name for something that the ledger must not hold itself, such as a caller."""
        return self.database.hashed(text)

    def close(self) -> None:
        """Let go of the locks and of every connection."""
        self.audit.close()
        self._owners.close()
        self.database.close()
