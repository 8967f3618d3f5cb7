"""The reference: an `MCPServer` of the SDK with so many small tools, and nothing else.

Run: `python benchmarks/bare.py TOOLS [PORT]`; over stdio, or over HTTP on that port.
"""

import sys
from typing import Annotated

from mcp.server import MCPServer
from pydantic import Field

server = MCPServer("bare", version="1", log_level="WARNING")


def add(name: str) -> None:
    """One more tool."""

    @server.tool(name=name)
    def tool(text: Annotated[str, Field(description="A text")], number: int = 1) -> str:  # noqa: ARG001
        """Give the text back."""
        return text


for made in range(int(sys.argv[1])):
    add(f"tool_{made}")
if len(sys.argv) > 2:
    server.run("streamable-http", port=int(sys.argv[2]))
else:
    server.run("stdio")
