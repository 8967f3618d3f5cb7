"""The operator's side: commands as processes of their own, with and without a terminal, and servers next to them."""

from __future__ import annotations

import os
import pty
import re
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tests import forked
from tests.server.transports import ROOT, spawned
from tests.vendors import magpipe, zudu
from tests.walks.stage import Era, Model, Person

LONGEST_S = 30


def of_zudu(url: str, folder: Path, **others: str) -> dict[str, str]:
    """The variables of a server, or of a command, on a Zudu and with this data folder."""
    account = {"backend": "zudu", "url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET}
    return variables(folder, **account | others)


def of_magpipe(url: str, folder: Path, **others: str) -> dict[str, str]:
    """The same on a Magpipe."""
    account = {"backend": "magpipe", "url": url, "api_key": magpipe.KEY}
    return variables(folder, **account | others)


def variables(folder: Path, **others: str) -> dict[str, str]:
    """BATCHCALL_* variables, named without the prefix."""
    return {f"BATCHCALL_{name.upper()}": value for name, value in {"data_dir": str(folder), **others}.items()}


def unmeasured() -> dict[str, str]:
    """This environment for a process whose files are bounded: coverage writes a file of its own, and would fail."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


@asynccontextmanager
async def serving(environment: dict[str, str], person: Person | None = None, era: Era = "auto") -> AsyncIterator[Model]:
    """A model at a `batchcall-mcp` process over stdio; without a person its client cannot ask."""
    async with spawned(("-m", "batchcall_mcp"), environment, mode=era, elicitation_callback=person) as client:
        yield Model(client)


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


async def command(environment: dict[str, str], *arguments: str, typed: bytes | None = None) -> Ended:
    """Run a command where there is no terminal. `typed` goes into its stdin through a pipe."""
    with anyio.fail_after(LONGEST_S):
        ended = await anyio.run_process(
            [*forked.program(), *arguments],
            input=typed,
            stdin=subprocess.DEVNULL if typed is None else None,
            env=dict(os.environ) | environment,
            cwd=ROOT,
            check=False,
        )
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


class Terminal:
    """A command at a terminal of its own, and the person who reads and types there."""

    def __init__(self, process: Process, ours: int) -> None:
        self._process, self._ours = process, ours
        self.said = ""
        self.code: int | None = None

    async def shows(self, words: str) -> None:
        """Wait until the words are on the screen."""
        with anyio.fail_after(LONGEST_S):
            while words not in self.said:
                await self._read()

    async def types_on(self, line: str) -> None:
        """Type a line, and stay."""
        os.write(self._ours, f"{line}\n".encode())

    async def types(self, line: str) -> int:
        """Type a line, and read on until the command ends with its exit code."""
        await self.types_on(line)
        return await self.ends()

    async def ends(self) -> int:
        """Its exit code."""
        with anyio.fail_after(LONGEST_S), suppress(OSError):  # Linux says EIO when the other side is closed
            while True:
                await self._read()
        with anyio.fail_after(LONGEST_S):
            return await self._process.wait()

    async def _read(self) -> None:
        await anyio.wait_readable(self._ours)
        part = os.read(self._ours, 4096)
        if not part:
            raise OSError("the end")
        self.said += part.decode()


@asynccontextmanager
async def terminal(environment: dict[str, str], *arguments: str) -> AsyncIterator[Terminal]:
    """A command whose stdin, stdout and stderr are a real pseudo-terminal."""
    ours, theirs = pty.openpty()
    try:
        process = await anyio.open_process(
            [*forked.program(), *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=dict(os.environ) | environment,
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(theirs)
        async with process:
            try:
                yield Terminal(process, ours)
            finally:
                if process.returncode is None:
                    process.kill()
    finally:
        os.close(ours)


@asynccontextmanager
async def dialling(environment: dict[str, str]) -> AsyncIterator[str]:
    """The URL of a `batchcall-mcp dialer` process."""
    process = await anyio.open_process(
        [*forked.program(), "dialer", "--port", "0"],
        env=dict(os.environ) | environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    async with process:
        try:
            assert process.stderr is not None
            lines = BufferedByteReceiveStream(process.stderr)
            found = None
            with anyio.fail_after(LONGEST_S):
                while found is None:
                    found = re.search(r"http://127\.0\.0\.1:\d+", (await lines.receive_until(b"\n", 10_000)).decode())
            yield found[0]
        finally:
            if process.returncode is None:
                process.kill()


def aged(folder: Path) -> None:
    """What was launched, as the ledger in a data folder has it, was launched ten minutes earlier."""
    with closing(sqlite3.connect(folder / "ledger.db")) as connection, connection:
        connection.execute("UPDATE writes SET settled_at = settled_at - 600000, sent_at = sent_at - 600000")
