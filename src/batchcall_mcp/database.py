"""SQLite and PostgreSQL, opened to behave alike: every commit on disk, one writer at a time if asked for."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

import sqlalchemy as sa

# Before any thread uses SQLAlchemy, which asks the ORM as soon as a part of it is there: queries failed while another
# thread imported it, for Alembic or DBOS.
import sqlalchemy.orm
from filelock import FileLock, Timeout
from sqlalchemy import event

from batchcall_mcp.clock import Clock, to_ms
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.held_files import HeldFile

_POSTGRESQL = "postgresql"
_POSTGRESQL_NEEDS: Final = ("psycopg", "dbos")
"""What the extra `postgres` installs."""
_SESSION = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c synchronous_commit=on"
"""So that the server lets go of the locks of a machine that has gone, in seconds instead of hours; and what it has
confirmed is on its disk, whatever the role's own settings are."""
_ALIVE = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""So that this side notices within seconds that the server's machine has gone."""
_SQLITE: Final = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
"""What every connection to a file begins with: a commit that was confirmed outlives a loss of power."""
LOG = logging.getLogger(__name__)
_KEPT_WHILE_USED: Final = 5
_MOST_OPEN: Final = 10
"""Connections of one pool."""
_IDLE_S: Final = 5.0
"""After so long without use all connections of a pool are closed."""
_READING = {"batchcall_reading": True}
_IN_ERRORS_NO_VALUES: Final = True
"""What fails is logged with its statement; the values are people's names and variables, and webhooks' secrets."""
_OPENING_S = 30
_MIGRATING: Final = threading.Lock()
"""Alembic's context is one for the whole process."""
LONGEST_WAIT_S = 30.0
"""For another process's transaction."""
_LOOKS_EVERY_S: Final = 0.001
_LOOKS_AGAIN_S: Final = 0.05
_PRIMARY_CODE: Final = 0xFF
"""The part of an SQLite error code that its extended codes have in common."""
CLOCKS_APART: Final = timedelta(minutes=1)
"""How far a machine's clock may be off the database's before it matters."""
_CLOCK_LOOKS_EVERY_S: Final = 60.0
_DENIED: Final = "42501"
"""PostgreSQL's code for a privilege that the role does not have."""
_HELD: Final[WeakKeyDictionary[sa.Engine, HeldFile]] = WeakKeyDictionary()


def open_sqlite(path: Path) -> sa.Engine:
    """Open (and create, readable by its owner only) a SQLite file.

    Transactions begin with BEGIN IMMEDIATE, so a read followed by a write cannot fail half-way for a lock; they
    wait up to 30 s for another process's transaction. Those of `reading` take no lock at all. Every later connection
    is to the file that was opened here (`held_file`); a file that was put in its place is refused.

    Raises:
        ConfigurationError: the folder cannot be made or written, or the file is not a database.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {path.parent} cannot be used: {error.strerror}. Nothing was sent. "
            "Make it writable, or name another one with BATCHCALL_DATA_DIR."
        ) from error
    engine = sa.create_engine(
        f"sqlite:///{path}",
        hide_parameters=_IN_ERRORS_NO_VALUES,
        connect_args={"timeout": LONGEST_WAIT_S, "isolation_level": None},
    )

    @event.listens_for(engine, "do_connect")
    def _same_file(*_arguments: object) -> None:
        held = _HELD.get(engine)
        if held is not None and not held.is_in_place:
            raise sqlite3.OperationalError(f"{path} was deleted or replaced while it was open")

    @event.listens_for(engine, "connect")
    def _configure(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in _SQLITE:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        if _READING.items() <= connection.get_execution_options().items():
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_writing(connection)

    try:
        # One process at a time: on a file that is new, turning the write-ahead log on waits for nobody.
        with FileLock(f"{path}.opening.lock", timeout=_OPENING_S):
            held = HeldFile.at(path)
            engine.connect().close()
            _HELD[engine] = held
    except Timeout:
        engine.dispose()
        raise ConfigurationError(
            f"The database {path} is being opened by another process, and has been for {_OPENING_S} s. Nothing was "
            "sent. Try again; if it goes on, end that process."
        ) from None
    except sa.exc.DatabaseError as error:
        engine.dispose()
        raise ConfigurationError(
            f"The database {path} cannot be opened: {error.orig}. Nothing was sent. Repair it or move it away, or name "
            "another folder with BATCHCALL_DATA_DIR."
        ) from error
    return engine


def held_file(engine: sa.Engine) -> HeldFile | None:
    """The file that `open_sqlite` opened; None for PostgreSQL."""
    return _HELD.get(engine)


def _begin_writing(connection: sa.Connection) -> None:
    """Begin as soon as no other process writes.

    SQLite's own waiting sleeps ever longer, up to 100 ms at a time, and so may miss for seconds every gap that a busy
    writer leaves between two transactions: a pause would wait while people are dialled. This looks each millisecond.
    """
    cursor = connection.connection.cursor()
    try:
        wait_ms = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        end = monotonic() + wait_ms / 1000
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            while monotonic() < end:
                try:
                    cursor.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY:
                        break
                    sleep(_LOOKS_EVERY_S)
                else:
                    return
            # What does not work is reported in SQLAlchemy's words.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {wait_ms}")
    finally:
        cursor.close()


def insert_of(tx: sa.Connection) -> Any:
    """The dialect's own INSERT, which has ON CONFLICT. The dialect that is not used is not imported."""
    return import_module(f"sqlalchemy.dialects.{tx.dialect.name}").insert


