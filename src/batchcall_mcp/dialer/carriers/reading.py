"""When calls are read: each in its own rhythm or as soon as something is heard of it, all together not too fast."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from batchcall_mcp.vendor_http.client import Sleep

_FIRST_PAUSES: Final = (1.0, 2.0)
_PAUSE: Final = 3.0
_LATER_PAUSE: Final = 5.0
_LATER_FROM: Final = 60.0
READS_PER_SECOND: Final = 5
_INTERVAL: Final = 1 / READS_PER_SECOND
_SLOWEST: Final = 4.0
_LONGEST_REST: Final = 60.0
"""Whatever a vendor asks for: calls end meanwhile, and lines are held."""


def pause_before(read: int, age: float) -> float:
    """Seconds before the read with this number, from 0, of a call that was placed `age` seconds ago."""
    if read < len(_FIRST_PAUSES):
        return _FIRST_PAUSES[read]
    return _PAUSE if age < _LATER_FROM else _LATER_PAUSE


class Pace:
    """One read after the other: at most 5 a second, fewer while the vendor says that these are too many."""

    def __init__(self, clock: Callable[[], float], sleep: Sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self._interval = _INTERVAL
        self._queue = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for the next read's moment, in the order of asking."""
        async with self._queue:
            while (wait := self._next - self._clock()) > 0:
                await self._sleep(wait)
            self._next = self._clock() + self._interval

    def slower(self, wait: float | None) -> None:
        """The vendor refused a read as one too many; `wait`: the seconds that it asks for."""
        self._interval = min(2 * self._interval, _SLOWEST)
        self._next = self._clock() + min(max(wait or 0.0, self._interval), _LONGEST_REST)

    def taken(self) -> None:
        """The vendor answered a read: step by step as fast as before."""
        self._interval = max(0.9 * self._interval, _INTERVAL)


class Wakes:
    """The calls that are followed here, each of which may be woken for its next read."""

    def __init__(self, sleep: Sleep) -> None:
        self._sleep = sleep
        self._events: dict[str, asyncio.Event] = {}

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._events

    @contextmanager
    def following(self, call_id: str) -> Iterator[None]:
        """For as long as it is followed."""
        self._events[call_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._events[call_id]

    def wake(self, call_id: str) -> None:
        """End its pause; one that is not followed here is none of ours."""
        if (event := self._events.get(call_id)) is not None:
            event.set()

    async def pause(self, call_id: str, seconds: float) -> None:
        """Wait so long, or until it is woken; not at all, if that was since the last pause."""
        event = self._events[call_id]

        async def woken() -> None:
            await event.wait()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(woken)
            await self._sleep(seconds)
            group.cancel_scope.cancel()
        event.clear()
