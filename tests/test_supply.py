"""What the project stands on: bounded, explained, from no particular host, and read for weaknesses by the linter."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.server.transports import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
DEPENDENCIES: list[str] = [
    *PROJECT["project"]["dependencies"],
    *EXTRAS["postgres"],
]
REASONS = (ROOT / "docs/decisions/dependencies.md").read_text(encoding="utf-8")
REASONS_OF_TESTS = (ROOT / "docs/decisions/development-dependencies.md").read_text(encoding="utf-8")
ITSELF = {"batchcall-mcp[docs]", "batchcall-mcp[postgres]"}
"""The tests need what the extras bring."""
OF_TESTS = [*EXTRAS["docs"], *(one for one in EXTRAS["dev"] if one not in ITSELF)]
MOST_MANDATORY = 20
EXPLAINED = [(one, REASONS) for one in DEPENDENCIES] + [(one, REASONS_OF_TESTS) for one in OF_TESTS]
CALENDAR_VERSIONS = {"tzdata"}
"""Data without an API: the newest is always meant, or summer times are wrong."""

LOCK_FILES = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "package-lock.json", "yarn.lock"}
# Put together here, or this file would name them itself.
HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"))]
EXEMPTIONS = {
    "ignore": {"S104"},
    "tests/**": {"S"},
    "benchmarks/**": {"S"},
    "examples/**": {"S101"},
    "plugins/**": set(),
}
"""Rules of bandit (ruff's S) that do not hold, and where."""


def name_of(requirement: str) -> str:
    found = re.match(r"[a-z0-9-]+", requirement)
    assert found is not None
    return found[0]


def test_what_only_some_need_is_an_extra() -> None:
    assert len(PROJECT["project"]["dependencies"]) <= MOST_MANDATORY
    assert {name_of(one) for one in EXTRAS["postgres"]} == {"dbos", "psycopg"}


@pytest.mark.parametrize("requirement", [*DEPENDENCIES, *OF_TESTS])
def test_every_dependency_has_a_lower_and_an_upper_bound(requirement: str) -> None:
    assert ">=" in requirement
    assert ("<" in requirement) != (name_of(requirement) in CALENDAR_VERSIONS)


@pytest.mark.parametrize(
    ("name", "works_from"),
    [
        # 2.13 does not say of a dataclass that it refuses unknown fields: create_batch_call was neither listed nor run.
        ("pydantic", (2, 14)),
        # The processes of `dialer --workers` are made with what 0.50 has no place for.
        ("uvicorn", (0, 51)),
    ],
)
def test_no_version_is_taken_with_which_something_does_not_work(name: str, works_from: tuple[int, int]) -> None:
    (taken,) = (one for one in DEPENDENCIES if name_of(one) == name)
    lowest = re.search(r">=(\d+)\.(\d+)", taken)
    assert lowest is not None
    assert (int(lowest[1]), int(lowest[2])) >= works_from


def test_make_installs_with_the_uv_of_the_tests() -> None:
    (uv,) = (one for one in EXTRAS["dev"] if name_of(one) == "uv")
    assert f"'{uv}'" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize(("requirement", "page"), EXPLAINED, ids=[one for one, _ in EXPLAINED])
def test_every_dependency_has_its_reason(requirement: str, page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("|") and f"`{name_of(requirement)}`" in line]
    assert len(rows) == 1
    assert len(rows[0].split("|")[2].strip()) > 20


@pytest.mark.parametrize(
    ("page", "requirements"),
    [(REASONS, DEPENDENCIES), (REASONS_OF_TESTS, OF_TESTS)],
    ids=["of the package", "of the tests"],
)
def test_no_reason_is_left_of_a_dependency_that_went(page: str, requirements: list[str]) -> None:
    told = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z0-9-]+)`", line.split("|")[1])
    }
    assert told - set(EXTRAS) == {name_of(requirement) for requirement in requirements}


def committed() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_package_registry_or_pins_its_addresses() -> None:
    files = committed()
    assert len(files) > 100
    assert [path.name for path in files if path.name in LOCK_FILES] == []
    naming = [
        (str(path.relative_to(ROOT)), host) for path in files for host in HOSTS if host.encode() in path.read_bytes()
    ]
    assert naming == []


def test_the_linter_looks_for_weaknesses_and_every_exemption_is_known() -> None:
    lint = PROJECT["tool"]["ruff"]["lint"]
    assert lint["select"] == ["ALL"]

    def exempt(codes: list[str]) -> set[str]:
        return {code for code in codes if re.fullmatch(r"S\d*", code)}

    found = {"ignore": exempt(lint["ignore"])} | {
        where: exempt(codes) for where, codes in lint["per-file-ignores"].items()
    }
    assert found == EXEMPTIONS


def test_every_exemption_in_the_source_says_why() -> None:
    bare = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "src").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"#\s*noqa:[^#]*\bS\d{3}", line) and not re.search(r"\bS\d{3}\b[A-Z0-9, ]* - \S", line)
    ]
    assert bare == []
