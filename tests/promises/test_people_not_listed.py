"""Where the backend shows people only once they are dialled, or not at all: counted by the ledger, and said."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from batchcall_mcp.backends.capabilities import Operation
from tests.promises.test_creates_that_dial import ANN, BOB, CY, TASKS, using
from tests.vendors.retell import Retell
from tests.vendors.talking import COMES
from tests.vendors.varied import Shows, Varied, VariedBackend, able
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Model, Person, number, playing, tomorrow_at

every_way = pytest.mark.parametrize("shows", ["dialled_only", "none"])


async def drafted(model: Model) -> str:
    made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, window=ALWAYS)
    name: str = made["batch_call"]["batch_call_id"]
    return name


@every_way
async def test_a_start_is_not_refused_for_an_empty_page_and_counts_what_was_recorded(
    shows: Shows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported=shows)
    vendor, person = Varied(shows=shows, counts=False), Person()
    async with using(tmp_path, vendor, person) as model:
        first = await drafted(model)
        checked = await model.call("check_batch_call", batch_call_id=first)
        started = await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
    assert (checked["preflight"]["calls"], checked["preflight"].get("warnings")) == (3, None)
    assert "Call 3 people (United States) now" in person.questions[0]
    assert (
        "these 3 were checked when the list was sent from here, and are compared with the do-not-call list of today"
        in person.questions[0]
    )
    assert started["result"] == "started"
    assert vendor.dialled == [ANN, BOB, CY]


@every_way
async def test_a_list_that_was_not_sent_from_here_is_counted_by_its_total_and_said_to_be_unchecked(
    shows: Shows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported=shows)
    vendor, person = Varied(shows=shows), Person()
    async with using(tmp_path, vendor) as model:
        first = await drafted(model)
    (tmp_path / "other").mkdir()
    async with using(tmp_path / "other", vendor, person) as model:
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
    assert "3 people of this list could not be checked." in person.questions[0]
    assert "Call 3 people now" in person.questions[0]


async def test_where_nobody_knows_how_many_they_are_the_question_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="dialled_only")
    vendor, person = Varied(shows="dialled_only", counts=False), Person("no")
    async with using(tmp_path, vendor) as model:
        first = await drafted(model)
    (tmp_path / "other").mkdir()
    async with using(tmp_path / "other", vendor, person) as model:
        await model.refused("start_batch_call", "not_confirmed", batch_call_id=first, trigger_timestamp="now")
    assert "does not say how many there are: nothing of the list was checked" in person.questions[0]
    assert "Call an unknown number of people now" in person.questions[0]
    assert vendor.dialled == []


async def test_a_resume_counts_those_who_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    able(monkeypatch, tasks_reported="dialled_only")
    vendor, person = Varied(shows="dialled_only"), Person()
    async with using(tmp_path, vendor, person) as model:
        first = await drafted(model)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        for task in vendor.tasks[first][1:]:  # as if only Ann had been dialled so far
            task |= {"status": "pending", "attempts": 0}
        vendor._end(first, vendor.tasks[first][0], COMES)
        await model.call("pause_batch_call", batch_call_id=first)
        shown = await model.call("get_batch_call", batch_call_id=first)
        await model.call("resume_batch_call", batch_call_id=first)
    assert "2 people of it were not dialled, so varied does not list them." in shown["batch_call"]["notes"]
    assert "Call 2 people (United States) now" in person.questions[-1]
    assert "these 2 of the 3 were checked when the list was sent from here" in person.questions[-1]


async def test_exports_and_lists_of_people_say_who_is_not_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="dialled_only", retry="named")
    vendor, person = Varied(shows="dialled_only"), Person()
    async with using(tmp_path, vendor, person) as model:
        first = await drafted(model)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        vendor.finish(first, {})
        for task in vendor.tasks[first][1:]:
            task |= {"status": "cancelled", "attempts": 0}
        exported = await model.call("export_batch_call", batch_call_id=first)
        came = {"batch_call_id": first, "task_status": ["completed"]}
        made = await model.call("create_batch_call", from_number=FROM, tasks_from=came, name="Thanks")
        nobody = await model.call("retry_batch_call", batch_call_id=first)
    assert "2 people were not dialled, and so not listed by varied." in exported["summary"]
    assert "2 people of it were not dialled, so varied does not list them." in made["notes"]
    assert nobody["result"] == "nothing_to_do"
    assert "2 people of it were not dialled, so varied does not list them." in nobody["summary"]


async def test_where_nobody_is_listed_nobody_can_be_called_again_or_picked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="none")
    vendor = Varied(shows="none")
    async with using(tmp_path, vendor) as model:
        first = await drafted(model)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        vendor.finish(first)
        shown = await model.call("get_batch_call", batch_call_id=first)
        retried = await model.refused("retry_batch_call", "not_supported", batch_call_id=first)
        came = {"batch_call_id": first, "task_status": ["completed"]}
        picked = await model.refused("create_batch_call", "not_supported", from_number=FROM, tasks_from=came)
    assert "varied does not list the people of a batch call." in shown["batch_call"]["notes"]
    for text in (retried, picked):
        assert "does not list the people of a batch call" in text
        assert "Nothing was sent" in text


async def test_people_are_added_to_a_list_that_is_not_shown_and_the_question_says_that_some_may_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = VariedBackend.capabilities.operations | {Operation.APPEND}
    able(monkeypatch, tasks_reported="dialled_only", operations=operations)
    vendor, person = Varied(shows="dialled_only", counts=False), Person()
    async with using(tmp_path, vendor, person) as model:
        first = await drafted(model)
        more = [{"to_number": number(NEW_YORK, 20), "dynamic_variables": {"first_name": "Dee"}}]
        await model.call("update_batch_call", batch_call_id=first, add_tasks=more)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
    assert "Call 4 people (United States) now" in person.questions[-1]
    assert vendor.dialled == [ANN, BOB, CY, number(NEW_YORK, 20)]


async def test_nobody_is_asked_and_a_list_that_was_checked_here_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="none")
    vendor = Varied(shows="none", counts=False)
    async with using(tmp_path, vendor, None, confirm="off", max_calls_per_launch="3") as model:
        first = await drafted(model)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
    assert vendor.dialled == [ANN, BOB, CY]


@every_way
async def test_who_is_on_the_do_not_call_list_by_now_is_said_although_nobody_is_listed(
    shows: Shows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported=shows)
    vendor, person = Varied(shows=shows, counts=False), Person("no")
    (tmp_path / "never.csv").write_text("phone\n")
    async with using(tmp_path, vendor, person, do_not_call=str(tmp_path / "never.csv")) as model:
        first = await drafted(model)
        (tmp_path / "never.csv").write_text(f"phone\n{CY}\n")
        await model.refused("start_batch_call", "not_confirmed", batch_call_id=first, trigger_timestamp="now")
    assert person.questions[0].startswith("1 of the numbers is now on the do-not-call list.")
    assert vendor.dialled == []


async def test_who_was_called_a_moment_ago_or_too_often_today_is_said_although_nobody_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="none")
    vendor, person = Varied(shows="none", counts=False), Person()
    async with using(tmp_path, vendor, person) as model:
        for nth in range(4):
            made = await model.call(
                "create_batch_call", from_number=FROM, tasks=TASKS, window=ALWAYS, name=f"No. {nth}"
            )
            name = made["batch_call"]["batch_call_id"]
            await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
            vendor.finish(name)
    assert "in another launch of the last minutes" not in person.questions[0]
    assert "3 of the numbers are in another launch of the last minutes" in person.questions[1]
    assert "may now be dialled more than 3 times in a day" not in person.questions[2]
    assert (
        "3 numbers were dialled in the last 24 hours, and may now be dialled more than 3 times in a day"
        in (person.questions[3])
    )


async def test_one_that_waits_at_a_vendor_that_says_nothing_of_it_shows_what_was_sent_from_here(tmp_path: Path) -> None:
    vendor = Retell()
    at = tomorrow_at(9)
    async with vendor.served() as url:
        account: dict[str, str | Path] = {"backend": "retell", "url": url, "api_key": vendor.key, "data_dir": tmp_path}
        async with playing("auto", Person(), **account) as model:
            whole = {"from_number": vendor.from_number, "agent_id": vendor.agent_id, "name": "Renewals"}
            made = await model.call("create_batch_call", **whole, tasks=TASKS, trigger_timestamp=at.isoformat())
            one = made["batch_call"]["batch_call_id"]
            found = (await model.call("get_batch_call", batch_call_id=one))["batch_call"]
            strange = (await model.call("get_batch_call", batch_call_id="batch_call_of_another"))["batch_call"]
    assert (found["status"], found["counts"]) == ("unknown", {"total": 3})
    assert datetime.fromisoformat(found["scheduled_at"]) == at
    assert "Its time and number of tasks are as they were sent from here." in found["notes"]
    assert "counts" not in strange
    assert "scheduled_at" not in strange
