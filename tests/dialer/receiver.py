"""A real HTTP server on loopback that takes webhooks, and answers as it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.sockets import accepting


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]


Reply: TypeAlias = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def status(code: int, *headers: str) -> Reply:
    """Answer with this status."""

    async def reply(_received: Received, writer: asyncio.StreamWriter) -> None:
        head = "\r\n".join((f"HTTP/1.1 {code} X", "Content-Length: 0", *headers, "", ""))
        writer.write(head.encode())
        await writer.drain()

    return reply


@dataclass
class Receiver:
    """What arrived, in order; `replies` are used up one by one, then it is 204."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    always: Reply = field(default_factory=lambda: status(204))
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/hook", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        received = Received(head[0].split(" ")[1], headers, body)
        self.received.append(received)
        self.arrived.set()
        await (self.replies.pop(0) if self.replies else self.always)(received, writer)


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Listen on a free port."""
    receiver = Receiver()
    async with accepting(receiver._serve, tls=tls) as receiver.port:
        yield receiver
