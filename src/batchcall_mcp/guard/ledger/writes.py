"""Every write of this server, recorded before it is sent."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.clock import from_ms, to_ms
from batchcall_mcp.database import LONGEST_WAIT_S, copy_rows
from batchcall_mcp.errors import InvalidInput, NotConfirmed, PermissionDenied
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.ledger.codes import Codes
from batchcall_mcp.guard.ledger.database import LedgerDatabase
from batchcall_mcp.guard.ledger.emergency_stop import Stops
from batchcall_mcp.guard.ledger.mapping import (
    CLOCKS_APART_MS,
    NOT_REFUSED,
    OPEN,
    Mine,
    calls_on,
    entry_of,
    launches_after,
    newest_launch_of,
    newest_of,
    numbers_of,
    numbers_of_each,
    open_changes_of,
    open_launch_of,
    read,
    spent_on,
)
from batchcall_mcp.guard.ledger.process_locks import Owners
from batchcall_mcp.guard.spending import day_limit_problem
from batchcall_mcp.guard.write_record import STOP_WAITS_S, STOPS, Entry, Intent, Overtaken, Shared, Token, WriteState
from batchcall_mcp.money import Money

EQUAL_FOR_MS: Final = 24 * 60 * 60 * 1000
"""How long an equal create without a key counts as the same one."""
_DAY_MS: Final = 24 * 60 * 60 * 1000
_NUMBERS_KEPT_MS: Final = 3 * _DAY_MS
_LISTS_KEPT_MS: Final = 30 * _DAY_MS
"""So long a draft may wait whose backend does not show who is in it; nobody of it counts as dialled (dials 0)."""
_ROWS_AT_ONCE: Final = 10_000
_SENT_KEPT: Final = 1000
_GONE: Final = "gone"
"""In place of a batch call's status."""


_DayLimits: TypeAlias = tuple[int | None, Money | None]
"""Most calls of a day, and what they may cost."""
_Dialled: TypeAlias = Mapping[bytes, int]
"""Hashed number -> most dials."""


