"""How a server over HTTP ends: it takes nothing new, lets the answers out that are under way, then closes.

uvicorn alone would close its listener at once, which cuts off the answer of a person to a question that waits; and at
its first signal the SDK's event streams end, with the answers in them.
"""

from __future__ import annotations

import logging
import time
from types import FrameType

import uvicorn

from batchcall_mcp.server.tools.tool_calls import ToolCalls
from batchcall_mcp.server.transports.traffic import Traffic

logger = logging.getLogger(__name__)

_QUIET_LOOKS = 2
"""How often nothing is seen under way, 0.1 s apart, before all is over: a last answer may lie in a stream."""


class EndingServer(uvicorn.Server):
    """A first signal begins the end, which takes at most `within_s` seconds; a second one closes at once.

    Args:
        config: See uvicorn.
        traffic: The requests of this process; from the first signal on they are refused.
        calls: The tool calls of this process: over SSE a call goes on after its request.
        within_s: How long answers may take that are under way.
    """

    def __init__(self, config: uvicorn.Config, traffic: Traffic, calls: ToolCalls, within_s: float) -> None:
        super().__init__(config)
        self._traffic = traffic
        self._calls = calls
        self._within_s = within_s
        self._signal: int | None = None
        self._until: float | None = None
        self._quiet = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._signal is None:
            self._signal = sig
            self._traffic.ending = True
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._signal is not None and not self.should_exit and self._is_over():
            super().handle_exit(self._signal, None)
        return await super().on_tick(counter)

    def _is_over(self) -> bool:
        under_way = max(self._traffic.under_way, self._calls.under_way)
        self._quiet = 0 if under_way else self._quiet + 1
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._within_s
            if under_way:
                logger.info("Stopping: nothing new is taken; %s under way may take %g s", under_way, self._within_s)
        if now < self._until:
            return self._quiet >= _QUIET_LOOKS
        logger.warning("Stopping: %s still under way after %g s, cut off", under_way, self._within_s)
        return True
