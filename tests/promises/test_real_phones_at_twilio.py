"""Real phones through Twilio, from the question to the outcome: the tools, the dialer and Twilio's forms together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.carriers.twilio import KEY, NUMBER, SECRET, Twilio
from tests.walks.stage import ALWAYS, NEW_YORK, Model, Person, number, playing

PEOPLE = [number(NEW_YORK, line) for line in (0, 7, 8, 9)]
AGENTS = '[reminder]\nsay = "Hello {{first_name}}."\nmachine = "leave_message"\n'


@pytest.fixture
async def vendor() -> AsyncIterator[Twilio]:
    """A call is over when it is read for the first time."""
    twilio = Twilio()
    twilio.is_quick = True
    async with twilio.served() as twilio.url:
        yield twilio


def real(vendor: Twilio, folder: Path, **more: Any) -> dict[str, Any]:
    agents = folder / "agents.toml"
    agents.write_text(AGENTS, encoding="utf-8")
    return {
        "data_dir": folder,
        "carrier": "twilio",
        "carrier_url": vendor.url,
        "carrier_key": KEY,
        "carrier_secret": SECRET,
        "carrier_calls_per_second": 50,
        "agents": agents,
        "calling_hours": "00:00-24:00",
        **more,
    }


async def started(model: Model, **more: Any) -> dict[str, Any]:
    """A batch call to everybody, that somebody has confirmed; and its id."""
    tasks = [{"to_number": one, "dynamic_variables": {"first_name": "Ann"}} for one in PEOPLE]
    wanted = {"from_number": NUMBER, "agent_id": "reminder", "tasks": tasks, "window": ALWAYS, **more}
    made = await model.call("create_batch_call", **wanted)
    named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
    await model.call("start_batch_call", **named, trigger_timestamp="now")
    return named


async def ended(model: Model, named: dict[str, Any], *statuses: str) -> dict[str, Any]:
    """The batch call, once it has one of these statuses."""
    while True:
        watched = await model.call("watch_batch_call", **named, timeout_seconds=15)
        batch_call: dict[str, Any] = watched["batch_call"]
        if batch_call["status"] in statuses:
            return batch_call


async def test_everybody_is_called_once_and_nobody_before_the_yes(vendor: Twilio, tmp_path: Path) -> None:
    person = Person()
    async with playing("auto", person, **real(vendor, tmp_path)) as model:
        named = await started(model)
        asked_after = len(person.questions)
        await ended(model, named, "completed")
        page = await model.call("get_batch_call", **named)
    found = {task["to_number"]: task["status"] for task in page["tasks"]}
    assert found == dict(zip(PEOPLE, ["completed", "busy", "voicemail", "failed"], strict=True))
    assert sorted(to for to, _ in vendor.rung) == sorted(PEOPLE)
    assert asked_after == 1
    assert "Real phones ring, and the Twilio account AC…cdef at 127.0.0.1 pays." in person.questions[0]
    assert "Hello Ann" in person.questions[0]
    assert {call.document[0].text for call in vendor.calls.values()} == {"Hello Ann."}
    assert {call.from_ for call in vendor.calls.values()} == {NUMBER}


async def test_without_the_yes_nothing_is_sent(vendor: Twilio, tmp_path: Path) -> None:
    async with playing("auto", Person("no"), **real(vendor, tmp_path)) as model:
        tasks = [{"to_number": one, "dynamic_variables": {"first_name": "Ann"}} for one in PEOPLE]
        made = await model.call("create_batch_call", from_number=NUMBER, agent_id="reminder", tasks=tasks)
        named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.refused("start_batch_call", "not_confirmed", **named, trigger_timestamp="now")
    assert vendor.creates == []


async def test_a_lost_answer_rings_nobody_twice(vendor: Twilio, tmp_path: Path) -> None:
    vendor.drop_create_answer()
    async with playing("auto", Person(), **real(vendor, tmp_path)) as model:
        await ended(model, await started(model), "completed")
    assert sorted(to for to, _ in vendor.rung) == sorted(PEOPLE)
    assert len(vendor.creates) == len(PEOPLE)


async def test_a_caller_number_that_twilio_refuses_pauses_and_fails_nobody(vendor: Twilio, tmp_path: Path) -> None:
    vendor.fault(400, 21210, times=len(PEOPLE))
    async with playing("auto", Person(), **real(vendor, tmp_path)) as model:
        named = await started(model)
        paused = await ended(model, named, "paused", "completed")
        page = await model.call("get_batch_call", **named)
    assert paused["status"] == "paused"
    assert {task["status"] for task in page["tasks"]} == {"pending"}
    assert "caller number is not accepted" in str(page)
    assert vendor.rung == []


async def test_what_the_agent_cannot_say_is_refused_at_creation(vendor: Twilio, tmp_path: Path) -> None:
    async with playing("auto", Person(), **real(vendor, tmp_path)) as model:
        for variables, words in (({}, "first_name"), ({"first_name": "x" * 201}, "200 characters")):
            tasks = [{"to_number": PEOPLE[0], "dynamic_variables": variables}]
            wanted = {"from_number": NUMBER, "agent_id": "reminder", "tasks": tasks}
            text = await model.refused("create_batch_call", "invalid_input", **wanted)
            assert "tasks.0" in text
            assert words in text
    assert vendor.creates == []
