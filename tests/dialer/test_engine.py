"""The dialer dials: when it may, whom it may, as often as it may."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer import app
from batchcall_mcp.dialer.carriers.base import SIMULATED, Attempt, Line, Outcome
from batchcall_mcp.dialer.domain.predial import Rest
from batchcall_mcp.dialer.domain.records import NewTask
from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.engine import claims, scheduler
from batchcall_mcp.dialer.engine import engine as engine_module
from batchcall_mcp.dialer.engine.dispatch import Dispatch, Turn
from batchcall_mcp.dialer.engine.lanes import opening as lanes_module
from batchcall_mcp.dialer.engine.outcomes import Ended
from batchcall_mcp.dialer.engine.supervisor import EngineOptions, Supervisor
from batchcall_mcp.dialer.storage import commands, queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import tasks
from batchcall_mcp.model import TaskStatus
from tests.dialer.conftest import CALLER, Caller, Clock, NewCaller, body, emptied_postgresql, eventually, numbers
from tests.postgresql import postgresql_url

NOW_AND_AGAIN = [{"condition": "no_answer", "retry_timing": {"type": "AFTER", "duration_minutes": 30}}]


async def test_every_last_digit_has_its_outcome_and_the_counts_add_up(caller: Caller) -> None:
    """0-5 answered, 6 no answer, 7 busy, 8 voicemail, 9 failed; answered by a machine is picked up."""
    batch_call_id = await caller.create([f"+1213200000{digit}" for digit in range(10)], send_now=True)
    data = await caller.until_status(batch_call_id, "completed")
    assert {status: count for status, count in data["counts"].items() if count} == {
        "completed": 6,
        "no_answer": 1,
        "busy": 1,
        "voicemail": 1,
        "failed": 1,
    }
    assert (data["total"], data["sent"], data["picked_up"], data["completed"]) == (10, 10, 7, 6)
    tasks = await caller.tasks(batch_call_id)
    assert [task["attempts"] for task in tasks] == [1] * 10
    assert [line["attempt_id"] for line in caller.dialled()] == [task["call_id"] for task in tasks]
    assert tasks[9]["error_message"]
    assert tasks[0]["error_message"] is None


async def test_a_batch_call_starts_at_its_time(caller: Caller) -> None:
    """Not before, and without anybody asking again."""
    at = caller.clock() + timedelta(hours=1)
    batch_call_id = await caller.create(numbers(2), trigger_timestamp=at.isoformat())
    caller.clock.forward(minutes=59, seconds=59)
    other = await caller.create(numbers(1), send_now=True)
    await caller.until_status(other, "completed")
    assert (await caller.get(batch_call_id))["status"] == "scheduled"
    caller.clock.forward(seconds=1)
    data = await caller.until_status(batch_call_id, "completed")
    assert data["started_timestamp"] == data["scheduled_timestamp"]


async def test_nobody_is_dialled_outside_the_hours_of_the_place_called(caller: Caller) -> None:
    """Noon in Los Angeles is 21:00 in Berlin: too late there, and the task says until when it waits."""
    asked = body([*numbers(1), "+493012345670"], send_now=True)
    del asked["window"]
    batch_call_id = (await caller.ask("POST", "/batch-call", asked))["batch_call_id"]
    await caller.until(batch_call_id, lambda data: data["counts"]["completed"] == 1)
    [_, berlin] = await caller.tasks(batch_call_id)
    assert berlin["status"] == "pending"
    assert berlin["due_at"] == "2026-11-24T07:00:00.000+00:00"
    assert "outside calling hours" in berlin["error_message"]
    caller.clock.now = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
    await caller.until_status(batch_call_id, "completed")
    assert [line["to_number"] for line in caller.dialled()] == [*numbers(1), "+493012345670"]


async def test_a_toll_free_number_is_dialled_only_while_all_its_zones_are_inside(caller: Caller) -> None:
    """+1 800 may be anywhere from Hawaii to Newfoundland."""
    window = {"start": "08:00", "end": "14:00"}
    await caller.create(["+18002530000"], window=window, send_now=True)
    seen = await caller.create(numbers(1), window=window, send_now=True)
    await caller.until_status(seen, "completed")
    assert [line["to_number"] for line in caller.dialled()] == numbers(1)


async def test_a_number_of_no_known_place_is_skipped_unless_a_zone_is_given(caller: Caller) -> None:
    """+870 is a satellite."""
    alone = await caller.create(["+870773111630"], send_now=True)
    await caller.until_status(alone, "completed")
    [task] = await caller.tasks(alone)
    assert (task["status"], task["attempts"]) == ("skipped", 0)
    assert task["error_message"] == "time zone of the number is not known; give a timezone"
    zoned = await caller.create(["+870773111630"], send_now=True, timezone="America/Los_Angeles")
    assert (await caller.until_status(zoned, "completed"))["completed"] == 1


async def test_a_number_is_dialled_three_times_a_day_over_all_batch_calls(caller: Caller) -> None:
    """Deleted ones too; the fourth waits until the first is a day old."""
    for _ in range(3):
        batch_call_id = await caller.create(numbers(1), send_now=True)
        await caller.until_status(batch_call_id, "completed")
        await caller.ask("DELETE", f"/batch-call/{batch_call_id}")
        caller.clock.forward(hours=1)
    fourth = await caller.create(numbers(2), send_now=True)
    await caller.until(fourth, lambda data: data["completed"] == 1)
    [waiting, done] = await caller.tasks(fourth)
    assert (waiting["status"], done["status"]) == ("pending", "completed")
    assert waiting["due_at"] == "2026-11-24T20:00:00.000+00:00"
    assert "3 times in 24 hours" in waiting["error_message"]
    caller.clock.forward(hours=21)
    await caller.until_status(fourth, "completed")
    assert Counter(line["to_number"] for line in caller.dialled()) == {numbers(2)[0]: 4, numbers(2)[1]: 1}


async def test_the_cap_counts_within_one_batch_call_too(caller: Caller) -> None:
    """A list that names one person five times."""
    batch_call_id = await caller.create(numbers(1) * 5, send_now=True)
    await caller.until(batch_call_id, lambda data: data["completed"] == 3 and data["counts"]["calling"] == 0)
    assert len(caller.dialled()) == 3


async def test_a_redial_is_a_new_attempt_after_its_delay(caller: Caller) -> None:
    """Invariant 3: it waits in the table, and the number is answered the second time."""
    batch_call_id = await caller.create(
        numbers(1, last_digit=6), send_now=True, retry_config={"max_attempts": 2}, retry_rules=NOW_AND_AGAIN
    )
    await caller.until(batch_call_id, lambda data: data["sent"] == 1 and data["counts"]["pending"] == 1)
    [task] = await caller.tasks(batch_call_id)
    assert (task["attempts"], task["due_at"]) == (1, "2026-11-23T20:30:00.000+00:00")
    caller.clock.forward(minutes=30)
    data = await caller.until_status(batch_call_id, "completed")
    assert data["completed"] == 1
    [task] = await caller.tasks(batch_call_id)
    assert [line["attempt_id"] for line in caller.dialled()] == [f"{task['task_id']}:1", f"{task['task_id']}:2"]


async def test_a_redial_passes_the_do_not_call_list_again(new_caller: NewCaller, tmp_path: Path) -> None:
    """Invariant 3: who asked not to be called in the meantime is not; the file is read again by itself."""
    listed = tmp_path / "do-not-call.txt"
    listed.write_text("+12132999990\n")
    async with new_caller(do_not_call=[listed]) as caller:
        batch_call_id = await caller.create(
            [*numbers(1, last_digit=6), "+12132999990"],
            send_now=True,
            retry_config={"max_attempts": 2},
            retry_rules=NOW_AND_AGAIN,
        )
        await caller.until(batch_call_id, lambda data: data["counts"]["skipped"] == data["sent"] == 1)
        await caller.until(batch_call_id, lambda data: data["counts"]["pending"] == 1)
        listed.write_text("+12132999990\n+12132000006\n")
        caller.clock.forward(minutes=30)
        await caller.until_status(batch_call_id, "completed")
        [task, skipped] = await caller.tasks(batch_call_id)
        assert (task["status"], task["attempts"]) == ("no_answer", 1)
        assert (skipped["status"], skipped["attempts"]) == ("skipped", 0)
        assert "do-not-call" in task["error_message"]
        assert len(caller.dialled()) == 1


async def test_a_process_without_the_setting_does_not_take_the_list_from_the_others(
    new_caller: NewCaller, tmp_path: Path
) -> None:
    """They share one database, and whose engine dials is chance."""
    listed = tmp_path / "do-not-call.txt"
    listed.write_text("+12132999990\n")
    async with new_caller(do_not_call=[listed]):
        pass
    async with new_caller() as caller:
        batch_call_id = await caller.create(["+12132999990"], send_now=True)
        data = await caller.until_status(batch_call_id, "completed")
        assert (data["counts"]["skipped"], caller.dialled()) == (1, [])


async def test_out_of_redials_the_last_outcome_is_final(caller: Caller) -> None:
    """Busy, three times in all."""
    batch_call_id = await caller.create(
        numbers(1, last_digit=7),
        send_now=True,
        retry_config={"max_attempts": 2},
        retry_rules=[{"condition": "busy", "retry_timing": {"type": "AFTER", "duration_minutes": 0}}],
    )
    data = await caller.until_status(batch_call_id, "completed")
    assert (data["counts"]["busy"], len(caller.dialled())) == (1, 3)


async def test_cancelling_while_a_redial_waits_keeps_the_outcome(caller: Caller) -> None:
    """That person was dialled and not reached: that is what happened, not `cancelled`."""
    batch_call_id = await caller.create(
        numbers(1, last_digit=6), send_now=True, retry_config={"max_attempts": 2}, retry_rules=NOW_AND_AGAIN
    )
    await caller.until(batch_call_id, lambda data: data["sent"] == 1 and data["counts"]["pending"] == 1)
    data = await caller.ask("POST", f"/batch-call/{batch_call_id}/cancel")
    assert data["counts"]["no_answer"] == 1


async def test_a_pace_does_not_stop_for_an_hour_when_the_clock_is_set_back(
    new_caller: NewCaller, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits for its moment, on the only line, waits by the new time; and it is said."""
    async with new_caller(capacity=1) as caller:
        batch_call_id = await caller.create(numbers(3))
        caller.clock.forward(hours=1)
        await eventually(lambda: "The clock was set forward by 3600 s." in caplog.text)
        with caller.dialer.store().writing() as tx:
            tx.exec_driver_sql("update batch_calls set calls_per_second = 1.0")
        await caller.ask("POST", f"/batch-call/{batch_call_id}/execute")
        await caller.until(batch_call_id, lambda data: data["completed"] == 1)
        engine = caller.dialer._supervisor and caller.dialer._supervisor.engine
        await eventually(lambda: bool(engine and engine._parked))
        caller.clock.forward(minutes=-30)
        await caller.until(batch_call_id, lambda data: data["completed"] == 2)
        assert "The clock was set back by 1800 s." in caplog.text
        caller.clock.forward(seconds=1)
        await caller.until_status(batch_call_id, "completed")


