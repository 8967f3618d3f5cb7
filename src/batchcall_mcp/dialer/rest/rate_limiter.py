"""How many requests a second each key may send to this process. Kept in memory, of a size that no stranger can change.

A pair that is known has an allowance of its own. Pairs that are not known use up nobody's: they are counted by the
address they come from. Behind a proxy, where all have one address, a right pair still passes.
"""

from __future__ import annotations

import math
import time
from typing import Final

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from batchcall_mcp.errors import RateLimited
from batchcall_mcp.settings import Settings

_WRONG: Final = 10
"""Unknown pairs that are answered per address and window."""
_ADDRESSES: Final = 1024
"""Windows for addresses, which share them by chance: there are more addresses than memory."""


class Limiter:
    """Raises when it is too much; for any thread."""

    def __init__(self, requests: int, window_s: int = 1) -> None:
        self._right: Final = RateLimitItemPerSecond(requests, window_s, namespace="right")
        self._wrong: Final = RateLimitItemPerSecond(min(requests, _WRONG), window_s, namespace="wrong")
        self._storage: Final = MemoryStorage()
        self._windows: Final = MovingWindowRateLimiter(self._storage)

    @classmethod
    def of(cls, settings: Settings) -> Limiter:
        """As the settings have it: for a server, whose callers are many."""
        return cls(settings.rate_limit)

    def known(self, api_key: str) -> None:
        """Count a request with a pair that is known.

        Raises:
            RateLimited: it is too much; `retry_after` is in whole seconds, at least 1.
        """
        # Its hash, so that the key itself lies in no memory longer than its request.
        self._count(self._right, str(hash(api_key)))

    def unknown(self, address: str) -> None:
        """Count a request with a pair that is not known, or without one.

        Raises:
            RateLimited: see `known`.
        """
        self._count(self._wrong, str(hash(address) % _ADDRESSES))

    def _count(self, item: RateLimitItem, name: str) -> None:
        if self._windows.hit(item, name):
            return
        wait = self._windows.get_window_stats(item, name).reset_time - time.time()
        if wait > item.get_expiry() + 1:
            # Only a clock that has jumped back makes it so long; what was counted before says nothing any more.
            self._storage.clear(item.key_for(name))
            if self._windows.hit(item, name):
                return
        retry_after = max(1, math.ceil(wait))
        raise RateLimited(
            f"Too many requests: at most {item.amount} in {item.get_expiry()} s. Nothing was changed; "
            f"send it again in {retry_after} s.",
            retry_after,
        )
