"""A batch call of whose last calls most failed is paused: a wrong caller number or a dead trunk burns no list."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.records import NewTask
from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.engine import heartbeat
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from batchcall_mcp.dialer.engine.outcomes import Ended
from batchcall_mcp.dialer.storage import commands, queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.model import TaskStatus
from tests.dialer.conftest import ALWAYS, CALLER, Caller, Clock, body, numbers, on_sqlite
from tests.dialer.hooks import add_webhook, messages
from tests.postgresql import postgresql_url

FAILED, ANSWERED = 9, 0


def people(digits: list[int]) -> list[str]:
    """A number for each of these outcomes, in this order."""
    return [f"+12132{index:05d}{digit}" for index, digit in enumerate(digits)]


async def one_by_one(caller: Caller, digits: list[int], **fields: Any) -> str:
    return await caller.create(people(digits), send_now=True, max_concurrency=1, **fields)


async def test_a_batch_call_that_fails_is_paused_after_twenty_calls_and_every_webhook_hears(real: Caller) -> None:
    store = real.dialer.store()
    add_webhook(store, "https://example.com/hook", events=["batch_call.paused"])
    batch_call_id = await one_by_one(real, [FAILED] * 40)
    data = await real.until_status(batch_call_id, "paused")
    assert data["status_reason"]["code"] == "failing"
    assert data["status_reason"]["text"].startswith("20 of the last 20 calls failed.")
    assert (data["counts"]["failed"], data["counts"]["pending"]) == (20, 20)
    assert len(real.dialled()) == 20
    [listed] = (await real.ask("GET", "/batch-call/list?status=paused"))["batch_calls"]
    assert listed["status_reason"]["code"] == "failing"
    [message] = messages(store)
    assert '"status_reason":"failing"' in message["payload"]


@on_sqlite("real")
async def test_a_resume_counts_from_the_start(real: Caller) -> None:
    batch_call_id = await one_by_one(real, [FAILED] * 43)
    await real.until_status(batch_call_id, "paused")
    real.clock.forward(minutes=1)
    resumed = await real.ask("POST", f"/batch-call/{batch_call_id}/resume")
    assert (resumed["status"], resumed["status_reason"]) == ("sent", None)
    data = await real.until_status(batch_call_id, "paused")
    assert data["counts"]["failed"] == 40
    real.clock.forward(minutes=1)
    await real.ask("POST", f"/batch-call/{batch_call_id}/resume")
    assert (await real.until_status(batch_call_id, "completed"))["counts"]["failed"] == 43


@on_sqlite("real")
async def test_half_of_the_last_twenty_is_too_many_and_nine_are_not(real: Caller) -> None:
    """Also when the failed ones were the first, and somebody answered since."""
    fine = await one_by_one(real, [FAILED] * 9 + [ANSWERED] * 12)
    assert (await real.until_status(fine, "completed"))["counts"]["failed"] == 9
    real.clock.forward(days=2)
    half = await one_by_one(real, [FAILED] * 10 + [ANSWERED] * 12)
    data = await real.until_status(half, "paused")
    assert (data["counts"]["failed"], data["counts"]["completed"]) == (10, 10)


@on_sqlite("real")
async def test_what_is_over_is_completed_and_who_turned_it_off_is_not_paused(real: Caller) -> None:
    over = await one_by_one(real, [FAILED] * 20)
    assert (await real.until_status(over, "completed"))["status_reason"] is None
    real.clock.forward(days=2)
    turned_off = await one_by_one(real, [FAILED] * 21, pause_on_failures=False)
    data = await real.until_status(turned_off, "completed")
    assert (data["counts"]["failed"], data["pause_on_failures"]) == (21, False)


@on_sqlite("desk")
async def test_it_can_be_turned_off_and_on_before_the_start(desk: Caller) -> None:
    """Create, PATCH, and PUT, which takes back what it does not give."""
    batch_call_id = await desk.create(numbers(1))
    path = f"/batch-call/{batch_call_id}"
    assert (await desk.get(batch_call_id))["pause_on_failures"] is True
    assert (await desk.ask("PATCH", path, {"pause_on_failures": False}))["pause_on_failures"] is False
    assert (await desk.ask("PATCH", path, {"name": "Visits"}))["pause_on_failures"] is False
    assert (await desk.ask("PUT", path, body(numbers(1))))["pause_on_failures"] is True
    assert (await desk.ask("PUT", path, body(numbers(1), pause_on_failures=False)))["pause_on_failures"] is False
    answer = await desk.ask("PATCH", path, {"pause_on_failures": "no"}, status=422)
    assert "pause_on_failures: Input should be a valid boolean" in answer["error"]


async def test_the_simulated_carrier_fails_as_often_as_the_numbers_say(caller: Caller) -> None:
    batch_call_id = await one_by_one(caller, [FAILED] * 40)
    assert (await caller.until_status(batch_call_id, "completed"))["counts"]["failed"] == 40


class Two:
    """Two engines on one PostgreSQL, in the middle of one batch call."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.store = Store.open(postgresql_url(), clock)
        window = {**ALWAYS, "days": list(range(7)), "timezone": "recipient"}
        asked = {"from_number": CALLER, "status": State.SENT, "max_concurrency": 50, "window": window}
        with self.store.writing() as tx:
            listed = [NewTask(to_number=number) for number in numbers(60)]
            self.batch_call_id = commands.create(tx, "local", asked, listed, self.store.now()).batch_call_id

    def engine(self, name: str) -> Dispatch:
        heartbeat.beat(self.store, name, 50)
        return Dispatch(self.store, name, daily_cap=3, retry_delay=timedelta(0), capacity=50, pause_on_failures=True)


