"""Stands before a vendor, and keeps one kind of request waiting."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send


class Gate:
    """`arrived` is set when such a request is there; it goes on when `opened` is."""

    def __init__(self, app: ASGIApp, keeps: Callable[[str, str], bool]) -> None:
        self._app, self._keeps = app, keeps
        self.arrived, self.opened = anyio.Event(), anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and self._keeps(scope["method"], scope["path"]):
            self.arrived.set()
            await self.opened.wait()
        await self._app(scope, receive, send)


def starts(method: str, path: str) -> bool:
    """Whether a request to a Zudu starts a batch call."""
    return method == "POST" and path.endswith("/execute")
