"""Stands before a vendor, and keeps one kind of request waiting."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Gate:
    """`arrived` is set when such a request is there; it goes on when `opened` is."""

    def __init__(self, app: ASGIApp, keeps: Callable[[str, str], bool]) -> None:
        self._app, self._keeps = app, keeps
        self.arrived, self.opened = anyio.Event(), anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not self._keeps(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        self.arrived.set()
        await self.opened.wait()

        async def as_it_came() -> Message:
            """Whole, although its sender may be gone."""
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, as_it_came, send)


def starts(method: str, path: str) -> bool:
    """Whether a request to a Zudu starts a batch call."""
    return method == "POST" and path.endswith("/execute")
