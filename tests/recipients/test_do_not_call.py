"""A do-not-call list is read in full or not at all: a line skipped silently would be a person who is called."""

from pathlib import Path

import pytest

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.recipients.do_not_call import read_do_not_call, read_do_not_call_lists
from batchcall_mcp.recipients.phone.former_numbers import of_today
from batchcall_mcp.recipients.phone.numbers import InvalidNumber, comparable, normalise_number
from tests.recipients.workbooks import write_workbook

ONE, TWO = "+14155550100", "+14155550101"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dnc.txt", f"{ONE}\n{TWO}\n"),
        ("dnc.txt", f"# asked us not to call\n\n  +1 (415) 555-0100\n# again\n{TWO}"),
        ("dnc.csv", f"name,phone\nAnn,{ONE}\nBob,{TWO}\n"),
        ("dnc.csv", f"{ONE},2026-01-01\n{TWO},2026-01-02\n"),
        ("dnc.csv", f"20260101;{ONE}\n20260102;{TWO}\n"),
        ("dnc.jsonl", f'{{"phone": "{ONE}"}}\n{{"phone": "{TWO}"}}\n'),
        ("dnc.csv", f"\ufefftelephone\r\n{ONE}\r\n{TWO}\r\n{ONE}\r\n"),
    ],
)
def test_numbers_are_read_from_tables_and_bare_lines(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, newline="")
    assert read_do_not_call(path).numbers == {ONE, TWO}


def test_numbers_are_read_from_a_workbook(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "dnc.xlsx", {"S": [["phone"], [14155550100.0], [TWO]]})
    assert read_do_not_call(path, "US").numbers == {ONE, TWO}


def test_an_empty_list_holds_nobody(tmp_path: Path) -> None:
    path = tmp_path / "dnc.txt"
    path.write_text("# nobody yet\n")
    assert read_do_not_call(path).numbers == frozenset()


def test_a_number_that_the_library_does_not_know_still_counts(tmp_path: Path) -> None:
    path = tmp_path / "dnc.txt"
    path.write_text(f"{ONE}\n+1 111 555 0100\n")
    assert read_do_not_call(path).numbers == {ONE, "+11115550100"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"{ONE}\n4155550101\n", "line 2: .*no country code.*BATCHCALL_DEFAULT_REGION"),
        (f"{ONE}\nAnn\n", 'line 2: "Ann" is not a phone number'),
        (f"phone,name\n{ONE},Ann\n,Bob\n", "line 3: the number is empty"),
        ("\n".join([ONE, *"abcdefgh"]), "and 3 more"),
        ("who,where\nAnn,Rome\n", "no column that looks like phone numbers"),
        ("4155550100,4155550101\n", "several columns of .* contain numbers"),
    ],
)
def test_a_line_that_is_not_a_number_fails_the_whole_list(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "dnc.csv"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=f"^BATCHCALL_DO_NOT_CALL: .*{says}") as refused:
        read_do_not_call(path)
    assert "othing was sent" in refused.value.message


def test_a_broken_json_line_fails_the_whole_list(tmp_path: Path) -> None:
    path = tmp_path / "dnc.jsonl"
    path.write_text(f'{{"phone": "{ONE}"}}\n{{"phone": \n')
    with pytest.raises(ConfigurationError, match="line 2: the line is not JSON"):
        read_do_not_call(path)


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r'BATCHCALL_DO_NOT_CALL: "dnc\.txt" does not exist'):
        read_do_not_call(tmp_path / "dnc.txt")


FORMER = [
    ("+52 1 55 1234 5678", None, "+525512345678", "+5215512345678"),
    ("1 55 1234 5678", "MX", "+525512345678", None),
    ("+55 11 8765-4321", None, "+5511987654321", "+551187654321"),
    ("(11) 8765-4321", "BR", "+5511987654321", None),
    ("+229 97 12 34 56", None, "+2290197123456", "+22997123456"),
]


@pytest.mark.parametrize(("written", "region", "today", "before"), FORMER)
def test_a_number_of_an_earlier_plan_is_the_one_of_today(
    tmp_path: Path, written: str, region: str | None, today: str, before: str | None
) -> None:
    path = tmp_path / "dnc.txt"
    path.write_text(f"{written}\n{ONE}\n")
    found = read_do_not_call(path, region)
    assert found.numbers == {ONE, today} | ({before} if before else set())
    assert found.notes() == ()


@pytest.mark.parametrize("number", ["+525512345678", "+551133334444", "+5511987654321", "+2290197123456", ONE])
def test_a_number_of_today_stays_what_it_is(number: str) -> None:
    assert comparable(number) == number
    assert of_today(number, None) is None


@pytest.mark.parametrize("number", ["+52155123456", "+550087654321", "+551157654321", "+1555", "Ann"])
def test_what_no_plan_knew_is_not_guessed(number: str) -> None:
    assert of_today(number, None) is None


@pytest.mark.parametrize(("written", "region", "today", "before"), FORMER)
def test_a_backend_s_list_of_an_earlier_plan_is_compared_with_the_numbers_of_today(
    written: str, region: str | None, today: str, before: str | None
) -> None:
    if before is not None:
        assert comparable(before) == comparable(written) == today
        assert comparable(before.removeprefix("+")) == today
    with pytest.raises(InvalidNumber):
        normalise_number(written, region)


def test_lines_that_are_nobody_s_number_are_reported_masked_and_only_so_many(tmp_path: Path) -> None:
    path = tmp_path / "dnc.txt"
    strange = [f"+1 111 555 01{line:02}" for line in range(7)]
    path.write_text("\n".join([ONE, *strange]))
    (note,) = read_do_not_call(path).notes()
    assert "line 2 (+11•••••••00), line 3" in note
    assert "line 6 (+11•••••••04) and 2 more." in note
    assert "line 7" not in note
    assert "1115550" not in note


def test_a_masked_number_hides_six_digits_at_least(tmp_path: Path) -> None:
    path = tmp_path / "dnc.txt"
    path.write_text("+9991234\n")
    (note,) = read_do_not_call(path).notes()
    assert "line 1 (+99••••••)" in note


def test_several_lists_are_one_and_an_error_names_the_file(tmp_path: Path) -> None:
    first, second = tmp_path / "ours.txt", tmp_path / "theirs.csv"
    first.write_text(f"{ONE}\n+1 111 555 0100\n")
    second.write_text(f"phone\n{TWO}\n")
    found = read_do_not_call_lists((first, second))
    assert found.numbers == {ONE, TWO, "+11115550100"}
    assert 'The do-not-call list "ours.txt"' in found.notes()[0]
    second.write_text(f"{ONE},{TWO}\n")
    with pytest.raises(ConfigurationError, match=r'several columns of "theirs.csv"'):
        read_do_not_call_lists((first, second))
