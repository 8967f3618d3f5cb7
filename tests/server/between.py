"""A plain TCP proxy in the test's event loop: each connection goes to the next of its targets. It can hold answers."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import anyio


class Between:
    """What goes on in it: `asked` is set once a request has come; what comes back is held until `go_on` is set.

    `connections` counts them by target.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.connections: Counter[str] = Counter()
        self.url = ""


@asynccontextmanager
async def between(targets: Sequence[str], *, holds: bool = False) -> AsyncIterator[Between]:
    """Forward to these URLs in turn, a connection each."""
    state, turns = Between(), itertools.cycle(targets)
    if not holds:
        state.go_on.set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = next(turns)
        state.connections[target] += 1
        place = urlsplit(target)
        to_reader, to_writer = await asyncio.open_connection(place.hostname, place.port)
        async with AsyncExitStack() as closing:
            closing.callback(writer.close)
            closing.callback(to_writer.close)
            async with asyncio.TaskGroup() as both:
                both.create_task(_forward(reader, to_writer, state.asked, None))
                both.create_task(_forward(to_reader, writer, None, state.go_on))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        state.go_on.set()
        server.close()
        with anyio.move_on_after(5, shield=True):
            await server.wait_closed()


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: asyncio.Event | None, go_on: asyncio.Event | None
) -> None:
    try:
        while part := await reader.read(65536):
            if seen is not None:
                seen.set()
            if go_on is not None:
                await go_on.wait()
            writer.write(part)
            await writer.drain()
        if not writer.is_closing():
            writer.write_eof()
    except OSError:
        writer.close()  # one side is gone: the other one hears of it
