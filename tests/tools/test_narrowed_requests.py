"""X-BATCHCALL-MODE narrows one request over HTTP and never widens one, whatever the session was opened with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio.from_thread import BlockingPortal
from mcp import Client, MCPError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from batchcall_mcp.server.transports.http import MCP_PATH, SSE_PATH
from tests.server.test_access import ACCEPT, INITIALIZE
from tests.server.transports import HTTP_WAYS, Way
from tests.tools.desk import FROM_NUMBER, Desk, environment_of, headers_of, opened, settings_of
from tests.tools.test_modes import DIALS, READS

MODE = "X-BATCHCALL-MODE"


class Asking(httpx2.Auth):
    """Puts the mode on each request, if one is asked for now: a client could not change its headers."""

    mode: str | None = None

    def auth_flow(self, request: httpx2.Request) -> Any:
        if self.mode is not None:
            request.headers[MODE] = self.mode
        yield request


@asynccontextmanager
async def _client(url: str, way: Way, pair: Mapping[str, str], asking: Asking) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers=dict(pair), timeout=30, trust_env=False, auth=asking) as http:
        transport = (
            sse_client(url + SSE_PATH, headers=dict(pair), auth=asking)
            if way.transport == "sse"
            else streamable_http_client(url + MCP_PATH, http_client=http)
        )
        async with Client(transport, mode=way.mode) as client:
            yield client


@contextmanager
def asking_desk(
    portal: BlockingPortal, way: Way, home: Path, opened_with: str | None = None, **settings: str
) -> Iterator[tuple[Desk, Asking]]:
    """A client that may ask for another mode with each request; `opened_with`: while it connects."""
    asking = Asking()
    asking.mode = opened_with
    pair = headers_of(settings_of(environment_of(home)))
    with opened(portal, way, home, None, settings, pair) as server:
        assert server.url is not None
        with portal.wrap_async_context_manager(_client(server.url, way, pair, asking)) as client:
            yield Desk(way, portal, client, None, home, server.url), asking


def listed(desk: Desk) -> set[str]:
    return {tool.name for tool in desk.wait(desk.client.list_tools).tools}


@pytest.mark.sweep
@pytest.mark.parametrize("way", HTTP_WAYS, ids=str)
def test_a_session_that_was_opened_without_it_is_narrowed_request_by_request(
    portal: BlockingPortal, way: Way, tmp_path: Path
) -> None:
    with asking_desk(portal, way, tmp_path) as (desk, asking):
        everything = listed(desk)
        draft = desk.draft(desk.people(1))

        asking.mode = "read-only"
        assert listed(desk) == READS
        prompts = {prompt.name for prompt in desk.wait(desk.client.list_prompts).prompts}
        assert prompts == {"plan_batch_call", "report_batch_call"}
        assert desk.call("get_backend")["mode"] == "read-only"
        writes: dict[str, dict[str, Any]] = {
            "create_batch_call": {"from_number": FROM_NUMBER, "tasks": desk.people(1)},
            "start_batch_call": {"batch_call_id": draft, "trigger_timestamp": "now"},
            "cancel_batch_call": {"batch_call_id": draft},
            "export_batch_call": {"batch_call_id": draft},
        }
        for tool, arguments in writes.items():
            text = desk.refused(tool, **arguments)
            assert text.startswith(f"[permission_denied] This request has the header {MODE}: read-only"), tool
        assert desk.status(draft) == "draft"

        asking.mode = "draft"
        assert not listed(desk) & DIALS
        assert desk.refused("start_batch_call", batch_call_id=draft, trigger_timestamp="now").startswith(
            "[permission_denied] "
        )
        text = desk.refused("update_batch_call", batch_call_id=draft, send_now=True)
        assert text.startswith(f"[permission_denied] This request has the header {MODE}: draft")
        assert desk.call("update_batch_call", batch_call_id=draft, name="Still a draft")["result"] == "updated"

        asking.mode = None
        assert listed(desk) == everything
        assert desk.dialled() == []


def test_a_code_that_was_given_before_launches_nothing_in_a_narrowed_request(
    portal: BlockingPortal, tmp_path: Path
) -> None:
    with asking_desk(portal, Way("http", "legacy"), tmp_path) as (desk, asking):
        start = {"batch_call_id": desk.draft(desk.people(1)), "trigger_timestamp": "now"}
        code = desk.call("start_batch_call", **start)["confirmation_code"]
        for mode in ("draft", "read-only"):
            asking.mode = mode
            assert desk.refused("start_batch_call", **start, confirmation_code=code).startswith("[permission_denied] ")
        asking.mode = None
        assert desk.dialled() == []
        assert desk.call("start_batch_call", **start, confirmation_code=code)["result"] == "started"


@pytest.mark.parametrize("way", [Way("http", "auto"), Way("sse", "legacy")], ids=str)
def test_it_never_widens_what_the_operator_allows(portal: BlockingPortal, way: Way, tmp_path: Path) -> None:
    with asking_desk(portal, way, tmp_path, "draft", BATCHCALL_MODE="read-only") as (desk, asking):
        for asking.mode in ("draft", "read-only", None):
            assert listed(desk) == READS
            assert desk.call("get_backend")["mode"] == "read-only"
            text = desk.refused("create_batch_call", from_number=FROM_NUMBER, tasks=desk.people(1))
            assert text.startswith("[invalid_input] There is no tool")


def test_a_mode_that_there_is_not_is_refused_whatever_is_asked(portal: BlockingPortal, tmp_path: Path) -> None:
    pair = headers_of(settings_of(environment_of(tmp_path)))
    unknown = ["full", "readonly", "READ-ONLY", "", "draft, read-only", "draft\u00a0"]
    with opened(portal, Way("http", "auto"), tmp_path, None, {}, pair) as desk:
        for asked in [*([value] for value in unknown), ["read-only", "read-only"]]:
            for method, path in (("POST", MCP_PATH), ("GET", MCP_PATH), ("POST", "/files"), ("GET", "/files")):
                given = [(name.encode(), value.encode()) for name, value in (pair | ACCEPT).items()]
                answer = httpx2.request(
                    method,
                    f"{desk.url}{path}",
                    headers=[*given, *((MODE.encode(), value.encode()) for value in asked)],
                    json=INITIALIZE if method == "POST" else None,
                    trust_env=False,
                )
                assert answer.status_code == 400, asked
                assert "read-only or draft" in answer.json()["error"]["message"]


def test_a_prompt_whose_tool_is_not_offered_is_not_there(portal: BlockingPortal, tmp_path: Path) -> None:
    with asking_desk(portal, Way("http", "auto"), tmp_path) as (desk, asking):
        asking.mode = "read-only"
        with pytest.raises(MCPError, match="There is no prompt"):
            desk.wait(lambda: desk.client.get_prompt("call_back_missed", {"batch_call_id": "bc_1"}))
