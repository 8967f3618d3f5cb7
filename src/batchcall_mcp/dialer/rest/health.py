"""Whether this process lives (`/healthz`) and can serve (`/readyz`), for what starts, stops and balances it.

Neither asks for keys, so neither tells where the database is or why it fails; the log does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import anyio.to_thread
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from batchcall_mcp.dialer.rest.messages import response_models
from batchcall_mcp.dialer.rest.openapi import Endpoints
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.errors import ConfigurationError

LOG = logging.getLogger(__name__)
LIMIT_S: Final = 2.0
"""How long the database may take to answer."""


STALLED_S: Final = 10.0
"""How long an engine may go without a look at the database that succeeds; it looks twice a second."""


class Unready(NamedTuple):
    """Why not: `code` for programs, `error` for people."""

    code: str
    error: str


class EngineHealth(NamedTuple):
    """This process's engine: `running` if it dials, else `standby`, and how often it failed since the start.

    `stalled`: it is to dial, and for more than STALLED_S could not.
    """

    state: str
    failures: int = 0
    stalled: bool = False


_SLOW: Final = Unready("database_timeout", f"The database has not answered within {LIMIT_S:g} s.")
_STALLED: Final = Unready(
    "engine_stalled", f"The engine of this process could not work for more than {STALLED_S:g} s. The log says why."
)
_AWAY: Final = Unready("database_unavailable", "The database cannot be asked. The log says why.")


def install(
    app: FastAPI, open_store: Callable[[], Store], engine_health: Callable[[], EngineHealth], limit_s: float = LIMIT_S
) -> None:
    """Add both endpoints."""
    # One look at a time: while the database hangs, however often it is asked, one thread waits for it.
    looking: asyncio.Task[Unready | None] | None = None

    async def ready() -> Unready | None:
        nonlocal looking
        if looking is None or looking.done():
            looking = asyncio.create_task(anyio.to_thread.run_sync(_look, open_store, abandon_on_cancel=True))
        done, _ = await asyncio.wait({looking}, timeout=limit_s)
        return looking.result() if done else _SLOW

    def engine() -> dict[str, Any]:
        health = engine_health()
        return {"engine": health.state, "engine_failures": health.failures}

    # Both run on the event loop, so that they answer also when every worker thread waits for the database.
    endpoints = Endpoints()

    @endpoints.get("/healthz", lambda: {"response_model": response_models.Health})
    async def healthz() -> dict[str, Any]:
        """Whether the process is alive. Without keys."""
        return {"status": "ok", **engine()}

    @endpoints.get(
        "/readyz",
        lambda: {"response_model": response_models.Health, "responses": {503: {"model": response_models.Unready}}},
    )
    async def readyz() -> JSONResponse:
        """Whether it can serve; it asks the database too. Without keys."""
        problem = await ready() or (_STALLED if engine_health().stalled else None)
        answer = {"status": "ok", **engine()}
        if problem is None:
            return JSONResponse(answer)
        return JSONResponse(answer | {"status": "error"} | problem._asdict(), HTTPStatus.SERVICE_UNAVAILABLE)

    app.router.routes.extend(endpoints.routes)


def _look(open_store: Callable[[], Store]) -> Unready | None:
    try:
        halt = open_store().halted()
    except (ConfigurationError, sa.exc.SQLAlchemyError) as error:
        LOG.warning("Not ready: %s", getattr(error, "orig", error))
        return _AWAY
    return None if halt is None else Unready(halt.code, str(halt))
