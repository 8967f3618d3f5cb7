"""The dialer's database: opened, brought to today's tables, and a write that takes effect once.

What is asked of it is in `queries`, what is changed in `writes`; the engine's own transactions are in `dispatch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.dialer.domain.records import Clock, to_ms, utc_now
from batchcall_mcp.dialer.storage import halts, installation
from batchcall_mcp.dialer.storage.halts import DialerHalted, Halt
from batchcall_mcp.dialer.storage.tables import do_not_call, recorded_answers
from batchcall_mcp.errors import ConfigurationError, IllegalTransition
from batchcall_mcp.held_files import HeldFile
from batchcall_mcp.settings import Settings

T = TypeVar("T")

HEAD: Final = "0004"
"""The newest migration."""
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_VERSIONS: Final = "dialer_version"
_MIGRATING: Final = 0x62617463685F6469
CHUNK: Final = 500
"""Most values in one IN (...): SQLite and PostgreSQL both limit the parameters of a statement."""
INSERTED_AT_ONCE: Final = 5_000
RESERVED: Final = 3
"""Connections of each process that dials from PostgreSQL: for its transactions, its signs of life, and DBOS, which
holds one for its housekeeping while it uses another."""
ANSWERS_KEPT: Final = timedelta(days=7)


class IdempotencyConflict(IllegalTransition):
    """The Idempotency-Key was used with another request."""

    code = "idempotency_conflict"


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One write as it came: whose, its Idempotency-Key, and a hash of what it asks."""

    organization_id: str
    key: str | None
    fingerprint: str


def chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size`, none of them empty."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


def database_location(settings: Settings) -> Path | str:
    """Where the dialer's database is, as `Store.open` takes it."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return settings.data_dir / "dialer.db"


class Store:
    """The open database. Every method may be called from any thread; none may be called on an event loop."""

    def __init__(self, engine: sa.Engine, clock: Clock = utc_now, stop_file: Path | None = None) -> None:
        self.engine: Final = engine
        self.clock = clock
        self._files: list[Callable[[], HeldFile | None]] = [lambda: database.held_file(engine)]
        self.stop_file: Final = stop_file

    @classmethod
    def open(cls, where: Path | str, clock: Clock = utc_now, stop_file: Path | None = None) -> Store:
        """Open a SQLite file (made if it is not there) or the PostgreSQL database of a URL; bring it to today's tables.

        Args:
            where: the file or the URL.
            clock: the time, aware.
            stop_file: while this file is there, nothing is launched or dialled.

        Raises:
            ConfigurationError: it cannot be opened, or a newer version of this program made it.
        """
        engine = database.open_postgresql(where) if isinstance(where, str) else database.open_sqlite(where)
        try:
            with in_words(where), database.privileges():
                with database.reading(engine) as tx:
                    current = database.version(tx, _VERSIONS) == HEAD
                if not current:
                    with database.writing(engine, _MIGRATING) as tx:
                        database.migrate(tx, _MIGRATIONS, HEAD, _VERSIONS, unversioned=("batch_calls", "0001"))
        except ConfigurationError:
            engine.dispose()
            raise
        return cls(engine, clock, stop_file)

    @classmethod
    def open_existing(cls, where: Path | str, clock: Clock = utc_now) -> Store | None:
        """The same, if a dialer has used it before; nothing is made.

        Raises:
            ConfigurationError: see `open`.
        """
        if isinstance(where, Path):
            return cls.open(where, clock) if where.exists() else None
        engine = database.open_postgresql(where)
        try:
            with database.reading(engine) as tx:
                used = database.version(tx, _VERSIONS) is not None
        finally:
            engine.dispose()
        return cls.open(where, clock) if used else None

    @property
    def shared(self) -> bool:
        """Whether any number of processes may dial from it: PostgreSQL. A SQLite file has one engine."""
        return self.engine.dialect.name == "postgresql"

    def for_dialling(self) -> Store:
        """The same database for the engine, over connections that requests cannot use up; close it as well.

        SQLite has no such limit: it is this one.

        Raises:
            sqlalchemy.exc.OperationalError: PostgreSQL is away, or has no connection left.
        """
        if not self.shared:
            return self
        own = Store(database.reserve(self.engine, RESERVED), self.clock, self.stop_file)
        own._files = self._files
        return own

    def close(self) -> None:
        self.engine.dispose()

    def reading(self) -> AbstractContextManager[sa.Connection]:
        return database.reading(self.engine)

    def writing(self) -> AbstractContextManager[sa.Connection]:
        return self.engine.begin()

    def check_privileges(self) -> None:
        """Go on only if DBOS, which is there when something is to be dialled, has its schema or may make it.

        Raises:
            ConfigurationError: the role may not.
        """
        if self.shared:
            there = sa.func.to_regnamespace("dbos").is_not(None)
            may = sa.func.has_database_privilege(sa.func.current_database(), "CREATE")
            with self.reading() as tx:
                if not tx.scalar(sa.select(sa.or_(there, may))):
                    raise database.denied("permission denied to create the schema dbos")

    def watch(self, file: Callable[[], HeldFile | None]) -> None:
        """Name another file without which nothing may be dialled; None while it is not open."""
        self._files.append(file)

    def halt(self, tx: sa.Connection) -> Halt | None:
        """Why nothing may be dialled or launched, as it is in this transaction."""
        file = database.held_file(self.engine)
        return (
            self._halt_of_files()
            or halts.of_version(tx, _VERSIONS, HEAD)
            or (None if file is None else installation.halt(tx, file))
        )

    def halted(self) -> Halt | None:
        """The same, in a look of its own; without a database that works, if a file is not in its place."""
        halt = self._halt_of_files()
        if halt is None:
            with self.reading() as tx:
                halt = self.halt(tx)
        return halt

    def check(self, tx: sa.Connection | None = None) -> None:
        """Go on only if something may be launched; without a transaction, as far as its files say.

        Raises:
            DialerHalted: nothing may be.
        """
        halt = self._halt_of_files() if tx is None else self.halt(tx)
        if halt is not None:
            raise DialerHalted(halt)

    def _halt_of_files(self) -> Halt | None:
        return halts.of_files(file for held in self._files if (file := held()) is not None)

    def now(self) -> int:
        return to_ms(self.clock())

    def once(
        self, write: WriteRequest, effect: Callable[[sa.Connection], Mapping[str, Any]]
    ) -> tuple[Mapping[str, Any], bool]:
        """Run a write and record its answer in the same transaction; the same request again gets that answer.

        Returns:
            The answer, and whether it was replayed. A refused write is not recorded: nothing happened.

        Raises:
            IdempotencyConflict: the key was used with another request.
        """
        with self.writing() as tx:
            if write.key is None:
                return effect(tx), False
            if self.shared:
                # Of two equal requests at once the second waits here, and finds the answer of the first.
                tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_number(f"{write.organization_id}\n{write.key}"))))
            now = self.now()
            _remove_old_answers(tx, now)
            mine = (recorded_answers.c.organization_id == write.organization_id) & (
                recorded_answers.c.idempotency_key == write.key
            )
            recorded = tx.execute(sa.select(recorded_answers).where(mine)).one_or_none()
            if recorded is None:
                answer = effect(tx)
                tx.execute(
                    recorded_answers.insert().values(
                        organization_id=write.organization_id,
                        idempotency_key=write.key,
                        fingerprint=write.fingerprint,
                        answer=answer,
                        created_at=now,
                    )
                )
                return answer, False
            if recorded.fingerprint != write.fingerprint:
                raise IdempotencyConflict(
                    "This Idempotency-Key was already used with another request. Nothing was changed; "
                    "use a new key for a new request."
                )
            answer = recorded.answer
            return answer, True


def _remove_old_answers(tx: sa.Connection, now: int) -> None:
    """Those that no other write is removing: a pause must not wait until 100,000 tasks are stored."""
    key = sa.tuple_(recorded_answers.c.organization_id, recorded_answers.c.idempotency_key)
    old = (
        sa.select(recorded_answers.c.organization_id, recorded_answers.c.idempotency_key)
        .where(recorded_answers.c.created_at < now - _ms(ANSWERS_KEPT))
        .with_for_update(skip_locked=True)
    )
    tx.execute(recorded_answers.delete().where(key.in_(old)))


def replace_do_not_call(tx: sa.Connection, numbers: Iterable[str], now: int) -> None:
    """Make these the numbers that are never dialled."""
    if tx.dialect.name == "postgresql":
        # Two processes may load it at once; readers go on with the list as it was.
        tx.execute(sa.text("LOCK TABLE do_not_call IN SHARE ROW EXCLUSIVE MODE"))
    tx.execute(do_not_call.delete())
    for chunk in chunks(dict.fromkeys(numbers), INSERTED_AT_ONCE):
        tx.execute(do_not_call.insert(), [{"to_number": number, "added_at": now} for number in chunk])


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


def _number(text: str) -> int:
    """64 bits of a text, as PostgreSQL takes the name of an advisory lock."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], signed=True)


@contextmanager
def in_words(where: Path | str) -> Iterator[None]:
    """What goes wrong with the dialer's database before anything is served, in one line.

    Raises:
        ConfigurationError: it cannot be read or written.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        # SQLite's own words name no value; PostgreSQL's may.
        which, why = (
            (f"The database {where}", str(error.orig))
            if isinstance(where, Path)
            else ("The PostgreSQL database (BATCHCALL_DATABASE_URL, or --database-url)", type(error.orig).__name__)
        )
        raise ConfigurationError(
            f"{which} cannot be read or written: {why}. Nothing was sent. Check that its disk is not full, then try "
            "again."
        ) from error
