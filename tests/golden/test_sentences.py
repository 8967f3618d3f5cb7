"""The sentences that are seen most are those that a person has read."""

from tests.golden.sentences import PAGE, collected

FEWEST = 100


def test_the_golden_file_is_what_the_code_says() -> None:
    assert collected() == PAGE.read_text(encoding="utf-8"), "python -m tests.golden.sentences renews it"


def test_there_are_a_hundred_of_them() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert sum(line.startswith("  ") for line in page.splitlines()) >= FEWEST
