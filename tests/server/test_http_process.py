"""`batchcall-mcp serve` as a process: what it tells, and how it ends."""

import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from batchcall_mcp.sockets import bound_socket
from tests import forked
from tests.server.transports import PAIR, ROOT

REST = {"BATCHCALL_URL": "http://127.0.0.1:9", "BATCHCALL_BACKEND": "batchcall"}


@asynccontextmanager
async def serving(*arguments: str) -> AsyncIterator[tuple[Process, str, BufferedByteReceiveStream]]:
    command = [*forked.program(), "serve", "--port", "0", *arguments]
    with anyio.fail_after(60):
        async with await anyio.open_process(
            command, env=dict(os.environ) | REST, cwd=ROOT, stderr=subprocess.PIPE
        ) as process:
            try:
                assert process.stderr is not None
                errors = BufferedByteReceiveStream(process.stderr)
                url = None
                while url is None:
                    line = (await errors.receive_until(b"\n", 10_000)).decode()
                    url = re.search(r"Serving MCP on (http://127\.0\.0\.1:\d+)", line)
                yield process, url.group(1), errors
            finally:
                if process.returncode is None:
                    process.kill()


async def rest(stream: BufferedByteReceiveStream) -> str:
    return b"".join([chunk async for chunk in stream]).decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
async def test_a_signal_ends_it_although_a_stream_is_open(number: signal.Signals, code: int) -> None:
    async with serving("--transport", "both") as (process, url, errors):
        async with httpx2.AsyncClient(timeout=15, trust_env=False) as http:
            assert (await http.get(url + "/healthz")).json() == {"status": "ok"}
            async with http.stream("GET", url + "/sse", headers=PAIR) as stream:
                assert stream.status_code == 200
                process.send_signal(number)
                assert await process.wait() == code
        assert " ERROR " not in await rest(errors)


async def test_no_key_no_entry() -> None:
    async with serving() as (_, url, _errors), httpx2.AsyncClient(timeout=15, trust_env=False) as http:
        answer = await http.post(url + "/mcp", json={})
        assert (answer.status_code, answer.json()["error"]) == (401, "authentication_failed")


def test_a_taken_port_is_one_line() -> None:
    with bound_socket("127.0.0.1", 0) as taken:
        ended = subprocess.run(
            [*forked.program(), "serve", "--port", str(taken.getsockname()[1])],
            cwd=ROOT,
            env=dict(os.environ) | REST,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"batchcall-mcp: Cannot listen on 127\.0\.0\.1:\d+: .*\n", ended.stderr)
