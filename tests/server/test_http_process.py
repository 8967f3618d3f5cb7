"""`batchcall-mcp serve` as a process: what it tells, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import httpx2
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult

from batchcall_mcp.sockets import bound_socket
from tests import forked
from tests.guard.test_replicas import TASKS, ZUDU
from tests.server.between import Between, between
from tests.server.test_access import ACCEPT, INITIALIZE
from tests.server.transports import FROM_NOTHING, PAIR, ROOT, Way, client_of
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Thinking

REST = {"BATCHCALL_URL": "http://127.0.0.1:9", "BATCHCALL_BACKEND": "batchcall"}


@asynccontextmanager
async def serving(*arguments: str, **variables: str) -> AsyncIterator[tuple[Process, str, BufferedByteReceiveStream]]:
    command = [*forked.program(), "serve", "--port", "0", *arguments]
    environment = REST | {f"BATCHCALL_{name.upper()}": value for name, value in variables.items()}
    with anyio.fail_after(60):
        async with await anyio.open_process(
            command, env=dict(os.environ) | environment, cwd=ROOT, stderr=subprocess.PIPE
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


async def test_who_only_listens_is_not_waited_for() -> None:
    """A client of 2026 listens with a POST, as long as it runs."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    listen = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    headers = ACCEPT | PAIR | {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    async with (
        serving("--drain-seconds", "3600") as (process, url, _),
        httpx2.AsyncClient(timeout=15, trust_env=False) as http,
        http.stream("POST", url + "/mcp", headers=headers, json=listen) as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM


@asynccontextmanager
async def with_a_call_under_way(
    way: Way, *arguments: str
) -> AsyncIterator[tuple[Process, str, BufferedByteReceiveStream, Between, list[CallToolResult]]]:
    """A server at which a read waits for the backend, which holds its answer. The list gets what the read gets."""
    results: list[CallToolResult] = []
    async with Zudu().served() as backend, between([backend], holds=True) as held:
        options = ("--transport", "both", *arguments)
        async with serving(*options, backend="zudu", url=held.url) as (process, url, errors):

            async def read() -> None:
                async with client_of(url, way, headers=ZUDU) as client:
                    await client.list_tools()
                    with suppress(MCPError):  # where it is cut off
                        results.append(await client.call_tool("list_batch_calls", {}))

            async with anyio.create_task_group() as calls:
                calls.start_soon(read)
                await held.asked.wait()
                yield process, url, errors, held, results


async def until_it_ends(http: httpx2.AsyncClient, url: str) -> httpx2.Response:
    """Ask whether it is ready until it says that it is being stopped."""
    while (answer := await http.get(url + "/readyz")).status_code == 200:
        assert answer.json() == {"status": "ready"}
    return answer


@pytest.mark.parametrize("way", [Way("http", "auto"), Way("http", "legacy"), Way("sse", "legacy")], ids=str)
async def test_an_answer_that_is_under_way_gets_out_and_nothing_new_gets_in(way: Way) -> None:
    async with httpx2.AsyncClient(timeout=15, trust_env=False) as http:
        async with with_a_call_under_way(way) as (process, url, errors, held, results):
            process.send_signal(signal.SIGTERM)
            ending = await until_it_ends(http, url)
            assert (ending.status_code, ending.json()) == (503, {"status": "not_ready", "because": "stopping"})
            refused = await http.post(url + "/mcp", headers=ACCEPT | ZUDU, json=INITIALIZE)
            assert (refused.status_code, int(refused.headers["retry-after"])) == (503, 10)
            assert "Nothing was sent" in refused.json()["error"]["message"]
            assert (await http.get(url + "/files", headers=ZUDU)).status_code == 503
            assert (await http.get(url + "/healthz")).status_code == 200
            held.go_on.set()
            assert await process.wait() == -signal.SIGTERM
            log = await rest(errors)
        assert [one.is_error for one in results] == [False]
        assert " ERROR " not in log


async def test_a_call_that_does_not_end_is_cut_off() -> None:
    way = Way("http", "auto")
    async with with_a_call_under_way(way, "--drain-seconds", "0") as (process, _, errors, _, results):
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
        assert "1 still under way after 0 s, cut off" in await rest(errors)
    assert results == []


async def test_a_second_signal_waits_for_nothing() -> None:
    async with (
        httpx2.AsyncClient(timeout=15, trust_env=False) as http,
        with_a_call_under_way(Way("http", "auto")) as (process, url, _, _, results),
    ):
        process.send_signal(signal.SIGTERM)
        await until_it_ends(http, url)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
    assert results == []


