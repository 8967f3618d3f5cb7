"""A do-not-call list is read in full or not at all: a line left out quietly would be a person who is called."""

from pathlib import Path

import pytest

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.recipients import load_do_not_call
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
    assert load_do_not_call(path) == {ONE, TWO}


def test_numbers_are_read_from_a_workbook(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "dnc.xlsx", {"S": [["phone"], [14155550100.0], [TWO]]})
    assert load_do_not_call(path, "US") == {ONE, TWO}


def test_an_empty_list_holds_nobody(tmp_path: Path) -> None:
    path = tmp_path / "dnc.txt"
    path.write_text("# nobody yet\n")
    assert load_do_not_call(path) == frozenset()


def test_a_number_that_the_library_does_not_know_still_counts(tmp_path: Path) -> None:
    path = tmp_path / "dnc.txt"
    path.write_text(f"{ONE}\n+1 111 555 0100\n")
    assert load_do_not_call(path) == {ONE, "+11115550100"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"{ONE}\n4155550101\n", "line 2: .*no country code.*BATCHCALL_DEFAULT_REGION"),
        (f"{ONE}\nAnn\n", 'line 2: "Ann" is not a phone number'),
        (f"phone,name\n{ONE},Ann\n,Bob\n", "line 3: the number is empty"),
        ("\n".join([ONE, *"abcdefgh"]), "and 3 more"),
        ("who,where\nAnn,Rome\n", "no column that looks like the phone number"),
        ("4155550100,4155550101\n", "several columns hold numbers"),
    ],
)
def test_a_line_that_is_no_number_fails_the_whole_list(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "dnc.csv"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=f"^BATCHCALL_DO_NOT_CALL: .*{says}") as refused:
        load_do_not_call(path)
    assert "othing was sent" in refused.value.message


def test_a_broken_json_line_fails_the_whole_list(tmp_path: Path) -> None:
    path = tmp_path / "dnc.jsonl"
    path.write_text(f'{{"phone": "{ONE}"}}\n{{"phone": \n')
    with pytest.raises(ConfigurationError, match="line 2: the line is not JSON"):
        load_do_not_call(path)


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r'BATCHCALL_DO_NOT_CALL: "dnc\.txt" is not there'):
        load_do_not_call(tmp_path / "dnc.txt")
