"""A date is each called person's own: who is dialled on it, who is not any more, and when a call-back may come."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from batchcall_mcp.dialer.engine import claims
from tests.dialer.conftest import Caller, NewCaller, eventually, numbers

NINE_TO_FIVE = {"start": "09:00", "end": "17:00"}
LONDON, NEW_YORK, HONOLULU, AUCKLAND = "+442079460000", "+12122000000", "+18082000000", "+6493000000"
ON_FRIDAY: dict[str, Any] = {"trigger_date": "2026-11-27", "window": NINE_TO_FIVE}


def utc(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def sent(people: int, data: Mapping[str, Any]) -> bool:
    return bool(data["sent"] == people)


def rung(caller: Caller, people: int) -> bool:
    return len(caller.dialled()) >= people


async def test_tomorrow_nine_to_five_is_everybodys_own_tomorrow(caller: Caller) -> None:
    batch_call_id = await caller.create([LONDON, NEW_YORK, AUCKLAND], **ON_FRIDAY)
    data = await caller.get(batch_call_id)
    assert (data["status"], data["trigger_date"], data["expires_date"]) == ("scheduled", "2026-11-27", "2026-11-27")
    assert data["scheduled_timestamp"] == ms(utc(26, 20)), "09:00 in Auckland"
    assert data["expires_timestamp"] == ms(utc(28, 5)), "midnight in New York"
    for moment, dialled in [
        (utc(26, 20), 1),
        (utc(27, 8, 59), 1),
        (utc(27, 9), 2),
        (utc(27, 13, 59), 2),
        (utc(27, 14), 3),
    ]:
        caller.clock.now = moment
        if dialled > len(caller.dialled()):
            await caller.until(batch_call_id, partial(sent, dialled))
            await eventually(partial(rung, caller, dialled))  # the carrier writes after the claim
        assert len(caller.dialled()) == dialled, moment
    await caller.until_status(batch_call_id, "completed")
    assert [line["to_number"] for line in caller.dialled()] == [AUCKLAND, LONDON, NEW_YORK]


async def test_whose_date_is_over_expires_undialled_and_the_others_are_called(caller: Caller) -> None:
    caller.clock.now = utc(27, 16)
    batch_call_id = await caller.create([AUCKLAND, NEW_YORK, "+442079460007"], **ON_FRIDAY)
    data = await caller.until(batch_call_id, lambda data: data["counts"]["expired"] == 1 and data["sent"] == 2)
    await eventually(partial(rung, caller, 2))  # the carrier writes after the claim
    assert {line["to_number"] for line in caller.dialled()} == {NEW_YORK, "+442079460007"}
    [auckland, *_] = await caller.tasks(batch_call_id)
    assert (auckland["status"], auckland["error_message"]) == ("expired", claims.DATE_OVER)
    assert data["status"] in {"sent", "completed"}


async def test_a_redial_after_the_date_does_not_wait_for_it(caller: Caller) -> None:
    caller.clock.now = utc(27, 16, 30)
    retry = {
        "retry_config": {"max_attempts": 3},
        "retry_rules": [{"condition": "busy", "retry_timing": {"type": "AFTER", "duration_minutes": 8 * 60}}],
    }
    batch_call_id = await caller.create(["+442079460007"], **ON_FRIDAY, **retry)
    data = await caller.until_status(batch_call_id, "completed")
    assert data["counts"]["busy"] == 1


async def test_a_date_that_is_over_for_everybody_is_refused(caller: Caller) -> None:
    caller.clock.now = utc(27, 17)
    body = {"from_number": "+14157774444", "tasks": [{"to_number": LONDON}], **ON_FRIDAY}
    answer = await caller.ask("POST", "/batch-call", body, status=422)
    assert "nobody can be called on 2026-11-27 any more" in answer["error"]
    caller.clock.now = utc(26, 12)
    scheduled = await caller.create([LONDON], **ON_FRIDAY)
    draft = await caller.create([LONDON], window=NINE_TO_FIVE)
    longer = await caller.create([LONDON], **ON_FRIDAY, expires_date="2026-12-24")
    for path in (scheduled, draft, longer):
        await caller.ask("PATCH", f"/batch-call/{path}", {"trigger_date": "2026-11-25"}, status=422)


@pytest.mark.parametrize(
    "wrong",
    [
        {"trigger_date": "2026-11-27", "send_now": True},
        {"trigger_date": "2026-11-27", "status": "draft"},
        {"trigger_date": "2026-02-30"},
        {"trigger_date": "2300-01-01"},
        {"trigger_date": "27/11/2026"},
        {"trigger_date": "2026-11-27", "expires_date": "2026-11-26"},
        {"expires_date": "2026-11-30", "expires_timestamp": "2026-11-30T09:00Z"},
        {"expires_date": "2026-11-20", "send_now": True},
    ],
)
async def test_dates_that_contradict_each_other_are_refused(caller: Caller, wrong: dict[str, Any]) -> None:
    body = {"from_number": "+14157774444", "tasks": [{"to_number": LONDON}], **wrong}
    await caller.ask("POST", "/batch-call", body, status=422)


async def test_a_launch_that_is_moved_takes_its_own_end_with_it_and_keeps_a_given_one(caller: Caller) -> None:
    batch_call_id = await caller.create([LONDON], **ON_FRIDAY)
    path = f"/batch-call/{batch_call_id}"
    moved = await caller.ask("PATCH", path, {"trigger_date": "2026-11-30"})
    assert (moved["trigger_date"], moved["expires_date"]) == ("2026-11-30", "2026-11-30")
    same = await caller.ask("PATCH", path, {"status": "scheduled", "name": "The same"})
    assert same["trigger_date"] == "2026-11-30"
    longer = await caller.ask("PATCH", path, {"expires_date": "2026-12-02"})
    assert (longer["trigger_date"], longer["expires_date"]) == ("2026-11-30", "2026-12-02")
    at = await caller.ask("PATCH", path, {"trigger_timestamp": "2026-11-28T09:00Z"})
    assert (at["trigger_date"], at["expires_date"], at["scheduled_timestamp"]) == (None, "2026-12-02", ms(utc(28, 9)))
    draft = await caller.ask("PATCH", path, {"trigger_date": "2026-11-30"})
    draft = await caller.ask("PATCH", path, {"status": "draft"})
    assert (draft["trigger_date"], draft["scheduled_timestamp"], draft["expires_date"]) == (None, None, "2026-12-02")


async def test_started_now_it_is_called_now_and_the_end_of_its_date_is_no_end(caller: Caller) -> None:
    for how in ("execute", "patch"):
        batch_call_id = await caller.create([LONDON], trigger_date="2026-11-27")
        path = f"/batch-call/{batch_call_id}"
        started = (
            await caller.ask("POST", f"{path}/execute")
            if how == "execute"
            else await caller.ask("PATCH", path, {"send_now": True})
        )
        assert (started["status"], started["trigger_date"], started["expires_date"]) == ("sent", None, None)
        assert started["expires_timestamp"] is None


async def test_through_a_date_means_until_it_ends_where_somebody_is(caller: Caller) -> None:
    """The dialer's clock starts on Monday, 20:00 UTC: 9 in the morning of Tuesday in Auckland, noon in California."""
    caller.clock.now = utc(24, 10, 59)
    never = {"start": "05:00", "end": "05:01"}
    batch_call_id = await caller.create([AUCKLAND, HONOLULU], send_now=True, expires_date="2026-11-24", window=never)
    data = await caller.until(batch_call_id, lambda data: data["counts"]["expired"] == 1)
    assert data["expires_timestamp"] == ms(utc(25, 10))
    caller.clock.now = utc(24, 15)
    await caller.until_status(batch_call_id, "completed")
    assert [line["to_number"] for line in caller.dialled()] == [HONOLULU]


