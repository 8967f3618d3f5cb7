"""Who may reach the HTTP server: the Host and Origin of a request, and whose key pair it carries. Pure ASGI.

Pure, because a response here is a stream that may stay open for hours.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.types import INTERNAL_ERROR, INVALID_REQUEST
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchcall_mcp.errors import AuthenticationFailed, BatchCallError, InvalidInput
from batchcall_mcp.server.credentials import KEY_HEADER, SECRET_HEADER, caller_credentials, caller_id
from batchcall_mcp.server.request_mode import MODE_HEADER, asked_mode
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import Credentials

logger = logging.getLogger(__name__)

Authenticate: TypeAlias = Callable[[Credentials], Awaitable[bool]]

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})
_DEFAULT_PORTS = frozenset({80, 443})
_RETRY_AFTER_S = 10


def allowed_hosts(bind_host: str, port: int, named: Sequence[str]) -> frozenset[str]:
    """The Host values to answer to: loopback and the bind address on the bound port, and what the operator named.

    A named host without a port is allowed on every port, as behind a reverse proxy.
    """
    bound = () if bind_host in _WILDCARDS else (f"[{bind_host}]" if ":" in bind_host else bind_host,)
    local = [f"{name}:{port}" for name in (*_LOOPBACK, *bound)]
    if port in _DEFAULT_PORTS:
        local += [*_LOOPBACK, *bound]  # a client leaves a default port out
    return frozenset(name.lower() for name in (*local, *named))


def host_is_allowed(host: str, allowed: Collection[str]) -> bool:
    """Whether a Host value (or the same part of an Origin) is one of those, with or without its port."""
    host = host.lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return host in allowed or name in allowed


@dataclass(frozen=True)
class CheckedHost:
    """Refuses other Host values with 421 and other Origins with 403, which keeps web pages away from a local server."""

    app: ASGIApp
    allowed: Collection[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if not all(host_is_allowed(host, self.allowed) for host in headers.getlist("host") or [""]):
                app = refusal(
                    421,
                    "This server does not answer to that Host name. Nothing was sent. If the name is yours, add it to "
                    "BATCHCALL_ALLOWED_HOSTS.",
                )
            elif not all(self._origin_is_allowed(origin) for origin in headers.getlist("origin")):
                app = refusal(
                    403,
                    "This server does not answer to web pages of that Origin. Nothing was sent. If it is yours, add "
                    "its host to BATCHCALL_ALLOWED_HOSTS.",
                )
        await app(scope, receive, send)

    def _origin_is_allowed(self, origin: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:  # such as http://[
            return False
        return parts.scheme in {"http", "https"} and host_is_allowed(parts.netloc, self.allowed)


@dataclass(frozen=True)
class KnownCaller:
    """Lets nobody in without a key pair, and makes the pair the owner of the sessions it opens.

    The SDK compares `scope["user"]` with the user that opened a session (streamable HTTP and SSE alike) and answers
    404 to anybody else. It learns an opaque name of the pair; nothing of the pair itself is kept.
    """

    app: ASGIApp
    settings: Settings
    needs_secret: bool
    authenticate: Authenticate | None
    open_paths: Collection[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.open_paths:
            await self.app(scope, receive, send)
            return
        try:
            caller = await self._caller(Headers(scope=scope))
        except AuthenticationFailed as error:
            await refusal(401, str(error), error.code)(scope, receive, send)
        except BatchCallError as error:
            logger.warning("A caller could not be checked: %s", error)
            await refusal(503, str(error), error.code)(scope, receive, send)
        else:
            await self.app({**scope, "user": caller_of(caller)}, receive, send)

    async def _caller(self, headers: Headers) -> str:
        for name in (KEY_HEADER, SECRET_HEADER):
            if len(headers.getlist(name)) > 1:
                raise AuthenticationFailed(f"The request header {name} is there twice. Nothing was sent. Send it once.")
        credentials = caller_credentials(headers, self.settings, needs_secret=self.needs_secret)
        if self.authenticate is not None and not await self.authenticate(credentials):
            raise AuthenticationFailed(
                f"This server does not know the key and secret in {KEY_HEADER} and {SECRET_HEADER}. Nothing was sent. "
                "`batchcall-mcp dialer keys create` makes a pair."
            )
        return caller_id(credentials)


@dataclass(frozen=True)
class KnownMode:
    """Refuses a request that asks for a mode that there is not: a limit that is misspelt would be no limit."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            asked = Headers(scope=scope).getlist(MODE_HEADER)
            try:
                asked_mode({MODE_HEADER: ", ".join(asked)} if asked else None)
            except InvalidInput as error:
                app = json_rpc_refusal(400, f"[{error.code}] {error}", INVALID_REQUEST)
        await app(scope, receive, send)


@dataclass(frozen=True)
class PostOnly:
    """Answers 405 where only POST means anything: without sessions the SDK opens a stream on GET that never ends."""

    app: ASGIApp
    path: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == self.path and scope["method"] != "POST":
            refused = refusal(405, "This server keeps no sessions: only POST is served here.", allow="POST")
            await refused(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class TooLargeInWords:
    """Says what to do about a body that the SDK refuses, as the JSON-RPC error that clients show to the model.

    Of the SDK's own 413, in plain text, mcp 2.3's client shows only that there was an error.
    """

    def __init__(self, app: ASGIApp, largest_bytes: int, how_to_upload: Callable[[Scope], str] | None = None) -> None:
        self.app = app
        self.how_to_upload = how_to_upload
        self.text = (
            f"The request is larger than {largest_bytes // 1024**2} MiB, the most that this server takes over HTTP. "
            "Nothing was sent. Give the people in several batch calls, or as a file: "
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def send_in_words(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == 413:  # noqa: PLR2004 - HTTP
                refused = True
                await json_rpc_refusal(413, self.text + self._how(scope), INVALID_REQUEST)(scope, receive, send)
            elif not refused:
                await send(message)

        await self.app(scope, receive, send_in_words)

    def _how(self, scope: Scope) -> str:
        if self.how_to_upload is None:
            return "use the server over stdio with tasks_file."
        return f"{self.how_to_upload(scope)} Its answer has the name for tasks_file."


def caller_of(name: str) -> AuthenticatedUser:
    """The user of a request, as the SDK has it: the opaque name of a key pair."""
    return AuthenticatedUser(AccessToken(token=name, client_id=name, scopes=[]))


def refusal(
    status: int, text: str, code: str = "refused", *, retry_after: float | None = None, **headers: str
) -> JSONResponse:
    """The answer to a request that goes no further. `retry_after`: in seconds, for 429 and 503."""
    headers |= _when_to_come_again(status, retry_after)
    return JSONResponse({"error": code, "message": text}, status, headers=headers)


def json_rpc_refusal(
    status: int, text: str, code: int = INTERNAL_ERROR, *, retry_after: float | None = None
) -> JSONResponse:
    """The same as an error of JSON-RPC: clients show its message, and of another answer only the status."""
    content = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": text}}
    return JSONResponse(content, status, headers=_when_to_come_again(status, retry_after))


def _when_to_come_again(status: int, seconds: float | None) -> dict[str, str]:
    return {"retry-after": str(math.ceil(seconds or _RETRY_AFTER_S))} if status in {429, 503} else {}
