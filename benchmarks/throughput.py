"""Requests a second over streamable HTTP with 16 clients: a relayed read beside a bare server, in turns.

Run: python benchmarks/throughput.py [--rounds 7] [--seconds 3] [--profile FILE] [--write]. Each client is a session
with a connection of its own that asks again as soon as it is answered. Promise: at least 0.95 of the bare server's
requests. CPU is that of the server's process for each request, which a busy machine falsifies less.

Reads: `get_batch_call` of 5 and of 100 recipients on Magpipe, which the bare server forwards whole through one shared
client; ours reads and cleans all of them, and answers with a page of 20.
`--profile` writes what cProfile saw of ours in the server's process; nothing is measured then. Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import parts
import programs
from report import conditions, publish, table
from tree import cpu
from wire import CLIENT, Backend

CLIENTS = 16
PROMISE = 0.95
KEY = "mgp_benchmark"
BATCH_CALL = "f1e2d3c4-5678-9012-3456-789012345678"
PEOPLE = (5, 100)
"""Of the batch call that is read."""
ERAS = ("2025-11-25", "2026-07-28")
PROFILED = """
import atexit, cProfile, signal, sys
profile = cProfile.Profile()
from batchcall_mcp.__main__ import main
sys.argv = ["batchcall-mcp", *sys.argv[2:]]
profile.enable()
try:
    main()
finally:
    profile.disable()
    profile.dump_stats({path!r})
"""


@dataclass
class Load:
    """What one server answered in each round: requests a second, and its CPU milliseconds for each."""

    rate: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


class Caller:
    """One session on one connection; the bytes of its request are made once."""

    def __init__(self, port: int, era: str) -> None:
        self._port = port
        self._era = era
        self._headers = {
            "Host": f"127.0.0.1:{port}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "X-API-KEY": KEY,
            "MCP-Protocol-Version": era,
        }
        self._call = b""

    async def open(self) -> None:
        """Connect, and begin a session where the era has them."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        params = {"name": "get_batch_call", "arguments": {"batch_call_id": BATCH_CALL}}
        if self._era == ERAS[0]:
            del self._headers["MCP-Protocol-Version"]
            head, _ = await self._asked({"id": 0, "method": "initialize", "params": CLIENT})
            self._headers["MCP-Protocol-Version"] = self._era
            self._headers["Mcp-Session-Id"] = head["mcp-session-id"]
            await self._asked({"method": "notifications/initialized"})
        else:
            self._headers |= {"Mcp-Method": "tools/call", "Mcp-Name": "get_batch_call"}
            prefix = "io.modelcontextprotocol/"
            about = {"protocolVersion": self._era, "clientCapabilities": {}, "clientInfo": CLIENT["clientInfo"]}
            params["_meta"] = {prefix + name: value for name, value in about.items()}
        self._call = self._request({"id": 1, "method": "tools/call", "params": params})

    async def ask(self) -> None:
        """One read, answered without an error."""
        self._writer.write(self._call)
        _, answer = await self._answer()
        if b'"isError":true' in answer or b'"structuredContent"' not in answer:
            raise RuntimeError(answer[:500].decode())

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    def _request(self, message: Mapping[str, object]) -> bytes:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        head = "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())
        return f"POST /mcp HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def _asked(self, message: Mapping[str, object]) -> tuple[dict[str, str], bytes]:
        self._writer.write(self._request(message))
        return await self._answer()

    async def _answer(self) -> tuple[dict[str, str], bytes]:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        head = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        if lines[0].split()[1] not in {"200", "202"}:
            raise RuntimeError(lines[0])
        if head.get("transfer-encoding") == "chunked":
            # No chunk of ours or the SDK's ends so: each is an event or a line of JSON.
            return head, await self._reader.readuntil(b"0\r\n\r\n")
        return head, await self._reader.readexactly(int(head.get("content-length", "0")))


def main() -> None:
    """Measure and print."""
    wanted = argparse.ArgumentParser()
    wanted.add_argument("--rounds", type=int, default=7)
    wanted.add_argument("--seconds", type=float, default=3)
    wanted.add_argument("--profile", type=Path)
    wanted.add_argument("--write", action="store_true")
    given = wanted.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.profile:
            with Backend() as url:
                profile(given.profile, url, folder, given.seconds)
            return
        found: dict[tuple[str, int], dict[str, Load]] = {}
        for recipients in PEOPLE:
            with Backend(recipients=recipients) as url:
                for era in ERAS:
                    found[era, recipients] = measured(era, url, folder, given.rounds, given.seconds)
    publish("throughput", section(found, given), write=given.write)


