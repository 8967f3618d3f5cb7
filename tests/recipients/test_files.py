"""Lists in files: CSV in every dress, JSONL and Excel become the same tasks, or say what is wrong and where."""

import csv
import io
import json
import os
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchcall_mcp.errors import BatchCallError, InvalidInput
from batchcall_mcp.model import CallTask
from batchcall_mcp.recipients.files.columns import Columns, Layout
from batchcall_mcp.recipients.validation import ReadOptions, Recipients, SkippedRow, SkipReason, read_file
from tests.recipients.workbooks import Cell, Sheet, write_workbook

ANY = ReadOptions()
ONE, TWO, THREE = "+14155550100", "+14155550101", "+14155550102"
same_folder = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def task(to_number: str, **fields: str) -> CallTask:
    return CallTask(to_number=to_number, name=fields.get("name") or None, dynamic_variables=fields)


def test_a_table_becomes_tasks_and_says_which_column_is_what(write: Write) -> None:
    path = write(
        "list.csv",
        f"Phone Number,Full Name,city,Time Zone,max_retries\n{ONE},Ada,Paris,Europe/Paris,2\n{TWO},,,,\n",
    )
    first = {"Full Name": "Ada", "city": "Paris", "Time Zone": "Europe/Paris", "max_retries": "2"}
    assert read_file(path, ANY) == Recipients(
        tasks=(
            CallTask(to_number=ONE, name="Ada", dynamic_variables=first, max_retries=2, timezone="Europe/Paris"),
            CallTask(to_number=TWO, dynamic_variables=dict.fromkeys(first, "")),
        ),
        rows_read=2,
        skipped_rows=(),
        columns=Columns(
            to_number="Phone Number",
            variables=("Full Name", "city", "Time Zone", "max_retries"),
            name="Full Name",
            timezone="Time Zone",
            max_retries="max_retries",
        ),
        last_row=2,
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encodings_and_delimiters_make_no_difference(write: Write, encoding: str, delimiter: str) -> None:
    rows = [["to_number", "name", "note"], [ONE, "Zoë Müller", "a,b;c|d"], [TWO, "José", ""]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    mark = "\ufeff" if encoding in {"utf-16-le", "utf-16-be"} else ""
    read = read_file(write("list.csv", (mark + text.getvalue()).encode(encoding)), ANY)
    assert read.tasks == (task(ONE, name="Zoë Müller", note="a,b;c|d"), task(TWO, name="José", note=""))
    assert len(read.notes) == (encoding == "cp1252")


def test_reading_as_windows_1252_is_told(write: Write) -> None:
    read = read_file(write("list.csv", f"phone,name\n{ONE},Zoë\n".encode("cp1252")), ANY)
    assert "Windows-1252" in read.notes[0]


def test_one_wrong_byte_deep_in_a_utf8_file_is_named_and_garbles_nothing(write: Write) -> None:
    rows = [f"+1415555{number:04},Zoë".encode() for number in range(60_000)]
    rows[50_000] = b"+14155550000,Zo\xeb"
    with pytest.raises(
        InvalidInput, match=r'"list\.csv", line 50002: a character is not valid UTF-8.*Nothing was sent'
    ):
        read_file(write("list.csv", b"phone,name\n" + b"\n".join(rows)), ANY)


def test_a_utf8_file_cut_in_the_middle_of_a_character_is_named(write: Write) -> None:
    with pytest.raises(InvalidInput, match="line 3: a character is not valid UTF-8"):
        read_file(write("list.csv", f"phone,name\n{ONE},Zoë\n{TWO},Zoë".encode()[:-1]), ANY)


def test_bytes_that_windows_1252_does_not_have_are_not_guessed(write: Write) -> None:
    with pytest.raises(InvalidInput, match="line 2: a character is neither"):
        read_file(write("list.csv", b"phone,name\n+14155550100,\x8f\n"), ANY)


def test_quoted_line_breaks_belong_to_the_cell_and_lines_are_where_records_begin(write: Write) -> None:
    path = write("list.csv", f'phone,note\r\n\r\n{ONE},"two\r\nlines"\r\nx,\r\n{TWO},"""quoted"""\r\n')
    read = read_file(path, ANY)
    assert read.tasks == (task(ONE, note="two\r\nlines"), task(TWO, note='"quoted"'))
    assert [left.line for left in read.skipped_rows] == [5]


def test_excels_separator_line_is_obeyed(write: Write) -> None:
    read = read_file(write("list.csv", f"sep=;\r\nphone;name\r\n{ONE};a,b\r\n"), ANY)
    assert read.tasks == (task(ONE, name="a,b"),)


def test_a_row_with_more_cells_than_columns_is_skipped_and_never_shifted(write: Write) -> None:
    read = read_file(write("list.csv", f"phone,name,city\n{ONE},Doe, John,Rome\n{TWO},Ann,,,\n{THREE},Bob\n"), ANY)
    assert read.tasks == (task(TWO, name="Ann", city=""), task(THREE, name="Bob", city=""))
    assert [(left.line, left.kind) for left in read.skipped_rows] == [(2, SkipReason.INVALID)]
    reason = read.skipped_rows[0].reason
    assert 'the row has 4 cells under 3 columns; the first cell without a column contains "Rome"' in reason


def test_columns_without_a_name_are_dropped_and_told(write: Write) -> None:
    read = read_file(write("list.csv", f",phone,name,\n0,{ONE},Ann,\n"), ANY)
    assert read.tasks == (task(ONE, name="Ann"),)
    assert read.notes == ("Column 1 has no name and will not be passed to the agent.",)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("list.csv", b"", "is empty"),
        ("list.csv", b"\n \n,,\n", "is empty"),
        ("list.csv", b"phone,name\n", "no rows"),
        ("list.csv", b"phone,name\n\n,\n", "no rows"),
        ("list.csv", b"phone,name,name\n1,2,3\n", 'more than one column "name"'),
        ("list.csv", b"who,where\na,b\n", 'Pass number_column with one of its columns: "who", "where"'),
        ("list.csv", b"+14155550100,Ann\n+14155550101,Bob\n", "starts with a phone number.*to_number,name"),
        ("list.csv", b"(415) 555-0100\n", "starts with a phone number"),
        ("list.csv", b'phone,name\n+14155550100,"Ann\n+14155550101,Bob\n', "line 2: a quotation mark is never closed"),
        ("list.csv", b'phone,name\n+14155550100,"Ann" Lee\n', "line 2: text follows a closing quotation mark"),
        ("list.csv", b'phone,name\n+14155550100,"' + b"x" * 140_000, "line 2: a cell is longer than"),
        ("list.csv", b"phone\0,name\n", "line 1: contains NUL bytes"),
        ("list.csv", "phone,name\n".encode("utf-16-le"), "line 1: contains NUL bytes"),
        ("list.csv", b"PK\x03\x04rest", r"Excel workbook.*name it \.xlsx"),
        ("list.csv", b"\xd0\xcf\x11\xe0rest", r"old Excel file"),
        ("list.csv", b"%PDF-1.7", "is a PDF"),
        ("list.xls", b"anything", r"is not CSV.*Save the old Excel file as \.xlsx"),
        ("list.docx", b"anything", r"is not CSV \(\.csv, \.tsv, \.txt\), JSONL \(\.jsonl\) or Excel \(\.xlsx\)"),
        ("list", b"anything", "is not CSV"),
        ("list.xlsx", b"", "not an Excel workbook"),
        ("list.xlsx", b"phone,name\n", r"not an Excel workbook.*\.csv"),
        ("list.xlsx", b"PK\x03\x04rest", "is damaged"),
        ("list.xlsx", b"\xd0\xcf\x11\xe0rest", "protected by a password"),
        ("list.jsonl", b"", "is empty"),
        ("list.jsonl", b"\n\n", "is empty"),
        ("list.jsonl", b'[\n{"phone": "+14155550100"}\n]', "is a JSON array"),
        ("list.jsonl", b'\n{"who": "a", "where": "b"}', 'line 2, has no column.*"who", "where"'),
        ("list.jsonl", b'{"phone": "+14155550100"}\n\0', "line 2: contains NUL bytes"),
    ],
)
def test_a_file_that_is_not_a_list_is_refused_with_what_to_do(
    write: Write, name: str, content: bytes, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        read_file(write(name, content), ANY)
    assert "Nothing was sent" in refused.value.message


def test_what_is_not_an_ordinary_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name, says in (
        ("pipe.csv", "not a regular file"),
        ("folder.csv", "is a folder"),
        ("gone.csv", "does not exist"),
    ):
        with pytest.raises(InvalidInput, match=says):
            read_file(tmp_path / name, ANY)


class TestChoosingTheNumberColumn:
    @pytest.mark.parametrize(
        "header", ["to_number", "PHONE", "Phone Number", "phone-no.", "Mobile", "Téléphone", "Teléfono", "Tel.", "电话"]
    )
    def test_usual_headers_are_known(self, write: Write, header: str) -> None:
        read = read_file(write("list.csv", f"id,{header}\n7,{ONE}\n"), ANY)
        assert read.columns is not None
        assert read.columns.to_number == header

    def test_of_several_the_surest_is_taken_and_reported(self, write: Write) -> None:
        read = read_file(write("list.csv", f"number,mobile,phone\n7,{TWO},{ONE}\n"), ANY)
        assert read.tasks == (task(ONE, number="7", mobile=TWO),)
        assert read.columns is not None
        assert read.columns.to_number == "phone"

    @pytest.mark.parametrize("asked", ["Mobile No", "mobile no", "mobile_no"])
    def test_a_named_column_wins(self, write: Write, asked: str) -> None:
        read = read_file(
            write("list.csv", f"phone,Mobile No\n{ONE},{TWO}\n"), ReadOptions(layout=Layout(number_column=asked))
        )
        assert [each.to_number for each in read.tasks] == [TWO]

    def test_a_named_column_that_is_not_there_is_refused_with_those_that_are(self, write: Write) -> None:
        path = write("list.csv", f"phone,Mobile No\n{ONE},{TWO}\n")
        with pytest.raises(InvalidInput, match=r'no column "cell" \(number_column\).*"phone", "Mobile No"'):
            read_file(path, ReadOptions(layout=Layout(number_column="cell")))

    def test_a_caller_number_column_is_never_the_called_one(self, write: Write) -> None:
        with pytest.raises(InvalidInput, match="no column that looks like"):
            read_file(write("list.csv", f"from_number,name\n{ONE},Ann\n"), ANY)

    @pytest.mark.timeout(20)
    def test_a_hundred_thousand_columns_are_refused_at_once_with_a_short_text(self, write: Write) -> None:
        with pytest.raises(InvalidInput, match='"c29" and 99970 more') as refused:
            read_file(write("list.csv", ",".join(f"c{number}" for number in range(100_000))), ANY)
        assert len(refused.value.message) < 500


class TestJsonLines:
    def test_flat_objects_are_rows(self, write: Write) -> None:
        path = write(
            "list.jsonl",
            f'{{"phone": "{ONE}", "name": "Ann", "vip": true, "owes": 12.50, "note": null}}\n\n'
            f'{{"phone": {TWO[1:]}, "timezone": "Asia/Tokyo", "max_retries": 3}}\n',
        )
        read = read_file(path, ReadOptions(default_region="US"))
        assert read.tasks == (
            task(ONE, name="Ann", vip="true", owes="12.50", note=""),
            CallTask(
                to_number=TWO,
                timezone="Asia/Tokyo",
                max_retries=3,
                dynamic_variables={"timezone": "Asia/Tokyo", "max_retries": "3"},
            ),
        )
        assert read.columns == Columns(
            to_number="phone",
            variables=("name", "vip", "owes", "note", "timezone", "max_retries"),
            name="name",
            timezone="timezone",
            max_retries="max_retries",
        )

    def test_objects_may_be_shaped_like_tasks(self, write: Write) -> None:
        shaped = {"to_number": ONE, "name": "Ann", "dynamic_variables": {"city": "Rome"}, "max_retries": 1}
        bare: dict[str, object] = {
            "to_number": TWO,
            "name": None,
            "timezone": "Asia/Tokyo",
            "dynamic_variables": {},
            "order": "7",
        }
        read = read_file(write("list.jsonl", f"{json.dumps(shaped)}\n{json.dumps(bare)}"), ANY)
        assert read.tasks == (
            CallTask(to_number=ONE, name="Ann", max_retries=1, dynamic_variables={"city": "Rome", "name": "Ann"}),
            CallTask(to_number=TWO, timezone="Asia/Tokyo", dynamic_variables={"order": "7"}),
        )

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ('{"phone": ', "the line is not JSON"),
            ('"+14155550100"', "the line is not a JSON object"),
            ("[" * 100_000, "nested too deeply|not JSON"),
            ('{"phone": "+14155550101", "a": NaN}', "NaN is not a JSON value"),
            ('{"phone": "+14155550101", "a": [1]}', '"a" contains a list'),
            ('{"phone": "+14155550101", "a": "1", "a": "2"}', '"a" appears twice'),
            ('{"phone": "+14155550101", "dynamic_variables": []}', "dynamic_variables is not a JSON object"),
            ('{"phone": "+14155550101", "a": "1", "dynamic_variables": {"a": "2"}}', "with different values"),
            ('{"mobile": "+14155550101"}', 'the object has no "phone"'),
            ('{"phone": "+14155550101", "a": "\\ud800"}', "half a character"),
            ('{"phone": "+14155550101", "a": "\\u0000"}', "NUL character"),
            ('{"phone": {"n": 1}}', '"phone" contains a list or an object'),
        ],
    )
    def test_a_broken_line_is_skipped_with_its_reason(self, write: Write, line: str, says: str) -> None:
        read = read_file(write("list.jsonl", f'{{"phone": "{ONE}"}}\n{line}\n{{"phone": "{THREE}"}}\n'), ANY)
        assert [each.to_number for each in read.tasks] == [ONE, THREE]
        (left,) = read.skipped_rows
        assert (left.line, left.kind) == (2, SkipReason.INVALID)
        assert re.search(says, left.reason)


