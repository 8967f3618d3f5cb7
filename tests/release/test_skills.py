"""Each skill is followed step by step, as a model would, by a client of the real server."""

import re
from pathlib import Path

import pytest

from release.manifests import SKILLS
from tests.documented.test_how_to import followed
from tests.server.contract import RICHEST

PEOPLE = """
```csv customers.csv
phone,name
+1 212 555 0140,Ada
+1 212 555 0142,Ben
+1 212 555 0147,Cy
```
"""
BEFORE = {
    "call-a-list": "<!-- run: today=2026-11-26 -->" + PEOPLE,
    "who-did-we-miss": PEOPLE
    + """
```json
{"tool": "create_batch_call", "arguments": {"from_number": "+14155550100", "tasks_file": "customers.csv"}}
```
```json
{"tool": "start_batch_call", "arguments": {"batch_call_id": "…", "trigger_timestamp": "now"}}
```
```json
{"tool": "watch_batch_call", "arguments": {"batch_call_id": "…", "timeout_seconds": 20}}
```
""",
    "unattended-reminders": "<!-- run: person=none -->" + PEOPLE + "```text do-not-call.txt\n+12125550147\n```\n",
}
"""What lies there before the skill is used."""
ALL = sorted(SKILLS.glob("*/SKILL.md"))
TEXTS = {path.parent.name: path.read_text(encoding="utf-8").split("\n---\n", 1)[1] for path in ALL}


def test_there_are_the_three_skills() -> None:
    assert {path.parent.name for path in ALL} == set(BEFORE)


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
async def test_a_skill_can_be_followed_step_by_step(skill: Path, tmp_path: Path) -> None:
    await followed(BEFORE[skill.parent.name] + TEXTS[skill.parent.name], tmp_path)


@pytest.mark.parametrize("skill", ALL, ids=lambda path: path.parent.name)
def test_a_skill_names_tools_and_arguments_that_there_are(skill: Path) -> None:
    known = {tool.name for tool in RICHEST.tools()}
    known |= {name for tool in RICHEST.tools() for name in tool.input_schema["properties"]}
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", skill.read_text(encoding="utf-8")))
    assert named - known - {"waiting_for_person", "no_answer", "next_cursor"} == set()
