"""docs/architecture.md says which modules a tool call passes through; here the calls are made and followed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.paths import MOST, PAGE, SOURCES, paths, written
from tests.server.transports import ROOT


async def test_the_paths_of_two_tool_calls_are_the_documented_ones_and_stay_short(tmp_path: Path) -> None:
    found = await paths(tmp_path)
    assert {tool: len(modules) for tool, modules in found.items() if len(modules) > MOST[tool]} == {}
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, found) == page, "renew it with: python -m tests.paths"


@pytest.mark.parametrize(
    "room", re.findall(r"^\| `(\w+)/` \| ([\d,]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
)
def test_the_map_gives_the_size_of_a_room_within_a_tenth(room: tuple[str, str]) -> None:
    name, said = room
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (SOURCES / name).rglob("*.py"))
    assert lines == pytest.approx(int(said.replace(",", "")), rel=0.1)


def test_every_file_that_the_page_names_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", page)) - {"tests/", "src/"}
    assert len(named) > 40
    assert [one for one in sorted(named) if not (any(SOURCES.rglob(one)) or (ROOT / one).exists())] == []
