"""The MCP server, put together: tools, resources and instructions over one `Service`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import batchcall_mcp
from batchcall_mcp.server.approvals.elicitation import readable_answers
from batchcall_mcp.server.credentials import request_state_security
from batchcall_mcp.server.resources import add_resources
from batchcall_mcp.server.service import Service
from batchcall_mcp.server.tools.descriptions import instructions
from batchcall_mcp.server.tools.registry import build_tools
from batchcall_mcp.server.tools.strict_tools import StrictServer
from batchcall_mcp.server.transports.access import Authenticate
from batchcall_mcp.settings import Settings

NAME = "batchcall-mcp"


class BatchCallServer(StrictServer):
    """A StrictServer that knows its service."""

    service: Service

    @property
    def authenticate(self) -> Authenticate | None:
        """Says whether a key pair is known, where that is known here: only by the embedded dialer."""
        return self.service.verify if self.service.embedded else None


def build_server(settings: Settings, *, transport: Literal["stdio", "http"]) -> BatchCallServer:
    """Make the server of one process.

    Args:
        settings: The operator's.
        transport: stdio callers share this machine's disk; HTTP and SSE callers do not.

    Raises:
        ConfigurationError: the settings contradict each other, or name a backend that does not exist.
    """
    service = Service(settings, local=transport == "stdio")

    def opened(_server: object) -> AbstractAsyncContextManager[Any]:
        return service.opened()

    needs_secret = service.capabilities.needs_secret
    server = BatchCallServer(
        NAME,
        title="Batch calls",
        version=batchcall_mcp.__version__,
        instructions=instructions(service.capabilities, simulated=service.capabilities.simulated),
        tools=build_tools(service),
        lifespan=opened,
        needs_secret=needs_secret,
        request_state_security=request_state_security(settings, service.shared_key, needs_secret=needs_secret),
        middleware=[readable_answers],
        log_level=settings.log_level,
    )
    server.service = service
    server.accepted = service.accepted
    add_resources(server, service)
    return server