async def test_retry_dials_exactly_the_named_tasks_again_in_place(caller: Caller) -> None:
    """Attempts are kept, and the batch call runs and completes again."""
    batch_call_id = await caller.create(["+12132000000", "+12132000006", "+12132000007", "+12132000009"], send_now=True)
    await caller.until_status(batch_call_id, "completed")
    busy = (await caller.tasks(batch_call_id))[2]
    asked = {"task_status": ["no_answer"], "task_ids": [busy["task_id"]]}
    data = await caller.ask("POST", f"/batch-call/{batch_call_id}/retry", asked)
    assert (data["retried_count"], data["status"], data["completed_timestamp"]) == (2, "sent", None)
    await caller.until_status(batch_call_id, "completed")
    tasks = await caller.tasks(batch_call_id)
    assert [(task["status"], task["attempts"]) for task in tasks] == [
        ("completed", 1),
        ("completed", 2),
        ("busy", 2),
        ("failed", 1),
    ]
    assert len(caller.dialled()) == 6


async def test_a_retry_that_matches_nobody_changes_nothing(caller: Caller) -> None:
    """And says so."""
    batch_call_id = await caller.create(numbers(1), send_now=True)
    before = await caller.until_status(batch_call_id, "completed")
    data = await caller.ask("POST", f"/batch-call/{batch_call_id}/retry", {"task_status": ["busy"]})
    assert before.pop("held_back") == [], "which only a read tells"
    assert before.pop("results")["choices"] == {"1": 1}, "and so is this"
    assert data == before | {"retried_count": 0}