class TestWorkbooks:
    def test_cells_are_the_text_that_a_person_means(self, tmp_path: Path) -> None:
        header: list[Cell] = ["phone", "n", "x", "yes", "day", "at", "time", "empty"]
        row: list[Cell] = [14155550100.0, 12.0, 0.5, True, (45000, 1), (45000.5, 2), (0.25, 3)]
        path = write_workbook(tmp_path / "list.xlsx", {"People": {2: header, 4: row}})
        read = read_file(path, ReadOptions(default_region="US"))
        variables = {
            "n": "12", "x": "0.5", "yes": "true", "day": "2023-03-15", "at": "2023-03-15 12:00:00",
            "time": "06:00:00", "empty": "",
        }  # fmt: skip
        assert read.tasks == (CallTask(to_number=ONE, dynamic_variables=variables),)
        assert read.notes == ()

    def test_the_first_visible_sheet_is_read_and_the_others_are_named(self, tmp_path: Path) -> None:
        sheets = {"Old": [["phone"], [TWO]], "Empty": [], "People": [["phone"], [ONE]], "Notes": [["hello"]]}
        read = read_file(write_workbook(tmp_path / "list.xlsx", sheets, hidden=["Old"]), ANY)
        assert [each.to_number for each in read.tasks] == [ONE]
        assert read.notes == ('Only the sheet "People" was read, not "Empty", "Notes".',)

    def test_hidden_rows_are_read_and_told(self, tmp_path: Path) -> None:
        path = write_workbook(tmp_path / "list.xlsx", {"S": [["phone"], [ONE], [TWO]]}, hidden_rows=[3])
        read = read_file(path, ANY)
        assert len(read.tasks) == 2
        assert read.notes[0].startswith("1 rows are hidden")

    def test_a_stray_cell_far_away_is_refused_before_it_takes_all_memory(self, tmp_path: Path) -> None:
        sheet: dict[int, list[Cell]] = {1: ["phone"], 2: [ONE], 1_048_576: [*[None] * 16_000, "x"]}
        with pytest.raises(InvalidInput, match="spans 1,048,576 rows and 16,001 columns"):
            read_file(write_workbook(tmp_path / "list.xlsx", {"S": sheet}), ANY)

    def test_a_workbook_without_anything_is_refused(self, tmp_path: Path) -> None:
        empty: dict[str, Sheet] = {"S": []}
        with pytest.raises(InvalidInput, match="no visible sheet with content"):
            read_file(write_workbook(tmp_path / "list.xlsx", empty), ANY)
        with pytest.raises(InvalidInput, match="column names but no rows"):
            read_file(write_workbook(tmp_path / "list.xlsx", {"S": [["phone"]]}), ANY)

    def test_a_damaged_workbook_is_read_or_refused_and_never_breaks(self, tmp_path: Path) -> None:
        path = write_workbook(tmp_path / "list.xlsx", {"S": [["phone", "name"], [ONE, "Ann"]]})
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        whole, chance, refused = path.read_bytes(), random.Random(7), 0
        for trial in range(300):
            if trial % 3:
                damaged = dict(parts)
                name = chance.choice(sorted(damaged))
                content = bytearray(damaged[name])
                content[chance.randrange(len(content))] = chance.randrange(256)
                damaged[name] = bytes(content)
                with zipfile.ZipFile(path, "w") as archive:
                    for part, data in damaged.items():
                        archive.writestr(part, data)
            else:
                content = bytearray(whole)
                content[chance.randrange(len(content))] = chance.randrange(256)
                path.write_bytes(content)
            try:
                read_file(path, ANY)
            except InvalidInput:
                refused += 1
        assert refused > 50


