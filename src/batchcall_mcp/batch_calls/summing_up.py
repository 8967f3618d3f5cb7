"""A finished batch call is summed up: who was reached, for how long, at what cost, and what they chose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Final

from batchcall_mcp.backends.base import ReadTasks
from batchcall_mcp.backends.task_reading import Bounds
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.model import (
    FINISHED,
    NOT_REACHED,
    BatchCall,
    CallTask,
    Counts,
    Results,
    TaskPage,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.money import Money
from batchcall_mcp.text import in_quotes

MOST_TASKS: Final = 2_000
_WHILE_SOMEBODY_WAITS: Final = Bounds(seconds=10, tasks=2 * MOST_TASKS)
MOST_CHOICES: Final = 50
"""Of one batch call that are counted apart."""
_CHOICES_IN_WORDS: Final = 5
_CURRENCIES_IN_WORDS: Final = 4
_COUNTED: Final = (TaskStatus.COMPLETED, *(one for one in sorted(NOT_REACHED) if hasattr(Counts, one)))
_CALLED: Final = NOT_REACHED | {TaskStatus.COMPLETED, TaskStatus.PLACED}


class Sum:
    """What came of tasks, added one by one. Several currencies have no sum."""

    def __init__(self) -> None:
        self.tasks = 0
        self._called = 0
        self._statuses: Counter[TaskStatus | None] = Counter()
        self._timed = 0
        self._priced = 0
        self._talk_seconds: float | None = None
        self._costs: dict[str, Decimal] = {}
        self._choices: Counter[str] = Counter()

    def add(self, task: CallTask) -> None:
        """Count one more."""
        self.tasks += 1
        self._called += task.status in _CALLED
        self._statuses[task.status] += 1
        if task.duration_seconds is not None:
            self._timed += 1
            self._talk_seconds = (self._talk_seconds or 0.0) + task.duration_seconds
        if task.cost is not None and task.cost.is_sound:
            self._priced += 1
            self._costs[task.cost.currency] = self._costs.get(task.cost.currency, Decimal()) + task.cost.amount
        if task.choice is not None:
            self._choices[task.choice] += 1

    def results(self, counts: Counts, *, whole: bool) -> Results:
        """All of it. Who was reached is as the backend counts it, else as its tasks say, if these are all (`whole`)."""
        costs = [Money(amount, currency) for currency, amount in self._costs.items()]
        says_all = self.tasks and not self._statuses[None]
        return replace(
            of_counts(self._counts() if whole and says_all and counts.completed is None else counts),
            talk_seconds=None if self._talk_seconds is None else round(self._talk_seconds, 3),
            cost=costs[0] if len(costs) == 1 else None,
            choices=dict(self._choices.most_common(MOST_CHOICES)),
        )

    def _counts(self) -> Counts:
        return Counts(**{str(status): self._statuses[status] for status in _COUNTED})

    def notes(self) -> Iterator[str]:
        """What of the sums is not that of all calls."""
        if 0 < self._timed < self._statuses[TaskStatus.COMPLETED]:
            yield f"Talk time is that of {counted(self._timed, 'call')}: it is not known of the others."
        if len(self._costs) > 1:
            shown = ", ".join(sorted(self._costs)[:_CURRENCIES_IN_WORDS])
            yield f"The cost is in several currencies ({shown}), which have no sum: export_batch_call has all."
        elif 0 < self._priced < self._called:
            of = f"{self._priced:,} of {self._called:,} people"
            yield f"The cost is that of the calls to {of}: it is not known of the others."


def of_counts(counts: Counts) -> Results:
    """Who was reached and who was not, and why, as far as the backend counts it. Pure."""
    named = {status: getattr(counts, status, None) for status in sorted(NOT_REACHED)}
    missed = {str(status): number for status, number in named.items() if number}
    return Results(reached=counts.completed, not_reached=missed)


async def summed_up(
    context: CallContext, found: BatchCall, read: ReadTasks, query: TaskQuery, page: TaskPage | None
) -> BatchCall:
    """The batch call with its results, once it is finished.

    Where the backend does not sum up itself, its tasks are added up, as many as can be read while somebody waits: a
    note says where these were not all. `page` is the first page of its tasks by `query`; without one none is read.
    """
    if found.status not in FINISHED or found.results is not None:
        return found
    if page is None or query.cursor is not None or not context.backend.capabilities.results:
        return replace(found, results=of_counts(found.counts))
    total = Sum()
    why = await _add_up(context, found, read, query, page, total)
    notes = [] if why is None else [f"Talk time, cost and choices are of {counted(total.tasks, 'task')} only: {why}."]
    return replace(
        found, results=total.results(found.counts, whole=why is None), notes=(*found.notes, *notes, *total.notes())
    )


async def _add_up(
    context: CallContext, found: BatchCall, read: ReadTasks, query: TaskQuery, page: TaskPage, total: Sum
) -> str | None:
    """Add the tasks; why these are not all of them, None if they are."""
    if page.notes:
        return " ".join(page.notes).rstrip(".")
    try:
        if query.is_filtered or page.next_cursor is not None:
            async for task in context.every_task(found, read=read, bounds=_WHILE_SOMEBODY_WAITS, whole=True):
                if total.tasks == MOST_TASKS:
                    return "there are more. export_batch_call has all"
                total.add(task)
        else:
            for task in page.tasks:
                total.add(task)
    except BatchCallError as error:
        return error.message.rstrip(".")
    expected = found.counts.total
    if expected is not None and total.tasks < expected:
        return f"the backend counts {expected:,} and shows no more"
    return None


def in_words(results: Results) -> str:
    """What came of it, after the counts; empty where nothing more is known. What people chose is quoted. Pure."""
    missed = ", ".join(f"{number:,} {status.replace('_', ' ')}" for status, number in results.not_reached.items())
    chosen = [f"{in_quotes(choice)} {people:,}" for choice, people in list(results.choices.items())[:_CHOICES_IN_WORDS]]
    more = len(results.choices) - len(chosen)
    parts = (
        f"Not reached: {missed}" if missed else "",
        f"Talk time: {_span(results.talk_seconds)}" if results.talk_seconds else "",
        f"Cost: {results.cost}" if results.cost is not None else "",
        f"Choices: {', '.join(chosen)}{f' and {more} others' if more > 0 else ''}" if chosen else "",
    )
    return "".join(f" {part}." for part in parts if part)


def _span(seconds: float) -> str:
    """`1:02:03` hours, minutes and seconds; `40 s` below a minute."""
    whole = timedelta(seconds=round(seconds))
    return f"{whole.seconds} s" if whole < timedelta(minutes=1) else f"{whole} (h:mm:ss)"
