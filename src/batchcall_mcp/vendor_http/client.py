"""Asking a backend over HTTP: one shared client, a limit on every wait and every body, and no write sent twice.

The loop of tries is our own: what may be repeated depends on whether the request writes, on how it failed and on a
budget that Retry-After counts against; a retry library would hold none of that and we would still write it.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from socket import inet_aton
from typing import Any, Final, TypeAlias

import anyio
import httpx2
from pydantic import SecretStr

from batchcall_mcp import __version__
from batchcall_mcp.clock import retry_after, utc_now
from batchcall_mcp.errors import (
    AuthenticationFailed,
    BatchCallError,
    InvalidInput,
    PermissionDenied,
    UnexpectedResponse,
)
from batchcall_mcp.settings import secret_problem
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.http_errors import (
    Answer,
    Exchange,
    JsonObject,
    Recognise,
    Reply,
    misconfigured,
    not_sent,
    reply,
    unavailable,
    unreadable,
)

TRIES = 3
BUDGET_S = 20.0
"""No further try begins later than this after the first one."""
MAX_BODY_BYTES = 32 * 1024 * 1024
"""Of a decoded body: a small compressed one cannot fill the memory."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A caller's key and secret; both secret, so neither shows in a repr or a log. Equal pairs are one caller."""

    api_key: SecretStr
    api_secret: SecretStr | None = None

    def __repr__(self) -> str:
        return "Credentials(**********)"


Sleep: TypeAlias = Callable[[float], Awaitable[None]]
Judged: TypeAlias = Callable[[Credentials, bool], None]
"""Hears of each answer that shows whether the backend accepts a key pair."""
Erred: TypeAlias = Callable[[str], None]
"""Hears the code of each error with which an exchange ended."""

_RETRIED_STATUSES = frozenset({408, 425, 429, *range(500, 600)})
_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")


def open_client(transport: httpx2.AsyncBaseTransport | None = None, *, kept_alive: int = 10) -> httpx2.AsyncClient:
    """The one client of a process. `kept_alive`: connections that it keeps for later requests.

    It follows no redirect (the key would go along) and keeps no cookie (one caller's would go with another's
    request). Proxies and certificates come from the usual environment variables, because company networks need them,
    but never for loopback addresses: a key for the machine itself is no proxy's business.
    """
    return httpx2.AsyncClient(
        transport=transport,
        mounts=None if transport else dict.fromkeys(_LOOPBACK),
        follow_redirects=False,
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=())),
        limits=httpx2.Limits(max_connections=50, max_keepalive_connections=kept_alive, keepalive_expiry=5),
        headers={"user-agent": f"batchcall-mcp/{__version__}", "accept": "application/json"},
    )


Failure: TypeAlias = Callable[[Exchange, str], BatchCallError]
"""Makes the error for a try that ended without an answer: `not_sent`, `unavailable`, `unreadable`, `misconfigured`."""

_FAILURES: Mapping[type[Exception], tuple[Failure, str]] = {
    httpx2.ConnectError: (not_sent, "{who} could not be reached at {url}"),
    httpx2.ConnectTimeout: (not_sent, "{who} at {url} did not take the connection in time"),
    httpx2.PoolTimeout: (not_sent, "too many requests are waiting already"),
    httpx2.ProxyError: (not_sent, "the proxy refused the connection"),
    httpx2.UnsupportedProtocol: (misconfigured, "{who}'s address is neither http:// nor https://"),
    httpx2.InvalidURL: (misconfigured, "{who}'s address is not a URL"),
    httpx2.ReadTimeout: (unavailable, "{who} did not answer in time"),
    httpx2.WriteTimeout: (unavailable, "{who} did not take the request in time"),
    httpx2.ReadError: (unavailable, "the connection broke before the answer was complete"),
    httpx2.WriteError: (unavailable, "the connection broke while the request was sent"),
    httpx2.CloseError: (unavailable, "the connection broke"),
    httpx2.LocalProtocolError: (unavailable, "the exchange broke the HTTP protocol"),
    httpx2.RemoteProtocolError: (unavailable, "{who} broke off without a complete HTTP answer"),
    httpx2.DecodingError: (unreadable, "its answer could not be decompressed"),
    httpx2.TooManyRedirects: (unreadable, "it answered with redirects"),
    httpx2.SSEError: (unreadable, "it answered with an event stream"),
    httpx2.HTTPStatusError: (unreadable, "it answered with an error"),
    httpx2.HTTPError: (unavailable, "the connection failed"),
}
_TIMED_OUT = (unavailable, "{who} did not answer completely within {limit_s:g} s")
_TOO_LARGE = (unreadable, "its answer is larger than 32 MiB")


