"""Who is called, which rows are skipped and why."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import CallTask
from batchcall_mcp.recipients.files.columns import Layout
from batchcall_mcp.recipients.selection import parse_rows
from batchcall_mcp.recipients.validation import (
    MOST_VARIABLE_BYTES,
    ReadOptions,
    Recipients,
    SkippedRow,
    SkipReason,
    read_file,
    read_inline,
)

ONE, TWO, THREE = "+14155550100", "+14155550101", "+14155550102"
ANY = ReadOptions()


def tasks(*numbers: str) -> list[CallTask]:
    return [CallTask(to_number=number) for number in numbers]


def reason_of(task: CallTask, options: ReadOptions = ANY) -> str:
    read = read_inline([task], options)
    (left,) = read.skipped_rows
    assert (left.kind, left.line, read.tasks) == (SkipReason.INVALID, 1, ())
    return left.reason


def test_an_inline_list_is_judged_row_by_row_and_keeps_its_order() -> None:
    given_tasks = [
        CallTask(to_number="(415) 555-0101", name=" Ann ", dynamic_variables={"a": "b"}, max_retries=0),
        *tasks("nonsense", ONE, TWO, "+1 415 555 0102", ONE),
    ]
    options = ReadOptions(default_region="us", do_not_call=frozenset({THREE}))
    assert read_inline(given_tasks, options) == Recipients(
        tasks=(
            CallTask(to_number=TWO, name="Ann", dynamic_variables={"a": "b"}, max_retries=0),
            CallTask(to_number=ONE),
        ),
        rows_read=6,
        skipped_rows=(
            SkippedRow(line=2, kind=SkipReason.INVALID, reason='"nonsense" is not a phone number: no digits'),
            SkippedRow(
                line=4,
                kind=SkipReason.DUPLICATE,
                reason=f"{TWO} is already on line 1",
                to_number=TWO,
                of_line=1,
            ),
            SkippedRow(
                line=5,
                kind=SkipReason.DO_NOT_CALL,
                reason=f"{THREE} is on the do-not-call list",
                to_number=THREE,
            ),
            SkippedRow(
                line=6,
                kind=SkipReason.DUPLICATE,
                reason=f"{ONE} is already on line 3",
                to_number=ONE,
                of_line=3,
            ),
        ),
        columns=None,
        last_row=6,
    )


def test_invalid_comes_before_do_not_call_and_that_before_duplicate() -> None:
    bad_zone = CallTask(to_number=ONE, timezone="PST")
    read = read_inline([bad_zone, *tasks(ONE, ONE)], ReadOptions(do_not_call=frozenset({ONE})))
    assert [left.kind for left in read.skipped_rows] == [
        SkipReason.INVALID,
        SkipReason.DO_NOT_CALL,
        SkipReason.DO_NOT_CALL,
    ]


def test_who_is_there_is_skipped_after_all_other_reasons_in_any_spelling() -> None:
    there = ReadOptions(do_not_call=frozenset({ONE}), there=frozenset({ONE, TWO}))
    read = read_inline(tasks(ONE, TWO, "001" + TWO[2:], "no number"), there)
    kinds = [SkipReason.DO_NOT_CALL, SkipReason.ALREADY_THERE, SkipReason.DUPLICATE, SkipReason.INVALID]
    assert ([left.kind for left in read.skipped_rows], read.tasks) == (kinds, ())
    assert [left.to_number for left in read.skipped_rows[1:3]] == [TWO, TWO]


def test_a_row_that_is_skipped_makes_no_later_one_a_duplicate() -> None:
    read = read_inline([CallTask(to_number=ONE, max_retries=11), *tasks(ONE)], ANY)
    assert ([task.to_number for task in read.tasks], [left.line for left in read.skipped_rows]) == ([ONE], [1])


@pytest.mark.parametrize("from_number", [ONE, "+1 (415) 555-0100"])
def test_the_caller_cannot_be_called(from_number: str) -> None:
    assert "is from_number, which" in reason_of(CallTask(to_number=ONE), ReadOptions(from_number=from_number))


def test_a_from_number_that_is_none_leaves_nobody_out() -> None:
    assert read_inline(tasks(ONE), ReadOptions(from_number="nonsense")).skipped_rows == ()


@pytest.mark.parametrize("retries", [-1, 11, 10**30])
def test_retries_out_of_range_are_invalid(retries: int) -> None:
    assert reason_of(CallTask(to_number=ONE, max_retries=retries)).startswith("max_retries: ")


@pytest.mark.parametrize("retries", [0, 10, None])
def test_retries_in_range_are_kept(retries: int | None) -> None:
    assert read_inline([CallTask(to_number=ONE, max_retries=retries)], ANY).tasks[0].max_retries == retries


def test_a_zone_that_is_none_is_invalid_and_says_which_was_meant() -> None:
    reason = reason_of(CallTask(to_number=ONE, timezone="PST"))
    assert reason == 'timezone: "PST" is not the IANA name of a time zone; did you mean America/Los_Angeles?'


def test_thousands_of_different_wrong_zones_are_still_judged_quickly() -> None:
    wrong = [CallTask(to_number=ONE, timezone=f"Not a zone {number} {'x' * 30}") for number in range(20_000)]
    assert len(read_inline(wrong, ANY).skipped_rows) == 20_000


def test_variables_may_take_exactly_the_limit() -> None:
    frame = len('{"a": ""}')
    fits = CallTask(to_number=ONE, dynamic_variables={"a": "x" * (MOST_VARIABLE_BYTES - frame)})
    assert read_inline([fits], ANY).tasks == (fits,)
    over = CallTask(to_number=ONE, dynamic_variables={"a": "x" * (MOST_VARIABLE_BYTES - frame + 1)})
    assert reason_of(over) == "the variables take 5,121 bytes as JSON; the limit is 5,120 for each task"


def test_variables_are_measured_in_bytes_not_characters() -> None:
    assert "bytes as JSON" in reason_of(CallTask(to_number=ONE, dynamic_variables={"a": "\N{PILE OF POO}" * 1300}))


@pytest.mark.parametrize("text", ["\ud800", "a\0b"])
def test_text_that_cannot_be_sent_is_invalid(text: str) -> None:
    assert reason_of(CallTask(to_number=ONE, name=text))
    assert reason_of(CallTask(to_number=ONE, dynamic_variables={"a": text}))
    assert reason_of(CallTask(to_number=ONE, dynamic_variables={text: "a"}))


def test_rows_are_positions_in_the_list() -> None:
    read = read_inline(tasks(ONE, TWO, THREE), ReadOptions(rows="2-3"))
    assert ([task.to_number for task in read.tasks], read.rows_read) == ([TWO, THREE], 2)
    with pytest.raises(InvalidInput, match="row 4 was requested, but the list has 3 rows"):
        read_inline(tasks(ONE, TWO, THREE), ReadOptions(rows="1,4"))


def test_a_number_column_has_no_meaning_for_a_list() -> None:
    with pytest.raises(InvalidInput, match="number_column applies only to tasks_file"):
        read_inline(tasks(ONE), ReadOptions(layout=Layout(number_column="phone")))


@pytest.mark.parametrize(("region", "says"), [("UK", 'Did you mean "GB"'), ("Germany", "two-letter"), ("", "default")])
def test_an_unknown_region_is_refused_by_name(region: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=f"^default_region: .*{says}|^default_region"):
        read_inline(tasks(ONE), ReadOptions(default_region=region))


class TestParsingRows:
    @pytest.mark.parametrize(
        ("text", "ranges"),
        [
            ("1", ((1, 1),)),
            ("1-1000", ((1, 1000),)),
            ("1-1000,1500", ((1, 1000), (1500, 1500))),
            (" 5 - 7 , 1", ((1, 1), (5, 7))),
            ("1-5,3-9,10", ((1, 10),)),
            ("1\N{EN DASH}3", ((1, 3),)),
        ],
    )
    def test_ranges_are_sorted_and_joined(self, text: str, ranges: tuple[tuple[int, int], ...]) -> None:
        assert parse_rows(text).ranges == ranges

    @pytest.mark.parametrize(
        "text", ["", " ", "0", "0-5", "5-1", "a", "1-", "-1", "1,,2", "1-2-3", "1.5", "9" * 20, "\u0663"]
    )
    def test_anything_else_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(InvalidInput, match=r'^rows: .*Nothing was sent.*"1-1000,1500"'):
            parse_rows(text)

    @given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), min_size=1, max_size=8))
    def test_a_row_is_selected_if_one_range_holds_it(self, ranges: list[tuple[int, int]]) -> None:
        selection = parse_rows(",".join(f"{first}-{first + more}" for first, more in ranges))
        expected = {row for first, more in ranges for row in range(first, first + more + 1)}
        assert {row for row in range(100) if row in selection} == expected
        assert selection.last == max(expected)

    @given(st.text("0123456789-, \u2013a", max_size=20))
    def test_any_text_is_a_selection_or_invalid_input(self, text: str) -> None:
        try:
            selection = parse_rows(text)
        except InvalidInput:
            return
        assert selection.last in selection


CONSENT = ReadOptions(consent="Consent")


@pytest.mark.parametrize(
    ("says", "called"),
    [
        *((yes, True) for yes in ("yes", " YES ", "True", "y", "1")),
        *((no, False) for no in ("", "no", "0", "yes?", "ja")),
    ],
)
def test_only_a_yes_is_consent(says: str, called: bool) -> None:
    task = CallTask(to_number=ONE, dynamic_variables={"consent": says})
    read = read_inline([task], CONSENT)
    assert [row.kind for row in read.skipped_rows] == ([] if called else [SkipReason.NO_CONSENT])


def test_a_list_without_the_column_of_consent_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"phone,name\n{ONE},Ann\n")
    with pytest.raises(InvalidInput, match=r'no column "Consent".*Its columns: "phone", "name"'):
        read_file(path, CONSENT)
    with pytest.raises(InvalidInput, match='No task has the variable "Consent"'):
        read_inline(tasks(ONE), CONSENT)


def test_a_column_of_consent_that_is_there_twice_has_to_say_yes_twice(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"phone,consent,CONSENT\n{ONE},yes,no\n{TWO},yes,Y\n{ONE},1,1\n")
    read = read_file(path, CONSENT)
    assert [task.to_number for task in read.tasks] == [TWO]
    skipped = [(row.line, row.kind) for row in read.skipped_rows]
    assert skipped == [(2, SkipReason.NO_CONSENT), (4, SkipReason.DUPLICATE)], "who said no first is not called"


@pytest.mark.parametrize("columns", [{"consent": "name"}, {"ok": "Con-sent"}])
def test_no_other_column_is_made_the_one_of_consent(tmp_path: Path, columns: dict[str, str]) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"phone,name,consent\n{ONE},yes,no\n")
    with pytest.raises(InvalidInput, match="keeps its name"):
        read_file(path, ReadOptions(consent="Consent", layout=Layout(columns=columns)))
