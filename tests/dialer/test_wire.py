"""The engine with a carrier that is asked over a wire: real phones, one account, calls that outlive the process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import AccountAtFault, Attempt, CarrierUnavailable, Line, NotCallable, Outcome
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier
from batchcall_mcp.dialer.domain.predial import Verdict
from batchcall_mcp.dialer.domain.records import TaskFilter
from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.engine import calls, rate_pacing
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from batchcall_mcp.dialer.storage import do_not_call, queries
from batchcall_mcp.dialer.storage.halts import Halt
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import attempts, batch_calls, carriers
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.money import Money
from tests.dialer.conftest import dialled, emptied_postgresql, eventually, numbers, on_sqlite
from tests.dialer.wire import Wire
from tests.dialer.wired import NOON, Desk, Moving, Standing

AT_ONCE = {"type": "AFTER", "duration_minutes": 0}


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    where = emptied_postgresql() if request.param == "postgresql" else tmp_path / "dialer.db"
    with closing(Store.open(where)) as store:
        yield Desk(store)


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


@on_sqlite("desk")
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


def held(desk: Desk, batch_call_id: str, longer_than_ms: int = 30_000) -> int:
    """How many are put off for so long."""
    with desk.store.reading() as tx:
        found, _ = queries.find_tasks(tx, batch_call_id, TaskFilter(), page=0, limit=10)
    return sum(one.due_at is not None and one.due_at > desk.store.now() + longer_than_ms for one in found)


@on_sqlite("desk")
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


@on_sqlite("desk")
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


@on_sqlite("desk")
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


@pytest.mark.parametrize("left", [True, False], ids=["after its request left", "before"])
@on_sqlite("desk")
async def test_a_carrier_that_fails_in_a_way_nobody_thought_of(desk: Desk, tmp_path: Path, left: bool) -> None:
    """What left is `interrupted`, never asked for again; what did not has failed, and may be redialled by a rule."""

    async def fails(attempt: Attempt) -> None:
        if attempt.to_number.endswith("3"):
            raise RuntimeError("nobody thought of this")

    wire = Wire(tmp_path, answered=fails) if left else Wire(tmp_path, trouble=fails)
    batch_call_id = desk.running([*numbers(2), *numbers(1, 3), *numbers(2, 1)])
    async with desk.engine(wire):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"completed": 4, "interrupted" if left else "failed": 1}
    assert len({call["to_number"] for call in wire.calls()}) == len(wire.calls()) == 4 + left


@on_sqlite("desk")
async def test_in_the_middle_of_a_list_one_is_not_callable_and_then_the_account_is_at_fault(
    desk: Desk, tmp_path: Path
) -> None:
    async def trouble(attempt: Attempt) -> None:
        if attempt.to_number.endswith("3"):
            raise NotCallable("it is a premium-rate number")
        if attempt.to_number.endswith("4") and broke:
            raise AccountAtFault("no credit is left")

    broke = [True]
    wire = Wire(tmp_path, trouble=trouble)
    people = [*numbers(2), *numbers(1, 3), *numbers(1, 1), *numbers(1, 4), *numbers(3, 2)]
    batch_call_id = desk.running(people, max_concurrency=1)
    async with desk.engine(wire):
        await eventually(lambda: desk.record(batch_call_id).status is State.PAUSED)
        assert desk.statuses(batch_call_id) == {"completed": 3, "skipped": 1, "pending": 4}
        broke.clear()
        await asyncio.to_thread(desk.move, batch_call_id, Action.RESUME)
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"completed": 7, "skipped": 1}
    assert len(wire.calls()) == 7


async def test_when_the_vendor_wants_to_be_left_alone_no_batch_call_and_no_process_asks(
    desk: Desk, tmp_path: Path
) -> None:
    async def limited(attempt: Attempt) -> None:
        if attempt.to_number == numbers(1)[0] and not asked:
            asked.append(attempt)
            raise CarrierUnavailable("HTTP 429", retry_after=30, whole_account=True)
        others.append(attempt)

    asked: list[Attempt] = []
    others: list[Attempt] = []
    clock = Moving()
    desk.store.clock = clock
    wire = Wire(tmp_path, clock=clock, trouble=limited, calls_per_second=1.0)
    first = desk.running(numbers(1))
    dispatch, looks = counting()
    async with desk.engine(wire, dispatch=dispatch):
        await eventually(lambda: held(desk, first, 20_000) == 1)
        second = desk.running(numbers(2, 1))
        await looked(looks)
    async with desk.engine(wire, dispatch=dispatch):
        await looked(looks)
        assert (len(asked), others, wire.calls()) == (1, [], [])
        assert desk.statuses(second) == {"pending": 2}, "nor does anybody seem to be called"
        clock.set(clock() + timedelta(seconds=31))
        await eventually(lambda: len(wire.calls()) >= 1)


def counting() -> tuple[type[Dispatch], list[int]]:
    """An engine's transactions, and one number for each time that it has looked for work."""
    looks: list[int] = []

    class Counting(Dispatch):
        def halted(self) -> Halt | None:
            looks.append(len(looks))
            return super().halted()

    return Counting, looks


