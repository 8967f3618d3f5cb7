"""What the vendor simulators share: every request recorded, served on a real loopback socket, time moved by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import anyio
import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchcall_mcp.sockets import bound_socket


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived. `json` is None for a request without a body, or with one of another type."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    json: Any
    body: bytes = b""


class Recording:
    """An ASGI app in front of another one that keeps every request.

    With `swallow_next_write` the next write takes effect, and its answer breaks off.
    """

    def __init__(self, app: ASGIApp, is_write: Callable[[Recorded], bool]) -> None:
        self.app = app
        self.is_write = is_write
        self.requests: list[Recorded] = []
        self.swallow_next_write = False

    @property
    def writes(self) -> list[Recorded]:
        """The requests that change something."""
        return [one for one in self.requests if self.is_write(one)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record, then pass on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        recorded = Recorded(
            request.method,
            request.url.path,
            dict(request.query_params),
            dict(request.headers),
            json.loads(body) if body and "json" in request.headers.get("content-type", "") else None,
            body,
        )
        self.requests.append(recorded)
        read = False

        async def again() -> Message:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        if not (self.swallow_next_write and self.is_write(recorded)):
            await self.app(scope, again, send)
            return
        self.swallow_next_write = False
        await self.app(scope, again, _unheard)
        # Promises more than it sends: uvicorn closes the connection before the answer is complete.
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"message":', "more_body": True})


class Simulated:
    """A vendor that is played: whatever it is asked is in `recording`, which its constructor sets."""

    recording: Recording

    @property
    def requests(self) -> list[Recorded]:
        """Every request, in order."""
        return self.recording.requests

    @property
    def writes(self) -> list[Recorded]:
        """The requests that change something."""
        return self.recording.writes

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Its base URL."""
        async with listening(self.recording) as url:
            yield url


async def _unheard(_message: Message) -> None:
    """Where a swallowed answer goes."""


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """The base URL of an app on a loopback port. uvicorn without its main loop, which wakes only ten times a second."""
    with bound_socket("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="auto")
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        server.server_state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        await server.startup([listener])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.force_exit = True
            with anyio.fail_after(60, shield=True):
                await server.shutdown([listener])
                await server.lifespan.shutdown()
