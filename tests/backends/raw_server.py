"""A loopback server that answers with exact bytes, for what no HTTP framework can be made to do wrong."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

Answerer: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    """Answers request after request with the next answerer; the last one goes on for ever."""

    answerers: Sequence[Answerer]
    requests: list[bytes] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ),
                0,
            )
            self.requests.append(head + await reader.readexactly(length))
            answerer = self.answerers[min(len(self.requests), len(self.answerers)) - 1]
            await answerer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client hung up, as some tests have it
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(*answerers: Answerer) -> AsyncIterator[RawServer]:
    server = RawServer(answerers)
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        await server.serve(reader, writer)

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def answer(status: int, body: bytes | str = b"", **headers: str) -> Answerer:
    """A complete answer; header names with `_` for `-`."""
    content = body.encode() if isinstance(body, str) else body
    named = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in named.items())]
    head = "\r\n".join([*lines, f"content-length: {len(content)}", "connection: close", "", ""]).encode()

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + content)
        await writer.drain()

    return send


async def never(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """No answer until the client hangs up."""
    await reader.read()


async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body without an end, as fast as it goes."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[")
    while True:
        writer.write(b" " * 262_144)
        await writer.drain()


async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, each well within a read time-out."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Half an answer, then a hard reset."""
    writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"status": "succ')
    await writer.drain()
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """No answer at all."""


async def garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Not HTTP."""
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await writer.drain()
