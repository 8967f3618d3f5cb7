"""An adversary's look at the gate before each dial, consent, and files over HTTP."""

from __future__ import annotations

import json
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from batchcall_mcp.batch_calls import recipient_source
from batchcall_mcp.batch_calls.recipient_source import ListSource, read_source
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.do_not_call import DoNotCall
from batchcall_mcp.recipients.files import workbook
from batchcall_mcp.recipients.files.columns import Layout
from batchcall_mcp.recipients.files.contents import count_rows
from batchcall_mcp.recipients.files.workbook import read_rows
from batchcall_mcp.recipients.validation import ReadOptions, read_file
from batchcall_mcp.server.service import Service
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import Credentials
from tests.recipients.workbooks import write_workbook

LIST = b"mobile,name\n+14155550101,Ada\n"


async def test_lists_that_wait_for_their_turn_are_not_copied_to_the_disk_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one caller's many calls fill the disk with copies of one list."""
    going_on, go_on = threading.Event(), threading.Event()

    def slow(*_: Any) -> None:
        going_on.set()
        assert go_on.wait(60)

    async def nobody() -> DoNotCall:
        return DoNotCall()

    monkeypatch.setattr(recipient_source, "_read", slow)
    service = Service(Settings(backend="zudu", url="http://127.0.0.1:9", data_dir=tmp_path), local=False)
    service._lists_at_once.total_tokens = 1
    async with service.opened():
        files = service.caller_files(Credentials(SecretStr("key"), SecretStr("secret")), {})
        kept = await files.keep("people", ".csv", "list", [LIST], 1)
        context: Any = SimpleNamespace(local_files=False, files=files, do_not_call=nobody)
        async with anyio.create_task_group() as group:
            group.start_soon(read_source, context, ListSource(tasks_file=kept.name), None)
            await anyio.to_thread.run_sync(going_on.wait)
            for _ in range(3):
                group.start_soon(read_source, context, ListSource(tasks_file=kept.name), None)
            with anyio.fail_after(60):
                while files.reading.statistics().tasks_waiting < 3:
                    await anyio.lowlevel.checkpoint()
            copies = list((tmp_path / "incoming").iterdir())
            go_on.set()
    assert len(copies) == 1


def consenting(path: Path, consent: str, **layout: Any) -> list[str]:
    found = read_file(path, ReadOptions(consent=consent, layout=Layout(**layout), default_region="US"))
    return [task.to_number for task in found.tasks]


def test_who_is_there_twice_and_does_not_say_yes_each_time_is_not_called(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("phone,agreed\n+12135550101,yes\n+12135550102,yes\n+12135550101,no\n+12135550102,yes\n")
    assert consenting(path, "agreed") == ["+12135550102"]


def test_a_column_without_a_letter_consents_only_under_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("phone,✗,✓\n+12135550101,yes,no\n+12135550102,no,yes\n")
    assert consenting(path, "✓") == ["+12135550102"]
    path.write_text("phone,✗\n+12135550101,yes\n")
    with pytest.raises(InvalidInput, match="has no column"):
        consenting(path, "✓")
    path.write_text("phone,✗,✓\n+12135550101,yes,no\n")
    with pytest.raises(InvalidInput, match="keeps its name"):
        consenting(path, "✓", columns={"✓": "✗"})


def damaged(whole: bytes, kind: str) -> bytes:
    """A directory that points to before the file, or a name that is no text."""
    end = whole.rindex(b"PK\x05\x06")
    if kind == "places":
        place = int.from_bytes(whole[end + 16 : end + 20], "little") + 100_000
        return whole[: end + 16] + place.to_bytes(4, "little") + whole[end + 20 :]
    first = whole.index(b"PK\x01\x02")
    entry = bytearray(whole[first:end])
    entry[9] |= 8  # names are UTF-8
    entry[46] = 0x93
    return whole[:first] + bytes(entry) + whole[end:]


@pytest.mark.parametrize("kind", ["places", "names"])
def test_a_damaged_workbook_is_refused_in_words(tmp_path: Path, kind: str) -> None:
    path = write_workbook(tmp_path / "list.xlsx", {"People": [["phone"], ["+12135550101"]]})
    path.write_bytes(damaged(path.read_bytes(), kind))
    for read in (count_rows, lambda path: read_file(path, ReadOptions())):
        with pytest.raises(InvalidInput, match="is damaged"):
            read(path)


_FAR = b"<is><t>x</t></is></c>"


@pytest.mark.parametrize(
    ("row", "sheet"),
    [
        (b'<row r="300"><c r="CV300" t="inlineStr">' + _FAR, "sheet1.xml"),
        (b'<row r="300"><c r="cv300" t="inlineStr">' + _FAR, "sheet1.xml"),
        (b'<row r="300"><c t="inlineStr" r="CV300">' + _FAR, "sheet1.xml"),
        (b'<row r="300"><c r="CV0000000300" t="inlineStr">' + _FAR, "sheet1.xml"),
        (b'<row r="300">' + (b'<c t="inlineStr">' + _FAR) * 100, "sheet1.xml"),
        (b'<row r="300"><c r="CV300" t="inlineStr">' + _FAR, "sheet1.dat"),
        (b'<row r="300"><c r="CV300" t="inlineStr">' + _FAR, "styles.xml"),
    ],
    ids=["as Excel", "lower case", "place last", "zeros", "no place", "another ending", "another name"],
)
def test_a_stray_cell_is_found_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: bytes, sheet: str
) -> None:
    """Else a file of 3 KB, in which one cell stands at XFD1048576, ends the server: its reader lays all of it out."""
    plain = write_workbook(tmp_path / "plain.xlsx", {"People": [["phone"], ["+12135550101"]]})
    path = tmp_path / "list.xlsx"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name).replace(b"</sheetData>", row + b"</row></sheetData>")
            new.writestr(name.replace("sheet1.xml", sheet), content.replace(b"sheet1.xml", sheet.encode()))
    assert len(list(read_rows(path, Layout(), []))) == 300
    monkeypatch.setattr(workbook, "_MOST_CELLS", 299 * 100)
    with pytest.raises(InvalidInput, match="spans 300 rows and 100 columns"):
        count_rows(path)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_more_columns_than_anybody_needs_are_refused_at_once(tmp_path: Path, ending: str) -> None:
    """A million of them keep a processor busy for minutes."""
    path = tmp_path / f"list.{ending}"
    row = {"phone": "+12135550101"} | {f"column {place}": "" for place in range(100_000)}
    path.write_text(json.dumps(row) if ending == "jsonl" else f"{','.join(row)}\n{','.join(row.values())}\n")
    with pytest.raises(InvalidInput, match="100,001 columns"):
        read_file(path, ReadOptions())
