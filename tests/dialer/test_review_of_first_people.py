"""Attacks on a launch of the first people only, and on its time to think again, over the REST face."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchcall_mcp.dialer.domain.records import NewTask
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import commands, do_not_call, queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.model import TaskStatus
from tests.dialer.conftest import Caller, Clock, numbers
from tests.dialer.test_first_people import Two, carry_out, open_store, steps

__all__ = ["open_store"]

LONDON, AUCKLAND = "+442079460000", "+6493000000"
ALL_DAY = {"start": "00:00", "end": "24:00"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_on_a_date_it_is_for_the_first_people_too(caller: Caller, method: str) -> None:
    """A start on a date with `first` called everybody: the date hid the field."""
    today = caller.clock.now.astimezone(UTC).date().isoformat()
    body = {"from_number": "+14155550100", "tasks": [{"to_number": one} for one in numbers(5)], "window": ALL_DAY}
    launch = {"trigger_date": today, "first": 2}
    if method == "POST":
        made = await caller.ask("POST", "/batch-call", {**body, **launch})
        batch_call_id = made["batch_call_id"]
    else:
        batch_call_id = await caller.create(numbers(5), window=ALL_DAY)
        made = await caller.ask(method, f"/batch-call/{batch_call_id}", {**(body if method == "PUT" else {}), **launch})
    assert made["first"] == 2
    data = await caller.until(batch_call_id, lambda data: data["status"] in {"paused", "completed"})
    assert (data["status"], len(caller.dialled())) == ("paused", 2)


async def test_a_launch_on_a_date_that_says_nothing_of_it_is_for_everybody(desk: Caller) -> None:
    """Each launch says for how many it is: one on a date too."""
    batch_call_id = await desk.create(numbers(3))
    path = f"/batch-call/{batch_call_id}"
    later = desk.clock.now + timedelta(days=2)
    assert (await desk.ask("PATCH", path, {"trigger_timestamp": later.isoformat(), "first": 2}))["first"] == 2
    assert (await desk.ask("PATCH", path, {"trigger_date": later.date().isoformat()}))["first"] is None


async def test_a_date_that_waits_still_is_not_begun_by_another_change(desk: Caller) -> None:
    """A start on today's date is put off, so that it can be cancelled: an addition let it dial at once."""
    desk.clock.now = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
    batch_call_id = await desk.create([LONDON], window=ALL_DAY)
    path = f"/batch-call/{batch_call_id}"
    at = int((desk.clock.now + timedelta(minutes=10)).timestamp() * 1000)
    begun = await desk.ask("PATCH", path, {"trigger_date": "2026-11-27", "trigger_timestamp": at})
    assert begun["scheduled_timestamp"] == at
    added = await desk.ask("POST", f"{path}/tasks", {"tasks": [{"to_number": "+442079460001"}]})
    assert (added["status"], added["scheduled_timestamp"]) == ("scheduled", at)
    changed = await desk.ask("PATCH", path, {"window": {"start": "00:00", "end": "23:00"}})
    assert (changed["status"], changed["scheduled_timestamp"]) == ("scheduled", at)


async def test_a_test_call_keeps_to_its_organisations_list(new_caller: Any) -> None:
    [mine] = numbers(1)
    async with new_caller(test_numbers=[mine]) as caller:
        await caller.ask("POST", "/do-not-call", {"to_numbers": [mine]})
        test = await caller.create([mine], send_now=True, test_of="batch_call_1")
        assert (await caller.until_status(test, "completed"))["counts"]["skipped"] == 1
        assert caller.dialled() == []


async def test_who_is_added_may_still_begin_a_date_earlier(desk: Caller) -> None:
    desk.clock.now = datetime(2026, 11, 26, 0, 0, tzinfo=UTC)
    batch_call_id = await desk.create([LONDON], window=ALL_DAY)
    path = f"/batch-call/{batch_call_id}"
    begun = await desk.ask("PATCH", path, {"trigger_date": "2026-11-27"})
    added = await desk.ask("POST", f"{path}/tasks", {"tasks": [{"to_number": AUCKLAND}]})
    assert added["scheduled_timestamp"] == begun["scheduled_timestamp"] - 13 * 3600 * 1000


more_steps = st.one_of(
    steps,
    st.tuples(st.just("add"), st.integers(1, 3)),
    st.tuples(st.just("retry")),
    st.tuples(st.just("opt out"), st.integers(0, 11)),
)


def carry_out_more(two: Two, step: tuple[Any, ...], added: Iterator[str]) -> None:
    with two.store.writing() as tx:
        record = queries.get(tx, "local", two.key, lock=True)
        match step:
            case ("add", count) if record.status in {State.SENT, State.PAUSED}:
                commands.append(tx, record, [NewTask(to_number=next(added)) for _ in range(count)], two.store.now())
            case ("retry",) if record.status is State.SENT:
                ended = [TaskStatus.COMPLETED, TaskStatus.NO_ANSWER, TaskStatus.SKIPPED, TaskStatus.INTERRUPTED]
                commands.retry(tx, record, task_ids=(), statuses=ended, now=two.store.now())
            case ("opt out", which):
                do_not_call.add(tx, "local", "carrier", {numbers(12)[which]: "a test"}, two.store.now())


@pytest.mark.parametrize("open_store", ["sqlite"], indirect=True)  # both are driven in test_first_people
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(script=st.lists(more_steps, max_size=25), first=st.integers(1, 5), people=st.integers(1, 6))
def test_nobody_more_whoever_is_added_called_again_or_opts_out_meanwhile(
    open_store: Callable[[], Store], clock: Clock, script: list[tuple[Any, ...]], first: int, people: int
) -> None:
    two = Two(open_store(), clock, people=people, first=first)
    added = iter(numbers(200)[people:])
    try:
        for step in script:
            if step[0] in {"add", "retry", "opt out"}:
                carry_out_more(two, step, added)
            else:
                carry_out(two, step)
            assert len(two.rung) <= first, (step, two.rung)
            if two.now_is()[0] is State.COMPLETED:
                return
        two.to_the_end()
        assert len(two.rung) <= first
    finally:
        two.store.close()
