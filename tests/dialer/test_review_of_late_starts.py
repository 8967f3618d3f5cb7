"""Ways around a late start, found in review: hours after its time a phone rings, and nobody was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer import app
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain.predial import Rest
from batchcall_mcp.dialer.domain.records import NewTask
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.engine import engine, heartbeat, lateness, scheduler
from batchcall_mcp.dialer.engine.dispatch import Dispatch, Turn
from batchcall_mcp.dialer.engine.outcomes import Ended
from batchcall_mcp.dialer.storage import commands, queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import batch_calls, installation
from batchcall_mcp.model import TaskStatus
from tests.dialer.conftest import ALWAYS, CALLER, Caller, Clock, NewCaller, emptied_postgresql, eventually, numbers

HOUR = timedelta(hours=1)
EVERY_DAY = {"days": list(range(7)), "timezone": "recipient"}


class Ground:
    """A database, the engine of one process on it, and whom its carrier was asked to dial."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock
        self.dialled: list[str] = []
        self.engine = self.another("one")
        self.look()

    def look(self) -> None:
        """What the engine does before it claims, and when it has looked for work."""
        lateness.judge(self.store, "simulated", HOUR)
        lateness.mark(self.store, "simulated", self.clock())

    def another(self, name: str) -> Dispatch:
        heartbeat.beat(self.store, name, 50)
        capacity = 50 if self.store.shared else None
        return Dispatch(self.store, name, daily_cap=9, retry_delay=timedelta(minutes=5), capacity=capacity)

    def launched(self, to_numbers: list[str], **columns: Any) -> str:
        asked = {"from_number": CALLER, "status": State.SENT, "max_concurrency": 50, "window": {**ALWAYS, **EVERY_DAY}}
        with self.store.writing() as tx:
            listed = [NewTask(to_number=number) for number in to_numbers]
            return commands.create(tx, "local", asked | columns, listed, self.store.now()).batch_call_id

    def dial(self, attempt: Attempt) -> bool:
        self.dialled.append(attempt.to_number)
        return True

    def turn(self, batch_call_id: str, ended: list[Ended] | None = None) -> list[Attempt]:
        """What the engine does when its lanes ask, as `Engine._claim` and `Engine._place` have it."""
        self.look()
        since = self.clock()
        started = self.engine.record_and_claim(ended or [], {batch_call_id: 50}).started
        self.engine.dial(started, since, lambda: True, self.dial)
        return started

    def state(self, batch_call_id: str) -> tuple[str, str | None]:
        query = sa.select(batch_calls.c.status, batch_calls.c.status_reason)
        with self.store.reading() as tx:
            return tuple(tx.execute(query.where(batch_calls.c.batch_call_id == batch_call_id)).one())


@pytest.fixture(params=["sqlite", "postgresql"])
def ground(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Ground]:
    store = Store.open(emptied_postgresql() if request.param == "postgresql" else tmp_path / "dialer.db", clock)
    yield Ground(store, clock)
    store.close()


def test_who_was_claimed_when_the_laptop_fell_asleep_is_late_when_it_wakes(ground: Ground) -> None:
    """What is withdrawn because it is stale was due when it was claimed, not when the machine woke up."""
    asleep = ground.launched(numbers(3), max_concurrency=50)
    since = ground.clock()
    started = ground.engine.record_and_claim([], {asleep: 50}).started
    assert len(started) == 3
    ground.clock.forward(days=3)
    ground.engine.dial(started, since, lambda: True, ground.dial)
    assert ground.dialled == []
    ground.turn(asleep)
    assert ground.dialled == []
    assert ground.state(asleep) == ("paused", "late")


def test_a_retry_of_one_person_in_the_gap_approves_nobody_else(ground: Ground) -> None:
    """Friday somebody retries one task by REST, which an engineless server takes; the rest was due on Tuesday."""
    half_done = ground.launched(numbers(3), max_concurrency=1)
    [first] = ground.turn(half_done)
    ground.engine.record_and_claim([Ended(first.task_id, 1, half_done, TaskStatus.FAILED)], {})
    assert len(ground.dialled) == 1
    ground.clock.forward(days=3)
    with ground.store.writing() as tx:
        record = queries.get(tx, "local", half_done, lock=True)
        commands.retry(tx, record, task_ids=[first.task_id], statuses=[], now=ground.store.now())
    ground.turn(half_done)
    assert set(ground.dialled) == {first.to_number}
    assert ground.state(half_done) == ("paused", "late")


@pytest.mark.parametrize("outcome", [TaskStatus.NO_ANSWER, TaskStatus.BUSY])
def test_a_redial_that_the_gap_swallowed_is_late(ground: Ground, outcome: TaskStatus) -> None:
    """The laptop slept during the call; its outcome is from Tuesday, and its redial was to be five minutes later."""
    redialled = ground.launched(
        numbers(1), retry_config={"enabled": True, "max_attempts": 1, "interval": None}, max_concurrency=1
    )
    [first] = ground.turn(redialled)
    ground.clock.forward(days=3)
    ground.turn(redialled, [Ended(first.task_id, 1, redialled, outcome)])
    ground.clock.forward(minutes=6)
    ground.turn(redialled)
    assert len(ground.dialled) == 1
    assert ground.state(redialled) == ("paused", "late")


