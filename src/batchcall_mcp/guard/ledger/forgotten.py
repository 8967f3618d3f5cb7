"""Who was forgotten: hashes of numbers that no launch calls again, and what the ledger still knows about one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from batchcall_mcp.guard.ledger import mapping
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.ledger.database import LedgerDatabase
from batchcall_mcp.guard.ledger.mapping import NOT_REFUSED, read
from batchcall_mcp.guard.write_record import Entry
from batchcall_mcp.recipients.phone.numbers import comparable

MOST_NAMED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTo:
    """What was sent to a backend by one of the callers, hashed: how many batch calls, the latest of them first, and
    since when, in milliseconds.
    """

    backend: str
    caller: str
    batch_calls: int
    since: int
    latest: Sequence[str]


class Forgotten:
    """Every method may be called from any thread and blocks."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def hashed(self, number: str) -> bytes:
        """A number, however it is written, as the ledger holds it."""
        return self._database.hashed_bytes(comparable(number))

    def add(self, number: str) -> bool:
        """Have no launch call this number any more; whether it is new.

        Raises:
            ConfigurationError: the database cannot be reached, or not be written.
        """
        name = self.hashed(number)
        with self._database.writing() as tx:
            if tx.scalar(sa.select(t.forgotten.c.at).where(t.forgotten.c.number_hash == name)) is not None:
                return False
            tx.execute(t.forgotten.insert().values(number_hash=name, at=self._database.now()))
            return True

    def known(self) -> frozenset[bytes]:
        """All of them.

        Raises:
            ConfigurationError: the database cannot be reached.
        """
        with self._database.reading() as connection:
            return frozenset(connection.scalars(sa.select(t.forgotten.c.number_hash)))

    def launches_of(self, number: str) -> list[Entry]:
        """The last days' launches that may have called it and are not known to be over, oldest first."""
        named = t.dialled.c.number_hash == self.hashed(number)
        query = sa.select(t.writes).join(t.dialled, t.dialled.c.write_id == t.writes.c.write_id)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(named, t.writes.c.dials, NOT_REFUSED).order_by(t.writes.c.write_id))
            found = [read(row) for row in rows]
            return [one for one in found if one.over_at is None and not mapping.is_ended(connection, one)]

    def sent_to(self) -> Sequence[SentTo]:
        """Every backend, by caller, to which something was sent from here."""
        made = sa.func.count(sa.distinct(t.writes.c.batch_call_id)).label("made")
        whose = t.writes.c["backend", "caller"]
        query = sa.select(*whose, made, sa.func.min(t.writes.c.at).label("since")).where(NOT_REFUSED)
        last = sa.func.max(t.writes.c.write_id)
        named = sa.select(t.writes.c.batch_call_id).where(t.writes.c.batch_call_id.is_not(None), NOT_REFUSED)
        with self._database.reading() as connection:
            found = []
            for row in connection.execute(query.group_by(*whose).order_by(*whose)).all():
                mine = named.where(t.writes.c.backend == row.backend, t.writes.c.caller == row.caller)
                latest = mine.group_by(t.writes.c.batch_call_id).order_by(last.desc()).limit(MOST_NAMED)
                found.append(
                    SentTo(
                        backend=row.backend,
                        caller=row.caller,
                        batch_calls=row.made,
                        since=row.since,
                        latest=connection.scalars(latest).all(),
                    )
                )
            return found
