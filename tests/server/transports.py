"""Connects a test's client to a server over every transport and in both protocol eras.

`ways` parametrises a test; `connected` gives it a client. Over stdio the server is a process of its own, over HTTP it
runs on a loopback port in the test's event loop, built by the same code as `batchcall-mcp serve`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import anyio
import httpx2
import pytest
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.session import ElicitationFnT
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from batchcall_mcp.server.tools.strict_tools import StrictServer
from batchcall_mcp.server.transports.access import Authenticate
from batchcall_mcp.server.transports.http import MCP_PATH, SSE_PATH, http_app
from batchcall_mcp.settings import Settings
from batchcall_mcp.sockets import bound_socket
from tests import forked

ROOT = Path(__file__).parents[2]
REAL = ("-m", "batchcall_mcp")
FROM_NOTHING = ("-u", "-m", "batchcall_mcp")
"""The same, not forked: for tests that look at the process itself, its pid or its memory."""
PAIR = {"X-API-KEY": "key-of-the-tests", "X-API-SECRET": "secret-of-the-tests"}


@dataclass(frozen=True)
class Way:
    """A transport and the era that the client speaks: `auto` ends at 2026-07-28, `legacy` at 2025-11-25."""

    transport: Literal["stdio", "http", "stateless", "sse"]
    mode: Literal["auto", "legacy"]

    def __str__(self) -> str:
        return f"{self.transport}-{'2026' if self.mode == 'auto' else '2025'}"

    @property
    def version(self) -> str:
        """The protocol version that such a connection has."""
        return "2026-07-28" if self.mode == "auto" else "2025-11-25"

    @property
    def can_ask(self) -> bool:
        """Whether the server can put a question to the client at all."""
        return self != Way("stateless", "legacy")


TRANSPORTS: tuple[Literal["stdio", "http", "stateless", "sse"], ...] = ("stdio", "http", "stateless", "sse")
MODES: tuple[Literal["auto", "legacy"], ...] = ("auto", "legacy")
WAYS = tuple(Way(transport, mode) for transport in TRANSPORTS for mode in MODES)
HTTP_WAYS = tuple(way for way in WAYS if way.transport != "stdio")

every_way = pytest.mark.parametrize("way", WAYS, ids=str)
every_http_way = pytest.mark.parametrize("way", HTTP_WAYS, ids=str)


@asynccontextmanager
async def connected(
    way: Way,
    environment: Mapping[str, str] | None = None,
    *,
    headers: Mapping[str, str] = PAIR,
    elicitation_callback: ElicitationFnT | None = None,
    build: Callable[[Settings], StrictServer] | None = None,
    command: Sequence[str] = REAL,
) -> AsyncIterator[Client]:
    """A connected client of a server that is started for it.

    Args:
        way: Transport and era.
        environment: The server's BATCHCALL_* variables. The key pair goes in here for stdio and is ignored over HTTP.
        headers: The caller's, over HTTP.
        elicitation_callback: Answers the server's questions; without it the client has no such capability.
        build: Makes the server, over HTTP; None is the real one.
        command: What Python runs, over stdio; the default is the real one.
    """
    environment = dict(environment or {})
    if way.transport == "stdio":
        async with spawned(command, environment, mode=way.mode, elicitation_callback=elicitation_callback) as client:
            yield client
        return
    kept = {
        name: value for name, value in environment.items() if name not in {"BATCHCALL_API_KEY", "BATCHCALL_API_SECRET"}
    }
    with mock.patch.dict(os.environ, kept):
        settings = Settings.load()
    server, known = _real(settings) if build is None else (build(settings), None)
    async with (
        served(server, settings, way=way, authenticate=known) as url,
        client_of(url, way, headers=headers, elicitation_callback=elicitation_callback) as client,
    ):
        yield client


@asynccontextmanager
async def connected_url(way: Way, environment: Mapping[str, str]) -> AsyncIterator[str]:
    """The address of a real server over HTTP, for a client that the test makes itself. Callers bring their own keys."""
    kept = {
        name: value for name, value in environment.items() if name not in {"BATCHCALL_API_KEY", "BATCHCALL_API_SECRET"}
    }
    with mock.patch.dict(os.environ, kept):
        settings = Settings.load()
    server, known = _real(settings)
    async with served(server, settings, way=way, authenticate=known) as url:
        yield url + MCP_PATH


@asynccontextmanager
async def spawned(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    mode: Literal["auto", "legacy"] = "auto",
    elicitation_callback: ElicitationFnT | None = None,
) -> AsyncIterator[Client]:
    """A client of a process that speaks MCP over stdio; what it wrote to stderr is printed when the test fails."""
    inherited = {name: value for name, value in os.environ.items() if name.startswith(("BATCHCALL_", "COV"))}
    program, *arguments = forked.program() if tuple(command) == REAL else (sys.executable, *command)
    server = StdioServerParameters(command=program, args=arguments, env=inherited | dict(environment), cwd=ROOT)
    with tempfile.TemporaryFile("w+") as stderr:
        try:
            async with Client(
                stdio_client(server, errlog=stderr), mode=mode, elicitation_callback=elicitation_callback
            ) as client:
                yield client
        finally:
            stderr.seek(0)
            sys.stderr.write(stderr.read())


@asynccontextmanager
async def served(
    server: StrictServer,
    settings: Settings,
    *,
    way: Way | None = None,
    transport: Literal["http", "sse", "both"] = "both",
    stateless: bool = False,
    authenticate: Authenticate | None = None,
    host: str = "127.0.0.1",
    **options: Any,
) -> AsyncIterator[str]:
    """The base URL of a server on a loopback port. `way` chooses transport and statelessness."""
    if way is not None:
        transport = "sse" if way.transport == "sse" else "http"
        stateless = way.transport == "stateless"
    with bound_socket("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        app = http_app(
            server,
            settings,
            host=host,
            port=port,
            transport=transport,
            stateless=stateless,
            authenticate=authenticate,
            service=getattr(server, "service", None),
            **options,
        )
        runner = _Uvicorn(
            uvicorn.Config(app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=2)
        )
        task = asyncio.create_task(runner.serve([listening]))
        try:
            with anyio.fail_after(60):
                while not runner.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{port}"
        finally:
            runner.should_exit = True
            with anyio.fail_after(60, shield=True):
                await task


@asynccontextmanager
async def client_of(
    url: str,
    way: Way,
    *,
    headers: Mapping[str, str] = PAIR,
    elicitation_callback: ElicitationFnT | None = None,
) -> AsyncIterator[Client]:
    """A client of a served URL."""
    async with httpx2.AsyncClient(headers=dict(headers), timeout=30, trust_env=False) as http:
        transport = (
            sse_client(url + SSE_PATH, headers=dict(headers))
            if way.transport == "sse"
            else streamable_http_client(url + MCP_PATH, http_client=http)
        )
        async with Client(transport, mode=way.mode, elicitation_callback=elicitation_callback) as client:
            yield client


def _real(settings: Settings) -> tuple[StrictServer, Authenticate | None]:
    from batchcall_mcp.server.app import build_server

    server = build_server(settings, transport="http")
    return server, server.authenticate


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves the test process's signal handlers alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with nullcontext():
            yield
