"""When calls are read: each in its own rhythm or as soon as something is heard of it, all together not too fast."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from batchcall_mcp.dialer.carriers.base import Outcome
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
_MOST_KEPT: Final = 5000
"""Calls that are over are remembered for a while: a look-up of another attempt may find them."""
T = TypeVar("T")


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


class CallsHere:
    """The calls that this process follows: whose each of them is, and what is heard of it meanwhile."""

    def __init__(self) -> None:
        self._woken: dict[str, list[asyncio.Event]] = {}
        self._attempts: dict[str, str] = {}
        self._told: dict[str, Outcome] = {}

    def __contains__(self, call_id: str) -> bool:
        """Whether it is followed now."""
        return call_id in self._woken

    @contextmanager
    def following(self, call_id: str, attempt_id: str) -> Iterator[asyncio.Event]:
        """For as long as it is followed; gives what is set when something is heard of it."""
        _keep(self._attempts, call_id, attempt_id)
        woken = asyncio.Event()
        self._woken.setdefault(call_id, []).append(woken)
        try:
            yield woken
        finally:
            self._woken[call_id].remove(woken)
            if not self._woken[call_id]:
                del self._woken[call_id]

    def not_of_others(self, call_ids: Iterable[str], attempt_id: str) -> list[str]:
        """Those that are not known as another attempt's, or as nobody's any more, each once."""
        return [one for one in dict.fromkeys(call_ids) if self._attempts.get(one, attempt_id) == attempt_id]

    def rang_nobody(self, call_id: str) -> None:
        """Its attempt is withdrawn: when that is begun again, this call is not what came of it."""
        _keep(self._attempts, call_id, "")

    def hear(self, call_id: str, told: Outcome | None) -> None:
        """Something was heard of a call; `told`: how it ended. One that is followed here is read now."""
        if told is not None:
            _keep(self._told, call_id, told)
        for woken in self._woken.get(call_id, ()):
            woken.set()

    def told(self, call_id: str) -> Outcome | None:
        """How it ended, if that was heard; only once."""
        return self._told.pop(call_id, None)


def _keep(kept: dict[str, T], call_id: str, value: T) -> None:
    kept[call_id] = value
    if len(kept) > _MOST_KEPT:
        del kept[next(iter(kept))]
