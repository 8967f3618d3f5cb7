"""MCP over streamable HTTP (both protocol eras at /mcp) and SSE (/sse), for many callers with keys of their own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, nullcontext
from typing import Any, Literal, TypeAlias

import anyio
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from batchcall_mcp.kept_files.caller_files import files_url, upload_line
from batchcall_mcp.server.credentials import AcceptedPairs
from batchcall_mcp.server.service import Service
from batchcall_mcp.server.tools.strict_tools import StrictServer
from batchcall_mcp.server.transports.access import (
    Authenticate,
    CheckedHost,
    KnownCaller,
    KnownMode,
    PostOnly,
    TooLargeInWords,
    allowed_hosts,
)
from batchcall_mcp.server.transports.broken_answers import BrokenAnswers
from batchcall_mcp.server.transports.files import FileRoutes
from batchcall_mcp.server.transports.pair_checks import PairChecks
from batchcall_mcp.server.transports.readiness import Readiness
from batchcall_mcp.server.transports.sessions import Bounded, BoundedSessions, BoundedStreams
from batchcall_mcp.server.transports.traffic import Controlled, Limiter, Traffic
from batchcall_mcp.settings import Settings
from batchcall_mcp.sockets import bound_socket, url_of

logger = logging.getLogger(__name__)

HttpTransport: TypeAlias = Literal["http", "sse", "both"]
MCP_PATH = "/mcp"
SSE_PATH = "/sse"
HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"

_LARGEST_BODY_BYTES = 4 * 1024 * 1024
_SHUTDOWN_S = 2
"""For what is still open once the answers are out."""
_INTERRUPTED = 130
_KEEP_ALIVE_S = 75


def http_app(
    server: StrictServer,
    settings: Settings,
    *,
    host: str,
    port: int,
    transport: HttpTransport = "http",
    stateless: bool = False,
    authenticate: Authenticate | None = None,
    service: Service | None = None,
    session_idle_timeout_s: float = 30 * 60,
    max_sessions: int = 1000,
    max_sessions_per_caller: int = 100,
    traffic: Traffic | None = None,
    limiter: Limiter | None = None,
    open_now: list[Bounded] | None = None,
) -> Starlette:
    """The ASGI application. Its lifespan opens the server's state once for the process.

    Args:
        server: Serves every transport.
        settings: For BATCHCALL_ALLOWED_HOSTS.
        host: The address it will be bound to.
        port: The port it will be bound to, for the Host check.
        transport: streamable HTTP, SSE or both.
        stateless: No sessions for handshake-era clients of streamable HTTP; such clients cannot be asked questions.
        authenticate: Says whether a key pair is known; None leaves that to the backend.
        service: Keeps callers' files, served at /files; None serves none.
        session_idle_timeout_s: After which a handshake-era session without a request ends.
        max_sessions: Most sessions, and most SSE connections. When they are open, a caller whom the backend accepts
            takes the place of one whom it never accepted; anyone else gets 401 or 503.
        max_sessions_per_caller: Most of one key pair. Its next session ends its oldest idle one, or gets 429.
        traffic: Of this process, which says when it ends.
        limiter: Counts each caller's requests; None counts nobody's.
        open_now: Takes what counts the sessions and streams.
    """
    traffic = Traffic() if traffic is None else traffic
    accepted = server.accepted if authenticate is None else AcceptedPairs()

    def checks() -> PairChecks:
        """Of its own for each: who floods one does not hold up the others."""
        return PairChecks(accepted, settings, server.needs_secret)

    def how_to_upload(scope: Scope) -> str:
        return upload_line(files_url(Headers(scope=scope)), needs_secret=server.needs_secret)

    bounded: dict[str, Any] = {
        "most": max_sessions,
        "most_per_caller": max_sessions_per_caller,
        "idle_timeout_s": session_idle_timeout_s,
        "all": [] if open_now is None else open_now,
    }
    open_paths = frozenset({HEALTH_PATH, READY_PATH})
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # CheckedHost does it, for every path
    routes: list[BaseRoute] = [
        Route(HEALTH_PATH, _healthy, methods=["GET"]),
        Route(READY_PATH, Readiness(service, traffic).answer, methods=["GET"]),
    ]
    middleware = [
        Middleware(CheckedHost, allowed=allowed_hosts(host, port, settings.allowed_hosts)),
        Middleware(
            KnownCaller,
            settings,
            needs_secret=server.needs_secret,
            authenticate=authenticate,
            open_paths=open_paths,
        ),
        Middleware(
            Controlled,
            traffic,
            limiter,
            accepted,
            open_paths=open_paths,
            streams=frozenset({MCP_PATH, SSE_PATH}),
        ),
        Middleware(KnownMode),
        *([] if service is None else [Middleware(FileRoutes, service, checks())]),
        Middleware(
            TooLargeInWords,
            largest_bytes=_LARGEST_BODY_BYTES,
            how_to_upload=None if service is None else how_to_upload,
        ),
        Middleware(BrokenAnswers),
    ]
    if transport in {"http", "both"}:
        routes += server.streamable_http_app(
            streamable_http_path=MCP_PATH,
            stateless_http=stateless,
            transport_security=unchecked,
            max_request_body_size=_LARGEST_BODY_BYTES,
            session_idle_timeout=session_idle_timeout_s,
            max_sessions=None,  # BoundedSessions does it
        ).routes
        if stateless:
            middleware.append(Middleware(PostOnly, path=MCP_PATH))
        else:
            middleware.append(Middleware(BoundedSessions, path=MCP_PATH, checks=checks(), **bounded))
    if transport in {"sse", "both"}:
        routes += server.sse_app(
            sse_path=SSE_PATH, transport_security=unchecked, max_request_body_size=_LARGEST_BODY_BYTES
        ).routes
        middleware.append(Middleware(BoundedStreams, path=SSE_PATH, checks=checks(), **bounded))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(server.held_open())
            if transport in {"http", "both"}:
                await stack.enter_async_context(server.session_manager.run())
            yield

    return Starlette(routes=routes, middleware=middleware, lifespan=lifespan)


def run_http(
    server: StrictServer,
    settings: Settings,
    *,
    host: str,
    port: int,
    metrics_port: int | None = None,
    drain_seconds: float = 25,
    **options: Any,
) -> None:
    """Serve until SIGINT or SIGTERM, then as `EndingServer` says. Port 0 picks one.

    Args:
        server: Serves every transport.
        settings: See `http_app`.
        host: The address to listen on.
        port: The port to listen on.
        metrics_port: Where this machine reads totals; None: nowhere.
        drain_seconds: How long answers that are under way may take at the end.
        options: As of `http_app`.

    Raises:
        ConfigurationError: if an address cannot be bound.
    """
    import uvicorn

    from batchcall_mcp.dialer.rest.rate_limiter import Limiter
    from batchcall_mcp.server.transports.ending import EndingServer

    traffic, open_now = Traffic(), list[Bounded]()
    counting: AbstractAsyncContextManager[None] = nullcontext()
    with ExitStack() as sockets:
        listening = sockets.enter_context(bound_socket(host, port))
        if metrics_port is not None:
            from batchcall_mcp.server.transports.metrics import HOST, Metrics, served

            shown_at = sockets.enter_context(bound_socket(HOST, metrics_port))
            counting = served(Metrics(server, options.get("service"), open_now), shown_at)
        port = listening.getsockname()[1]
        limiter = Limiter.of(settings)
        more = {"traffic": traffic, "limiter": limiter, "open_now": open_now, **options}
        app = http_app(server, settings, host=host, port=port, **more)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_SHUTDOWN_S,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        ending = EndingServer(config, traffic, server.calls, drain_seconds)

        async def serve() -> None:
            async with counting:
                await ending.serve([listening])

        logger.info("Serving MCP on %s", url_of(host, listening))
        if options.get("transport", "http") != "http":
            logger.warning("SSE (%s) is deprecated, in MCP and here: use streamable HTTP (%s)", SSE_PATH, MCP_PATH)
        try:
            anyio.run(serve)
        except KeyboardInterrupt:
            raise SystemExit(_INTERRUPTED) from None


async def _healthy(_request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})
