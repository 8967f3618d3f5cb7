"""The mode that one request over HTTP asks for, and the headers of the request that is being answered.

One server serves many clients: who sets up one of them may want less of it than the operator allows, never more.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.settings import Mode
from batchcall_mcp.text import quoted

MODE_HEADER: Final = "X-BATCHCALL-MODE"
_MODES: Final[Mapping[str, Mode]] = {"draft": "draft", "read-only": "read-only"}
_current: ContextVar[Mapping[str, str] | None] = ContextVar("headers of the current request", default=None)


def asked_mode(headers: Mapping[str, str] | None) -> tuple[Mode | None, str]:
    """The mode that a request asks for, None where it asks for none, and how a refusal says so. Pure.

    Raises:
        InvalidInput: there is no such mode. Nothing that a person meant as a limit is ignored.
    """
    asked = None if headers is None else headers.get(MODE_HEADER.lower(), headers.get(MODE_HEADER))
    if asked is None:
        return None, ""
    mode = _MODES.get(asked.strip())
    if mode is None:
        raise InvalidInput(
            f"The request header {MODE_HEADER} is {quoted(asked)}; it takes read-only or draft, once. Nothing was "
            "sent. Correct it in the MCP client's configuration of this server, or remove it."
        )
    return mode, f"This request has the header {MODE_HEADER}: {mode}"


def current_headers() -> Mapping[str, str] | None:
    """Of the request that is being answered, for what the SDK gives no context; None over stdio."""
    return _current.get()


async def remember_headers(context: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: keeps a request's headers for `current_headers`, until it is answered."""
    token = _current.set(None if context.request is None else context.request.headers)
    try:
        return await call_next(context)
    finally:
        _current.reset(token)
