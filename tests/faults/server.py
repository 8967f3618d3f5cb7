"""Loopback servers that answer with exact bytes, for what no HTTP framework can be made to do wrong.

`raw_server` answers request after request with one fault after the other. `fronted` stands before a whole vendor (an
ASGI app): what it is told to aim at goes wrong, everything else is answered as the vendor answers it.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx2
from starlette.types import ASGIApp

from tests.sockets import Connected, accepting

# The client's time limit for one try, three of which fit in its budget. Only `time_passes` reaches it.
LIMIT_S = 6.0
_EXAMPLE = re.compile(rb"https?://[a-z0-9.]+\.example\b")
Answerer: TypeAlias = Connected


@dataclass(frozen=True)
class Asked:
    """A request as it came over the socket."""

    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        """Its method."""
        return self.head.split(b" ", 2)[0].decode()

    @property
    def target(self) -> str:
        """Its path with the query."""
        return self.head.split(b" ", 2)[1].decode()

    @property
    def path(self) -> str:
        """Its path alone."""
        return self.target.partition("?")[0]

    @property
    def json(self) -> Any:
        """Its body; None if it has none."""
        return json.loads(self.body) if self.body else None

    @property
    def is_json(self) -> bool:
        """Whether its body is JSON."""
        return any(name.lower() == b"content-type" and b"json" in value for name, value in self.headers)

    @property
    def credentials(self) -> str:
        """Its key and secret."""
        names = {b"x-api-key", b"x-api-secret", b"authorization", b"xi-api-key"}
        return " ".join(value.decode() for name, value in self.headers if name.lower() in names)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Its header lines."""
        lines = self.head.strip().split(b"\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]


@dataclass(frozen=True)
class Good:
    """What the vendor would have answered, the caller's credentials, and an origin that is not the vendor's."""

    body: bytes
    credentials: str
    elsewhere: str


@dataclass
class RawServer:
    """Answers request after request with the next answerer; the last one goes on for ever."""

    answerers: Sequence[Answerer]
    requests: list[bytes] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await read_request(reader)
        self.requests.append(asked.head + asked.body)
        await self.answerers[min(len(self.requests), len(self.answerers)) - 1](reader, writer)


@dataclass
class Front:
    """A vendor behind a door. `aim` says which requests go wrong, `fault` how, `done` whether they take effect.

    `stays`: after the first of them so does every other, without an effect. `hit` counts those that were aimed at.
    """

    vendor: httpx2.AsyncClient
    elsewhere: str
    aim: Callable[[Asked], bool] = lambda _asked: False
    fault: Callable[[Good], Answerer] = lambda good: answer(500, good.credentials)
    done: bool = True
    stays: bool = False
    hit: int = 0
    url: str = ""
    second: str = ""
    """Where the vendor's other origins are, which it names with addresses in `.example`: uploads go there."""
    effect: Callable[[], tuple[int, int]] = lambda: (0, 0)
    """How many writes the vendor has seen, and how many batch calls it has."""
    log: list[tuple[Asked, tuple[int, int]]] = field(default_factory=list)
    """What was asked, and how many more of both there were after it."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await read_request(reader)
        gone = self.stays and self.hit > 0
        aimed_at = self.aim(asked)
        self.hit += aimed_at
        if gone or (aimed_at and not self.done):
            await self.fault(Good(b"", asked.credentials, self.elsewhere))(reader, writer)
            return
        writes, batches = self.effect()
        said = await self.vendor.request(asked.method, asked.target, headers=asked.headers, content=asked.body)
        after = self.effect()
        self.log.append((asked, (after[0] - writes, after[1] - batches)))
        content = _EXAMPLE.sub(self.second.encode(), said.content) if self.second else said.content
        right = answer(said.status_code, content)
        wrong = self.fault(Good(content, asked.credentials, self.elsewhere)) if aimed_at else right
        await wrong(reader, writer)


@asynccontextmanager
async def raw_server(*answerers: Answerer) -> AsyncIterator[RawServer]:
    server = RawServer(answerers)
    async with listening(server.serve) as server.url:
        yield server


@asynccontextmanager
async def fronted(app: ASGIApp, elsewhere: str) -> AsyncIterator[Front]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://vendor") as vendor:
        front = Front(vendor, elsewhere)
        async with listening(front.serve) as front.url:
            yield front


@asynccontextmanager
async def listening(serve: Answerer) -> AsyncIterator[str]:
    """The base URL of a socket on which each connection is served so."""
    async with accepting(serve) as port:
        yield f"http://127.0.0.1:{port}"


async def read_request(reader: asyncio.StreamReader) -> Asked:
    """One request, whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length")), 0)
    return Asked(head, await reader.readexactly(length))


def answer(status: int, body: bytes | str = b"", **headers: str) -> Answerer:
    """A complete answer; header names with `_` for `-`. A content_length of its own may lie."""
    content = body.encode() if isinstance(body, str) else body
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    named = {"content-type": "application/json", "content-length": str(len(content)), **given}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in named.items())]
    return exactly("\r\n".join([*lines, "connection: close", "", ""]).encode() + content)


def exactly(sent: bytes) -> Answerer:
    """These bytes, and the end of the connection."""

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()

    return send


def time_passes(seconds: float) -> None:
    """Move the clock of this event loop on, so that a time limit ends now and no busy machine can reach it before."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]


async def never(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """No answer until a client with `LIMIT_S` hangs up."""
    time_passes(LIMIT_S)
    await reader.read()


def late(seconds: float, then: Answerer) -> Answerer:
    """An answer that takes its time."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await then(reader, writer)

    return send


def for_ever(head: bytes, again: bytes) -> Answerer:
    """A beginning, and then the same as fast as it goes."""

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(again)
            await writer.drain()

    return send


endless = for_ever(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[", b" " * 262_144)
endless_headers = for_ever(b"HTTP/1.1 200 OK\r\n", b"x-more: 0123456789abcdef\r\n" * 1000)
hang_up = exactly(b"")
garbage = exactly(b"SSH-2.0-OpenSSH_9.6\r\n")


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, each well within a read time-out, until a client with `LIMIT_S` hangs up."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    for _ in range(10):
        writer.write(b" ")
        await writer.drain()
        time_passes(LIMIT_S / 8)
        await asyncio.sleep(0)
    await reader.read()


def reset_after(sent: bytes) -> Answerer:
    """These bytes, then a hard reset."""

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return send


reset = reset_after(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"status": "succ')