async def looked(looks: list[int]) -> None:
    """It has done so since, and what it found then is done."""
    enough = len(looks) + 3
    await eventually(lambda: len(looks) >= enough)


async def test_a_close_withdraws_what_never_left(desk: Desk, tmp_path: Path) -> None:
    connecting, never = asyncio.Event(), asyncio.Event()

    async def connects(_attempt: Attempt) -> None:
        connecting.set()
        await never.wait()

    batch_call_id = desk.running(numbers(3))
    async with desk.engine(Wire(tmp_path, trouble=connects)):
        await connecting.wait()
    assert desk.statuses(batch_call_id) == {"pending": 3}
    with desk.store.reading() as tx:
        assert tx.execute(sa.select(attempts)).all() == []
    async with desk.engine(Wire(tmp_path)):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert len(Wire(tmp_path).calls()) == 3


async def test_a_simulation_leaves_calls_of_the_wire_alone_and_the_reverse(desk: Desk, tmp_path: Path) -> None:
    """One after the other; both at once: `tests/dialer_kills/test_by_wire.py`."""
    slow = Wire(tmp_path, speed=0.001)
    mine = desk.running(numbers(2))
    async with desk.engine(slow):
        await eventually(lambda: len(slow.calls()) == 2)
    never_mine = desk.running(numbers(2, 1))
    rehearsal = desk.running(numbers(2, 2), carrier="simulated")
    simulated = SimulatedCarrier(tmp_path / "carrier.jsonl", speed=0.001)
    async with desk.engine(simulated):
        await eventually(lambda: len(dialled(tmp_path)) == 2)
        assert desk.statuses(mine) == {"calling": 2}
        assert desk.statuses(never_mine) == {"pending": 2}
    assert desk.statuses(rehearsal) == {"interrupted": 2}, "its calls end with it"
    again = desk.running(numbers(2, 3), carrier="simulated")
    fast = Wire(tmp_path)
    async with desk.engine(fast):
        await eventually(lambda: desk.record(mine).status is desk.record(never_mine).status is State.COMPLETED)
    assert desk.statuses(again) == {"pending": 2}
    assert (len(fast.calls()), len(dialled(tmp_path))) == (4, 2)
    simulated.close()


@on_sqlite("desk")
async def test_a_simulation_that_ran_all_week_lets_no_real_call_be_late(desk: Desk, tmp_path: Path) -> None:
    """Due on Monday; on Thursday the dialer of its carrier starts, and asks."""
    clock = Moving()
    desk.store.clock = clock
    late: dict[str, Any] = {"late_after": timedelta(hours=1)}
    async with desk.engine(Wire(tmp_path, clock=clock), **late):
        await eventually(lambda: _ran_at(desk, "wire") is not None)
    real = desk.running(numbers(2))
    simulated = SimulatedCarrier(tmp_path / "carrier.jsonl", speed=1000, clock=clock)
    async with desk.engine(simulated, **late):
        for _ in range(4):
            clock.set(clock() + timedelta(hours=18))
            then = desk.store.now() // 60_000
            await eventually(lambda then=then: (_ran_at(desk, "simulated") or 0) >= then)  # type: ignore[misc]
        assert desk.statuses(real) == {"pending": 2}
    wire = Wire(tmp_path, clock=clock)
    async with desk.engine(wire, **late):
        await eventually(lambda: desk.record(real).status is State.PAUSED)
    assert desk.record(real).status_reason == "late"
    assert wire.calls() == []
    simulated.close()


