"""Batch calls of the dialer over ElevenLabs and Bland: the engine, its database and the strict fakes together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, HttpCarrier
from batchcall_mcp.dialer.carriers.vendors.bland import BlandCarrier
from batchcall_mcp.dialer.carriers.vendors.elevenlabs import ElevenLabsCarrier
from tests.carriers import bland, elevenlabs
from tests.carriers.far_end import FarEnd
from tests.carriers.scripted import Time
from tests.dialer.conftest import Caller, Clock, NewCaller

PEOPLE = [f"+1212555012{digit}" for digit in (0, 4, 7, 8, 9)]


@dataclass(frozen=True)
class Vendor:
    """A fake, the carrier on it, and what its account has."""

    fake: Callable[[], FarEnd]
    carrier: type[HttpCarrier]
    number: str
    agent: str
    variables: str
    """Where they are in the body of a create."""
    ends: tuple[str, ...]


VENDORS = {
    "elevenlabs": Vendor(
        elevenlabs.ElevenLabs,
        ElevenLabsCarrier,
        elevenlabs.SIP,
        elevenlabs.AGENT,
        "conversation_initiation_client_data.dynamic_variables",
        ("completed", "completed", "failed", "voicemail", "failed"),
    ),
    "bland": Vendor(
        bland.Bland,
        BlandCarrier,
        bland.NUMBER,
        bland.PERSONA,
        "request_data",
        ("completed", "completed", "busy", "voicemail", "failed"),
    ),
}


@dataclass
class Desk:
    """A dialer over one of them."""

    vendor: Vendor
    fake: FarEnd
    caller: Caller

    async def send(self, people: list[str]) -> str:
        """A batch call to them, sent at once."""
        asked = {
            "from_number": self.vendor.number,
            "agent_id": self.vendor.agent,
            "tasks": [{"to_number": one, "dynamic_variables": {"name": f"Ann {one[-1]}"}} for one in people],
            "window": {"start": "00:00", "end": "24:00"},
            "send_now": True,
        }
        created = await self.caller.ask("POST", "/batch-call", asked)
        return str(created["batch_call_id"])

    async def until_completed(self, batch_call_id: str) -> None:
        """Its end."""
        await self.until(batch_call_id, "completed")

    async def until(self, batch_call_id: str, status: str) -> dict[str, Any]:
        """The batch call with this status. A second passes with each look at it."""

        def is_so(data: Mapping[str, Any]) -> bool:
            self.caller.clock.forward(seconds=1)
            return bool(data["status"] == status)

        return await self.caller.until(batch_call_id, is_so)


@pytest.fixture(params=VENDORS)
async def desk(request: pytest.FixtureRequest, new_caller: NewCaller, clock: Clock) -> AsyncIterator[Desk]:
    vendor, time = VENDORS[request.param], Time()
    fake = vendor.fake()
    async with fake.served() as url:
        config = CarrierConfig(key=SecretStr(fake.key), url=url, calls_per_second=1000)
        carrier = vendor.carrier(config, clock=time.clock, sleep=time.sleep, now=clock)
        async with new_caller(carrier=carrier) as caller:
            yield Desk(vendor, fake, caller)


async def test_everybody_is_rung_once_and_what_came_of_it_is_kept(desk: Desk) -> None:
    batch_call_id = await desk.send(PEOPLE)
    await desk.until_completed(batch_call_id)
    tasks = {task["to_number"]: task for task in await desk.caller.tasks(batch_call_id)}
    assert sorted(number for number, _ in desk.fake.rung) == PEOPLE
    assert [tasks[one]["status"] for one in PEOPLE] == list(desk.vendor.ends)
    answered = tasks[PEOPLE[0]]
    assert (answered["summary"], answered["duration_seconds"]) == ("She confirmed.", 42)
    assert answered["cost"]["currency"] == "USD"
    for create in desk.fake.creates:
        found: Any = create.json
        for name in desk.vendor.variables.split("."):
            found = found[name]
        number = create.json.get("to_number") or create.json["phone_number"]
        assert found == {"name": f"Ann {number[-1]}"}


async def test_who_was_refused_for_the_moment_is_rung_later_in_the_same_attempt(desk: Desk) -> None:
    desk.fake.status(429, 5)
    batch_call_id = await desk.send(PEOPLE[:1])
    await desk.until_completed(batch_call_id)
    (task,) = await desk.caller.tasks(batch_call_id)
    assert (task["status"], task["attempts"], len(desk.fake.rung)) == ("completed", 1, 1)
    assert len(desk.fake.creates) == 2


async def test_a_lost_answer_is_looked_up_and_nobody_is_rung_twice(desk: Desk) -> None:
    desk.fake.drop_create_answer()
    batch_call_id = await desk.send(PEOPLE[:1])
    await desk.until_completed(batch_call_id)
    (task,) = await desk.caller.tasks(batch_call_id)
    assert (task["status"], len(desk.fake.creates), len(desk.fake.rung)) == ("completed", 1, 1)


async def test_an_account_at_fault_pauses_the_batch_call_and_fails_nobody(desk: Desk) -> None:
    desk.fake.status(402, body={"message": "Insufficient balance"}, times=9)
    batch_call_id = await desk.send(PEOPLE)
    data = await desk.until(batch_call_id, "paused")
    assert (data["status_reason"]["code"], data["counts"]["failed"], desk.fake.rung) == ("account", 0, [])


async def test_a_key_that_is_not_accepted_asks_for_no_call(desk: Desk) -> None:
    desk.fake.key = "another"
    batch_call_id = await desk.send(PEOPLE)
    data = await desk.until(batch_call_id, "paused")
    assert (data["status_reason"]["code"], data["counts"]["failed"]) == ("account", 0)
    assert desk.fake.creates == []
    assert len(desk.fake.requests) <= 3


async def test_what_was_said_can_be_read(desk: Desk) -> None:
    batch_call_id = await desk.send(PEOPLE[:1])
    await desk.until_completed(batch_call_id)
    (task,) = await desk.caller.tasks(batch_call_id)
    said = await desk.caller.ask("GET", f"/batch-call/{batch_call_id}/tasks/{task['task_id']}/call")
    assert "Hi, this is the clinic." in str(said)


@pytest.mark.parametrize("changed", [{"from_number": "+14155550777"}, {"agent_id": "another"}])
async def test_what_is_not_the_account_s_is_refused_at_creation(desk: Desk, changed: dict[str, str]) -> None:
    asked = {
        "from_number": desk.vendor.number,
        "agent_id": desk.vendor.agent,
        "tasks": [{"to_number": PEOPLE[0]}],
        "window": {"start": "00:00", "end": "24:00"},
        "send_now": True,
    }
    await desk.caller.ask("POST", "/batch-call", asked | changed, status=422)
    assert desk.fake.creates == []