def open_postgresql(url: str) -> sa.Engine:
    """Open a PostgreSQL database that exists.

    Raises:
        ConfigurationError: no extra `postgres`, or nothing answers there. It repeats no URL: that may hold a password.
    """
    if any(find_spec(needed) is None for needed in _POSTGRESQL_NEEDS):
        raise ConfigurationError(
            "This installation cannot use PostgreSQL (BATCHCALL_DATABASE_URL, or --database-url). Nothing was sent. "
            "Install what it needs: pip install 'batchcall-mcp[postgres]'."
        )
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it logs each connection that an outage cuts
    try:
        address = sa.make_url(url).set(drivername="postgresql+psycopg")
        engine = _postgresql(address, pool_size=_KEPT_WHILE_USED, max_overflow=_MOST_OPEN - _KEPT_WHILE_USED)
        _IdleConnections(engine)
        engine.connect().close()
    except (ValueError, sa.exc.ArgumentError, sa.exc.DBAPIError) as error:
        raise ConfigurationError(
            "The PostgreSQL database (BATCHCALL_DATABASE_URL, or --database-url) cannot be opened "
            f"({type(getattr(error, 'orig', error)).__name__}). Nothing was sent. Check that the URL is right, that "
            "the server runs and that the user may use the database."
        ) from None
    return engine


def _postgresql(url: sa.URL, *, pool_size: int, max_overflow: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        hide_parameters=_IN_ERRORS_NO_VALUES,
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=max_overflow,
        isolation_level="READ COMMITTED",  # after waiting for a lock, what its holder has written is seen
        connect_args=_ALIVE | {"options": _SESSION},
    )
    event.listen(engine, "handle_error", _without_values)
    _close_what_comes_back_late(engine)
    return engine


def _close_what_comes_back_late(engine: sa.Engine) -> None:
    """What is in use when the engine is disposed of comes back to a pool that nobody uses; there it would stay open."""
    disposals = 0

    def dispose(_engine: sa.Engine) -> None:
        nonlocal disposals
        disposals += 1

    def come_back(_connection: object, record: sa.pool.ConnectionPoolEntry) -> None:
        if record.info.get("disposals") != disposals:
            record.close()

    event.listen(engine, "connect", lambda _connection, record: record.info.update(disposals=disposals))
    event.listen(engine, "engine_disposed", dispose)
    event.listen(engine, "checkin", come_back)


