"""A batch call whose time is over dials nobody any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batchcall_mcp.dialer.engine import claims
from tests.dialer.conftest import Caller, body, numbers

AGAIN_IN_AN_HOUR = {
    "retry_config": {"max_attempts": 3},
    "retry_rules": [{"condition": "busy", "retry_timing": {"type": "AFTER", "duration_minutes": 60}}],
}


def at(caller: Caller, **span: float) -> str:
    return (caller.clock() + timedelta(**span)).isoformat()


async def test_who_waits_when_it_expires_is_not_dialled(caller: Caller) -> None:
    """Who was dialled before keeps the outcome of that; who was not is `expired`; nobody is dialled after."""
    batch_call_id = await caller.create(
        numbers(2, 7), send_now=True, expires_timestamp=at(caller, minutes=90), **AGAIN_IN_AN_HOUR
    )
    await caller.until(batch_call_id, lambda data: data["sent"] == 2 and data["counts"]["pending"] == 2)
    await caller.ask("POST", f"/batch-call/{batch_call_id}/pause")
    added = {"tasks": [{"to_number": number} for number in numbers(1)]}
    await caller.ask("POST", f"/batch-call/{batch_call_id}/tasks", added)
    caller.clock.forward(minutes=90)
    data = await caller.until(batch_call_id, lambda data: data["counts"]["pending"] == 0)
    assert (data["status"], data["counts"]["busy"], data["counts"]["expired"]) == ("paused", 2, 1)
    [busy, _, expired] = await caller.tasks(batch_call_id)
    assert (busy["error_message"], expired["error_message"]) == (claims.EXPIRED, claims.EXPIRED)
    await caller.ask("POST", f"/batch-call/{batch_call_id}/resume")
    await caller.until_status(batch_call_id, "completed")
    assert len(caller.dialled()) == 2


async def test_until_then_it_goes_on(caller: Caller) -> None:
    """The moment itself is not in time any more."""
    batch_call_id = await caller.create(
        numbers(1, 7), send_now=True, expires_timestamp=at(caller, hours=2), **AGAIN_IN_AN_HOUR
    )
    await caller.until(batch_call_id, lambda data: data["sent"] == 1 and data["counts"]["pending"] == 1)
    caller.clock.forward(minutes=60)
    await caller.until_status(batch_call_id, "completed")
    assert len(caller.dialled()) == 2, "and the third would be due when it is over"
    [task] = await caller.tasks(batch_call_id)
    assert task["status"] == "busy"


async def test_who_could_be_called_only_afterwards_does_not_wait(caller: Caller) -> None:
    """Noon in Los Angeles is 21:00 in Berlin, which opens at 07:00 UTC."""
    late: dict[str, Any] = body(["+493012345670"], send_now=True, expires_timestamp="2026-11-24T07:00:00Z")
    in_time: dict[str, Any] = body(["+493012345680"], send_now=True, expires_timestamp="2026-11-24T07:00:01Z")
    del late["window"], in_time["window"]
    ids = [(await caller.ask("POST", "/batch-call", asked))["batch_call_id"] for asked in (late, in_time)]
    data = await caller.until_status(ids[0], "completed")
    assert data["counts"]["expired"] == 1
    await caller.until(ids[1], lambda data: data["counts"]["pending"] == 1)
    caller.clock.now = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
    await caller.until_status(ids[1], "completed")
    assert [line["to_number"] for line in caller.dialled()] == ["+493012345680"]


async def test_a_long_list_expires_a_part_at_a_time(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction grows with the list, and all of it goes."""
    monkeypatch.setattr(claims, "LOOKED_AT_ONCE", 7)
    window = {"start": "15:00", "end": "16:00"}
    batch_call_id = await caller.create(
        numbers(30), send_now=True, window=window, expires_timestamp=at(caller, hours=4)
    )
    await caller.until(batch_call_id, lambda data: data["status"] == "sent")
    caller.clock.forward(hours=4)
    data = await caller.until_status(batch_call_id, "completed")
    assert data["counts"]["expired"] == 30
    assert caller.dialled() == []
