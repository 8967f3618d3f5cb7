"""A carrier over an API, against a vendor on a real socket: nobody is asked for twice, and no id is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from batchcall_mcp.dialer.carriers.base import Attempt, Carrier, HasAccount, Outcome
from batchcall_mcp.model import TaskStatus
from tests.carriers.scripted import ScriptedCarrier, ScriptedLine, ScriptedVendor, Time, attempt_to, config_for


@asynccontextmanager
async def carrier_of(vendor: ScriptedVendor, time: Time | None = None, **more: Any) -> AsyncIterator[ScriptedCarrier]:
    time = time or Time()
    carrier = ScriptedCarrier(config_for(vendor.url, **more), clock=time.clock, sleep=time.sleep, now=time.now)
    try:
        yield carrier
    finally:
        await carrier.aclose()


async def outcome_of(
    vendor: ScriptedVendor, line: ScriptedLine | None = None, time: Time | None = None, attempt: Attempt | None = None
) -> Outcome:
    async with carrier_of(vendor, time) as carrier:
        return await carrier.outcome(attempt or attempt_to(), line or ScriptedLine())


def test_it_offers_what_the_engine_and_the_api_ask_of_a_carrier() -> None:
    carrier: Carrier = ScriptedCarrier(config_for(None))
    assert isinstance(carrier, HasAccount)
    assert (carrier.capacity, carrier.calls_per_second, carrier.places_real_calls) == (7, 1.0, True)
    assert ScriptedCarrier(config_for(None, concurrency=3, calls_per_second=0.5)).calls_per_second == 0.5


async def test_a_call_is_asked_for_once_while_it_is_held_and_read_until_it_is_over() -> None:
    async with ScriptedVendor("queued", "going", "completed").served() as vendor:
        line, time = ScriptedLine(), Time()
        vendor.during_create = lambda: line.did.append("arrived")
        outcome = await outcome_of(vendor, line, time)
    assert outcome == Outcome(TaskStatus.COMPLETED, "as the vendor has it", backend_status="completed")
    assert line.did == ["held", "let go", "arrived", "call_1"]
    assert len(vendor.asked("create")) == 1
    assert [pause for pause in time.slept if pause >= 1] == [1, 2, 3]
