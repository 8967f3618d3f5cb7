"""Loopback sockets in the test's event loop, each connection of which is served by a function of the test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

Connected: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def accepting(serve: Connected, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a socket that serves each connection so. At the end no connection is open and nothing serves one.

    `Server.wait_closed` of Python 3.11 waits for no connection.
    """
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving[task] = writer
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client hung up, as some tests have it, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task, writer in serving.items():
            if not task.done():
                task.cancel()
                writer.transport.abort()
        await asyncio.gather(*serving, return_exceptions=True)