def _ran_at(desk: Desk, carrier: str) -> int | None:
    """The minute in which an engine with it last ran."""
    with desk.store.reading() as tx:
        at = tx.scalar(sa.select(carriers.c.engine_ran_at).where(carriers.c.carrier == carrier))
    return None if at is None else int(at) // 60_000


@on_sqlite("desk")
async def test_two_batch_calls_share_the_pace_of_the_account(desk: Desk, tmp_path: Path) -> None:
    """The one that came first, with ten times as many people, is no further than the other."""
    wire = Wire(tmp_path, calls_per_second=3.0)
    large = desk.running(numbers(100))
    async with desk.engine(wire):
        await eventually(lambda: len(wire.calls()) >= 3)
        small = desk.running(numbers(5, 1))
        await eventually(lambda: desk.record(small).status is State.COMPLETED)
        of_small = [number for number, call in enumerate(wire.calls()) if call["to_number"].endswith("1")]
        # In turns, but for who is not there yet when it is their turn: far from after all of the others.
        assert of_small[-1] - of_small[0] <= 8 * len(of_small) + 3
        await asyncio.to_thread(desk.move, large, Action.CANCEL)
    assert max(_seconds(wire)) <= 3


def _seconds(wire: Wire) -> list[int]:
    """Requests in each second that begins with one of them."""
    moments = sorted(datetime.fromisoformat(call["at"]) for call in wire.calls())
    return [sum(first <= at < first + timedelta(seconds=1) for at in moments) for first in moments]


async def test_a_database_that_fails_in_the_permit_places_nothing_and_loses_nobody(desk: Desk, tmp_path: Path) -> None:
    failed: list[str] = []

    class Failing(Dispatch):
        @contextmanager
        def sending(self, attempt: Attempt) -> Iterator[float]:
            with super().sending(attempt) as wait:
                if len(failed) < 3:
                    failed.append(attempt.task_id)
                    raise sa.exc.OperationalError("SELECT 1", None, Exception("away"))
                yield wait

    wire = Wire(tmp_path)
    batch_call_id = desk.running(numbers(3))
    async with desk.engine(wire, dispatch=Failing):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert len(failed) == len(wire.calls()) == 3
    assert desk.statuses(batch_call_id) == {"completed": 3}


@pytest.mark.sweep
@pytest.mark.parametrize("where", ["begun", "placed"])
async def test_a_database_that_fails_after_the_request_left_changes_nothing(
    desk: Desk, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is asked for twice, also by the next process, and the account's pace holds."""

    def fails(*_given: object) -> None:
        raise sa.exc.OperationalError("UPDATE", None, Exception("away"))

    class Failing(Dispatch):
        def placed(self, attempt: Attempt, call_id: str) -> None:
            if where == "placed":
                fails()
            super().placed(attempt, call_id)

    if where == "begun":
        monkeypatch.setattr(rate_pacing, "begun", fails)
        monkeypatch.setattr(rate_pacing, "LEAVES_WITHIN", timedelta(seconds=0.5))
    slow = Wire(tmp_path, speed=0.001, calls_per_second=10.0)
    batch_call_id = desk.running([*numbers(3), *numbers(1, 7)])
    async with desk.engine(slow, dispatch=Failing):
        await eventually(lambda: len(slow.calls()) == 4)
        assert max(_seconds(slow)) <= 10
        moments = [datetime.fromisoformat(call["at"]) for call in slow.calls()]
        assert min(later - one for one, later in pairwise(moments)) >= timedelta(milliseconds=100)
    fast = Wire(tmp_path)
    async with desk.engine(fast):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"completed": 3, "busy": 1}
    assert len(fast.calls()) == 4


