"""A launch of the first people only: never one more, whatever two engines, a crash or a carrier does in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain.records import NewTask
from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.engine import heartbeat, scheduler
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from batchcall_mcp.dialer.engine.outcomes import Ended
from batchcall_mcp.dialer.storage import commands, queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.model import TaskStatus
from tests.dialer.conftest import ALWAYS, CALLER, Caller, Clock, emptied_postgresql, numbers, on_sqlite

ENGINES = ("one", "other")


class Two:
    """One running batch call that is for its first people only, and two engines that are driven step by step."""

    def __init__(self, store: Store, clock: Clock, people: int, first: int, retries: int = 1) -> None:
        self.store, self.clock, self.first = store, clock, first
        self.engines = {name: self._engine(name) for name in ENGINES}
        self.held: dict[str, list[Attempt]] = {name: [] for name in ENGINES}
        self.on_the_line: list[tuple[str, Attempt]] = []
        self.rung: Counter[str] = Counter()
        asked = {
            "from_number": CALLER,
            "status": State.SENT,
            "max_concurrency": 50,
            "window": {**ALWAYS, "days": list(range(7)), "timezone": "recipient"},
            "retry_config": {"enabled": retries > 0, "max_attempts": retries},
            "first": first,
        }
        with store.writing() as tx:
            listed = [NewTask(to_number=number) for number in numbers(people)]
            self.key = commands.create(tx, "local", asked, listed, store.now()).batch_call_id

    def _engine(self, name: str) -> Dispatch:
        heartbeat.beat(self.store, name, 50)
        return Dispatch(self.store, name, daily_cap=9, retry_delay=timedelta(seconds=1), capacity=50)

    def claim(self, name: str, count: int) -> None:
        self.held[name] += self.engines[name].record_and_claim([], {self.key: count}).started

    def dial(self, name: str, *, takes: bool = True) -> None:
        """Ask the carrier for what this engine has claimed; it takes all of them, or none."""
        started, self.held[name] = self.held[name], []

        def ring(attempt: Attempt) -> bool:
            if takes:
                self.rung[attempt.to_number] += 1
                self.on_the_line.append((name, attempt))
            return takes

        self.engines[name].dial(started, self.clock(), lambda: True, ring)

    def end(self, status: TaskStatus, count: int = 1) -> None:
        for name, attempt in self.on_the_line[:count]:
            ended = Ended(attempt.task_id, attempt.n, attempt.batch_call_id, status)
            self.held[name] += self.engines[name].record_and_claim([ended], {self.key: 1}).started
        del self.on_the_line[:count]

    def crash(self, name: str) -> None:
        """What it has claimed may have rung: for all that anybody knows, it did."""
        self.rung.update(attempt.to_number for attempt in self.held[name])
        self.held[name] = []
        self.on_the_line = [(by, attempt) for by, attempt in self.on_the_line if by != name]
        other = next(one for one in ENGINES if one != name)
        self.engines[other].interrupt([name])

    def look(self) -> None:
        work = scheduler.look(self.store, 50)
        self.engines["one"].start_arrived(work.moves)

    def now_is(self) -> tuple[State, str | None]:
        with self.store.reading() as tx:
            record = queries.get(tx, "local", self.key)
        return record.status, record.status_reason

    def move(self, action: Action) -> None:
        with self.store.writing() as tx:
            commands.move(tx, queries.get(tx, "local", self.key, lock=True), action, self.store.now())

    def to_the_end(self) -> None:
        """Both engines go on as long as anything is to be done."""
        for _ in range(60):
            self.clock.forward(seconds=6)
            for name in ENGINES:
                self.claim(name, 3)
                self.dial(name)
            self.end(TaskStatus.COMPLETED, len(self.on_the_line))
            self.look()
            if self.now_is()[0] is not State.SENT:
                return
        raise AssertionError(f"it goes on and on: {self.now_is()}")


@pytest.fixture(params=["sqlite", "postgresql"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Store]]:
    opened: list[Store] = []

    def make() -> Store:
        where = emptied_postgresql() if request.param == "postgresql" else tmp_path / f"{len(opened)}.db"
        opened.append(Store.open(where, clock))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


steps = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from(ENGINES), st.integers(1, 4)),
    st.tuples(st.just("dial"), st.sampled_from(ENGINES), st.booleans()),
    st.tuples(st.just("end"), st.sampled_from([TaskStatus.COMPLETED, TaskStatus.NO_ANSWER, TaskStatus.BUSY])),
    st.tuples(st.just("crash"), st.sampled_from(ENGINES)),
    st.tuples(st.just("look")),
    st.tuples(st.just("wait"), st.integers(1, 6)),
)


def carry_out(two: Two, step: tuple[Any, ...]) -> None:
    match step:
        case ("claim", name, count):
            two.claim(name, count)
        case ("dial", name, takes):
            two.dial(name, takes=takes)
        case ("end", status):
            two.end(status)
        case ("crash", name):
            two.crash(name)
        case ("look",):
            two.look()
        case ("wait", seconds):
            two.clock.forward(seconds=seconds)


def never_more_than_the_first(
    store: Store, clock: Clock, script: list[tuple[Any, ...]], first: int, retries: int
) -> None:
    two = Two(store, clock, people=8, first=first, retries=retries)
    try:
        for step in script:
            carry_out(two, step)
            assert len(two.rung) <= first, (step, two.rung)
            if two.now_is()[0] is State.PAUSED:
                assert two.now_is()[1] == "first_done"
                assert not any(two.held.values())
                assert not two.on_the_line
        two.to_the_end()
        assert two.now_is() == (State.PAUSED, "first_done")
        # Who was claimed by an engine that died counts as called.
        assert len(two.rung) == first
        assert set(two.rung) <= set(numbers(8))
        two.move(Action.RESUME)
        two.to_the_end()
        assert two.now_is() == (State.COMPLETED, None)
        assert set(two.rung) == set(numbers(8))
    finally:
        two.store.close()


in_any_order = given(script=st.lists(steps, max_size=20), first=st.integers(1, 5), retries=st.integers(0, 1))


@settings(
    max_examples=settings().max_examples // 2,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@in_any_order
def test_never_more_people_than_the_first_in_any_order_of_two_engines(
    tmp_path_factory: pytest.TempPathFactory, clock: Clock, script: list[tuple[Any, ...]], first: int, retries: int
) -> None:
    store = Store.open(tmp_path_factory.mktemp("orders") / "dialer.db", clock)
    never_more_than_the_first(store, clock, script, first, retries)


@settings(
    max_examples=max(5, settings().max_examples // 10),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@in_any_order
def test_never_more_people_than_the_first_on_postgresql_either(
    clock: Clock, script: list[tuple[Any, ...]], first: int, retries: int
) -> None:
    """The same statements: fewer orders. What only PostgreSQL can do, at the same moment, is the next test's."""
    never_more_than_the_first(Store.open(emptied_postgresql(), clock), clock, script, first, retries)


