"""Which of the callers goes on next.

Where a caller is held (at a request to the backend, or while its person thinks), the others go on until each of them is
held too, or has done all it has to do; then one is let go by chance, now and then two. So whole calls of others fall
between any two requests of one call, and between its question and the answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import anyio

LONGEST_HOLD_S = 0.25
"""A caller may wait inside a server for another one, which is held: then it would be held for ever."""
_TWO = 0.2


class Conductor:
    """Holds callers and lets them go. For one event loop."""

    def __init__(self) -> None:
        self._chance = random.Random(0)
        self._share = 0.0
        self._playing: set[str] = set()
        self._held: dict[anyio.Event, str] = {}

    def begin(self, callers: Iterable[str], share: float, chance: random.Random) -> None:
        """From now on these callers are held, at this share of the places where they can be."""
        self._playing, self._share, self._chance = set(callers), share, chance

    def leave(self, caller: str) -> None:
        """This caller has done all it had to do."""
        self._playing.discard(caller)
        self._go_on()

    @contextmanager
    def absence(self, caller: str) -> Iterator[None]:
        """Meanwhile nobody waits for this caller."""
        playing = caller in self._playing
        self.leave(caller)
        try:
            yield
        finally:
            if playing:
                self._playing.add(caller)

    async def hold(self, caller: str) -> None:
        """Perhaps wait for the others."""
        if caller not in self._playing or self._chance.random() >= self._share:
            return
        mine = anyio.Event()
        self._held[mine] = caller
        self._go_on()
        with anyio.move_on_after(LONGEST_HOLD_S):
            await mine.wait()
        self._held.pop(mine, None)

    def _go_on(self) -> None:
        if not self._held or not self._playing <= set(self._held.values()):
            return
        for _ in range(2 if self._chance.random() < _TWO else 1):
            if self._held:
                going = self._chance.choice(list(self._held))
                del self._held[going]
                going.set()
