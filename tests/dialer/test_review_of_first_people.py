"""Attacks on a launch of the first people only, and on its time to think again, over the REST face."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.dialer.conftest import Caller, numbers

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


async def test_who_is_added_may_still_begin_a_date_earlier(desk: Caller) -> None:
    desk.clock.now = datetime(2026, 11, 26, 0, 0, tzinfo=UTC)
    batch_call_id = await desk.create([LONDON], window=ALL_DAY)
    path = f"/batch-call/{batch_call_id}"
    begun = await desk.ask("PATCH", path, {"trigger_date": "2026-11-27"})
    added = await desk.ask("POST", f"{path}/tasks", {"tasks": [{"to_number": AUCKLAND}]})
    assert added["scheduled_timestamp"] == begun["scheduled_timestamp"] - 13 * 3600 * 1000
