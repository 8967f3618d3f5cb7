"""The engine's transactions: what is due, starting attempts, their outcomes, and what a dead process left behind.

The rules that keep anybody from being called twice or after a stop are held here, by SQL, in whichever and
however many processes: `record_and_claim` commits an attempt before `dial` lets the carrier dial it, and both
hold the batch call's state still while they look at it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from batchcall_mcp.clock import from_ms, to_ms
from batchcall_mcp.dialer.carriers.base import SIMULATED, Attempt, NoLongerWanted
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.predial import Rest
from batchcall_mcp.dialer.domain.records import BatchCallRecord, HeldBy
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.engine import claims, heartbeat, lateness, outcomes, rate_pacing
from batchcall_mcp.dialer.engine.broken import Broken, concerning, without_broken
from batchcall_mcp.dialer.engine.outcomes import INTERRUPTED, Ended
from batchcall_mcp.dialer.engine.rate_pacing import LEAVES_WITHIN, AccountPace
from batchcall_mcp.dialer.storage import commands, do_not_call, first_people, installation, outbox, queries, stops
from batchcall_mcp.dialer.storage.halts import Halt
from batchcall_mcp.dialer.storage.store import CHUNK, Store, chunks
from batchcall_mcp.dialer.storage.tables import REVISED, attempts, batch_calls, tasks
from batchcall_mcp.dialer.storage.tables import workers as workers_table
from batchcall_mcp.model import TaskStatus

CARRIER_RESTS: Final = timedelta(seconds=5)
"""Before a call is tried again that the carrier did not take."""
STALE_AFTER: Final = timedelta(seconds=10)
"""A claim that could not be placed for so long (a machine that slept) is checked again instead of dialled. So a yes of
the gate before each dial, which is asked for after the claim, counts for no longer than this."""


class HoursEnd(NoLongerWanted):
    """This person's hours end before a request could leave: not before `until` are they claimed again."""

    def __init__(self, until: datetime) -> None:
        super().__init__("its hours or its date are over")
        self.until = until


