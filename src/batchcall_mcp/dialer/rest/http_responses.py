"""What every request and answer of the REST API has in common: keys, body limit, envelope, error codes."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any, Final, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from batchcall_mcp import errors
from batchcall_mcp.dialer.rest.messages.preconditions import PreconditionFailed
from batchcall_mcp.dialer.rest.openapi import allowed
from batchcall_mcp.dialer.rest.service import Answer

LOG = logging.getLogger(__name__)
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
MAX_READ_AT_ONCE_BYTES: Final = 16 * 1024 * 1024
"""For a body that is not read piece by piece: the ids of 400,000 tasks."""
_IN_MEMORY: Final = 1024 * 1024
_TWO_LENGTHS: Final = frozenset({b"content-length", b"transfer-encoding"})


class BadRequest(errors.InvalidInput):
    """The request can be read in two ways."""

    code = "bad_request"


_STATUS: Final[Mapping[type[errors.BatchCallError], HTTPStatus]] = {
    errors.AuthenticationFailed: HTTPStatus.UNAUTHORIZED,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,  # before what it is one of
    errors.IllegalTransition: HTTPStatus.CONFLICT,
    errors.QuotaExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    BadRequest: HTTPStatus.BAD_REQUEST,  # before what it is one of
    errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    errors.BackendUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
_CODES: Final = {404: errors.NotFound.code, 405: "method_not_allowed", 422: errors.InvalidInput.code}


class _Json(JSONResponse):
    """Written by pydantic: a page of 1,000 tasks takes a third of the time."""

    def render(self, content: Any) -> bytes:
        return to_json(content)


def success(answer: Answer) -> JSONResponse:
    """The envelope of an answer."""
    headers = {"Idempotency-Replayed": "true"} if answer.replayed else {}
    if answer.etag is not None:
        headers["ETag"] = answer.etag
    content: dict[str, Any] = {"message": answer.message, "status": "success", "error": None, "data": answer.data}
    if answer.replayed:
        content["replayed"] = True
    return _Json(content, headers=headers)


def failure(status: int, code: str, text: str) -> JSONResponse:
    """The envelope of an error: `code` for programs, `error` for people."""
    message = HTTPStatus(status).phrase
    return JSONResponse(
        {"message": message, "status": "error", "error": text, "code": code, "data": None}, status_code=status
    )


@dataclass(frozen=True, slots=True)
class Received:
    """A whole body, in a file that is on disk if it is large; `fingerprint` makes two writes the same request."""

    file: IO[bytes]
    fingerprint: str

    def read(self) -> bytes:
        """All of it, of those that hold no task list.

        Raises:
            QuotaExceeded: it is larger than MAX_READ_AT_ONCE_BYTES.
        """
        self.file.seek(0)
        whole = self.file.read(MAX_READ_AT_ONCE_BYTES + 1)
        if len(whole) > MAX_READ_AT_ONCE_BYTES:
            raise errors.QuotaExceeded(f"The body is larger than {MAX_READ_AT_ONCE_BYTES} bytes. Nothing was changed.")
        return whole


async def receive(request: Request) -> AsyncIterator[Received]:
    """The body, until the request has been answered: a dependency.

    Raises:
        QuotaExceeded: it is larger than MAX_BODY_BYTES; the rest of it is not read.
    """
    hashed = hashlib.sha256(b"\n".join((request.method.encode(), request.url.path.encode(), b"")))
    size = 0
    # A write of one network read goes to the page cache in microseconds; a thread for each would cost more.
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise errors.QuotaExceeded(
                    f"The body is larger than {MAX_BODY_BYTES} bytes. Nothing was changed; send fewer tasks at once."
                )
            hashed.update(part)
            file.write(part)
        yield Received(cast("IO[bytes]", file), hashed.hexdigest())


class OneLength:
    """Refuses a request whose body ends in two ways, and closes its connection: what follows is perhaps no request.

    A proxy that goes by Content-Length and a server that goes by the chunks see different requests (RFC 9112, 6.1).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and {name for name, _ in scope["headers"]} >= _TWO_LENGTHS:
            text = "Content-Length and Transfer-Encoding are both given. Nothing was changed; send one of them."
            app = failure(HTTPStatus.BAD_REQUEST, BadRequest.code, text)
            app.headers["Connection"] = "close"
        await app(scope, receive, send)


def install(app: FastAPI) -> None:
    """Put every error into the envelope."""
    app.add_middleware(OneLength)

    @app.exception_handler(errors.BatchCallError)
    async def _known(_request: Request, error: errors.BatchCallError) -> JSONResponse:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), None)
        if status is None:
            raise error
        answer = failure(status, error.code, error.message)
        if isinstance(error, errors.RateLimited) and error.retry_after is not None:
            answer.headers["Retry-After"] = f"{error.retry_after:.0f}"
        return answer

    @app.exception_handler(ClientDisconnect)
    async def _left(_request: Request, _error: ClientDisconnect) -> JSONResponse:
        # Nobody reads it; without it each broken upload would be an error of the dialer in the log, with a traceback.
        return failure(HTTPStatus.BAD_REQUEST, "incomplete", "The body did not arrive whole. Nothing was changed.")

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'][1:])}: {problem['msg']}" for problem in error.errors()
        ]
        invalid = errors.InvalidInput("The request is not valid. Nothing was changed.", problems)
        return failure(HTTPStatus.UNPROCESSABLE_ENTITY, invalid.code, invalid.message)

    @app.exception_handler(HTTPException)
    async def _unrouted(request: Request, error: HTTPException) -> JSONResponse:
        code = _CODES.get(error.status_code, "error")
        answer = failure(error.status_code, code, f"{error.detail}. Nothing was changed.")
        answer.headers.update(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            answer.headers["Allow"] = allowed(request.app.openapi(), request.url.path)
        return answer

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, _error: Exception) -> JSONResponse:
        text = "The dialer failed; whether anything was changed is not known. Look the batch call up."
        LOG.error("%s %s failed", request.method, request.url.path)
        return failure(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", text)
