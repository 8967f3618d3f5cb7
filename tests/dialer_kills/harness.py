"""Dialling processes of a test: started in a moment by forking, killed, stopped, and waited for."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from tests import forked
from tests.server.transports import ROOT

FAST: dict[str, Any] = {"simulated_speed": 400.0, "poll_seconds": 0.05, "beat_seconds": 0.2}
_NUMBERS = itertools.count(1)


class Dialling:
    """One process that dials. `status` is its exit code as soon as it has ended."""

    def __init__(self, pid: int, log: Path, close: Any) -> None:
        self.pid = pid
        self.log = log
        self.ended = asyncio.Event()
        self.status: int | None = None
        self._close = close

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    async def gone(self) -> int:
        with anyio.fail_after(60):
            await self.ended.wait()
        assert self.status is not None
        return self.status

    async def close(self) -> None:
        """End it as an operator does."""
        self._close()
        assert await self.gone() == 0, self.said()

    def said(self) -> str:
        """Its log."""
        return self.log.read_text() if self.log.exists() else ""

    def passed(self) -> dict[str, int]:
        """How many lines it passed in each place; it has closed."""
        counted: dict[str, int] = json.loads(self.log.with_suffix(".passed").read_text())
        return counted


class Zygote:
    """The process that forks."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self.living: dict[int, Dialling] = {}
        self._started: asyncio.Queue[int] = asyncio.Queue()
        self._starting = asyncio.Lock()
        self._log = Path()

    async def ready(self) -> None:
        with anyio.fail_after(60):
            assert json.loads(await self._stdout.readline()) == {"ready": True}

    async def start(
        self, data_dir: Path, place: str | None = None, at: int = 0, *, counted: Iterable[str] = (), **options: Any
    ) -> Dialling:
        """A process that dials. It dies at line number `at` of `place`, or counts the lines of each of `counted`."""
        log = data_dir / f"process-{next(_NUMBERS)}.log"
        job: dict[str, Any] = {"data_dir": str(data_dir), "log": str(log), "options": FAST | options}
        if place is not None:
            job |= {"places": [place], "at": at}
        elif counted:
            job["places"] = list(counted)
        async with self._starting:
            self._log = log
            self._say(job)
            with anyio.fail_after(60):
                pid = await self._started.get()
        return self.living[pid]

    def kill(self) -> None:
        """Whoever lives yet."""
        for one in self.living.values():
            one.kill()

    async def listen(self) -> None:
        """Hear what becomes of the children."""
        while line := await self._stdout.readline():
            heard = json.loads(line)
            if "started" in heard:
                pid = heard["started"]
                self.living[pid] = Dialling(pid, self._log, lambda pid=pid: self._say({"close": pid}))
                self._started.put_nowait(pid)
            else:
                one = self.living.pop(heard["ended"])
                one.status = heard["status"]
                one.ended.set()

    def _say(self, asked: dict[str, Any]) -> None:
        self._stdin.write(json.dumps(asked).encode() + b"\n")


@asynccontextmanager
async def zygote() -> AsyncIterator[Zygote]:
    """One that is ready. Not measured for coverage: its children use the tracer, and die."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "BATCHCALL_"))}
    process = await asyncio.create_subprocess_exec(
        *forked.program(), "-m", "tests.dialer_kills.zygote", stdin=PIPE, stdout=PIPE, cwd=ROOT, env=environment
    )
    made = Zygote(process)
    await made.ready()
    listening = asyncio.create_task(made.listen())
    try:
        yield made
    finally:
        made.kill()
        process.kill()
        await process.wait()
        await listening
