"""What a user installs: the wheel, and the entry of mcp.json that starts it in an MCP client."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

import batchcall_mcp
from tests.server.transports import ROOT

TOOLS = Path(sys.executable).parent  # where the `uv` and `uvx` of the dev dependencies are


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [TOOLS / "uv", "build", "--wheel", "--quiet", "--out-dir", folder],
        cwd=ROOT,
        env=dict(os.environ) | {"UV_NO_CONFIG": "1", "UV_PYTHON": sys.executable},
        check=True,
        timeout=120,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    dist_info = f"batchcall_mcp-{batchcall_mcp.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"batchcall_mcp", dist_info}
    assert {
        "batchcall_mcp/py.typed",
        "batchcall_mcp/examples/customers.csv",
        "batchcall_mcp/examples/do-not-call.txt",
        f"{dist_info}/licenses/LICENSE",
    } <= names
    sources = {f"batchcall_mcp/{path.relative_to(ROOT / 'src/batchcall_mcp')}" for path in _sources()}
    assert {name for name in names if name.endswith(".py")} == sources


def _sources() -> Iterator[Path]:
    yield from (ROOT / "src" / "batchcall_mcp").rglob("*.py")


UNTRACED = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "VIRTUAL_ENV"))}


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment that holds the wheel and what it asks for, and nothing that only tests need."""
    folder = tmp_path_factory.mktemp("fresh")
    python = str(folder / "env" / "bin" / "python")
    for command in (
        ["venv", "--quiet", "--python", sys.executable, str(folder / "env")],
        ["pip", "install", "--quiet", "--python", python, str(wheel)],
    ):
        subprocess.run([str(TOOLS / "uv"), *command], env=UNTRACED, cwd=folder, check=True, timeout=200)
    assert {"pytest", "hypothesis", "mypy"}.isdisjoint(_installed(python))
    return folder / "env" / "bin"


@pytest.mark.timeout(300)
def test_the_wheel_alone_says_its_version(fresh: Path, tmp_path: Path) -> None:
    command = [str(fresh / "batchcall-mcp"), "--version"]
    said = subprocess.run(command, env=UNTRACED, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30)
    assert said.stdout.split()[-1] == batchcall_mcp.__version__


@pytest.mark.timeout(300)
async def test_the_wheel_alone_lists_its_tools(fresh: Path, tmp_path: Path) -> None:
    environment = UNTRACED | {"BATCHCALL_DATA_DIR": str(tmp_path / "data")}
    server = StdioServerParameters(command=str(fresh / "batchcall-mcp"), args=[], env=environment, cwd=tmp_path)
    with anyio.fail_after(60), (tmp_path / "stderr").open("w") as stderr:
        async with Client(stdio_client(server, errlog=stderr)) as client:
            assert "create_batch_call" in [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.timeout(300)
def test_the_wheel_alone_makes_its_ledger(fresh: Path, tmp_path: Path) -> None:
    """Its migrations and all that they need are in it."""
    command = [str(fresh / "batchcall-mcp"), "ledger"]
    environment = UNTRACED | {"BATCHCALL_DATA_DIR": str(tmp_path / "data")}
    said = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout == "The outcome of every write is known.\n"
    assert (tmp_path / "data" / "ledger.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.timeout(300)
def test_the_wheel_alone_dials_on_sqlite(fresh: Path, tmp_path: Path) -> None:
    """The demo: a list is imported, started, confirmed and called, all without what the extra `postgres` brings."""
    assert {"dbos", "psycopg"}.isdisjoint(_installed(str(fresh / "python")))
    said = subprocess.run(
        [str(fresh / "batchcall-mcp"), "demo"],
        env=UNTRACED | {"TERM": "dumb"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert said.returncode == 0, said.stderr
    assert "completed" in said.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", [["ledger"], ["dialer"], ["dialer", "keys", "list"]], ids=" ".join)
def test_without_its_extra_a_postgresql_url_is_refused_in_one_line(
    fresh: Path, tmp_path: Path, command: list[str]
) -> None:
    environment = UNTRACED | {
        "BATCHCALL_DATA_DIR": str(tmp_path / "data"),
        "BATCHCALL_DATABASE_URL": "postgresql://somebody:secret@127.0.0.1:1/calls",
    }
    said = subprocess.run(
        [str(fresh / "batchcall-mcp"), *command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert said.returncode == 2
    (line,) = (said.stdout + said.stderr).splitlines()
    assert "pip install 'batchcall-mcp[postgres]'" in line
    assert "secret" not in line


def _installed(python: str) -> set[str]:
    listing = "from importlib.metadata import distributions as d; print(*{one.name.lower() for one in d()})"
    found = subprocess.run([python, "-c", listing], capture_output=True, text=True, check=True, timeout=30)
    return set(found.stdout.split())


def test_the_readme_shows_mcp_json_as_it_is() -> None:
    entry = (ROOT / "mcp.json").read_text(encoding="utf-8").strip()
    assert entry in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.timeout(300)
async def test_the_entry_of_mcp_json_works_as_it_is(wheel: Path, tmp_path: Path) -> None:
    """As in a client that reads `mcpServers`, with the wheel found as a package index would give it."""
    servers = json.loads((ROOT / "mcp.json").read_text(encoding="utf-8"))["mcpServers"]
    ((_, entry),) = servers.items()
    assert entry.keys() <= {"command", "args", "env"}
    environment = dict(os.environ) | {
        "PATH": os.pathsep.join([str(TOOLS), os.environ["PATH"]]),
        "UV_FIND_LINKS": str(wheel.parent),
        "UV_NO_CONFIG": "1",
        "UV_PYTHON": sys.executable,
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "BATCHCALL_DATA_DIR": str(tmp_path / "data"),
    }
    server = StdioServerParameters(
        command=entry["command"], args=entry["args"], env=environment | entry.get("env", {}), cwd=tmp_path
    )
    with anyio.fail_after(280), (tmp_path / "stderr").open("w") as stderr:
        async with Client(stdio_client(server, errlog=stderr), read_timeout_seconds=270) as client:
            listed = await client.list_tools()
            assert "create_batch_call" in [tool.name for tool in listed.tools]
            told = await client.call_tool("get_backend", {})
            assert told.structured_content is not None
            assert (told.is_error, told.structured_content["backend"]) == (False, "dialer")
            assert client.server_info is not None
            assert client.server_info.version == batchcall_mcp.__version__
