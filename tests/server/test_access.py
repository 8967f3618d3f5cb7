"""Who gets in over HTTP."""

from collections.abc import AsyncIterator

import anyio
import httpx2
import pytest
from anyio import wait_all_tasks_blocked
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from batchcall_mcp.errors import BackendUnavailable, ConfigurationError
from batchcall_mcp.server.transports.access import allowed_hosts, host_is_allowed
from batchcall_mcp.settings import Settings
from batchcall_mcp.sockets import bound_socket
from batchcall_mcp.vendor_http.client import Credentials
from tests.faults.server import time_passes
from tests.server.echo import echo_server
from tests.server.transports import PAIR, served

ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
KEY, SECRET = "X-API-KEY", "X-API-SECRET"


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
        yield client


UNUSABLE = [
    ({}, "X-API-KEY is missing"),
    ({KEY: "k"}, "X-API-SECRET is missing"),
    ({SECRET: "s"}, "X-API-KEY is missing"),
    ({KEY: "", SECRET: "s"}, "X-API-KEY is blank"),
    ({KEY: "k", SECRET: ""}, "X-API-SECRET is blank"),
    ({KEY: "${API_KEY}", SECRET: "s"}, "X-API-KEY contains an unfilled"),
    ({KEY: "k", SECRET: "a b"}, "X-API-SECRET contains white space"),
]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/mcp"),
        ("GET", "/mcp"),
        ("DELETE", "/mcp"),
        ("GET", "/sse"),
        ("POST", "/messages/?session_id=1"),
        ("GET", "/nowhere"),
    ],
)
async def test_without_a_usable_key_pair_nobody_gets_in(http: httpx2.AsyncClient, method: str, path: str) -> None:
    settings = Settings.load()
    async with served(echo_server(settings), settings) as url:
        for headers, says in UNUSABLE:
            answer = await http.request(method, url + path, headers=ACCEPT | headers, json=INITIALIZE)
            assert answer.status_code == 401
            assert answer.json()["error"] == "authentication_failed"
            assert says in answer.json()["message"]
            assert "Nothing was sent" in answer.json()["message"]


async def test_a_header_that_is_there_twice_is_refused(http: httpx2.AsyncClient) -> None:
    settings = Settings.load()
    async with served(echo_server(settings), settings) as url:
        doubled = [*ACCEPT.items(), (KEY, "k"), (KEY, "other"), (SECRET, "s")]
        answer = await http.post(url + "/mcp", headers=doubled, json=INITIALIZE)
    assert answer.status_code == 401
    assert "twice" in answer.json()["message"]


async def test_a_backend_without_secrets_needs_none(http: httpx2.AsyncClient) -> None:
    settings = Settings.load()
    async with served(echo_server(settings, needs_secret=False), settings) as url:
        answer = await http.post(url + "/mcp", headers=ACCEPT | {KEY: "k"}, json=INITIALIZE)
    assert answer.status_code == 200


async def test_a_pair_that_the_authenticator_does_not_know_is_refused_without_being_repeated(
    http: httpx2.AsyncClient,
) -> None:
    async def known(credentials: Credentials) -> bool:
        return credentials.api_key.get_secret_value() == "good"

    settings = Settings.load()
    async with served(echo_server(settings), settings, authenticate=known) as url:
        bad = await http.post(url + "/mcp", headers=ACCEPT | {KEY: "evil-key", SECRET: "evil-pair"}, json=INITIALIZE)
        good = await http.post(url + "/mcp", headers=ACCEPT | {KEY: "good", SECRET: "s"}, json=INITIALIZE)
    assert (bad.status_code, good.status_code) == (401, 200)
    assert "evil" not in bad.text


