"""Opening what a server needs once for a process, although the SDK opens it once for each SSE connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

Opener: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]
"""Takes the server and opens (and later closes) its state."""


class ProcessLifespan:
    """A lifespan for MCPServer that hands out one open state while somebody holds it open for the process.

    Without a holder (stdio, in-memory) each connection opens and closes its own, as the SDK means it.
    """

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._held: list[Any] = []

    @asynccontextmanager
    async def __call__(self, server: Any) -> AsyncIterator[Any]:
        """The state of one connection."""
        if self._held:
            yield self._held[0]
            return
        async with self._opener(server) as state:
            yield state

    @asynccontextmanager
    async def hold(self, server: Any) -> AsyncIterator[None]:
        """Open the state now and share it with every connection until this is left."""
        async with self._opener(server) as state:
            self._held.append(state)
            try:
                yield
            finally:
                self._held.clear()