@pytest.fixture
def two(clock: Clock) -> Iterator[Two]:
    made = Two(clock)
    yield made
    made.store.close()


def test_no_engine_claims_or_places_another_call_after_the_one_that_was_too_many(two: Two) -> None:
    """What the other one has claimed and not placed is taken back."""
    one, other = two.engine("one"), two.engine("other")
    first = one.record_and_claim([], {two.batch_call_id: 20}).started
    claimed = other.record_and_claim([], {two.batch_call_id: 10}).started
    ended = [Ended(it.task_id, it.n, it.batch_call_id, TaskStatus.FAILED) for it in first]
    assert one.record_and_claim(ended, {two.batch_call_id: 20}).started == []
    dialled: list[str] = []

    def dial(attempt: Attempt) -> bool:
        dialled.append(attempt.to_number)
        return True

    other.dial(claimed, two.clock(), lambda: True, dial)
    assert dialled == []
    assert other.record_and_claim([], {two.batch_call_id: 10}).started == []


def test_calls_from_before_a_resume_that_end_after_it_do_not_count(two: Two) -> None:
    one = two.engine("one")
    old = one.record_and_claim([], {two.batch_call_id: 19}).started
    two.clock.forward(seconds=10)
    with two.store.writing() as tx:
        for action in (Action.PAUSE, Action.RESUME):
            commands.move(tx, queries.get(tx, "local", two.batch_call_id, lock=True), action, two.store.now())
    new = one.record_and_claim([], {two.batch_call_id: 19}).started
    ended = [Ended(it.task_id, it.n, it.batch_call_id, TaskStatus.FAILED) for it in [*old, *new]]
    assert len(one.record_and_claim(ended, {two.batch_call_id: 1}).started) == 1


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("f" * 20, True),
        ("f" * 10 + "c" * 10, True),
        ("c" * 10 + "f" * 10, True),
        ("f" * 9 + "c" * 11, False),
        ("f" * 19, False),
        ("c" * 20 + "f" * 20, False),
        ("", False),
    ],
)
def test_the_last_twenty_decide(last: str, expected: bool) -> None:
    """The latest first."""
    words = {"f": TaskStatus.FAILED, "c": TaskStatus.COMPLETED}
    assert rules.failing([words[letter] for letter in last]) == expected
