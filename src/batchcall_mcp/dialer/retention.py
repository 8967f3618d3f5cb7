"""BATCHCALL_RETENTION_DAYS on the dialer: so many days after a batch call its people are erased, by what dials."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.clock import to_ms
from batchcall_mcp.dialer import erasure
from batchcall_mcp.dialer.carriers.simulated import in_record
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.recipients.phone.spellings import is_forgotten

LOG = logging.getLogger(__name__)
LOOKS_EVERY_S: Final = 600.0


class Retention:
    """Looks every ten minutes, and soon after the start. `record`: what the simulated carrier dialled."""

    def __init__(self, store: Store, kept_for: timedelta, record: Path) -> None:
        self._store = store
        self._kept_for = kept_for
        self._record = record
        self._is_rewritten = False

    async def run(self) -> None:
        """Look until it is cancelled; a database that is away is looked at again."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except (sa.exc.SQLAlchemyError, OSError) as error:
                LOG.warning("What is over for long could not be erased: %s; it is tried again.", type(error).__name__)
            await asyncio.sleep(LOOKS_EVERY_S)

    def look(self) -> list[str]:
        """Erase what is old enough now; gives the batch calls. Blocks."""
        before = self._store.clock() - self._kept_for
        erased = erasure.erase_ended(self._store, to_ms(before))
        in_record(self._record, lambda number, at: not is_forgotten(number) and _is_before(at, before), change=True)
        if erased:
            LOG.info("Retention: the people of %d batch calls were erased.", len(erased))
            self._is_rewritten = False
        if not self._store.shared:  # PostgreSQL has its own vacuum
            self._rewrite()
        return erased

    def _rewrite(self) -> None:
        """Once after people were erased. Whether that worked in a process before this one, nobody knows."""
        if not self._is_rewritten and erasure.has_erased(self._store):
            self._is_rewritten = database.leave_no_trace(self._store.engine, ())


def _is_before(written: str, moment: datetime) -> bool:
    try:
        return datetime.fromisoformat(written) <= moment
    except (ValueError, TypeError):
        return False
