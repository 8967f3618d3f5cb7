"""Asking the backend whether it accepts a caller's key pair: bounded, so that strangers cannot flood it through us."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio
from starlette.datastructures import Headers
from starlette.types import Scope

from batchcall_mcp.errors import BackendUnavailable
from batchcall_mcp.server.credentials import AcceptedPairs, caller_credentials
from batchcall_mcp.settings import Settings

_LONGEST_CHECK_S = 5.0
_CHECKS_AT_ONCE = 16
_MOST_WAITING = 200


@dataclass(frozen=True, slots=True)
class PairChecks:
    """At most 16 questions at once and 200 that wait, of 5 s each, for all callers together."""

    accepted: AcceptedPairs
    settings: Settings
    needs_secret: bool
    _at_once: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(_CHECKS_AT_ONCE), init=False)

    async def accepts(self, scope: Scope) -> bool:
        """Whether the backend accepts the pair of a request now.

        Raises:
            BatchCallError: that cannot be learned.
        """
        if self._at_once.statistics().tasks_waiting >= _MOST_WAITING:
            raise BackendUnavailable("Too many key pairs are being checked. Nothing was sent. Try again later.")
        credentials = caller_credentials(Headers(scope=scope), self.settings, needs_secret=self.needs_secret)
        try:
            with anyio.fail_after(_LONGEST_CHECK_S):
                async with self._at_once:
                    return await self.accepted.ask(credentials)
        except TimeoutError:
            raise BackendUnavailable(
                "The backend did not say in time whether it accepts this key pair. Nothing was sent. Try again later."
            ) from None
