"""Walk 3: "Who did we miss? Retry only them", where the backend's own re-run would call everybody again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import GENERATED, HAND_WRITTEN, NEWEST, Generation, Zudu
from tests.walks.stage import FROM, NEW_YORK, Era, Model, Person, every_era, number, playing, write_csv

PEOPLE = [number(NEW_YORK, line) for line in range(12)]
REACHED, MISSED = PEOPLE[:8], PEOPLE[8:]
TASKS = [{"to_number": one, "name": f"P{at}"} for at, one in enumerate(PEOPLE)]


def account(url: str) -> dict[str, Any]:
    return {"backend": "magpipe", "url": url, "api_key": magpipe.KEY}


async def called(model: Model, vendor: Magpipe, tasks: list[dict[str, Any]], missed: list[str]) -> str:
    """A batch call of these, run to its end; those in `missed` did not answer."""
    made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, name="November")
    name: str = made["batch_call"]["batch_call_id"]
    assert made["batch_call"]["status"] == "draft"
    await run(model, vendor, name, missed)
    return name


async def run(model: Model, vendor: Magpipe, batch_call_id: str, missed: list[str]) -> None:
    await model.call("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="now")
    vendor.finish(batch_call_id, dict.fromkeys(missed, "no_answer"))


@every_era
async def test_a_retry_is_a_new_draft_of_only_the_unreached_and_magpipes_re_run_is_never_used(era: Era) -> None:
    vendor, person = Magpipe(), Person("yes")
    async with vendor.served() as url, playing(era, person, **account(url)) as model:
        first = await called(model, vendor, TASKS, MISSED)
        assert vendor.dialled == PEOPLE

        # F22: what this backend can tell apart is told, and what completed means.
        facts = await model.call("get_backend")
        assert "voicemail" not in facts["outcomes_reported"]
        seen = await model.call("get_batch_call", batch_call_id=first, task_status=["not_reached"])
        assert [task["to_number"] for task in seen["tasks"]] == MISSED
        assert seen["batch_call"]["counts"]["not_reached"] == len(MISSED)
        assert any("machine answered" in note for note in seen["batch_call"]["notes"])

        # The tempting way is refused, with the right one.
        text = await model.refused(
            "start_batch_call", "illegal_transition", batch_call_id=first, trigger_timestamp="now"
        )
        assert "retry_batch_call" in text
        assert "Nothing was sent" in text

        # F23: a new draft; nobody is asked, because no phone rings.
        asked = len(person.questions)
        retried = await model.call("retry_batch_call", batch_call_id=first)
        assert retried["result"] == "created"
        assert retried["batch_call"]["status"] == "draft"
        assert retried["batch_call"]["retry_of"] == first
        assert retried["batch_call"]["counts"]["total"] == len(MISSED)
        assert len(person.questions) == asked
        second = retried["batch_call"]["batch_call_id"]
        body = vendor.actions("create")[-1]
        assert [one["phone_number"] for one in body["recipients"]] == MISSED
        assert [one["name"] for one in body["recipients"]] == ["P8", "P9", "P10", "P11"]
        assert vendor.dialled == PEOPLE

        # While that draft waits, a second retry of the same one is not a second call of the same people.
        waiting = await model.call("retry_batch_call", batch_call_id=first)
        assert waiting["result"] == "nothing_to_do"
        assert {row["to_number"] for row in waiting["skipped_rows"]} == set(MISSED)
        assert waiting["skipped_rows"][0]["reason"] == f"waits to be called by {second}"

        await run(model, vendor, second, MISSED[2:])
        assert vendor.dialled == PEOPLE + MISSED
        # F24: days later, with the old id: who was reached by the later one is left out, and named.
        third = await model.call("retry_batch_call", batch_call_id=first)
        assert third["result"] == "created"
        assert [row["to_number"] for row in third["skipped_rows"]] == MISSED[:2]
        assert second in third["skipped_rows"][0]["reason"]
        assert [one["phone_number"] for one in vendor.actions("create")[-1]["recipients"]] == MISSED[2:]
        await run(model, vendor, third["batch_call"]["batch_call_id"], [])
        assert vendor.dialled == PEOPLE + MISSED + MISSED[2:]
        # ... and with the id in the middle, whose people a later retry of the first one has reached.
        last = await model.call("retry_batch_call", batch_call_id=second)
        assert last["result"] == "nothing_to_do"
        # `start` was only ever asked for drafts: no re-run.
        started = [body["batch_id"] for body in vendor.actions("start")]
        assert len(started) == len(set(started)) == 3


@every_era
async def test_an_agent_that_would_not_speak_is_refused(era: Era) -> None:
    vendor = Magpipe()
    async with vendor.served() as url, playing(era, **account(url)) as model:
        text = await model.refused(
            "create_batch_call", "not_supported", from_number=FROM, tasks=TASKS, agent_id=magpipe.OTHER_AGENT
        )
        assert magpipe.AGENT in text
        assert "Nothing was sent" in text
        assert vendor.writes == []
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, agent_id=magpipe.AGENT)
        assert made["result"] == "created"


@every_era
@pytest.mark.parametrize(
    ("window", "says"),
    [
        ({"start": "09:00", "end": "17:00", "timezone": "America/Los_Angeles"}, "UTC only"),
        ({"start": "09:00", "end": "17:00"}, "UTC only"),
        ({"start": "17:00", "end": "01:00", "timezone": "UTC"}, "no window over midnight"),
    ],
)
async def test_a_window_that_never_opens_there_is_refused(era: Era, window: dict[str, str], says: str) -> None:
    vendor = Magpipe()
    async with vendor.served() as url, playing(era, **account(url)) as model:
        text = await model.refused("create_batch_call", "not_supported", from_number=FROM, tasks=TASKS, window=window)
        assert says in text
        assert "Nothing was sent" in text
    assert vendor.writes == []


@every_era
async def test_only_a_series_pauses_and_a_success_that_changed_nothing_is_not_believed(era: Era) -> None:
    vendor, person = Magpipe(), Person("yes")
    async with vendor.served() as url, playing(era, person, **account(url)) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        name = made["batch_call"]["batch_call_id"]
        await model.refused("pause_batch_call", "not_supported", batch_call_id=name)
        assert vendor.actions("pause_series") == []

        series = vendor.series(PEOPLE[:2])
        paused = await model.call("pause_batch_call", batch_call_id=series)
        assert paused["batch_call"]["status"] == "paused"
        # `start` on it would dial the series' own list at once.
        text = await model.refused(
            "start_batch_call", "illegal_transition", batch_call_id=series, trigger_timestamp="now"
        )
        assert "resume_batch_call" in text
        resumed = await model.call("resume_batch_call", batch_call_id=series)
        assert resumed["batch_call"]["status"] == "recurring"
        assert len(person.questions) == 1
        assert vendor.actions("start") == []
        assert vendor.dialled == []


ERA_OF: list[tuple[Generation, Era]] = [(HAND_WRITTEN, "legacy"), (GENERATED, "auto"), (NEWEST, "legacy")]


@pytest.mark.parametrize(("generation", "era"), ERA_OF, ids=str)
async def test_zudu_does_not_give_variables_back_so_that_a_retry_needs_the_list_again(
    generation: Generation, era: Era, tmp_path: Path
) -> None:
    vendor, person = Zudu(generation), Person("yes")
    write_csv(tmp_path / "list.csv", ["phone", "first"], [[one, f"P{at}"] for at, one in enumerate(PEOPLE)])
    write_csv(tmp_path / "other.csv", ["phone", "first"], [[number(NEW_YORK, 90), "X"]])
    pair = {"api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with (
        vendor.served() as url,
        playing(era, person, backend="zudu", url=url, files=tmp_path, **pair) as model,
    ):
        made = await model.call("create_batch_call", from_number=FROM, tasks_file="list.csv", name="November")
        first = made["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        vendor.finish(first, dict.fromkeys(MISSED, "failed"))
        writes = len(vendor.writes)

        text = await model.refused("retry_batch_call", "invalid_input", batch_call_id=first)
        assert "tasks_file" in text
        assert "4 unreached numbers" in text
        wrong = await model.refused("retry_batch_call", "invalid_input", batch_call_id=first, tasks_file="other.csv")
        assert "The list has none of" in wrong
        assert len(vendor.writes) == writes

        retried = await model.call("retry_batch_call", batch_call_id=first, tasks_file="list.csv")
        assert retried["result"] == "created"
        assert retried["batch_call"]["retry_of"] == first
        body = vendor.writes[-1].json
        assert (body["status"], body["send_now"]) == ("draft", False)
        assert [(one["to_number"], one["dynamic_variables"]["first"]) for one in body["tasks"]] == [
            (one, f"P{at}") for at, one in enumerate(PEOPLE) if one in MISSED
        ]
        assert vendor.dialled == PEOPLE

        # The chain holds here too: the old id again, after the later one has reached two of them.
        second = retried["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=second, trigger_timestamp="now")
        vendor.finish(second, dict.fromkeys(MISSED[2:], "failed"))
        third = await model.call("retry_batch_call", batch_call_id=first, tasks_file="list.csv")
        assert [one["to_number"] for one in vendor.writes[-1].json["tasks"]] == MISSED[2:]
        assert [row["to_number"] for row in third["skipped_rows"]] == MISSED[:2]
        assert vendor.dialled == PEOPLE + MISSED
