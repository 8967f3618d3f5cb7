"""Callers do not cross: a session, a question and a result belong to the key pair that they began with."""

from collections import Counter
from typing import Literal

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client import ClientRequestContext
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, InputRequiredResult

from batchcall_mcp.server.credentials import caller_credentials, caller_id
from batchcall_mcp.settings import Settings
from tests.sampling import EVERYTHING
from tests.server.echo import echo_server
from tests.server.test_access import ACCEPT, INITIALIZE
from tests.server.transports import MODES, Way, client_of, served

ALICE = {"X-API-KEY": "alice", "X-API-SECRET": "a"}
BOB = {"X-API-KEY": "bob", "X-API-SECRET": "b"}
IN_A_ROW = 125 if EVERYTHING else 10
"""Calls of each of eight at once: two callers in two eras, twice each."""
STRANGERS = [BOB, {"X-API-KEY": "alice", "X-API-SECRET": "b"}, {"X-API-KEY": "bob", "X-API-SECRET": "a"}]


def caller(headers: dict[str, str]) -> str:
    return caller_id(caller_credentials(headers, Settings.load()))


@pytest.mark.sweep
@pytest.mark.parametrize("transport", ["http", "stateless", "sse"])
async def test_mixed_calls_of_two_callers_in_two_eras_never_cross(
    transport: Literal["http", "stateless", "sse"],
) -> None:
    settings = Settings.load()
    answered: Counter[tuple[str, bool]] = Counter()

    async def talk(url: str, way: Way, headers: dict[str, str]) -> None:
        async def call(client: Client, numbers: range) -> None:
            for number in numbers:
                word = f"{headers} {way} {number}"
                answer = (await client.call_tool("who_am_i", {"word": word})).structured_content or {}
                answered[answer["caller"], answer["word"] == word] += 1
                assert answer["caller"] == caller(headers)

        async with client_of(url, way, headers=headers) as client, anyio.create_task_group() as calls:
            for start in (0, IN_A_ROW):
                calls.start_soon(call, client, range(start, start + IN_A_ROW))

    with anyio.fail_after(60):
        async with (
            served(echo_server(settings), settings, way=Way(transport, "auto")) as url,
            anyio.create_task_group() as tasks,
        ):
            for mode in MODES:
                for headers in (ALICE, BOB):
                    tasks.start_soon(talk, url, Way(transport, mode), headers)
    assert answered == {(caller(ALICE), True): 4 * IN_A_ROW, (caller(BOB), True): 4 * IN_A_ROW}


@pytest.mark.parametrize("stranger", STRANGERS, ids=["another pair", "another secret", "another key"])
async def test_a_stranger_cannot_post_into_read_or_end_a_session(stranger: dict[str, str]) -> None:
    settings = Settings.load()
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    with anyio.fail_after(60):
        async with (
            served(echo_server(settings), settings, transport="http") as url,
            httpx2.AsyncClient(timeout=10, trust_env=False) as http,
        ):
            opened = await http.post(url + "/mcp", headers=ACCEPT | ALICE, json=INITIALIZE)
            session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
            headers = ACCEPT | stranger | session
            assert (await http.post(url + "/mcp", headers=headers, json=ping)).status_code == 404
            assert (await http.get(url + "/mcp", headers=headers)).status_code == 404
            assert (await http.delete(url + "/mcp", headers=headers)).status_code == 404
            assert (await http.post(url + "/mcp", headers=ACCEPT | ALICE | session, json=ping)).status_code == 200
            assert (await http.delete(url + "/mcp", headers=ACCEPT | ALICE | session)).status_code == 200
            assert (await http.post(url + "/mcp", headers=ACCEPT | ALICE | session, json=ping)).status_code == 404


@pytest.mark.parametrize("stranger", STRANGERS, ids=["another pair", "another secret", "another key"])
async def test_a_stranger_cannot_post_into_an_sse_connection(stranger: dict[str, str]) -> None:
    settings = Settings.load()
    with anyio.fail_after(60):
        async with (
            served(echo_server(settings), settings, transport="sse") as url,
            httpx2.AsyncClient(timeout=10, trust_env=False) as http,
            http.stream("GET", url + "/sse", headers=ALICE) as stream,
        ):
            lines = stream.aiter_lines()
            async for line in lines:
                if line.startswith("data: "):
                    break
            messages = url + line.removeprefix("data: ")
            assert (await http.post(messages, headers=ACCEPT | stranger, json=INITIALIZE)).status_code == 404
            assert (await http.post(messages, headers=ACCEPT | ALICE, json=INITIALIZE)).status_code == 202
            async for line in lines:
                if line.startswith("data: "):
                    break
            assert '"serverInfo"' in line


@pytest.mark.parametrize("transport", ["http", "stateless", "sse"])
async def test_only_the_caller_who_was_asked_can_answer(transport: Literal["http", "stateless", "sse"]) -> None:
    settings = Settings.load()
    way = Way(transport, "auto")

    async def nobody(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        raise AssertionError

    yes = ElicitResult(action="accept", content={"yes": True})
    with anyio.fail_after(60):
        async with (
            served(echo_server(settings), settings, way=way) as url,
            client_of(url, way, headers=ALICE, elicitation_callback=nobody) as alice,
            client_of(url, way, headers=BOB, elicitation_callback=nobody) as bob,
        ):
            asked = await alice.session.call_tool("ask", {}, allow_input_required=True)
            assert isinstance(asked, InputRequiredResult)
            with pytest.raises(MCPError, match="Invalid or expired requestState"):
                await bob.session.call_tool(
                    "ask", {}, input_responses={"go": yes}, request_state=asked.request_state, allow_input_required=True
                )
            done = await alice.session.call_tool(
                "ask", {}, input_responses={"go": yes}, request_state=asked.request_state, allow_input_required=True
            )
            assert isinstance(done, CallToolResult)
            assert (done.structured_content or {})["word"] == "asked"


def test_a_caller_id_reveals_nothing_and_keeps_key_and_secret_apart() -> None:
    settings = Settings.load()
    ids = {
        caller_id(caller_credentials({"X-API-KEY": key, "X-API-SECRET": secret}, settings))
        for key, secret in (("ab", "c"), ("a", "bc"), ("a", "b"), ("1:a", "b"))
    }
    assert len(ids) == 4
    assert all(len(one) == 64 for one in ids)


def test_a_secret_is_ignored_where_the_backend_has_none() -> None:
    settings = Settings.load()
    alone = caller_credentials({"X-API-KEY": "k"}, settings, needs_secret=False)
    with_secret = caller_credentials({"X-API-KEY": "k", "X-API-SECRET": "s"}, settings, needs_secret=False)
    assert alone == with_secret
