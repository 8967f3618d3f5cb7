"""Who is asked before each dial, and the calls that are claimed and wait for the answer.

The engine's thread asks and hears; only the answers come from other threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Generic, Protocol, TypeVar

from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain.predial import Patience, Rest, Verdict

Lane = TypeVar("Lane")


class Gate(Protocol):
    """Who is asked."""

    def ask(self, attempts: Sequence[Attempt], answered: Callable[[Attempt, Verdict], None]) -> None:
        """Ask about these calls and return at once; `answered` is called once for each of them, in any thread."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Asked(Generic[Lane]):
    """A call that was claimed at `since` for a lane, and about which the gate is asked."""

    attempt: Attempt
    since: datetime
    lane: Lane


class Questions(Generic[Lane]):
    """The calls of one engine about which its gate is asked, and the lanes that wait until one of theirs may be.

    `patience` says when the gate is left alone. `heard` is called, in any thread, when there is an answer.
    """

    def __init__(self, gate: Gate, heard: Callable[[], None]) -> None:
        self.patience = Patience()
        self._gate = gate
        self._heard = heard
        self._open: dict[str, Asked[Lane]] = {}
        self._queue: deque[Lane] = deque()
        self._lock = threading.Lock()
        self._answers: list[tuple[Attempt, Verdict]] = []

    @property
    def answered(self) -> bool:
        """Whether an answer has come since `answers` was called."""
        return bool(self._answers)

    @property
    def open(self) -> set[tuple[str, int]]:
        """The task and number of each call that waits for an answer."""
        return {(one.attempt.task_id, one.attempt.n) for one in self._open.values()}

    def lanes(self) -> list[Lane]:
        """Every lane that waits here."""
        return [*self._queue, *(one.lane for one in self._open.values())]

    def admitted(self, lanes: Sequence[Lane], rest: Rest | None) -> list[Lane]:
        """Those that may claim now; the others wait, so that no claim waits for its turn to be asked about.

        During a `rest` all may: nothing is started, and what they would claim is put off.
        """
        room = int(min(self._room(rest), len(lanes)))
        self._queue.extend(lanes[room:])
        return list(lanes[:room])

    def let_in(self, now: datetime, *, all_of_them: bool = False) -> list[Lane]:
        """Lanes that have waited, as many as may claim now."""
        room = inf if all_of_them else self._room(self.patience.rest(now))
        return [self._queue.popleft() for _ in range(int(min(room, len(self._queue))))]

    def _room(self, rest: Rest | None) -> float:
        return inf if rest is not None else max(0, self.patience.at_once() - len(self._open))

    def ask(self, asked: Sequence[Asked[Lane]]) -> None:
        """Ask about these calls."""
        self._open.update({one.attempt.attempt_id: one for one in asked})
        self._gate.ask([one.attempt for one in asked], self._answer)

    def _answer(self, attempt: Attempt, verdict: Verdict) -> None:
        with self._lock:
            self._answers.append((attempt, verdict))
        self._heard()

    def answers(self) -> list[tuple[Asked[Lane], Verdict]]:
        """What was said since the last time, about what still waits for it."""
        with self._lock:
            answers, self._answers = self._answers, []
        found: list[tuple[Asked[Lane], Verdict]] = []
        for attempt, verdict in answers:
            one = self._open.get(attempt.attempt_id)
            if one is not None and one.attempt is attempt:
                found.append((self._open.pop(attempt.attempt_id), verdict))
        return found

    def drop(self) -> list[Asked[Lane]]:
        """What waits for an answer; it does so no longer."""
        dropped = list(self._open.values())
        self._open.clear()
        return dropped
