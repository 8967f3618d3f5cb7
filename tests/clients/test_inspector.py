"""MCP's Inspector, as a person uses it at a command line, against the real server over every transport."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.clients.node import command, environment
from tests.clients.real import TRANSPORTS, Address, Transport, address, server
from tests.sampling import EVERYTHING
from tests.tools.test_modes import READS

SCRIPT = "clients/launcher/build/index.js"
TASKS = [{"to_number": "+12125550111"}, {"to_number": "+12125550112"}]
DRAFT = json.dumps({"from_number": "+14155550100", "tasks": TASKS, "name": "Made by the Inspector"})
ERAS = ["legacy", "modern"]
ONE_OF_EACH: set[tuple[Transport, str]] = {
    ("stdio", "modern"),
    ("http", "legacy"),
    ("http", "modern"),
    ("sse", "legacy"),
}
"""Each transport, and over HTTP each era; `make torture` has all pairs."""


def inspect(at: Address, era: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    target = server() if at.url is None else [at.url, "--transport", at.transport]
    headers = [part for name, value in (at.headers or {}).items() for part in ("--header", f"{name}: {value}")]
    return subprocess.run(
        [
            *command("@modelcontextprotocol/inspector", SCRIPT),
            "--cli",
            *(target if era == "legacy" else [*target, "--protocol-era", era]),
            *headers,
            *arguments,
            "--format",
            "json",
            "--quiet",
        ],
        env=environment() | dict(at.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def called(at: Address, era: str, tool: str, arguments: str) -> dict[str, Any]:
    ended = inspect(at, era, "--method", "tools/call", "--tool-name", tool, "--tool-args-json", arguments)
    assert ended.returncode == 0, ended.stderr
    structured: dict[str, Any] = json.loads(ended.stdout)["result"]["structuredContent"]
    return structured


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """One server over HTTP for all that is asked of it."""
    with address("http", tmp_path_factory.mktemp("serving")) as at:
        yield at


@pytest.mark.timeout(300)
@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_finds_portable_schemas(era: str, serving: Address) -> None:
    """In each era, over one transport; over each of them a tool is called below."""
    listed = inspect(serving, era, "--method", "tools/list", "--strict")
    assert listed.returncode == 0, listed.stderr
    assert {"get_backend", "create_batch_call"} <= {
        tool["name"] for tool in json.loads(listed.stdout)["result"]["tools"]
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("transport", "era"), [pair for pair in product(TRANSPORTS, ERAS) if EVERYTHING or pair in ONE_OF_EACH], ids=str
)
def test_the_inspector_calls_tools(transport: Transport, era: str, tmp_path: Path) -> None:
    with address(transport, tmp_path) as at:
        made = called(at, era, "create_batch_call", DRAFT)
        assert (made["result"], made["batch_call"]["status"]) == ("created", "draft")


@pytest.mark.timeout(300)
def test_a_wrong_argument_reaches_the_person_as_the_servers_own_text(tmp_path: Path) -> None:
    with address("stdio", tmp_path) as at:
        ended = inspect(
            at, "legacy", "--method", "tools/call", "--tool-name", "get_backend", "--tool-args-json", '{"limt": 3}'
        )
    assert ended.returncode != 0
    assert "[invalid_input]" in ended.stdout + ended.stderr
    assert "limt" in ended.stdout + ended.stderr


@pytest.mark.timeout(300)
def test_the_inspector_shows_prompts_and_what_a_narrowed_request_may_call(serving: Address) -> None:
    at = replace(serving, headers={**(serving.headers or {}), "X-BATCHCALL-MODE": "read-only"})
    listed = inspect(at, "modern", "--method", "tools/list")
    prompts = inspect(at, "legacy", "--method", "prompts/list")
    tools = {tool["name"]: tool for tool in json.loads(listed.stdout)["result"]["tools"]}
    assert tools.keys() == READS
    assert tools["get_backend"]["_meta"]["anthropic/alwaysLoad"] is True
    assert {one["name"] for one in json.loads(prompts.stdout)["result"]["prompts"]} == {
        "plan_batch_call",
        "report_batch_call",
    }
