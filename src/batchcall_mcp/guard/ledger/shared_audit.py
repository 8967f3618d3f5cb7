"""The audit record of every machine on a shared database: each copies its own file into it, line by line.

The file stays what is written first: a stop is not held up by a database. It is also the queue: how far it has been
copied stands in the database, in the transaction that copies, so a crash or an outage loses and doubles nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import sqlalchemy as sa

from batchcall_mcp.clock import to_ms
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.audit import FILE_NAME, LONGEST_LINE, event_in
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.ledger.database import LedgerDatabase

MACHINE: Final = "machine"
"""The key that says which machine an event is of."""
_EVERY_S: Final = 1.0
_AFTER_A_FAILURE_S: Final = 30.0
_CLOSING_WAITS_S: Final = 2.0
_WRITING_WAITS_S: Final = 1.0
_CHUNK_BYTES: Final = 256 * 1024
_PAGE: Final = 500
_KEEPS_OPEN: Final = os.name != "nt"
"""There a file that is open cannot be moved away."""

_logger = logging.getLogger(__name__)


class SharedAudit:
    """One machine's part in the record of all. Every method blocks, but `start`."""

    def __init__(self, database: LedgerDatabase, machine: str | None = None) -> None:
        self._database = database
        self._machine = machine or socket.gethostname() or "?"
        self._path = database.data_dir / FILE_NAME
        self._file: BinaryIO | None = None
        self._seen = -1
        self._copying = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Copy what is recorded from here on within about a second, in a thread of its own."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._go_on, name="audit", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Copy the last lines, where the database takes them soon."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(_CLOSING_WAITS_S)
            self._thread = None
        if self._copying.acquire(blocking=False):  # else the thread waits for the database, and closes it afterwards
            self._close_file()
            self._copying.release()

    def copy(self) -> None:
        """Copy what this machine has recorded and the database does not hold.

        Raises:
            ConfigurationError: the database cannot be reached, or not be written. What is not copied stays in the file.
        """
        with self._copying:
            if self._file is not None and not _is(self._file, self._path):  # it was moved away; its last lines first
                self._copy(self._file)
                self._close_file()
            if self._file is None:
                self._file = _opened(self._path)
                self._seen = -1
            if self._file is not None:
                self._copy(self._file)
                if not _KEEPS_OPEN:
                    self._close_file()

    def events(self, since: datetime | None = None) -> Iterator[dict[str, Any]]:
        """The events of every machine, oldest first, a page in memory at a time.

        Raises:
            ConfigurationError: the database cannot be reached.
        """
        at, last = (0 if since is None else to_ms(since)), 0
        events = t.audit_events.c
        while True:
            after = (events.at > at) | ((events.at == at) & (events.event_id > last))
            page = sa.select(t.audit_events).where(after).order_by(events.at, events.event_id).limit(_PAGE)
            with self._database.reading() as connection:
                rows = connection.execute(page).all()
            for row in rows:
                event = event_in(row.line.encode())
                if event is not None:
                    yield {**event, MACHINE: row.machine}
            if len(rows) < _PAGE:
                return
            at, last = rows[-1].at, rows[-1].event_id

    def _go_on(self) -> None:
        failed = False
        while not self._over.wait(_AFTER_A_FAILURE_S if failed else _EVERY_S):
            failed = self._fails(said=failed)
        if not failed:
            self._fails(said=False)
        with self._copying:
            self._close_file()

    def _fails(self, *, said: bool) -> bool:
        try:
            self.copy()
        except (ConfigurationError, OSError) as error:
            if not said:
                _logger.warning("The audit record of this machine stays in %s for now: %s", self._path, error)
            return True
        return False

    def _copy(self, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        if size == self._seen:
            return
        file.seek(0)
        head = file.readline(LONGEST_LINE)
        if not head.endswith(b"\n"):
            return
        named = f"audit {self._machine} {self._path} {head.decode(errors='replace')}"
        name = self._database.hashed(named)
        while self._copy_chunk(file, name):
            pass
        self._seen = size

    def _copy_chunk(self, file: BinaryIO, name: str) -> bool:
        """Whether more may follow."""
        held = t.audit_files.c.file == name
        with self._database.writing(_WRITING_WAITS_S) as tx:
            position = tx.scalar(sa.select(t.audit_files.c.position).where(held))
            file.seek(position or 0)
            chunk = file.read(_CHUNK_BYTES)
            whole = chunk[: chunk.rfind(b"\n") + 1]
            if not whole and len(chunk) == _CHUNK_BYTES:
                whole = chunk  # no line of ours is as long as that
            if not whole:
                return False
            rows = [
                {"at": to_ms(datetime.fromisoformat(event["at"])), "machine": self._machine, "line": line.decode()}
                for line in whole.splitlines()
                if (event := event_in(line)) is not None
            ]
            if rows:
                tx.execute(t.audit_events.insert(), rows)
            copied = (position or 0) + len(whole)
            if position is None:
                tx.execute(t.audit_files.insert().values(file=name, position=copied))
            else:
                tx.execute(t.audit_files.update().where(held).values(position=copied))
        return len(chunk) == _CHUNK_BYTES

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _opened(path: Path) -> BinaryIO | None:
    """The record to read, if there is one: to open a pipe would take from it what is another reader's."""
    try:
        return path.open("rb") if stat.S_ISREG(path.stat().st_mode) else None
    except FileNotFoundError:
        return None


def _is(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
