"""Messages of clients, as lines."""

from __future__ import annotations

import json
from typing import Any

LEGACY, MODERN = "2025-11-25", "2026-07-28"
CLIENT = {"name": "client", "version": "1"}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": CLIENT,
}
LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n'


def line(value: Any) -> bytes:
    """As most clients write it."""
    return json.dumps(value).encode() + b"\n"


def request(id: Any, method: str, params: Any = None) -> bytes:  # noqa: A002 - the protocol's word
    """A request; without parameters where they are None."""
    message = {"jsonrpc": "2.0", "id": id, "method": method}
    return line(message if params is None else message | {"params": params})


def initialize(id: Any = 0, version: str | None = LEGACY, **other: Any) -> bytes:  # noqa: A002
    """The handshake of 2025; `other` replaces a parameter."""
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT} | other
    return request(id, "initialize", {name: value for name, value in params.items() if value is not None})


def modern(id: Any, method: str, params: Any = None, **meta: Any) -> bytes:  # noqa: A002
    """A request of 2026; `meta` replaces a part of what it says of its client."""
    of_client = META | {f"io.modelcontextprotocol/{name}": value for name, value in meta.items()}
    return request(id, method, {"_meta": of_client, **(params or {})})


def notification(method: str, params: Any = None) -> bytes:
    """A notification."""
    message = {"jsonrpc": "2.0", "method": method}
    return line(message if params is None else message | {"params": params})


def call(id: Any, tool: str = "no_such_tool", **arguments: Any) -> bytes:  # noqa: A002
    """A tool call of 2025; by default one whose answer is always the same."""
    return request(id, "tools/call", {"name": tool, "arguments": arguments})
