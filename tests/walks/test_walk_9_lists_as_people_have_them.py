"""Walk 9: a workbook with a title and two sheets, US numbers without +1, 2,000 people by zone on a one-zone backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchcall_mcp.server.app import build_server
from tests.recipients.workbooks import Cell, write_workbook
from tests.server.transports import Way, client_of, served
from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import (
    FROM,
    Era,
    Model,
    Person,
    dials,
    every_era,
    number,
    numbers,
    playing,
    settings_of,
    write_csv,
)

PEOPLE = numbers(2000)
ALWAYS_OPEN = {"calling_hours": "00:00-24:00", "simulated_speed": "2000"}
PAIR = {"X-API-KEY": zudu.KEY, "X-API-SECRET": zudu.SECRET}


@every_era
async def test_a_workbook_with_a_title_row_and_two_sheets(era: Era, tmp_path: Path) -> None:
    files, data = tmp_path / "files", tmp_path / "data"
    files.mkdir()
    december: list[list[Cell]] = [
        ["Reminders, December"],
        [],
        ["Name", "Mobile", "Amount"],
        ["Ada", number("212", 40), 12.0],
    ]
    write_workbook(
        files / "leads.xlsx",
        {"November": [["Mobile"], [number("212", 41)]], "December": [*december, ["Ben", number("212", 42), 7.5]]},
    )
    async with playing(era, Person("yes"), files=files, data_dir=data, **ALWAYS_OPEN) as model:
        text = await model.refused("check_batch_call", "invalid_input", tasks_file="leads.xlsx")
        assert 'Pass sheet with one of these, or keep only one: "November", "December".' in text
        checked = await model.call("check_batch_call", tasks_file="leads.xlsx", sheet="december")
        assert checked["preflight"]["calls"] == 2
        assert (
            'Row 3 was taken as the column names; the row above it, "Reminders, December"'
            in (checked["preflight"]["warnings"][0])
        )
        known = {"tasks_file": "leads.xlsx", "sheet": "December", "header_row": 3}
        checked = await model.call("check_batch_call", **known)
        assert "warnings" not in checked["preflight"], "whoever says the row is not asked about a guess"
        made = await model.call("create_batch_call", from_number=FROM, **known)
        started = await model.call(
            "start_batch_call", batch_call_id=made["batch_call"]["batch_call_id"], trigger_timestamp="now"
        )
        assert started["result"] == "started"
        await model.call("watch_batch_call", batch_call_id=made["batch_call"]["batch_call_id"], timeout_seconds=30)
        exported = await model.call("export_batch_call", batch_call_id=made["batch_call"]["batch_call_id"])
        # What was just called is no list of people to call.
        assert Path(exported["file"]).parent == files / "exports"
        facts = await model.call("get_backend")
        assert [one["name"] for one in facts["files"]] == ["leads.xlsx"]
        text = await model.refused("check_batch_call", "invalid_input", tasks_file=exported["file"])
        assert "is an export of results, which is not a list of people to call" in text
    assert set(dials(data)) == {number("212", 40), number("212", 42)}


@every_era
async def test_us_numbers_without_a_country_code_and_a_first_name(era: Era, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    rows = [["Ada", "(212) 555-0140"], ["Ben", "312-555-0141"], ["Ida", "213.555.0142"]]
    write_csv(tmp_path / "files" / "us.csv", ["First Name", "Phone"], rows)
    async with playing(era, files=tmp_path / "files", data_dir=tmp_path / "data") as model:
        text = await model.refused("create_batch_call", "invalid_input", from_number=FROM, tasks_file="us.csv")
        assert (
            '3 numbers have no country code, such as "(212) 555-0140" on line 2. default_region, such as "US"' in text
        )
        text = await model.refused(
            "create_batch_call", "invalid_input", from_number=FROM, tasks_file="us.csv", columns={"name": "fist name"}
        )
        assert 'no column "fist name" (columns.name). Nothing was sent. Its columns: "First Name", "Phone".' in text
        known = {"tasks_file": "us.csv", "default_region": "us", "columns": {"name": "first_name"}}
        checked = await model.call("check_batch_call", **known)
        assert checked["columns"] == {
            "to_number": "Phone",
            "variables": ["name"],
            "name": "First Name",
            "mapped": {"name": "First Name"},
        }
        made = await model.call("create_batch_call", from_number=FROM, **known)
        shown = await model.call(
            "get_batch_call", batch_call_id=made["batch_call"]["batch_call_id"], include_variables=True
        )
        assert [(task["to_number"], task["name"], task["dynamic_variables"]) for task in shown["tasks"]] == [
            (number("212", 40), "Ada", {"name": "Ada"}),
            (number("312", 41), "Ben", {"name": "Ben"}),
            (number("213", 42), "Ida", {"name": "Ida"}),
        ]


async def test_a_retry_reads_the_same_list_in_the_same_way(tmp_path: Path) -> None:
    people = [number("212", at) for at in range(40, 44)]
    rows = [["Retry list"], ["First Name", "Phone"], *([f"P{at}", one[2:]] for at, one in enumerate(people))]
    write_workbook(tmp_path / "us.xlsx", {"November": [["phone"], [people[0]]], "December": rows})
    known = {"tasks_file": "us.xlsx", "sheet": "december", "header_row": 2, "default_region": "us"}
    known["columns"] = {"name": "first name"}
    vendor = Zudu()
    account: dict[str, Any] = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET, "files": tmp_path}
    async with vendor.served() as url, playing("auto", Person("yes"), url=url, **account) as model:
        made = await model.call("create_batch_call", from_number=FROM, **known)
        first = made["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        vendor.finish(first, {people[2]: "failed"})
        text = await model.refused("retry_batch_call", "invalid_input", batch_call_id=first, tasks_file="us.xlsx")
        assert "Pass sheet with one of these" in text
        without = {name: value for name, value in known.items() if name != "default_region"}
        text = await model.refused("retry_batch_call", "invalid_input", batch_call_id=first, **without)
        assert "4 numbers have no country code" in text
        await model.call("retry_batch_call", batch_call_id=first, **known)
        (task,) = vendor.writes[-1].json["tasks"]
        assert (task["to_number"], task["dynamic_variables"]) == (people[2], {"name": "P2"})


async def test_the_list_of_a_draft_is_replaced_by_one_that_is_read_so(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    write_csv(tmp_path / "files" / "us.csv", ["First Name", "Phone"], [["Ada", "(212) 555-0140"]])
    async with playing("auto", files=tmp_path / "files", data_dir=tmp_path / "data") as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": number("212", 41)}])
        draft = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        known = {"default_region": "us", "columns": {"name": "first_name"}}
        await model.call("update_batch_call", **draft, tasks_file="us.csv", **known)
        shown = await model.call("get_batch_call", **draft, include_variables=True)
        assert [(one["to_number"], one["dynamic_variables"]) for one in shown["tasks"]] == [
            (number("212", 40), {"name": "Ada"})
        ]
        two = [["Ben", "+1 312 555 0141"], ["Ida", "213.555.0142"]]
        write_csv(tmp_path / "files" / "more.csv", ["First Name", "Phone"], two)
        added = await model.call("update_batch_call", **draft, add_tasks_file="more.csv", columns=known["columns"])
        assert [note for note in added["notes"] if note.startswith("1 number has no country code")]
        text = await model.refused("update_batch_call", "invalid_input", **draft, columns={"name": "first_name"})
        assert "columns: only a list that is given can be read so" in text
        text = await model.refused("check_batch_call", "invalid_input", **draft, timezones=["Europe/Berlin"])
        assert "timezones: only a list that is given can be read so" in text


@every_era
async def test_the_first_start_makes_a_folder_with_a_list_that_calls_nobody(era: Era, tmp_path: Path) -> None:
    files, data = tmp_path / "Documents" / "batchcall", tmp_path / "data"
    async with playing(era, Person("yes"), files=files, data_dir=data, **ALWAYS_OPEN) as model:
        facts = await model.call("get_backend")
        assert [one["name"] for one in facts["files"]] == ["sample.csv"]
        checked = await model.call("check_batch_call", tasks_file="sample.csv")
        assert (checked["preflight"]["calls"], checked["skipped_rows_total"]) == (10, 0)
        assert checked["preflight"]["countries"] == {"US": 6, "GB": 4}
    (files / "sample.csv").unlink()
    async with playing(era, files=files, data_dir=data) as model:
        assert "files" not in await model.call("get_backend"), "what somebody removed does not come again"


async def _by_zone(model: Model, vendor: Zudu, person: Person, known: dict[str, Any]) -> None:
    """One batch call for each zone that the check reports, in that zone's hours; then each is launched."""
    hours = {"start": "00:00", "end": "23:59"}
    checked = await model.call("check_batch_call", **known)
    groups = {group["timezone"]: group["calls"] for group in checked["preflight"]["groups"]}
    assert sum(groups.values()) == len(PEOPLE)
    window = {**hours, "timezone": "recipient"}
    text = await model.refused("create_batch_call", "not_supported", from_number=FROM, window=window, **known)
    assert "make one batch call for each time zone: timezones selects its people" in text
    made = []
    for zone, calls in groups.items():
        one = await model.call(
            "create_batch_call", from_number=FROM, timezones=[zone], window={**hours, "timezone": zone}, **known
        )
        assert one["batch_call"]["counts"]["total"] == calls
        assert f"timezones selects {calls} of {len(PEOPLE)} people." in one["notes"]
        made.append(one["batch_call"]["batch_call_id"])
    sent = [task["to_number"] for write in vendor.writes for task in write.json["tasks"]]
    assert sorted(sent) == sorted(PEOPLE), "everybody once, over all zones"
    assert vendor.dialled == []
    for batch_call_id in made:
        await model.call("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="now")
    assert len(person.questions) == len(made)
    assert len(vendor.dialled) == len(set(vendor.dialled))


async def test_two_thousand_people_on_zudu_by_zone(tmp_path: Path) -> None:
    write_csv(tmp_path / "leads.csv", ["phone", "name"], ([one, f"P{at}"] for at, one in enumerate(PEOPLE)))
    vendor, person = Zudu(), Person("yes")
    account: dict[str, Any] = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET, "files": tmp_path}
    async with vendor.served() as url, playing("auto", person, url=url, **account) as model:
        text = await model.refused(
            "create_batch_call", "invalid_input", from_number=FROM, tasks_file="leads.csv", timezones=["Europe/Berlin"]
        )
        assert "Its time zones: America/New_York (" in text
        await _by_zone(model, vendor, person, {"tasks_file": "leads.csv"})


async def test_two_thousand_people_on_zudu_by_zone_over_http() -> None:
    """In the other era."""
    vendor, person, way = Zudu(), Person("yes"), Way("http", "legacy")
    tasks = [{"to_number": one} for one in PEOPLE]
    async with vendor.served() as url:
        settings = settings_of({"BACKEND": "zudu", "URL": url})
        server = build_server(settings, transport="http")
        async with (
            served(server, settings, way=way, authenticate=server.authenticate) as address,
            client_of(address, way, headers=PAIR, elicitation_callback=person) as client,
        ):
            await _by_zone(Model(client), vendor, person, {"tasks": tasks})
