"""Rules of the house that no linter holds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

from mcp import Client

from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings
from tests.server.transports import ROOT

SOURCES = ROOT / "src" / "batchcall_mcp"

# The SDK itself brings click, rich and uvicorn, so that they are no business of ours here.
HEAVY = ("sqlalchemy", "alembic", "psycopg", "fastapi", "phonenumbers", "python_calamine", "filelock")
LISTING = """
import sys
import anyio
import batchcall_mcp.cli
from batchcall_mcp.backends.registry import BUILT_IN
from batchcall_mcp.server.app import build_server
from batchcall_mcp.server import log
from batchcall_mcp.server.transports import stdio
from batchcall_mcp.settings import Settings

for backend in BUILT_IN:
    anyio.run(build_server(Settings(backend=backend), transport="stdio").list_tools)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
HEAVY_FOR_A_CALL = (
    *("alembic", "psycopg", "dbos", "phonenumbers", "python_calamine", "limits", "prometheus_client"),
    "sqlalchemy.dialects.postgresql",
)
DIALER_S_FIRST_CALL = """
import sys
import anyio
import batchcall_mcp.cli
from batchcall_mcp.dialer.rest.openapi import LateRoute
from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings
from mcp import Client

async def call(folder):
    server = build_server(Settings(data_dir=folder, files=folder), transport="stdio")
    async with Client(server) as client:
        await client.call_tool("list_batch_calls", {})
        routes = [route for route in server.service._dialer.app.routes if isinstance(route, LateRoute)]
        print(*(route.endpoint.__name__ for route in routes if "analysed" in vars(route)))

anyio.run(call, sys.argv[1])
print(*sys.modules)
"""


async def test_only_what_is_needed_is_imported_for_the_tools_and_then_for_the_dialers_first_call(
    tmp_path: Path,
) -> None:
    """Nothing heavy before the tools are listed, on any backend; for a call, where the dialer's database exists.

    FastAPI analyses the two endpoints that are asked first.
    """
    async with Client(build_server(Settings(data_dir=tmp_path, files=str(tmp_path)), transport="stdio")) as client:
        await client.call_tool("list_batch_calls", {})  # makes the database
    run = [sys.executable, "-c", LISTING + DIALER_S_FIRST_CALL, str(tmp_path)]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True)  # noqa: ASYNC221
    listing, analysed, calling = ended.stdout.splitlines()
    assert "batchcall_mcp" in listing.split()
    assert not set(HEAVY) & set(listing.split())
    assert analysed == "list_batch_calls get_batch_call"
    assert "sqlalchemy" in calling.split()
    assert not set(HEAVY_FOR_A_CALL) & set(calling.split())


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


FIRST_CALL = """
import sys
import anyio
from batchcall_mcp.server.app import build_server
from batchcall_mcp.server.tools import results
from batchcall_mcp.settings import Settings
from mcp import Client
from mcp.types import CallToolRequest, CallToolRequestParams, CallToolResult

async def call(folder):
    server = build_server(Settings(data_dir=folder, files=folder), transport="stdio")
    async with Client(server) as client:  # whose own call_tool lists the tools too
        asked = CallToolRequest(params=CallToolRequestParams(name="list_batch_calls", arguments={}))
        assert not (await client.session.send_request(asked, CallToolResult)).is_error

anyio.run(call, sys.argv[1])
models = [one for one in vars(results).values() if isinstance(one, type) and issubclass(one, results.ToolResult)]
print(*(one.__name__ for one in models if one.__pydantic_complete__))
"""


def test_a_first_call_builds_no_result_of_another_tool(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FIRST_CALL, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.split() == ["ListResult"]


def test_stdout_belongs_to_the_protocol() -> None:
    """The demo prints for a person, through rich; the command line through click."""
    found = [
        f"{path.relative_to(SOURCES)}:{node.lineno}"
        for path in SOURCES.rglob("*.py")
        if re.search("print|stdout", path.read_text(encoding="utf-8"))
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
        or (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.stdout")
    ]
    assert found == []


def test_only_the_settings_read_the_environment() -> None:
    found = {
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*.py")
        if re.search(r"\bos\.(environ|getenv)\b", path.read_text(encoding="utf-8"))
    }
    assert found == {"settings.py", "fast_start/__init__.py"}  # which has to judge before settings can be imported


def test_no_module_is_longer_than_600_lines() -> None:
    lines = {path.relative_to(SOURCES): path.read_text(encoding="utf-8").count("\n") for path in SOURCES.rglob("*.py")}
    assert {path: number for path, number in lines.items() if number > 600} == {}


EQUAL_LINES = 10


def test_no_ten_equal_lines_stand_twice() -> None:
    """Of statements and docstrings. A migration repeats its table, because it must not change when the table does."""
    places: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in SOURCES.rglob("*.py"):
        if "migrations" not in path.parts:
            lines = counted_lines(path)
            for first, (number, _) in enumerate(lines[: len(lines) - EQUAL_LINES + 1]):
                window = tuple(line for _, line in lines[first : first + EQUAL_LINES])
                places[window].append(f"{path.relative_to(SOURCES)}:{number}")
    assert [found for found in places.values() if len(found) > 1] == []


def counted_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a module with their numbers, without imports, comments and blank lines."""
    text = path.read_text(encoding="utf-8")
    imports = {
        number
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    numbered = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if number not in imports]
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


def test_every_setting_is_obeyed_by_some_module() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py") if path.name != "settings.py")
    by_others = {"fast_start"}  # read by the package of that name, before there are settings
    assert {name for name in Settings.model_fields if f"settings.{name}" not in text} == by_others


def test_the_changelog_begins_with_this_version() -> None:
    import batchcall_mcp

    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == batchcall_mcp.__version__
