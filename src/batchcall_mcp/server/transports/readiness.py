"""/readyz: whether this process should be sent requests now, for whoever distributes them."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Final

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse

from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.server.service import Service
from batchcall_mcp.server.transports.traffic import Traffic

logger = logging.getLogger(__name__)

_HOLDS_S: Final = 1.0
"""How long one look holds: who probes has no key, so probes must cost nothing."""
_LONGEST_LOOK_S: Final = 5.0


@dataclass
class Readiness:
    """Not while the process ends, and not while the ledger cannot be used. The backend is not asked.

    An outage of the backend would take every server away at once, and with them the words that say what is wrong.
    """

    service: Service | None
    traffic: Traffic
    _usable: bool = field(default=True, init=False)
    _looked_at: float | None = field(default=None, init=False)
    _looking: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    async def answer(self, _request: Request) -> JSONResponse:
        if self.traffic.ending:
            return _answer("stopping")
        async with self._looking:
            if self._looked_at is None or time.monotonic() - self._looked_at >= _HOLDS_S:
                await self._look()
        return _answer(None if self._usable else "ledger")

    async def _look(self) -> None:
        before, why = self._usable, "no answer in time"
        self._usable = False
        try:
            with anyio.move_on_after(_LONGEST_LOOK_S):
                if self.service is not None:
                    await self.service.check_ledger()
                self._usable = True
        except BatchCallError as error:
            why = str(error)
        self._looked_at = time.monotonic()
        if before != self._usable:
            logger.warning("/readyz: %s", "ready again" if self._usable else f"the ledger cannot be used: {why}")


def _answer(because: str | None) -> JSONResponse:
    """Without the reason's text, which names folders: the log has it."""
    if because is None:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "not_ready", "because": because}, 503)
