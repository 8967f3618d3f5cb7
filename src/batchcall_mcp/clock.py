"""The wall clock and the epoch: one unit, one rounding and one border between seconds and milliseconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias

Clock: TypeAlias = Callable[[], datetime]
"""Says what time it is, as aware UTC."""

MILLISECONDS_FROM: Final = 100_000_000_000
"""An epoch number from here on is in milliseconds; as seconds, this is the year 5138."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)
_LONGEST_WAIT_S: Final = 1e9
"""What asks for longer asks for this: a span of time must hold it."""
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
_FIRST: Final = -((_EPOCH - datetime.min.replace(tzinfo=UTC)) // _MILLISECOND)


def utc_now() -> datetime:
    return datetime.now(UTC)


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970, rounded up: what is due at `moment` is never due before it."""
    return -((_EPOCH - moment) // _MILLISECOND)


def from_ms(milliseconds: int) -> datetime:
    """The aware UTC moment of `to_ms`; what no calendar has comes out as its first or last moment."""
    return _EPOCH + min(max(milliseconds, _FIRST), _LAST) * _MILLISECOND


def span_ms(span: timedelta) -> int:
    return span // _MILLISECOND


def from_epoch(number: float) -> datetime:
    """The aware UTC moment of an epoch number that others wrote: seconds or milliseconds, by its magnitude.

    Raises:
        ValueError: no calendar has this moment.
    """
    try:
        return _EPOCH + number * (_MILLISECOND if abs(number) >= MILLISECONDS_FROM else _SECOND)
    except OverflowError:
        raise ValueError("no calendar has this moment") from None


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, given as seconds or as an HTTP date; None if it says nothing."""
    value = (header or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return min(float(value), _LONGEST_WAIT_S)
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((until - now).total_seconds(), 0.0)
