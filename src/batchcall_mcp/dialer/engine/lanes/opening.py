"""Where lanes come from. A lane is one line: it dials one person after the other for a batch call, as the engine says.

On SQLite one process dials, and its lanes are tasks of its own event loop. On PostgreSQL they are rows of a queue that
any process takes up (`dbos_queue`). A lane keeps no state: what a process leaves, the next engine finds in the tables.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, wait
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from batchcall_mcp.dialer.engine.lanes.dbos_queue import DbosQueue

LOG = logging.getLogger(__name__)
RunLane: TypeAlias = Callable[[str], Coroutine[Any, Any, None]]
_CLOSING_S: Final = 2.0
_RESTS_AFTER_S: Final = 30.0
_SAYS_AFTER_S: Final = 1.0
"""How long a dialer waits for its turn before it says so: one that only rests lets go in a moment."""
WAITS: Final = "Another dialer of this process is dialling, and they take turns; this one waits until that one rests."


class OpensLanes(Protocol):
    """Where lanes are opened."""

    def open(self, wanted: Mapping[str, int]) -> None:
        """Open so many for each batch call."""
        ...

    def standing(self) -> Mapping[str, int]:
        """Those that nobody has taken up, and those that this process has, whether they run already or not."""
        ...


class Lanes(Protocol):
    """What an engine asks for lanes."""

    def ready(self) -> OpensLanes | None:
        """Where to open them now. None while another dialer of this process opens them: `wake` says when."""
        ...

    def rest(self) -> None:
        """Nothing is due, and no lane of this process is open."""
        ...

    def close(self) -> None:
        """Nothing may be dialled, and no lane of this process is open."""
        ...


class LocalLanes:
    """Tasks of an event loop. For the engine's thread, and when that has ended for the one that closes."""

    def __init__(self, run_lane: RunLane, loop: asyncio.AbstractEventLoop) -> None:
        self._run_lane = run_lane
        self._loop = loop
        self._lanes: list[tuple[str, Future[None]]] = []

    def ready(self) -> OpensLanes:
        return self

    def open(self, wanted: Mapping[str, int]) -> None:
        for batch_call_id in Counter(wanted).elements():
            lane = asyncio.run_coroutine_threadsafe(self._run_lane(batch_call_id), self._loop)
            self._lanes.append((batch_call_id, lane))

    def standing(self) -> Mapping[str, int]:
        self._lanes = [(batch_call_id, lane) for batch_call_id, lane in self._lanes if not lane.done()]
        return Counter(batch_call_id for batch_call_id, _ in self._lanes)

    def rest(self) -> None:
        """A task that has ended costs nothing."""

    def close(self) -> None:
        wait([lane for _, lane in self._lanes], _CLOSING_S)


class _Turns:
    """DBOS is one for a process: which of its dialers has it, and which ones wait for it, in their order.

    All methods may be called from any thread; none of them waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: list[DbosLanes] = []
        """The first one has it."""

    @property
    def taken(self) -> bool:
        """Whether a dialer has it."""
        return bool(self._line)

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return max(0, len(self._line) - 1)

    def take(self, dialer: DbosLanes) -> bool:
        """Have it, or stand in line. `dialer.wake` is called when it is free; the one that has it is woken too."""
        with self._lock:
            new = dialer not in self._line
            if new:
                self._line.append(dialer)
            holder = self._line[0]
        if new and holder is not dialer:
            holder.wake()
        return holder is dialer

    def give_up(self, dialer: DbosLanes) -> None:
        """Let the next one have it, or leave the line."""
        with self._lock:
            had_it = self._line[:1] == [dialer]
            if dialer in self._line:
                self._line.remove(dialer)
            following = self._line[0] if had_it and self._line else None
        if following is not None:
            following.wake()


DBOS_TURNS: Final = _Turns()
"""Those of this process."""


class DbosLanes:
    """DBOS, while there is something to dial: its import takes half a second and 40 MB, its threads poll all the time.

    Several dialers of one process take turns with it. Used by the engine's thread, and when that has ended by the one
    that closes; others only look whether it is launched.

    `wake` lets the engine look: its turn has come, or another dialer waits for it to rest.
    """

    def __init__(self, launch: Callable[[], DbosQueue], wake: Callable[[], None]) -> None:
        self._launch = launch
        self.wake: Final = wake
        self._used_at = 0.0
        self._waits_since: float | None = None
        self._said = False
        self.launched: DbosQueue | None = None

    def ready(self) -> OpensLanes | None:
        """Launch it, if it is this dialer's turn."""
        self._used_at = monotonic()
        if self.launched is None and not DBOS_TURNS.take(self):
            self._waits_since = self._waits_since or self._used_at
            if not self._said and self._used_at - self._waits_since >= _SAYS_AFTER_S:
                self._said = True
                LOG.warning(WAITS)
        elif self.launched is None:
            self._waits_since = None
            try:
                self.launched = self._launch()
            except BaseException:
                DBOS_TURNS.give_up(self)
                raise
        return self.launched

    def rest(self) -> None:
        """Stop it, if others wait for it or nothing has been due for a while."""
        if self.launched is None or DBOS_TURNS.waiting or monotonic() - self._used_at > _RESTS_AFTER_S:
            self.close()

    def close(self) -> None:
        """Stop it, and let the next dialer have it."""
        self._waits_since = None
        launched, self.launched = self.launched, None
        try:
            if launched is not None:
                launched.close()
        finally:
            DBOS_TURNS.give_up(self)
