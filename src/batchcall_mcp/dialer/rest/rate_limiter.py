"""How many requests a second each key may send to this process. Kept in memory, of a size that no stranger can change.

A pair that is known has an allowance of its own. Pairs that are not known use up nobody's: they are counted by the
address they come from. Behind a proxy, where all have one address, a right pair still passes.
"""

from __future__ import annotations

import math
import time
from collections import deque
from threading import Lock
from typing import Final

from batchcall_mcp.errors import RateLimited
from batchcall_mcp.settings import Settings

_WRONG: Final = 10
"""Unknown pairs that are answered per address and window."""
_ADDRESSES: Final = 1024
"""Windows for addresses, which share them by chance: there are more addresses than memory."""


class Limiter:
    """Raises when it is too much; for any thread."""

    def __init__(self, requests: int, window_s: int = 1) -> None:
        self._right: Final = MovingWindows(requests, window_s)
        self._wrong: Final = MovingWindows(min(requests, _WRONG), window_s)

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
        self._right.count(hash(api_key))

    def unknown(self, address: str) -> None:
        """Count a request with a pair that is not known, or without one.

        Raises:
            RateLimited: see `known`.
        """
        self._wrong.count(hash(address) % _ADDRESSES)


class MovingWindows:
    """At most `most` requests of one name in any `seconds`: not twice as many around the edge of a fixed window.

    The moments are those of a clock that nobody sets.
    """

    def __init__(self, most: int, seconds: int) -> None:
        self._most: Final = most
        self._seconds: Final = seconds
        self._lock: Final = Lock()
        self._moments: Final[dict[int, deque[float]]] = {}
        """Of what was let through, by name; who asked last stands last."""

    def count(self, name: int) -> None:
        """Let one through.

        Raises:
            RateLimited: there were too many.
        """
        with self._lock:
            now = time.monotonic()
            self._forget(now - self._seconds)
            moments = self._moments[name] = self._moments.pop(name, deque())
            while moments and moments[0] <= now - self._seconds:
                moments.popleft()
            if len(moments) < self._most:
                moments.append(now)
                return
            wait = moments[0] + self._seconds - now
        retry_after = max(1, math.ceil(wait))
        raise RateLimited(
            f"Too many requests: at most {self._most} in {self._seconds} s. Nothing was changed; "
            f"send it again in {retry_after} s.",
            retry_after,
        )

    def _forget(self, before: float) -> None:
        """Drop the names of which nothing counts any more: those that have not asked for longest."""
        while self._moments:
            name, moments = next(iter(self._moments.items()))
            if moments[-1] > before:
                return
            del self._moments[name]
