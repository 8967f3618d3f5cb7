"""Lists as people have them: columns under other names, titles above the names, several sheets, no country codes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.errors import ConfigurationError, InvalidInput
from batchcall_mcp.model import CallTask
from batchcall_mcp.recipients.do_not_call import read_do_not_call
from batchcall_mcp.recipients.files.columns import Columns, Layout
from batchcall_mcp.recipients.files.header import Row, header_at
from batchcall_mcp.recipients.validation import ReadOptions, Recipients, read_file, read_inline
from tests.recipients.workbooks import Sheet, write_workbook

ONE, TWO, THREE = "+14155550100", "+14155550101", "+14155550102"


def read(folder: Path, content: str | Mapping[str, Sheet], name: str = "list.csv", **layout: Any) -> Recipients:
    """A file with this content, read; a mapping is a workbook."""
    region = layout.pop("default_region", None)
    path = folder / name
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path = write_workbook(folder / "list.xlsx", content)
    return read_file(path, ReadOptions(layout=Layout(**layout), default_region=region))


def refusal(folder: Path, content: str | Mapping[str, Sheet], name: str = "list.csv", **layout: Any) -> str:
    with pytest.raises(InvalidInput) as refused:
        read(folder, content, name, **layout)
    assert "Nothing was sent" in refused.value.message
    return refused.value.message


class TestColumns:
    def test_a_variable_comes_from_the_column_that_is_named(self, tmp_path: Path) -> None:
        table = f"Contact No,First Name,Plan,City\n{ONE},Ada,basic,Paris\n"
        found = read(
            tmp_path,
            table,
            columns={"to_number": "contact_no", "name": "first name", "tariff": "PLAN", "again": "plan"},
        )
        variables = {"name": "Ada", "tariff": "basic", "again": "basic", "City": "Paris"}
        assert found.tasks == (CallTask(to_number=ONE, name="Ada", dynamic_variables=variables),)
        assert found.columns == Columns(
            to_number="Contact No",
            variables=("name", "tariff", "again", "City"),
            name="First Name",
            mapped={"name": "First Name", "tariff": "Plan", "again": "Plan"},
        )

    def test_the_zone_and_the_retries_can_be_named_too(self, tmp_path: Path) -> None:
        table = f"phone,Region,Tries\n{ONE},Europe/Paris,2\n"
        (task,) = read(tmp_path, table, columns={"timezone": "region", "max_retries": "tries"}).tasks
        assert (task.timezone, task.max_retries) == ("Europe/Paris", 2)

    def test_a_name_that_is_only_moved_is_still_the_name(self, tmp_path: Path) -> None:
        (task,) = read(tmp_path, f"phone,name\n{ONE},Ada\n", columns={"customer": "name"}).tasks
        assert task == CallTask(to_number=ONE, name="Ada", dynamic_variables={"customer": "Ada"})

    @pytest.mark.parametrize(
        ("columns", "says"),
        [
            (
                {"name": "first nme"},
                r'no column "first nme" (columns.name). Nothing was sent. Its columns: "phone", "Fir',
            ),
            ({"to_number": "mobil"}, 'no column "mobil" (columns.to_number)'),
            ({"name": "first-name"}, 'more than one column like "first-name" (columns.name)'),
            ({"called": "phone"}, None),
            ({"town": "First Name"}, None),
            (
                {"city": "First Name"},
                'columns gives the name "city" to "First Name", but "list.csv" has a column "city"',
            ),
        ],
    )
    def test_what_cannot_be_meant_is_refused_with_the_columns(
        self, tmp_path: Path, columns: dict[str, str], says: str | None
    ) -> None:
        table = f"phone,First Name,city,first_name\n{ONE},Ada,Paris,x\n"
        if says is None:
            assert len(read(tmp_path, table, columns=columns).tasks) == 1
        else:
            assert says in refusal(tmp_path, table, columns=columns)

    @pytest.mark.parametrize("columns", [{"to_number": "+"}, {"name": "-"}, {"": "name"}, {" ": "name"}])
    def test_what_has_no_letters_means_only_itself(self, tmp_path: Path, columns: dict[str, str]) -> None:
        table = f"#,phone,name\n{TWO},{ONE},Ada\n"
        refusal(tmp_path, table, columns=columns)
        assert [task.to_number for task in read(tmp_path, table, columns={"to_number": "#"}).tasks] == [TWO]

    def test_two_columns_for_the_number_are_refused(self, tmp_path: Path) -> None:
        text = refusal(tmp_path, f"a,b\n{ONE},{TWO}\n", number_column="a", columns={"to_number": "b"})
        assert 'number_column is "a" and columns.to_number is "b"' in text

    def test_json_lines_have_columns_too_also_where_a_line_lacks_one(self, tmp_path: Path) -> None:
        lines = f'{{"nr": "{ONE}", "First Name": "Ada", "x": 1}}\n{{"nr": "{TWO}", "x": 2}}\n'
        found = read(tmp_path, lines, "list.jsonl", columns={"to_number": "NR", "name": "first_name"})
        assert found.tasks == (
            CallTask(to_number=ONE, name="Ada", dynamic_variables={"name": "Ada", "x": "1"}),
            CallTask(to_number=TWO, dynamic_variables={"x": "2"}),
        )

    def test_they_are_for_files_alone(self) -> None:
        with pytest.raises(InvalidInput, match="columns, sheet apply only to tasks_file"):
            read_inline([CallTask(to_number=ONE)], ReadOptions(layout=Layout(columns={"a": "b"}, sheet="c")))


class TestHeaders:
    def test_a_title_above_the_names_is_found_and_said(self, tmp_path: Path) -> None:
        found = read(tmp_path, f"Campaign, December 2026\n\nphone;name\n{ONE};Ada, B.\n{TWO};Ben\n")
        assert [(task.to_number, task.name) for task in found.tasks] == [(ONE, "Ada, B."), (TWO, "Ben")]
        (note,) = found.notes
        title = '"Campaign, December 2026"'
        assert note.startswith(f"Row 3 was taken as the column names; the row above it, {title}, was not read. header_")

    def test_a_title_that_is_a_name_of_a_number_is_a_title_all_the_same(self, tmp_path: Path) -> None:
        found = read(tmp_path, {"S": [["Phone"], ["printed on Monday"], ["Phone", "Name"], [ONE, "Ada"]]})
        assert [task.name for task in found.tasks] == ["Ada"]
        assert found.notes[0].startswith("Row 3 was taken as the column names; the 2 rows above it were not read.")

    def test_the_row_that_the_caller_names_is_taken_without_a_note(self, tmp_path: Path) -> None:
        sheet: Sheet = [["phone", "name"], ["old", "names"], ["mobile", "who"], [ONE, "Ada"]]
        found = read(tmp_path, {"S": sheet}, header_row=3)
        assert [task.dynamic_variables for task in found.tasks] == [{"who": "Ada"}]
        assert found.notes == ()
        found = read(tmp_path, f"a,b,c\n\nmobile;who\n{ONE};Ada\n", header_row=3)
        assert [task.dynamic_variables for task in found.tasks] == [{"who": "Ada"}]

    @pytest.mark.parametrize(
        ("row", "says"), [(2, "that row is empty"), (9, "the last row with content is 4"), (0, "counted from 1")]
    )
    def test_a_row_without_names_is_refused(self, tmp_path: Path, row: int, says: str) -> None:
        assert says in refusal(tmp_path, f"title\n\nphone,name\n{ONE},Ada\n", header_row=row)

    def test_below_a_title_the_names_that_there_are_come_into_the_error(self, tmp_path: Path) -> None:
        text = refusal(tmp_path, f"Campaign\nKunde,Kontakt\nAda,{ONE}\n")
        assert 'Pass number_column with one of its columns: "Kunde", "Kontakt"' in text
        assert len(read(tmp_path, f"Campaign\nKunde,Kontakt\nAda,{ONE}\n", number_column="kontakt").tasks) == 1

    def test_a_person_is_never_taken_for_a_title(self, tmp_path: Path) -> None:
        text = refusal(tmp_path, f"{ONE},Ann\n{TWO},Ben\nphone,name\n{THREE},Ida\n")
        assert "starts with a phone number instead of the column names" in text

    def test_a_cell_that_is_a_name_of_a_number_makes_no_header(self, tmp_path: Path) -> None:
        table = f"phone,kind\n{ONE},mobile\nn/a,mobile\n{TWO},home phone\n"
        assert len(read(tmp_path, table).tasks) == 2
        assert 'one of its columns: "Nr", "kind"' in refusal(tmp_path, f"Nr,kind\nn/a,mobile\n{TWO},mobile\n")

    def test_json_lines_have_no_header(self, tmp_path: Path) -> None:
        assert "header_row" in refusal(tmp_path, f'{{"phone": "{ONE}"}}\n', "list.jsonl", header_row=1)
        assert "sheet" in refusal(tmp_path, f"phone\n{ONE}\n", sheet="S")

    @given(
        titles=st.lists(st.lists(st.text("ab ,;", max_size=4), min_size=1, max_size=3), max_size=3),
        people=st.lists(st.tuples(st.sampled_from([ONE, TWO, "n/a", ""]), st.text("xyz", max_size=3)), min_size=1),
    )
    def test_whatever_stands_above_no_person_is_lost(
        self, titles: list[list[str]], people: list[tuple[str, str]]
    ) -> None:
        """The same people, or nobody: never fewer of them."""
        rows = [*titles, ["phone", "who"], *map(list, people)]
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        parsed = [Row(at, cells) for at, cells in enumerate(csv.reader(io.StringIO(text.getvalue())), 1)]
        filled = [row for row in parsed if row.filled]
        at = header_at(filled, Layout())
        assert at == 0 or [cell.strip() for cell in filled[at].cells] == ["phone", "who"]
        if any(number.startswith("+") for number, _ in people[: 20 - len(titles)]):
            assert filled[at].cells == ["phone", "who"]


class TestSheets:
    TWO_LISTS: Mapping[str, Sheet] = {
        "November": [["phone"], [ONE]],
        "December 2026": [["Title"], ["phone", "name"], [TWO, "Ada"]],
        "Notes": [["call friendly", (45000, 1)]],
    }

    def test_several_sheets_with_numbers_are_named_and_none_is_guessed(self, tmp_path: Path) -> None:
        text = refusal(tmp_path, self.TWO_LISTS)
        assert "has more than one sheet with phone numbers" in text
        assert 'Pass sheet with one of these, or keep only one: "November", "December 2026".' in text

    @pytest.mark.parametrize("sheet", ["December 2026", "december_2026"])
    def test_the_sheet_that_is_named_is_read(self, tmp_path: Path, sheet: str) -> None:
        found = read(tmp_path, self.TWO_LISTS, sheet=sheet)
        assert [task.to_number for task in found.tasks] == [TWO]
        assert [note.partition(";")[0] for note in found.notes] == ["Row 2 was taken as the column names"]

    def test_a_sheet_that_is_not_there_is_refused_with_those_that_are(self, tmp_path: Path) -> None:
        text = refusal(tmp_path, self.TWO_LISTS, sheet="January")
        assert 'no visible sheet "January" (sheet). Nothing was sent. Its sheets: "November", "December 2026", ' in text

    def test_the_only_sheet_with_numbers_is_taken_wherever_it_is(self, tmp_path: Path) -> None:
        found = read(tmp_path, {"Notes": self.TWO_LISTS["Notes"], "People": [["phone"], [ONE]]})
        assert [task.to_number for task in found.tasks] == [ONE]
        assert found.notes == ('Only the sheet "People" was read, not "Notes".',)

    def test_a_do_not_call_list_of_two_sheets_is_not_read_by_half(self, tmp_path: Path) -> None:
        path = write_workbook(tmp_path / "dnc.xlsx", {"A": [["phone"], [ONE]], "B": [["phone"], [TWO]]})
        with pytest.raises(ConfigurationError, match='keep only one: "A", "B"'):
            read_do_not_call(path)


class TestCountryCodes:
    def test_numbers_without_a_country_code_name_the_argument(self, tmp_path: Path) -> None:
        table = f"phone\n(415) 555-0100\n{TWO}\n415-555-0102\nn/a\n"
        (remark,) = read(tmp_path, table).remarks
        assert remark.startswith('2 numbers have no country code, such as "(415) 555-0100" on line 2. default_region, ')
        found = read(tmp_path, table, default_region="us")
        assert [task.to_number for task in found.tasks] == [ONE, TWO, THREE]
        assert found.remarks == ()
