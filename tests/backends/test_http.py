"""Asking over a real loopback socket: every fault becomes the right error, in time, and no write is sent twice."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import anyio
import httpx2
import pytest
from pydantic import SecretStr

from batchcall_mcp.errors import (
    AuthenticationFailed,
    BackendUnavailable,
    BatchCallError,
    ConfigurationError,
    IllegalTransition,
    InvalidInput,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    UnexpectedResponse,
)
from batchcall_mcp.vendor_http import client as http_module
from batchcall_mcp.vendor_http.client import (
    _FAILURES,
    MAX_BODY_BYTES,
    BackendHttp,
    CallerHttp,
    Credentials,
    open_client,
)
from batchcall_mcp.vendor_http.http_call import HttpCall
from tests.faults.server import (
    LIMIT_S,
    Answerer,
    answer,
    drip,
    endless,
    garbage,
    hang_up,
    never,
    raw_server,
    reset,
)

KEY, SECRET = "sk_0123456789abcdef", "s3cr3t_fedcba9876543210"
PAGE = "<html><body><h1>Bad</h1><script>alert('x')</script>sk_0123456789abcdef</body></html>"


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@asynccontextmanager
async def caller_of(url: str, clock: Clock | None = None, timeout_s: float = 5) -> AsyncIterator[CallerHttp]:
    clock = clock or Clock()
    async with open_client() as client:
        http = BackendHttp(client, url, timeout_s, sleep=clock.sleep, clock=lambda: clock.now, jitter=lambda: 0.5)
        credentials = Credentials(SecretStr(KEY), SecretStr(SECRET))
        yield http.caller(credentials, {"X-API-KEY": KEY, "X-API-SECRET": SECRET})


async def ask(caller: CallerHttp, *, writes: bool) -> Any:
    with anyio.fail_after(60):
        if writes:
            return await caller.write("make it", HttpCall("POST", "/batch-call", json={"a": 1}))
        return await caller.read("read it", HttpCall("GET", "/batch-call/b1"))


async def error_of(*answerers: Answerer, writes: bool, timeout_s: float = 5) -> tuple[BatchCallError, int]:
    """The error, and how many requests reached the server."""
    async with raw_server(*answerers) as server, caller_of(server.url, timeout_s=timeout_s) as caller:
        with pytest.raises(BatchCallError) as caught:
            await ask(caller, writes=writes)
        return caught.value, len(server.requests)


def assert_clean(text: str) -> None:
    for unwanted in (KEY, SECRET, "<", "Traceback", "\x1b"):
        assert unwanted not in text
    assert len(text) < 1000


FAULTS: dict[str, Answerer] = {
    "never": never,
    "drip": drip,
    "reset": reset,
    "hang_up": hang_up,
    "garbage": garbage,
    "500 page": answer(500, PAGE, content_type="text/html"),
    "503": answer(503, json.dumps({"error": f"down, your key is {KEY}"})),
}
UNREADABLE: dict[str, Answerer] = {
    "broken JSON": answer(200, '{"data": {'),
    "wrong shape": answer(200, "[1, 2]"),
    "page": answer(200, PAGE, content_type="text/html"),
    "deep": answer(200, "[" * 200_000),
    "digits": answer(200, '{"a": ' + "9" * 6000 + "}"),
    "not UTF-8": answer(200, b'{"a": "\xff\xfe"}'),
    "empty": answer(200, ""),
    "redirect": answer(307, "", location="https://elsewhere.example/steal"),
    "bad gzip": answer(200, b"not gzip", content_encoding="gzip"),
    "error in success": answer(200, '{"status": "error", "message": "Odd", "error": "odd thing"}'),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_read_that_fails_for_a_moment_is_tried_three_times(fault: str) -> None:
    error, requests = await error_of(FAULTS[fault], writes=False, timeout_s=LIMIT_S)
    assert type(error) is BackendUnavailable
    assert requests == 3
    assert_clean(error.message)


@pytest.mark.parametrize("fault", FAULTS | UNREADABLE)
async def test_a_write_without_a_readable_answer_is_sent_once_and_its_outcome_is_unknown(fault: str) -> None:
    error, requests = await error_of((FAULTS | UNREADABLE)[fault], writes=True, timeout_s=LIMIT_S)
    assert type(error) is OutcomeUnknown
    assert requests == 1
    assert "unknown" in error.message
    assert "It was not sent again" in error.message
    assert "get_batch_call" in error.message
    assert_clean(error.message)


@pytest.mark.parametrize("fault", UNREADABLE)
async def test_an_unreadable_answer_to_a_read_is_not_asked_for_again(fault: str) -> None:
    error, requests = await error_of(UNREADABLE[fault], writes=False)
    assert type(error) is UnexpectedResponse
    assert requests == 1
    assert_clean(error.message)


@pytest.mark.parametrize("writes", [False, True])
async def test_an_endless_body_ends_at_its_limit(writes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "MAX_BODY_BYTES", 1024 * 1024)
    error, requests = await error_of(endless, writes=writes, timeout_s=10)
    assert type(error) is (OutcomeUnknown if writes else UnexpectedResponse)
    assert requests == 1


async def test_a_small_compressed_body_counts_as_what_it_unpacks_to() -> None:
    bomb = gzip.compress(b" " * (MAX_BODY_BYTES + 1))
    assert len(bomb) < 100_000
    error, _ = await error_of(answer(200, bomb, content_encoding="gzip"), writes=False)
    assert type(error) is UnexpectedResponse
    assert "32 MiB" in error.message


STATUSES: dict[int, type[BatchCallError]] = {
    400: InvalidInput,
    401: AuthenticationFailed,
    402: QuotaExceeded,
    403: PermissionDenied,
    404: NotFound,
    405: NotSupported,
    409: IllegalTransition,
    410: NotFound,
    412: IllegalTransition,
    413: QuotaExceeded,
    418: InvalidInput,
    422: InvalidInput,
}


@pytest.mark.parametrize(("status", "writes"), list(product(STATUSES, [False, True])))
async def test_a_refusal_is_final_and_says_that_nothing_changed(status: int, writes: bool) -> None:
    body = {"message": "Validation error", "status": "error", "error": f"no <b>way</b>\x1b[31m {SECRET} \u202e"}
    error, requests = await error_of(answer(status, json.dumps(body)), writes=writes)
    assert type(error) is STATUSES[status]
    assert requests == 1
    assert "Nothing was changed" in error.message
    assert 'The backend said: "no way' in error.message
    assert "[redacted]" in error.message
    assert_clean(error.message)


async def test_a_401_names_the_settings_and_the_headers() -> None:
    error, _ = await error_of(answer(401, '{"error": "Unauthorized"}'), writes=False)
    for name in ("BATCHCALL_API_KEY", "BATCHCALL_API_SECRET", "X-API-KEY", "X-API-SECRET"):
        assert name in error.message


@pytest.mark.parametrize("status", [408, 425, 500, 501, 502, 504])
async def test_a_backend_that_gave_up_on_a_write_leaves_its_outcome_unknown(status: int) -> None:
    error, requests = await error_of(answer(status, "{}"), writes=True)
    assert (type(error), requests) == (OutcomeUnknown, 1)


@pytest.mark.parametrize("writes", [False, True])
async def test_a_429_is_waited_for_and_repeated_even_on_a_write(writes: bool) -> None:
    clock = Clock()
    limited = answer(429, '{"error": "slow down"}', retry_after="7")
    async with raw_server(limited, answer(200, '{"ok": 1}')) as server, caller_of(server.url, clock) as caller:
        assert await ask(caller, writes=writes) == {"ok": 1}
        assert len(server.requests) == 2
    assert clock.slept == [7.0]


@pytest.mark.parametrize(
    ("headers", "retry_after", "waits"),
    [
        ({}, None, [0.5, 1.0]),
        ({"retry_after": "9"}, 9.0, [9.0, 9.0]),
        ({"retry_after": "11"}, 11.0, [11.0]),
        ({"retry_after": "3600"}, 3600.0, []),
        ({"retry_after": "Mon, 01 Jan 2024 00:00:00 GMT"}, 0.0, [0.5, 1.0]),
        ({"retry_after": "soon"}, None, [0.5, 1.0]),
        ({"retry_after": "Mon, 99 Jan 99999"}, None, [0.5, 1.0]),
    ],
)
async def test_waits_stay_inside_the_budget_and_the_error_says_how_long(
    headers: dict[str, str], retry_after: float | None, waits: list[float]
) -> None:
    clock = Clock()
    async with raw_server(answer(429, "{}", **headers)) as server, caller_of(server.url, clock) as caller:
        with pytest.raises(RateLimited) as caught:
            await ask(caller, writes=True)
        assert len(server.requests) == len(waits) + 1
    assert clock.slept == waits
    assert caught.value.retry_after == retry_after


async def test_a_refused_connection_is_tried_again_also_for_a_write_and_says_that_nothing_was_sent() -> None:
    async with raw_server(never) as server:
        url = server.url
    clock = Clock()
    async with caller_of(url, clock) as caller:
        for writes in (False, True):
            with pytest.raises(BackendUnavailable, match="Nothing was sent") as caught:
                await ask(caller, writes=writes)
            assert f"could not be reached at {url}" in caught.value.message
    assert len(clock.slept) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="fills a listen queue as Linux counts it")
async def test_a_connection_that_never_comes_about_is_known_to_have_carried_nothing() -> None:
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(16):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        clock = Clock()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with caller_of(url, clock, timeout_s=0.4) as caller:
            with pytest.raises(BackendUnavailable, match="Nothing was sent"):
                await ask(caller, writes=True)
    assert len(clock.slept) == 2


async def test_a_read_succeeds_after_an_error_that_passes() -> None:
    async with raw_server(answer(502, "x"), reset, answer(200, '{"a": 1}')) as server, caller_of(server.url) as caller:
        assert await ask(caller, writes=False) == {"a": 1}


async def test_an_answer_without_content_is_empty() -> None:
    async with raw_server(answer(204)) as server, caller_of(server.url) as caller:
        assert await ask(caller, writes=True) == {}


async def test_a_redirect_is_not_followed_so_the_key_stays_with_its_origin() -> None:
    async with raw_server(answer(200, "{}")) as other:
        error, _ = await error_of(answer(302, "", location=f"{other.url}/x"), writes=False)
        assert "redirect" in error.message
        assert other.requests == []


async def test_a_cookie_of_one_answer_is_never_sent_again() -> None:
    sets = answer(200, "{}", set_cookie="session=alice; Path=/")
    async with raw_server(sets) as server, caller_of(server.url) as caller:
        await ask(caller, writes=False)
        await ask(caller, writes=True)
        assert len(server.requests) == 2
        assert not any(b"cookie" in request.lower() for request in server.requests)


async def test_a_proxy_of_the_environment_never_sees_a_loopback_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(answer(200, "{}")) as proxy, raw_server(answer(200, '{"a": 1}')) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with caller_of(server.url) as caller:
            assert await ask(caller, writes=False) == {"a": 1}
        assert proxy.requests == []


async def test_a_write_carries_headers_body_and_idempotency_key() -> None:
    async with raw_server(answer(200, "{}")) as server, caller_of(server.url + "/base/") as caller:
        await caller.write("make it", HttpCall("POST", "/x", json={"name": "Zoë"}), idempotency_key="k-1")
        request = server.requests[0]
    assert request.startswith(b"POST /base/x HTTP/1.1")
    assert b"Idempotency-Key: k-1" in request
    assert f"X-API-KEY: {KEY}".encode() in request
    assert json.loads(request.partition(b"\r\n\r\n")[2]) == {"name": "Zoë"}


@pytest.mark.parametrize("key", ["", "a b", "ä", "a\r\nX-Evil: 1", "k" * 256])
async def test_an_idempotency_key_that_cannot_be_a_header_is_refused_before_anything_is_sent(key: str) -> None:
    async with raw_server(answer(200, "{}")) as server, caller_of(server.url) as caller:
        with pytest.raises(InvalidInput, match="Nothing was sent"):
            await caller.write("make it", HttpCall("POST", "/x", json={}), idempotency_key=key)
        assert server.requests == []


@pytest.mark.parametrize("value", ["", " ", "a b", "${KEY}", "ä", "a\nb"])
async def test_a_key_that_cannot_be_a_header_is_refused_without_being_repeated(value: str) -> None:
    async with open_client() as client:
        http = BackendHttp(client, "http://127.0.0.1:9", 1)
        with pytest.raises(AuthenticationFailed, match="Nothing was sent"):
            http.caller(Credentials(SecretStr(value)), {})


def library_errors(kind: type[Exception] = httpx2.HTTPError) -> list[type[Exception]]:
    found: list[type[Exception]] = [kind]
    for below in kind.__subclasses__():
        found += library_errors(below)
    return found


def test_every_error_of_the_http_library_is_mapped_by_its_own_name() -> None:
    leaves = [kind for kind in library_errors() if not kind.__subclasses__()]
    assert len(leaves) >= 16
    assert [kind.__name__ for kind in leaves if kind not in _FAILURES] == []


@pytest.mark.parametrize(
    ("kind", "writes"), list(product([*library_errors(), httpx2.InvalidURL], [False, True])), ids=str
)
async def test_every_error_of_the_http_library_becomes_one_of_ours(kind: type[Exception], writes: bool) -> None:
    calls = 0

    def fail(request: httpx2.Request) -> httpx2.Response:
        nonlocal calls
        calls += 1
        if kind is httpx2.HTTPStatusError:
            raise httpx2.HTTPStatusError("x", request=request, response=httpx2.Response(500))
        raise kind("x")

    async with open_client(httpx2.MockTransport(fail)) as client:
        clock = Clock()
        http = BackendHttp(client, "http://x", 5, sleep=clock.sleep, clock=lambda: clock.now)
        with pytest.raises(BatchCallError) as caught:
            await ask(http.caller(Credentials(SecretStr(KEY)), {}), writes=writes)
    if isinstance(caught.value, OutcomeUnknown):
        assert writes
        assert calls == 1
    else:
        assert isinstance(caught.value, BackendUnavailable | UnexpectedResponse | ConfigurationError)
        assert not writes or "Nothing was sent" in caught.value.message
