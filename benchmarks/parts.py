"""What the benchmarks share: a loopback backend that answers like Magpipe, and the bare server that we stand beside.

Each part is a process of its own, so that none measures another's work: `python benchmarks/parts.py backend DELAY_S`
prints its port and serves a batch call of 100 recipients (`… backend DELAY_S 5`: of 5); `… bare stdio URL` and
`… bare http URL PORT` are the reference.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import Field

RECIPIENTS = 100


def batch(recipients: int = RECIPIENTS) -> dict[str, Any]:
    """A Magpipe answer to `get` with so many recipients."""
    return {
        "batch": {
            "id": "f1e2d3c4-5678-9012-3456-789012345678",
            "name": "Reminders",
            "caller_id": "+16045551234",
            "status": "running",
            "send_now": True,
            "total_recipients": recipients,
            "completed_count": recipients // 2,
            "failed_count": recipients // 20,
            "window_start_time": "09:00:00",
            "window_end_time": "17:00:00",
            "window_days": [1, 2, 3, 4, 5],
            "max_concurrency": 5,
            "created_at": "2026-02-15T09:00:00.000Z",
            "started_at": "2026-02-15T09:00:05.000Z",
        },
        "recipients": [
            {
                "id": f"r{number}-uuid",
                "phone_number": f"+1415555{number:04d}",
                "name": f"Person {number}",
                "status": "completed" if number % 2 else "pending",
                "call_record_id": f"call-{number}",
                "attempted_at": "2026-02-15T09:00:10.000Z",
                "completed_at": "2026-02-15T09:03:45.000Z",
            }
            for number in range(recipients)
        ],
    }


async def backend(delay_s: float, recipients: int = RECIPIENTS) -> None:
    """Answer every request with the batch call, head and body in one write."""
    body = json.dumps(batch(recipients)).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = (
                    int(request.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in request else 0
                )
                await reader.readexactly(length)
                if delay_s:
                    await asyncio.sleep(delay_s)
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def bare(transport: str, url: str, port: int) -> None:
    """One tool, one shared httpx2 client, the backend's answer handed on: what a relay costs at least."""

    @asynccontextmanager
    async def client(_server: Any) -> AsyncIterator[httpx2.AsyncClient]:
        async with httpx2.AsyncClient() as http:
            yield http

    server = MCPServer("bare", version="1", lifespan=client, log_level="WARNING")

    @server.tool()
    async def get_batch_call(
        batch_call_id: Annotated[str, Field(description="Batch call ID")], ctx: Context[Any, Any]
    ) -> dict[str, Any]:
        """Read a batch call."""
        http: httpx2.AsyncClient = ctx.request_context.lifespan_context
        answer = await http.post(
            url, json={"action": "get", "batch_id": batch_call_id}, headers={"Authorization": "Bearer k"}
        )
        found: dict[str, Any] = answer.json()
        return found

    if transport == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=port)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Until a server listens there.

    Raises:
        RuntimeError: it ended, or it never listens.
    """
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"nothing listens on {port}")


if __name__ == "__main__":
    if sys.argv[1] == "backend":
        asyncio.run(backend(float(sys.argv[2]), *map(int, sys.argv[3:])))
    else:
        bare(sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 0)
