"""Strangers with made-up keys cannot lock callers out of a server whose backend is elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import anyio
import httpx2
import pytest
from mcp import Client

from batchcall_mcp.server.app import build_server
from batchcall_mcp.server.credentials import AcceptedPairs, caller_credentials, caller_id
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import Credentials
from tests.server.echo import echo_server
from tests.server.test_access import ACCEPT, INITIALIZE
from tests.server.transports import Way, client_of, served
from tests.vendors.zudu import KEY, OTHER_KEY, OTHER_SECRET, SECRET, Zudu

FIRST = {"X-API-KEY": KEY, "X-API-SECRET": SECRET}
SECOND = {"X-API-KEY": OTHER_KEY, "X-API-SECRET": OTHER_SECRET}
MOST = 6


def stranger(number: int) -> dict[str, str]:
    return {"X-API-KEY": f"made-up-{number}", "X-API-SECRET": "s"}


@asynccontextmanager
async def in_front_of_zudu(**options: Any) -> AsyncIterator[tuple[str, httpx2.AsyncClient, Zudu]]:
    vendor = Zudu()
    async with vendor.served() as backend, httpx2.AsyncClient(timeout=10, trust_env=False) as http:
        settings = Settings(backend="zudu", url=backend)
        async with served(build_server(settings, transport="http"), settings, max_sessions=MOST, **options) as url:
            yield url, http, vendor


async def opened(http: httpx2.AsyncClient, url: str, headers: dict[str, str]) -> httpx2.Response:
    return await http.post(url + "/mcp", headers=ACCEPT | headers, json=INITIALIZE)


async def ping(http: httpx2.AsyncClient, url: str, headers: dict[str, str], session: httpx2.Response) -> int:
    named = {"Mcp-Session-Id": session.headers["mcp-session-id"]}
    body = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    return (await http.post(url + "/mcp", headers=ACCEPT | headers | named, json=body)).status_code


async def fill(http: httpx2.AsyncClient, url: str) -> list[httpx2.Response]:
    sessions = [await opened(http, url, stranger(number)) for number in range(MOST)]
    assert [one.status_code for one in sessions] == [200] * MOST
    return sessions


async def use(client: Client) -> None:
    assert not (await client.call_tool("list_batch_calls", {})).is_error


@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_a_pair_with_an_earlier_success_opens_a_session_among_strangers(
    transport: Literal["http", "sse"],
) -> None:
    way = Way(transport, "legacy")
    with anyio.fail_after(60):
        async with in_front_of_zudu() as (url, http, _), AsyncExitStack() as streams:
            async with client_of(url, way, headers=FIRST) as client:
                await use(client)
            if transport == "http":
                await fill(http, url)
            else:
                for number in range(MOST):
                    await streams.enter_async_context(http.stream("GET", url + "/sse", headers=stranger(number)))
            async with client_of(url, way, headers=FIRST) as client:
                await use(client)


@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_a_new_pair_that_the_backend_accepts_opens_a_session_among_strangers(
    transport: Literal["http", "sse"],
) -> None:
    way = Way(transport, "legacy")
    with anyio.fail_after(60):
        async with in_front_of_zudu() as (url, http, _), AsyncExitStack() as streams:
            if transport == "http":
                await fill(http, url)
            else:
                for number in range(MOST):
                    await streams.enter_async_context(http.stream("GET", url + "/sse", headers=stranger(number)))
            async with client_of(url, way, headers=SECOND) as client:
                await use(client)


async def test_with_the_table_full_one_more_stranger_is_refused_and_ends_nobody_s_session() -> None:
    with anyio.fail_after(60):
        async with in_front_of_zudu() as (url, http, vendor):
            sessions = await fill(http, url)
            assert vendor.requests == []
            refused = await opened(http, url, stranger(MOST))
            assert refused.status_code == 401
            assert "made-up" not in refused.text
            assert "Nothing was sent" in refused.json()["error"]["message"]
            assert [await ping(http, url, stranger(n), one) for n, one in enumerate(sessions)] == [200] * MOST


async def test_the_session_that_was_used_longest_ago_and_is_a_stranger_s_ends_first() -> None:
    with anyio.fail_after(60):
        async with in_front_of_zudu() as (url, http, _):
            async with client_of(url, Way("http", "legacy"), headers=FIRST) as client:
                await use(client)
                sessions = [await opened(http, url, stranger(number)) for number in range(MOST - 1)]
                assert await ping(http, url, stranger(0), sessions[0]) == 200
                assert (await opened(http, url, SECOND)).status_code == 200
                await use(client)
            left = [await ping(http, url, stranger(number), one) for number, one in enumerate(sessions)]
    assert left == [200, 404, *[200] * (MOST - 3)]


async def test_a_table_full_of_callers_whom_the_backend_knows_has_no_room_for_one_more() -> None:
    with anyio.fail_after(60):
        async with in_front_of_zudu(max_sessions_per_caller=MOST) as (url, http, _):
            async with client_of(url, Way("http", "legacy"), headers=FIRST) as client:
                await use(client)
            sessions = [await opened(http, url, FIRST) for _ in range(MOST)]
            refused = await opened(http, url, SECOND)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert "Nothing was sent" in refused.json()["error"]["message"]
            assert [await ping(http, url, FIRST, one) for one in sessions] == [200] * MOST


async def test_a_backend_that_does_not_answer_lets_no_stranger_s_session_be_displaced() -> None:
    with anyio.fail_after(30):
        async with httpx2.AsyncClient(timeout=20, trust_env=False) as http:
            settings = Settings(backend="zudu", url="http://127.0.0.1:9")
            async with served(build_server(settings, transport="http"), settings, max_sessions=MOST) as url:
                sessions = await fill(http, url)
                assert (await opened(http, url, FIRST)).status_code == 503
                assert [await ping(http, url, stranger(n), one) for n, one in enumerate(sessions)] == [200] * MOST


async def test_a_pair_at_its_cap_ends_its_own_oldest_session() -> None:
    settings = Settings.load()
    alice, bob = stranger(1), stranger(2)
    with anyio.fail_after(60):
        async with (
            served(echo_server(settings), settings, max_sessions_per_caller=2) as url,
            httpx2.AsyncClient(timeout=10, trust_env=False) as http,
        ):
            other = await opened(http, url, bob)
            mine = [await opened(http, url, alice) for _ in range(3)]
            assert [one.status_code for one in mine] == [200] * 3
            assert [await ping(http, url, alice, one) for one in mine] == [404, 200, 200]
            assert await ping(http, url, bob, other) == 200


async def test_a_pair_whose_sessions_are_all_in_use_is_refused_at_its_cap() -> None:
    settings = Settings.load()
    alice, bob = stranger(1), stranger(2)
    with anyio.fail_after(60):
        async with (
            served(echo_server(settings), settings, max_sessions_per_caller=1) as url,
            httpx2.AsyncClient(timeout=10, trust_env=False) as http,
        ):
            mine = await opened(http, url, alice)
            named = {"Mcp-Session-Id": mine.headers["mcp-session-id"]}
            async with http.stream("GET", url + "/mcp", headers=ACCEPT | alice | named) as stream:
                assert stream.status_code == 200
                assert (await opened(http, url, alice)).status_code == 429
                assert (await opened(http, url, bob)).status_code == 200
            async with http.stream("GET", url + "/sse", headers=alice):
                assert (await http.get(url + "/sse", headers=alice)).status_code == 429


async def test_a_session_that_its_client_ended_makes_room() -> None:
    settings = Settings.load()
    with anyio.fail_after(60):
        async with (
            served(echo_server(settings), settings, max_sessions=1) as url,
            httpx2.AsyncClient(timeout=10, trust_env=False) as http,
        ):
            for number in range(3):
                session = await opened(http, url, stranger(number))
                assert session.status_code == 200
                named = {"Mcp-Session-Id": session.headers["mcp-session-id"]}
                assert (await http.delete(url + "/mcp", headers=ACCEPT | stranger(number) | named)).status_code == 200


async def test_requests_that_open_nothing_take_no_room() -> None:
    """A refused handshake, and every request of the protocol that has no sessions."""
    settings = Settings.load()
    with anyio.fail_after(60):
        async with (
            served(echo_server(settings), settings, max_sessions=1) as url,
            httpx2.AsyncClient(timeout=10, trust_env=False) as http,
        ):
            for number in range(3):
                assert (
                    await http.post(url + "/mcp", headers=ACCEPT | stranger(number), content=b"{")
                ).status_code == 400
                async with client_of(url, Way("http", "auto"), headers=stranger(number)) as client:
                    assert (await client.call_tool("who_am_i", {"word": "x"})).structured_content
            assert (await opened(http, url, stranger(9))).status_code == 200


async def _never(_credentials: Credentials) -> bool:
    raise AssertionError


def test_the_pairs_that_the_backend_accepted_are_remembered_by_opaque_names_and_only_so_many() -> None:
    settings = Settings.load()
    pairs = [caller_credentials(stranger(number), settings) for number in range(4)]
    accepted = AcceptedPairs(_never, most=2)
    for pair in (pairs[0], pairs[1], pairs[0], pairs[2]):
        accepted.judged(pair, True)
    assert [caller_id(pair) in accepted for pair in pairs] == [True, False, True, False]
    assert "made-up" not in repr(vars(accepted))


async def test_a_pair_that_the_backend_refuses_now_is_a_stranger_s_again() -> None:
    with anyio.fail_after(60):
        async with in_front_of_zudu() as (url, http, vendor):
            async with client_of(url, Way("http", "legacy"), headers=FIRST) as client:
                await use(client)
                vendor.revoked.add(KEY)
                assert (await client.call_tool("list_batch_calls", {})).is_error
            await fill(http, url)
            assert (await opened(http, url, FIRST)).status_code == 401