def measured(era: str, url: str, folder: str, rounds: int, seconds: float) -> dict[str, Load]:
    """Both servers in turns, each alone while it is asked; the first turn of each does not count."""
    with ExitStack() as stack:
        ports = {name: stack.enter_context(served(name, url, folder)) for name in ("bare", "ours")}
        loads = {name: Load() for name in ports}
        for number in range(rounds + 1):
            # Each is first in every second round: what a round leaves behind falls on both.
            for name in sorted(ports, reverse=number % 2 == 1):
                port, pid = ports[name]
                rate, used = asyncio.run(loaded(port, pid, era, seconds if number else min(seconds, 1)))
                if number:
                    loads[name].rate.append(rate)
                    loads[name].cpu_ms.append(used)
        return loads


async def loaded(port: int, pid: int, era: str, seconds: float) -> tuple[float, float]:
    """Requests a second, and CPU milliseconds of the server for each."""
    callers = [Caller(port, era) for _ in range(CLIENTS)]
    for caller in callers:
        await caller.open()
        await caller.ask()
    answered = 0

    async def goes_on(caller: Caller, until: float) -> None:
        nonlocal answered
        while time.perf_counter() < until:
            await caller.ask()
            answered += 1

    before, began = cpu(pid), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(goes_on(caller, began + seconds))
    took, used = time.perf_counter() - began, cpu(pid) - before
    for caller in callers:
        caller.close()
    return answered / took, used / answered * 1000


@contextmanager
def served(name: str, url: str, folder: str, *before: str) -> Iterator[tuple[int, int]]:
    """A server over HTTP that forwards to `url`: its port and process id."""
    port = parts.free_port()
    environment = os.environ | {
        "BATCHCALL_BACKEND": "magpipe",
        "BATCHCALL_URL": url,
        "BATCHCALL_DATA_DIR": folder,
        "BATCHCALL_LOG_LEVEL": "WARNING",
        "BATCHCALL_RATE_LIMIT": "10000",
    }
    serve = ("serve", "--port", str(port))
    ours = [sys.executable, *before, *serve] if before else programs.ours(*serve)
    bare = programs.script("parts", "bare", "http", url + "/batch-calls", str(port))
    command = bare if name == "bare" else ours
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            parts.wait_for(port, process)
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGINT if before else signal.SIGKILL)


def profile(path: Path, url: str, folder: str, seconds: float) -> None:
    """What our functions took, into a file for `pstats`."""
    code = PROFILED.format(path=str(path.resolve()))
    with served("ours", url, folder, "-c", code, "batchcall-mcp") as (port, pid):
        rate, _ = asyncio.run(loaded(port, pid, ERAS[0], seconds))
    print(f"{rate:.0f} requests/s while profiled; see {path}")


def section(found: Mapping[tuple[str, int], Mapping[str, Load]], given: argparse.Namespace) -> str:
    """As it stands in docs/benchmarks.md."""
    rows = [
        [
            era,
            str(recipients),
            _of(loads["bare"].rate, "{:.0f}"),
            _of(loads["ours"].rate, "{:.0f}"),
            compared(loads["ours"].rate, loads["bare"].rate),
            _of(loads["bare"].cpu_ms, "{:.2f}"),
            _of(loads["ours"].cpu_ms, "{:.2f}"),
            compared(loads["ours"].cpu_ms, loads["bare"].cpu_ms),
            verdict(loads),
        ]
        for (era, recipients), loads in found.items()
    ]
    head = [
        "protocol",
        "recipients",
        "bare, requests/s",
        "batchcall-mcp",
        "compared",
        "bare, CPU ms a request",
        "batchcall-mcp",
        "compared",
        f"promise: at least {PROMISE} of the requests",
    ]
    return "\n\n".join(
        [
            conditions(f"{given.rounds} rounds of {given.seconds:g} s in turns, {CLIENTS} clients"),
            table(head, rows),
            "Medians (least to most); *compared* is the median of the rounds' ratios.",
        ]
    )


def compared(ours: Sequence[float], bare: Sequence[float]) -> str:
    """The ratios of the rounds."""
    return _of([one / other if other else math.nan for one, other in zip(ours, bare, strict=True)], "{:.2f}")


def verdict(loads: Mapping[str, Load]) -> str:
    """Whether the promise is kept."""
    ratios = [one / other for one, other in zip(loads["ours"].rate, loads["bare"].rate, strict=True)]
    return "kept" if statistics.median(ratios) >= PROMISE else "NOT MET"


def _of(values: Sequence[float], form: str) -> str:
    median, least, most = statistics.median(values), min(values), max(values)
    return f"{form.format(median)} ({form.format(least)} to {form.format(most)})"


if __name__ == "__main__":
    main()