def test_whom_a_dead_engine_left_in_a_call_is_not_redialled_days_later_without_a_yes(ground: Ground) -> None:
    """A rule redials who was interrupted, after a minute; the process died on Tuesday, the next starts on Friday."""
    rule = {"condition": "interrupted", "enabled": True, "retry_timing": {"duration_minutes": 1}}
    left = ground.launched(numbers(1), retry_rules=[rule])
    ground.turn(left)
    assert len(ground.dialled) == 1
    ground.clock.forward(days=3)
    ground.engine = ground.another("two")
    ground.look()
    ground.engine.interrupt(["one"])
    ground.clock.forward(minutes=2)
    ground.turn(left)
    assert len(ground.dialled) == 1
    assert ground.state(left) == ("paused", "late")


def test_a_whole_window_that_was_slept_through_is_late_however_short_it_is(ground: Ground) -> None:
    """Called from 12:00 to 13:00: a day later is a day later, although only sixty minutes were missed."""
    ground.clock.now = datetime(2026, 11, 24, 18, 0, tzinfo=UTC)  # Tuesday, 10:00 in Los Angeles
    noon = ground.launched(numbers(2), window={"start": "12:00", "end": "13:00", **EVERY_DAY})
    ground.turn(noon)
    ground.clock.forward(days=1)
    ground.turn(noon)
    ground.clock.forward(hours=2)
    ground.turn(noon)
    assert ground.dialled == []
    assert ground.state(noon) == ("paused", "late")


def test_without_the_row_that_says_when_an_engine_ran_it_is_decided_once(ground: Ground) -> None:
    """A batch call of two hours is not late for being long, each minute again."""
    with ground.store.writing() as tx:
        tx.execute(installation.delete())
    long = ground.launched(numbers(80), max_concurrency=1)
    for minute in range(0, 120, 10):
        ground.look()
        assert ground.state(long) == ("sent", None), f"after {minute} minutes"
        [one] = ground.turn(long)
        ground.clock.forward(minutes=10)
        ground.engine.record_and_claim([Ended(one.task_id, 1, long, TaskStatus.COMPLETED)], {})


def test_a_machine_that_falls_asleep_while_it_dials_rings_nobody_more_when_it_wakes(ground: Ground) -> None:
    """Fifty are claimed at once; in the middle of asking the carrier the laptop is closed, until the night."""
    fifty = ground.launched(numbers(50))

    def sleeps_after_the_first(attempt: Attempt) -> bool:
        ground.dial(attempt)
        if len(ground.dialled) == 1:
            ground.clock.forward(hours=15)
        return True

    since = ground.clock()
    started = ground.engine.record_and_claim([], {fifty: 50}).started
    ground.engine.dial(started, since, lambda: True, sleeps_after_the_first)
    assert len(ground.dialled) == 1


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> dict[str, Any]:
    database = {"database": emptied_postgresql()} if request.param == "postgresql" else {}
    return {"late_after": HOUR, **database}


def has_failed(caller: Caller, times: int) -> bool:
    return caller.dialer._failures >= times


async def test_an_engine_that_fails_again_and_again_does_not_run(
    new_caller: NewCaller, place: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it runs, fails before it dials, and starts again; three hours later somebody mends it."""
    look, broken = scheduler.look, [True]

    def fails(*args: Any) -> scheduler.Work:
        if broken:
            raise RuntimeError("nobody thought of this")
        return look(*args)

    monkeypatch.setattr(scheduler, "look", fails)
    monkeypatch.setattr(app, "LOCK_RETRY_SECONDS", 0.01)
    async with new_caller(**place) as caller:
        due = await caller.create(numbers(3), send_now=True)
        for _ in range(4):
            caller.clock.forward(minutes=50)
            enough = caller.dialer._failures + 2
            await eventually(partial(has_failed, caller, enough))
        broken.clear()
        data = await caller.until(due, lambda data: data["status"] != "sent")
        assert (data["status"], caller.dialled()) == ("paused", [])
        assert data["status_reason"]["code"] == "late"


async def test_an_engine_that_waits_for_its_turn_does_not_run(
    new_caller: NewCaller, place: dict[str, Any], tmp_path: Path
) -> None:
    """Another dialer of this process dials for three hours; then it is this one's turn, and its people are late."""
    async with new_caller(folder=tmp_path / "other", simulated_speed=0.01) as other:
        await other.create(numbers(1, 5), send_now=True)
        await eventually(lambda: len(other.dialled()) == 1)
        async with new_caller(folder=tmp_path / "mine", **place) as caller:
            due = await caller.create(numbers(3), send_now=True)
            caller.clock.forward(minutes=100)
            data = await caller.until(due, lambda data: data["status"] != "sent")
            assert (data["status"], caller.dialled()) == ("paused", [])


async def test_whom_a_lost_answer_claimed_before_an_outage_of_days_is_late_after_it(
    new_caller: NewCaller, place: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database made the claim, its answer was lost, and it was away for three days."""
    claim, lost = Dispatch.record_and_claim, list[int]()

    async with new_caller(start=False, **place) as caller:

        def loses(self: Dispatch, ended: Sequence[Ended], wanted: Mapping[str, int], rest: Rest | None = None) -> Turn:
            turn = claim(self, ended, wanted, rest)
            if turn.started and not lost:
                lost.append(len(turn.started))
                caller.clock.forward(days=3)
                raise sa.exc.OperationalError("COMMIT", None, Exception("the server is away"))
            return turn

        monkeypatch.setattr(Dispatch, "record_and_claim", loses)
        monkeypatch.setattr(engine, "RETRY_SECONDS", 0.01)
        # As after an engine that ran until a moment ago.
        lateness.mark(caller.dialer.store(), "simulated", caller.clock())
        out = await caller.create(numbers(1), send_now=True)
        await caller.dialer.start()
        data = await caller.until(out, lambda data: data["status"] != "sent")
        assert lost == [1]
        assert caller.dialled() == []
        assert (data["status"], data["status_reason"]["code"]) == ("paused", "late")