def test_engines_that_claim_at_the_same_moment_claim_the_first_twenty_together(clock: Clock) -> None:
    """In threads, on PostgreSQL: the count is taken while the batch call is held."""
    store = Store.open(emptied_postgresql(), clock)
    two = Two(store, clock, people=60, first=20)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda turn: two.claim(ENGINES[turn % 2], 7), range(16)):
            pass
    for name in ENGINES:
        two.dial(name)
    assert len(two.rung) == 20
    assert set(two.rung) == set(numbers(20))
    assert two.now_is() == (State.SENT, None)
    two.end(TaskStatus.COMPLETED, 20)
    assert two.now_is() == (State.PAUSED, "first_done")
    store.close()


def test_while_the_last_of_them_talk_nothing_is_to_be_done(open_store: Callable[[], Store], clock: Clock) -> None:
    """No lane is opened again and again for people who wait."""
    two = Two(open_store(), clock, people=5, first=2)
    two.claim("one", 5)
    two.dial("one")
    work = scheduler.look(two.store, 50)
    assert (work.open, work.moves) == ((), ())
    two.end(TaskStatus.NO_ANSWER)
    assert two.now_is() == (State.SENT, None)
    two.end(TaskStatus.COMPLETED)
    assert two.now_is() == (State.PAUSED, "first_done")
    clock.forward(minutes=1)
    two.claim("one", 5)
    assert two.held["one"] == []  # the redial waits too


def test_a_list_that_is_not_longer_is_called_with_its_redials_and_ends(
    open_store: Callable[[], Store], clock: Clock
) -> None:
    two = Two(open_store(), clock, people=2, first=20)
    two.claim("one", 5)
    two.dial("one")
    two.end(TaskStatus.NO_ANSWER, 2)
    two.to_the_end()
    assert two.now_is() == (State.COMPLETED, None)
    assert two.rung == dict.fromkeys(numbers(2), 2)


# Over the REST face.


async def test_execute_calls_the_first_and_pauses_with_the_reason_until_a_resume(caller: Caller) -> None:
    batch_call_id = await caller.create(numbers(30))
    path = f"/batch-call/{batch_call_id}"
    started = await caller.ask("POST", f"{path}/execute", {"first": 20})
    assert (started["status"], started["first"]) == ("sent", 20)
    data = await caller.until_status(batch_call_id, "paused")
    assert data["status_reason"]["code"] == "first_done"
    assert data["status_reason"]["text"] == (
        "The first 20 people were called, as it was started for; 10 others wait. Resume it to call them."
    )
    assert (data["counts"]["completed"], data["counts"]["pending"]) == (20, 10)
    assert [one["to_number"] for one in caller.dialled()] == numbers(30)[:20]
    resumed = await caller.ask("POST", f"{path}/resume")
    assert (resumed["status"], resumed["status_reason"], resumed["first"]) == ("sent", None, None)
    await caller.until_status(batch_call_id, "completed")
    assert sorted(one["to_number"] for one in caller.dialled()) == numbers(30)


