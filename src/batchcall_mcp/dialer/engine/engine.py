"""The engine of one process: what its lanes ask for, done for many at a time, in one thread.

A lane says what came of its last call and asks for the next one. Whatever has been asked by then goes into one
transaction that records and claims, and a second one in which the carrier is asked to dial: a hundred lanes cost
little more than one. Nothing here decides whom to call: `dispatch` does, in SQL.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil
from time import monotonic
from typing import Final, TypeVar

import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import Attempt, Carrier, CarrierUnavailable
from batchcall_mcp.dialer.carriers.gate import Asked, Gate, Questions
from batchcall_mcp.dialer.domain.predial import Rest
from batchcall_mcp.dialer.engine import broken, lateness, left_calls, scheduler
from batchcall_mcp.dialer.engine.calls import Calls, Over, held_by_gate
from batchcall_mcp.dialer.engine.dispatch import Dispatch, Turn, Unplaced
from batchcall_mcp.dialer.engine.lanes.opening import Lanes
from batchcall_mcp.dialer.engine.left_calls import LeftCall
from batchcall_mcp.dialer.engine.outcomes import Ended
from batchcall_mcp.dialer.storage import stops
from batchcall_mcp.dialer.storage.halts import Halt
from batchcall_mcp.dialer.storage.store import Store

LOG = logging.getLogger(__name__)
POLL_SECONDS: Final = 0.5
"""How late another process's write may be noticed; a write in this process wakes the engine at once."""
RETRY_SECONDS: Final = 1.0
OUTAGE: Final = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
"""What the database raises when it is away, full or overloaded, and works again some time later."""
AWAY: Final = "The dialer's database does not work; nothing is dialled until it does: %s"
BACK: Final = "The dialer's database works again; dialling goes on."
FREED_SECONDS: Final = 0.05
"""How soon to look for other work when lanes have ended."""
PARKED_AT_MOST: Final = timedelta(seconds=5)
"""How long a lane keeps its line while its batch call's pace lets it wait; for longer it leaves it to others."""
UNTAKEN_SECONDS: Final = 10.0
"""So long lanes may wait while this process runs none, before something is wrong with what runs them."""
JUMP: Final = timedelta(seconds=30)

T = TypeVar("T")


class EngineStopped(Exception):
    """The engine failed while a lane waited for it."""


@dataclass(eq=False)
class _Asked:
    """What came of a lane's last call, and that it `wants` another one."""

    batch_call_id: str
    over: Over | None = None
    wants: bool = True
    answer: Future[Attempt | None] = field(default_factory=Future)

    def settle(self, attempt: Attempt | None) -> bool:
        """Answer it, unless its lane is cancelled at this moment: the loop of a process that ends does that."""
        if not self.answer.set_running_or_notify_cancel():
            return False
        self.answer.set_result(attempt)
        return True