async def test_a_failing_authenticator_lets_nobody_in(http: httpx2.AsyncClient) -> None:
    async def broken(_credentials: Credentials) -> bool:
        raise BackendUnavailable("The key store does not answer. Nothing was sent. Try again.")

    settings = Settings.load()
    async with served(echo_server(settings), settings, authenticate=broken) as url:
        answer = await http.post(url + "/mcp", headers=ACCEPT | PAIR, json=INITIALIZE)
    assert (answer.status_code, answer.json()["error"]) == (503, "backend_unavailable")


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
async def test_host_and_origin_are_checked_on_every_path_whatever_the_bind_address(
    http: httpx2.AsyncClient, bind: str
) -> None:
    settings = Settings(allowed_hosts=("batch.example.com",))
    server = echo_server(settings)

    @server.custom_route("/own", methods=["GET"])
    async def own(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("own")

    async with served(server, settings, host=bind) as url:
        port = url.rpartition(":")[2]
        answers: dict[tuple[str, str], set[int | str]] = {}
        for path in ("/healthz", "/own", "/mcp", "/messages/"):
            for host, origin in (
                (f"localhost:{port}", None),
                ("batch.example.com", "https://batch.example.com"),
                ("batch.example.com:8443", None),
                ("evil.example", None),
                (f"evil.example:{port}", None),
                ("localhost:1", None),
                (f"127.0.0.1:{port}", f"http://localhost:{port}"),
                (f"127.0.0.1:{port}", "http://evil.example"),
                (f"127.0.0.1:{port}", "http://localhost:1"),
                (f"127.0.0.1:{port}", "null"),
                (f"127.0.0.1:{port}", f"file://localhost:{port}"),
            ):
                headers = ACCEPT | PAIR | {"Host": host} | ({"Origin": origin} if origin else {})
                answer = await http.get(url + path, headers=headers)
                answers.setdefault((host.replace(port, "P"), (origin or "").replace(port, "P")), set()).add(
                    answer.status_code if answer.status_code in {421, 403} else "in"
                )
    assert answers == {
        ("localhost:P", ""): {"in"},
        ("batch.example.com", "https://batch.example.com"): {"in"},
        ("batch.example.com:8443", ""): {"in"},
        ("evil.example", ""): {421},
        ("evil.example:P", ""): {421},
        ("localhost:1", ""): {421},
        ("127.0.0.1:P", "http://localhost:P"): {"in"},
        ("127.0.0.1:P", "http://evil.example"): {403},
        ("127.0.0.1:P", "http://localhost:1"): {403},
        ("127.0.0.1:P", "null"): {403},
        ("127.0.0.1:P", "file://localhost:P"): {403},
    }


async def test_sse_of_a_foreign_page_opens_no_stream(http: httpx2.AsyncClient) -> None:
    settings = Settings.load()
    async with served(echo_server(settings), settings) as url:
        answer = await http.get(url + "/sse", headers=PAIR | {"Origin": "http://evil.example"})
    assert answer.status_code == 403


async def test_health_needs_no_key(http: httpx2.AsyncClient) -> None:
    settings = Settings.load()
    async with served(echo_server(settings), settings) as url:
        answer = await http.get(url + "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_without_sessions_only_post_is_served(http: httpx2.AsyncClient, method: str) -> None:
    settings = Settings.load()
    with anyio.fail_after(60):
        async with served(echo_server(settings), settings, transport="http", stateless=True) as url:
            answer = await http.request(method, url + "/mcp", headers=ACCEPT | PAIR)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/mcp", "/messages/?session_id=1"])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_4_mib_is_refused(http: httpx2.AsyncClient, path: str, *, declared: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 1024 * 1024

    content = b" " * 5 * 1024 * 1024 if declared else chunks()
    settings = Settings.load()
    async with served(echo_server(settings), settings) as url:
        answer = await http.post(url + path, headers=ACCEPT | PAIR, content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, -32600)
    assert "4 MiB" in answer.json()["error"]["message"]


async def test_sessions_and_sse_connections_are_bounded(http: httpx2.AsyncClient) -> None:
    settings = Settings.load()
    headers = ACCEPT | PAIR
    with anyio.fail_after(60):
        async with served(echo_server(settings), settings, max_sessions=2) as url:
            statuses = [(await http.post(url + "/mcp", headers=headers, json=INITIALIZE)).status_code for _ in range(3)]
            assert statuses == [200, 200, 503]
            async with (
                http.stream("GET", url + "/sse", headers=headers) as one,
                http.stream("GET", url + "/sse", headers=headers) as two,
            ):
                third = await http.get(url + "/sse", headers=headers)
                assert (one.status_code, two.status_code, third.status_code) == (200, 200, 503)


async def test_an_idle_session_ends_and_one_that_is_used_does_not(http: httpx2.AsyncClient) -> None:
    settings = Settings.load()
    headers = ACCEPT | PAIR | {"Connection": "close"}  # the server closes one that is idle for some seconds, too
    async with served(echo_server(settings), settings, session_idle_timeout_s=1000) as url:
        opened = await http.post(url + "/mcp", headers=headers, json=INITIALIZE)
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}

        async def status_after(seconds: float) -> int:
            await wait_all_tasks_blocked()  # the server has ended the last request, whose answer was here before
            time_passes(seconds)
            ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
            return (await http.post(url + "/mcp", headers=headers | session, json=ping)).status_code

        assert [await status_after(seconds) for seconds in (900, 900, 1100)] == [200, 200, 404]


def test_a_bind_address_is_answered_to_and_a_wildcard_is_not() -> None:
    assert host_is_allowed("192.168.1.5:8000", allowed_hosts("192.168.1.5", 8000, ()))
    assert not host_is_allowed("0.0.0.0:8000", allowed_hosts("0.0.0.0", 8000, ()))
    assert host_is_allowed("[2001:db8::1]:8000", allowed_hosts("2001:db8::1", 8000, ()))


def test_a_default_port_may_be_omitted() -> None:
    assert host_is_allowed("localhost", allowed_hosts("127.0.0.1", 80, ()))
    assert not host_is_allowed("localhost", allowed_hosts("127.0.0.1", 8000, ()))


def test_names_are_compared_without_case() -> None:
    assert host_is_allowed("LocalHost:8000", allowed_hosts("127.0.0.1", 8000, ()))
    assert host_is_allowed("batch.example.com", allowed_hosts("127.0.0.1", 8000, ("Batch.Example.com",)))


def test_a_taken_port_is_a_clear_line() -> None:
    with bound_socket("127.0.0.1", 0) as taken, pytest.raises(ConfigurationError, match="Cannot listen on"):
        bound_socket("127.0.0.1", taken.getsockname()[1])
