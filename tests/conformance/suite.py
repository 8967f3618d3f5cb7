"""MCP's official conformance suite, run against a URL."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from tests.clients.node import PACKAGES, command, environment

PACKAGE = "@modelcontextprotocol/conformance"
_LISTED = re.compile(r"^ {2}- (\S+)", re.MULTILINE)
_RESULT = re.compile(r"server-(.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z")
_LONGEST_S = 120


@dataclass(frozen=True)
class Scenario:
    """What became of one scenario's checks."""

    name: str
    passed: int = 0
    objections: tuple[str, ...] = ()

    @property
    def is_passed(self) -> bool:
        """Something was checked, and there was nothing to say against it, be it only a warning."""
        return self.passed > 0 and not self.objections


def suite_version() -> str:
    """The suite's version, pinned."""
    version: str = json.loads(PACKAGES.read_text(encoding="utf-8"))["dependencies"][PACKAGE]
    return version


async def listed(revision: str) -> list[str]:
    """The server scenarios that the suite has for a revision of the protocol, in its order."""
    return _LISTED.findall(await _run("list", "--server", "--spec-version", revision))


async def required(revision: str) -> frozenset[str]:
    """Those of them that a revision requires of every server."""
    text = await _run("list", "--requirements", revision)
    return frozenset(_LISTED.findall(text.partition("Server scenarios")[2].partition("Client scenarios")[0]))


async def run(url: str, revision: str) -> dict[str, Scenario]:
    """Run every scenario of a revision; those that did not run are missing."""
    with tempfile.TemporaryDirectory() as folder:
        await _run("server", "--url", url, "--suite", "all", "--spec-version", revision, "-o", folder, may_fail=True)
        return _read_all(Path(folder))


def _read_all(folder: Path) -> dict[str, Scenario]:
    results = [_read(path) for path in folder.glob("*/checks.json")]
    return {result.name: result for result in results}


def _read(path: Path) -> Scenario:
    match = _RESULT.fullmatch(path.parent.name)
    if match is None:
        raise RuntimeError(f"The conformance suite names its results otherwise than expected: {path.parent.name}")
    return judged(match[1], json.loads(path.read_text(encoding="utf-8")))


def judged(name: str, checks: Sequence[dict[str, Any]]) -> Scenario:
    """A scenario's checks, counted; what is neither a success nor mere information is an objection."""
    statuses = Counter(check["status"] for check in checks)
    objections = tuple(
        f"{check['status']} {check['id']}: {check.get('errorMessage') or check['description']}"
        for check in checks
        if check["status"] not in {"SUCCESS", "INFO"}
    )
    return Scenario(name, statuses["SUCCESS"], objections)


async def _run(*arguments: str, may_fail: bool = False) -> str:
    script = await anyio.to_thread.run_sync(command, PACKAGE, "dist/index.js")
    with anyio.fail_after(_LONGEST_S):
        ended = await anyio.run_process([*script, *arguments], env=environment(), check=False, stderr=subprocess.STDOUT)
    text = ended.stdout.decode()
    if ended.returncode and not may_fail:
        raise RuntimeError(f"The conformance suite failed: {text}")
    return text
