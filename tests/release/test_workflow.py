"""The workflows that publish: pressed by a person, without a password, with actions that cannot change."""

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from release.facts import ROOT, facts
from tests.release.schemas import problems

TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
WORKFLOWS: dict[str, Any] = {  # the loader is one in which `on` is a word
    name: yaml.load(text, Loader=yaml.BaseLoader) for name, text in TEXTS.items()
}
RELEASE, PAGES = WORKFLOWS["release"]["jobs"], WORKFLOWS["pages"]["jobs"]

every_workflow = pytest.mark.parametrize("name", TEXTS)


@every_workflow
def test_githubs_schema_accepts_it(name: str) -> None:
    assert problems(yaml.safe_load(TEXTS[name].replace("\non:\n", '\n"on":\n')), "github-workflow") == []


@every_workflow
def test_only_a_person_starts_it(name: str) -> None:
    assert list(WORKFLOWS[name]["on"]) == ["workflow_dispatch"]


@every_workflow
def test_it_holds_no_password_and_its_build_may_only_read(name: str) -> None:
    assert "secrets." not in TEXTS[name]
    assert WORKFLOWS[name]["permissions"] == {}
    assert WORKFLOWS[name]["jobs"]["build"]["permissions"] == {"contents": "read"}


@pytest.mark.parametrize(("name", "actions"), [("release", 7), ("pages", 3)])
def test_every_action_is_pinned_by_commit(name: str, actions: int) -> None:
    used = re.findall(r"uses: (\S+)(.*)", TEXTS[name])
    assert len(used) == actions
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action) for action, _ in used)
    assert all(re.fullmatch(r" # v\d+\.\d+\.\d+", version) for _, version in used)


@pytest.mark.parametrize(("name", "written"), [("release", 6), ("pages", 2)])
def test_what_is_typed_never_becomes_a_command(name: str, written: int) -> None:
    """An expression in a script would be run as it was typed."""
    jobs = WORKFLOWS[name]["jobs"].values()
    scripts = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert len(scripts) == written
    assert not any("${{" in script for script in scripts)


def test_publishing_is_asked_for_and_gets_no_more_rights_than_it_needs() -> None:
    assert WORKFLOWS["release"]["on"]["workflow_dispatch"]["inputs"]["publish"]["default"] == "false"
    assert RELEASE["publish"]["if"] == "inputs.publish"
    assert RELEASE["publish"]["environment"] == "release"
    assert RELEASE["publish"]["permissions"] == {"contents": "write", "id-token": "write", "attestations": "write"}


def test_it_publishes_what_make_dist_has_checked() -> None:
    build = [step.get("run") for step in RELEASE["build"]["steps"]]
    assert "make dist" in build
    assert RELEASE["publish"]["needs"] == "build"
    assert "make" not in " ".join(step.get("run", "") for step in RELEASE["publish"]["steps"])
    assert f"dist/{facts().package}-" in TEXTS["release"]


def test_the_site_that_make_docs_builds_is_deployed() -> None:
    *_, upload = PAGES["build"]["steps"]
    assert "make docs" in [step.get("run") for step in PAGES["build"]["steps"]]
    assert upload["with"] == {"path": "build/site"}
    assert PAGES["deploy"]["needs"] == "build"
    assert PAGES["deploy"]["environment"]["name"] == "github-pages"
    assert PAGES["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}
