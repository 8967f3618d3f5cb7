"""Walk 1: "Call these customers tomorrow 9 to 5 their time, then tell me who we missed and try them again."

On the built-in dialer, from a CSV file with bad rows.
"""

from collections import Counter
from pathlib import Path

import anyio
import pytest

from tests.walks.stage import (
    ALWAYS,
    CHICAGO,
    FROM,
    LOS_ANGELES,
    NEW_YORK,
    Era,
    Model,
    Person,
    dials,
    every_era,
    number,
    playing,
    tomorrow_at,
    write_csv,
)

WINDOW = {"start": "09:00", "end": "17:00"}
ANSWERED, AT_THE_SECOND_CALL = (0, 1, 2, 3), 6
BUSY, VOICEMAIL, FAILED = 7, 8, 9
CUSTOMERS = [number(area, line) for area in (NEW_YORK, CHICAGO, LOS_ANGELES) for line in range(10) if line != 5]
OPTED_OUT = number(NEW_YORK, 20)
NATIONAL = "(212) 555-0130"
NATIONAL_E164 = number(NEW_YORK, 30)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    rows = [[f"Person {at}", one, "+16175550199", "pro"] for at, one in enumerate(CUSTOMERS)]
    rows.append(["Again", CUSTOMERS[0], "", "pro"])
    rows.append(["Opted out", OPTED_OUT, "", "basic"])
    rows.append(["Without a plus", NATIONAL, "", "basic"])
    rows.append(["Nobody", "n/a", "", "basic"])
    write_csv(folder / "customers.csv", ["Name", "Mobile", "Home phone", "plan"], rows)
    (tmp_path / "do-not-call.txt").write_text(OPTED_OUT + "\n")
    return folder


def ending_in(last: int) -> list[str]:
    return [one for one in [*CUSTOMERS, NATIONAL_E164] if one.endswith(str(last))]


async def watched(model: Model, batch_call_id: str) -> str:
    with anyio.fail_after(20):
        answer = await model.call("watch_batch_call", batch_call_id=batch_call_id, timeout_seconds=15)
    assert "so far" not in answer["summary"]  # it is over: nobody else will be reached
    return str(answer["batch_call"]["status"])