class TestRows:
    def test_rows_count_data_rows_from_one(self, write: Write) -> None:
        path = write("list.csv", "phone\n" + "".join(f"+1415555010{digit}\n" for digit in range(5)))
        read = read_file(path, ReadOptions(rows="2-3,5"))
        assert [each.to_number[-1] for each in read.tasks] == ["1", "2", "4"]
        assert read.rows_read == 3

    def test_a_row_past_the_end_is_refused_with_how_many_there_are(self, write: Write) -> None:
        path = write("list.csv", f"phone\n{ONE}\n\n{TWO}\n")
        with pytest.raises(InvalidInput, match=r'rows: row 3 was requested, but "list\.csv" has 2 rows'):
            read_file(path, ReadOptions(rows="1-3"))

    def test_broken_rows_count_too(self, write: Write) -> None:
        path = write("list.jsonl", f'{{"phone": "{ONE}"}}\nbroken\n{{"phone": "{TWO}"}}\n')
        assert [each.to_number for each in read_file(path, ReadOptions(rows="3")).tasks] == [TWO]


cells = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
headers = st.lists(st.text("abcdefghijk _ÄÖ", min_size=1, max_size=8).map(str.strip), max_size=4).map(
    lambda names: [name for name in dict.fromkeys(names) if name and name != "cell"]
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    names = draw(headers)
    at = draw(st.integers(0, len(names)))
    rows = draw(st.lists(st.lists(cells, min_size=len(names), max_size=len(names)), min_size=1, max_size=8))
    header = [*names[:at], "to_number", *names[at:]]
    return header, [[*row[:at], f"+1415555{1000 + index}", *row[at:]] for index, row in enumerate(rows)]


@same_folder
@given(
    tables(),
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_whatever_a_csv_writer_writes_is_read_as_it_was(
    write: Write, table: tuple[list[str], list[list[str]]], delimiter: str, quoting: int, newline: str, encoding: str
) -> None:
    header, rows = table
    text = io.StringIO(newline="")
    if quoting == csv.QUOTE_MINIMAL:
        # The writer quotes a line break only if it is part of its own line end (Python before 3.13).
        newline = "\r\n"
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=newline)  # type: ignore[arg-type]
    writer.writerows([header, *rows])
    read = read_file(write("list.csv", text.getvalue().encode(encoding)), ANY)
    number = header.index("to_number")
    assert [(each.to_number, dict(each.dynamic_variables)) for each in read.tasks] == [
        (row[number], {name: cell for at, (name, cell) in enumerate(zip(header, row, strict=True)) if at != number})
        for row in rows
    ]
    assert read.skipped_rows == ()


@same_folder
@given(st.binary(max_size=200), st.sampled_from(["list.csv", "list.jsonl", "list.tsv", "list.xlsx"]))
def test_any_bytes_are_a_list_or_an_error_of_ours(write: Write, content: bytes, name: str) -> None:
    try:
        read_file(write(name, content), ANY)
    except BatchCallError:
        return


@same_folder
@given(st.text("phone,;\t|\"'\r\n+14155550100{}[]:\x85\u2028ë", max_size=120), st.sampled_from(["csv", "jsonl"]))
def test_any_text_under_a_good_first_line_gives_rows_or_an_error_of_ours(write: Write, text: str, kind: str) -> None:
    first = "phone,name\n" if kind == "csv" else f'{{"phone": "{ONE}"}}\n'
    try:
        read = read_file(write(f"list.{kind}", first + text), ANY)
    except InvalidInput:
        return
    assert len(read.tasks) + len(read.skipped_rows) == read.rows_read
    assert all(isinstance(left, SkippedRow) for left in read.skipped_rows)


def test_importing_the_room_loads_no_heavy_library() -> None:
    code = "import sys, batchcall_mcp.recipients as r; print(*{'phonenumbers', 'python_calamine'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_reading_closes_its_file_even_if_it_stops_early(write: Write) -> None:
    path = write("list.csv", "phone\n" + "".join(f"+1415555{number:04}\n" for number in range(3000)))
    assert read_file(path, ReadOptions(rows="1")).rows_read == 1
    # A file left open would be a ResourceWarning, and warnings are errors here.
    path.unlink()
