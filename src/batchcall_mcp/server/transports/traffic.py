"""Which requests go on: not too many of one caller, and none that is new while the server ends. Pure ASGI.

What stops calls is never refused here, nor is an answer to a question or a notification (a client that cancels): a
server that holds them up would let phones ring.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import anyio
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchcall_mcp.errors import RateLimited
from batchcall_mcp.kept_files.caller_files import FILES_PATH
from batchcall_mcp.server.transports.access import json_rpc_refusal, refusal

STOPS: Final = frozenset({"pause_batch_call", "cancel_batch_call"})
_LARGEST_STOP_BYTES: Final = 64 * 1024
_METHOD_HEADER: Final = "mcp-method"
_LISTENS: Final = "subscriptions/listen"
_LONGEST_READ_S: Final = 5.0
_WINDOWS: Final = 1024
"""Of callers whom the backend has not accepted yet, who share them by chance: keys can be made up without end."""
_ENDING: Final = (
    "This server is being stopped, and takes nothing new. Nothing was sent. Send it again: another server, or the next "
    "one, answers."
)


class Limiter(Protocol):
    """Counts requests; `dialer.rest.rate_limiter.Limiter` is one."""

    def known(self, api_key: str) -> None:
        """Count one of this name; raises RateLimited if it is too much."""


@dataclass
class Traffic:
    """What goes through one server process. Who only listens does not count."""

    under_way: int = 0
    ending: bool = False
    """Set once the process has been asked to end."""


def may_not_wait(body: bytes) -> bool:
    """Whether the body of a POST stops calls, answers a question or is a notification. Pure."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(message, Mapping):
        return False
    if "method" not in message or "id" not in message:
        return bool(message.keys() & {"method", "result", "error"})
    params = message.get("params")
    named = params.get("name") if isinstance(params, Mapping) else None
    return message["method"] == "tools/call" and isinstance(named, str) and named in STOPS


@dataclass(frozen=True)
class Controlled:
    """Counts requests, and answers 429 or 503 to those that may wait, each with Retry-After.

    Args:
        app: What answers the others.
        traffic: Of this process.
        limiter: Counts by caller; None counts nobody.
        accepted: The callers whom the backend has accepted, each with an allowance of its own.
        open_paths: Where nobody is counted or refused.
        streams: Where a client may listen: by a GET, or in 2026 by a POST that says so in a header.
    """

    app: ASGIApp
    traffic: Traffic
    limiter: Limiter | None
    accepted: Container[str]
    open_paths: Container[str]
    streams: Container[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.open_paths:
            await self.app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is not None:
            passes = scope["method"] == "DELETE" and not _is_of_files(scope)  # ends a session
            if scope["method"] == "POST" and not _is_of_files(scope):
                body, receive = await _read(receive)
                passes = may_not_wait(body)
            if not passes:
                await refused(scope, receive, send)
                return
        if self._only_listens(scope):
            await self.app(scope, receive, send)
            return
        self.traffic.under_way += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.traffic.under_way -= 1

    def _only_listens(self, scope: Scope) -> bool:
        """Whether the request stays open as long as its client runs, which nobody can wait for."""
        if scope["path"] not in self.streams:
            return False
        return scope["method"] == "GET" or Headers(scope=scope).get(_METHOD_HEADER) == _LISTENS

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        if self.traffic.ending:
            return _refused(scope, 503, "stopping", _ENDING)
        if self.limiter is None:
            return None
        caller: str = scope["user"].username
        name = caller if caller in self.accepted else f"one of {hash(caller) % _WINDOWS}"
        try:
            self.limiter.known(name)
        except RateLimited as error:
            return _refused(scope, 429, error.code, str(error), error.retry_after)
        return None


def _refused(scope: Scope, status: int, code: str, text: str, retry_after: float | None = None) -> JSONResponse:
    if _is_of_files(scope):
        return refusal(status, text, code, retry_after=retry_after)
    return json_rpc_refusal(status, f"[{code}] {text}", retry_after=retry_after)


def _is_of_files(scope: Scope) -> bool:
    """Whether a person with curl reads the answer, and a body may be large."""
    path: str = scope["path"]
    return path == FILES_PATH or path.startswith(FILES_PATH + "/")


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """A body, no more of it than a stop has, and a `receive` that begins with it again."""
    messages: list[Message] = []
    body, whole = b"", False
    with anyio.move_on_after(_LONGEST_READ_S):
        while not whole and len(body) <= _LARGEST_STOP_BYTES:
            message = await receive()
            messages.append(message)
            body += message.get("body", b"")
            whole = not message.get("more_body", False)
    waiting = iter(messages)

    async def again() -> Message:
        message = next(waiting, None)
        return await receive() if message is None else message

    return (body if whole else b""), again