def reserve(engine: sa.Engine, connections: int) -> sa.Engine:
    """The same PostgreSQL database over so many connections of its own: opened now, and kept until it is disposed of.

    Raises:
        sqlalchemy.exc.OperationalError: the server does not take so many.
    """
    reserved = _postgresql(engine.url, pool_size=connections, max_overflow=0)
    with ExitStack() as opened:
        opened.callback(reserved.dispose)
        with ExitStack() as at_once:
            for _ in range(connections):
                at_once.enter_context(reserved.connect())
        opened.pop_all()
    return reserved


class _IdleConnections:
    """Closes the connections of a pool that nobody has needed for a while: other processes may need them.

    Somebody who looks into the database every second needs one of them, and keeps no other one open.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._used_at = self._shared_at = 0.0
        self._looks = False
        event.listen(engine, "checkout", self._taken)
        event.listen(engine, "checkin", self._used)

    def _taken(self, *_: object) -> None:
        if self._engine.pool.checkedout() > 1:  # type: ignore[attr-defined]  # a QueuePool has it
            self._shared_at = monotonic()

    def _used(self, _connection: object, _record: object) -> None:
        with self._lock:
            self._used_at = monotonic()
            if not self._looks:
                self._looks = True
                self._look_in(_IDLE_S)

    def _look_in(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._look)
        timer.daemon = True
        timer.start()

    def _look(self) -> None:
        pool: Any = self._engine.pool
        with self._lock:
            idle_at = (self._shared_at if pool.checkedin() > 1 else self._used_at) + _IDLE_S
            rest = idle_at - monotonic()
            if rest > 0 or pool.checkedout():
                self._look_in(max(rest, 1.0))
                return
            self._looks = False
        self._engine.dispose()


def _without_values(context: sa.engine.interfaces.ExceptionContext) -> None:
    """Leave PostgreSQL's message and its code; DETAIL, CONTEXT and the statement's lines quote people's rows."""
    _shorten(context.original_exception)
    if context.sqlalchemy_exception is not None:
        kind = type(context.original_exception)
        context.sqlalchemy_exception.args = (
            f"({kind.__module__}.{kind.__name__}) {context.original_exception}",
            *context.sqlalchemy_exception.args[1:],
        )


def _shorten(error: BaseException) -> None:
    message = getattr(getattr(error, "diag", None), "message_primary", None)
    if message:
        error.args = (f"{message} (SQLSTATE {getattr(error, 'sqlstate', None)})",)


def leave_no_trace(engine: sa.Engine, tables: Iterable[str], wait_s: float = LONGEST_WAIT_S) -> bool:
    """Have the file of a SQLite database hold nothing but its rows: what was deleted or changed stays in it until then.

    It is rewritten, in its place, and its write-ahead log is emptied. Blocks writers meanwhile; waits for readers.
    PostgreSQL is asked to vacuum the tables, which it does where the role may.

    Returns:
        Whether all of it was done in time.
    """
    if engine.dialect.name == _POSTGRESQL:
        try:
            with engine.connect() as vacuuming:
                vacuuming.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(f"VACUUM {', '.join(tables)}")
        except sa.exc.DBAPIError:
            return False
        return True
    end = monotonic() + wait_s
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(wait_s * 1000)}")
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.execute("VACUUM")
        while _read_one(cursor, "PRAGMA wal_checkpoint(TRUNCATE)"):
            if monotonic() >= end:
                return False
            sleep(_LOOKS_AGAIN_S)
    except sqlite3.OperationalError as error:
        LOG.info("%s was not rewritten: %s", engine.url.database, error)
        return False
    finally:
        connection.close()
    return True


def _read_one(cursor: Any, statement: str) -> Any:
    cursor.execute(statement)
    return cursor.fetchone()[0]


