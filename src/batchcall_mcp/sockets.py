"""A listening socket that is bound before anything else starts: a taken port is one clear line."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping

from batchcall_mcp.errors import ConfigurationError

_BACKLOG = 2048
_HOST = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")


def bound_socket(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 picks a free one.

    Raises:
        ConfigurationError: naming the address and the system's reason.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay (40 ms an answer over SSE) off only on sockets whose protocol is named.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        return listening
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"Cannot listen on {_place(host, port)}: {error.strerror or error}. Nothing was started. "
            "Choose another --host or --port; --port 0 picks a free one."
        ) from None


def url_of(host: str, listening: socket.socket) -> str:
    """The address that a client uses, with the port that was bound."""
    return f"http://{_place(host, listening.getsockname()[1])}"


def requested_address(headers: Mapping[str, str]) -> str | None:
    """The address of this server as a request named it, whose Host was checked; None if that names no host.

    A reverse proxy says that it was asked over TLS. What it says can only make `https` of `http`.
    """
    host = headers.get("host") or headers.get("Host") or ""
    scheme = "https" if headers.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else None


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