async def test_a_schedule_keeps_it_until_another_launch_says_otherwise(desk: Caller) -> None:
    batch_call_id = await desk.create(numbers(3))
    path = f"/batch-call/{batch_call_id}"
    later = desk.clock().timestamp() + 3600
    scheduled = await desk.ask("PATCH", path, {"trigger_timestamp": later, "first": 2})
    assert (scheduled["status"], scheduled["first"]) == ("scheduled", 2)
    assert (await desk.ask("PATCH", path, {"name": "Visits"}))["first"] == 2
    assert (await desk.ask("PATCH", path, {"trigger_timestamp": later + 60}))["first"] is None
    assert (await desk.ask("PATCH", path, {"send_now": True, "first": 1}))["first"] == 1
    paused = await desk.ask("POST", f"{path}/pause")
    assert (paused["status"], paused["first"]) == ("paused", 1)
    assert (await desk.ask("POST", f"{path}/resume"))["first"] is None


@pytest.mark.parametrize("first", [0, -1, 1.5, "2", True, 1_000_001])
@on_sqlite("desk")
async def test_what_is_no_number_of_people_is_refused_and_nothing_starts(desk: Caller, first: object) -> None:
    batch_call_id = await desk.create(numbers(3))
    answer = await desk.ask("POST", f"/batch-call/{batch_call_id}/execute", {"first": first}, status=422)
    assert "first: " in answer["error"]
    assert (await desk.get(batch_call_id))["status"] == "draft"


@on_sqlite("desk")
async def test_first_without_a_launch_is_refused(desk: Caller) -> None:
    batch_call_id = await desk.create(numbers(3))
    path = f"/batch-call/{batch_call_id}"
    for asked in ({"first": 2}, {"first": 2, "name": "Visits"}, {"first": 2, "status": "draft"}):
        answer = await desk.ask("PATCH", path, asked, status=422)
        assert "this launches nothing" in answer["error"]
    answer = await desk.ask("POST", f"{path}/execute", {"frist": 2}, status=422)
    assert "frist: this field is not known" in answer["error"]
    assert (await desk.get(batch_call_id))["status"] == "draft"


async def test_a_retry_after_the_end_is_for_those_whom_it_names(caller: Caller) -> None:
    """Who was never dialled, too: the first launch was for fewer, this one is not."""
    batch_call_id = await caller.create(["+870773111632", *numbers(2)], send_now=True, first=2)
    data = await caller.until_status(batch_call_id, "completed")
    assert (data["first"], data["counts"]["completed"], data["counts"]["skipped"]) == (2, 2, 1)
    retried = await caller.ask("POST", f"/batch-call/{batch_call_id}/retry", {"task_status": ["skipped"]})
    assert (retried["retried_count"], retried["first"]) == (1, None)
    await caller.until_status(batch_call_id, "completed")


# A test call.


async def test_a_test_call_rings_whatever_cap_and_gap_say_if_the_operator_named_the_number(
    new_caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchcall_mcp.dialer.carriers.simulated.SimulatedCarrier.places_real_calls", True)
    mine, another = numbers(2)
    async with new_caller(test_numbers=[mine], daily_cap=1) as caller:
        await caller.until_status(await caller.create([mine, another], send_now=True), "completed")
        for _ in range(2):
            test = await caller.create([mine], send_now=True, test_of="batch_call_1")
            assert (await caller.until_status(test, "completed"))["test_of"] == "batch_call_1"
        # The mark alone exempts nobody.
        held = await caller.create([another], send_now=True, test_of="batch_call_1")
        waits = await caller.until(held, lambda data: bool(data["held_back"]))
        assert waits["counts"]["pending"] == 1
        plain = await caller.create([mine], send_now=True)
        assert (await caller.until(plain, lambda data: bool(data["held_back"])))["counts"]["pending"] == 1
    assert Counter(one["to_number"] for one in caller.dialled()) == {mine: 3, another: 1}


async def test_a_test_call_keeps_to_the_do_not_call_list(new_caller: Any, tmp_path: Path) -> None:
    [mine] = numbers(1)
    listed = tmp_path / "never.txt"
    listed.write_text(mine)
    async with new_caller(test_numbers=[mine], do_not_call=[listed]) as caller:
        test = await caller.create([mine], send_now=True, test_of="batch_call_1")
        assert (await caller.until_status(test, "completed"))["counts"]["skipped"] == 1
        assert caller.dialled() == []


@on_sqlite("desk")
async def test_a_list_does_not_pass_as_a_test(desk: Caller) -> None:
    tasks = [{"to_number": number} for number in numbers(2)]
    asked = {"from_number": CALLER, "tasks": tasks, "test_of": "batch_call_1"}
    answer = await desk.ask("POST", "/batch-call", asked, status=422)
    assert "test_of: a test call has one task, this one 2." in answer["error"]
    test = await desk.create(numbers(1), test_of="batch_call_1")
    for method, under in (("PATCH", ""), ("POST", "/tasks")):
        answer = await desk.ask(method, f"/batch-call/{test}{under}", {"tasks": tasks}, status=422)
        assert "a test call has one task" in answer["error"]
    two = await desk.create(numbers(2))
    await desk.ask("PATCH", f"/batch-call/{two}", {"test_of": "batch_call_1"}, status=422)
