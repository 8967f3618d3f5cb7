"""A plain TCP proxy in the test's event loop: each connection goes to the next of its targets. It can hold answers."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from urllib.parse import urlsplit

from tests.sockets import accepting


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
        with closing(to_writer):
            async with asyncio.TaskGroup() as both:
                both.create_task(_forward(reader, to_writer, state.asked, None))
                both.create_task(_forward(to_reader, writer, None, state.go_on))

    async with accepting(connected) as port:
        state.url = f"http://127.0.0.1:{port}"
        yield state


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
