"""Walk 2: the same job on Zudu, with a client that cannot ask questions; a wrong zone, and "stop, wrong list!".

The operator chose codes (`BATCHCALL_CONFIRM=code`); by default a person would be asked outside the client.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.server.transports import spawned
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import GENERATIONS, HAND_WRITTEN, Generation, Zudu
from tests.walks.stage import (
    CHICAGO,
    FROM,
    NEW_YORK,
    Era,
    Model,
    every_era,
    number,
    playing,
    tomorrow_at,
)

every_generation = pytest.mark.parametrize(
    ("generation", "era"),
    [(one, era) for one, era in zip(GENERATIONS, ("legacy", "auto", "legacy"), strict=True)],
    ids=str,
)
PEOPLE = [number(NEW_YORK, 1), number(NEW_YORK, 2), number(CHICAGO, 3)]
TASKS = [{"to_number": one, "dynamic_variables": {"name": f"P{at}"}} for at, one in enumerate(PEOPLE)]
WINDOW = {"start": "09:00", "end": "17:00", "timezone": "America/New_York"}


def account(url: str) -> dict[str, Any]:
    return {"backend": "zudu", "url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET, "confirm": "code"}


@every_era
async def test_what_zudu_cannot_hold_is_refused_with_what_it_can_and_nothing_is_sent(era: Era) -> None:
    vendor = Zudu()
    async with vendor.served() as url, playing(era, **account(url)) as model:
        facts = await model.call("get_backend")
        assert facts["numbers"][0]["from_number"] == FROM
        assert facts["agents"][0]["agent_id"] == zudu.AGENT
        assert facts["agents"][0]["variables"] == ["name"]
        assert "cannot stop calls once" in facts["stop"]
        pst = await model.refused(
            "create_batch_call",
            "invalid_input",
            from_number=FROM,
            tasks=TASKS,
            window={"start": "09:00", "end": "17:00", "timezone": "PST"},
        )
        assert "did you mean America/Los_Angeles" in pst
        theirs = await model.refused(
            "create_batch_call",
            "not_supported",
            from_number=FROM,
            tasks=TASKS,
            window={"start": "09:00", "end": "17:00"},
        )
        assert "one IANA time zone" in theirs
        assert "Nothing was sent" in theirs
        weekdays = await model.refused(
            "create_batch_call", "not_supported", from_number=FROM, tasks=TASKS, window=WINDOW | {"days": ["mon"]}
        )
        assert "window.days" in weekdays
    assert vendor.writes == []


@every_generation
async def test_a_code_confirms_with_only_the_required_arguments_and_a_scheduled_one_is_taken_back(
    era: Era, generation: Generation
) -> None:
    vendor = Zudu(generation)
    async with vendor.served() as url, playing(era, **account(url)) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, window=WINDOW, name="Winter")
        name = made["batch_call"]["batch_call_id"]
        assert made["batch_call"]["status"] == "draft"
        body = vendor.writes[0].json
        assert (body["status"], body["send_now"]) == ("draft", False)
        quiet = {"enabled": True, "start_time": "17:00", "end_time": "09:00", "timezone": "America/New_York"}
        assert body["quiet_hours"] == quiet
        assert vendor.dialled == []

        # F18, F19, F20: no error, no state of a batch call; the question, and what need be repeated.
        at = tomorrow_at(10).isoformat()
        asked = await model.call("start_batch_call", batch_call_id=name, trigger_timestamp=at)
        assert asked["result"] == "confirmation_required"
        assert asked["batch_call"]["status"] == "draft"
        assert "3 people" in asked["summary"]
        assert "Cannot be stopped once started." in asked["summary"]
        assert "Until it starts you can cancel it." in asked["summary"]
        assert (
            "the same batch_call_id (and trigger_timestamp, if it was given) and the confirmation_code"
            in asked["notes"][0]
        )
        assert "next" not in asked
        assert asked["confirmation_code"] not in asked["summary"] + asked["notes"][0]
        assert len(vendor.writes) == 1
        begun = await model.call(
            "start_batch_call",
            batch_call_id=name,
            trigger_timestamp=at,
            confirmation_code=asked["confirmation_code"],
        )
        assert begun["result"] == "scheduled"
        assert begun["batch_call"]["scheduled_at"].startswith(at[:16])

        # F21: the only stop that Zudu has, found under the name that a model looks for.
        stopped = await model.call("cancel_batch_call", batch_call_id=name)
        assert stopped["result"] == "cancelled"
        assert stopped["batch_call"]["status"] == "draft"
        assert (vendor.writes[-1].method, vendor.writes[-1].json) == ("PATCH", {"status": "draft"})
        vendor.tick(vendor.now + timedelta(days=10))
        assert vendor.dialled == []
        gone = await model.call("delete_batch_call", batch_call_id=name)
        assert gone["result"] == "deleted"
        assert vendor.batches == {}


@every_generation
async def test_one_that_dials_cannot_be_stopped_and_the_question_said_so_before(
    era: Era, generation: Generation
) -> None:
    vendor = Zudu(generation)
    async with vendor.served() as url, playing(era, **account(url)) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        name = made["batch_call"]["batch_call_id"]
        asked = await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
        assert "Cannot be stopped once started" in asked["preflight"]["can_stop"]
        assert vendor.dialled == []
        code = asked["confirmation_code"]
        go = {"batch_call_id": name, "trigger_timestamp": "now", "confirmation_code": code}
        begun = await model.call("start_batch_call", **go)
        assert begun["result"] == "started"
        assert begun["batch_call"]["status"] == "running"
        assert vendor.dialled == PEOPLE

        writes = len(vendor.writes)
        stop = await model.refused("cancel_batch_call", "not_supported", batch_call_id=name)
        assert "cannot stop calls" in stop
        assert "the calls go on" in stop
        delete = await model.refused("delete_batch_call", "illegal_transition", batch_call_id=name)
        assert "Nothing was sent" in delete
        # A code launches once, and a batch call that runs is not started again.
        for repeated in (go, {"batch_call_id": name, "trigger_timestamp": "now"}):
            again = await model.call("start_batch_call", **repeated)
            assert (again["result"], again["replayed"]) == ("started", True)
            assert "Nothing was sent by this call" in again["summary"]
        assert len(vendor.writes) == writes
        assert vendor.dialled == PEOPLE


@every_era
async def test_a_code_is_for_what_was_shown_and_for_nothing_else(era: Era) -> None:
    vendor = Zudu()
    async with vendor.served() as url, playing(era, **account(url)) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        name = made["batch_call"]["batch_call_id"]
        asked = await model.call("start_batch_call", batch_call_id=name, trigger_timestamp=tomorrow_at(10).isoformat())
        code = asked["confirmation_code"]
        other_time = await model.refused(
            "start_batch_call",
            "not_confirmed",
            batch_call_id=name,
            trigger_timestamp="now",
            confirmation_code=code,
        )
        assert "trigger_timestamp" in other_time
        # The list grew behind the person's back: the code does not launch it, and the new list is shown.
        await model.call("update_batch_call", batch_call_id=name, tasks=[*TASKS, {"to_number": number(CHICAGO, 4)}])
        changed = await model.call(
            "start_batch_call",
            batch_call_id=name,
            trigger_timestamp=tomorrow_at(10).isoformat(),
            confirmation_code=code,
        )
        assert changed["result"] == "confirmation_required"
        assert "has changed since the last question" in changed["summary"]
        assert changed["confirmation_code"] != code
        assert vendor.dialled == []
        assert {batch.status for batch in vendor.batches.values()} == {"DRAFT"}


@every_era
async def test_a_code_stands_for_the_whole_list_so_that_no_row_is_typed_again(era: Era) -> None:
    vendor = Zudu()
    async with vendor.served() as url, playing(era, **account(url)) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        name = made["batch_call"]["batch_call_id"]
        at = tomorrow_at(10)
        change = {"tasks": TASKS[:2], "trigger_timestamp": at.isoformat(), "status": "scheduled"}
        asked = await model.call("update_batch_call", batch_call_id=name, **change)
        assert asked["result"] == "confirmation_required"
        assert "2 people" in asked["summary"]
        done = await model.call("update_batch_call", batch_call_id=name, confirmation_code=asked["confirmation_code"])
        assert done["result"] == "updated"
        body = vendor.writes[-1].json
        assert body["tasks"] == TASKS[:2]
        assert body["trigger_timestamp"] == int(at.timestamp() * 1000)
        vendor.tick(at)
    assert vendor.dialled == PEOPLE[:2]


@every_era
async def test_the_same_on_a_backend_whose_create_can_dial(era: Era) -> None:
    vendor = Magpipe()
    people = [{"to_number": one, "name": f"P{at}"} for at, one in enumerate(PEOPLE)]
    async with (
        vendor.served() as url,
        playing(era, None, backend="magpipe", url=url, api_key=magpipe.KEY, confirm="code") as model,
    ):
        at = tomorrow_at(10)
        asked = await model.call("create_batch_call", from_number=FROM, tasks=people, trigger_timestamp=at.isoformat())
        assert asked["result"] == "confirmation_required"
        assert vendor.writes == []
        done = await model.call("create_batch_call", from_number=FROM, confirmation_code=asked["confirmation_code"])
        assert done["result"] == "scheduled"
        vendor.tick(at - timedelta(minutes=1))
        assert vendor.dialled == []
        vendor.tick(at)
    assert vendor.dialled == PEOPLE


@every_era
async def test_the_same_over_the_pipe_of_a_process(era: Era) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        environment = {f"BATCHCALL_{name.upper()}": value for name, value in account(url).items()}
        async with spawned(("-m", "batchcall_mcp"), environment, mode=era) as client:
            model = Model(client)
            made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
            launch = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
            asked = await model.call("start_batch_call", **launch)
            assert vendor.dialled == []
            await model.call("start_batch_call", **launch, confirmation_code=asked["confirmation_code"])
    assert vendor.dialled == PEOPLE


async def test_milliseconds_are_sent_always_so_that_a_reader_of_seconds_lands_in_the_far_future() -> None:
    vendor = Zudu(HAND_WRITTEN)
    async with vendor.served() as url, playing("auto", **account(url)) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        name = made["batch_call"]["batch_call_id"]
        at = tomorrow_at(10)
        launch = {"batch_call_id": name, "trigger_timestamp": int(at.timestamp())}
        asked = await model.call("start_batch_call", **launch)
        await model.call("start_batch_call", **launch, confirmation_code=asked["confirmation_code"])
        assert vendor.writes[-1].json["trigger_timestamp"] == int(at.timestamp() * 1000)
        vendor.tick(at + timedelta(days=3650))
        assert vendor.dialled == []