async def test_a_number_of_several_zones_waits_until_it_is_the_date_in_all(caller: Caller) -> None:
    """+1 800 may be in any zone from Puerto Rico to Guam."""
    caller.clock.now = utc(26, 20)
    batch_call_id = await caller.create(["+18002000000"], trigger_date="2026-11-27")
    data = await caller.get(batch_call_id)
    assert data["status"] == "scheduled"
    begins = datetime.fromtimestamp(data["scheduled_timestamp"] / 1000, UTC)
    assert begins >= utc(27, 10), "when it begins in Honolulu"


async def test_a_promised_call_back_comes_at_its_time_and_inside_the_window(caller: Caller) -> None:
    tasks = [
        {"to_number": LONDON},
        {"to_number": "+442079460010", "not_before": ms(utc(27, 15))},
        {"to_number": "+442079460020", "not_before": "2026-11-27T20:00:00Z"},
    ]
    body = {"from_number": "+14157774444", "tasks": tasks, "window": NINE_TO_FIVE, "send_now": True}
    caller.clock.now = utc(27, 10)
    batch_call_id = (await caller.ask("POST", "/batch-call", body))["batch_call_id"]
    await caller.until(batch_call_id, lambda data: data["sent"] == 1)
    data = await caller.get(batch_call_id)
    assert data["held_back"] == [{"reason": "not_before", "calls": 2, "until": ms(utc(27, 15))}]
    assert [task["not_before"] for task in await caller.tasks(batch_call_id)] == [
        None,
        "2026-11-27T15:00:00.000+00:00",
        "2026-11-27T20:00:00.000+00:00",
    ]
    caller.clock.now = utc(27, 15)
    await caller.until(batch_call_id, lambda data: data["sent"] == 2)
    caller.clock.now = utc(28, 9)
    await caller.until_status(batch_call_id, "completed")
    assert [line["to_number"][-2:] for line in caller.dialled()] == ["00", "10", "20"]


