"""The release of this working tree, built once for a test run; or the one that `make dist` has just built."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

import batchcall_mcp
from release.build import build
from tests.clients.node import installed

DIST = "RELEASE_DIST"
"""In the environment: the folder that is looked at instead."""


def shared_by_workers(temporary: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a test run share."""
    own = temporary.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def dist(temporary: pytest.TempPathFactory) -> Path:
    """The folder with what a release consists of."""
    made = os.environ.get(DIST)
    if made is not None:
        return Path(made)
    return installed(shared_by_workers(temporary) / "release", b"", lambda folder: build(folder / "dist")) / "dist"


def in_folder(folder: Path) -> dict[str, str]:
    """Variables of a server that writes into this folder only."""
    return {"BATCHCALL_DATA_DIR": str(folder / "data"), "BATCHCALL_FILES": str(folder / "lists")}


async def offered_by(server: StdioServerParameters, backend: str) -> list[str]:
    """The names of the tools of a server that is of this version, and works on this backend."""
    assert server.cwd is not None
    with anyio.fail_after(280), (Path(server.cwd) / "stderr").open("w") as stderr:
        async with Client(stdio_client(server, errlog=stderr), read_timeout_seconds=270) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            said = await client.call_tool("get_backend", {})
            assert said.structured_content is not None
            assert (said.is_error, said.structured_content["backend"]) == (False, backend)
            assert client.server_info is not None
            assert client.server_info.version == batchcall_mcp.__version__
            return tools
