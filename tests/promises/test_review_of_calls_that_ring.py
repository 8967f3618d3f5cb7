"""What an adversary tried against the engine with a carrier over a wire: to make a phone ring twice, or lose an end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import Attempt, Line, Outcome
from batchcall_mcp.dialer.domain.predial import Rest, Verdict
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.engine import heartbeat, left_calls
from batchcall_mcp.dialer.engine.dispatch import Dispatch, Turn, Unplaced
from batchcall_mcp.dialer.engine.outcomes import Ended
from batchcall_mcp.dialer.engine.rate_pacing import AccountPace
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import attempts
from batchcall_mcp.model import TaskStatus
from tests.dialer.conftest import emptied_postgresql, eventually, numbers
from tests.dialer.wire import Wire
from tests.dialer.wired import Desk, Moving

NO_BEAT = 3600.0


@pytest.fixture
def clock() -> Moving:
    return Moving()


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, tmp_path: Path, clock: Moving) -> Iterator[Desk]:
    where = emptied_postgresql() if request.param == "postgresql" else tmp_path / "dialer.db"
    with closing(Store.open(where, clock)) as store:
        yield Desk(store)


def _another_process(desk: Desk) -> Dispatch:
    return Dispatch(
        desk.store,
        "worker_of_another_process",
        daily_cap=3,
        retry_delay=timedelta(minutes=5),
        capacity=10 if desk.store.shared else None,
        carrier="wire",
        account=AccountPace("wire", 10, 50.0),
    )


def _taken_for_dead(desk: Desk, worker_id: str) -> None:
    """Another process takes over what that one has left, as far as it can see."""
    heartbeat.forget(desk.store, [worker_id])
    other = _another_process(desk)
    left_calls.take_over(other, left_calls.find(other))


class Claims:
    """How often each attempt was claimed by the engine under test."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def dispatch(self) -> type[Dispatch]:
        counts = self.of

        class Counting(Dispatch):
            def record_and_claim(
                self, ended: Sequence[Ended], wanted: Mapping[str, int], rest: Rest | None = None
            ) -> Turn:
                turn = super().record_and_claim(ended, wanted, rest)
                counts.update(attempt.attempt_id for attempt in turn.started)
                return turn

        return Counting


async def test_a_process_that_was_taken_for_dead_and_lives_asks_for_no_call_twice(desk: Desk, tmp_path: Path) -> None:
    """It connects for a call while its network is away. Another process lets that be due again, and it claims it."""
    network, claims, connecting = asyncio.Event(), Claims(), 0

    async def connect(_attempt: Attempt) -> None:
        nonlocal connecting
        connecting += 1
        if connecting == 1:
            await network.wait()

    wire = Wire(tmp_path, trouble=connect)
    batch_call_id = desk.running(numbers(1))
    async with desk.engine(wire, dispatch=claims.dispatch(), beat_seconds=NO_BEAT) as host:
        await eventually(lambda: connecting == 1)
        await asyncio.to_thread(_taken_for_dead, desk, host.worker_id)
        await eventually(lambda: max(claims.of.values()) >= 2)
        network.set()
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert len(wire.calls()) == 1
    assert desk.statuses(batch_call_id) == {"completed": 1}


async def test_nor_does_a_late_yes_of_the_gate_ring_twice(desk: Desk, tmp_path: Path) -> None:
    """The gate is asked about a claim that another process has let go; its answer is of that claim alone."""
    claims, asked = Claims(), list[tuple[Attempt, object]]()

    class Slow:
        def ask(self, attempts: Sequence[Attempt], answered: object) -> None:
            asked.extend((attempt, answered) for attempt in attempts)

    wire = Wire(tmp_path, speed=0.01)
    batch_call_id = desk.running(numbers(1))
    async with desk.engine(wire, dispatch=claims.dispatch(), gate=Slow(), beat_seconds=NO_BEAT) as host:
        await eventually(lambda: len(asked) == 1)
        await asyncio.to_thread(_taken_for_dead, desk, host.worker_id)
        await eventually(lambda: max(claims.of.values()) >= 2)
        wire._speed = 1_000.0
        answered = 0
        while desk.record(batch_call_id).status is not State.COMPLETED:
            for attempt, answer in asked[answered:]:
                answer(attempt, Verdict("yes"))  # type: ignore[operator]
            answered = len(asked)
            await asyncio.sleep(0)
    assert len(wire.calls()) == 1
    assert desk.statuses(batch_call_id) == {"completed": 1}


