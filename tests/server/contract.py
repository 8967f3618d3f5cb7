"""What a model and a client are told of the server, as files that a person reviews: one a tool, one a backend.

`python -m tests.server.renew_snapshots` writes them; `test_contract` fails when they differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio
from mcp.types import Tool

from batchcall_mcp.server.app import BatchCallServer, build_server
from batchcall_mcp.settings import Settings

SNAPSHOTS = Path(__file__).parent / "snapshots"
RENEW = "python -m tests.server.renew_snapshots"


@dataclass(frozen=True)
class Surface:
    """One backend, over one kind of transport."""

    backend: Literal["dialer", "zudu", "magpipe", "batchcall"]
    transport: Literal["stdio", "http"] = "stdio"

    def __str__(self) -> str:
        return self.backend if self.transport == "stdio" else f"{self.backend}-over-http"

    def server(self) -> BatchCallServer:
        """The server with default settings; nothing of it is started."""
        return build_server(Settings(backend=self.backend), transport=self.transport)

    def tools(self) -> list[Tool]:
        """The tools as tools/list gives them."""
        return anyio.run(self.server().list_tools)

    def files(self) -> Iterator[tuple[Path, str]]:
        """Path and text of every snapshot of this surface."""
        folder = SNAPSHOTS / str(self)
        yield folder / "instructions.txt", (self.server().instructions or "") + "\n"
        for tool in self.tools():
            yield folder / f"{tool.name}.json", json.dumps(told(tool), indent=2, ensure_ascii=False) + "\n"


SURFACES = (Surface("dialer"), Surface("zudu"), Surface("magpipe"), Surface("batchcall"), Surface("dialer", "http"))


def told(tool: Tool) -> dict[str, Any]:
    """A tool as it goes over the wire."""
    return tool.model_dump(mode="json", by_alias=True, exclude_none=True)
