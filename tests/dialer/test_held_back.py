"""Who of a batch call's tasks would not be dialled now, and until when, is part of what its GET answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batchcall_mcp.clock import to_ms
from batchcall_mcp.dialer.carriers.base import Attempt, CarrierUnavailable
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier
from tests.dialer.conftest import Caller, NewCaller, body, emptied_postgresql, numbers, on_sqlite

ONE_RETRY = {"enabled": True, "max_attempts": 1}
BUSY_AGAIN = [{"condition": "busy", "retry_timing": {"type": "AFTER", "duration_minutes": 30}}]


@pytest.fixture(params=["sqlite", "postgresql"])
async def dialling(new_caller: NewCaller, request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    database = emptied_postgresql() if request.param == "postgresql" else None
    async with new_caller(database=database) as made:
        yield made


def held(reason: str, calls: int, until: datetime) -> dict[str, Any]:
    return {"reason": reason, "calls": calls, "until": to_ms(until)}


async def dial(caller: Caller, to_numbers: list[str], times: int) -> None:
    """Call each of them so often, in batch calls that are over."""
    for _ in range(times):
        await caller.until_status(await caller.create(to_numbers, send_now=True), "completed")


async def test_hours_and_redials_and_the_day_hold_back_until_their_moments(dialling: Caller) -> None:
    """Noon in Los Angeles: Berlin is asleep, one was dialled three times today, one is busy and called again."""
    began = dialling.clock()
    await dial(dialling, numbers(2), 3)
    dialling.clock.forward(hours=1)
    asked = body(
        [*numbers(3), *numbers(1, 7), "+493012345670", "+493012345671"],
        send_now=True,
        retry_config=ONE_RETRY,
        retry_rules=BUSY_AGAIN,
    )
    del asked["window"]
    batch_call_id = (await dialling.ask("POST", "/batch-call", asked))["batch_call_id"]
    data = await dialling.until(batch_call_id, lambda data: len(data["held_back"]) == 3)
    now = dialling.clock()
    assert data["held_back"] == [
        held("calling_hours", 2, datetime(2026, 11, 24, 7, 0, tzinfo=UTC)),
        held("daily_cap", 2, began + timedelta(hours=24)),
        held("retry", 1, now + timedelta(minutes=30)),
    ]
    assert sum(one["calls"] for one in data["held_back"]) == data["counts"]["pending"]

    dialling.clock.forward(minutes=30)
    data = await dialling.until(batch_call_id, lambda data: len(data["held_back"]) == 2)
    await dialling.ask("POST", f"/batch-call/{batch_call_id}/cancel")
    assert (await dialling.get(batch_call_id))["held_back"] == []


async def test_a_redial_that_falls_outside_the_hours_waits_for_them(new_caller: NewCaller) -> None:
    async with new_caller() as caller:
        batch_call_id = await caller.create(
            numbers(1, 7),
            window={"start": "08:00", "end": "12:10"},
            send_now=True,
            retry_config=ONE_RETRY,
            retry_rules=BUSY_AGAIN,
        )
        await caller.until(batch_call_id, lambda data: [one["reason"] for one in data["held_back"]] == ["retry"])
        caller.clock.forward(minutes=30)
        data = await caller.until(batch_call_id, lambda data: data["held_back"] != [])
        assert data["held_back"] == [held("calling_hours", 1, datetime(2026, 11, 24, 16, 0, tzinfo=UTC))]


@on_sqlite("dialling")
async def test_a_draft_and_a_scheduled_one_say_whom_the_day_holds_back(dialling: Caller) -> None:
    began = dialling.clock()
    await dial(dialling, numbers(1), 2)
    dialling.clock.forward(hours=2)
    await dial(dialling, numbers(2), 1)
    draft = await dialling.create(numbers(3))
    # The first of three dials is what has to be a day old.
    capped = held("daily_cap", 1, began + timedelta(hours=24))
    assert (await dialling.get(draft))["held_back"] == [capped]
    soon = await dialling.create(numbers(3), trigger_timestamp=(began + timedelta(hours=23)).isoformat())
    assert (await dialling.get(soon))["held_back"] == [capped]
    later = await dialling.create(numbers(3), trigger_timestamp=(began + timedelta(hours=24)).isoformat())
    assert (await dialling.get(later))["held_back"] == []
    assert (await dialling.get(await dialling.create(numbers(2, 1))))["held_back"] == []


async def test_what_the_claims_do_is_what_a_draft_has_said(dialling: Caller) -> None:
    await dial(dialling, numbers(2), 3)
    batch_call_id = await dialling.create(numbers(4))
    said = (await dialling.get(batch_call_id))["held_back"]
    await dialling.ask("POST", f"/batch-call/{batch_call_id}/execute")
    data = await dialling.until(batch_call_id, lambda data: data["completed"] == 2 and data["counts"]["calling"] == 0)
    assert data["held_back"] == said == [held("daily_cap", 2, dialling.clock() + timedelta(hours=24))]


@on_sqlite("dialling")
async def test_another_organisation_s_dials_hold_nobody_back(dialling: Caller) -> None:
    from batchcall_mcp.dialer.storage import api_keys
    from tests.dialer.conftest import client_of

    await dial(dialling, numbers(1), 3)
    api_keys.add(dialling.dialer.store(), pair := api_keys.new_pair(), "other")
    async with client_of(dialling.dialer.app, *pair) as http:
        made = (await http.post("/batch-call", json=body(numbers(1)))).json()["data"]["batch_call_id"]
        assert (await http.get(f"/batch-call/{made}")).json()["data"]["held_back"] == []


async def test_a_carrier_that_takes_no_calls_holds_back_for_a_moment(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dial(self: SimulatedCarrier, attempt: Attempt) -> None:
        raise CarrierUnavailable("all lines are in use")

    async with new_caller() as caller:
        with monkeypatch.context() as patched:
            patched.setattr(SimulatedCarrier, "dial", dial)
            batch_call_id = await caller.create(numbers(2), send_now=True)
            data = await caller.until(
                batch_call_id, lambda data: data["held_back"] != [] and data["held_back"][0]["calls"] == 2
            )
            assert data["held_back"] == [held("carrier", 2, caller.clock() + timedelta(seconds=5))]
        caller.clock.forward(seconds=5)
        assert (await caller.until_status(batch_call_id, "completed"))["held_back"] == []


@on_sqlite("dialling")
async def test_tasks_that_are_dialled_again_by_hand_are_held_back_no_longer(dialling: Caller) -> None:
    """`retry` makes them due now; a pause changes nothing of what holds the others back."""
    batch_call_id = await dialling.create(
        [*numbers(1), *numbers(1, 7)], send_now=True, retry_config=ONE_RETRY, retry_rules=BUSY_AGAIN
    )
    await dialling.until(batch_call_id, lambda data: data["completed"] == 1 and data["held_back"] != [])
    paused = await dialling.ask("POST", f"/batch-call/{batch_call_id}/pause")
    assert "held_back" not in paused, "only a GET says so"
    assert [one["reason"] for one in (await dialling.get(batch_call_id))["held_back"]] == ["retry"]
    await dialling.ask("POST", f"/batch-call/{batch_call_id}/resume")
    dialling.clock.forward(minutes=30)
    assert (await dialling.until_status(batch_call_id, "completed"))["held_back"] == []
