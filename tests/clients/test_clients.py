"""Clients that are not ours do a whole job on the real server: Python SDK 1.x, TypeScript SDK 1.x and 2.x."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.node import NODE, ROOT, environment, installed, node_home, repeated
from tests.clients.real import TRANSPORTS, Transport, address
from tests.sampling import EVERYTHING

HERE = Path(__file__).parent
PYTHON_1 = "mcp>=1.30,<2"


def python_1(address: str) -> tuple[Sequence[str], Path]:
    home = installed(ROOT / ".venv" / "mcp-1", PYTHON_1.encode(), _install_python_1)
    return [str(_python(home)), str(HERE / "python_1.py"), address], ROOT


def typescript_1(address: str) -> tuple[Sequence[str], Path]:
    return [str(NODE), str(HERE / "typescript.mjs"), address, "sdk-1"], node_home()


def typescript_2(address: str) -> tuple[Sequence[str], Path]:
    return [str(NODE), str(HERE / "typescript.mjs"), address, "client-2"], node_home()


def _install_python_1(folder: Path) -> None:
    uv = str(Path(sys.executable).parent / "uv")
    repeated([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)], folder)
    repeated([uv, "pip", "install", "--quiet", "--python", str(_python(folder)), PYTHON_1], folder)


def _python(home: Path) -> Path:
    return home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


@dataclass(frozen=True)
class Foreign:
    """A client that is not ours, and the protocol that it speaks."""

    name: str
    protocol: str
    program: Callable[[str], tuple[Sequence[str], Path]]


CLIENTS = (
    Foreign("python-1", "2025-11-25", python_1),
    Foreign("typescript-1", "2025-11-25", typescript_1),
    Foreign("typescript-2", "2026-07-28", typescript_2),
)
PAIRS = [(transport, one) for transport in TRANSPORTS for one in CLIENTS]
ONE_OF_EACH = {("stdio", one.name) for one in CLIENTS} | {
    *(("http", "typescript-1"), ("http", "typescript-2")),  # of each protocol
    ("sse", "python-1"),
}
"""Each client, each transport, and over HTTP each protocol; `make torture` has all pairs."""


@pytest.mark.timeout(400)  # the first time the clients are installed
@pytest.mark.parametrize(
    ("transport", "client"),
    [(transport, one) for transport, one in PAIRS if EVERYTHING or (transport, one.name) in ONE_OF_EACH],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_client_drafts_is_asked_launches_is_refused_and_cancels(
    transport: Transport, client: Foreign, tmp_path: Path
) -> None:
    with address(transport, tmp_path) as at:
        command, folder = client.program(at.told())
        ended = subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=90, check=False
        )
    assert ended.returncode == 0, ended.stderr
    seen: dict[str, Any] = json.loads(ended.stdout)
    assert seen["protocol"] == client.protocol
    assert {"create_batch_call", "start_batch_call", "watch_batch_call"} <= set(seen["tools"])

    assert (seen["yes"]["result"], seen["yes"]["batch_call"]["status"]) == ("started", "running")
    assert seen["no"]["error"]
    assert seen["no"]["text"].startswith("[not_confirmed] ")
    assert len(seen["questions"]) == 2
    assert all("Call 2 people (United States) " in question for question in seen["questions"])

    assert seen["replay"] is True

    # A cancelled watch has no result; over streamable HTTP its stream of 2025 has to end with something.
    assert [came for came in seen["watch"] if came.strip('"') != "Request cancelled"] == []
    assert seen["afterwards"]["batch_call"]["status"] == "running"