class Engine:
    """Claims what is due, has the carrier dial it, and writes down what came of it.

    With a `gate` what is claimed is dialled when it has said yes; meanwhile everything else goes on.

    In the engine's thread `before_claims` is called before anything is claimed or dialled, and `worked` when a look
    succeeded.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        store: Store,
        carrier: Carrier,
        *,
        before_claims: Callable[[], None],
        poll_seconds: float = POLL_SECONDS,
        late_after: timedelta | None = None,
        worked: Callable[[], None] = lambda: None,
        gate: Gate | None = None,
    ) -> None:
        self._dispatch = dispatch
        self._questions = None if gate is None else Questions[_Asked](gate, self._answered)
        self._store = store
        self._carrier = carrier
        self._before_claims = before_claims
        self._poll_seconds = poll_seconds
        self._worked = worked
        self._changed = threading.Condition()
        self._asked: list[_Asked] = []
        self._lanes: Counter[str] = Counter()
        self._calls = Calls(carrier, dispatch, asyncio.get_running_loop())
        self._woken = True
        self._looks_for_left_calls = carrier.calls_outlive_us
        self._stopping = False
        self._cutting = False
        self._failed = False
        # What follows belongs to the engine's thread.
        self._parked: dict[str, tuple[datetime, list[_Asked]]] = {}
        self._resting: dict[str, datetime] = {}
        self._too_many: Counter[str] = Counter()
        self._given: set[tuple[str, int]] = set()
        self._unsure = False
        self._untaken_since: float | None = None
        self._look_at = 0.0
        self._next_at: datetime | None = None
        self._offset: float | None = None
        self._halt: Halt | None = None
        self._attendance = lateness.Attendance(store, carrier.name, late_after)

    @property
    def calls(self) -> int:
        """Calls in progress."""
        return len(self._calls)

    def wake(self) -> None:
        """Look for work now. May be called from any thread."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Place no further call; `run` ends when those in progress have."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def look_for_left_calls(self) -> None:
        """Another process ended: read on what it placed, if the carrier lets that be. From any thread."""
        with self._changed:
            self._looks_for_left_calls = self._carrier.calls_outlive_us
            self._changed.notify_all()

    def cut(self) -> None:
        """Wait for no call any more: each is `interrupted`, or goes on and is read by whoever dials next."""
        with self._changed:
            self._stopping = self._cutting = True
            self._changed.notify_all()
        self._calls.cut()

    def close(self) -> None:
        """After `run` has ended."""
        self._calls.close()

    async def lane(self, batch_call_id: str) -> None:
        """Place one call after the other, as long as there is one for this lane."""
        over: Over | None = None
        with self._counted(batch_call_id):
            while (attempt := await self._next(_Asked(batch_call_id, over))) is not None:
                over = await self._calls.until_over(attempt)
                if over is None:
                    break

    async def _finish(self, left: LeftCall) -> None:
        """Wait for the end of a call that another process left."""
        batch_call_id = left.attempt.batch_call_id
        with self._counted(batch_call_id):
            over = await self._calls.until_over(left.attempt, left)
            if over is not None:
                await self._next(_Asked(batch_call_id, over, wants=False))

    @contextmanager
    def _counted(self, batch_call_id: str) -> Iterator[None]:
        with self._changed:
            self._lanes[batch_call_id] += 1
        try:
            yield
        except EngineStopped:
            LOG.debug("a lane ended with its engine; the engine that goes on finds what it placed")
        finally:
            with self._changed:
                self._lanes[batch_call_id] -= 1
                self._lanes += Counter()
                # The last one is gone: others of this process may wait for their turn.
                self._woken = self._woken or not self._lanes
                self._changed.notify_all()

    async def _next(self, asked: _Asked) -> Attempt | None:
        with self._changed:
            if self._failed:
                raise EngineStopped
            self._asked.append(asked)
            self._changed.notify_all()
        return await asyncio.wrap_future(asked.answer)

    def run(self, lanes: Lanes) -> None:
        """Dispatch until `stop`, and until the calls in progress have ended. Blocks."""
        asked: list[_Asked] | None = None
        try:
            while (asked := self._take()) is not None:
                self._look_for_a_stop()
                if self._questions is not None:
                    asked += self._hear(self._questions)
                if asked:
                    self._turn(asked)
                if self._looks_for_left_calls and not self._stopping:
                    self._take_over_calls()
                if not self._stopping and self._time_to_look():
                    self._feed(lanes)
                if self._untaken_since is None or monotonic() - self._untaken_since < UNTAKEN_SECONDS:
                    self._worked()
            self._mark_the_end()
        finally:
            with self._changed:
                self._failed = self._stopping = True
                left = (asked or []) + self._asked + [one for _, parked in self._parked.values() for one in parked]
                left += self._questions.lanes() if self._questions is not None else []
            for one in left:
                if not one.answer.done() and one.answer.set_running_or_notify_cancel():
                    one.answer.set_exception(EngineStopped())
            self.cut()

    def _take_over_calls(self) -> None:
        self._looks_for_left_calls = False
        here = self._here()
        found = self._insist(left_calls.find, self._dispatch)
        # Others may have taken this process for dead: what it follows itself is not left.
        left = [one for one in found if (one.attempt.task_id, one.attempt.n) not in here]
        if not left:
            return
        # Before they are this worker's: else they would be taken for a claim whose answer was lost.
        self._given.update((one.attempt.task_id, one.attempt.n) for one in left)
        mine = self._insist(left_calls.take_over, self._dispatch, left)
        for one in left:
            if one in mine:
                asyncio.run_coroutine_threadsafe(self._finish(one), self._calls.loop)
            else:
                self._given.discard((one.attempt.task_id, one.attempt.n))
        self.wake()  # somebody may be due again

    def _take(self) -> list[_Asked] | None:
        """What lanes have asked for, perhaps nothing; None when it is over."""
        with self._changed:
            if not (self._asked or self._woken or self._stopping or self._has_answers() or self._looks_for_left_calls):
                self._changed.wait(self._rest())
            asked, self._asked = self._asked, []
            now = self._store.clock()
            for key in [key for key, (at, _) in self._parked.items() if at <= now or self._stopping]:
                asked += self._parked.pop(key)[1]
            if self._stopping and not asked and (self._questions is None or not self._questions.lanes()):
                if not self._lanes:
                    return None
                self._changed.wait(self._poll_seconds)
        return asked

    def _has_answers(self) -> bool:
        return self._questions is not None and self._questions.answered

    def _answered(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _time_to_look(self) -> bool:
        arrived = self._next_at is not None and self._next_at <= self._store.clock()
        return self._woken or arrived or monotonic() >= self._look_at

    def _rest(self) -> float:
        """Seconds until something has to be done without being asked."""
        rest = self._look_at - monotonic()
        moments = [at for at, _ in self._parked.values()]
        if self._next_at is not None:
            moments.append(self._next_at)
        now = self._store.clock()
        return max(0.0, min([rest, *((at - now).total_seconds() for at in moments)]))

    def _turn(self, asked: list[_Asked]) -> None:
        over = [one.over for one in asked if one.over is not None]
        ended = [one for one in over if isinstance(one, Ended)]
        unplaced = [one for one in over if isinstance(one, Unplaced)]
        if unplaced:
            self._insist(self._dispatch.withdraw, unplaced, lasting=True)
            self._given.difference_update((one.attempt.task_id, one.attempt.n) for one in unplaced)
        since = self._store.clock()
        rest = None
        for one in asked:
            one.over = None
        done = [one for one in asked if not one.wants]
        asked = [one for one in asked if one.wants]
        if self._questions is not None and not self._stopping:
            rest = self._questions.patience.rest(since)
            asked = self._questions.admitted(asked, rest)
        turn = self._insist(self._claim, ended, self._wanted(asked), rest, lasting=bool(ended))
        self._given.difference_update((end.task_id, end.n) for end in ended)
        turn = self._without_those_here(turn)
        for one in done:
            one.settle(None)
        if self._questions is not None:
            self._answer(self._ask(self._questions, asked, turn, since), turn, {})
            return
        placed: dict[str, Attempt] = {}
        if turn.started:
            self._insist(self._dial, turn.started, since, placed, {}, lasting=True)
            self._attendance.has_dialled |= bool(placed)
        self._answer(asked, turn, placed)

    def _here(self) -> set[tuple[str, int]]:
        """What this process dials, or asks its gate about."""
        return self._given if self._questions is None else self._given | self._questions.open

    def _without_those_here(self, turn: Turn) -> Turn:
        """Let those be due again in a moment that were started a second time while this process has the first ones.

        Others took it for dead, and withdrew those. That they are not its own any more is seen when they go on.
        """
        here = self._here()
        twice = [attempt for attempt in turn.started if (attempt.task_id, attempt.n) in here]
        if not twice:
            return turn
        until = self._store.clock() + timedelta(seconds=RETRY_SECONDS)
        self._insist(self._dispatch.withdraw, [Unplaced(attempt=one, until=until) for one in twice], lasting=True)
        return replace(turn, started=[attempt for attempt in turn.started if attempt not in twice])

    def _ask(self, questions: Questions[_Asked], asked: list[_Asked], turn: Turn, since: datetime) -> list[_Asked]:
        """Ask about what was claimed; gives the lanes that got nothing."""
        lanes: defaultdict[str, deque[_Asked]] = defaultdict(deque)
        for one in asked:
            if not one.answer.cancelled():
                lanes[one.batch_call_id].append(one)
        claimed = [(attempt, lanes[attempt.batch_call_id]) for attempt in turn.started]
        mine = [(attempt, waiting.popleft() if waiting else None) for attempt, waiting in claimed]
        self._withdraw([attempt for attempt, lane in mine if lane is None])  # its lane is gone since it was claimed
        questions.ask([Asked(attempt, since, lane) for attempt, lane in mine if lane is not None])
        return [one for left in lanes.values() for one in left]

    def _hear(self, questions: Questions[_Asked]) -> list[_Asked]:
        """Dial what may be dialled, put off or withdraw the rest; gives the lanes that ask for another call."""
        let_through: list[Asked[_Asked]] = []
        held: list[Unplaced] = []
        gone: list[Attempt] = []
        again: list[_Asked] = []
        for one, verdict in questions.answers():
            why = held_by_gate(questions.patience, one.attempt, verdict, self._store.clock())
            if self._stopping or one.lane.answer.cancelled():
                gone.append(one.attempt)
            elif why is not None:
                held.append(why)
            else:
                let_through.append(one)
                continue
            again.append(one.lane)
        if self._stopping:  # nobody waits for the other answers
            dropped = questions.drop()
            gone += [one.attempt for one in dropped]
            again += [one.lane for one in dropped]
        self._withdraw(gone)
        if held:
            self._insist(self._dispatch.withdraw, held, lasting=True)
        again += self._dial_asked(let_through)
        return again + questions.let_in(self._store.clock(), all_of_them=self._stopping)

    def _dial_asked(self, let_through: list[Asked[_Asked]]) -> list[_Asked]:
        """Have the carrier dial them, each as old as its claim; gives the lanes whose call was withdrawn after all."""
        by_claim: defaultdict[datetime, list[Asked[_Asked]]] = defaultdict(list)
        for one in let_through:
            by_claim[one.since].append(one)
        again: list[_Asked] = []
        for since, these in by_claim.items():
            placed: dict[str, Attempt] = {}
            self._insist(self._dial, [one.attempt for one in these], since, placed, {}, lasting=True)
            self._attendance.has_dialled |= bool(placed)
            self._given.update((attempt.task_id, attempt.n) for attempt in placed.values())
            for one in these:
                if one.attempt.attempt_id not in placed:
                    again.append(one.lane)
                else:
                    one.lane.settle(one.attempt)
        return again

    def _withdraw(self, never_dialled: Sequence[Attempt]) -> None:
        """Let them be due again: about these nobody is asked any more."""
        if never_dialled:
            never = (lambda: False), (lambda _attempt: False)
            self._insist(self._dispatch.dial, never_dialled, self._store.clock(), *never, lasting=True)

    def _wanted(self, asked: list[_Asked]) -> Counter[str]:
        if self._stopping:
            return Counter()
        # A lane that was taken up while DBOS was closed is gone; it must be given no attempt.
        wanted = Counter(one.batch_call_id for one in asked if not one.answer.cancelled())
        for key in wanted.keys() & self._too_many.keys():
            gone = min(wanted[key], self._too_many[key])
            wanted[key] -= gone
            self._too_many[key] -= gone
        return +wanted

    def _claim(self, ended: list[Ended], wanted: Mapping[str, int], rest: Rest | None) -> Turn:
        if wanted:
            self._before_claims()
        if self._unsure:
            # The database failed when it was to commit: perhaps it did, and only its answer was lost.
            self._dispatch.withdraw_unknown(self._here())
        self._attendance.judge()
        self._unsure = True
        turn = self._dispatch.record_and_claim(ended, wanted, rest)
        self._unsure = False
        return turn

    def _dial(
        self, started: list[Attempt], since: datetime, placed: dict[str, Attempt], failed: dict[str, Exception]
    ) -> None:
        """Have the carrier dial; what a first try `placed` before the database failed is not asked for again.

        Nor is it forgotten for which batch calls the carrier `failed`, until they are paused.
        """

        def dial(attempt: Attempt) -> bool:
            if attempt.attempt_id in placed:  # the transaction is done again, without a batch call that is broken
                return True
            if attempt.batch_call_id in failed or stops.file_is_there(self._store.stop_file):
                return False
            placed[attempt.attempt_id] = attempt
            try:
                self._carrier.dial(attempt)
            except CarrierUnavailable as error:
                del placed[attempt.attempt_id]
                LOG.warning("The carrier does not take calls, %s; they are tried again", error)
                return False
            except Exception as error:  # noqa: BLE001 - perhaps it dialled: nobody may ask it again
                failed[attempt.batch_call_id] = error
                self._calls.lost(attempt)
            return True

        waiting = [attempt for attempt in started if attempt.attempt_id not in placed]
        self._before_claims()  # seconds may have passed since, while the gate was asked
        try:
            self._dispatch.dial(waiting, since, lambda: not self._stopping, dial)
        finally:
            for batch_call_id, error in list(failed.items()):
                broken.pause(self._store, batch_call_id, error)
                del failed[batch_call_id]

    def _answer(self, asked: list[_Asked], turn: Turn, placed: Mapping[str, Attempt]) -> None:
        """Give each lane its attempt, let it wait for its moment, or end it."""
        given: defaultdict[str, deque[Attempt]] = defaultdict(deque)
        self._given.update((attempt.task_id, attempt.n) for attempt in placed.values())
        for attempt in placed.values():
            given[attempt.batch_call_id].append(attempt)
        again: list[_Asked] = []
        for one in asked:
            if one.answer.cancelled():
                continue
            mine = given[one.batch_call_id]
            if mine:
                if one.settle(mine[0]):
                    mine.popleft()
            elif one.batch_call_id in turn.unfinished and not self._stopping:
                again.append(one)
            elif not self._park(one, turn):
                one.settle(None)
                self._look_at = min(self._look_at, monotonic() + FREED_SECONDS)
        if again:
            with self._changed:
                self._asked += again

    def _park(self, one: _Asked, turn: Turn) -> bool:
        """Let a lane wait whose batch call may dial again in a moment; as many as that moment can use."""
        if one.batch_call_id not in turn.paced or self._stopping:
            return False
        at, calls_per_second = turn.paced[one.batch_call_id]
        if at - self._store.clock() > PARKED_AT_MOST:
            self._resting[one.batch_call_id] = at
            return False
        _, parked = self._parked.setdefault(one.batch_call_id, (at, []))
        if len(parked) >= ceil(calls_per_second):
            return False
        parked.append(one)
        return True

    def _feed(self, lanes: Lanes) -> None:
        """Look for work, and open lanes for it."""
        with self._changed:
            self._woken = False
            mine = dict(self._lanes)
        self._notice_jumps()
        if self._halted():
            if not mine:
                self._insist(lanes.close)
            return
        self._insist(self._attendance.judge)
        work = self._insist(
            scheduler.look, self._store, self._carrier.capacity, self._carrier.name, self._carrier.calls_per_second
        )
        if work.moves:
            self._insist(self._dispatch.start_arrived, work.moves)
            self.wake()
        now = self._store.clock()
        self._resting = {key: at for key, at in self._resting.items() if at > now}
        dials = [one for one in work.open if one.batch_call_id not in self._resting]
        opener = self._insist(lanes.ready) if dials else None
        if dials and opener is None:
            dials = []
        else:
            rests = not (mine or work.open)
            self._insist(lambda: self._attendance.mark(rests=rests))
        standing = self._insist(opener.standing) if opener is not None else {}
        waiting = +(Counter(standing) - Counter(mine))
        parked = {key: len(these) for key, (_, these) in self._parked.items()}
        untaken = bool(waiting) and not mine
        self._untaken_since = (self._untaken_since or monotonic()) if untaken else None
        plan = scheduler.plan(dials, mine, waiting=waiting, capacity=self._carrier.capacity, parked=parked)
        self._too_many = Counter(plan.ended)
        if plan.opened and opener is not None:
            self._insist(opener.open, plan.opened)
        elif not (work.open or mine):
            self._insist(lanes.rest)
        moments = (work.next_at, *self._resting.values())
        self._next_at = min((moment for moment in moments if moment is not None), default=None)
        self._look_at = monotonic() + self._poll_seconds

    def _halted(self) -> bool:
        """Whether nothing may be dialled; said when it begins and when it ends.

        Where another process may dial from the same file, this engine ends with its calls: it holds the file's lock.
        """
        halt = self._insist(self._dispatch.halted)
        if halt is not None and halt.of_process and not self._store.shared:
            self.stop()
        elif halt is not None and halt != self._halt:
            LOG.error("%s", halt)
        elif halt is None and self._halt is not None:
            LOG.warning("What stopped the dialling is repaired; dialling goes on.")
        self._halt = halt
        if halt is not None:
            self._next_at = None
            self._look_at = monotonic() + self._poll_seconds
        return halt is not None

    def _look_for_a_stop(self) -> None:
        """The file means what the row means: other machines see only the row."""
        paused = self._insist(stops.obey_file, self._store)
        if paused is not None:
            LOG.warning("The file STOP is there: nothing is dialled, and %d live batch calls are paused.", paused)

    def _mark_the_end(self) -> None:
        """Say for the last time that this engine runs, if the database takes it at once."""
        if self._halt is not None or not self._attendance.began:
            return
        try:
            self._attendance.judge()
            self._attendance.mark(rests=True)
        except OUTAGE as error:
            LOG.debug("the end is not marked: %s", getattr(error, "orig", error))

    def _notice_jumps(self) -> None:
        offset = self._store.clock().timestamp() - monotonic()
        if self._offset is not None and abs(offset - self._offset) > JUMP.total_seconds():
            LOG.warning(
                "The clock was set %s by %.0f s. Calls go on by the new time; check the machine's clock.",
                "forward" if offset > self._offset else "back",
                abs(offset - self._offset),
            )
            # Their moments were by the old time.
            self._resting.clear()
            self._parked = {key: (self._store.clock(), parked) for key, (_, parked) in self._parked.items()}
        self._offset = offset

    def _insist(self, work: Callable[..., T], *args: object, lasting: bool = False) -> T:
        """Do it until the database takes it, or the engine is to end.

        What is `lasting` is done until the calls are cut off: an outcome that is known must not be lost.
        """

        def ends() -> bool:
            return self._cutting or (self._stopping and not lasting)

        failed = False
        while True:
            try:
                done = work(*args)
            except OUTAGE as error:
                if ends():
                    raise
                if not failed:
                    LOG.warning(AWAY, getattr(error, "orig", error))
                failed = True
                with self._changed:
                    self._changed.wait_for(ends, RETRY_SECONDS)
            else:
                if failed:
                    LOG.warning(BACK)
                return done