@every_era
async def test_the_whole_job(era: Era, files: Path, tmp_path: Path) -> None:  # noqa: PLR0915 - one job, told once
    data, person = tmp_path / "data", Person("yes")
    async with playing(
        era, person, data_dir=data, files=files, do_not_call=tmp_path / "do-not-call.txt", simulated_speed="2000"
    ) as model:
        # F1: the folder and its files are told, and a wrong path says so again.
        facts = await model.call("get_backend")
        assert facts["folder"] == str(files)
        assert [file["name"] for file in facts["files"]] == ["customers.csv"]
        outside = await model.refused("check_batch_call", "invalid_input", tasks_file="~/Desktop/customers.csv")
        assert "customers.csv" in outside
        assert str(files) in outside

        # F3, F4, F5: which column was taken, which rows are bad and why, and arguments to mend both.
        bad = await model.call("check_batch_call", tasks_file="customers.csv", number_column="Mobile", limit=2)
        assert bad["preflight"]["skipped_rows"] == {"invalid": 2, "duplicate": 1, "do_not_call": 1}
        assert bad["skipped_rows_total"] == 4
        assert len(bad["skipped_rows"]) == 2
        rest = await model.call(
            "check_batch_call", tasks_file="customers.csv", number_column="Mobile", cursor=bad["next_cursor"]
        )
        assert len(rest["skipped_rows"]) == 2
        who = {"tasks_file": "customers.csv", "number_column": "Mobile", "default_region": "US", "window": WINDOW}
        good = await model.call("check_batch_call", from_number=FROM, **who)
        assert good["columns"]["to_number"] == "Mobile"
        assert good["sample"][0]["dynamic_variables"]["plan"] == "pro"
        assert good["preflight"]["calls"] == len(CUSTOMERS) + 1
        # F2: nine to five is each person's own, whoever's zone the moment of the launch was said in.
        zones = {group["timezone"]: group["calls"] for group in good["preflight"]["groups"]}
        assert zones == {"America/New_York": 10, "America/Chicago": 9, "America/Los_Angeles": 9}

        # F10, F12: who, without a word about when, makes a draft, and counts who is left out of it: check named them.
        made = await model.call("create_batch_call", from_number=FROM, name="Renewals", **who)
        name = made["batch_call"]["batch_call_id"]
        assert made["result"] == "created"
        assert made["batch_call"]["status"] == "draft"
        assert made["preflight"]["skipped_rows"].keys() == {"invalid", "duplicate", "do_not_call"}
        assert "skipped_rows" not in made
        assert {row["kind"] for row in good["skipped_rows"]} == {"invalid", "duplicate", "do_not_call"}
        assert "rows are skipped" in made["summary"]
        assert person.questions == []

        # F8: a moment without an offset is nobody's; the launch says when, and is confirmed.
        unclear = await model.refused(
            "start_batch_call", "invalid_input", batch_call_id=name, trigger_timestamp="2031-11-24T09:00"
        )
        assert "offset" in unclear
        at = tomorrow_at(9)
        begun = await model.call("start_batch_call", batch_call_id=name, trigger_timestamp=at.isoformat())
        assert begun["result"] == "scheduled"
        assert begun["batch_call"]["status"] == "scheduled"
        assert len(person.questions) == 1
        day = f"{at:%a} {at.day} {at:%b}"  # the same in New York
        assert f"Call 28 people (United States) on {day}" in person.questions[0]
        assert "9:00 to 17:00 their time" in person.questions[0]
        assert "3 rows were skipped: 1 invalid, 1 duplicate, 1 do-not-call." in person.questions[0]

        # There is nothing to watch until then, and the answer comes at once: the limit is far below the 45 seconds.
        with anyio.fail_after(30):
            seen = await model.call("watch_batch_call", batch_call_id=name)
        assert f"scheduled for {at:%Y-%m-%d %H:%M} UTC" in seen["summary"]
        assert dials(data) == Counter()

        # F11: "do it now instead" moves it, and the question says so.
        await model.call("update_batch_call", batch_call_id=name, window=ALWAYS)
        await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
        assert "this moves it" in person.questions[-1]
        assert await watched(model, name) == "completed"
        assert dials(data) == Counter([*CUSTOMERS, NATIONAL_E164])

        # F13, F14: one call tells who was missed, and the counts agree.
        missed = await model.call("get_batch_call", batch_call_id=name, task_status=["not_reached"], limit=100)
        expected = [one for last in (AT_THE_SECOND_CALL, BUSY, VOICEMAIL, FAILED) for one in ending_in(last)]
        assert sorted(task["to_number"] for task in missed["tasks"]) == sorted(expected)
        assert missed["batch_call"]["counts"]["not_reached"] == len(expected)

        # F15: again, and again those who are still missing; nobody else.
        again = await model.call("retry_batch_call", batch_call_id=name)
        assert again["result"] == "retried"
        assert await watched(model, name) == "completed"
        redialled = [one for last in (AT_THE_SECOND_CALL, BUSY, FAILED) for one in ending_in(last)]
        first = Counter([*CUSTOMERS, NATIONAL_E164])
        assert dials(data) == first + Counter(redialled)
        once_more = await model.call("retry_batch_call", batch_call_id=name)
        assert once_more["result"] == "retried"
        assert await watched(model, name) == "completed"
        still_missing = [one for last in (BUSY, FAILED) for one in ending_in(last)]
        assert dials(data) == first + Counter(redialled) + Counter(still_missing)
        assert OPTED_OUT not in dials(data)


@every_era
async def test_a_retry_that_the_person_declines_calls_nobody(era: Era, files: Path, tmp_path: Path) -> None:
    data, person = tmp_path / "data", Person("yes")
    async with playing(era, person, data_dir=data, files=files, simulated_speed="2000") as model:
        tasks = [{"to_number": number(NEW_YORK, 7)}, {"to_number": number(NEW_YORK, 1)}]
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, window=ALWAYS)
        name = made["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
        assert await watched(model, name) == "completed"
        person.answer = "no"
        text = await model.refused("retry_batch_call", "not_confirmed", batch_call_id=name)
        assert "Nothing was sent" in text
        assert dials(data) == Counter([number(NEW_YORK, 7), number(NEW_YORK, 1)])


@every_era
async def test_a_code_for_a_retry_stands_for_whom_the_question_named(era: Era, tmp_path: Path) -> None:
    busy, failed = number(NEW_YORK, BUSY), number(NEW_YORK, FAILED)
    async with playing(era, None, data_dir=tmp_path, simulated_speed="2000") as model:
        tasks = [{"to_number": busy}, {"to_number": failed}]
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, window=ALWAYS)
        name = made["batch_call"]["batch_call_id"]
        launch = {"batch_call_id": name, "trigger_timestamp": "now"}
        code = (await model.call("start_batch_call", **launch))["confirmation_code"]
        await model.call("start_batch_call", **launch, confirmation_code=code)
        assert await watched(model, name) == "completed"
        asked = await model.call("retry_batch_call", batch_call_id=name, task_status=["busy"])
        assert "1 person" in asked["summary"]
        await model.call("retry_batch_call", batch_call_id=name, confirmation_code=asked["confirmation_code"])
        assert await watched(model, name) == "completed"
    assert dials(tmp_path) == Counter({busy: 2, failed: 1})
