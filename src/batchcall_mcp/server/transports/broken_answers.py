"""Answers and requests that are not JSON-RPC: they end at once, in an error.

The SDK drops what it cannot read, and a caller that waits for it would wait for the whole time. Of an answer to a
question only the id is read: an answer in which nothing else can be read is never a yes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from mcp.types import INVALID_REQUEST, ErrorData, JSONRPCError, RequestId
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEAD_BYTES: Final = 4096
_MOST_BYTES: Final = 64 * 1024
_ID = re.compile(r'"id"\s*:\s*(?:(?P<number>\d{1,18})|"(?P<text>[^"\\]{1,100})")')
_HALF: Final = (
    "The request holds half a character (a lone surrogate, such as \\ud83d), which is not text. Nothing was sent. "
    "Write the whole character, or leave it out."
)
_NO_JSON: Final = "The request cannot be read as JSON: too deep, or with a number such as NaN. Nothing was sent."
_UNREAD: Final = frozenset({400, 413})


class Instead(NamedTuple):
    """What stands for a line over stdio that is not a message: for the server, or as an answer to the client."""

    of_answer: JSONRPCError | None = None
    to_request: JSONRPCError | None = None


def instead_of_line(error: Exception) -> Instead:
    """What the line was meant as, an answer or a request, is known from the error that the SDK reports for it."""
    if isinstance(error, ValidationError):
        for problem in error.errors(include_url=False, include_context=False):
            value = problem["input"]
            if problem["type"] == "missing" and problem["loc"][-1:] == ("method",) and isinstance(value, Mapping):
                return Instead(of_answer=_error(value.get("id")))
            if problem["type"] == "json_invalid" and isinstance(value, str | bytes):
                return Instead(of_answer=_error(_id_in(value)), to_request=_refusal_of(value))
    return Instead()


def _refusal_of(line: str | bytes) -> JSONRPCError | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, Mapping) or "method" not in found or "id" not in found:
        return None
    name = found["id"]
    known = isinstance(name, int | str) and not isinstance(name, bool) and not _holds_half(name)
    unread = ErrorData(code=INVALID_REQUEST, message=_HALF if _holds_half(found) else _NO_JSON)
    return JSONRPCError(jsonrpc="2.0", id=name if known else None, error=unread)


def _holds_half(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False


class BrokenAnswers:
    """ASGI: where the SDK refuses the body of a POST that was meant as an answer, an error is given in its place."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body, instead = b"", None

        async def kept() -> Message:
            nonlocal body
            message = await receive()
            if message["type"] == "http.request" and len(body) < _MOST_BYTES:
                body += message.get("body", b"")[: _MOST_BYTES - len(body)]
            return message

        async def checked(message: Message) -> None:
            nonlocal instead
            if message["type"] == "http.response.start" and message["status"] in _UNREAD:
                if not body:  # refused for its length alone
                    await kept()
                instead = _in_place_of_body(body)
            if instead is None:
                await send(message)

        await self.app(scope, kept, checked)
        if instead is not None:
            await self.app(_with_length(scope, len(instead)), _only(instead, receive), send)


def _in_place_of_body(body: bytes) -> bytes | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        answered = _id_in(body)
    else:
        answered = found.get("id") if isinstance(found, Mapping) and "method" not in found else None
    error = _error(answered)
    return None if error is None else error.model_dump_json(by_alias=True, exclude_unset=True).encode()


def _id_in(text: str | bytes) -> RequestId | None:
    """The id at the beginning of something that is not JSON, or too long or too deep to be read."""
    head = text[:_HEAD_BYTES]
    head = head.decode(errors="replace") if isinstance(head, bytes) else head
    found = None if '"method"' in head else _ID.search(head)
    if found is None:
        return None
    return int(found["number"]) if found["number"] else found["text"]


def _error(answered: object) -> JSONRPCError | None:
    if not isinstance(answered, int | str) or isinstance(answered, bool):
        return None
    unread = ErrorData(code=INVALID_REQUEST, message="The answer cannot be read.")
    return JSONRPCError(jsonrpc="2.0", id=answered, error=unread)


def _with_length(scope: Scope, length: int) -> Scope:
    headers = [pair for pair in scope["headers"] if pair[0] not in {b"content-length", b"transfer-encoding"}]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}


def _only(body: bytes, receive: Receive) -> Receive:
    given = False

    async def once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once
