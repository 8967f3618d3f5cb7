"""What an adversary tried against the mends of the reviews before: a cost, a pace, an end and a rest that are odd."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchcall_mcp.dialer.carriers import vendor_api
from batchcall_mcp.dialer.carriers.base import Attempt, CarrierAccount, Line, Outcome
from batchcall_mcp.dialer.domain.records import TaskFilter
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.engine import rate_pacing
from batchcall_mcp.dialer.engine.rate_pacing import AccountPace
from batchcall_mcp.dialer.storage import queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.money import Money
from batchcall_mcp.vendor_http.http_call import HttpCall
from tests.carriers.scripted import ScriptedCarrier, ScriptedLine, Time, attempt_to, config_for
from tests.dialer.conftest import emptied_postgresql, eventually, numbers
from tests.dialer.wire import Wire
from tests.dialer.wired import Desk, Moving, Standing
from tests.faults.server import answer, listening

AT_ONCE = {"type": "AFTER", "duration_minutes": 0}
ODD_COSTS: dict[str, tuple[Any, str | None]] = {
    "more digits than can be written": (Money(Decimal("0.0123456789"), "USD"), "0.024692 USD"),
    "nearly more than can be written": (Money(Decimal(999999999), "USD"), "999999999 USD"),
    "no number": (Money(Decimal("NaN"), "USD"), None),
    "no currency": (Money(Decimal(1), "dollars"), None),
}


@pytest.fixture
def clock() -> Moving:
    return Moving()


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, tmp_path: Path, clock: Moving) -> Iterator[Desk]:
    where = emptied_postgresql() if request.param == "postgresql" else tmp_path / "dialer.db"
    with closing(Store.open(where, clock)) as store:
        yield Desk(store)


@pytest.mark.sweep
@pytest.mark.parametrize("odd", ODD_COSTS)
async def test_an_odd_cost_stops_neither_the_redial_nor_anybodys_results(desk: Desk, tmp_path: Path, odd: str) -> None:
    """The cost of the first call is read again after the second one, and by everybody who asks for results."""
    cost, kept = ODD_COSTS[odd]

    class Priced(Wire):
        async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
            outcome = await super().outcome(attempt, line)
            return replace(outcome, cost=cost) if attempt.to_number == numbers(1, 7)[0] else outcome

    rule = {"enabled": True, "condition": "busy", "retry_timing": AT_ONCE}
    given: dict[str, Any] = {"retry_rules": [rule], "retry_config": {"enabled": True, "max_attempts": 1}}
    batch_call_id = desk.running([*numbers(1, 7), *numbers(2)], **given)
    async with desk.engine(Priced(tmp_path)):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    with desk.store.reading() as tx:
        found, _ = queries.find_tasks(tx, batch_call_id, TaskFilter(), page=0, limit=10)
        queries.results(tx, batch_call_id)
    assert sorted((task.attempts, task.cost) for task in found) == [(1, None), (1, None), (2, kept)]


async def test_an_account_that_begins_less_than_a_call_an_hour_begins_its_first(desk: Desk, tmp_path: Path) -> None:
    """Its turn lies further ahead than any rest."""
    wire = Wire(tmp_path, calls_per_second=0.0002)
    desk.running(numbers(2))
    async with desk.engine(wire):
        await eventually(lambda: wire.count() == 1)


async def test_just_before_a_batch_call_expires_nobody_connects_again_and_again(desk: Desk, tmp_path: Path) -> None:
    """A request that could leave after its end is not sent; the next claim waits for that end."""
    connected, clock = 0, Standing()
    desk.store.clock = clock

    async def connect(_attempt: Attempt) -> None:
        nonlocal connected
        connected += 1

    wire = Wire(tmp_path, trouble=connect)
    ends = clock() + timedelta(seconds=4)
    batch_call_id = desk.running(numbers(1), expires_at=int(ends.timestamp() * 1000))
    async with desk.engine(wire):
        await eventually(lambda: connected > 0)
        await eventually(lambda: desk.statuses(batch_call_id) == {"pending": 1})
        for _ in range(20):
            await asyncio.to_thread(desk.statuses, batch_call_id)
        clock.set(ends + timedelta(seconds=10))
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert (wire.count(), connected) == (0, 1)
    assert desk.statuses(batch_call_id) == {"expired": 1}


@pytest.mark.parametrize("seconds", [1.0, 5.0, 60.0])
def test_a_rest_that_the_vendor_asks_for_is_kept_also_by_the_call_whose_turn_it_is(
    desk: Desk, clock: Moving, seconds: float
) -> None:
    """One call is refused on behalf of the whole account while another one has the turn."""
    account, now = AccountPace("wire", 10, 1.0), clock()
    until = now + timedelta(seconds=seconds)
    with desk.store.writing() as tx:
        turn = rate_pacing.take_turn(tx, account, now)
        rate_pacing.leave_alone(tx, account, until, now)
        assert rate_pacing.wait_of(tx, account, turn, now) >= seconds
        rate_pacing.give_back(tx, account, turn, now)
        assert rate_pacing.account_wait(tx, account, now)


def test_nor_does_a_shorter_rest_end_a_longer_one(desk: Desk, clock: Moving) -> None:
    account, now = AccountPace("wire", 10, 1.0), clock()
    with desk.store.writing() as tx:
        rate_pacing.leave_alone(tx, account, now + timedelta(seconds=60), now)
        rate_pacing.leave_alone(tx, account, now + timedelta(seconds=5), now)
        assert rate_pacing.account_wait(tx, account, now) >= timedelta(seconds=60)


async def test_a_request_that_does_not_get_out_is_given_up_before_the_batch_call_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The vendor takes the connection and does not read: what waits here must not leave after a pause has answered."""
    monkeypatch.setattr(vendor_api, "WRITTEN_S", 0.01)
    let_go, came = asyncio.Event(), list[bool]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"POST /calls "):
            await answer(200, "[]")(reader, writer)
            return
        await let_go.wait()
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
        came.append(len(await reader.read()) == length)

    class Long(ScriptedCarrier):
        async def numbers(self) -> None:
            return None

        agents = numbers

        def create_call(self, attempt: Attempt, account: CarrierAccount) -> HttpCall:
            return HttpCall("POST", "/calls", json={"to": attempt.to_number, "pad": "x" * 30_000_000})

    time, line = Time(), ScriptedLine()
    async with listening(serve) as url:
        carrier = Long(config_for(url), clock=time.clock, sleep=time.sleep, now=time.now)
        outcome = await carrier.outcome(attempt_to(), line)
        await carrier.aclose()
        let_go.set()
        await eventually(lambda: bool(came))
    assert outcome.status is TaskStatus.INTERRUPTED
    assert (line.did, came) == (["held", "let go"], [False])