@dataclass(frozen=True, slots=True)
class Failed:
    """A try without an answer. `why` may hold `{who}`, `{url}` and `{limit_s}`."""

    failure: Failure
    why: str


def request_of(
    client: httpx2.AsyncClient,
    call: HttpCall,
    url: str,
    headers: Mapping[str, str],
    limit_s: float,
    extensions: Mapping[str, Any] | None = None,
) -> Callable[[], AbstractAsyncContextManager[httpx2.Response]]:
    """What sends this request each time that it is called. `extensions`: see httpx2's documents."""
    return partial(
        client.stream,
        call.method,
        url,
        headers={**headers, **call.media_type(), **(call.headers or {})},
        params=dict(call.query) if call.query else None,
        # Half of the limit for the connection: one that never comes about is then known not to have been used.
        timeout=httpx2.Timeout(limit_s, connect=limit_s / 2, pool=limit_s / 2),
        extensions=dict(extensions or {}),
        **call.body(),
    )


async def one_try(
    request: Callable[[], AbstractAsyncContextManager[httpx2.Response]],
    limit_s: float,
    limit: anyio.CancelScope | None = None,
) -> Answer | Failed:
    """Send it once, and read the answer whatever it says; both within `limit_s` seconds.

    `limit`: a new scope of the caller's, who may put its deadline off meanwhile.
    """
    limit = anyio.CancelScope() if limit is None else limit
    limit.deadline = anyio.current_time() + limit_s
    try:
        with limit:
            async with request() as response:
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_BODY_BYTES:
                        return Failed(*_TOO_LARGE)
                lower = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, lower, bytes(body))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Failed(*next(_FAILURES[kind] for kind in type(error).__mro__ if kind in _FAILURES))
    return Failed(*_TIMED_OUT)


