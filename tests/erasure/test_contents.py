"""A list, an export or a report without one person: their row goes, every other byte stays."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.erasure import own_files, retention
from batchcall_mcp.erasure.contents import occurs, without
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.recipients.phone.spellings import Spellings, is_forgotten, stand_in
from tests.erasure.spelt import full_width
from tests.recipients.workbooks import write_workbook
from tests.walks.stage import Person, playing, settings_of, tomorrow_at

ADA = Spellings.of("020 7946 0010", "GB")
OTHER = "+442079460011"
ALIKE = [
    "+442079460010",
    "442079460010",
    "0044 20 7946 0010",
    "011442079460010",
    "+44 (0)20 7946-0010",
    "020 7946 0010",
    full_width("02079460010"),
    "'+442079460010",
    "tel:+44-20-7946-0010",
    "+44\u00a020\u00a07946\u00a00010",
    "4.42079460010E+11",
]
NOT_ALIKE = [OTHER, "+12079460010", "+4420794600100", "20794600", "", "Ada", "+1 020 7946 0010", "forgotten-abc"]


@pytest.mark.parametrize("text", ALIKE)
def test_a_number_is_known_however_it_is_written(text: str) -> None:
    assert ADA.is_it(text)
    if "E+" not in text:
        on = " on 2026-11-28, please"
        assert ADA.without(f"call {text}{on}") == ADA.without(f"call {text}") + on
        assert "0010" not in ADA.without(f"call {text} 5 times")


@pytest.mark.parametrize("text", NOT_ALIKE)
def test_another_number_is_not(text: str) -> None:
    assert not ADA.is_it(text)
    assert ADA.without(f"call {text} on 2026-11-28") == f"call {text} on 2026-11-28"


def test_a_number_of_an_earlier_plan_is_the_same_person() -> None:
    who = Spellings.of("+52 55 1234 5678", None)
    assert who.is_it("+5215512345678")
    assert Spellings.of("+5215512345678", None).number == who.number


def test_what_stands_in_its_place_is_no_number_and_everybody_has_another() -> None:
    one, two = stand_in(), stand_in()
    assert one != two
    assert is_forgotten(one)
    assert not any(character.isdigit() for character in one)
    with pytest.raises(ValueError, match="no digits"):
        Spellings.of(one, "US")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_row_of_a_table_goes_and_every_other_byte_stays(encoding: str, end: str) -> None:
    first, last = f'phone;name;"note"{end}', f"{OTHER};Zoë;{end}"
    hers = f'020 7946 0010;Ada;"two{end}lines; and ""quotes"""{end}'
    text = first + f'{OTHER};Ben;"a{end}b"{end}' + hers + last
    found = without(text.encode(encoding), ".csv", ADA)
    assert found is not None
    assert (found.content, found.rows) == (text.replace(hers, "").encode(encoding), 1)
    assert without(found.content or b"", ".csv", ADA) is None


def test_who_is_only_mentioned_in_the_row_of_another_one_is_taken_out_of_it() -> None:
    text = f"to_number,name,status\n{OTHER},Ben,completed: call +442079460010 next time\n"
    found = without(text.encode(), ".csv", ADA)
    assert found is not None
    assert found.rows == 0
    assert found.content == text.replace(ADA.number, "[forgotten]").encode()


def test_a_quotation_mark_that_is_never_closed_hides_nobody() -> None:
    text = f'phone,name\n{OTHER},"Ben\n+442079460010,Ada\n'
    found = without(text.encode(), ".csv", ADA)
    assert found is not None
    assert found.content == f'phone,name\n{OTHER},"Ben\n'.encode()


def test_lines_of_json() -> None:
    text = (
        '{"to_number": "+442079460010", "name": "Ada"}\n'
        f'{{"to_number": "{OTHER}", "name": "Ben"}}\n'
        f'{{"to_number": "{OTHER}", "dynamic_variables": {{"of": "\\uff10\\uff1207946 0010"}}}}\n'
    )
    found = without(text.encode(), ".jsonl", ADA)
    assert found is not None
    lines = (found.content or b"").decode().splitlines()
    assert (found.rows, lines[0]) == (1, text.splitlines()[1])
    assert lines[1].endswith('{"of": "[forgotten]"}}')


def test_a_workbook_and_a_report_go_as_a_whole(tmp_path: Path) -> None:
    hers = write_workbook(tmp_path / "hers.xlsx", {"People": [["phone"], ["020 7946 0010"]]}).read_bytes()
    his = write_workbook(tmp_path / "his.xlsx", {"People": [["phone"], [OTHER]]}).read_bytes()
    found = without(hers, ".xlsx", ADA)
    assert found is not None
    assert found.content is None
    assert without(his, ".xlsx", ADA) is None
    assert occurs(hers, ADA)
    page = "<p>+44&#50;0 7946 <b>0010</b></p>"
    found = without(page.encode(), ".html", ADA)
    assert found is not None
    assert found.content is None
    assert without(b"<p>somebody else</p>", ".html", ADA) is None


