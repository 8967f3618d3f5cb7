"""Totals of one server process in Prometheus's text format, on a port of their own that only this machine reaches.

No label holds an organisation, a caller, a number or a key: each value is from a list that the code makes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import prometheus_client as prometheus
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from batchcall_mcp import __version__
from batchcall_mcp.server.service import Service
from batchcall_mcp.server.tools.strict_tools import StrictServer
from batchcall_mcp.server.tools.tool_calls import CODES, OK, UNKNOWN_TOOL
from batchcall_mcp.server.transports.access import CheckedHost, allowed_hosts
from batchcall_mcp.server.transports.sessions import Bounded
from batchcall_mcp.sockets import url_of

logger = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
PATH: Final = "/metrics"
_PREFIX: Final = "batchcall_mcp_"
_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""A relayed read takes milliseconds, a tool call that asks a person up to five minutes."""
_CLOSES_WITHIN_S: Final = 1


class Metrics:
    """Counts from now on what a server and its service do, and what is open.

    `open_now`: where the sessions and streams of the server's transports are counted.
    """

    def __init__(self, server: StrictServer, service: Service | None, open_now: Sequence[Bounded]) -> None:
        # Of one process: when it began says when they did.
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = prometheus.CollectorRegistry()
        info = prometheus.Info(_PREFIX + "build", "This version of batchcall-mcp.", registry=registry)
        info.info({"version": __version__})
        says = "Tool calls that have ended, by tool and result."
        self._calls = prometheus.Counter(_PREFIX + "tool_calls", says, ("tool", "result"), registry=registry)
        says = "How long they took, with all waiting for a person."
        self._seconds = prometheus.Histogram(
            _PREFIX + "tool_call_seconds", says, ("tool",), registry=registry, buckets=_SECONDS
        )
        says = "Requests to the backend that ended in an error, all tries together, by kind."
        self._errors = prometheus.Counter(_PREFIX + "backend_errors", says, ("kind",), registry=registry)
        self._gauge("tool_calls_under_way", "Tool calls under way.", lambda: server.calls.under_way)
        says = "Sessions of clients of 2025 and SSE connections; clients of 2026 have none."
        self._gauge("sessions", says, lambda: sum(len(one.current()) for one in open_now))
        says = "Tool calls that wait for a person to answer; a client of 2026 that is asked makes no call wait."
        self._gauge("questions_waiting", says, lambda: 0 if service is None else service.desk.waiting)

        # 0 too: no alarm can rest on a series that comes and goes.
        for tool in (*server.tool_names, UNKNOWN_TOOL):
            self._calls.labels(tool, OK)
            self._seconds.labels(tool)
        for kind in CODES:
            self._errors.labels(kind)
        server.calls.done = self._done
        if service is not None:
            service.backend_erred = self._backend_erred

    def text(self) -> bytes:
        """As they are now."""
        return prometheus.generate_latest(self._registry)

    def _gauge(self, name: str, says: str, value: Callable[[], int]) -> None:
        prometheus.Gauge(_PREFIX + name, says, registry=self._registry).set_function(value)

    def _done(self, tool: str, result: str, seconds: float) -> None:
        self._calls.labels(tool, result).inc()
        self._seconds.labels(tool).observe(seconds)

    def _backend_erred(self, code: str) -> None:
        self._errors.labels(code).inc()


@asynccontextmanager
async def served(metrics: Metrics, listening: socket.socket) -> AsyncIterator[None]:
    """Answer at /metrics on a socket of this machine, until this is left. Closes the socket."""
    port = listening.getsockname()[1]

    async def shown(_request: Request) -> Response:
        return Response(metrics.text(), media_type=prometheus.CONTENT_TYPE_LATEST)

    app = Starlette(
        routes=[Route(PATH, shown, methods=["GET"])],
        middleware=[Middleware(CheckedHost, allowed=allowed_hosts(HOST, port, ()))],
    )
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_CLOSES_WITHIN_S,
    )
    server = _Unsignalled(config)
    serving = asyncio.create_task(server.serve([listening]))
    logger.info("Metrics on %s%s", url_of(HOST, listening), PATH)
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class _Unsignalled(uvicorn.Server):
    """A second server of a process, which ends with the first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
