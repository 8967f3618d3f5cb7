"""The stdio runner as a process: its protocol, its end, and nothing else on stdout."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client

from batchcall_mcp.settings import Settings
from tests import forked
from tests.server.echo import Opened, echo_server
from tests.server.transports import ROOT

MODULE = ("-m", "tests.server.echo")
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


class Line:
    """One line of JSON-RPC after the other with a process."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out, self._id = process.stdin, BufferedByteReceiveStream(process.stdout), 0

    async def send(self, method: str, params: dict[str, Any], *, answered: bool = True) -> None:
        self._id += 1
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({"id": self._id} if answered else {})
        await self._in.send(json.dumps(message).encode() + b"\n")

    async def receive(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await self._out.receive_until(b"\n", 10_000_000))
        assert answer["jsonrpc"] == "2.0"
        assert answer["id"] == self._id
        return answer

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        await self.send(method, params)
        return await self.receive()

    async def shake_hands(self) -> dict[str, Any]:
        answer = await self.ask("initialize", INITIALIZE)
        await self.send("notifications/initialized", {}, answered=False)
        return answer


@asynccontextmanager
async def process(log: Path | None = None, *, from_nothing: bool = False) -> AsyncIterator[tuple[Process, Line]]:
    command = [sys.executable, *MODULE] if from_nothing else [*forked.program(), *MODULE]
    environment = {} if log is None else {"ECHO_LOG": str(log)}
    with anyio.fail_after(60):
        started = await anyio.open_process(
            command, env=dict(os.environ) | environment, cwd=ROOT, stderr=subprocess.PIPE
        )
        try:
            async with started:
                yield started, Line(started)
        finally:
            if started.returncode is None:
                started.kill()


async def everything(stream: Any) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_a_probe_does_not_decide_the_era() -> None:
    async with process() as (_, line):
        probed = await line.ask("server/discover", {"_meta": META})
        assert probed["result"]["supportedVersions"] == ["2026-07-28"]
        opened = await line.shake_hands()
        assert opened["result"]["protocolVersion"] == "2025-11-25"
        listed = await line.ask("tools/list", {})
        assert "who_am_i" in {tool["name"] for tool in listed["result"]["tools"]}


async def test_a_probe_in_words_nobody_knows_does_not_decide_the_era_either() -> None:
    future = META | {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    async with process() as (_, line):
        refused = await line.ask("server/discover", {"_meta": future})
        assert refused["error"]["code"] == -32022
        assert refused["error"]["data"]["supported"] == ["2026-07-28"]
        assert "result" in await line.shake_hands()


async def test_after_a_probe_the_modern_era_is_served_and_its_probe_is_the_sdks() -> None:
    async with process() as (_, line):
        ours = await line.ask("server/discover", {"_meta": META})
        assert "result" in await line.ask("tools/list", {"_meta": META})
        sdks = await line.ask("server/discover", {"_meta": META})
        assert ours["result"] == sdks["result"]


@pytest.mark.parametrize("from_nothing", [True, False], ids=["from nothing", "forked"])
async def test_only_protocol_reaches_stdout(from_nothing: bool) -> None:
    async with process(from_nothing=from_nothing) as (running, line):
        await line.shake_hands()
        for _ in range(2):
            assert "result" in await line.ask("tools/call", {"name": "print_loudly", "arguments": {}})
        assert running.stdin is not None
        await running.stdin.aclose()
        assert await everything(running.stdout) == b""
        assert b"this is no protocol" in await everything(running.stderr)


async def test_a_line_that_is_not_json_is_answered_or_ignored_and_the_next_is_served() -> None:
    async with process() as (running, line):
        await line.shake_hands()
        assert running.stdin is not None
        await running.stdin.send(b"this is not json\n")
        assert "result" in await line.ask("ping", {})


async def test_end_of_input_cancels_what_runs_and_closes_what_is_open(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with process(log) as (running, line):
        await line.shake_hands()
        await line.send("tools/call", {"name": "wait_for_ever", "arguments": {}})
        while not log.exists():  # noqa: ASYNC110 - another process writes it
            await anyio.sleep(0.01)
        assert running.stdin is not None
        await running.stdin.aclose()
        assert await running.wait() == 0
        assert b"Traceback" not in await everything(running.stderr)
    assert log.read_text().split() == ["waiting", "cancelled", "closed"]


async def test_end_of_input_before_anything_ends_it_cleanly() -> None:
    async with process() as (running, _):
        assert running.stdin is not None
        await running.stdin.aclose()
        assert await running.wait() == 0


@pytest.mark.parametrize("busy", [False, True])
async def test_end_of_input_ends_it_although_nobody_reads_its_answers(tmp_path: Path, *, busy: bool) -> None:
    """The pipe is full, and a thread that writes into it cannot be cancelled; what is open is closed all the same."""
    log = tmp_path / "log"
    async with process(log) as (running, line):
        await line.shake_hands()
        if busy:
            await line.send("tools/call", {"name": "wait_for_ever", "arguments": {}})
            while not log.exists():  # noqa: ASYNC110 - another process writes it
                await anyio.sleep(0.01)
        for _ in range(200):
            await line.send("tools/list", {})
        assert running.stdin is not None
        with anyio.fail_after(60):
            await running.stdin.aclose()
            assert await running.wait() == 0
    assert log.read_text().split() == (["waiting", "cancelled", "closed"] if busy else ["closed"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", [False, True])
async def test_one_signal_ends_it_at_once_without_a_traceback(
    number: signal.Signals, tmp_path: Path, *, busy: bool
) -> None:
    log = tmp_path / "log"
    async with process(log) as (running, line):
        await line.shake_hands()
        if busy:
            await line.send("tools/call", {"name": "wait_for_ever", "arguments": {}})
            while not log.exists():  # noqa: ASYNC110 - another process writes it
                await anyio.sleep(0.01)
        running.send_signal(number)
        assert await running.wait() == {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM}[number]
        assert b"Traceback" not in await everything(running.stderr)


async def test_a_client_that_dies_before_its_answer_is_not_a_crash() -> None:
    async with process() as (running, line):
        await line.shake_hands()
        assert running.stdin is not None
        assert running.stdout is not None
        await running.stdout.aclose()
        await line.send("ping", {})
        await running.stdin.aclose()
        assert await running.wait() == 0
        assert b"Traceback" not in await everything(running.stderr)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_connections_in_memory_open_and_close_their_own_state(mode: Any) -> None:
    opened = Opened(None)
    server = echo_server(Settings.load(), opened)
    for expected in (1, 2):
        async with Client(server, mode=mode) as client:
            await client.list_tools()
        assert (opened.count, opened.closed) == (expected, expected)
