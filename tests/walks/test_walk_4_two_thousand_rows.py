"""Walk 4: 2,000 rows on a backend that takes 1,000, then a write whose outcome nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.recipients.workbooks import write_workbook
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Era, Person, every_era, numbers, playing

PEOPLE = numbers(2000)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rows = [["phone", "name"], *([one, f"P{at}"] for at, one in enumerate(PEOPLE))]
    write_workbook(tmp_path / "leads.xlsx", {"Leads": rows})
    return tmp_path


def account(url: str, files: Path) -> dict[str, Any]:
    return {"backend": "zudu", "url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET, "files": files}


@every_era
async def test_the_error_spells_the_calls_out_and_they_work(era: Era, files: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url, playing(era, **account(url, files)) as model:
        # F27: the parts are told before and after.
        checked = await model.call("check_batch_call", tasks_file="leads.xlsx")
        assert checked["parts"] == ["1-1000", "1001-2000"]
        text = await model.refused("create_batch_call", "invalid_input", from_number=FROM, tasks_file="leads.xlsx")
        assert 'rows="1-1000"' in text
        assert 'rows="1001-2000"' in text
        assert "Nothing was sent" in text
        assert vendor.writes == []
        made = [
            await model.call("create_batch_call", from_number=FROM, tasks_file="leads.xlsx", rows=part)
            for part in checked["parts"]
        ]
        assert [one["batch_call"]["counts"]["total"] for one in made] == [1000, 1000]
        sent = [task["to_number"] for write in vendor.writes for task in write.json["tasks"]]
        assert sent == PEOPLE
        assert vendor.dialled == []


@every_era
async def test_a_create_without_an_answer_is_looked_up_and_is_not_sent_again(era: Era, files: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url, playing(era, **account(url, files)) as model:
        first = await model.call("create_batch_call", from_number=FROM, tasks_file="leads.xlsx", rows="1-1000")
        vendor.recording.swallow_next_write = True
        part = {"from_number": FROM, "tasks_file": "leads.xlsx", "rows": "1001-2000"}
        second = await model.call("create_batch_call", **part)
        assert [one for one in second["notes"] if "The backend's answer was lost; it made" in one]
        # F30: and whoever repeats it gets the same one.
        again = await model.call("create_batch_call", **part)
        assert again["replayed"] is True
        assert again["batch_call"]["batch_call_id"] == second["batch_call"]["batch_call_id"]
        assert len(vendor.writes) == 2
        listed = await model.call("list_batch_calls")
        others = [one for one in listed["batch_calls"] if one["batch_call_id"] != first["batch_call"]["batch_call_id"]]
        assert [(one["status"], one["counts"]["total"]) for one in others] == [("draft", 1000)]
        assert len(vendor.writes) == 2
        assert vendor.dialled == []


@every_era
async def test_a_launch_without_an_answer_is_looked_up_and_a_repeat_calls_nobody_twice(era: Era) -> None:
    vendor, person, people = Zudu(), Person("yes"), PEOPLE[:3]
    pair = {"api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with vendor.served() as url, playing(era, person, backend="zudu", url=url, **pair) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": one} for one in people])
        name = made["batch_call"]["batch_call_id"]
        vendor.recording.swallow_next_write = True
        launch = {"batch_call_id": name, "trigger_timestamp": "now"}
        launched = await model.call("start_batch_call", **launch)
        assert launched["notes"] == [one for one in launched["notes"] if "answer was lost; it is running" in one]
        assert launched["batch_call"]["status"] == "running"
        # A model that repeats it all the same is told what is there, and the person is not asked again.
        again = await model.call("start_batch_call", **launch)
        assert (again["result"], again["replayed"]) == ("started", True)
        assert again["batch_call"]["status"] == "running"
        assert len(vendor.writes) == 2
        assert len(person.questions) == 1
    assert vendor.dialled == people


@every_era
async def test_a_create_that_dials_and_loses_its_answer_is_not_sent_again(era: Era) -> None:
    vendor, people = Magpipe(), PEOPLE[:3]
    async with (
        vendor.served() as url,
        playing(era, Person("yes"), backend="magpipe", url=url, api_key=magpipe.KEY) as model,
    ):
        vendor.recording.swallow_next_write = True
        launch = {"from_number": FROM, "tasks": [{"to_number": one} for one in people], "trigger_timestamp": "now"}
        made = await model.call("create_batch_call", **launch)
        assert [one for one in made["notes"] if "answer was lost; it made" in one]
        again = await model.call("create_batch_call", **launch)
        assert again["replayed"] is True
        assert again["batch_call"]["batch_call_id"] == made["batch_call"]["batch_call_id"]
        assert len(vendor.writes) == 1
    assert vendor.dialled == people
