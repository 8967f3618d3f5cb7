"""Whatever a client sends, it gets the same as without the fast start: the same lines, and the same end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from tests import forked
from tests.fast_start.scripts import END, SCRIPTS, Step
from tests.server.transports import ROOT

LONGEST_S = 60
ACCOUNT = {"BATCHCALL_BACKEND": "zudu", "BATCHCALL_API_KEY": "key-1", "BATCHCALL_API_SECRET": "secret-1"}


async def transcript(steps: Sequence[Step], environment: Mapping[str, str]) -> tuple[list[bytes], int, bytes]:
    """All lines that a process wrote (those that came together in one order), its exit code, and what it logged."""
    lines: list[bytes] = []
    process = await anyio.open_process(
        forked.program(), env=os.environ | dict(environment), cwd=ROOT, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    log = b""

    async def read_log() -> None:
        nonlocal log
        async for part in process.stderr:  # type: ignore[union-attr]
            log += part

    with anyio.fail_after(LONGEST_S):
        async with process, anyio.create_task_group() as group:
            group.start_soon(read_log)
            reading = BufferedByteReceiveStream(process.stdout)
            try:
                for step in steps:
                    if isinstance(step, bytes):
                        await process.stdin.send(step)
                    elif isinstance(step, signal.Signals):
                        process.send_signal(step)
                    elif step == END:
                        await process.stdin.aclose()
                    else:
                        together = []
                        while len(lines) + len(together) < int(step):
                            together.append(await reading.receive_until(b"\n", 10_000_000))
                        lines += sorted(together)
                await process.stdin.aclose()
                rest = bytes(reading.buffer) + b"".join([part async for part in process.stdout])
                code = await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
    return [*lines, *sorted(rest.splitlines())], code, log


@pytest.mark.parametrize("script", SCRIPTS)
async def test_the_transcript_is_the_same_with_it_and_without(script: str) -> None:
    fast, fast_code, fast_log = await transcript(SCRIPTS[script], ACCOUNT)
    ordinary, code, log = await transcript(SCRIPTS[script], ACCOUNT | {"BATCHCALL_FAST_START": "off"})
    assert fast == ordinary
    assert fast_code == code
    assert (b"Traceback" in fast_log) == (b"Traceback" in log), fast_log.decode()


def test_there_are_scripts_enough() -> None:
    assert len(SCRIPTS) >= 64