async def test_a_retry_of_an_unfinished_or_foreign_task_is_refused_as_a_whole(new_caller: NewCaller) -> None:
    """Nothing of it happens."""
    async with new_caller(start=False) as desk:
        batch_call_id = await desk.create(numbers(2), send_now=True)
        pending = (await desk.tasks(batch_call_id))[0]["task_id"]
        path = f"/batch-call/{batch_call_id}/retry"
        assert pending in (await desk.ask("POST", path, {"task_ids": [pending]}, status=409))["error"]
        assert "task_x" in (await desk.ask("POST", path, {"task_ids": ["task_x"]}, status=422))["error"]
        await desk.ask("POST", path, {}, status=422)
        await desk.ask("POST", path, {"task_status": ["pending"]}, status=422)
        draft = await desk.create(numbers(1))
        await desk.ask("POST", f"/batch-call/{draft}/retry", {"task_status": ["busy"]}, status=409)


async def test_after_pause_nobody_new_is_dialled_and_resume_goes_on(new_caller: NewCaller) -> None:
    """Calls in progress end as they end."""
    async with new_caller(simulated_speed=200) as caller:
        batch_call_id = await caller.create(numbers(60), send_now=True, max_concurrency=5)
        await caller.until(batch_call_id, lambda data: data["sent"] >= 10)
        await caller.ask("POST", f"/batch-call/{batch_call_id}/pause")
        dialled = len(caller.dialled())
        await caller.until(batch_call_id, lambda data: data["counts"]["calling"] == 0)
        assert len(caller.dialled()) == dialled < 60
        await caller.ask("POST", f"/batch-call/{batch_call_id}/resume")
        await caller.until_status(batch_call_id, "completed")
        assert len(caller.dialled()) == 60


