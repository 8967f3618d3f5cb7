"""The snapshot of `batchcall_mcp.fast_start`: what the real server answers over stdio, on every backend in every mode.

`python -m release.snapshot` writes it; `tests/release/test_snapshot.py` fails when the server answers anything else.
With `--if-other-packages` only if other packages are installed than rendered it: a new release of one fails no test.
One line of JSON says which packages rendered it and where each backend begins; then each follows, as compressed JSON:
`texts`, and for each mode, era and method the numbers of the texts that make the result. Most tools are the same in
every mode.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import anyio
import anyio.to_thread
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from batchcall_mcp.backends.registry import BUILT_IN
from batchcall_mcp.fast_start.answers import FILE
from batchcall_mcp.server.app import BatchCallServer, build_server
from batchcall_mcp.server.transports.stdio import Wire, serve
from batchcall_mcp.settings import Mode, Settings

MODES: tuple[str, ...] = get_args(Mode)
LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
METHODS = {"legacy": ("initialize", "ping", *LISTS), "modern": ("server/discover", *LISTS)}
CLIENT = {"name": "client", "version": "1"}
PACKAGES = ("mcp", "mcp_types", "pydantic")
"""What decides about the answers; with another minor version of one, nobody has compared them."""
_VERSION = "@VERSION@"


def requests_of(version: str) -> list[dict[str, Any]]:
    """What a client of this protocol version asks, with ids that count from 0."""
    modern = version in MODERN_PROTOCOL_VERSIONS
    params: dict[str, Any] = {}
    if modern:
        own = {"protocolVersion": version, "clientCapabilities": {}, "clientInfo": CLIENT}
        params = {"_meta": {f"io.modelcontextprotocol/{name}": value for name, value in own.items()}}
    hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}
    return [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": hello if method == "initialize" else params}
        for number, method in enumerate(METHODS["modern" if modern else "legacy"])
    ]


def real_server(backend: str, mode: str, home: str) -> BatchCallServer:
    """The server of a process with these settings; nothing of it is started."""
    account = {} if backend == "dialer" else {"BATCHCALL_API_KEY": "key-of-nobody", "BATCHCALL_API_SECRET": "secret"}
    folders = {"BATCHCALL_DATA_DIR": home, "BATCHCALL_FILES": home}
    named = {"BATCHCALL_BACKEND": backend, "BATCHCALL_MODE": mode}
    return build_server(Settings.of(account | folders | named), transport="stdio")


async def answers_of(server: BatchCallServer, version: str) -> dict[str, bytes]:
    """The lines that a server writes over stdio to a client of this version, by method."""
    (server_reads, ask), (read, server_writes) = os.pipe(), os.pipe()
    asked = requests_of(version)
    with os.fdopen(server_reads, "rb") as reading, os.fdopen(server_writes, "wb", 0) as writing:
        async with anyio.create_task_group() as group:
            group.start_soon(serve, server, Wire(reading, writing))
            lines = await anyio.to_thread.run_sync(_talked, ask, read, asked)
    if [json.loads(line)["id"] for line in lines] != [one["id"] for one in asked]:
        raise ValueError("the answers came in another order")
    return dict(zip((one["method"] for one in asked), lines, strict=True))


def _talked(ask: int, read: int, asked: list[dict[str, Any]]) -> list[bytes]:
    with os.fdopen(ask, "wb", 0) as asking, os.fdopen(read, "rb") as answers:
        lines = []
        for one in asked:
            asking.write(json.dumps(one).encode() + b"\n")
            lines.append(answers.readline())
        return lines


async def rendered(server: BatchCallServer) -> dict[str, dict[str, str]]:
    """Result by era and method, as text."""
    found: dict[str, dict[str, str]] = {"legacy": {}, "modern": {}}
    for version in (*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS):
        results = found["modern" if version in MODERN_PROTOCOL_VERSIONS else "legacy"]
        for method, line in (await answers_of(server, version)).items():
            text = _text(json.loads(line)["result"])
            if method == "initialize":
                text = text.replace(_text(version), _text(_VERSION), 1)
            if results.setdefault(method, text) != text:
                raise ValueError(f"{method} differs in {version}: a snapshot has one answer for an era")
    return found


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def _kept(backend: str) -> dict[str, Any]:
    texts: dict[str, int] = {}
    modes = {}
    with tempfile.TemporaryDirectory() as home:
        for mode in MODES:
            eras = await rendered(real_server(backend, mode, home))
            modes[mode] = {
                era: {
                    method: [texts.setdefault(part, len(texts)) for part in _parts(method, result)]
                    for method, result in results.items()
                }
                for era, results in eras.items()
            }
    return {"texts": list(texts), "modes": modes}


def _parts(method: str, result: str) -> Iterator[str]:
    """A list of tools in parts, one for each tool."""
    rest = result
    if method == "tools/list":
        for tool in map(_text, json.loads(result)["tools"]):
            before, _, rest = rest.partition(tool)
            yield from (before, tool)
    yield rest


def rendered_by() -> dict[str, str]:
    """The minor versions that are installed here: a patch changes no list, and comes more often than we release."""
    return {name: ".".join(metadata.version(name).split(".")[:2]) for name in PACKAGES}


def write(path: Path) -> None:
    """Render all of it into one file."""
    logging.disable(logging.INFO)
    found = {backend: anyio.run(_kept, backend) for backend in BUILT_IN}
    packed = {backend: zlib.compress(_text(kept).encode(), 9) for backend, kept in found.items()}
    places, at = {}, 0
    for backend, data in packed.items():
        places[backend] = (at, len(data))
        at += len(data)
    versions = {"legacy": HANDSHAKE_PROTOCOL_VERSIONS, "modern": MODERN_PROTOCOL_VERSIONS}
    index = _text({"rendered_by": rendered_by(), "versions": versions, "backends": places}).encode() + b"\n"
    path.write_bytes(index + b"".join(packed.values()))


def is_of_these_packages(path: Path) -> bool:
    """Whether the packages that are installed here rendered this file."""
    with path.open("rb") as file:
        found: bool = json.loads(file.readline())["rendered_by"] == rendered_by()
        return found


if __name__ == "__main__":
    if "--if-other-packages" not in sys.argv or not is_of_these_packages(Path(FILE)):
        write(Path(FILE))
