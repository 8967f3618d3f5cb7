"""Walk 8: "What became of Ann?" among hundreds, and "call me first so that I hear it"."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio

from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, Era, Person, dials, every_era, numbers, playing, write_csv

PEOPLE = numbers(300)
ANN = PEOPLE[250]
ME = "+14155550110"


@every_era
async def test_ann_is_found_in_one_call_and_her_variables_are_shown_on_request(era: Era, tmp_path: Path) -> None:
    async with playing(era, data_dir=tmp_path) as model:
        tasks = [
            {"to_number": one, "name": "Ann" if one == ANN else "Somebody", "dynamic_variables": {"plan": f"p{at}"}}
            for at, one in enumerate(PEOPLE)
        ]
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks)
        name = made["batch_call"]["batch_call_id"]
        found = await model.call("get_batch_call", batch_call_id=name, to_number=ANN)
        assert [(task["to_number"], task["name"]) for task in found["tasks"]] == [(ANN, "Ann")]
        assert "dynamic_variables" not in found["tasks"][0]
        assert "next_cursor" not in found
        # As a person wrote the number; and somebody who is not in it.
        written = f"+1 ({ANN[2:5]}) {ANN[5:8]}-{ANN[8:]}"
        same = await model.call("get_batch_call", batch_call_id=name, to_number=written)
        assert [task["to_number"] for task in same["tasks"]] == [ANN]
        nobody = await model.call("get_batch_call", batch_call_id=name, to_number=ME)
        assert "tasks" not in nobody
        assert "No task matches" in nobody["summary"]
        whole = await model.call("get_batch_call", batch_call_id=name, to_number=ANN, include_variables=True)
        assert whole["tasks"][0]["dynamic_variables"] == {"plan": "p250"}


@every_era
async def test_ann_is_found_where_the_backend_has_no_filter_and_shows_no_variables(era: Era) -> None:
    vendor = Zudu()
    pair = {"api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with vendor.served() as url, playing(era, None, backend="zudu", url=url, **pair) as model:
        # F44: what the backend has no answer to is no argument.
        assert "include_variables" not in await model.schema("get_batch_call")
        assert "max_concurrency" not in await model.schema("create_batch_call")
        words = (await model.schema("get_batch_call"))["task_status"]["items"]["enum"]
        assert sorted(words) == ["calling", "completed", "failed", "not_reached", "pending"]
        made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": one} for one in PEOPLE])
        found = await model.call("get_batch_call", batch_call_id=made["batch_call"]["batch_call_id"], to_number=ANN)
        assert [task["to_number"] for task in found["tasks"]] == [ANN]


@every_era
async def test_a_test_call_to_oneself_with_the_second_rows_variables_calls_nobody_else(
    era: Era, tmp_path: Path
) -> None:
    files, person = tmp_path / "lists", Person("yes")
    files.mkdir()
    write_csv(files / "list.csv", ["phone", "name"], [[one, f"P{at}"] for at, one in enumerate(PEOPLE)])
    async with playing(era, person, data_dir=tmp_path, files=files, simulated_speed="2000") as model:
        sample = (await model.call("check_batch_call", tasks_file="list.csv"))["sample"]
        mine = {"to_number": ME, "dynamic_variables": sample[1]["dynamic_variables"]}
        made = await model.call("create_batch_call", from_number=FROM, tasks=[mine], window=ALWAYS)
        name = made["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
        assert "Call 1 person (United States) now" in person.questions[0]
        with anyio.fail_after(30):
            seen = await model.call("watch_batch_call", batch_call_id=name, timeout_seconds=15)
        assert seen["batch_call"]["status"] == "completed"
        heard = await model.call("get_batch_call", batch_call_id=name, include_variables=True)
        assert heard["tasks"][0]["dynamic_variables"] == {"name": "P1"}
    assert dials(tmp_path) == Counter([ME])