async def test_closing_interrupts_who_is_on_the_line_and_nobody_is_dialled_again(new_caller: NewCaller) -> None:
    """The next one to hold the lock goes on with the others."""
    async with new_caller(simulated_speed=1) as caller:
        batch_call_id = await caller.create(numbers(4), send_now=True, max_concurrency=2)
        await eventually(lambda: len(caller.dialled()) == 2)
    async with new_caller() as caller:
        data = await caller.until_status(batch_call_id, "completed")
        assert (data["counts"]["interrupted"], data["counts"]["completed"]) == (2, 2)
        assert max(Counter(line["to_number"] for line in caller.dialled()).values()) == 1


async def test_a_policy_that_names_interrupted_dials_them_again(new_caller: NewCaller) -> None:
    """Invariant 1's only exception."""
    rules = [{"condition": "interrupted", "retry_timing": {"type": "AFTER", "duration_minutes": 0}}]
    async with new_caller(simulated_speed=1) as caller:
        batch_call_id = await caller.create(numbers(1), send_now=True, retry_rules=rules)
        await eventually(lambda: len(caller.dialled()) == 1)
    async with new_caller() as caller:
        assert (await caller.until_status(batch_call_id, "completed"))["completed"] == 1
        assert len(caller.dialled()) == 2


async def test_start_and_close_may_be_repeated(new_caller: NewCaller) -> None:
    """Several at once, too."""
    async with new_caller(start=False) as caller:
        await asyncio.gather(*(caller.dialer.start() for _ in range(5)))
        assert (await caller.http.get("/healthz")).json()["engine"] == "running"
        await caller.dialer.aclose()
        await caller.dialer.aclose()
        assert (await caller.http.get("/healthz")).json()["engine"] == "standby"
        await caller.dialer.start()
        batch_call_id = await caller.create(numbers(1), send_now=True)
        await caller.until_status(batch_call_id, "completed")


class WatchedCarrier:
    """Looks, at each dial, at what other connections see; calls last until released."""

    name = "simulated"
    title = "Watched"
    places_real_calls = False
    calls_per_second: float | None = None
    calls_outlive_us = False

    def __init__(self, path: Path, capacity: int = 50) -> None:
        self.capacity = capacity
        self.path = path
        self.committed: list[bool] = []
        self.live: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.placed: list[Attempt] = []
        self.ends = threading.Event()

    def dial(self, attempt: Attempt) -> None:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        row = connection.execute("select 1 from attempts where task_id = ? and n = ?", (attempt.task_id, attempt.n))
        self.committed.append(row.fetchone() is not None)
        connection.close()
        self.placed.append(attempt)
        for line in (attempt.batch_call_id, "all"):
            self.live[line] += 1
            self.peak[line] = max(self.peak[line], self.live[line])

    async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
        await eventually(self.ends.is_set)  # the test's event loop is another one
        # They end one by one, so that lines fall free while others are in use.
        await asyncio.sleep(int(attempt.to_number[-3:]) % 7 / 1000)
        for key in (attempt.batch_call_id, "all"):
            self.live[key] -= 1
        return Outcome(TaskStatus.COMPLETED)


