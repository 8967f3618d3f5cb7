"""The dialer's database: opened, brought to today's tables, and a write that takes effect once.

What is asked of it is in `queries`, what is changed in `writes`; the engine's own transactions are in `dispatch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.clock import Clock, span_ms, utc_now
from batchcall_mcp.database import Schema
from batchcall_mcp.dialer.storage import halts, installation
from batchcall_mcp.dialer.storage.halts import DialerHalted, Halt
from batchcall_mcp.dialer.storage.tables import recorded_answers
from batchcall_mcp.errors import IllegalTransition
from batchcall_mcp.held_files import HeldFile
from batchcall_mcp.notifications.events import Notice, Tell, tell_nobody
from batchcall_mcp.settings import Settings

T = TypeVar("T")

CHUNK: Final = 500
"""Most values in one IN (...): SQLite and PostgreSQL both limit the parameters of a statement."""
INSERTED_AT_ONCE: Final = 5_000
RESERVED: Final = 3
"""Connections of each process that dials from PostgreSQL: for its transactions, its signs of life, and DBOS, which
holds one for its housekeeping while it uses another. While a request for a call leaves, it has one for a moment."""
ANSWERS_KEPT: Final = timedelta(days=7)
_NOTICES: Final = "batchcall_notices"


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
    return settings.database("dialer.db")


class Store(database.Database):
    """The open database. On PostgreSQL any number of processes may dial from it; a SQLite file has one engine.

    While `stop_file` is there, nothing is launched or dialled.
    """

    schema = Schema(
        name="The dialer's database",
        migrations=Path(__file__).parent / "migrations",
        head="0011",
        versions="dialer_version",
        lock=0x62617463685F6469,
        unversioned=("batch_calls", "0001"),
    )

    def __init__(
        self, engine: sa.Engine, clock: Clock = utc_now, stop_file: Path | None = None, tell: Tell = tell_nobody
    ) -> None:
        super().__init__(engine, clock)
        self._files: list[Callable[[], HeldFile | None]] = [lambda: self.file]
        self.stop_file: Final = stop_file
        self.asks_gate = False
        """Whether this process asks a gate before it dials."""
        self._tell = tell

    @classmethod
    def open(
        cls, where: Path | str, clock: Clock = utc_now, stop_file: Path | None = None, tell: Tell = tell_nobody
    ) -> Store:
        """See `Database.opened`.

        Raises:
            ConfigurationError: it cannot be opened, or a newer version of this program made it.
        """
        return cls(cls.opened(where), clock, stop_file, tell)

    @classmethod
    def open_existing(cls, where: Path | str, clock: Clock = utc_now) -> Store | None:
        """The same, if a dialer has used it before; nothing is made.

        Raises:
            ConfigurationError: see `open`.
        """
        return cls.open(where, clock) if cls.schema.is_used(where) else None

    def for_dialling(self) -> Store:
        """The same database for the engine, over connections that requests cannot use up; close it as well.

        SQLite has no such limit: it is this one.

        Raises:
            sqlalchemy.exc.OperationalError: PostgreSQL is away, or has no connection left.
        """
        if not self.shared:
            return self
        own = Store(database.reserve(self.engine, RESERVED), self.clock, self.stop_file, self._tell)
        own._files = self._files
        own.asks_gate = self.asks_gate
        return own

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction; once it is committed, the operator is notified of what was given to `report` in it."""
        notices: list[Notice] = []
        with self.engine.begin() as tx:
            info = tx.info  # the connection may be lost before the end
            info[_NOTICES] = notices
            try:
                yield tx
            finally:
                info.pop(_NOTICES, None)
        for notice in notices:
            self._tell(notice)

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
        return (
            self._halt_of_files()
            or halts.of_version(self.schema.recorded_version(tx), self.schema.head)
            or (None if self.file is None else installation.halt(tx, self.file))
            or halts.of_gate(gated=installation.is_gated(tx), asks=self.asks_gate)
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


def report(tx: sa.Connection, notices: Iterable[Notice]) -> None:
    """Notify the operator of these, if this transaction of `Store.writing` is committed."""
    tx.info.get(_NOTICES, []).extend(notices)


def _remove_old_answers(tx: sa.Connection, now: int) -> None:
    """Those that no other write is removing: a pause must not wait until 100,000 tasks are stored."""
    key = sa.tuple_(recorded_answers.c.organization_id, recorded_answers.c.idempotency_key)
    old = (
        sa.select(recorded_answers.c.organization_id, recorded_answers.c.idempotency_key)
        .where(recorded_answers.c.created_at < now - span_ms(ANSWERS_KEPT))
        .with_for_update(skip_locked=True)
    )
    tx.execute(recorded_answers.delete().where(key.in_(old)))


def _number(text: str) -> int:
    """64 bits of a text, as PostgreSQL takes the name of an advisory lock."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], signed=True)
