"""DBOS is one for a process: which of its dialers has it, and which ones wait for it, in their order.

Apart from `lanes`, so a dialer that waits does not import DBOS.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, eq=False, slots=True)
class Turn:
    """One dialer's place. `look` is called, from any thread, when its turn may have come or when others wait for it."""

    look: Callable[[], None]


class Turns:
    """Who has what only one of a process can have. All methods may be called from any thread; none of them waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: Turn | None = None
        self._line: list[Turn] = []

    @property
    def taken(self) -> bool:
        """Whether somebody has it."""
        return self._holder is not None

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return len(self._line)

    def take(self, turn: Turn) -> bool:
        """Have it, or stand in line. `turn.look` is called when it is free; whoever has it is asked to look too."""
        holder: Turn | None = None
        with self._lock:
            if self._holder is turn:
                return True
            if turn not in self._line:
                self._line.append(turn)
                holder = self._holder
            if self._holder is None and self._line[0] is turn:
                self._holder = self._line.pop(0)
                return True
        if holder is not None:
            holder.look()
        return False

    def give_up(self, turn: Turn) -> None:
        """Let the next one have it, or leave the line."""
        with self._lock:
            if self._holder is turn:
                self._holder = None
            elif turn in self._line:
                self._line.remove(turn)
            following = self._line[0] if self._line and self._holder is None else None
        if following is not None:
            following.look()


DBOS_TURNS: Final = Turns()
"""Those of this process."""