class Bench:
    """A store with a running batch call, and an engine without a REST face."""

    def __init__(self, path: Path, clock: Clock, database: str | None = None) -> None:
        self.path = path
        self.clock = clock
        self.store = Store.open(database or path, clock)
        self.dispatch = Dispatch(self.store, "bench", daily_cap=3, retry_delay=timedelta(minutes=5))

    def running(self, count: int, max_concurrency: int = 10, **given: object) -> str:
        columns = {
            **given,
            "from_number": CALLER,
            "status": State.SENT,
            "max_concurrency": max_concurrency,
            "window": {"start": "00:00", "end": "24:00", "days": list(range(7)), "timezone": "recipient"},
        }
        with self.store.writing() as tx:
            tasks = [NewTask(to_number=number) for number in numbers(count)]
            return commands.create(tx, "local", columns, tasks, self.store.now()).batch_call_id

    def move(self, batch_call_id: str, action: Action) -> None:
        with self.store.writing() as tx:
            commands.move(tx, queries.get(tx, "local", batch_call_id, lock=True), action, self.store.now())

    def statuses(self, batch_call_id: str) -> Counter[str]:
        with self.store.reading() as tx:
            counts = queries.counts(tx, [batch_call_id])[batch_call_id]
        return Counter({status.value: count for status, count in counts.by_status.items()})

    def claim(self, batch_call_id: str, count: int) -> list[Attempt]:
        return self.dispatch.record_and_claim([], {batch_call_id: count}).started

    def dial(self, started: list[Attempt], since: datetime | None = None) -> list[Attempt]:
        placed: list[Attempt] = []

        def dial(attempt: Attempt) -> bool:
            placed.append(attempt)
            return True

        self.dispatch.dial(started, since or self.clock(), lambda: True, dial)
        return placed

    def attempts(self) -> int:
        with self.store.reading() as tx:
            return queries.attempts_since(tx, "local", 0, SIMULATED)

    @asynccontextmanager
    async def engine(self, carrier: WatchedCarrier, dispatch: type[Dispatch] = Dispatch) -> AsyncIterator[Supervisor]:
        host = Supervisor(
            self.store,
            carrier,
            EngineOptions(daily_cap=3, retry_delay=timedelta(minutes=5), poll_seconds=0.1),
            before_claims=lambda: None,
            dispatch=dispatch,
        )
        closing, launched = asyncio.Event(), asyncio.Event()
        run = asyncio.create_task(host.run(closing, launched.set))
        await launched.wait()
        yield host
        closing.set()
        await run


@pytest.fixture
def bench(tmp_path: Path, clock: Clock) -> Iterator[Bench]:
    bench = Bench(tmp_path / "bench.db", clock)
    yield bench
    bench.store.close()


async def test_an_attempt_is_committed_before_the_carrier_is_asked(bench: Bench) -> None:
    """Invariant 1: another connection sees it already."""
    carrier = WatchedCarrier(bench.path)
    carrier.ends.set()
    bench.running(30)
    async with bench.engine(carrier):
        await eventually(lambda: len(carrier.committed) == 30)
    assert carrier.committed == [True] * 30


@pytest.mark.parametrize(("capacity", "peaks"), [(50, (7, 13)), (20, (7, 13)), (12, (6, 6))])
async def test_concurrency_is_exact(bench: Bench, capacity: int, peaks: tuple[int, int]) -> None:
    """It is reached, and never exceeded: not a batch call's (7 and 13), nor the carrier's, which is shared fairly."""
    carrier = WatchedCarrier(bench.path, capacity=capacity)
    first, second = bench.running(100, max_concurrency=7), bench.running(100, max_concurrency=13)
    async with bench.engine(carrier):
        await eventually(lambda: carrier.live["all"] == min(20, capacity))
        assert (carrier.live[first], carrier.live[second]) == peaks
        carrier.ends.set()
        await eventually(lambda: len(carrier.placed) == 200)
    assert carrier.peak["all"] == min(20, capacity)
    assert carrier.peak[first] <= 7
    assert carrier.peak[second] <= 13


