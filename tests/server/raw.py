"""An MCP client made of raw JSON-RPC, over stdio in both eras and over HTTP: it answers what no library would send."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

import anyio
import httpx2
from anyio.streams.buffered import BufferedByteReceiveStream

from tests import forked
from tests.server.transports import ROOT

LONGEST_S = 30
MODERN, LEGACY = "2026-07-28", "2025-11-25"
Era: TypeAlias = Literal["2026", "2025"]
Json: TypeAlias = dict[str, Any]
CLIENT = {"name": "raw", "version": "1"}


class RawClient:
    """One connection over stdio. `capabilities` are what it says it can do."""

    def __init__(self, process: anyio.abc.Process, era: Era, capabilities: Json) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._lines = BufferedByteReceiveStream(process.stdout)
        self.era = era
        self.capabilities = capabilities
        self.seen: list[str] = []
        """Every line that the server wrote."""
        self._last = 0

    async def write(self, text: str) -> None:
        """A line as it is."""
        await self._stdin.send(text.encode() + b"\n")

    async def read(self) -> Json:
        """The next message."""
        with anyio.fail_after(LONGEST_S):
            line = (await self._lines.receive_until(b"\n", 10_000_000)).decode()
        self.seen.append(line)
        message: Json = json.loads(line)
        return message

    async def send(self, method: str, params: Json) -> int:
        """A request of ours."""
        self._last += 1
        meta = {**params.get("_meta", {})}
        if self.era == "2026":
            meta |= {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": self.capabilities,
                "io.modelcontextprotocol/clientInfo": CLIENT,
            }
        params = {**params, "_meta": meta} if meta else params
        await self.write(json.dumps({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}))
        return self._last

    async def answer_to(self, request_id: int) -> Json:
        """The result (or error) of a request of ours; notifications in between are kept in `seen`."""
        while True:
            message = await self.read()
            if "method" not in message and message.get("id") == request_id:
                return message
            assert "id" not in message, message

    async def request(self) -> Json:
        """The next request of the server."""
        while True:
            message = await self.read()
            if "method" in message and "id" in message:
                return message
            assert "method" in message, message

    async def call(self, tool: str, arguments: Mapping[str, Any], **more: Any) -> int:
        """Call a tool; its answer is to be waited for."""
        return await self.send("tools/call", {"name": tool, "arguments": dict(arguments), **more})

    async def result(self, tool: str, arguments: Mapping[str, Any], **more: Any) -> Json:
        """The structured result of a call that works."""
        message = await self.answer_to(await self.call(tool, arguments, **more))
        assert not message["result"].get("isError"), message
        structured: Json = message["result"]["structuredContent"]
        return structured


@asynccontextmanager
async def raw_client(environment: Mapping[str, str], era: Era, capabilities: Json) -> AsyncIterator[RawClient]:
    """A client of a fresh process, with the handshake done where there is one."""
    kept = {name: value for name, value in os.environ.items() if name != "BATCHCALL_DATA_DIR"}
    process = await anyio.open_process(
        forked.program(), env=kept | dict(environment), cwd=ROOT, stderr=subprocess.DEVNULL
    )
    async with process:
        try:
            client = RawClient(process, era, capabilities)
            if era == "2025":
                hello = {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": CLIENT}
                await client.answer_to(await client.send("initialize", hello))
                await client.write(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            yield client
        finally:
            process.kill()


class RawHttp:
    """A handshake-era session over HTTP whose answers to questions are raw bodies."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        self._client, self._url = client, url

    async def open(self, capabilities: Json) -> None:
        """The handshake."""
        hello = {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": CLIENT}
        opened = await self.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})
        self._client.headers["mcp-session-id"] = opened.headers["mcp-session-id"]
        self._client.headers["mcp-protocol-version"] = LEGACY
        await self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def post(self, body: Json | str) -> httpx2.Response:
        """One POST, read to its end."""
        content = body if isinstance(body, str) else json.dumps(body)
        return await self._client.post(self._url, content=content, headers=_HEADERS)

    async def messages(self, body: Json) -> AsyncIterator[Json]:
        """One POST whose answer is a stream."""
        async with self._client.stream("POST", self._url, content=json.dumps(body), headers=_HEADERS) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:") and line.removeprefix("data:").strip():
                    yield json.loads(line.removeprefix("data:"))


_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
