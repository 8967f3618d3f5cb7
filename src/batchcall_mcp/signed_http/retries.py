"""When a signed message that was not delivered is tried again, and when it is given up."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Final

from batchcall_mcp.signed_http.post import Result

DELAYS: Final = (
    timedelta(seconds=5),
    *(timedelta(minutes=minutes) for minutes in (5, 30)),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
)
"""After each failed try; after the one that follows the last, the message is given up."""
JITTER: Final = 0.1
"""A delay is longer by up to this part of it, so that what failed together does not come again together."""
LONGEST_RETRY_AFTER: Final = timedelta(hours=24)
_JITTER: Final = random.SystemRandom()


def next_try(tries: int, result: Result) -> timedelta | None:
    """How long to wait after the try number `tries` failed, or None: give up."""
    if result.gone or tries > len(DELAYS):
        return None
    asked = min(result.retry_after or timedelta(0), LONGEST_RETRY_AFTER)
    return max(DELAYS[tries - 1], asked) * (1 + _JITTER.uniform(0, JITTER))
