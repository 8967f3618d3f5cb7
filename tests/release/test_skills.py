"""What a skill says of itself. `tests/documented` follows each step by step, as a model would."""

import re
from pathlib import Path

import pytest

from release.manifests import SKILLS
from tests.server.contract import RICHEST

ALL = sorted(SKILLS.glob("*/SKILL.md"))


def test_there_are_the_three_skills() -> None:
    assert {path.parent.name for path in ALL} == {"call-a-list", "who-did-we-miss", "unattended-reminders"}


@pytest.mark.parametrize("skill", ALL, ids=lambda path: path.parent.name)
def test_a_skill_says_what_it_is_for(skill: Path) -> None:
    """As the Agent Skills format wants it: a name that is its folder's, and when to use it."""
    text = skill.read_text(encoding="utf-8")
    found = re.match(r"---\nname: ([a-z0-9-]{1,64})\ndescription: ([^\n]{1,1024})\n---\n", text)
    assert found is not None
    assert found[1] == skill.parent.name
    assert " Use " in found[2]
    assert ": " not in found[2], "YAML would read a mapping"
    assert len(text.splitlines()) < 200


@pytest.mark.parametrize("skill", ALL, ids=lambda path: path.parent.name)
def test_a_skill_names_tools_and_arguments_that_there_are(skill: Path) -> None:
    known = {tool.name for tool in RICHEST.tools()}
    known |= {name for tool in RICHEST.tools() for name in tool.input_schema["properties"]}
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", skill.read_text(encoding="utf-8")))
    assert named - known - {"waiting_for_person", "no_answer", "next_cursor"} == set()