async def test_a_call_back_that_is_promised_for_afterwards_is_refused_by_its_row(caller: Caller) -> None:
    tasks = [{"to_number": LONDON}, {"to_number": NEW_YORK, "not_before": "2026-11-28T05:00:00Z"}]
    body = {"from_number": "+14157774444", "tasks": tasks}
    for end in ({"trigger_date": "2026-11-27"}, {"expires_timestamp": "2026-11-28T04:00:00Z"}):
        answer = await caller.ask("POST", "/batch-call", {**body, **end}, status=422)
        assert "tasks.1.not_before" in str(answer)
    made = await caller.ask("POST", "/batch-call", body)
    answer = await caller.ask(
        "PATCH", f"/batch-call/{made['batch_call_id']}", {"expires_date": "2026-11-27"}, status=422
    )
    assert "tasks.1.not_before" in str(answer)
    in_time = {**body, "tasks": [{**tasks[1], "not_before": "2026-11-28T04:59:00Z"}], "trigger_date": "2026-11-27"}
    await caller.ask("POST", "/batch-call", in_time)


async def test_people_who_are_added_have_the_same_date(caller: Caller) -> None:
    batch_call_id = await caller.create([NEW_YORK], **ON_FRIDAY)
    added = await caller.ask("POST", f"/batch-call/{batch_call_id}/tasks", {"tasks": [{"to_number": AUCKLAND}]})
    assert added["scheduled_timestamp"] == ms(utc(26, 20))
    added = await caller.ask("POST", f"/batch-call/{batch_call_id}/tasks", {"tasks": [{"to_number": HONOLULU}]})
    assert (added["scheduled_timestamp"], added["expires_timestamp"]) == (ms(utc(26, 20)), ms(utc(28, 10)))


async def test_a_dialer_that_was_away_for_a_part_of_the_date_calls_on_and_for_all_of_it_pauses(
    new_caller: NewCaller,
) -> None:
    options: dict[str, Any] = {"late_after": timedelta(minutes=30)}
    async with new_caller(**options) as caller:
        caller.clock.now = utc(27, 8)
        part = await caller.create([NEW_YORK], **ON_FRIDAY)
        whole = await caller.create([LONDON, NEW_YORK], **ON_FRIDAY)
    caller.clock.now = utc(27, 18)  # 13:00 in New York, and evening in London
    async with new_caller(**options) as caller:
        data = await caller.until(whole, lambda data: data["status"] == "paused")
        assert data["status_reason"]["code"] == "late"
        await caller.until_status(part, "completed")
        await caller.ask("POST", f"/batch-call/{whole}/resume")
        data = await caller.until(whole, lambda data: data["counts"]["expired"] == 1)
        assert LONDON not in {line["to_number"] for line in caller.dialled()}


async def test_a_claim_that_is_placed_after_midnight_is_withdrawn(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the claim and the dial the date ends."""
    real = claims.start_due

    def slow(*args: Any, **options: Any) -> claims.Claim:
        found = real(*args, **options)
        if found.started:
            caller.clock.now = utc(28, 0)
        return found

    monkeypatch.setattr(claims, "start_due", slow)
    caller.clock.now = datetime(2026, 11, 27, 23, 59, 59, tzinfo=UTC)
    batch_call_id = await caller.create(
        [LONDON, HONOLULU], trigger_date="2026-11-27", window={"start": "00:00", "end": "24:00"}
    )
    await caller.until(batch_call_id, lambda data: data["counts"]["expired"] == 1 and data["sent"] == 1)
    await eventually(partial(rung, caller, 1))
    assert [line["to_number"] for line in caller.dialled()] == [HONOLULU]


async def test_an_expired_date_keeps_nobody_from_being_counted(caller: Caller) -> None:
    many = numbers(5)
    caller.clock.now = utc(27, 20)
    batch_call_id = await caller.create(many, trigger_date="2026-11-27")
    await caller.until_status(batch_call_id, "completed")
    assert len(caller.dialled()) == 5


async def test_a_date_with_a_moment_begins_not_before_that(caller: Caller) -> None:
    """Time to think again, where it is the date already."""
    caller.clock.now = utc(27, 10)
    batch_call_id = await caller.create([LONDON], **ON_FRIDAY, trigger_timestamp=ms(utc(27, 10, 1)))
    data = await caller.get(batch_call_id)
    assert (data["status"], data["scheduled_timestamp"]) == ("scheduled", ms(utc(27, 10, 1)))
    assert caller.dialled() == []
    caller.clock.now = utc(27, 10, 1)
    await caller.until_status(batch_call_id, "completed")
    assert len(caller.dialled()) == 1