async def test_more_batch_calls_than_lines_take_turns(bench: Bench) -> None:
    """A long list that came first does not keep the others waiting until its end."""
    carrier = WatchedCarrier(bench.path, capacity=2)
    first = {bench.running(500, max_concurrency=1) for _ in range(2)}
    async with bench.engine(carrier):
        await eventually(lambda: carrier.live["all"] == 2)
        later = bench.running(500, max_concurrency=1)
        carrier.ends.set()
        await eventually(lambda: bench.statuses(later)["completed"] > 0)
        assert all(bench.statuses(one)["pending"] for one in first)


async def test_a_slow_pace_keeps_no_line_from_others(bench: Bench) -> None:
    """Its next call is due in a quarter of an hour; it does not ask all the time, either."""
    asked: list[str] = []

    class CountingDispatch(Dispatch):
        def record_and_claim(self, ended: Sequence[Ended], wanted: Mapping[str, int], rest: Rest | None = None) -> Turn:
            asked.extend(wanted)
            return super().record_and_claim(ended, wanted, rest)

    carrier = WatchedCarrier(bench.path, capacity=1)
    carrier.ends.set()
    slow = bench.running(5, calls_per_second=0.001)
    async with bench.engine(carrier, CountingDispatch):
        await eventually(lambda: bench.statuses(slow)["completed"] == 1)
        other = bench.running(20)
        await eventually(lambda: bench.statuses(other) == {"completed": 20})
        assert asked.count(slow) <= 3
        bench.clock.forward(seconds=1_000)
        await eventually(lambda: bench.statuses(slow)["completed"] == 2)


@pytest.mark.parametrize(("action", "status"), [(Action.PAUSE, "pending"), (Action.CANCEL, "cancelled")])
def test_what_was_claimed_but_not_placed_is_withdrawn(bench: Bench, action: Action, status: str) -> None:
    """Invariant 2: pause answered between the two, so that nothing may be dialled any more."""
    batch_call_id = bench.running(5)
    started = bench.claim(batch_call_id, 3)
    assert bench.statuses(batch_call_id) == {"calling": 3, "pending": 2}
    bench.move(batch_call_id, action)
    assert bench.dial(started) == []
    assert bench.statuses(batch_call_id) == {status: 5}
    assert bench.attempts() == 0


def test_a_paused_batch_call_is_not_claimed_even_if_it_was_seen_due(bench: Bench) -> None:
    """Invariant 2: the claiming transaction looks again."""
    batch_call_id = bench.running(5)
    [seen] = scheduler.look(bench.store, 10).open
    assert seen.batch_call_id == batch_call_id
    bench.move(batch_call_id, Action.PAUSE)
    assert bench.claim(batch_call_id, 10) == []


def test_a_claim_that_became_stale_is_checked_again(bench: Bench) -> None:
    """The machine slept between the two: hours may have closed since."""
    batch_call_id = bench.running(5)
    since = bench.clock()
    started = bench.claim(batch_call_id, 3)
    bench.clock.forward(minutes=5)
    assert bench.dial(started, since) == []
    assert bench.statuses(batch_call_id) == {"pending": 5}


def test_what_expired_since_it_was_claimed_is_not_placed(bench: Bench) -> None:
    """Another transaction held the batch call for some seconds in between."""
    since = bench.clock()
    batch_call_id = bench.running(5, expires_at=bench.store.now() + 2_000)
    started = bench.claim(batch_call_id, 3)
    bench.clock.forward(seconds=2)
    assert bench.dial(started, since) == []
    bench.dispatch.start_arrived([batch_call_id])
    assert bench.statuses(batch_call_id) == {"expired": 5}


def test_what_somebody_else_marked_interrupted_is_not_placed(bench: Bench) -> None:
    """Another engine took over between the two."""
    batch_call_id = bench.running(5)
    started = bench.claim(batch_call_id, 3)
    assert Dispatch(bench.store, "another", daily_cap=3, retry_delay=timedelta(0)).interrupt_others() == 3
    assert bench.dial(started) == []
    assert bench.statuses(batch_call_id) == {"interrupted": 3, "pending": 2}


