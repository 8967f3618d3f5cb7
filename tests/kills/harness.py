"""A tool call that dies, the same tool call again, and a judge who counts what the backend was asked to do."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from subprocess import PIPE
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tests import forked
from tests.server.transports import ROOT

_LONGEST_LINE = 4 * 1024 * 1024


@dataclass(frozen=True)
class Told:
    """What became of a call; all of it empty if its process was killed."""

    killed: bool
    error: bool = False
    text: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0

    @property
    def code(self) -> str:
        """Of an error."""
        return self.text[1 : self.text.index("]")] if self.error and self.text.startswith("[") else ""


class Zygote:
    """The process that forks; `pid` is the child that is at work."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._stdout = BufferedByteReceiveStream(process.stdout)
        self.pid = 0

    async def run(self, job: Mapping[str, Any]) -> Told:
        """One job, to its end or its death."""
        await self._stdin.send(json.dumps(job).encode() + b"\n")
        self.pid = (await self._line())["pid"]
        end = await self._line()
        self.pid = 0
        return Told(True) if end["told"] is None else Told(end["killed"], **end["told"])

    def kill(self) -> None:
        """Kill the child at work, as a machine that loses its power does."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    async def _line(self) -> dict[str, Any]:
        with anyio.fail_after(90):
            line: dict[str, Any] = json.loads(await self._stdout.receive_until(b"\n", _LONGEST_LINE))
        return line


@asynccontextmanager
async def zygote() -> AsyncIterator[Zygote]:
    """One that is ready. Not measured for coverage: its children use the tracer, and die."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "BATCHCALL_"))}
    command = [*forked.program(), "-m", "tests.kills.zygote"]
    async with await anyio.open_process(
        command, stdin=PIPE, stdout=PIPE, stderr=None, cwd=ROOT, env=environment
    ) as process:
        made = Zygote(process)
        await made._line()
        yield made
        process.kill()