class Writes:
    """The entries. Every method may be called from any thread and blocks.

    `may_arrive_s`: how long after it was sent a request that got no answer may still take effect.
    """

    def __init__(
        self, database: LedgerDatabase, codes: Codes, stops: Stops, owners: Owners, *, may_arrive_s: float = 60
    ) -> None:
        self._database = database
        self._may_arrive_ms = round(may_arrive_s * 1000)
        self._codes = codes
        self._stops = stops
        self._owners = owners
        self._in_hand: dict[int, Entry] = {}
        self._sent: dict[int, float] = {}

    def begin(
        self,
        intent: Intent,
        *,
        token: Token | None = None,
        max_calls_per_day: int | None = None,
        max_cost_per_day: Money | None = None,
    ) -> Entry | Overtaken | Shared:
        """Record that a write is about to be sent, if nothing stands against it; its confirmation is used up with it.

        Raises:
            PermissionDenied: the emergency stop is on, and it dials.
            NotConfirmed: its confirmation was used a moment ago, or is too old.
            InvalidInput: more calls than a day may have, or it would cost more, or nobody knows what it costs.
            ConfigurationError: it cannot be recorded, or where nobody else would see it.
        """
        return self._record(intent, token, (max_calls_per_day, max_cost_per_day))

    def take_over(
        self,
        entry: Entry,
        intent: Intent,
        *,
        token: Token | None = None,
        max_calls_per_day: int | None = None,
        max_cost_per_day: Money | None = None,
    ) -> Entry | Overtaken | Shared:
        """Send an open write again, where that is known to be safe; its confirmation, if it needs one, is used up.

        From now on it counts as what would be sent now: it dials today, not on the day of the first try.

        Raises:
            As `begin`.
        """
        return self._record(intent, token, (max_calls_per_day, max_cost_per_day), again=entry)

    def _record(
        self, intent: Intent, token: Token | None, most: _DayLimits, again: Entry | None = None
    ) -> Entry | Overtaken | Shared:
        self._database.check_file()
        with self._database.usable():
            self._owners.hold()
        if intent.dials:
            self._stops.stop_if_older()  # also one that was restored under a process that runs
        dialled, hidden = self._hashed(intent), self._hidden(intent)
        dialled |= {digest: max(dials, dialled.get(digest, 0)) for digest, dials in hidden.items()}
        unnamed = dialled.keys() - {self._database.hashed_bytes(number) for number in intent.named}
        own = None if again is None else again.write_id
        wait_s = STOP_WAITS_S if intent.operation in STOPS else LONGEST_WAIT_S
        is_sent = again is not None or intent.operation in STOPS  # before, or without the ledger
        with self._taking(WriteState.UNKNOWN if is_sent else WriteState.REFUSED) as take:
            with self._database.writing(wait_s) as tx:
                self._database.check_version(tx)
                first = self._first(tx, intent) if again is None else _changed(tx, again)
                if first is not None:
                    return Overtaken(first)
                shared = _shared(tx, intent, unnamed, own)
                if shared is not None:
                    return shared
                _check_forgotten(tx, intent, dialled)
                self._check(tx, intent, dialled, token, most, own)
                now = self._database.now()
                sending = {
                    "state": WriteState.SENDING,
                    "owner": self._owners.mine,
                    "sent_at": now,
                    "calls": intent.calls,
                    "starts_at": None if intent.starts_at is None else to_ms(intent.starts_at),
                    "max_dials": intent.max_dials,
                    "dial_cost": None if intent.dial_cost is None else intent.dial_cost.millionths,
                    "currency": None if intent.dial_cost is None else intent.dial_cost.currency,
                }
                if again is None:
                    write_id = self._inserted(tx, intent, sending, now)
                else:
                    write_id = again.write_id
                    tx.execute(t.writes.update().where(t.writes.c.write_id == write_id).values(**sending))
                    tx.execute(t.dialled.delete().where(t.dialled.c.write_id == write_id))
                self._remember_numbers(tx, write_id, intent, dialled, now)
                entry = entry_of(tx, write_id)
                take(entry)
            self._database.note_newest(write_id)
        self._sent[write_id] = time.monotonic()
        while len(self._sent) > _SENT_KEPT:
            del self._sent[next(iter(self._sent))]
        return entry

    @contextmanager
    def _taking(self, failed: WriteState) -> Iterator[Callable[[Entry], None]]:
        """Takes a write in hand before its transaction ends; lets it go if that fails.

        Whoever sees it must see that too, else they take it for one that nobody sends any more. What fails may be
        recorded all the same: then `failed` is what became of it.
        """
        with ExitStack() as undoing:

            def take(entry: Entry) -> None:
                self._in_hand[entry.write_id] = entry
                undoing.callback(self.finish_later, entry, failed)

            yield take
            undoing.pop_all()

    def _inserted(self, tx: sa.Connection, intent: Intent, sending: Mapping[str, Any], now: int) -> int:
        values = {
            "at": now,
            "caller": intent.caller,
            "backend": intent.backend,
            "tool": intent.tool,
            "operation": intent.operation,
            "batch_call_id": intent.batch_call_id,
            "key_hash": self._key_hash(intent.key),
            "fingerprint": intent.fingerprint,
            "dials": intent.dials,
            "backend_key": _backend_key(intent),
            "evidence": intent.evidence.as_json(),
            "simulated": intent.simulated,
        }
        new = t.writes.insert().values(**values, **sending).returning(t.writes.c.write_id)
        return int(tx.execute(new).scalar_one())

    def finish(
        self,
        write_id: int,
        state: WriteState,
        *,
        batch_call_id: str | None = None,
        status: str | None = None,
        wait_s: float = LONGEST_WAIT_S,
        sent: Entry | None = None,
    ) -> Entry:
        """Record what came of it. A settled one stays as it is.

        Until that is recorded it is in this process's hand: another call would take it for one that nobody sends.

        Args:
            write_id: the entry.
            state: what is known of it now.
            batch_call_id: what it made.
            status: the batch call's, after it.
            wait_s: for the ledger.
            sent: the entry as the caller sent it. Where another process has sent it again since, only that it was made
                is recorded: a no to one request says nothing about another.
        """
        with self._database.writing(wait_s) as tx:
            self._settle(tx, write_id, _of_sent(sent, state), self._outcome(state, batch_call_id, status))
            entry = entry_of(tx, write_id)
        if sent is not None:
            self.let_go(sent)
        return entry

    def finish_later(
        self, sent: Entry, state: WriteState, *, batch_call_id: str | None = None, status: str | None = None
    ) -> None:
        """Let go of it now, and record what came of it as soon as the ledger can be written. Does not block.

        Until then other processes take it for one that is being sent, because this one lives.
        """
        self.let_go(sent)

        def record() -> None:
            with self._database.writing(STOP_WAITS_S) as tx:
                self._settle(tx, sent.write_id, _of_sent(sent, state), self._outcome(state, batch_call_id, status))

        self._database.do_later(record)

    def settle(self, seen: Entry, state: WriteState, *, batch_call_id: str | None = None) -> bool:
        """Record a person's word on an entry as it was shown; False if it is no longer so, and nothing was changed.

        To send it again changes its owner and the time it was sent, so a person's word is never about that.
        """
        as_seen = (
            (t.writes.c.state == seen.state) & (t.writes.c.owner == seen.owner) & (t.writes.c.sent_at == seen.sent_at)
        )
        with self._database.writing() as tx:
            return self._settle(tx, seen.write_id, OPEN & as_seen, self._outcome(state, batch_call_id, None))

    def _outcome(self, state: WriteState, batch_call_id: str | None, status: str | None) -> dict[str, Any]:
        values: dict[str, Any] = {"state": state}
        if state is not WriteState.UNKNOWN:
            values["settled_at"] = self._database.now()
        if batch_call_id is not None:
            values["batch_call_id"] = batch_call_id
        if status is not None:
            values["status"] = status
        return values

    def _settle(
        self, tx: sa.Connection, write_id: int, condition: sa.ColumnElement[bool], values: Mapping[str, Any]
    ) -> bool:
        """Change the entry if it is so; of one that was not made nobody was dialled."""
        changed = tx.execute(t.writes.update().where((t.writes.c.write_id == write_id) & condition).values(values))
        if changed.rowcount and values["state"] is WriteState.REFUSED:
            tx.execute(t.dialled.delete().where(t.dialled.c.write_id == write_id))
        return bool(changed.rowcount)

    def let_go(self, sent: Entry) -> None:
        """This process does nothing more about it as it was sent then; it may be sending it again."""
        if self._in_hand.get(sent.write_id) == sent:
            del self._in_hand[sent.write_id]

    def note_absent(self, write_id: int) -> Entry:
        """A complete look at the backend did not show it."""
        with self._database.writing() as tx:
            first = t.writes.c.absent_at.is_(None)
            tx.execute(
                t.writes.update()
                .where((t.writes.c.write_id == write_id) & first)
                .values(absent_at=self._database.now())
            )
            return entry_of(tx, write_id)

    def note_gone(self, write_id: int) -> None:
        """What it made is no longer there: an equal call is a new one."""
        with self._database.writing() as tx:
            tx.execute(t.writes.update().where(t.writes.c.write_id == write_id).values(status=_GONE))

    def seconds_since_sent(self, entry: Entry) -> float:
        """Not more than what has passed by a clock that nobody sets, where this process sent it itself."""
        by_the_wall = (self._database.now() - entry.sent_at) / 1000
        sent = self._sent.get(entry.write_id)
        return by_the_wall if sent is None else min(by_the_wall, time.monotonic() - sent)

    def is_in_hand(self, entry: Entry, tx: sa.Connection | None = None) -> bool:
        """Whether some process is sending it at this moment. Who is in a transaction asks in it."""
        if entry.state is not WriteState.SENDING:
            return False
        if entry.owner == self._owners.mine:
            return entry.write_id in self._in_hand
        with self._database.usable():
            return self._owners.is_alive(entry.owner, tx)

    def entry(self, write_id: int) -> Entry | None:
        """One entry."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(t.writes).where(t.writes.c.write_id == write_id)).one_or_none()
        return None if row is None else read(row)

    def first(self, intent: Intent) -> Entry | None:
        """The entry that stands against sending this: an equal one, or an open launch of the same batch call.

        Raises:
            InvalidInput: its idempotency key stands for another request.
            ConfigurationError: as `begin`; a launch says so before anyone is asked.
        """
        if intent.dials:
            self._database.check_file()
        with self._database.reading() as connection:
            return self._first(connection, intent)

    def _first(self, tx: sa.Connection, intent: Intent) -> Entry | None:
        mine = sa.select(t.writes).where(
            t.writes.c.caller == intent.caller,
            t.writes.c.backend == intent.backend,
            t.writes.c.operation == intent.operation,
            NOT_REFUSED,
        )
        newest = t.writes.c.write_id.desc()
        if intent.key is not None:
            row = tx.execute(mine.where(t.writes.c.key_hash == self._key_hash(intent.key)).order_by(newest)).first()
            if row is not None:
                found = read(row)
                _check_same_request(found, intent)
                return found
        elif intent.operation is Operation.APPEND:
            equal = mine.where(t.writes.c.fingerprint == intent.fingerprint, OPEN)
            row = tx.execute(equal.order_by(newest)).first()
            if row is not None:
                return read(row)
        elif intent.operation is Operation.CREATE:
            equal = mine.where(
                t.writes.c.fingerprint == intent.fingerprint,
                OPEN | (t.writes.c.at > self._database.now() - EQUAL_FOR_MS),
            )
            row = tx.execute(equal.order_by(newest)).first()
            if row is not None and not _was_deleted(tx, read(row)):
                return read(row)
        return self._in_the_way(tx, intent)

    def _in_the_way(self, tx: sa.Connection, intent: Intent) -> Entry | None:
        """What may have changed the state on which this write was judged.

        For every write but a stop and a rename: a launch of the same batch call that is newer than the caller has seen,
        or whose outcome is open. For a launch any newer write, and a change that may still arrive: it would call people
        whom nobody was asked about. Such a change stands against adding people too: it may be about the same ones.
        """
        if intent.batch_call_id is None or intent.operation in STOPS or intent.renames:
            return None
        of_it = intent.backend, intent.batch_call_id
        newest = newest_of(tx, *of_it) if intent.dials else newest_launch_of(tx, *of_it)
        newer = newest if newest is not None and newest.write_id > intent.seen else None
        arriving = None
        if intent.dials or intent.operation is Operation.APPEND:
            young = self._database.now() - self._may_arrive_ms
            arriving = next(
                (one for one in open_changes_of(tx, *of_it) if one.sent_at > young or self.is_in_hand(one, tx)), None
            )
        return open_launch_of(tx, *of_it) or arriving or newer

    def _check(
        self,
        tx: sa.Connection,
        intent: Intent,
        dialled: _Dialled,
        token: Token | None,
        most: _DayLimits,
        own: int | None = None,
    ) -> None:
        if intent.dials:
            self._check_stop(tx)
            mine = Mine(
                backend=intent.backend,
                batch_call_id=intent.batch_call_id,
                write_id=own,
                numbers=dialled.keys,
                calls_again=intent.operation is Operation.RETRY,
            )
            _check_day(tx, intent, mine, *most)
        self._use(tx, token)

    def _check_stop(self, tx: sa.Connection) -> None:
        since = self._stops.since_in(tx)
        if since is not None:
            raise PermissionDenied(
                f"The emergency stop is on since {since:%Y-%m-%d %H:%M UTC}: nothing is launched. Nothing was sent. "
                "Only the operator lifts it: `batchcall-mcp stop --clear`."
            )

    def _use(self, tx: sa.Connection, token: Token | None) -> None:
        if token is not None and not self._codes.use(tx, token):
            what = "answer was used already; one answer" if token.kind == "answer" else "confirmation was used; one"
            raise NotConfirmed(
                f"This {what} launches once. Nothing was sent by this call. Look at the batch call with "
                "get_batch_call before launching again."
            )

    def _hashed(self, intent: Intent) -> dict[bytes, int]:
        """Outside the transaction: others wait for it, and 100,000 numbers take a while."""
        merged: dict[bytes, int] = {}
        for number, dials in intent.numbers:
            digest = self._database.hashed_bytes(number)
            merged[digest] = merged.get(digest, 0) + dials
        return merged

    def _hidden(self, intent: Intent) -> dict[bytes, int]:
        """People of a list that nobody can read again, as they were remembered when it was sent."""
        if not intent.list_entries:
            return {}
        with self._database.reading() as connection:
            people = numbers_of_each(connection, intent.list_entries)
        return dict.fromkeys(frozenset[bytes]().union(*people.values()), intent.list_dials)

    def _remember_numbers(self, tx: sa.Connection, write_id: int, intent: Intent, dialled: _Dialled, now: int) -> None:
        if not dialled:
            return
        still_open = sa.select(t.writes.c.write_id).where(OPEN)
        kept_ms = sa.case((t.dialled.c.dials == 0, _LISTS_KEPT_MS), else_=_NUMBERS_KEPT_MS)
        old = (t.dialled.c.at < now - kept_ms) & t.dialled.c.write_id.not_in(still_open)
        tx.execute(t.dialled.delete().where(old))
        at = now if intent.starts_at is None else to_ms(intent.starts_at)
        if tx.dialect.name == "postgresql":
            # Fast: meanwhile other writes wait, a stop among them.
            rows_of_it = ((write_id, digest, at, dials) for digest, dials in dialled.items())
            copy_rows(tx, "dialled (write_id, number_hash, at, dials)", rows_of_it)
            return
        rows = iter(dialled.items())
        while part := list(islice(rows, _ROWS_AT_ONCE)):
            # The driver itself: SQLAlchemy would look at each value of 100,000 rows.
            values = [(write_id, digest, at, dials) for digest, dials in part]
            tx.exec_driver_sql("INSERT INTO dialled (write_id, number_hash, at, dials) VALUES (?, ?, ?, ?)", values)

    def _key_hash(self, key: str | None) -> str | None:
        return None if key is None else self._database.hashed(f"key {key}")


def _of_sent(sent: Entry | None, state: WriteState) -> sa.ColumnElement[bool]:
    """Which entry an outcome is about: any that is open, or only the one that was sent then."""
    if sent is None:
        return OPEN
    columns = t.writes.c
    as_sent = (columns.owner == sent.owner) & (columns.sent_at == sent.sent_at)
    as_sent &= columns.backend_key == sent.backend_key  # one that was not recorded has left its number to another
    if state is WriteState.DONE:
        # What was sent and made is so, also after the word of a person who could not see it yet.
        return OPEN | ((columns.state == WriteState.REFUSED) & as_sent)
    return OPEN & as_sent


def _changed(tx: sa.Connection, entry: Entry) -> Entry | None:
    """The entry as it is now, if it is no longer as it was read."""
    latest = entry_of(tx, entry.write_id)
    return None if latest == entry else latest


def _check_day(tx: sa.Connection, intent: Intent, mine: Mine, calls: int | None, cost: Money | None) -> None:
    """The operator's limits of the day on which a launch starts.

    In the transaction that records it: two launches at the same time cannot both be the last one within a limit.
    """
    if intent.starts_at is None:
        return
    if calls is not None:
        already = calls_on(tx, intent.starts_at, simulated=intent.simulated, mine=mine)
        if intent.calls is None or already + intent.calls > calls:
            raise InvalidInput(
                f"{already} calls are launched already for that day (UTC), and these would be more than "
                f"BATCHCALL_MAX_CALLS_PER_DAY={calls}. Nothing was sent. Launch fewer, or on another day."
            )
    if cost is not None and not intent.simulated:
        spent = spent_on(tx, intent.starts_at, simulated=False, mine=mine)
        problem = day_limit_problem(cost, intent.dial_cost, intent.max_dials, spent)
        if problem is not None:
            raise InvalidInput(f"{problem[0].upper()}{problem[1:]}. Nothing was sent.")


def _shared(tx: sa.Connection, intent: Intent, unnamed: set[bytes], own: int | None = None) -> Shared | None:
    """A launch that was recorded since the people of this one were compared, and that calls some of them too."""
    if not intent.dials or not unnamed:
        return None
    for entry in launches_after(tx, intent.since, simulated=intent.simulated):
        mine = entry.backend, entry.batch_call_id
        other = intent.batch_call_id is None or mine != (intent.backend, intent.batch_call_id)
        if other and entry.write_id != own:
            both = len(unnamed & numbers_of(tx, entry.write_id))
            if both:
                return Shared(entry, both)
    return None


def _check_forgotten(tx: sa.Connection, intent: Intent, dialled: _Dialled) -> None:
    """Refuse a launch of people who were forgotten since it was judged; a minute before counts as since, because
    machines have clocks of their own.

    Raises:
        InvalidInput: some of them were.
    """
    if not intent.dials or not dialled:
        return
    late = t.forgotten.c.at >= intent.since.at - CLOCKS_APART_MS
    found = sum(one in dialled for one in tx.scalars(sa.select(t.forgotten.c.number_hash).where(late)))
    if found:
        raise InvalidInput(
            f"{found} of the people to be called were just forgotten (`batchcall-mcp forget`). Nothing was sent."
            " Make this call again: a list is read without them. Take them out of a list that the backend keeps."
        )


def _was_deleted(tx: sa.Connection, entry: Entry) -> bool:
    if entry.batch_call_id is None:
        return False
    if entry.status == _GONE:
        return True
    newest = newest_of(tx, entry.backend, entry.batch_call_id)
    return newest is not None and newest.operation is Operation.DELETE and newest.state is WriteState.DONE


def _check_same_request(found: Entry, intent: Intent) -> None:
    if found.is_equal(intent):
        return
    at = from_ms(found.at)
    what = f"for {found.batch_call_id}" if found.batch_call_id else f"(ledger entry {found.write_id})"
    raise InvalidInput(
        f"idempotency_key: it was used at {at:%Y-%m-%d %H:%M UTC} {what} with another request. Nothing was sent. For "
        "another request, give a new key; to repeat the first one, give the same list and settings."
    )


def _backend_key(intent: Intent) -> str:
    """The key for a backend that keeps such keys: from the caller's own, or one that nobody else has."""
    if intent.key is None:
        return f"{intent.operation}-{secrets.token_hex(16)}"
    said = f"{intent.operation} {intent.batch_call_id or ''} {intent.key}"
    return f"{intent.operation}-{hashlib.sha256(said.encode()).hexdigest()[:40]}"
