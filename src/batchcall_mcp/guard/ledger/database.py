"""The ledger's database: opened, brought to today's schema, and the secrets that all its processes share."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.clock import Clock, span_ms, to_ms, utc_now
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.ledger.tables import secret_keys
from batchcall_mcp.settings import Settings

HEAD: Final = "0004"
"""The newest migration; a database that is there needs no look at the others."""
_LOCK: Final = 0x62617463685F6D63
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_CLOSING_WAITS_S: Final = 5
_VERSIONS: Final = "alembic_version"


class LedgerDatabase:
    """One open ledger. Every method may be called from any thread and blocks; none belongs on an event loop."""

    def __init__(self, engine: sa.Engine, data_dir: Path, clock: Clock = utc_now) -> None:
        self.engine: Final = engine
        self.data_dir: Final = data_dir
        self.clock = clock
        self._idle: Final = threading.Condition()
        self._at_work = 0
        self._clocks = database.ClockWatch(utc_now)
        self._off_ms = 0
        _migrate(self)
        self._look_at_the_clocks()
        self._pepper = self.key("pepper")

    @classmethod
    def open(cls, settings: Settings, clock: Clock = utc_now) -> LedgerDatabase:
        """The database that the settings name.

        Raises:
            ConfigurationError: it cannot be opened, or a newer version of this program made it.
        """
        if settings.database_url is not None:
            engine = database.open_postgresql(settings.database_url.get_secret_value())
        else:
            engine = database.open_sqlite(settings.data_dir / "ledger.db")
        try:
            return cls(engine, settings.data_dir, clock)
        except ConfigurationError:
            engine.dispose()
            raise

    @staticmethod
    def is_there(settings: Settings) -> bool:
        """Whether the settings name a ledger that somebody has made.

        Raises:
            ConfigurationError: the database cannot be opened.
        """
        if settings.database_url is None:
            return (settings.data_dir / "ledger.db").exists()
        engine = database.open_postgresql(settings.database_url.get_secret_value())
        try:
            with in_words(), database.reading(engine) as connection:
                return database.version(connection, _VERSIONS) is not None
        finally:
            engine.dispose()

    def close(self) -> None:
        """Let go of every connection; what a stop did not wait for has some seconds to end."""
        with self._idle:
            self._idle.wait_for(lambda: not self._at_work, timeout=_CLOSING_WAITS_S)
        self.engine.dispose()

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

    @property
    def shared(self) -> bool:
        """Whether processes on other machines may use it too."""
        return self.engine.dialect.name == "postgresql"

    def now(self) -> int:
        """The time in milliseconds: the database's, where this machine's clock is off by more than a minute.

        Another replica's codes would be as old for this one as its clock is wrong, and be removed.
        """
        return to_ms(self.clock()) - self._off_ms

    def _look_at_the_clocks(self) -> None:
        if self.shared:
            with self.reading() as connection:
                self._off_ms = span_ms(self._clocks.off(connection))

    @contextmanager
    def writing(self, wait_s: float = database.LONGEST_WAIT_S) -> Iterator[sa.Connection]:
        """A transaction that no other writing one runs beside, in any process; waits for it at most so long.

        Raises:
            ConfigurationError: the database cannot be reached, or not be written.
        """
        with self._counted(), in_words(), database.writing(self.engine, _LOCK, wait_s) as tx:
            if self.shared:
                self._off_ms = span_ms(self._clocks.off(tx))
            yield tx

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One look that waits for nobody.

        Raises:
            ConfigurationError: the database cannot be reached.
        """
        with self._counted(), in_words(), database.reading(self.engine) as connection:
            yield connection

    def check_file(self) -> None:
        """Go on only if the ledger is still the file at its path: what another process does not see is not recorded.

        Raises:
            ConfigurationError: it was deleted or replaced.
        """
        file = database.held_file(self.engine)
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
        found = database.recorded_version(tx, _VERSIONS)
        if found != HEAD:
            raise ConfigurationError(
                f"The ledger, in which every write is recorded before it is sent, is of version {found} now, and this "
                f"process knows version {HEAD}. Nothing was sent. Restart it on the newest batchcall-mcp."
            )

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


@contextmanager
def in_words() -> Iterator[None]:
    """What goes wrong with the database or its folder, as an error of ours.

    Raises:
        ConfigurationError: without the database's own words, which may hold what was to be written.
    """
    try:
        with database.privileges():
            yield
    except (sa.exc.SQLAlchemyError, OSError) as error:
        why = type(getattr(error, "orig", None) or error).__name__
        raise ConfigurationError(
            f"The ledger, in which every write is recorded before it is sent, cannot be used ({why}). Nothing was "
            "sent. Check that the disk is not full and, if BATCHCALL_DATABASE_URL is set, that its database runs; then "
            "try again."
        ) from error


def _migrate(ledger: LedgerDatabase) -> None:
    with ledger.reading() as connection:
        if database.version(connection, _VERSIONS) == HEAD:
            return
    with ledger.writing() as tx:
        database.migrate(tx, _MIGRATIONS, HEAD, _VERSIONS, unversioned=None)
