"""What the ledger knows of the past: for preflights, for looking at the backend, for the operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.clock import to_ms
from batchcall_mcp.guard.ledger import mapping
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.ledger.database import LedgerDatabase
from batchcall_mcp.guard.ledger.mapping import NOT_REFUSED, OPEN, read
from batchcall_mcp.guard.spending import Spent
from batchcall_mcp.guard.write_record import Entry, Evidence, Newest, WriteState

_LATELY_MS: Final = 15 * 60 * 1000
"""As long as a question can be prepared and answered: anyone who was launched meanwhile is seen here."""
_ALREADY_THERE: Final = "already_there"
_AROUND_MS: Final = 24 * 60 * 60 * 1000
"""A day before and a day after: attempts are counted in any 24 hours."""


class History:
    """Reads only. Every method may be called from any thread and blocks."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def newest_of(self, backend: str, batch_call_id: str) -> Entry | None:
        """The last write to a batch call that was not refused."""
        with self._database.reading() as connection:
            return mapping.newest_of(connection, backend, batch_call_id)

    def sending_to(self, backend: str, batch_call_id: str) -> list[Entry]:
        """The writes to a batch call that were being sent when somebody last wrote about them."""
        sending = mapping.of(backend, batch_call_id) & (t.writes.c.state == WriteState.SENDING)
        with self._database.reading() as connection:
            return [read(row) for row in connection.execute(sa.select(t.writes).where(sending))]

    def unsettled(self) -> list[Entry]:
        """All that nobody knows the outcome of, oldest first."""
        query = sa.select(t.writes).where(OPEN).order_by(t.writes.c.write_id)
        with self._database.reading() as connection:
            return [read(row) for row in connection.execute(query)]

    def is_empty(self) -> bool:
        """Whether no write was ever recorded: then it says nothing about what is live."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(t.writes.c.write_id).limit(1)) is None

    def launched(self) -> list[Entry]:
        """The last launch of each batch call, by each caller to any backend, of what is not known to be over."""
        launches = sa.select(t.writes).where(t.writes.c.dials, NOT_REFUSED, t.writes.c.over_at.is_(None))
        with self._database.reading() as connection:
            found = [read(row) for row in connection.execute(launches.order_by(t.writes.c.write_id))]
            # Two accounts may have batch calls with the same id.
            newest = {(one.backend, one.caller, one.batch_call_id): one for one in found if one.batch_call_id}
            return [one for one in newest.values() if not mapping.is_ended(connection, one)]

    def note_over(self, backend: str, caller: str, ids: Collection[str], read_at: datetime) -> bool:
        """Remember that the backend says that these batch calls are over.

        Args:
            backend: name and address.
            caller: who asked, hashed.
            ids: the batch calls.
            read_at: the time before the backend was asked: what was launched since, or just before, goes on.

        Returns:
            Whether that was not known before.
        """
        launches = (
            (t.writes.c.backend == backend)
            & (t.writes.c.caller == caller)
            & t.writes.c.batch_call_id.in_(list(ids))
            & t.writes.c.dials
            & t.writes.c.over_at.is_(None)
            & (t.writes.c.state == WriteState.DONE)
            & (t.writes.c.settled_at < to_ms(read_at) - mapping.CLOCKS_APART_MS)
        )
        with self._database.reading() as connection:
            if connection.scalar(sa.select(t.writes.c.write_id).where(launches).limit(1)) is None:
                return False
        with self._database.writing() as tx:
            noted = tx.execute(t.writes.update().where(launches).values(over_at=self._database.now()))
            return noted.rowcount > 0

    def known_ids(self, backend: str, ids: Collection[str]) -> set[str]:
        """Those batch calls that some write of this ledger made or changed."""
        query = sa.select(t.writes.c.batch_call_id).where(
            t.writes.c.backend == backend, t.writes.c.batch_call_id.in_(list(ids)), ~OPEN
        )
        with self._database.reading() as connection:
            return set(connection.scalars(query))

    def newest(self) -> Newest:
        """The last entry of all, to be asked for before people are compared with those of other launches."""
        with self._database.reading() as connection:
            write_id = connection.scalar(sa.select(sa.func.max(t.writes.c.write_id))) or 0
        return Newest(write_id, self._database.now())

    def calls_on(
        self,
        day: datetime,
        *,
        simulated: bool = False,
        backend: str = "",
        own_id: str | None = None,
        numbers: Iterable[str] = (),
        hidden: frozenset[bytes] = frozenset(),
    ) -> int:
        """People whom launches may call that start on this UTC day, by all callers.

        Args:
            day: any moment of it.
            simulated: whether the launches counted are those that make no real phone ring.
            backend: where `own_id` is.
            own_id: the batch call that is about to be launched: its people count only if they are not in `numbers`.
            numbers: who is about to be called, as numbers are compared.
            hidden: the others of them, hashed.
        """
        mine = self._mine(backend, own_id, numbers, hidden)
        with self._database.reading() as connection:
            return mapping.calls_on(connection, day, simulated=simulated, mine=mine)

    def spent_on(
        self,
        day: datetime,
        *,
        backend: str = "",
        own_id: str | None = None,
        numbers: Iterable[str] = (),
        hidden: frozenset[bytes] = frozenset(),
    ) -> Spent:
        """What launches with real calls may cost that start on this UTC day; arguments as of `calls_on`."""
        mine = self._mine(backend, own_id, numbers, hidden)
        with self._database.reading() as connection:
            return mapping.spent_on(connection, day, simulated=False, mine=mine)

    def _mine(self, backend: str, own_id: str | None, numbers: Iterable[str], hidden: frozenset[bytes]) -> mapping.Mine:
        return mapping.Mine(backend=backend, batch_call_id=own_id, numbers=lambda: self._hashed(numbers) | hidden)

    def _hashed(self, numbers: Iterable[str]) -> set[bytes]:
        return {self._database.hashed_bytes(number) for number in numbers}

    def launched_lately(self, numbers: Iterable[str], *, simulated: bool) -> list[tuple[Entry, list[str]]]:
        """Launches since the oldest open question, by any caller to any backend, and whom of these each calls."""
        called = self.called_lately(simulated=simulated)
        mine = {self._database.hashed_bytes(number): number for number in numbers} if called else {}
        return [(entry, [mine[digest] for digest in people & mine.keys()]) for entry, people in called]

    def called_lately(self, *, simulated: bool) -> list[tuple[Entry, set[bytes]]]:
        """The same launches, and everybody whom each calls, hashed."""
        with self._database.reading() as connection:
            lately = self._database.now() - _LATELY_MS
            found = mapping.launches_after(connection, Newest(0, 0), simulated=simulated, sent_after=lately)
            entries = mapping.standing(connection, found)
            people = mapping.numbers_of_each(connection, [one.write_id for one in entries]) if entries else {}
        return [(one, people[one.write_id]) for one in entries]

    def attempts(
        self,
        numbers: Iterable[str],
        moment: datetime,
        *,
        simulated: bool = False,
        backend: str = "",
        own_id: str | None = None,
    ) -> dict[str, int]:
        """Dials, at most, of those numbers that launches sent from here may call within 24 hours of a moment."""
        known = self.attempts_of_all(moment, simulated=simulated, backend=backend, own_id=own_id)
        if not known:
            return {}
        hashed = ((number, self._database.hashed_bytes(number)) for number in numbers)
        return {number: known[digest] for number, digest in hashed if digest in known}

    def attempts_of_all(
        self, moment: datetime, *, simulated: bool = False, backend: str = "", own_id: str | None = None
    ) -> dict[bytes, int]:
        """The same of everybody, hashed.

        A launch of one batch call that was moved, or paused and resumed, dials nobody twice; a retry does. Those of the
        batch call `own_id` do not count, nor do simulated ones count for real ones.
        """
        around = to_ms(moment)
        once = sa.case(
            (t.writes.c.operation == Operation.RETRY, sa.cast(t.writes.c.write_id, sa.String)),
            else_=sa.func.coalesce(t.writes.c.batch_call_id, sa.cast(t.writes.c.write_id, sa.String)),
        ).label("once")
        each = (
            sa.select(t.dialled.c.number_hash, sa.func.max(t.dialled.c.dials).label("dials"))
            .join(t.writes, t.writes.c.write_id == t.dialled.c.write_id)
            .where(
                t.dialled.c.at > around - _AROUND_MS,
                t.dialled.c.at < around + _AROUND_MS,
                t.writes.c.simulated == simulated,
                t.writes.c.batch_call_id.is_distinct_from(own_id)
                | t.writes.c.batch_call_id.is_(None)
                | (t.writes.c.backend != backend),
            )
            .group_by(t.dialled.c.number_hash, t.writes.c.backend, once)
            .subquery()
        )
        query = sa.select(each.c.number_hash, sa.func.sum(each.c.dials)).group_by(each.c.number_hash)
        with self._database.reading() as connection:
            return {bytes(digest): int(dials) for digest, dials in connection.execute(query)}

    def open_launches(
        self, backend: str, numbers: Iterable[str], hidden: frozenset[bytes] = frozenset(), *, simulated: bool
    ) -> list[tuple[Entry, int]]:
        """Launches whose outcome nobody knows, and how many of those people each may call; `hidden`: hashed ones."""
        query = sa.select(t.writes).where(
            t.writes.c.backend == backend, OPEN, t.writes.c.dials, t.writes.c.simulated == simulated
        )
        with self._database.reading() as connection:
            entries = [read(row) for row in connection.execute(query.order_by(t.writes.c.write_id))]
            if not entries:
                return []
            mine = self._hashed(numbers) | hidden
            people = mapping.numbers_of_each(connection, [one.write_id for one in entries])
        found = [(entry, len(mine & people[entry.write_id])) for entry in entries]
        return [(entry, shared) for entry, shared in found if shared]

    def open_creates(self, backend: str) -> list[Entry]:
        """Creates at a backend whose outcome nobody knows."""
        return [one for one in self.unsettled() if one.backend == backend and one.operation is Operation.CREATE]

    def open_launch_of(self, backend: str, batch_call_id: str) -> Entry | None:
        """A launch of this batch call whose outcome nobody knows."""
        with self._database.reading() as connection:
            return mapping.open_launch_of(connection, backend, batch_call_id)

    def list_of(self, backend: str, batch_call_id: str) -> tuple[int, Evidence]:
        """The last entry that sent a list to a batch call, or may have; 0 if none is known here.

        With it what is known of that list; empty if it is not known whether the batch call holds it. Of one to which
        people were added, only the skipped rows are known: no entry has all of it.
        """
        of_it = mapping.of(backend, batch_call_id) & NOT_REFUSED
        columns = (t.writes.c.write_id, t.writes.c.operation, t.writes.c.state, t.writes.c.evidence)
        newest, skipped, dials_each = 0, Counter[str](), 0
        with self._database.reading() as connection:
            sent = connection.execute(sa.select(*columns).where(of_it).order_by(t.writes.c.write_id.desc()))
            for write_id, operation, state, evidence in sent:
                if evidence.get("total") is None:  # other settings alone, which may be about how often it dials
                    dials_each = max(dials_each, evidence.get("dials_each") or 0)
                    continue
                newest = newest or write_id
                if state != WriteState.DONE:
                    return newest, Evidence()
                found = Evidence(**evidence)
                if operation != Operation.APPEND:
                    whole = write_id == newest
                    if found.dials_each is not None:
                        found = replace(found, dials_each=max(dials_each, found.dials_each))
                    return newest, found if whole else Evidence(skipped=dict(skipped + Counter(found.skipped or {})))
                skipped.update({kind: rows for kind, rows in (found.skipped or {}).items() if kind != _ALREADY_THERE})
        return newest, Evidence(skipped=dict(skipped))

    def made_by(
        self, backend: str, caller: str, *, before: int | None = None, batch_call_id: str | None = None, limit: int
    ) -> list[Entry]:
        """What a caller made at a backend, newest first, without what was deleted from here.

        Args:
            backend: name and address.
            caller: hashed.
            before: an entry; only older ones.
            batch_call_id: only this one.
            limit: most entries.
        """
        deleted = sa.select(t.writes.c.batch_call_id).where(
            t.writes.c.backend == backend,
            t.writes.c.operation == Operation.DELETE,
            t.writes.c.state == WriteState.DONE,
            t.writes.c.batch_call_id.is_not(None),
        )
        mine = sa.select(t.writes).where(
            t.writes.c.backend == backend,
            t.writes.c.caller == caller,
            t.writes.c.operation == Operation.CREATE,
            t.writes.c.state == WriteState.DONE,
            t.writes.c.batch_call_id.is_not(None),
            t.writes.c.batch_call_id.not_in(deleted),
        )
        if before is not None:
            mine = mine.where(t.writes.c.write_id < before)
        if batch_call_id is not None:
            mine = mine.where(t.writes.c.batch_call_id == batch_call_id)
        with self._database.reading() as connection:
            rows = connection.execute(mine.order_by(t.writes.c.write_id.desc()).limit(limit))
            return [read(row) for row in rows]

    def called_by(self, backend: str, batch_call_id: str, total: int | None) -> frozenset[bytes] | None:
        """Everybody whom launches of a batch call, sent from here, may call, hashed; None: not all of them are known.

        `total`: how many there are, as the backend counts; None: as they were sent from here.
        """
        everybody = self.listed_total(backend, batch_call_id) if total is None else total
        launches = sa.select(t.writes.c.write_id).where(
            mapping.of(backend, batch_call_id) & t.writes.c.dials & NOT_REFUSED
        )
        with self._database.reading() as connection:
            people = mapping.numbers_of_each(connection, list(connection.scalars(launches)))
        called = frozenset[bytes]().union(*people.values())
        return None if everybody is None or not called or len(called) < everybody else called

    def list_entries(self, backend: str, batch_call_id: str) -> list[Entry]:
        """The entries that sent the list of a batch call: all of it, and who was added; empty: not known."""
        sent = sa.select(t.writes).where(mapping.of(backend, batch_call_id) & NOT_REFUSED)
        found: list[Entry] = []
        with self._database.reading() as connection:
            for row in connection.execute(sent.order_by(t.writes.c.write_id.desc())):
                entry = read(row)
                if entry.evidence.total is None:
                    continue
                if entry.state is not WriteState.DONE:
                    return []
                found.append(entry)
                if entry.operation is not Operation.APPEND:
                    return found
        return []

    def listed_total(self, backend: str, batch_call_id: str) -> int | None:
        """How many people were sent to a batch call from here, with those who were added; None: that is not known."""
        sent = self.list_entries(backend, batch_call_id)
        return sum(entry.evidence.total or 0 for entry in sent) if sent else None

    def people_of(self, entries: Iterable[Entry]) -> frozenset[bytes]:
        """Whom these entries are about, hashed."""
        with self._database.reading() as connection:
            people = mapping.numbers_of_each(connection, [entry.write_id for entry in entries])
        return frozenset[bytes]().union(*people.values())

    def found_in(self, people: frozenset[bytes], numbers: Iterable[str]) -> dict[str, str]:
        """Those of the numbers who are among hashed people: number -> a name for the person."""
        hashed = ((number, self._database.hashed_bytes(number)) for number in numbers)
        return {number: digest.hex() for number, digest in hashed if digest in people}

    def changed_since(self, made: Entry) -> Entry | None:
        """The last change to the batch call that a create made, of any field."""
        changes = t.writes.c.operation.in_([Operation.UPDATE, Operation.APPEND])
        later = changes & (t.writes.c.write_id > made.write_id) & NOT_REFUSED
        with self._database.reading() as connection:
            return mapping.last(connection, mapping.of(made.backend, made.batch_call_id) & later)

    def retried(self, backend: str, ids: Collection[str]) -> dict[str, str]:
        """Which of these batch calls were made here to call again whom another one did not reach, and which one."""
        made = self._evidence_of_creates(backend, ids)
        return {name: str(evidence["retry_of"]) for name, evidence in made if evidence.get("retry_of")}

    def made_of(self, backend: str, ids: Collection[str]) -> dict[str, str]:
        """Which of these batch calls were made here of people of another one, and of which: by a retry, or by what
        came of their calls.
        """
        made = self._evidence_of_creates(backend, ids)
        found = ((name, evidence.get("retry_of") or evidence.get("tasks_from")) for name, evidence in made)
        return {name: str(other) for name, other in found if other}

    def _evidence_of_creates(self, backend: str, ids: Collection[str]) -> list[tuple[str, dict[str, object]]]:
        query = sa.select(t.writes.c.batch_call_id, t.writes.c.evidence).where(
            t.writes.c.backend == backend,
            t.writes.c.operation == Operation.CREATE,
            t.writes.c.state == WriteState.DONE,
            t.writes.c.batch_call_id.in_(list(ids)),
        )
        with self._database.reading() as connection:
            return [(name, evidence) for name, evidence in connection.execute(query)]