class BackendHttp:
    """The way to one backend, shared by all callers of the process; it holds nothing of any of them."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        base_url: str,
        timeout_s: float,
        *,
        sleep: Sleep = anyio.sleep,
        clock: Callable[[], float] = anyio.current_time,
        jitter: Callable[[], float] = random.random,
        judged: Judged = lambda _credentials, _accepted: None,
        erred: Erred = lambda _code: None,
    ) -> None:
        self._client = client
        self.base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter
        self._judged = judged
        self._erred = erred

    def caller(
        self, credentials: Credentials, headers: Mapping[str, str], recognise: Recognise = lambda _refusal: None
    ) -> CallerHttp:
        """The same, as one caller, whose key and secret are taken out of every text that comes back.

        Raises:
            AuthenticationFailed: if the key or secret cannot stand in a header; nothing was sent.
        """
        pair = (credentials.api_key, credentials.api_secret)
        secrets = tuple(secret.get_secret_value() for secret in pair if secret is not None)
        for value in secrets:
            problem = secret_problem(value)
            if problem:
                raise AuthenticationFailed(
                    f"The API key or secret {problem}. Nothing was sent. Check BATCHCALL_API_KEY and "
                    "BATCHCALL_API_SECRET (over HTTP: the headers X-API-KEY and X-API-SECRET)."
                )
        return CallerHttp(self, headers, secrets, recognise, partial(self._judged, credentials))

    async def exchange(
        self, exchange: Exchange, call: HttpCall, headers: Mapping[str, str], url: str | None = None
    ) -> Reply:
        """Ask, again where that is safe, and read the answer. `url`: another address than the backend's.

        A read is repeated after 408, 429, 5xx, a time-out or a broken connection; a write only where it cannot have
        arrived: no connection, or 429.
        """
        try:
            return await self._exchange(exchange, call, headers, url)
        except BatchCallError as error:
            self._erred(error.code)
            raise

    async def _exchange(self, exchange: Exchange, call: HttpCall, headers: Mapping[str, str], url: str | None) -> Reply:
        request = request_of(self._client, call, url or self.base_url + call.path, headers, self._timeout_s)
        started = self._clock()
        for tried in range(1, TRIES + 1):
            result = await one_try(request, self._timeout_s)
            if tried == TRIES or not _may_repeat(result, writes=exchange.writes):
                break
            pause = self._pause(result, tried)
            if self._clock() - started + pause > BUDGET_S:
                break
            await self._sleep(pause)
        if isinstance(result, Failed):
            # Of another address only whose it is: a signed one is a permission.
            where = self.base_url if url is None else str(httpx2.URL(url).copy_with(raw_path=b"")).rstrip("/")
            why = result.why.format(who="the backend", url=where, limit_s=self._timeout_s)
            raise result.failure(exchange, why)
        return reply(exchange, result, utc_now())

    def _pause(self, result: Answer | Failed, tried: int) -> float:
        asked = retry_after(result.headers.get("retry-after"), utc_now()) if isinstance(result, Answer) else None
        backoff: float = 0.5 * 2 ** (tried - 1) * (0.5 + self._jitter())
        return backoff if asked is None else max(asked, backoff)


class CallerHttp:
    """`BackendHttp` with one caller's headers. `doing` completes "could not …" in the errors."""

    def __init__(
        self,
        http: BackendHttp,
        headers: Mapping[str, str],
        secrets: tuple[str, ...],
        recognise: Recognise,
        judged: Callable[[bool], None],
    ) -> None:
        self._http = http
        self._headers = headers
        self._secrets = secrets
        self._recognise = recognise
        self._judged = judged

    def address_of(self, call: HttpCall) -> str:
        """Where a request goes, for somebody who makes it without us."""
        return self._http.base_url + call.path

    async def read(self, doing: str, call: HttpCall) -> JsonObject:
        """What `ask` gets, without its entity tag."""
        return (await self.ask(doing, call)).body

    async def read_array(self, doing: str, call: HttpCall) -> list[Any]:
        """The same, where the answer is a JSON array.

        Raises:
            UnexpectedResponse: an answer that is none.
        """
        exchange = replace(self._exchange(doing, writes=False), shape="array")
        with self._heard():
            return (await self._http.exchange(exchange, call, self._headers)).array

    async def read_either(self, doing: str, call: HttpCall) -> JsonObject | list[Any]:
        """The same, where documents and service disagree on whether the answer is an object or an array."""
        exchange = replace(self._exchange(doing, writes=False), shape="object or array")
        with self._heard():
            done = await self._http.exchange(exchange, call, self._headers)
        return done.body or done.array

    async def ask(self, doing: str, call: HttpCall) -> Reply:
        """Ask for something; repeated where it fails for a moment.

        Raises:
            BackendUnavailable: no answer.
            UnexpectedResponse: an answer that is not a JSON object.
            BatchCallError: the backend's no.
        """
        with self._heard():
            exchange = replace(self._exchange(doing, writes=False), has_error=call.has_error)
            return await self._http.exchange(exchange, call, self._headers)

    async def write(
        self, doing: str, call: HttpCall, *, idempotency_key: str | None = None, if_match: str | None = None
    ) -> JsonObject:
        """Change something; never sent again once it can have arrived, with an idempotency key or without.

        With `if_match`, an entity tag that the backend gave, it changes only what is still as it was then.

        Raises:
            InvalidInput: the idempotency key cannot stand in a header; nothing was sent.
            OutcomeUnknown: it was sent and no readable answer came.
            BackendUnavailable: it was not sent.
            BatchCallError: the backend's no; nothing was changed.
        """
        headers = dict(self._headers)
        if idempotency_key is not None:
            if not re.fullmatch(r"[!-~]{1,255}", idempotency_key):
                raise InvalidInput(
                    "idempotency_key: give 1 to 255 printable ASCII characters without a space. Nothing was sent."
                )
            headers["Idempotency-Key"] = idempotency_key
        if if_match is not None:
            headers["If-Match"] = if_match
        exchange = replace(self._exchange(doing, writes=True), has_error=call.has_error)
        if call.may_be_empty:
            exchange = replace(exchange, shape="object or nothing")
        try:
            with self._heard():
                done = await self._http.exchange(exchange, call, headers)
        except anyio.get_cancelled_exc_class():
            # Nobody is left to tell but the operator.
            logger.warning("The caller went away during a write, and its outcome is not known: %s", doing)
            raise
        return done.body

    async def upload(self, doing: str, url: str, content: bytes, media_type: str) -> None:
        """PUT a file to an address that the backend named, without the caller's key: it is another origin's.

        What is uploaded there takes effect only by a later write, so it is asked like a read.

        Raises:
            UnexpectedResponse: the address is not an https:// one (http:// where the backend itself is not https), is
                inside a private network though the backend is not, or refused the file.
            BatchCallError: it was not taken; nothing was changed.
        """
        if not may_go_to(url, self._http.base_url):
            raise UnexpectedResponse(
                f"Could not {doing}: the backend names an address for it that is not https, or not on the internet. "
                "Nothing was changed. Check BATCHCALL_URL."
            )
        exchange = Exchange(doing=doing, writes=False, secrets=self._secrets, shape="anything")
        call = HttpCall("PUT", "", raw=content, headers={"content-type": media_type})
        try:
            await self._http.exchange(exchange, call, {}, url)
        except (AuthenticationFailed, PermissionDenied):  # says nothing of the key, which it has never seen
            raise UnexpectedResponse(
                f"Could not {doing}: the storage that the backend named for it does not take it. Nothing was changed. "
                "Try again: the backend then names another address."
            ) from None

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Only a success or a refused key says something about the key; an error of another kind says nothing."""
        try:
            yield
        except AuthenticationFailed:
            self._judged(False)  # noqa: FBT003 - what Judged takes
            raise
        self._judged(True)  # noqa: FBT003

    def _exchange(self, doing: str, *, writes: bool) -> Exchange:
        return Exchange(doing=doing, writes=writes, secrets=self._secrets, recognise=self._recognise)


def may_go_to(url: str, base_url: str) -> bool:
    """Whether a request of ours may go to this address, which the service at `base_url` named."""
    try:
        named, own = httpx2.URL(url), httpx2.URL(base_url)
    except httpx2.InvalidURL:
        return False
    is_sane = bool(named.host) and not named.userinfo and named.scheme in {"https", own.scheme}
    # A service on the internet has no business with the network in which this runs.
    return is_sane and not (own.scheme == "https" and _is_inside(named.host) and not _is_inside(own.host))


_OF_A_NETWORK: Final = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


def _is_inside(host: str) -> bool:
    """Whether it names this machine, its network, or an address that is not one of the internet's."""
    host = host.rstrip(".").lower()
    try:
        return not ip_address(host).is_global
    except ValueError:
        pass
    try:
        return not ip_address(inet_aton(host)).is_global  # 127.1, 2130706433 and 0x7f000001 are 127.0.0.1
    except OSError:
        return "." not in host or host.endswith(_OF_A_NETWORK)


def _may_repeat(result: Answer | Failed, *, writes: bool) -> bool:
    if isinstance(result, Failed):
        return result.failure is not_sent or (result.failure is unavailable and not writes)
    if writes:
        return result.status == 429  # noqa: PLR2004 - HTTP
    return result.status in _RETRIED_STATUSES