def copy_rows(tx: sa.Connection, into: str, rows: Iterable[Sequence[object]]) -> None:
    """`COPY into FROM STDIN` on PostgreSQL: three times as fast as INSERT.

    `into` is the table, and its columns in brackets, in the order of the rows' values.

    Raises:
        sqlalchemy.exc.DBAPIError: without the row that it is about, which PostgreSQL would quote.
    """
    copying: Any = tx.connection.cursor()  # psycopg's own
    try:
        with copying, copying.copy(f"COPY {into} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    except tx.dialect.loaded_dbapi.Error as error:  # it passes SQLAlchemy by
        _shorten(error)
        raise sa.exc.DBAPIError.instance(
            f"COPY {into}", None, error, tx.dialect.loaded_dbapi.Error, dialect=tx.dialect
        ) from None


@contextmanager
def writing(engine: sa.Engine, lock: int, wait_s: float = LONGEST_WAIT_S) -> Iterator[sa.Connection]:
    """The only transaction of this `lock` at a time, in any process; waits for its turn at most so long.

    SQLite has one writer anyway; on PostgreSQL it is an advisory lock that ends with the transaction.
    """
    milliseconds = round(wait_s * 1000)
    with engine.connect() as connection:
        if connection.dialect.name != _POSTGRESQL:
            # Below SQLAlchemy, because its first statement begins the transaction, which is what has to wait.
            cursor = connection.connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {milliseconds}")
            cursor.close()
        with connection.begin():
            if connection.dialect.name == _POSTGRESQL:
                connection.execute(sa.text(f"SET LOCAL lock_timeout = {milliseconds}"))
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
            yield connection


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One consistent look at the database that neither waits for a writer nor makes one wait."""
    with engine.connect() as connection:
        if connection.dialect.name == _POSTGRESQL:
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection.execution_options(**_READING)


class ClockWatch:
    """How far this machine's clock is off a PostgreSQL's, which is everybody's; looked at once a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_at: float | None = None
        self._off = timedelta()

    @property
    def is_due(self) -> bool:
        return self._looked_at is None or monotonic() - self._looked_at >= _CLOCK_LOOKS_EVERY_S

    def off(self, connection: sa.Connection) -> timedelta:
        """By how much it is ahead, if that is more than `CLOCKS_APART`; said when it begins and when it ends."""
        if self.is_due:
            self._looked_at = monotonic()
            theirs: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            off, before = self._clock() - theirs, self._off
            self._off = off if abs(off) > CLOCKS_APART else timedelta()
            if self._off and not before:
                LOG.warning(
                    "This machine's clock is %.0f s %s the database's. Set it (NTP): calls are timed by it.",
                    abs(off.total_seconds()),
                    "ahead of" if off > timedelta() else "behind",
                )
            elif before and not self._off:
                LOG.warning("This machine's clock agrees with the database's again.")
        return self._off


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The tables of the ledger, or of the dialer, in a database, and how they are brought up to date.

    Args:
        head: the newest migration; tables that it made need no look at the others.
        versions: the table that holds the version.
        lock: of the transaction that migrates; the others of this number wait for it.
        unversioned: (table, version): a database without a version that has this table is of this version.
    """

    name: str
    migrations: Path
    head: str
    versions: str
    lock: int
    unversioned: tuple[str, str] | None = None

    def version(self, connection: sa.Connection) -> str | None:
        """The version of the tables, or None: no migration ever ran."""
        return self.recorded_version(connection) if sa.inspect(connection).has_table(self.versions) else None

    def recorded_version(self, connection: sa.Connection) -> str | None:
        """The same of a database that was migrated once, with one statement: for looking again and again."""
        found: str | None = connection.scalar(sa.select(sa.column("version_num")).select_from(sa.table(self.versions)))
        return found

    def bring_up_to_date(self, engine: sa.Engine) -> None:
        """Make the tables, or migrate them; one process does.

        Raises:
            ConfigurationError: the database cannot be used, or a newer version of this program made it.
        """
        with self.usable(engine):
            with reading(engine) as tx:
                current = self.version(tx) == self.head
            if not current:
                with writing(engine, self.lock) as tx:
                    self.migrate(tx)

    def migrate(self, tx: sa.Connection) -> None:
        """The same in a transaction, which has to hold off every other one that migrates."""
        there = self.version(tx)
        if there == self.head:
            return
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs each plugin and step
        config = Config()
        config.set_main_option("script_location", str(self.migrations).replace("%", "%%"))
        config.attributes.update(connection=tx, versions=self.versions)
        with _MIGRATING:
            try:
                if there is None and self.unversioned is not None and sa.inspect(tx).has_table(self.unversioned[0]):
                    command.stamp(config, self.unversioned[1])
                command.upgrade(config, self.head)
            except CommandError as error:
                raise ConfigurationError(
                    f"The database is of version {there}, which this version of batchcall-mcp does not know. "
                    "Nothing was sent. Install the newer batchcall-mcp that made it."
                ) from error

    def is_used(self, where: Path | str) -> bool:
        """Whether the tables are in a SQLite file, or in the PostgreSQL database of a URL; nothing is made.

        Raises:
            ConfigurationError: it cannot be opened.
        """
        if isinstance(where, Path):
            return where.exists()
        engine = open_postgresql(where)
        try:
            with self.usable(engine), reading(engine) as tx:
                return self.version(tx) is not None
        finally:
            engine.dispose()

    @contextmanager
    def usable(self, engine: sa.Engine) -> Iterator[None]:
        """Say in one line that the database, or its folder, cannot be used.

        Raises:
            ConfigurationError: it cannot; without PostgreSQL's own words, which may hold what was to be written.
        """
        try:
            with privileges():
                yield
        except (sa.exc.SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            why = str(cause) if isinstance(cause, sqlite3.Error) else type(cause).__name__
            file = held_file(engine)
            check = "its PostgreSQL server runs" if file is None else f"the disk of {file.path} is not full"
            raise ConfigurationError(
                f"{self.name} cannot be used ({why}). Nothing was sent. Check that {check}, then try again."
            ) from error


class Database:
    """One open database. Every method may be called from any thread and blocks; none belongs on an event loop."""

    schema: ClassVar[Schema]

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self.engine: Final = engine
        self.clock = clock

    @classmethod
    def opened(cls, where: Path | str) -> sa.Engine:
        """A SQLite file (made if it is not there) or the PostgreSQL database of a URL, with the tables of today.

        Raises:
            ConfigurationError: it cannot be opened, or a newer version of this program made it.
        """
        engine = open_postgresql(where) if isinstance(where, str) else open_sqlite(where)
        try:
            cls.schema.bring_up_to_date(engine)
        except ConfigurationError:
            engine.dispose()
            raise
        return engine

    @property
    def shared(self) -> bool:
        """Whether processes on other machines may use it too: PostgreSQL."""
        return self.engine.dialect.name == _POSTGRESQL

    @property
    def file(self) -> HeldFile | None:
        """The SQLite file that was opened; None for PostgreSQL."""
        return held_file(self.engine)

    def usable(self) -> AbstractContextManager[None]:
        return self.schema.usable(self.engine)

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """One consistent look that waits for no writer."""
        return reading(self.engine)

    def now(self) -> int:
        """The time in milliseconds."""
        return to_ms(self.clock())

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def privileges() -> Iterator[None]:
    """Say in one line that the role lacks a privilege.

    Raises:
        ConfigurationError: it does.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _DENIED:
            raise
        # psycopg's own; it names no value
        raise denied(error.orig.diag.message_primary) from None  # type: ignore[union-attr]


def denied(what: str) -> ConfigurationError:
    """A privilege that the role of the PostgreSQL database does not have, and those that it needs."""
    return ConfigurationError(
        f"The role of the PostgreSQL database lacks a privilege ({what}). Nothing was sent. To make or migrate the "
        "tables it needs CREATE on the schema public, and for the dialer CREATE on the database (schema dbos); to "
        "use them USAGE on both schemas and their sequences, and SELECT, INSERT, UPDATE and DELETE on their tables."
    )