@given(st.lists(st.text(alphabet='",;+0147\n\r ab0044\t', max_size=12), max_size=8))
def test_of_any_table_nothing_of_the_number_is_left(rows: list[str]) -> None:
    text = "phone,name\n" + "\n".join(rows) + "\n+442079460010,Ada\n020 7946 0010\n"
    found = without(text.encode(), ".csv", ADA)
    assert found is not None
    assert not ADA.within((found.content or b"").decode())


async def test_a_file_keeps_its_mode_and_a_file_of_somebody_else_is_only_named(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    exports = folder / "exports"
    exports.mkdir(parents=True)
    settings = settings_of({"DATA_DIR": str(tmp_path / "data"), "FILES": str(folder)})
    header = "to_number,name,status,backend_status,attempts,call_id\n"
    ours, theirs = exports / "batch_call_1.csv", exports / "holiday.csv"
    ours.write_text(f"{header}{ADA.number},Ada,completed,,1,\n{OTHER},Ben,completed,,1,\n")
    ours.chmod(0o640)
    theirs.write_text(f"phone,name\n{ADA.number},Ada\n")
    assert own_files.exports(settings) == [ours]
    found = own_files.without_person(ours, ADA, ())
    assert found is not None
    own_files.erase(found)
    assert ours.read_text() == f"{header}{OTHER},Ben,completed,,1,\n"
    assert ours.stat().st_mode & 0o777 == 0o640
    assert own_files.lists(settings, [ours], ADA) == [theirs]


async def test_exports_go_so_many_days_after_their_batch_call(tmp_path: Path) -> None:
    """By its end where the dialer knows it, and by the file's age where nobody does."""
    variables = {"data_dir": str(tmp_path / "data"), "files": str(tmp_path / "files"), "calling_hours": "00:00-24:00"}
    (tmp_path / "files").mkdir()
    caller = {"from_number": "+14155550100"}
    at = {"trigger_timestamp": tomorrow_at(10).isoformat()}
    async with playing("auto", Person("yes"), **variables) as model:
        made = await model.call("create_batch_call", tasks=[{"to_number": "+12125550101"}], **caller)
        live = made["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=live, **at)
        for form in ("csv", "jsonl", "report"):
            await model.call("export_batch_call", batch_call_id=live, format=form)
        made = await model.call("create_batch_call", tasks=[{"to_number": "+12125550102"}], **caller)
        over = made["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=over, **at)
        await model.call("cancel_batch_call", batch_call_id=over)
        await model.call("export_batch_call", batch_call_id=over)
    settings = settings_of({name.upper(): value for name, value in variables.items()})
    exports = own_files.exports(settings)
    assert len(exports) == 4, "all of them are known as ours"
    of_vendor = exports[0].parent / "campaign_7.csv"
    of_vendor.write_bytes((exports[0].parent / f"{over}.csv").read_bytes())
    (settings.data_dir / "stopped-20200101T000000000000Z.csv").write_text("batch_call_id\n")
    theirs = exports[0].parent / "holiday.csv"
    theirs.write_text("phone\n")
    os.utime(theirs, (0, 0))

    def gone(days: float) -> set[str]:
        now = datetime.now(UTC) + timedelta(days=days)
        return {path.name for path in retention.remove_old_files(settings, timedelta(days=7), now)}

    assert gone(6.9) == set()
    os.utime(of_vendor, (0, 0))
    assert gone(6.9) == {of_vendor.name}
    assert gone(7.1) == {f"{over}.csv", "stopped-20200101T000000000000Z.csv"}
    assert gone(1000) == set(), "never of what is live"
    assert theirs.exists()


def test_a_database_that_cannot_be_read_is_an_error_that_a_server_outlives(tmp_path: Path) -> None:
    """Any other kind would end the server: nothing of a list is launched or answered because of a look at old files."""
    settings = settings_of({"DATA_DIR": str(tmp_path), "FILES": str(tmp_path / "lists")})
    with closing(Store.open(tmp_path / "dialer.db")) as store, store.writing() as tx:
        tx.exec_driver_sql("DROP TABLE batch_calls")
    exports = tmp_path / "lists" / "exports"
    exports.mkdir(parents=True)
    (exports / "batch_call_1.csv").write_text("to_number,name,status,backend_status,attempts,\n")
    with pytest.raises(ConfigurationError, match="The dialer's database cannot be used"):
        retention.remove_old_files(settings, timedelta(days=1), datetime.now(UTC))


def test_days_are_whole_and_at_least_one() -> None:
    assert settings_of({}).retention_days is None
    assert settings_of({"RETENTION_DAYS": "30"}).retention_days == 30
    with pytest.raises(ConfigurationError, match="RETENTION_DAYS"):
        settings_of({"RETENTION_DAYS": "0"})
