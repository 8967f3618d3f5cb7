"""Walk 7: "Change tomorrow's message for Ann", "add Bob": an update that does less, or more, than was meant."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.vendors import zudu
from tests.vendors.zudu import GENERATED, HAND_WRITTEN, NEWEST, Generation, Zudu
from tests.walks.stage import (
    ALWAYS,
    FROM,
    NEW_YORK,
    Era,
    Person,
    dials,
    every_era,
    number,
    numbers,
    playing,
    tomorrow_at,
)

BOB = number(NEW_YORK, 99)
ERA_OF: list[tuple[Generation, Era]] = [(HAND_WRITTEN, "auto"), (GENERATED, "legacy"), (NEWEST, "auto")]


@every_era
async def test_tasks_replaces_the_whole_list_and_the_answer_shows_the_loss(era: Era, tmp_path: Path) -> None:
    async with playing(era, data_dir=tmp_path) as model:
        people = [{"to_number": one, "dynamic_variables": {"plan": "pro"}} for one in numbers(290)]
        assert len(people) == 290
        made = await model.call("create_batch_call", from_number=FROM, tasks=people, window=ALWAYS, name="All")
        name = made["batch_call"]["batch_call_id"]
        described = (await model.schema("update_batch_call"))["tasks"]["description"]
        assert described == "Replaces the whole list"
        changed = await model.call("update_batch_call", batch_call_id=name, tasks=[{"to_number": BOB, "name": "Bob"}])
        assert changed["result"] == "updated"
        assert changed["changed"] == {"tasks": [290, 1]}
        assert changed["batch_call"]["status"] == "draft"
        assert changed["batch_call"]["window"]["end"] == "24:00"
        renamed = await model.call("update_batch_call", batch_call_id=name, name="Only Bob")
        assert renamed["changed"]["name"] == ["All", "Only Bob"]
    assert dials(tmp_path) == Counter()


@every_era
async def test_zudu_has_no_argument_that_adds_and_a_guess_at_one_is_refused(era: Era) -> None:
    vendor = Zudu()
    pair = {"api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with vendor.served() as url, playing(era, None, backend="zudu", url=url, **pair) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": BOB}])
        described = {one.name: one.description or "" for one in (await model.client.list_tools()).tools}
        assert "To add people, create_batch_call with them alone." in described["update_batch_call"]
        text = await model.refused(
            "update_batch_call", "invalid_input", batch_call_id=made["batch_call"]["batch_call_id"], add_tasks=[]
        )
        assert "add_tasks" in text


@pytest.mark.sweep
@pytest.mark.parametrize(("generation", "era"), ERA_OF, ids=str)
async def test_zudu_is_changed_in_part_where_it_can_be_and_whole_only_with_the_list(
    generation: Generation, era: Era
) -> None:
    vendor, person = Zudu(generation), Person("yes")
    pair = {"api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with vendor.served() as url, playing(era, person, backend="zudu", url=url, **pair) as model:
        tasks = [{"to_number": one} for one in numbers(3)]
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, name="Before")
        name = made["batch_call"]["batch_call_id"]
        renamed = await model.call("update_batch_call", batch_call_id=name, name="After")
        assert (vendor.writes[-1].method, vendor.writes[-1].json) == ("PATCH", {"name": "After"})
        assert renamed["changed"] == {"name": ["Before", "After"]}

        # What only a full replacement can change is refused without the list, which Zudu does not give back.
        writes = len(vendor.writes)
        text = await model.refused(
            "update_batch_call", "invalid_input", batch_call_id=name, from_number=number(NEW_YORK, 50)
        )
        assert "Pass tasks" in text
        assert "Nothing was sent" in text
        assert len(vendor.writes) == writes

        # A draft that is replaced stays a draft, in so many words: silence would dial.
        replaced = await model.call("update_batch_call", batch_call_id=name, tasks=[{"to_number": BOB}])
        assert replaced["changed"] == {"tasks": [3, 1]}
        body = vendor.writes[-1].json
        assert vendor.writes[-1].method == "PUT"
        assert (body["status"], body["send_now"], body["name"]) == ("draft", False, "After")
        assert person.questions == []

        # A scheduled one keeps its time, and its new list is confirmed first.
        at = tomorrow_at(11)
        await model.call("start_batch_call", batch_call_id=name, trigger_timestamp=at.isoformat())
        person.answer = "no"
        writes = len(vendor.writes)
        await model.refused("update_batch_call", "not_confirmed", batch_call_id=name, tasks=tasks)
        assert len(vendor.writes) == writes
        person.answer = "yes"
        await model.call("update_batch_call", batch_call_id=name, tasks=tasks)
        assert "3 people" in person.questions[-1]
        body = vendor.writes[-1].json
        assert (body["status"], body["send_now"]) == ("scheduled", False)
        assert body["trigger_timestamp"] == int(at.timestamp() * 1000)
        assert vendor.dialled == []


@pytest.mark.sweep
@every_era
@pytest.mark.parametrize(
    "arguments",
    [
        {"status": "draft", "send_now": True},
        {"status": "scheduled"},
        {"status": "draft", "trigger_timestamp": "2100-01-01T00:00Z"},
        {"send_now": True, "trigger_timestamp": "2100-01-01T00:00Z"},
        {},
    ],
    ids=str,
)
async def test_words_about_time_that_contradict_each_other_send_nothing(era: Era, arguments: dict[str, object]) -> None:
    vendor = Zudu()
    pair = {"api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with vendor.served() as url, playing(era, Person("yes"), backend="zudu", url=url, **pair) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": BOB}])
        name = made["batch_call"]["batch_call_id"]
        text = await model.refused("update_batch_call", "invalid_input", batch_call_id=name, **arguments)
        assert "Nothing was sent" in text
        assert len(vendor.writes) == 1
    assert vendor.dialled == []
