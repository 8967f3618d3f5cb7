"""The gate before each dial: what its answers mean, and how long it is left alone when it gives none. Pure.

It says whether somebody may be dialled, and only a clear no ends a task. Anything else puts the call off.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

Said: TypeAlias = Literal["yes", "no", "nothing"]

AT_ONCE: Final = 20
"""Calls about which one process asks at the same time."""
TIME_LIMIT: Final = timedelta(seconds=3)
"""For one question, from looking the host up to the last byte of the answer."""
FIRST_DELAY: Final = timedelta(seconds=5)
"""After a question without a clear answer; twice as long after each further one in a row."""
LONGEST_DELAY: Final = timedelta(minutes=5)
DOWN_AFTER: Final = 5
"""So many questions without a clear answer in a row, and nobody is asked about until some time has passed."""
_REMEMBERED: Final = 10_000
_MOST_DOUBLINGS: Final = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was said about one call. `reason`: why not, as harmless text; None: none was given."""

    said: Said
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """Nobody is asked about before `until`, because of `reason`."""

    until: datetime
    reason: str


class Patience:
    """When to ask again, from what came of the questions so far. For one thread.

    One call without a clear answer waits by itself, so that one that is always asked about in vain holds up nobody.
    When several in a row have none, the gate is down, and all wait; then a few try it.
    """

    def __init__(self) -> None:
        self._in_vain: OrderedDict[str, int] = OrderedDict()
        self._in_a_row = 0
        self._rests = 0
        self._rest: Rest | None = None

    @property
    def down(self) -> bool:
        """Whether the last answers were not clear ones."""
        return self._rests > 0

    def at_once(self) -> int:
        """How many calls may be asked about at the same time: of a gate that was down, few until it answers."""
        return DOWN_AFTER if self.down else AT_ONCE

    def rest(self, now: datetime) -> Rest | None:
        """What is waited for; None: ask. A clock that was set back does not make it longer than it can be."""
        rest = self._rest
        return rest if rest is not None and now < rest.until <= now + LONGEST_DELAY else None

    def clear(self, task_id: str) -> bool:
        """A clear answer came; whether it is the first one after the gate was down."""
        back = self.down
        self._in_vain.pop(task_id, None)
        self._in_a_row = self._rests = 0
        self._rest = None
        return back

    def unclear(self, task_id: str, reason: str, now: datetime) -> tuple[datetime, bool]:
        """No clear answer came: when to ask about this call again, and whether the gate is down from now on."""
        times = self._in_vain.pop(task_id, 0) + 1
        self._in_vain[task_id] = times
        if len(self._in_vain) > _REMEMBERED:
            self._in_vain.popitem(last=False)
        until = now + delay(times)
        self._in_a_row += 1
        went_down = False
        # Those that were asked about before it rested change nothing: it is one outage.
        if self._in_a_row >= DOWN_AFTER and self.rest(now) is None:
            went_down = not self.down
            self._rests += 1
            self._in_a_row = 0
            self._rest = Rest(now + delay(self._rests), reason)
        rest = self.rest(now)
        return max(until, rest.until) if rest is not None else until, went_down


def delay(times: int) -> timedelta:
    """How long to wait after so many questions in a row without a clear answer."""
    return min(FIRST_DELAY * (1 << min(times - 1, _MOST_DOUBLINGS)), LONGEST_DELAY)
