"""The engine with a carrier that is asked over a wire: real phones, one account, calls that outlive the process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batchcall_mcp.dialer.carriers.base import AccountAtFault, Attempt, CarrierUnavailable, Line, NotCallable, Outcome
from batchcall_mcp.dialer.domain.records import TaskFilter
from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.storage import queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.model import TaskStatus
from tests.dialer.conftest import emptied_postgresql, eventually, numbers
from tests.dialer.wire import Wire
from tests.dialer.wired import Desk


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    return Desk(Store.open(emptied_postgresql() if request.param == "postgresql" else tmp_path / "dialer.db"))


async def test_everybody_is_rung_once(desk: Desk, tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    batch_call_id = desk.running([*numbers(8), *numbers(2, 7)])
    async with desk.engine(wire):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"completed": 8, "busy": 2}
    assert len({call["to_number"] for call in wire.calls()}) == len(wire.calls()) == 10


async def test_calls_that_a_process_leaves_are_read_on_by_the_next_one(desk: Desk, tmp_path: Path) -> None:
    slow = Wire(tmp_path, speed=0.001)
    batch_call_id = desk.running(numbers(4))
    async with desk.engine(slow):
        await eventually(lambda: len(slow.calls()) == 4)
    assert desk.statuses(batch_call_id) == {"calling": 4}
    fast = Wire(tmp_path)
    async with desk.engine(fast):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"completed": 4}
    assert len(fast.calls()) == 4


async def test_nobody_is_asked_for_after_a_pause_although_their_call_was_claimed(desk: Desk, tmp_path: Path) -> None:
    """The connection to the vendor opens while somebody pauses; the request does not leave any more."""
    there, goes = asyncio.Event(), asyncio.Event()

    async def connecting(attempt: Attempt) -> None:
        there.set()
        await goes.wait()

    wire = Wire(tmp_path, trouble=connecting)
    batch_call_id = desk.running(numbers(3))
    async with desk.engine(wire):
        await there.wait()
        await asyncio.to_thread(desk.move, batch_call_id, Action.PAUSE)
        goes.set()
        await eventually(lambda: desk.statuses(batch_call_id) == {"pending": 3})
        assert wire.calls() == []
        await asyncio.to_thread(desk.move, batch_call_id, Action.RESUME)
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert len(wire.calls()) == 3


async def test_what_the_carrier_could_not_place_is_no_attempt(desk: Desk, tmp_path: Path) -> None:
    async def unavailable(attempt: Attempt) -> None:
        raise CarrierUnavailable("it takes no more calls", retry_after=60)

    wire = Wire(tmp_path, trouble=unavailable)
    batch_call_id = desk.running(numbers(2))
    async with desk.engine(wire):
        await eventually(lambda: desk.statuses(batch_call_id) == {"pending": 2} and held(desk, batch_call_id) == 2)
    with desk.store.reading() as tx:
        [one, _], _ = queries.find_tasks(tx, batch_call_id, TaskFilter(), page=0, limit=10)
    assert one.attempts == 0
    assert one.error_message is not None
    assert one.error_message.startswith("it takes no more calls; tried again not before")


def held(desk: Desk, batch_call_id: str) -> int:
    with desk.store.reading() as tx:
        found, _ = queries.find_tasks(tx, batch_call_id, TaskFilter(), page=0, limit=10)
    return sum(one.due_at is not None and one.due_at > desk.store.now() + 30_000 for one in found)


async def test_an_account_at_fault_pauses_the_batch_call_and_fails_nobody(desk: Desk, tmp_path: Path) -> None:
    async def wrong(attempt: Attempt) -> None:
        asked.append(attempt)
        raise AccountAtFault("the key is not accepted")

    asked: list[Attempt] = []
    wire = Wire(tmp_path, calls_per_second=1, trouble=wrong)
    batch_call_id = desk.running(numbers(50))
    async with desk.engine(wire):
        await eventually(lambda: desk.record(batch_call_id).status is State.PAUSED)
    record = desk.record(batch_call_id)
    assert (record.status_reason, record.status_reason_text) == ("account", "the key is not accepted")
    assert desk.statuses(batch_call_id) == {"pending": 50}
    assert len(asked) == 1


async def test_who_may_not_be_called_is_skipped_with_the_reason(desk: Desk, tmp_path: Path) -> None:
    async def never(attempt: Attempt) -> None:
        raise NotCallable("it is a premium-rate number")

    wire = Wire(tmp_path, trouble=never)
    batch_call_id = desk.running(numbers(2))
    async with desk.engine(wire):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"skipped": 2}
    assert wire.calls() == []


async def test_a_batch_call_of_another_carrier_is_not_touched(desk: Desk, tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    rehearsal = desk.running(numbers(2), carrier="simulated")
    mine = desk.running(numbers(2))
    async with desk.engine(wire):
        await eventually(lambda: desk.record(mine).status is State.COMPLETED)
    assert desk.statuses(rehearsal) == {"pending": 2}
    assert len(wire.calls()) == 2


async def test_no_rule_rings_again_whom_a_lost_answer_may_have_reached(desk: Desk, tmp_path: Path) -> None:
    """Also one that names `interrupted`, as a rehearsal may have it."""

    class Loses(Wire):
        async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
            await super().outcome(attempt, line)
            return Outcome(TaskStatus.INTERRUPTED, "its answer was lost")

    wire = Loses(tmp_path)
    rule = {"enabled": True, "condition": "interrupted", "retry_timing": {"duration_minutes": 0}}
    batch_call_id = desk.running(numbers(2), retry_rules=[rule], retry_config={"enabled": True, "max_attempts": 3})
    async with desk.engine(wire):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"interrupted": 2}
    assert len(wire.calls()) == 2
