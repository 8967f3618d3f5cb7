"""What a user installs: the wheel, and the entry of mcp.json that starts it in an MCP client."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import httpx2
import pytest
from click.testing import CliRunner
from mcp import StdioServerParameters

import batchcall_mcp
from batchcall_mcp import database
from batchcall_mcp.cli import cli
from batchcall_mcp.errors import ConfigurationError
from tests.clients.node import installed
from tests.release.built import dist, in_folder, offered_by, shared_by_workers
from tests.release.compiled import compiled_as_here
from tests.server.transports import ROOT

TOOLS = Path(sys.executable).parent  # where the `uv` and `uvx` of the dev dependencies are


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (built,) = dist(tmp_path_factory).glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    dist_info = f"batchcall_mcp-{batchcall_mcp.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"batchcall_mcp", dist_info}
    assert {
        "batchcall_mcp/py.typed",
        "batchcall_mcp/fast_start/answers.snapshot",
        "batchcall_mcp/examples/customers.csv",
        "batchcall_mcp/examples/do-not-call.txt",
        f"{dist_info}/licenses/LICENSE",
    } <= names
    sources = {f"batchcall_mcp/{path.relative_to(ROOT / 'src/batchcall_mcp')}" for path in _sources()}
    assert {name for name in names if name.endswith(".py")} == sources


def _sources() -> Iterator[Path]:
    yield from (ROOT / "src" / "batchcall_mcp").rglob("*.py")


LONGEST_S = 60
ELSEWHERE = "postgresql://somebody:secret@127.0.0.1:1/calls"
UNTRACED = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "VIRTUAL_ENV"))}


@pytest.fixture(scope="module")
def offered(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which `uv` and `uvx` find the wheel in an index, which is a directory, and nothing installed."""
    shared = shared_by_workers(tmp_path_factory)

    def publish(index: Path) -> None:
        (index / "batchcall-mcp").mkdir()
        shutil.copy(wheel, index / "batchcall-mcp")
        (index / "batchcall-mcp" / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')

    index = installed(shared / "index", b"", publish)
    indexes = f"local={index.as_uri()} {os.environ.get('UV_INDEX', '')}".strip()
    return {"UV_INDEX": indexes, "UV_NO_CONFIG": "1", "UV_PYTHON": sys.executable} | {
        f"UV_TOOL_{name}": str(shared / "tools" / name) for name in ("DIR", "BIN_DIR")
    }


@pytest.fixture(scope="module")
def fresh(offered: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment that holds the wheel and what it asks for, and nothing that only tests need.

    It is the one that `uvx batchcall-mcp` makes and keeps.
    """

    def install(folder: Path) -> None:
        command = [str(TOOLS / "uvx"), "--from", "batchcall-mcp", "python", "-c", "import sys; print(sys.prefix)"]
        made = subprocess.run(
            command, env=UNTRACED | offered, cwd=folder, check=True, timeout=200, stdout=subprocess.PIPE, text=True
        )
        (folder / "prefix").write_text(made.stdout.strip(), encoding="utf-8")
        compiled_as_here(Path(made.stdout.strip()))

    kept = installed(shared_by_workers(tmp_path_factory) / "fresh", b"", install)
    found = Path((kept / "prefix").read_text(encoding="utf-8")) / "bin"
    assert {"pytest", "hypothesis", "mypy"}.isdisjoint(_installed(str(found / "python")))
    return found


@pytest.mark.timeout(300)
def test_the_wheel_alone_dials_on_sqlite(fresh: Path, tmp_path: Path) -> None:
    """The demo: a list is imported, started, confirmed and called, all without what the extra `postgres` brings.

    Until it watches its calls end, which needs nothing else; to its own end it is played in `test_demo.py`.
    """
    assert {"dbos", "psycopg"}.isdisjoint(_installed(str(fresh / "python")))
    with (
        (tmp_path / "stderr").open("w+") as stderr,
        subprocess.Popen(
            [str(fresh / "batchcall-mcp"), "demo"],
            env=UNTRACED | {"TERM": "dumb", "PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path)},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            seen = ""
            for line in process.stdout:
                seen += line
                if line.startswith("watch_batch_call"):
                    break
            stderr.seek(0)
            assert "The demo answers for you: yes" in seen, seen + stderr.read()
            (ledger,) = tmp_path.glob("batchcall-demo-*/data/ledger.db")  # its migrations are in the wheel too
            assert ledger.stat().st_mode & 0o777 == 0o600
            deadline = monotonic() + LONGEST_S
            while not any(path.stat().st_size for path in tmp_path.glob("batchcall-demo-*/data/carrier.jsonl")):
                assert monotonic() < deadline, seen
                sleep(0.05)
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        finally:
            process.kill()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", ["dialer", "serve"])
def test_the_wheel_alone_serves(fresh: Path, tmp_path: Path, command: str) -> None:
    """Until it is asked to end; other tests fork what they start."""
    environment = UNTRACED | {"BATCHCALL_DATA_DIR": str(tmp_path / "data")}
    with subprocess.Popen(
        [str(fresh / "batchcall-mcp"), command, "--port", "0"],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stderr)))
        health = httpx2.get(f"{found[0]}/healthz", trust_env=False).json()
        process.terminate()
        said = process.stderr.read()
    assert (health["status"], "Traceback" in said) == ("ok", False)
    assert process.returncode == {"dialer": 0, "serve": -signal.SIGTERM}[command]


@pytest.mark.timeout(300)
def test_without_its_extra_a_postgresql_url_is_refused_in_one_line(fresh: Path, tmp_path: Path) -> None:
    command = [str(fresh / "batchcall-mcp"), "dialer"]
    environment = UNTRACED | {"BATCHCALL_DATA_DIR": str(tmp_path / "data"), "BATCHCALL_DATABASE_URL": ELSEWHERE}
    said = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert said.returncode == 2
    _names_the_extra(said.stdout + said.stderr)


@pytest.mark.parametrize("command", [["ledger"], ["dialer", "keys", "list"]], ids=" ".join)
def test_every_command_without_the_extra_refuses_it(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, for which it is as if it was not installed; `main` makes one line of any of these errors."""
    monkeypatch.setattr(database, "find_spec", lambda _name: None)
    said = CliRunner().invoke(cli, command, env={"BATCHCALL_DATABASE_URL": ELSEWHERE})
    assert isinstance(said.exception, ConfigurationError)
    _names_the_extra(str(said.exception))


def _names_the_extra(said: str) -> None:
    (line,) = said.splitlines()
    assert "pip install 'batchcall-mcp[postgres]'" in line
    assert "secret" not in line


def _installed(python: str) -> set[str]:
    listing = "from importlib.metadata import distributions as d; print(*{one.name.lower() for one in d()})"
    found = subprocess.run([python, "-c", listing], capture_output=True, text=True, check=True, timeout=30)
    return set(found.stdout.split())


def test_the_page_about_installing_shows_mcp_json_as_it_is() -> None:
    entry = (ROOT / "mcp.json").read_text(encoding="utf-8").strip()
    assert entry in (ROOT / "docs" / "install.md").read_text(encoding="utf-8")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", ["mcp.json", "plugins/batchcall/.claude-plugin/plugin.json"])
async def test_an_entry_works_as_it_is(path: str, fresh: Path, offered: dict[str, str], tmp_path: Path) -> None:
    """As in a client that reads `mcpServers`, and puts nothing where nobody filled in its form."""
    ((_, entry),) = json.loads((ROOT / path).read_text(encoding="utf-8"))["mcpServers"].items()
    assert entry.keys() <= {"command", "args", "env"}
    environment = UNTRACED | offered | dict.fromkeys(entry.get("env", {}), "") | in_folder(tmp_path)
    server = StdioServerParameters(
        command=entry["command"],
        args=[one.replace("${CLAUDE_PLUGIN_ROOT}", str((ROOT / path).parents[1])) for one in entry["args"]],
        env=environment | {"PATH": os.pathsep.join([str(TOOLS), os.environ["PATH"]])},
        cwd=tmp_path,
    )
    assert "create_batch_call" in await offered_by(server, "dialer")
