"""The ledger's database: opened, brought to today's schema, and the secrets that all its processes share.

A back-up that is restored does not know what was launched since, and would take a repetition for a new job. So the data
folder knows too how far the ledger has come: `ledger.newest` names each ledger and its newest entry. It is written
after the entry is on disk, so it is never ahead of the ledger that it is about.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from filelock import FileLock, Timeout

from batchcall_mcp import database
from batchcall_mcp.clock import Clock, span_ms, utc_now
from batchcall_mcp.database import Schema
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.ledger import at_rest
from batchcall_mcp.guard.ledger.tables import secret_keys, writes
from batchcall_mcp.settings import Settings

_LOCK: Final = 0x62617463685F6D63
_CLOSING_WAITS_S: Final = 5
_NEWEST_FILE: Final = "ledger.newest"
_KNOWN: Final = re.compile(r"([0-9a-f]{16}) ([0-9]{20})")
_NOTING_WAITS_S: Final = 2
_AGAIN_EVERY_S: Final = 5.0
LOG = logging.getLogger(__name__)


class LedgerDatabase(database.Database):
    """One open ledger."""

    schema = Schema(
        name="The ledger, in which every write is recorded before it is sent,",
        migrations=Path(__file__).parent / "migrations",
        head=at_rest.VERSION,
        versions=at_rest.VERSIONS,
        lock=_LOCK,
    )

    def __init__(self, engine: sa.Engine, data_dir: Path, clock: Clock = utc_now) -> None:
        super().__init__(engine, clock)
        self.data_dir: Final = data_dir
        self._idle: Final = threading.Condition()
        self._at_work = 0
        self._clocks = database.ClockWatch(utc_now)
        self._off_ms = 0
        if self.shared:
            with self.reading() as connection:
                self._look_at_the_clocks(connection)
        self._pepper = self.key("pepper")
        self._noting: Final = threading.Lock()
        self._notes = True
        self._late: Final = threading.Condition()
        self._left: Final = deque[Callable[[], None]]()
        self._catches_up = self._closed = False

    @classmethod
    def open(cls, settings: Settings, clock: Clock = utc_now) -> LedgerDatabase:
        """The database that the settings name.

        Raises:
            ConfigurationError: it cannot be opened, or a newer version of this program made it.
        """
        engine = cls.opened(settings.database(at_rest.FILE))
        try:
            return cls(engine, settings.data_dir, clock)
        except ConfigurationError:
            engine.dispose()
            raise

    @classmethod
    def is_there(cls, settings: Settings) -> bool:
        """Whether the settings name a ledger that was used before.

        Raises:
            ConfigurationError: the database cannot be opened.
        """
        return cls.schema.is_used(settings.database(at_rest.FILE))

    def close(self) -> None:
        """Let go of every connection; what a stop did not wait for has some seconds to end."""
        with self._late:
            self._closed = True
            self._late.notify_all()
        with self._idle:
            self._idle.wait_for(lambda: not self._at_work, timeout=_CLOSING_WAITS_S)
        super().close()

    def do_later(self, work: Callable[[], None]) -> None:
        """Do it in a thread, as soon as this can be written, or never if it is closed before. Does not block."""
        with self._late:
            self._left.append(work)
            if not (self._catches_up or self._closed):
                self._catches_up = True
                threading.Thread(target=self._catch_up, name="ledger", daemon=True).start()

    def _catch_up(self) -> None:
        while (work := self._next_left()) is not None:
            try:
                work()
            except ConfigurationError as error:
                LOG.debug("What was left cannot be written yet: %s", error)
                with self._late:
                    self._left.appendleft(work)
                    self._late.wait_for(lambda: self._closed, _AGAIN_EVERY_S)
            except Exception:
                LOG.exception("What was left cannot be written")

    def _next_left(self) -> Callable[[], None] | None:
        with self._late:
            if self._left and not self._closed:
                return self._left.popleft()
            self._catches_up = False
            return None

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._idle:
            self._at_work += 1
        try:
            yield
        finally:
            with self._idle:
                self._at_work -= 1
                self._idle.notify_all()

    def now(self) -> int:
        """The time in milliseconds: the database's, where this machine's clock is off by more than a minute.

        Another replica's codes would be as old for this one as its clock is wrong, and be removed.
        """
        return super().now() - self._off_ms

    def _look_at_the_clocks(self, connection: sa.Connection) -> None:
        self._off_ms = span_ms(self._clocks.off(connection))

    @contextmanager
    def writing(self, wait_s: float = database.LONGEST_WAIT_S) -> Iterator[sa.Connection]:
        """A transaction that no other writing one runs beside, in any process; waits for it at most so long.

        Raises:
            ConfigurationError: the database cannot be reached, or not be written.
        """
        with self._counted(), self.usable(), database.writing(self.engine, _LOCK, wait_s) as tx:
            if self.shared:
                self._look_at_the_clocks(tx)
            yield tx

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One look that waits for nobody.

        Raises:
            ConfigurationError: the database cannot be reached.
        """
        with self._counted(), self.usable(), super().reading() as connection:
            yield connection

    def check_file(self) -> None:
        """Go on only if the ledger is still the file at its path: what another process does not see is not recorded.

        Raises:
            ConfigurationError: it was deleted or replaced.
        """
        file = self.file
        if file is not None and not file.is_in_place:
            raise ConfigurationError(
                f"The ledger {file.path}, in which every write is recorded before it is sent, was deleted, moved or "
                "replaced while this process ran. Nothing was sent. Restart it (the MCP client, or `batchcall-mcp "
                "serve`); put the file back first if there is a copy, because a new ledger knows no earlier launch."
            )

    def check_version(self, tx: sa.Connection) -> None:
        """Go on only if no other version of the program has migrated the tables; none can until `tx` ends.

        Raises:
            ConfigurationError: one has.
        """
        found = self.schema.recorded_version(tx)
        if found != self.schema.head:
            raise ConfigurationError(
                f"The ledger, in which every write is recorded before it is sent, is of version {found} now, and this "
                f"process knows version {self.schema.head}. Nothing was sent. Restart it on the newest batchcall-mcp."
            )

    def is_older(self) -> bool:
        """Whether this folder has seen a newer entry of this ledger than there is: an older database was restored."""
        known = self._known().get(self._name(), 0)
        return known > self._newest()

    def note_if_unknown(self) -> None:
        """Say how far the ledger has come where this folder does not know it yet, as after an upgrade."""
        if self._name() not in self._known() and self._newest():
            self.note_newest()

    def note_newest(self, write_id: int | None = None) -> None:
        """Say in the data folder how far the ledger has come: to this entry, if it is not further already; or to the
        one that is newest now, which after a restore is an earlier one.
        """
        with self._noting:
            if not self._notes:
                return
            number = self._newest() if write_id is None else write_id
            try:
                self._note(number, may_go_back=write_id is None)
            except Timeout:
                LOG.info("Another process writes %s all the time", _NEWEST_FILE)  # the next entry is noted
            except OSError as error:
                self._notes = False
                place = self.data_dir / _NEWEST_FILE
                LOG.warning("%s cannot be written (%s): a restored ledger may not be noticed", place, error.strerror)

    def _note(self, number: int, *, may_go_back: bool) -> None:
        """In place, each line of one length: what is read meanwhile is whole."""
        self.data_dir.mkdir(parents=True, exist_ok=True)  # a server on PostgreSQL may not have needed it before
        place = self.data_dir / _NEWEST_FILE
        # Several processes write here, each what it knows; the latest to say so need not have the newest entry.
        with FileLock(f"{place}.lock", mode=0o600).acquire(timeout=_NOTING_WAITS_S):
            known, name = self._known(), self._name()
            if not may_go_back and number <= known.get(name, 0):
                return
            known[name] = number
            content = "".join(f"{one} {at:020d}\n" for one, at in known.items()).encode()
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, content)
                os.ftruncate(descriptor, len(content))
            finally:
                os.close(descriptor)

    def _known(self) -> dict[str, int]:
        """The newest entries of all ledgers that were used with this folder, by their names."""
        try:
            lines = (self.data_dir / _NEWEST_FILE).read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return {}
        return {found[1]: int(found[2]) for found in map(_KNOWN.fullmatch, lines) if found}

    def _newest(self) -> int:
        with self.reading() as connection:
            return int(connection.scalar(sa.select(sa.func.max(writes.c.write_id))) or 0)

    def _name(self) -> str:
        return self.hashed("the ledger")[:16]

    def check(self) -> None:
        """Go on only if a write could be recorded now, as far as a look that writes nothing can say.

        Raises:
            ConfigurationError: see `check_file`, `check_version` and `reading`.
        """
        self.check_file()
        with self.reading() as tx:
            self.check_version(tx)

    def hashed(self, text: str) -> str:
        """A name for something that the ledger must not hold itself: the same in every process on this database."""
        return hmac.new(self._pepper, text.encode(), hashlib.sha256).hexdigest()

    def hashed_bytes(self, text: str) -> bytes:
        """The same, short, for what there are very many of."""
        return hmac.digest(self._pepper, text.encode(), hashlib.sha256)[:16]

    def key(self, name: str) -> bytes:
        """32 random bytes, made once and shared by every process on this database."""
        query = sa.select(secret_keys.c.value).where(secret_keys.c.name == name)
        with self.reading() as connection:
            found: bytes | None = connection.scalar(query)
        if found is not None:
            return found
        with self.writing() as tx:
            found = tx.scalar(query)
            if found is None:
                found = secrets.token_bytes(32)
                tx.execute(secret_keys.insert().values(name=name, value=found))
            return found
