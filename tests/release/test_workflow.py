"""The workflow that publishes: pressed by a person, without a password, with actions that cannot change."""

import re
from typing import Any

import yaml  # type: ignore[import-untyped]

from release.facts import ROOT, facts
from tests.release.schemas import problems

PATH = ROOT / ".github" / "workflows" / "release.yml"
TEXT = PATH.read_text(encoding="utf-8")
WORKFLOW: dict[str, Any] = yaml.load(TEXT, Loader=yaml.BaseLoader)  # in which `on` is a word
JOBS = WORKFLOW["jobs"]


def test_githubs_schema_accepts_it() -> None:
    assert problems(yaml.safe_load(TEXT.replace("\non:\n", '\n"on":\n')), "github-workflow") == []


def test_only_a_person_starts_it_and_publishing_is_asked_for() -> None:
    assert list(WORKFLOW["on"]) == ["workflow_dispatch"]
    assert WORKFLOW["on"]["workflow_dispatch"]["inputs"]["publish"]["default"] == "false"
    assert JOBS["publish"]["if"] == "inputs.publish"
    assert JOBS["publish"]["environment"] == "release"


def test_it_holds_no_password_and_no_more_rights_than_it_needs() -> None:
    assert "secrets." not in TEXT
    assert WORKFLOW["permissions"] == {}
    assert JOBS["build"]["permissions"] == {"contents": "read"}
    assert JOBS["publish"]["permissions"] == {"contents": "write", "id-token": "write", "attestations": "write"}


def test_every_action_is_pinned_by_commit() -> None:
    used = re.findall(r"uses: (\S+)(.*)", TEXT)
    assert len(used) == 7
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action) for action, _ in used)
    assert all(re.fullmatch(r" # v\d+\.\d+\.\d+", version) for _, version in used)


def test_what_is_typed_never_becomes_a_command() -> None:
    """An expression in a script would be run as it was typed."""
    scripts = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
    assert len(scripts) == 6
    assert not any("${{" in script for script in scripts)


def test_it_publishes_what_make_dist_has_checked() -> None:
    build = [step.get("run") for step in JOBS["build"]["steps"]]
    assert "make dist" in build
    assert JOBS["publish"]["needs"] == "build"
    assert "make" not in " ".join(step.get("run", "") for step in JOBS["publish"]["steps"])
    assert f"dist/{facts().package}-" in TEXT
