"""Which requests go on over HTTP, and what is counted of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import MCPError
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult

from batchcall_mcp.dialer.rest.rate_limiter import Limiter
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.server.app import BatchCallServer, build_server
from batchcall_mcp.server.tools.tool_calls import CODES
from batchcall_mcp.server.transports.metrics import Metrics
from batchcall_mcp.server.transports.sessions import Bounded
from batchcall_mcp.server.transports.traffic import STOPS, Traffic, may_not_wait
from batchcall_mcp.settings import Settings
from tests.guard.test_replicas import TASKS, ZUDU
from tests.server.test_access import ACCEPT, INITIALIZE
from tests.server.transports import Way, client_of, every_http_way, served
from tests.vendors.zudu import OTHER_KEY, OTHER_SECRET, Zudu
from tests.walks.stage import FROM, Person

ANOTHER = {"X-API-KEY": OTHER_KEY, "X-API-SECRET": OTHER_SECRET}
HOUR_S = 3600
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def zudu_server(url: str, **more: Any) -> tuple[BatchCallServer, Settings]:
    settings = Settings(backend="zudu", url=url, calling_hours="00:00-24:00", **more)
    return build_server(settings, transport="http"), settings


def call_of(name: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        *map(call_of, sorted(STOPS)),
        b'{"jsonrpc": "2.0", "id": 7, "result": {"action": "accept"}}',
        b'{"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "no"}}',
        b'{"jsonrpc": "2.0", "method": "notifications/cancelled"}',
    ],
)
def test_what_stops_calls_answers_or_cancels_may_not_wait(body: bytes) -> None:
    assert may_not_wait(body)


@pytest.mark.parametrize(
    "body",
    [
        *map(call_of, ["start_batch_call", "resume_batch_call", None, ["pause_batch_call"]]),
        b'{"jsonrpc": "2.0", "id": 1, "method": "pause_batch_call"}',
        b"[" * 100_000,
        b"{}",
        b"",
    ],
)
def test_everything_else_may(body: bytes) -> None:
    assert not may_not_wait(body)


@given(st.binary(max_size=300))
def test_any_body_is_judged(body: bytes) -> None:
    may_not_wait(body)


@pytest.mark.sweep
@every_http_way
async def test_too_many_requests_of_one_caller_are_429_and_stops_go_on(way: Way) -> None:
    vendor, person = Zudu(), Person("yes")
    with anyio.fail_after(60):
        async with vendor.served() as backend, httpx2.AsyncClient(timeout=10, trust_env=False) as http:
            server, settings = zudu_server(backend)
            limiter = Limiter(12, HOUR_S)
            async with (
                served(server, settings, way=way, limiter=limiter) as url,
                client_of(url, way, headers=ZUDU, elicitation_callback=person) as client,
            ):
                await client.list_tools()
                made = await client.call_tool("create_batch_call", {"from_number": FROM, "tasks": TASKS})
                name = {"batch_call_id": (made.structured_content or {})["batch_call"]["batch_call_id"]}
                path = "/sse" if way.transport == "sse" else "/mcp"
                while True:
                    answer = await http.post(url + path, headers=ACCEPT | ZUDU, json=PING)
                    if answer.status_code == 429:
                        break
                assert 1 <= int(answer.headers["retry-after"]) <= HOUR_S
                error = answer.json()
                assert (error["jsonrpc"], error["id"]) == ("2.0", None)
                assert "[rate_limited] Too many requests: at most 12 in 3600 s" in error["error"]["message"]
                assert ZUDU["X-API-KEY"] not in answer.text
                if way.transport != "sse":  # where mcp's own client waits for ever for what was refused
                    with pytest.raises(MCPError):
                        await client.call_tool("list_batch_calls", {})
                assert (await http.get(url + "/healthz")).status_code == 200
                assert (await http.get(url + "/readyz")).status_code == 200

                stopped = await client.call_tool("cancel_batch_call", name)
                assert not stopped.is_error, stopped.content

                async with client_of(url, way, headers=ANOTHER) as other:
                    assert not (await other.call_tool("list_batch_calls", {})).is_error


async def test_while_it_ends_only_what_may_not_wait_goes_on() -> None:
    vendor, traffic = Zudu(), Traffic()
    with anyio.fail_after(60):
        async with vendor.served() as backend, httpx2.AsyncClient(timeout=10, trust_env=False) as http:
            server, settings = zudu_server(backend)
            async with (
                served(server, settings, traffic=traffic) as url,
                client_of(url, Way("http", "auto"), headers=ZUDU) as client,
            ):
                await client.list_tools()
                made = await client.call_tool("create_batch_call", {"from_number": FROM, "tasks": TASKS})
                traffic.ending = True
                ready = await http.get(url + "/readyz")
                assert (ready.status_code, ready.json()["because"]) == (503, "stopping")
                for method, path in (("POST", "/mcp"), ("GET", "/mcp"), ("GET", "/sse"), ("GET", "/files")):
                    refused = await http.request(method, url + path, headers=ACCEPT | ZUDU, json=INITIALIZE)
                    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
                assert (await http.get(url + "/files", headers=ZUDU)).json()["error"] == "stopping"
                name = (made.structured_content or {})["batch_call"]["batch_call_id"]
                stopped = await client.call_tool("cancel_batch_call", {"batch_call_id": name})
                assert not stopped.is_error, stopped.content
            assert traffic.under_way == 0


async def test_readiness_is_the_ledger_s_and_not_the_backend_s(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchcall_mcp.server.transports.readiness._HOLDS_S", 0.0)
    server, settings = zudu_server("http://127.0.0.1:9", data_dir=tmp_path / "data")
    async with (
        served(server, settings) as url,
        httpx2.AsyncClient(timeout=10, trust_env=False) as http,
    ):

        async def ready() -> tuple[int, Any]:
            answer = await http.get(url + "/readyz")
            return answer.status_code, answer.json()

        well = (200, {"status": "ready"})
        assert await ready() == well, "a new folder can be made"
        assert not (tmp_path / "data" / "ledger.db").exists(), "and a look makes nothing"
        await server.service.ledger()
        assert await ready() == well
        (tmp_path / "data" / "ledger.db").rename(tmp_path / "moved.db")
        assert await ready() == (503, {"status": "not_ready", "because": "ledger"})
        assert "was deleted, moved or replaced" in caplog.text
        (tmp_path / "moved.db").rename(tmp_path / "data" / "ledger.db")
        assert await ready() == well


async def test_a_file_that_is_not_a_ledger_is_not_ready_and_said_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ledger.db").write_text("this is a list of customers")
    server, settings = zudu_server("http://127.0.0.1:9", data_dir=tmp_path)
    async with served(server, settings) as url, httpx2.AsyncClient(timeout=10, trust_env=False) as http:
        assert (await http.get(url + "/readyz")).status_code == 503
    assert "ledger" in caplog.text
    assert "customers" not in caplog.text
    with pytest.raises(ConfigurationError):
        await server.service.ledger()


async def test_the_totals_hold_no_caller_no_number_and_no_word_of_a_caller() -> None:
    vendor, person, way = Zudu(), Person("yes"), Way("http", "legacy")
    vendor.revoked.add(OTHER_KEY)
    open_now: list[Bounded] = []
    seen: list[str] = []
    with anyio.fail_after(60):
        async with vendor.served() as backend:
            server, settings = zudu_server(backend)
            metrics = Metrics(server, server.service, open_now)

            async def look() -> None:
                seen.append(metrics.text().decode())

            async with (
                served(server, settings, open_now=open_now) as url,
                client_of(url, way, headers=ZUDU, elicitation_callback=person) as client,
                client_of(url, way, headers=ANOTHER) as refused,
            ):
                made = await client.call_tool("create_batch_call", {"from_number": FROM, "tasks": TASKS})
                name = (made.structured_content or {})["batch_call"]["batch_call_id"]
                await client.call_tool("start_batch_call", {"batch_call_id": name, "trigger_timestamp": "now"})
                await client.call_tool("get_batch_call", {"batch_call_id": "+14155550123"})
                await client.call_tool("call_+14155550123", {})
                await refused.call_tool("list_batch_calls", {})
                await look()
    (text,) = seen
    for line in (
        'tool_calls_total{result="ok",tool="create_batch_call"} 1.0',
        'tool_calls_total{result="not_found",tool="get_batch_call"} 1.0',
        'tool_calls_total{result="invalid_input",tool="unknown"} 1.0',
        'tool_calls_total{result="authentication_failed",tool="list_batch_calls"} 1.0',
        'tool_call_seconds_count{tool="start_batch_call"} 1.0',
        'backend_errors_total{kind="not_found"} 1.0',
        'backend_errors_total{kind="authentication_failed"} 1.0',
        'backend_errors_total{kind="backend_unavailable"} 0.0',
        "sessions 2.0",
        "questions_waiting 0.0",
        "tool_calls_under_way 0.0",
    ):
        assert f"batchcall_mcp_{line}" in text
    labels = set(re.findall(r'(\w+)="([^"]*)"', text))
    words = {*server.tool_names, "unknown", *CODES, "internal_error", "ok", "asked"}
    assert {value for label, value in labels if label not in {"le", "version"}} <= words
    for private in ("5550", "org_", name, *ZUDU.values(), *ANOTHER.values()):
        assert private not in text


async def test_a_question_that_waits_is_counted_while_it_does() -> None:
    vendor, way = Zudu(), Way("http", "legacy")
    async with vendor.served() as backend:
        server, settings = zudu_server(backend)
        metrics = Metrics(server, server.service, [])
        waiting: list[str] = []

        class Looks(Person):
            async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
                waiting.append(metrics.text().decode())
                return await super().__call__(context, params)

        async with (
            served(server, settings) as url,
            client_of(url, way, headers=ZUDU, elicitation_callback=Looks("no")) as client,
        ):
            made = await client.call_tool("create_batch_call", {"from_number": FROM, "tasks": TASKS})
            name = (made.structured_content or {})["batch_call"]["batch_call_id"]
            await client.call_tool("start_batch_call", {"batch_call_id": name, "trigger_timestamp": "now"})
        assert "batchcall_mcp_questions_waiting 1.0" in waiting[0]
        assert "batchcall_mcp_tool_calls_under_way 1.0" in waiting[0]
        assert "batchcall_mcp_questions_waiting 0.0" in metrics.text().decode()
    assert vendor.dialled == []