@on_sqlite("desk")
async def test_only_the_first_people_of_a_list_are_rung(desk: Desk, tmp_path: Path) -> None:
    """Also where one of them is not callable, and where one could not be placed at first."""

    async def trouble(attempt: Attempt) -> None:
        if attempt.to_number.endswith("3") and attempt.to_number not in asked:
            asked.append(attempt.to_number)
            raise CarrierUnavailable("its line is busy")

    asked: list[str] = []
    clock = Moving()
    desk.store.clock = clock
    wire = Wire(tmp_path, clock=clock, trouble=trouble)
    batch_call_id = desk.running([*numbers(1), *numbers(1, 3), *numbers(30, 1)], first=5)
    async with desk.engine(wire):
        await eventually(lambda: len(asked) == 1)
        await eventually(lambda: desk.record(batch_call_id).status is State.PAUSED)
        assert desk.record(batch_call_id).status_reason == "first_done"
    assert len(wire.calls()) == 5
    assert desk.statuses(batch_call_id) == {"completed": 5, "pending": 27}


@on_sqlite("desk")
async def test_a_redial_is_another_request_by_the_rules(desk: Desk, tmp_path: Path) -> None:
    rules = [{"condition": one, "enabled": True, "retry_timing": AT_ONCE} for one in ("busy", "no_answer")]
    policy: dict[str, Any] = {"retry_rules": rules, "retry_config": {"enabled": True, "max_attempts": 1}}
    wire = Wire(tmp_path)
    batch_call_id = desk.running([*numbers(2, 6), *numbers(1, 7), *numbers(1, 8)], **policy)
    async with desk.engine(wire):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"completed": 2, "busy": 1, "voicemail": 1}
    assert Counter(call["to_number"] for call in wire.calls()) == {
        **dict.fromkeys([*numbers(2, 6), *numbers(1, 7)], 2),
        numbers(1, 8)[0]: 1,
    }


@on_sqlite("desk")
async def test_the_gate_is_asked_before_each_call_over_the_wire(desk: Desk, tmp_path: Path) -> None:
    wire = Wire(tmp_path)

    class Asks:
        def ask(self, asked: Sequence[Attempt], answered: Callable[[Attempt, Verdict], None]) -> None:
            for attempt in asked:
                no = attempt.to_number.endswith("1")
                answered(attempt, Verdict("no", "they paid") if no else Verdict("yes"))

    batch_call_id = desk.running([*numbers(3), *numbers(2, 1)])
    async with desk.engine(wire, gate=Asks()):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"completed": 3, "skipped": 2}
    assert {call["to_number"] for call in wire.calls()} == set(numbers(3))


@on_sqlite("desk")
async def test_a_call_of_a_batch_call_that_was_deleted_is_read_on(desk: Desk, tmp_path: Path) -> None:
    slow = Wire(tmp_path, speed=0.001)
    batch_call_id = desk.running(["+12132000044"])
    async with desk.engine(slow):
        await eventually(lambda: len(slow.calls()) == 1)
        await asyncio.to_thread(desk.move, batch_call_id, Action.CANCEL)
        with desk.store.writing() as tx:
            tx.execute(batch_calls.delete().where(batch_calls.c.batch_call_id == batch_call_id))
    async with desk.engine(Wire(tmp_path)):
        await eventually(lambda: _outcomes(desk) == ["completed"])
    with desk.store.reading() as tx:
        assert do_not_call.listed(tx, ["+12132000044"], "local", "wire"), "they opted out in it"


def _outcomes(desk: Desk) -> list[str | None]:
    with desk.store.reading() as tx:
        return list(tx.execute(sa.select(attempts.c.outcome)).scalars())


