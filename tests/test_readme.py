"""README.md: short enough to be read in two minutes, and what moved out of it is complete where it is now."""

from __future__ import annotations

import re

import pytest

from batchcall_mcp.backends.registry import BUILT_IN
from tests.demo_picture import PICTURE, shown_in
from tests.readme import README, spoken
from tests.server.transports import ROOT

TEXT = README.read_text(encoding="utf-8")
MOST_WORDS = 450
SPOKEN_BY = ("You", "Agent", "Question", "You", "Agent", "You")


def test_it_has_at_most_450_words_before_the_reference_links() -> None:
    """Outside code blocks, tables, pictures and addresses; a command within a sentence counts."""
    assert len(re.findall(r"\w\S*", spoken())) <= MOST_WORDS


def test_it_begins_with_the_two_commands() -> None:
    first = re.search(r"^```.*?\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert first is not None
    commands = [line.partition("#")[0].strip() for line in first[1].splitlines()]
    assert commands == ["make demo", "make test"]


def test_its_conversation_has_six_lines() -> None:
    assert tuple(re.findall(r"^> \*\*(\w+):\*\*", TEXT, re.MULTILINE)) == SPOKEN_BY


def test_it_shows_the_picture_that_make_readme_draws() -> None:
    """What the picture says is held by test_demo.py."""
    assert f"]({PICTURE.relative_to(ROOT).as_posix()})" in TEXT
    assert "Theclientasksyou" in shown_in(PICTURE.read_text(encoding="utf-8"))


def test_its_table_of_backends_names_every_one() -> None:
    table = TEXT[TEXT.index("| backend |") :].split("\n\n", 1)[0]
    assert set(re.findall(r"docs/backends/(\w+)\.md", table)) | {"dialer"} == set(BUILT_IN)
    assert "`batchcall-mcp dialer`" in table
    assert "docs/carriers/README.md" in table


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_what_is_linked_to_is_there(page: str) -> None:
    """Links of docs/ are tested where it is a site."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8"))
    here = (ROOT / page).parent
    assert [link for link in links if not link.startswith("http") and not (here / link).exists()] == []