def test_an_outcome_is_written_once(bench: Bench) -> None:
    """A second report of the same attempt changes nothing."""
    batch_call_id = bench.running(1)
    [attempt] = bench.claim(batch_call_id, 1)
    for status in (TaskStatus.COMPLETED, TaskStatus.BUSY):
        bench.dispatch.record_and_claim([Ended(attempt.task_id, 1, batch_call_id, status)], {})
    assert bench.statuses(batch_call_id) == {"completed": 1}


def test_a_list_outside_its_hours_is_put_off_a_part_at_a_time(bench: Bench) -> None:
    """No transaction grows with the list, and what is put off is not looked at again before its time."""
    batch_call_id = bench.running(5_000)
    with bench.store.writing() as tx:
        row = queries.get(tx, "local", batch_call_id)
        window = {**row.window, "start": "15:00", "end": "16:00"}
        commands.update(tx, row, {"window": window}, None, bench.store.now())
    turns = 0
    while (work := scheduler.look(bench.store, 50)).open:
        turn = bench.dispatch.record_and_claim([], {batch_call_id: 50})
        turns += 1
        assert turn.started == []
        assert turn.unfinished == ({batch_call_id} if bench.statuses(batch_call_id)["pending"] and turns < 3 else set())
    assert 2 <= turns <= 5
    assert work.next_at == datetime(2026, 11, 23, 23, 0, tzinfo=UTC)


class FailingDispatch(Dispatch):
    """A database that fails once before each of its commits, or after it, when the answer was lost on the way."""

    fail: ClassVar[set[str]] = set()

    def record_and_claim(self, ended: Sequence[Ended], wanted: Mapping[str, int], rest: Rest | None = None) -> Turn:
        kind = "record" if ended else "claim"
        if kind in self.fail:
            self.fail.remove(kind)
            raise sa.exc.OperationalError("database is locked", None, Exception("database is locked"))
        turn = super().record_and_claim(ended, wanted, rest)
        if turn.started and "claimed" in self.fail:
            self.fail.remove("claimed")
            raise sa.exc.OperationalError("server closed the connection", None, Exception("server closed"))
        return turn

    def dial(self, started: Sequence[Attempt], since: datetime, may_dial: Any, dial: Any) -> None:
        super().dial(started, since, may_dial, dial)
        if "place" in self.fail:
            self.fail.remove("place")
            raise sa.exc.OperationalError("disk I/O error", None, Exception("disk I/O error"))


async def test_a_failing_database_loses_no_outcome_and_dials_nobody_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a commit fails after the carrier was asked."""
    monkeypatch.setattr(engine_module, "RETRY_SECONDS", 0)
    monkeypatch.setattr(FailingDispatch, "fail", {"claim", "record", "claimed", "place"})
    carrier = WatchedCarrier(bench.path)
    carrier.ends.set()
    batch_call_id = bench.running(8, max_concurrency=4)
    async with bench.engine(carrier, FailingDispatch):
        await eventually(lambda: bench.statuses(batch_call_id) == {"completed": 8})
    assert FailingDispatch.fail == set()
    assert len({attempt.attempt_id for attempt in carrier.placed}) == len(carrier.placed) == 8


class BrokenCarrier(WatchedCarrier):
    """Loses every call."""

    async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
        raise ConnectionError(attempt.attempt_id)


async def test_a_carrier_that_loses_calls_makes_them_failed(bench: Bench) -> None:
    """And the engine goes on."""
    batch_call_id = bench.running(3)
    async with bench.engine(BrokenCarrier(bench.path)):
        await eventually(lambda: bench.statuses(batch_call_id) == {"failed": 3})


class CancelledJustNow(Future[Attempt | None]):
    """The answer of a lane that another thread cancels right after the engine has seen that nobody did."""

    def cancelled(self) -> bool:
        seen = super().cancelled()
        self.cancel()
        return seen


async def test_a_lane_that_is_cancelled_at_the_moment_of_its_answer_fails_no_engine(bench: Bench) -> None:
    """And what it would have dialled goes to another lane of the batch call."""
    batch_call_id = bench.running(1)
    [attempt] = bench.claim(batch_call_id, 1)
    engine = engine_module.Engine(bench.dispatch, bench.store, WatchedCarrier(bench.path), before_claims=lambda: None)
    gone, ended = (engine_module._Asked(key, answer=CancelledJustNow()) for key in (batch_call_id, "another"))
    waiting = engine_module._Asked(batch_call_id)
    engine._answer([ended, gone, waiting], Turn([attempt]), {attempt.attempt_id: attempt})
    assert waiting.answer.result(timeout=0) == attempt
    assert gone.answer.cancelled()
    assert ended.answer.cancelled()


class BuggyDispatch(Dispatch):
    """Fails in a way that belongs to no batch call, when the carrier has been asked."""

    def dial(self, *asked: Any) -> None:
        super().dial(*asked)
        raise RuntimeError("a bug")


async def test_no_lane_waits_for_an_engine_that_failed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that it was about to answer, too: the next engine would start only when they are given up."""
    carrier = WatchedCarrier(bench.path)
    bench.running(5, max_concurrency=5)
    monkeypatch.setattr(lanes_module, "_CLOSING_S", 100)
    began = monotonic()
    with pytest.raises(RuntimeError, match="a bug"):
        async with bench.engine(carrier, BuggyDispatch):
            await eventually(lambda: bool(carrier.placed))
    assert monotonic() - began < 60


