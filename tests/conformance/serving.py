"""The fixture server on a loopback port, behind everything that stands before the real one."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import uvicorn
from mcp.shared.exceptions import MCPDeprecationWarning
from starlette.types import ASGIApp, Receive, Scope, Send

from batchcall_mcp.server.transports.http import MCP_PATH, http_app
from batchcall_mcp.settings import Settings
from batchcall_mcp.sockets import bound_socket
from tests.conformance.fixtures import fixture_server

_PAIR = [(b"x-api-key", b"key-of-the-suite"), (b"x-api-secret", b"secret-of-the-suite")]


@asynccontextmanager
async def served(*, stateless: bool) -> AsyncIterator[str]:
    """The URL of streamable HTTP, with or without sessions."""
    settings = Settings.load()
    with warnings.catch_warnings(), bound_socket("127.0.0.1", 0) as listening:
        warnings.simplefilter("ignore", MCPDeprecationWarning)  # the suite asks for logging, which the SDK gives up
        port = listening.getsockname()[1]
        app = http_app(fixture_server(settings), settings, host="127.0.0.1", port=port, stateless=stateless)
        server = _Uvicorn(
            uvicorn.Config(_keyed(app), log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=2)
        )
        task = asyncio.create_task(server.serve([listening]))
        try:
            with anyio.fail_after(60):
                while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{port}{MCP_PATH}"
        finally:
            server.should_exit = True
            with anyio.fail_after(60, shield=True):
                await task


def _keyed(app: ASGIApp) -> ASGIApp:
    """The suite cannot send headers of its own, so that they are added here, before the server sees the request."""

    async def add_keys(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], *_PAIR]}
        await app(scope, receive, send)

    return add_keys


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves the process's signal handlers alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
