"""An attack on dates at the dialer: who is added, what changes meanwhile, and what a launch said besides its date."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest

from batchcall_mcp.call_dates import CallDates
from batchcall_mcp.dialer.engine.lateness import Gap, is_late
from batchcall_mcp.model import CallingWindow
from batchcall_mcp.recipients.phone.numbers import comparable
from tests.dialer.conftest import Caller, numbers
from tests.dialer.test_dates import AUCKLAND, LONDON, NEW_YORK, ON_FRIDAY, ms, utc

WIDER: dict[str, Any] = {"window": {"start": "08:00", "end": "18:00"}}


@pytest.mark.parametrize(
    ("method", "path", "change"),
    [
        ("POST", "/tasks", {"tasks": [{"to_number": NEW_YORK}]}),
        ("PATCH", "", WIDER),
        ("PATCH", "", {"tasks": [{"to_number": LONDON}, {"to_number": NEW_YORK}]}),
        ("PATCH", "", {"status": "scheduled"}),
    ],
)
async def test_no_change_takes_the_time_to_think_again(
    caller: Caller, method: str, path: str, change: dict[str, Any]
) -> None:
    """The moment that came with the date was forgotten: an addition in that minute began the calls at once."""
    caller.clock.now = utc(27, 10)
    batch_call_id = await caller.create([LONDON], **ON_FRIDAY, trigger_timestamp=ms(utc(27, 10, 1)))
    data = await caller.ask(method, f"/batch-call/{batch_call_id}{path}", change)
    assert (data["status"], data["scheduled_timestamp"]) == ("scheduled", ms(utc(27, 10, 1)))
    assert caller.dialled() == []
    moved = await caller.ask("PATCH", f"/batch-call/{batch_call_id}", {"trigger_date": "2026-11-28"})
    assert moved["scheduled_timestamp"] == ms(utc(28, 8 if change is WIDER else 9)), "the moment was of the other date"


async def test_for_how_many_people_a_launch_is_holds_on_a_date_too(caller: Caller) -> None:
    many = numbers(5)
    caller.clock.now = utc(26, 20)
    made = await caller.create(many, window={"start": "00:00", "end": "24:00"})
    path = f"/batch-call/{made}"
    data = await caller.ask("PATCH", path, {"trigger_date": "2026-11-27", "status": "scheduled", "first": 2})
    assert (data["status"], data["first"]) == ("scheduled", 2)
    caller.clock.now = utc(27, 20)
    data = await caller.until(made, lambda data: data["status"] in {"paused", "completed"})
    assert (data["status"], len(caller.dialled())) == ("paused", 2)


async def test_a_launch_on_a_date_is_for_everybody_unless_it_says_so(caller: Caller) -> None:
    caller.clock.now = utc(26, 20)
    made = await caller.create([LONDON, NEW_YORK], **ON_FRIDAY, first=1)
    assert (await caller.get(made))["first"] == 1
    moved = await caller.ask("PATCH", f"/batch-call/{made}", {"trigger_date": "2026-11-28"})
    assert moved["first"] is None


BERLIN = ("Europe/Berlin",)
NINE_TO_FIVE = CallingWindow(start="09:00", end="17:00")


@pytest.mark.parametrize(
    ("last", "until", "back", "late"),
    [
        (27, None, utc(27, 15), False),
        (27, None, utc(27, 17), True),
        (30, None, utc(27, 15), False),
        (30, None, utc(27, 17), True),
        (30, None, utc(29, 12), True),
        (None, utc(30, 12), utc(29, 12), True),
        (30, None, utc(27, 7), False),
    ],
)
def test_who_missed_all_of_a_date_is_not_called_on_the_next_one_unasked(
    last: int | None, until: datetime | None, back: datetime, late: bool
) -> None:
    """From 27 to 30 November, and no dialer for two days: it began on the 29th as if nothing had been missed."""
    dates = CallDates(first=date(2026, 11, 27), last=None if last is None else date(2026, 11, last), until=until)
    gap = Gap(utc(27, 5), back)
    assert is_late(NINE_TO_FIVE, BERLIN, utc(27, 8), gap, timedelta(hours=1), dates) is late


@pytest.mark.parametrize("written", ["+4402079460000", "+442079460000"])
async def test_a_number_with_the_zero_that_is_dialled_at_home_is_the_same_person(caller: Caller, written: str) -> None:
    """Somebody else's list had `+440…`; the same person, added as `+44…`, was a second call."""
    other = "+442079460000" if written != "+442079460000" else "+4402079460000"
    batch_call_id = await caller.create([written])
    added = await caller.ask("POST", f"/batch-call/{batch_call_id}/tasks", {"tasks": [{"to_number": other}]})
    assert (added["appended_count"], added["already_there"]) == (0, [other])


@pytest.mark.parametrize("number", ["+390612345678", "+12012345678", "+4930123456", "+2250707070707"])
def test_a_zero_that_belongs_to_a_number_stays(number: str) -> None:
    assert comparable(number) == number


async def test_a_date_that_is_read_as_seconds_is_no_promise(caller: Caller) -> None:
    """20261127 is a day in 1970: who was promised a call-back was called at once."""
    tasks = [{"to_number": LONDON, "not_before": 20261127}]
    answer = await caller.ask("POST", "/batch-call", {"from_number": "+14157774444", "tasks": tasks}, status=422)
    assert "tasks.0.not_before: 1970-08-23" in str(answer)


async def test_who_joins_a_paused_one_before_its_date_has_all_of_the_date(caller: Caller) -> None:
    """It went back to the time of the others, when the date was over where the new person is."""
    batch_call_id = await caller.create([NEW_YORK], **ON_FRIDAY)
    path = f"/batch-call/{batch_call_id}"
    await caller.ask("POST", f"{path}/pause")
    await caller.ask("POST", f"{path}/tasks", {"tasks": [{"to_number": AUCKLAND}]})
    data = await caller.ask("POST", f"{path}/resume")
    assert (data["status"], data["scheduled_timestamp"]) == ("scheduled", ms(utc(26, 20)))