async def test_an_engine_that_fails_starts_again_and_dials_nobody_twice(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug, once: who was claimed then is `interrupted`, because nobody knows."""
    monkeypatch.setattr(app, "LOCK_RETRY_SECONDS", 0)
    real, broken = Dispatch.dial, ["once"]

    def dial(self: Dispatch, *asked: Any) -> None:
        real(self, *asked)
        if broken:
            broken.clear()
            raise RuntimeError("a bug")

    monkeypatch.setattr(Dispatch, "dial", dial)
    async with new_caller() as caller:
        batch_call_id = await caller.create(numbers(30), send_now=True, max_concurrency=5)
        data = await caller.until_status(batch_call_id, "completed")
        lost = data["counts"]["interrupted"]
        assert 1 <= lost <= 5
        assert data["counts"]["completed"] == 30 - lost
        assert len({line["attempt_id"] for line in caller.dialled()}) == len(caller.dialled()) == 30


def test_two_processes_never_exceed_the_daily_cap_together(tmp_path: Path, clock: Clock) -> None:
    """Each with a batch call of its own for the same people, both in the middle of their transactions."""
    bench = Bench(tmp_path, clock, postgresql_url())
    store = bench.store
    ids = [bench.running(4) for _ in range(5)]
    with store.reading() as tx:
        records = {key: queries.get(tx, "local", key) for key in ids}

    def start(tx: sa.Connection, key: str) -> int:
        claim = claims.start_due(tx, records[key], 10, now=clock(), daily_cap=3, worker_id=key)
        return len(claim.started)

    for key in ids[:2]:
        with store.writing() as tx:
            assert start(tx, key) == 4
    with store.writing() as one, store.writing() as other:
        assert start(one, ids[2]) == 4
        assert start(other, ids[3]) == 0
    clock.forward(seconds=1)
    with store.writing() as tx:
        assert start(tx, ids[3]) == 0
        assert start(tx, ids[4]) == 0
    with store.reading() as tx:
        put_off = tx.execute(sa.select(tasks.c.error_message).where(tasks.c.batch_call_id == ids[3])).scalars().all()
    assert all("dialled 3 times in 24 hours" in reason for reason in put_off)
    assert bench.attempts() == 12
    store.close()


async def test_an_engine_with_nothing_to_dial_rests_and_comes_back(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DBOS is not launched before there is something to dial, and not left polling when there is nothing any more."""
    monkeypatch.setattr(lanes_module, "_RESTS_AFTER_S", 0)

    def polling() -> bool:
        return any("batchcall-lanes" in thread.name for thread in threading.enumerate())

    async with new_caller(database=emptied_postgresql()) as caller:
        await caller.create(numbers(1))
        assert not polling()
        for _ in range(2):
            batch_call_id = await caller.create(numbers(3), send_now=True)
            await caller.until_status(batch_call_id, "completed")
            await eventually(lambda: not polling())
    assert len(caller.dialled()) == 6
