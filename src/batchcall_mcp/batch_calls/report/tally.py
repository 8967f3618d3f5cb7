"""What the tasks of one batch call say, added up one by one. Pure.

Memory does not follow the list: of each call its moment stays (8 bytes), of the people not reached the first
`MOST_LISTED`, of choices the first `_MOST_CHOICES` different ones.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from batchcall_mcp.clock import to_ms
from batchcall_mcp.model import NOT_REACHED, AnsweredBy, CallTask, Results, TaskStatus
from batchcall_mcp.money import Money
from batchcall_mcp.text import shortened

MOST_LISTED: Final = 2_000
"""People not reached who stand in the file by name: it stays below 1 MB, and 40 sheets of paper."""
_MOST_CHOICES: Final = 200
_LONGEST_NAME: Final = 80
_LONGEST_CHOICE: Final = 60
_LONGEST_ERROR: Final = 160
_LONGEST_NUMBER: Final = 40
_MOST_CURRENCIES: Final = 4
_FIRST_YEAR, _LAST_YEAR = 1971, 9000
"""Outside of these years no clock of another zone can show every moment, and nobody was called."""
NOT_CALLED: Final = frozenset({TaskStatus.SKIPPED, TaskStatus.CANCELLED})
_NEITHER: Final = frozenset({TaskStatus.CALLING, TaskStatus.PLACED, TaskStatus.UNKNOWN})
"""Not known to be reached, nor not reached."""
WAITING: Final = frozenset({TaskStatus.PENDING, TaskStatus.CALLING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A person who was not reached, with texts that are cut and hold only what prints."""

    to_number: str
    name: str
    status: TaskStatus
    attempts: int | None
    at: datetime | None
    error: str


@dataclass(slots=True)
class Known:
    """A figure of so many people: those of whom it is known."""

    people: int = 0
    total: float = 0

    def add(self, value: float | None) -> None:
        """Count one more, unless it is not known or cannot be so."""
        if value is not None and math.isfinite(value) and value >= 0:
            self.people += 1
            self.total += value


@dataclass(slots=True)
class Tally:
    """What is known of all tasks that were added."""

    people: int = 0
    statuses: Counter[TaskStatus] = field(default_factory=Counter)
    dials: Known = field(default_factory=Known)
    talk_seconds: Known = field(default_factory=Known)
    costs: dict[str, Decimal] = field(default_factory=dict)
    """By currency: no amount is converted."""
    costs_known: int = 0
    answered_by: Counter[AnsweredBy] = field(default_factory=Counter)
    machines_reached: int = 0
    """Counted as reached although a machine answered."""
    choices: Counter[str] = field(default_factory=Counter)
    other_choices: int = 0
    missed: list[Missed] = field(default_factory=list)
    reached_at_ms: array[int] = field(default_factory=lambda: array("q"))
    others_at_ms: array[int] = field(default_factory=lambda: array("q"))

    @property
    def reached(self) -> int:
        return self.statuses[TaskStatus.COMPLETED]

    @property
    def not_reached(self) -> int:
        return sum(self.statuses[status] for status in NOT_REACHED)

    @property
    def placed(self) -> int:
        return self.statuses[TaskStatus.PLACED]

    @property
    def called(self) -> int:
        return self.reached + self.not_reached + self.placed

    @property
    def not_called(self) -> int:
        return sum(self.statuses[status] for status in NOT_CALLED)

    @property
    def waiting(self) -> int:
        return sum(self.statuses[status] for status in WAITING)

    @property
    def unknown(self) -> int:
        return self.statuses[TaskStatus.UNKNOWN]

    @property
    def choices_known(self) -> int:
        return self.choices.total() + self.other_choices

    def add(self, task: CallTask) -> None:
        """Count one more task."""
        status = task.status or TaskStatus.UNKNOWN
        self.people += 1
        self.statuses[status] += 1
        self.dials.add(task.attempts)
        self.talk_seconds.add(task.duration_seconds)
        self.costs_known += self._add_cost(task.cost)
        if task.answered_by is not None:
            self.answered_by[task.answered_by] += 1
            self.machines_reached += task.answered_by == "machine" and status is TaskStatus.COMPLETED
        self._add_choice(task.choice)
        at = _sensible(task.attempted_at)
        if at is not None and status not in _NEITHER:
            (self.reached_at_ms if status is TaskStatus.COMPLETED else self.others_at_ms).append(to_ms(at))
        if status in NOT_REACHED and len(self.missed) < MOST_LISTED:
            self.missed.append(
                Missed(
                    to_number=shortened(task.to_number, _LONGEST_NUMBER),
                    name=shortened(task.name or "", _LONGEST_NAME).strip(),
                    status=status,
                    attempts=task.attempts,
                    at=at,
                    error=shortened(task.error or "", _LONGEST_ERROR).strip(),
                )
            )

    def _add_cost(self, cost: Money | None) -> bool:
        """Whether it is an amount of money that can be added."""
        if cost is None or not cost.is_sound:
            return False
        if cost.currency not in self.costs and len(self.costs) >= _MOST_CURRENCIES:
            return False
        self.costs[cost.currency] = self.costs.get(cost.currency, Decimal(0)) + cost.amount
        return True

    def _add_choice(self, given: str | None) -> None:
        choice = shortened(given or "", _LONGEST_CHOICE).strip()
        if not choice:
            return
        if choice in self.choices or len(self.choices) < _MOST_CHOICES:
            self.choices[choice] += 1
        else:
            self.other_choices += 1

    def complete_from(self, results: Results | None) -> None:
        """Take the cost that a backend reports only of the whole batch call."""
        if results is not None and not self.costs and self._add_cost(results.cost):
            self.costs_known = self.people


def _sensible(moment: datetime | None) -> datetime | None:
    return moment if moment is not None and _FIRST_YEAR <= moment.year <= _LAST_YEAR else None
