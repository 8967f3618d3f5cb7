"""What the vendor simulators share: every request recorded, served on a real loopback socket, time moved by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchcall_mcp.server.http import bound_socket


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived. `json` is None for a request without a body."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    json: Any


class Recording:
    """An ASGI app in front of another one that keeps every request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.requests: list[Recorded] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record, then pass on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        self.requests.append(
            Recorded(
                request.method,
                request.url.path,
                dict(request.query_params),
                dict(request.headers),
                json.loads(body) if body else None,
            )
        )
        read = False

        async def again() -> Message:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)


class BrokenOff(Response):
    """A response that promises more than it sends: the connection breaks before the answer is complete."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the first bytes of a success."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"message":', "more_body": True})


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """The base URL of an app on a loopback port. uvicorn without its main loop, which wakes only ten times a second."""
    with bound_socket("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="auto")
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup([listener])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.force_exit = True
            with anyio.fail_after(10, shield=True):
                await server.shutdown([listener])
                await server.lifespan.shutdown()