async def test_a_person_who_was_asked_before_the_signal_can_still_answer() -> None:
    vendor, person, way = Zudu(), Thinking("yes"), Way("http", "legacy")
    async with (
        httpx2.AsyncClient(timeout=15, trust_env=False) as http,
        vendor.served() as backend,
        serving(backend="zudu", url=backend, calling_hours="00:00-24:00") as (process, url, _),
        client_of(url, way, headers=ZUDU, elicitation_callback=person) as client,
    ):

        async def it_is_stopped() -> None:
            process.send_signal(signal.SIGTERM)
            await until_it_ends(http, url)

        await client.list_tools()
        made = await client.call_tool("create_batch_call", {"from_number": FROM, "tasks": TASKS})
        name = (made.structured_content or {})["batch_call"]["batch_call_id"]
        person.meanwhile = it_is_stopped
        started = await client.call_tool("start_batch_call", {"batch_call_id": name, "trigger_timestamp": "now"})
        assert (started.structured_content or {})["result"] == "started"
        assert await process.wait() == -signal.SIGTERM
    assert len(vendor.dialled) == len(TASKS)


async def test_totals_are_shown_to_this_machine_on_a_port_of_their_own() -> None:
    async with (
        Zudu().served() as backend,
        serving("--metrics-port", "0", backend="zudu", url=backend) as (_, url, errors),
        httpx2.AsyncClient(timeout=15, trust_env=False) as http,
    ):
        found = None
        while found is None:
            line = (await errors.receive_until(b"\n", 10_000)).decode()
            found = re.search(r"Metrics on (http://127\.0\.0\.1:\d+/metrics)", line)
        async with client_of(url, Way("http", "legacy"), headers=ZUDU) as client:
            await client.call_tool("list_batch_calls", {})
            shown = await http.get(found[1])
            assert 'tool_calls_total{result="ok",tool="list_batch_calls"} 1.0' in shown.text
            assert "batchcall_mcp_sessions 1.0" in shown.text
        assert shown.headers["content-type"].startswith("text/plain; version=")
        assert (await http.get(found[1], headers={"Host": "evil.example"})).status_code == 421
        assert (await http.get(url + "/metrics", headers=ZUDU)).status_code == 404


async def test_sse_is_said_to_be_deprecated_where_it_is_served() -> None:
    async with serving("--transport", "sse") as (_, _, errors):
        assert "SSE (/sse) is deprecated" in (await errors.receive_until(b"\n", 10_000)).decode()


async def test_every_line_of_a_log_in_json_is_one_object() -> None:
    command = [*forked.program(), "serve", "--port", "0"]
    environment = dict(os.environ) | REST | {"BATCHCALL_LOG_FORMAT": "json"}
    async with await anyio.open_process(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        errors = BufferedByteReceiveStream(process.stderr)
        lines = [await errors.receive_until(b"\n", 10_000)]
        process.terminate()
        lines += (await rest(errors)).encode().splitlines()
    written = [json.loads(line) for line in lines]
    assert "Serving MCP on http://127.0.0.1:" in written[0]["message"]
    assert {"time", "level", "logger", "message"} <= set.union(*map(set, written))


async def test_a_server_that_waits_has_imported_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", *FROM_NOTHING, "serve", "--port", "0"]
    async with (
        await anyio.open_process(command, env=dict(os.environ) | REST, cwd=ROOT, stderr=subprocess.PIPE) as process,
        httpx2.AsyncClient(timeout=15, trust_env=False) as http,
    ):
        assert process.stderr is not None
        errors, url, imported = BufferedByteReceiveStream(process.stderr), None, set[str]()
        with anyio.fail_after(60):
            while url is None:
                line = (await errors.receive_until(b"\n", 10_000)).decode()
                imported.add(line.rpartition("|")[2].strip().partition(".")[0])
                url = re.search(r"Serving MCP on (http://127\.0\.0\.1:\d+)", line)
            assert (await http.get(url[1] + "/readyz")).json() == {"status": "ready"}
            process.terminate()
            imported |= {
                line.rpartition("|")[2].strip().partition(".")[0] for line in (await rest(errors)).splitlines()
            }
    assert {"mcp", "uvicorn", "sqlite3"} <= imported
    assert not imported & {"sqlalchemy", "alembic", "fastapi", "pygments", "prometheus_client", "phonenumbers"}


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
