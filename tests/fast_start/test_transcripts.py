"""Whatever a client sends, it gets the same as without the fast start: the same lines, and the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from io import BufferedReader
from typing import Protocol

import anyio
import anyio.to_thread
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from batchcall_mcp.fast_start import Handover, Written
from batchcall_mcp.fast_start.answers import Snapshot
from batchcall_mcp.server.app import BatchCallServer
from batchcall_mcp.server.transports.stdio import Wire, serve
from release.snapshot import real_server
from tests import forked
from tests.fast_start.scripts import END, SCRIPTS, SIGNALS, Step
from tests.server.transports import ROOT

LONGEST_S = 60
BACKEND = "zudu"
ACCOUNT = {"BATCHCALL_BACKEND": BACKEND, "BATCHCALL_API_KEY": "key-1", "BATCHCALL_API_SECRET": "secret-1"}
IN_A_PROCESS = (
    "handshake and lists, one after the other",
    "a tool call between the lists",
    "a probe, then the handshake",
    "a probe and lists",
    "capabilities that are wrong",
    "the id of initialize, for a call before its answer is read",
    "a long one in the handshake",
    "nothing at all",
    "an end after half a line",
    "an end after the lists",
    *SIGNALS,
)


class _Client(Protocol):
    async def send(self, data: bytes) -> None: ...
    async def line(self) -> bytes: ...
    async def end(self) -> None: ...
    async def rest(self) -> bytes: ...
    async def signal(self, number: signal.Signals) -> None: ...


async def transcript(steps: Sequence[Step], client: _Client) -> list[bytes]:
    """All lines that came; those that came together in one order."""
    lines: list[bytes] = []
    for step in steps:
        if isinstance(step, bytes):
            await client.send(step)
        elif isinstance(step, signal.Signals):
            await client.signal(step)
        elif step == END:
            await client.end()
        else:
            lines += sorted([await client.line() for _ in range(int(step) - len(lines))])
    await client.end()
    return [*lines, *sorted((await client.rest()).splitlines())]


class Piped:
    """A client of a server in this process."""

    def __init__(self) -> None:
        reading, asks = os.pipe()
        answers, writing = os.pipe()
        self.server_reads, self.server_writes = reading, writing
        self._asks, self._answers = os.fdopen(asks, "wb", 0), os.fdopen(answers, "rb")

    async def send(self, data: bytes) -> None:
        await anyio.to_thread.run_sync(self._asks.write, data)

    async def line(self) -> bytes:
        return (await anyio.to_thread.run_sync(self._answers.readline)).rstrip(b"\n")

    async def end(self) -> None:
        self._asks.close()

    async def rest(self) -> bytes:
        return await anyio.to_thread.run_sync(self._answers.read)

    async def signal(self, number: signal.Signals) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._answers.close()
        self._asks.close()
        os.close(self.server_reads)


@cache
def _server() -> BatchCallServer:
    """One for all scripts, each of which is a connection of its own."""
    return real_server(BACKEND, "full", tempfile.mkdtemp(prefix="batchcall-scripts-"))


async def _ordinary(client: Piped, _script_is_over: anyio.Event) -> None:
    with os.fdopen(client.server_writes, "wb", 0) as writing:
        await serve(_server(), Wire(os.fdopen(client.server_reads, "rb", closefd=False), writing))


async def _fast(client: Piped, is_imported: Callable[[Handover], anyio.Event | None]) -> None:
    handover = Handover(Snapshot(BACKEND, "full"), client.server_reads, client.server_writes)
    try:
        await anyio.to_thread.run_sync(handover.answer_first)
        while (event := is_imported(handover)) is not None:
            with anyio.move_on_after(0.01):
                await event.wait()
        await serve(_server(), Wire(BufferedReader(handover), Written(handover)))
    finally:
        os.close(client.server_writes)


async def _fast_at_once(client: Piped, _script_is_over: anyio.Event) -> None:
    """The server is there as soon as the first lines were answered."""
    await _fast(client, lambda _handover: None)


async def _fast_for_long(client: Piped, script_is_over: anyio.Event) -> None:
    """The server is there when nothing else can answer, or the client has nothing more to say."""
    await _fast(client, lambda handover: None if handover._ended or script_is_over.is_set() else script_is_over)


async def _in_this_process(steps: Sequence[Step], way: Callable[[Piped, anyio.Event], object]) -> list[bytes]:
    client, over = Piped(), anyio.Event()
    with anyio.fail_after(LONGEST_S):
        async with anyio.create_task_group() as group:
            group.start_soon(way, client, over)  # type: ignore[arg-type]
            lines = await transcript(steps, client)
            over.set()
    client.close()
    return lines


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK leaves a stream at the end
@pytest.mark.parametrize("script", SCRIPTS)
async def test_the_transcript_is_the_same_with_it_and_without(script: str) -> None:
    ordinary = await _in_this_process(SCRIPTS[script], _ordinary)
    assert await _in_this_process(SCRIPTS[script], _fast_at_once) == ordinary
    assert await _in_this_process(SCRIPTS[script], _fast_for_long) == ordinary


class Spawned:
    """A client of a process."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        self._process, self._reading = process, BufferedByteReceiveStream(process.stdout)

    async def send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send(data)

    async def line(self) -> bytes:
        return await self._reading.receive_until(b"\n", 10_000_000)

    async def end(self) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.aclose()

    async def rest(self) -> bytes:
        assert self._process.stdout is not None
        return self._reading.buffer + b"".join([part async for part in self._process.stdout])

    async def signal(self, number: signal.Signals) -> None:
        """The end of input, which comes next, must not overtake it: a program between passes the signal on."""
        self._process.send_signal(number)
        await self._process.wait()


@asynccontextmanager
async def _process(environment: Mapping[str, str]) -> AsyncIterator[tuple[anyio.abc.Process, list[bytes]]]:
    """A process, and what it writes to stderr."""
    log: list[bytes] = []
    process = await anyio.open_process(
        forked.program(), env=os.environ | dict(environment), cwd=ROOT, stderr=subprocess.PIPE
    )

    async def read_log() -> None:
        assert process.stderr is not None
        log.extend([part async for part in process.stderr])

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(process)
        group = await stack.enter_async_context(anyio.create_task_group())
        group.start_soon(read_log)
        stack.callback(lambda: process.kill() if process.returncode is None else None)
        yield process, log


async def _in_a_process(steps: Sequence[Step], environment: Mapping[str, str]) -> tuple[list[bytes], int, bool]:
    with anyio.fail_after(LONGEST_S):
        async with _process(environment) as (process, log):
            lines = await transcript(steps, Spawned(process))
            code = await process.wait()
    return lines, code, b"Traceback" in b"".join(log)


@pytest.mark.sweep
@pytest.mark.process
@pytest.mark.parametrize("script", IN_A_PROCESS)
async def test_the_process_is_the_same_with_it_and_without(script: str) -> None:
    steps = (SCRIPTS | SIGNALS)[script]
    fast = await _in_a_process(steps, ACCOUNT)
    assert fast == await _in_a_process(steps, ACCOUNT | {"BATCHCALL_FAST_START": "off"})


def test_there_are_scripts_enough() -> None:
    assert len(SCRIPTS) + len(SIGNALS) >= 64