@dataclass(frozen=True, slots=True)
class Turn:
    """What one transaction started.

    `unfinished` are batch calls whose due tasks were not all looked at; `paced` are those whose calls per second let
    them dial again only at a moment, with how many calls a second that is.
    """

    started: list[Attempt] = field(default_factory=list)
    unfinished: frozenset[str] = frozenset()
    paced: Mapping[str, tuple[datetime, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """An attempt that was started and in which nobody was rung: it is withdrawn as if it had never been.

    Attributes:
        attempt: which one.
        reason: why, for people; None: nobody has to know.
        held_by: what let it not through.
        until: due again then; None: at once.
        never: it is not called at all, and ends as skipped.
        whole_account: the vendor wants to be left alone until then.
        at_fault: so would every call of its batch call end, which is paused.
    """

    attempt: Attempt
    reason: str | None = None
    held_by: HeldBy = "carrier"
    until: datetime | None = None
    never: bool = False
    whole_account: bool = False
    at_fault: bool = False


@dataclass(frozen=True)
class Dispatch:
    """What the engine does with the database. For one worker thread.

    Attributes:
        store: the database.
        worker_id: this process's engine; its attempts carry the name, so they are found if it dies.
        daily_cap: most attempts at a number within 24 hours, over all batch calls of an organisation.
        retry_delay: how long to wait before a redial that no retry rule times.
        capacity: of this process, which then is in the list of workers at each claim; None: it is alone.
        min_gap: between dials of one number by different batch calls of an organisation.
        pause_on_failures: whether batch calls that want it are paused when most of their last attempts failed.
        test_numbers: those that a test call may dial whatever the daily cap and the gap say.
        carrier: the only one whose batch calls and attempts this one touches.
        account: what the carrier's account may do; None: anything.
    """

    store: Store
    worker_id: str
    _: KW_ONLY
    daily_cap: int
    retry_delay: timedelta
    capacity: int | None = None
    min_gap: timedelta = timedelta(0)
    pause_on_failures: bool = False
    test_numbers: frozenset[str] = frozenset()
    carrier: str = SIMULATED
    account: AccountPace | None = None

    def record_and_claim(self, ended: Sequence[Ended], wanted: Mapping[str, int], rest: Rest | None = None) -> Turn:
        """One transaction: write outcomes, then start up to so many attempts of each of these batch calls.

        What it returns is committed: a crash from here on makes it `interrupted`, never dialled again. A batch
        call's `max_concurrency` holds over all processes, because each of them counts while it holds the batch call.
        While there is a `rest`, nothing is started, and what could be is put off.
        """
        return without_broken(self.store, lambda broken: self._record_and_claim(ended, wanted, rest, broken))

    def _record_and_claim(
        self, ended: Sequence[Ended], wanted: Mapping[str, int], rest: Rest | None, broken: frozenset[str]
    ) -> Turn:
        with self.store.writing() as tx:
            if self.store.halt(tx) is not None:
                wanted = {}
            if any(end.opted_out for end in ended):
                do_not_call.hold(tx)
            records = outcomes.locked(tx, {*wanted, *(end.batch_call_id for end in ended)}, broken)
            now = self.store.clock()
            redialled = outcomes.record(tx, ended, records, now=now, retry_delay=self.retry_delay)
            paused = set(lateness.pause_redials(tx, self.carrier, redialled, to_ms(now)))
            if ended and self.pause_on_failures:
                paused |= outcomes.pause_failing(tx, {end.batch_call_id for end in ended}, records, to_ms(now))
            paused |= first_people.pause_done(tx, records, to_ms(now))
            wanted = {key: count for key, count in wanted.items() if key not in paused}
            running = {key: record for key, record in records.items() if self._dials(record) and wanted.get(key)}
            if running and stops.since(tx) is not None:
                running = {}
            if running and self.capacity is not None:
                heartbeat.enlist(tx, self.worker_id, self.capacity, to_ms(now))
            turn = self._start(tx, running, wanted, now, rest)
            outcomes.finish(tx, records, to_ms(now))
        return turn

    def _start(
        self,
        tx: sa.Connection,
        running: Mapping[str, BatchCallRecord],
        wanted: Mapping[str, int],
        now: datetime,
        rest: Rest | None,
    ) -> Turn:
        started: list[Attempt] = []
        unfinished: set[str] = set()
        paced: dict[str, tuple[datetime, float]] = {}
        calling = _calling(tx, list(running))
        account = self.account if running else None
        room, more_at = (0, now) if account is None else rate_pacing.account_room(tx, account, now, STALE_AFTER)
        # Who has waited longest comes first: an account that begins one call a second serves them in turns.
        for key, record in sorted(running.items(), key=lambda one: one[1].last_sent_at or 0):
            with concerning(key):
                share = min(wanted[key], record.max_concurrency - calling.get(key, 0))
                people = first_people.room(tx, record)
                share = share if people is None else min(share, people)
                share, again_at = rate_pacing.allowed(tx, record, share, now)
                pace = record.pace()
                if again_at is not None and pace is not None:
                    paced[key] = again_at, pace
                if account is not None and share > room:
                    paced[key] = max(again_at or more_at, more_at), account.calls_per_second
                    share = room
                if share > 0:
                    claim = claims.start_due(
                        tx,
                        record,
                        share,
                        now=now,
                        daily_cap=self.daily_cap,
                        worker_id=self.worker_id,
                        min_gap=self.min_gap,
                        test_numbers=self.test_numbers,
                        rest=rest,
                    )
                    started += claim.started
                    room -= len(claim.started)
                    if claim.more:
                        unfinished.add(key)
        return Turn(started, frozenset(unfinished), paced)

    def dial(
        self, started: Sequence[Attempt], since: datetime, may_dial: Callable[[], bool], dial: Callable[[Attempt], bool]
    ) -> None:
        """Hold the state of the batch calls still while the carrier is asked to dial.

        Those that may not be dialled any more (paused, cancelled or expired since `record_and_claim`, a stale claim, a
        pace) are withdrawn as if they had never been started. So are those that the carrier does not take; they are
        tried again some seconds later.

        `since` is the time before `record_and_claim` was asked. `dial` gives False if the carrier did not take it.
        """
        without_broken(self.store, lambda broken: self._dial(started, since, may_dial, dial, broken))

    def _dial(
        self,
        started: Sequence[Attempt],
        since: datetime,
        may_dial: Callable[[], bool],
        dial: Callable[[Attempt], bool],
        broken: frozenset[str],
    ) -> None:
        with self.store.writing() as tx:
            if self.store.shared:
                # What this transaction is for is the lock; others wait for it, so it does not wait for the disk.
                # If a crash of the server loses what it withdrew, that is `interrupted` instead of dialled later.
                tx.execute(sa.text("SET LOCAL synchronous_commit TO off"))
            stops.share(tx)
            do_not_call.share(tx)
            stopped = stops.since(tx) is not None
            held = outcomes.locked(tx, {attempt.batch_call_id for attempt in started}, broken)
            now = self.store.clock()
            running: dict[str, BatchCallRecord] = {}
            for key, record in held.items():
                with concerning(key):
                    if self._dials(record) and not rules.expired(record.expires(), now):
                        running[key] = record
            ours = self._ours(tx, started)
            halted = stopped or self.store.halt(tx) is not None
            fresh = may_dial() and not halted and abs(now - since) < STALE_AFTER
            stale: list[Attempt] = []
            refused: list[Attempt] = []
            mine = [attempt for attempt in started if (attempt.task_id, attempt.n) in ours]
            allowed = [
                attempt
                for attempt in mine
                if fresh and attempt.batch_call_id in running and not rules.expired(attempt.until, now)
            ]
            never = self._never(tx, allowed, running)
            allowed = [attempt for attempt in allowed if (attempt.batch_call_id, attempt.to_number) not in never]
            allowed = rate_pacing.keep(tx, allowed, running, now)
            for attempt in allowed:
                if self.store.shared and stops.since(tx) is not None:
                    # A session that was cut (a machine that slept, a network) has lost the lock; this then fails.
                    stale.append(attempt)
                elif abs((at := self.store.clock()) - since) >= STALE_AFTER or rules.expired(attempt.until, at):
                    stale.append(attempt)  # the machine slept between two of them, or a date has just ended
                elif not dial(attempt):
                    refused.append(attempt)
            if self.account is None:  # else when the request leaves
                rate_pacing.remember(tx, allowed, running, self.store.clock())
            outcomes.withdraw(tx, [*stale, *(attempt for attempt in mine if attempt not in allowed)], to_ms(now))
            outcomes.withdraw(tx, refused, to_ms(now), held_until=to_ms(now + CARRIER_RESTS))

    def withdraw(self, unplaced: Sequence[Unplaced]) -> None:
        """Withdraw what has been started and rang nobody; end what is never called, pause what would all end so."""
        with self.store.writing() as tx:
            ids = {one.attempt.batch_call_id for one in unplaced}
            outcomes.locked(tx, ids, ids)
            ours = self._ours(tx, [one.attempt for one in unplaced])
            now = self.store.now()
            mine = [one for one in unplaced if (one.attempt.task_id, one.attempt.n) in ours]
            for one in mine:
                until = None if one.until is None else to_ms(one.until)
                outcomes.withdraw(tx, [one.attempt], now, held_until=until, held_by=one.held_by, why=one.reason)
            outcomes.refuse(tx, {one.attempt.task_id: one.reason or "" for one in mine if one.never}, now)
            for one in unplaced:
                if one.at_fault:
                    commands.pause(tx, [one.attempt.batch_call_id], "account", one.reason or "", now)
            rests = [one.until for one in unplaced if one.whole_account and one.until is not None]
            if rests and self.account is not None:
                rate_pacing.leave_alone(tx, self.account, max(rests), self.store.clock())

    @contextmanager
    def sending(self, attempt: Attempt) -> Iterator[float]:
        """Hold its batch call still while the request for a call leaves, if it may; gives the seconds to wait before
        that is asked again, 0: now.

        All that `dial` looked at is looked at again: seconds may have passed, in which a connection was opened.

        Raises:
            NoLongerWanted: it must not leave.
        """
        turn = self._turn(attempt)
        if isinstance(turn, timedelta):
            yield turn.total_seconds()
            return
        has_left = False
        try:
            with self.store.writing() as tx:
                wait = self._wait(tx, attempt, turn)
                yield wait
                has_left = not wait
                if has_left and self.account is not None:
                    rate_pacing.begun(tx, self.account, attempt, self.store.clock())
        finally:
            if turn is not None and self.account is not None and not has_left:
                with self.store.writing() as tx:
                    rate_pacing.give_back(tx, self.account, turn, self.store.clock())

    def _wait(self, tx: sa.Connection, attempt: Attempt, turn: datetime | None) -> float:
        """Seconds to wait, in the transaction that holds the batch call still; see `sending`."""
        if self.store.shared:
            tx.execute(sa.text("SET LOCAL synchronous_commit TO off"))  # as in `dial`
        stops.share(tx)
        do_not_call.share(tx)
        try:
            record = outcomes.locked(tx, [attempt.batch_call_id]).get(attempt.batch_call_id)
        except Broken as error:
            raise NoLongerWanted("the batch call has an error") from error
        now = self.store.clock()
        why = self._unwanted(tx, attempt, record, now)
        if why is not None:
            raise NoLongerWanted(why)
        return 0.0 if self.account is None else rate_pacing.wait_of(tx, self.account, turn, now)

    def _turn(self, attempt: Attempt) -> timedelta | datetime | None:
        """How long to wait, if it is not this call's turn; else until when it is, if the account has a pace.

        Committed before the request leaves. So if this process dies meanwhile, everybody knows that it may have left,
        and nobody begins another call of the account too early.

        Raises:
            NoLongerWanted: it is another process's, or the account is to be left alone for longer than a claim counts.
        """
        mine = _of(attempt) & (attempts.c.worker_id == self.worker_id) & attempts.c.outcome.is_(None)
        with self.store.writing() as tx:
            now = self.store.clock()
            if self.account is not None:
                wait = rate_pacing.account_wait(tx, self.account, now)
                if wait >= STALE_AFTER:
                    raise NoLongerWanted("the carrier's account is to be left alone for a while")
                if wait:
                    return wait
            # A request that is repeated with its key may find what the first one has placed.
            since = sa.func.coalesce(attempts.c.asked_at, sa.literal(to_ms(now), sa.BigInteger))
            if not tx.execute(attempts.update().where(mine).values(asked_at=since)).rowcount:
                raise NoLongerWanted("it is another process's")
            return None if self.account is None else rate_pacing.take_turn(tx, self.account, now)

    def _unwanted(
        self, tx: sa.Connection, attempt: Attempt, record: BatchCallRecord | None, now: datetime
    ) -> str | None:
        started_at = tx.scalar(self._mine().with_only_columns(attempts.c.started_at).where(_of(attempt)))
        stopped = stops.since(tx) is not None or stops.file_is_there(self.store.stop_file)
        if stopped or self.store.halt(tx) is not None:
            return "nothing may be dialled"
        if record is None or not self._dials(record):
            return "the batch call dials no more"
        if started_at is None or abs(now - from_ms(started_at)) >= STALE_AFTER:
            return "its claim is too old, or another process's"
        ends = (record.expires(), attempt.until)
        if any(rules.expired(end, now + LEAVES_WITHIN) for end in ends) or any(
            claims.closed(tx, record, attempt, at) for at in (now, now + LEAVES_WITHIN)
        ):
            raise HoursEnd(now + LEAVES_WITHIN)
        if attempt.to_number in do_not_call.listed(tx, [attempt.to_number], record.organization_id, record.carrier):
            return "the number is on the do-not-call list"
        return None

    def _dials(self, record: BatchCallRecord) -> bool:
        return record.status is State.SENT and record.carrier == self.carrier

    def placed(self, attempt: Attempt, call_id: str) -> None:
        """Remember the vendor's id of a call, by which it is found whoever dials next."""
        with self.store.writing() as tx:
            # When it began may not have been written down (a crash, a database that failed): not later than now.
            began_at = sa.func.coalesce(attempts.c.placed_at, sa.literal(self.store.now(), sa.BigInteger))
            tx.execute(attempts.update().where(_of(attempt)).values(carrier_call_id=call_id, placed_at=began_at))

    def _ours(self, tx: sa.Connection, started: Sequence[Attempt]) -> set[tuple[str, int]]:
        """Those of these attempts that are still this worker's, and in progress."""
        claims_of = self._mine().add_columns(attempts.c.started_at)
        found = {
            (row.task_id, row.n): row.started_at
            for chunk in chunks(started, CHUNK)
            for row in tx.execute(claims_of.where(attempts.c.task_id.in_([attempt.task_id for attempt in chunk])))
        }
        return {
            (one.task_id, one.n)
            for one in started
            if (at := found.get((one.task_id, one.n))) is not None and one.claimed_at in {None, from_ms(at)}
        }

    @staticmethod
    def _never(
        tx: sa.Connection, wanted: Sequence[Attempt], running: Mapping[str, BatchCallRecord]
    ) -> set[tuple[str, str]]:
        """Whom which batch call may not call, although its claim did not know it yet: the next claim skips them."""
        whose = {key: (record.organization_id, record.carrier) for key, record in running.items()}
        numbers: dict[tuple[str, str], set[str]] = {}
        for attempt in wanted:
            numbers.setdefault(whose[attempt.batch_call_id], set()).add(attempt.to_number)
        never = {key: do_not_call.listed(tx, sorted(some), *key) for key, some in numbers.items()}
        return {
            (attempt.batch_call_id, attempt.to_number)
            for attempt in wanted
            if attempt.to_number in never[whose[attempt.batch_call_id]]
        }

    def take_up(self) -> None:
        """Write down where the database dials from now on, if it never did, or that an older one is in its place."""
        if self.store.file is not None:
            with self.store.writing() as tx:
                installation.take_up(tx, self.store.file)

    def halted(self) -> Halt | None:
        """Why nothing may be dialled. What would seem to dial is paused then, so a look at it shows why."""
        halt = self.store.halted()
        if halt is not None and not halt.of_process:
            now = self.store.now()
            with self.store.writing() as tx:
                commands.pause(tx, queries.dialling(tx, now), "error", f"{halt} Then resume it.", now)
        return halt

    def withdraw_unknown(self, on_the_line: Collection[tuple[str, int]]) -> None:
        """Withdraw what this worker has started, except these: a claim whose answer was lost.

        No carrier was asked for it, because nobody knew of it.
        """
        with self.store.reading() as look:
            lost = [row for row in look.execute(self._mine()) if (row.task_id, row.n) not in on_the_line]
        for chunk in chunks(lost, CHUNK):
            with self.store.writing() as tx:
                ids = {row.batch_call_id for row in chunk}
                outcomes.locked(tx, ids, ids)
                still = {(row.task_id, row.n) for row in tx.execute(self._mine())}
                left = [row for row in chunk if (row.task_id, row.n) in still]
                outcomes.withdraw(tx, left, self.store.now())

    def _mine(self) -> sa.Select[tuple[str, int, str]]:
        """This worker's attempts in progress that no other one has ended, or begun again."""
        return (
            sa.select(attempts.c.task_id, attempts.c.n, attempts.c.batch_call_id)
            .join(tasks, (tasks.c.task_id == attempts.c.task_id) & (tasks.c.attempts == attempts.c.n))
            .where(
                attempts.c.worker_id == self.worker_id,
                attempts.c.outcome.is_(None),
                tasks.c.status == TaskStatus.CALLING,
            )
        )

    def start_arrived(self, batch_call_ids: Collection[str]) -> None:
        """Let scheduled batch calls begin whose time has come, and expire or finish what has nothing left to do.

        Bounded: a part of a long list at a time.
        """
        without_broken(self.store, lambda broken: self._start_arrived(batch_call_ids, broken))

    def _start_arrived(self, batch_call_ids: Collection[str], broken: frozenset[str]) -> None:
        with self.store.writing() as tx:
            paused = outcomes.paused(tx, batch_call_ids)
            records = outcomes.locked(tx, set(batch_call_ids) - {row.batch_call_id for row in paused}, broken)
            now = self.store.clock()
            at = to_ms(now)
            for row in paused:
                claims.expire(tx, row, at)
            for chunk in chunks(sorted(records), CHUNK):
                arrived = (
                    batch_calls.c.batch_call_id.in_(chunk)
                    & (batch_calls.c.status == State.SCHEDULED)
                    & (batch_calls.c.scheduled_at <= at)
                )
                values = {"status": State.SENT, "started_at": at, "updated_at": at}
                start = batch_calls.update().where(arrived).values({**values, **REVISED})
                begun = list(tx.execute(start.returning(batch_calls.c.batch_call_id)).scalars())
                outbox.batch_call_events(tx, [(key, "batch_call.started") for key in begun], at)
            for key, record in records.items():
                with concerning(key):
                    if record.status is State.SCHEDULED and record.scheduled_at is None:
                        raise ValueError("it is scheduled, and has no time")
                    claims.expire(tx, record, at)
                    claims.check_due(tx, record, now)
            first_people.pause_done(tx, records, at)
            outcomes.finish(tx, records, at)

    def interrupt(self, worker_ids: Collection[str]) -> int:
        """Mark the open attempts of these workers `interrupted`: they end."""
        return self._interrupt(attempts.c.worker_id.in_(list(worker_ids)))

    def interrupt_others(self) -> int:
        """Mark everybody else's too. For the process that has just got a SQLite file's lock: all others are gone."""
        return self._interrupt(sa.or_(attempts.c.worker_id.is_(None), attempts.c.worker_id != self.worker_id))

    def interrupt_orphans(self) -> int:
        """Mark the open attempts of those workers `interrupted` that are not in the list any more.

        A worker claims only while it is in the list. One that was taken out by mistake therefore leaves nothing that
        nobody ever looks at.
        """
        listed = sa.select(workers_table.c.worker_id)
        return self._interrupt(attempts.c.worker_id.not_in(listed))

    def _interrupt(self, theirs: sa.ColumnElement[bool]) -> int:
        query = sa.select(attempts.c.task_id, attempts.c.n, attempts.c.batch_call_id).where(
            attempts.c.carrier == self.carrier, attempts.c.outcome.is_(None), theirs
        )
        with self.store.reading() as look:
            found = [
                Ended(row.task_id, row.n, row.batch_call_id, TaskStatus.INTERRUPTED, INTERRUPTED)
                for row in look.execute(query)
            ]
        for chunk in chunks(found, CHUNK):
            self.record_and_claim(chunk, {})
        return len(found)


def _of(attempt: Attempt) -> sa.ColumnElement[bool]:
    """This attempt, and none that was started in its place after it was withdrawn."""
    this = (attempts.c.task_id == attempt.task_id) & (attempts.c.n == attempt.n)
    return this if attempt.claimed_at is None else this & (attempts.c.started_at == to_ms(attempt.claimed_at))


def _calling(tx: sa.Connection, batch_call_ids: Sequence[str]) -> dict[str, int]:
    return {
        row.batch_call_id: row.calling
        for chunk in chunks(batch_call_ids, CHUNK)
        for row in tx.execute(
            sa.select(tasks.c.batch_call_id, sa.func.count().label("calling"))
            .where(tasks.c.batch_call_id.in_(chunk), tasks.c.status == TaskStatus.CALLING)
            .group_by(tasks.c.batch_call_id)
        )
    }