async def test_a_process_does_not_take_its_own_calls_for_left_ones(desk: Desk, tmp_path: Path) -> None:
    """It was taken out of the list for a moment, and looks for what others left before it is in there again."""
    network, connecting = asyncio.Event(), asyncio.Event()

    async def connect(_attempt: Attempt) -> None:
        connecting.set()
        await network.wait()

    wire = Wire(tmp_path, trouble=connect)
    batch_call_id = desk.running(numbers(1))
    async with desk.engine(wire, beat_seconds=NO_BEAT) as host:
        await connecting.wait()
        await asyncio.to_thread(heartbeat.forget, desk.store, [host.worker_id])
        host.engine.look_for_left_calls()
        await eventually(lambda: not host.engine._looks_for_left_calls)
        network.set()
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"completed": 1}
    assert len(wire.calls()) == 1
    assert wire.looked_up == []


async def test_a_call_is_looked_up_from_its_first_request_on(desk: Desk, clock: Moving, tmp_path: Path) -> None:
    """Its answer was lost and it was asked for again with its key: it may have been placed by the first request."""

    def asked_at() -> int | None:
        with desk.store.reading() as tx:
            return tx.execute(sa.select(attempts.c.asked_at)).scalar_one_or_none()

    seen: list[int | None] = []

    class AsksAgain(Wire):
        async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
            async with line.sending():
                pass
            seen.append(await asyncio.to_thread(asked_at))
            clock.set(clock() + timedelta(seconds=3))
            outcome = await super().outcome(attempt, line)
            seen.append(await asyncio.to_thread(asked_at))
            return outcome

    batch_call_id = desk.running(numbers(1))
    async with desk.engine(AsksAgain(tmp_path)):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert len(seen) == 2
    assert seen[0] == seen[1] is not None


ODD: dict[str, tuple[Any, str]] = {
    "words that no database keeps": (Outcome(TaskStatus.FAILED, "no\x00way \ud800"), "failed"),
    "a summary of that kind": (Outcome(TaskStatus.COMPLETED, summary="no\x00way \ud800"), "completed"),
    "no number": (Outcome(TaskStatus.COMPLETED, duration_seconds=float("nan")), "completed"),
    "without end": (Outcome(TaskStatus.COMPLETED, duration_seconds=float("inf")), "completed"),
    "a thousand years": (Outcome(TaskStatus.COMPLETED, duration_seconds=1e300), "completed"),
    "no end of a call": (Outcome(TaskStatus.PENDING), "interrupted"),  # type: ignore[arg-type]
    "nothing": (None, "interrupted"),
}


@pytest.mark.sweep
@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_outcome_stops_nobody_elses_calls(desk: Desk, tmp_path: Path, odd: str) -> None:
    """Carriers may be anybody's; what one gives back is written down, or `interrupted`, and everything goes on."""
    said, status = ODD[odd]

    class Odd(Wire):
        async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
            outcome = await super().outcome(attempt, line)
            return said if attempt.to_number == numbers(1)[0] else outcome

    wire = Odd(tmp_path)
    batch_call_id = desk.running(numbers(3))
    async with desk.engine(wire):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert Counter(desk.statuses(batch_call_id)) == Counter([status]) + Counter({"completed": 2})
    assert len(wire.calls()) == 3


def test_what_came_of_an_earlier_claim_does_not_end_the_call_of_the_one_in_its_place(desk: Desk, clock: Moving) -> None:
    """A carrier fails in a process that was taken for dead, before it asks; the same attempt rings by another one."""
    batch_call_id = desk.running(numbers(1))
    mine = Dispatch(desk.store, "mine", daily_cap=3, retry_delay=timedelta(minutes=5), carrier="wire")
    [earlier] = mine.record_and_claim([], {batch_call_id: 1}).started
    mine.withdraw([Unplaced(attempt=earlier)])
    clock.set(clock() + timedelta(seconds=1))
    [later] = mine.record_and_claim([], {batch_call_id: 1}).started
    assert later.attempt_id == earlier.attempt_id
    mine.record_and_claim([Ended.of(earlier, Outcome(TaskStatus.FAILED, "the carrier lost the call"))], {})
    assert desk.statuses(batch_call_id) == {"calling": 1}
    mine.record_and_claim([Ended.of(later, Outcome(TaskStatus.COMPLETED))], {})
    assert desk.statuses(batch_call_id) == {"completed": 1}