@pytest.mark.parametrize("error", [CarrierUnavailable("away"), AccountAtFault("wrong key"), NotCallable("no")])
async def test_a_call_that_may_have_been_asked_for_is_never_asked_for_again(
    desk: Desk, tmp_path: Path, error: Exception
) -> None:
    """The next process cannot look it up: that says nothing of what the earlier one did."""

    class Blind(Wire):
        def _found(self, attempt: Attempt) -> str | None:
            raise error

    gone = asyncio.Event()

    async def lost(_attempt: Attempt) -> None:
        await gone.wait()

    first = Wire(tmp_path, answered=lost)
    batch_call_id = desk.running(numbers(1))
    async with desk.engine(first):
        await eventually(lambda: len(first.calls()) == 1)
    async with desk.engine(Blind(tmp_path)):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"interrupted": 1}
    assert len(first.calls()) == 1


async def test_a_request_that_comes_too_late_for_its_permit_asks_for_another_one(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was stopped in between: the batch call is no longer held, and nothing leaves by that permit."""
    monkeypatch.setattr(calls, "_TICK_S", 0.001)
    over: list[calls._Permit] = []
    begin = calls._Permit.begin

    def slow(permit: calls._Permit, now: datetime) -> bool:
        if not over:
            over.append(permit)
            while not permit._is_over:  # what holds the batch call does not wait for ever
                permit._written.wait(0.01)
            assert not begin(permit, now)
            return False
        return begin(permit, now)

    monkeypatch.setattr(calls._Permit, "begin", slow)
    wire = Wire(tmp_path)
    batch_call_id = desk.running(numbers(3))
    async with desk.engine(wire):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert len(over) == 1
    assert len({call["to_number"] for call in wire.calls()}) == wire.count() == 3


@on_sqlite("desk")
async def test_near_the_end_of_somebodys_hours_nothing_is_asked_for_and_nobody_looks_again_and_again(
    desk: Desk, tmp_path: Path
) -> None:
    """A request that could still leave after it is not begun; the next morning it is."""
    clock = Standing()
    desk.store.clock = clock
    clock.set(NOON.replace(hour=0, minute=59, second=57) + timedelta(days=1))  # three seconds before 17:00
    tries: list[Attempt] = []

    async def connects(attempt: Attempt) -> None:
        tries.append(attempt)

    wire = Wire(tmp_path, clock=clock, trouble=connects)
    window = {"start": "09:00", "end": "17:00", "days": list(range(7)), "timezone": "recipient"}
    batch_call_id = desk.running(numbers(1), window=window)
    dispatch, looks = counting()
    async with desk.engine(wire, dispatch=dispatch):
        await eventually(lambda: len(tries) == 1)
        await looked(looks)
        assert (len(tries), wire.calls()) == (1, [])
        clock.set(NOON + timedelta(days=1))
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert wire.count() == 1


@on_sqlite("desk")
async def test_a_batch_call_that_was_paused_during_its_last_calls_is_over_when_they_are(
    desk: Desk, tmp_path: Path
) -> None:
    """Nobody is left whom a resume could call."""
    wire = Wire(tmp_path, speed=0.001)
    batch_call_id = desk.running(numbers(2))
    async with desk.engine(wire):
        await eventually(lambda: len(wire.calls()) == 2)
        await asyncio.to_thread(desk.move, batch_call_id, Action.PAUSE)
    assert desk.record(batch_call_id).status is State.PAUSED
    async with desk.engine(Wire(tmp_path)):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    assert desk.statuses(batch_call_id) == {"completed": 2}


@on_sqlite("desk")
async def test_a_task_costs_what_all_its_calls_cost(desk: Desk, tmp_path: Path) -> None:
    class Priced(Wire):
        async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
            return replace(await super().outcome(attempt, line), cost=Money(Decimal("0.014"), "USD"))

    rule = {"enabled": True, "condition": "busy", "retry_timing": AT_ONCE}
    batch_call_id = desk.running(numbers(1, 7), retry_rules=[rule], retry_config={"enabled": True, "max_attempts": 1})
    async with desk.engine(Priced(tmp_path)):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
    with desk.store.reading() as tx:
        [task], _ = queries.find_tasks(tx, batch_call_id, TaskFilter(), page=0, limit=10)
    assert (task.attempts, task.cost) == (2, "0.028 USD")
