"""A relayed read beside a bare server: latency, 40 calls at once, peak memory, and growth over 10,000 calls.

Run: python benchmarks/relay.py [calls]. Promises: at most 1 ms more in the median, over stdio and over HTTP; 40 calls
at once on a backend that takes 100 ms in under 0.25 s; at most 1.2 times the bare server's peak memory; no growth.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import httpx2
import parts
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

HERE = Path(__file__).parent
ID = {"batch_call_id": "f1e2d3c4-5678-9012-3456-789012345678"}
KEY = "mgp_benchmark"
AT_ONCE = 40


def main() -> None:
    """Measure and print."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(_measure, calls, folder)
    print(f"Python {platform.python_version()}, mcp {version('mcp')}, {os.cpu_count()} cores, {calls} calls each")


async def _measure(calls: int, folder: str) -> None:
    async with backend(0) as url:
        for transport in ("stdio", "http"):
            async with (
                connected("bare", transport, url, folder) as (bare, bare_pid),
                connected("ours", transport, url, folder) as (ours, our_pid),
            ):
                taken: dict[str, list[float]] = {"bare": [], "ours": []}
                for _ in range(20):
                    await call(bare), await call(ours)
                for _ in range(calls):  # in turns, so that a busy machine slows both
                    taken["bare"].append(await call(bare))
                    taken["ours"].append(await call(ours))
                one, other = (statistics.median(taken[name]) * 1000 for name in ("bare", "ours"))
                print(f"{transport}: median bare {one:.2f} ms, ours {other:.2f} ms, {other - one:+.2f} ms (promise +1)")
                peaks = peak_mib(bare_pid), peak_mib(our_pid)
                print(f"{transport}: peak memory bare {peaks[0]:.0f} MiB, ours {peaks[1]:.0f} MiB, "
                      f"ratio {peaks[1] / peaks[0]:.2f} (promise 1.2)")  # fmt: skip
    async with backend(0.1) as url:
        for name in ("bare", "ours"):
            async with connected(name, "stdio", url, folder) as (client, _):
                await at_once(client)
                print(
                    f"{AT_ONCE} calls at once on a backend of 100 ms, {name}: {await at_once(client):.3f} s (promise 0.25)"
                )
    async with backend(0) as url, connected("ours", "stdio", url, folder) as (client, pid):
        for _ in range(1000):
            await call(client)
        before = now_mib(pid), handles(pid)
        for _ in range(10_000):
            await call(client)
        after = now_mib(pid), handles(pid)
        print(f"10,000 calls: memory {before[0]:.1f} -> {after[0]:.1f} MiB, handles {before[1]} -> {after[1]}")


async def call(client: Client) -> float:
    """Seconds of one tool call."""
    began = time.perf_counter()
    result = await client.call_tool("get_batch_call", ID)
    took = time.perf_counter() - began
    if result.is_error:
        raise RuntimeError(str(result.content))
    return took


async def at_once(client: Client) -> float:
    """Seconds until the last of AT_ONCE calls is answered."""
    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(call, client)
    return time.perf_counter() - began


@asynccontextmanager
async def backend(delay_s: float) -> AsyncIterator[str]:
    """The loopback backend's URL."""
    command = [sys.executable, str(HERE / "parts.py"), "backend", str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("no pipe")
        port = process.stdout.readline().strip()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@asynccontextmanager
async def connected(name: str, transport: str, url: str, folder: str) -> AsyncIterator[tuple[Client, int]]:
    """A client of the bare or of our server, and the server's process id."""
    environment = {
        **os.environ,
        "BATCHCALL_BACKEND": "magpipe",
        "BATCHCALL_URL": url,
        "BATCHCALL_DATA_DIR": folder,
        "BATCHCALL_LOG_LEVEL": "WARNING",
    }
    bare = ["-u", str(HERE / "parts.py"), "bare", transport, url + "/batch-calls"]
    if transport == "stdio":
        environment["BATCHCALL_API_KEY"] = KEY
        arguments = bare if name == "bare" else ["-m", "batchcall_mcp"]
        known = children()
        server = StdioServerParameters(command=sys.executable, args=arguments, env=environment)
        with Path(os.devnull).open("w") as silence:
            async with Client(stdio_client(server, errlog=silence)) as client:
                yield client, (children() - known).pop()
        return
    port = parts.free_port()
    ours = ["-m", "batchcall_mcp", "serve", "--port", str(port)]
    command = [sys.executable, *([*bare, str(port)] if name == "bare" else ours)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            await until_open(port)
            async with httpx2.AsyncClient(headers={"X-API-KEY": KEY}, timeout=30) as http:
                async with Client(streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)) as client:
                    yield client, process.pid
        finally:
            process.kill()


async def until_open(port: int) -> None:
    """Wait until somebody listens."""
    with anyio.fail_after(30):
        while True:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port)
            except OSError:
                await anyio.sleep(0.05)
                continue
            await stream.aclose()
            return


def children() -> set[int]:
    """Process ids of our direct children (Linux)."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return {int(pid) for pid in text.split()}


def peak_mib(pid: int) -> float:
    """Highest resident memory so far."""
    return _status(pid, "VmHWM")


def now_mib(pid: int) -> float:
    """Resident memory now."""
    return _status(pid, "VmRSS")


def _status(pid: int, field: str) -> float:
    lines: list[str] = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    value: Any = next(line for line in lines if line.startswith(field)).split()[1]
    return int(value) / 1024


def handles(pid: int) -> int:
    """Open file handles."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


if __name__ == "__main__":
    main()
