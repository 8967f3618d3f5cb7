"""Every task of a batch call, page after page, with an end: a backend whose pages have none cannot hold us for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic

import anyio

from batchcall_mcp.backends.base import Backend, ReadTasks
from batchcall_mcp.errors import BatchCallError, IllegalTransition, UnexpectedResponse
from batchcall_mcp.model import BatchCall, CallTask, TaskQuery, TaskStatus

_EMPTY_PAGES = (20, 500)
"""Fewest and most in a row that a filter may leave empty: a backend looks through a page or more for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where a read ends, besides the total that the backend reports and the most that it takes: seconds, and tasks."""

    seconds: float | None
    tasks: int


BEFORE_A_WRITE = Bounds(seconds=30, tasks=250_000)
"""Somebody waits for the question, and the list is held in memory."""
FOR_A_FILE = Bounds(seconds=None, tasks=1_000_000)
"""The rows go to disk."""


class NoEnd(UnexpectedResponse):
    """A list of tasks that was not read to its end, because there was none in sight."""


async def every_task(
    backend: Backend,
    batch_call: BatchCall,
    statuses: frozenset[TaskStatus] | None = None,
    *,
    read: ReadTasks | None = None,
    bounds: Bounds = BEFORE_A_WRITE,
    clock: Callable[[], float] = monotonic,
    whole: bool = False,
) -> AsyncIterator[CallTask]:
    """All tasks of a batch call, in the backend's order.

    Each id comes once, although pages that move while they are read show one twice. `clock` is in seconds; `whole`: an
    entry that cannot be read is an error; `read`: what reads a page, if it came with the batch call.

    `batch_call` is as it was read before, with the number of its tasks: it is read again only if more of them come.

    Raises:
        NoEnd: there are more than the backend counts or takes, a page brought nothing new, or it takes too long.
        IllegalTransition: the list was changed while it was read.
        BatchCallError: a page cannot be read.
    """
    reading = _Reading(backend, batch_call, bounds, filtered=statuses is not None)
    read = read or partial(backend.tasks, batch_call.batch_call_id)
    deadline = None if bounds.seconds is None else clock() + bounds.seconds
    cursor: str | None = None
    while True:
        query = TaskQuery(statuses=statuses, limit=backend.capabilities.task_page_size, cursor=cursor)
        left_s = None if deadline is None else deadline - clock()
        if left_s is not None and left_s <= 0:
            raise reading.too_slow()
        with anyio.move_on_after(left_s) as limit:
            page = await read(query)
        if limit.cancelled_caught:
            raise reading.too_slow()
        if whole and page.notes:
            raise UnexpectedResponse(" ".join(page.notes))
        new, tasks = reading.note(page.tasks)
        if reading.past_the_total():
            raise reading.changed_or_endless(await backend.get(batch_call.batch_call_id))
        cursor = page.next_cursor
        if not new and reading.goes_round(last=cursor is None):
            return
        for task in tasks:
            yield task
        if cursor is None:
            return


class _Reading:
    """What was read so far."""

    def __init__(self, backend: Backend, batch_call: BatchCall, bounds: Bounds, *, filtered: bool) -> None:
        self._name = batch_call.batch_call_id
        self._total = batch_call.counts.total
        self._most = backend.capabilities.limits.tasks
        self._page_size = backend.capabilities.task_page_size
        self._bounds = bounds
        self._filtered = filtered
        self._seen: set[int] = set()
        self._empty_pages = 0

    def note(self, tasks: tuple[CallTask, ...]) -> tuple[int, list[CallTask]]:
        """Count the tasks of a page: how many of them had not been seen before, and which are not known to be repeated.

        Raises:
            NoEnd: they are more than there can be.
        """
        before, kept = len(self._seen), []
        for task in tasks:
            identity = _identity(task)
            if task.task_id is None or identity not in self._seen:
                kept.append(task)
            self._seen.add(identity)
        read = len(self._seen)
        if self._most is not None and read > self._most:
            raise self._no_end(f"the backend takes {self._most:,} tasks and gave at least {read:,}")
        if read > self._bounds.tasks:
            raise self._no_end(f"the backend gave at least {read:,} tasks, and says that more follow")
        if read > before:
            self._empty_pages = 0
        return read - before, kept

    def past_the_total(self) -> bool:
        """Whether more was read than the backend counts: the list is another one by now, or it has no end."""
        return self._total is not None and len(self._seen) > self._total

    def changed_or_endless(self, now: BatchCall) -> BatchCallError:
        """The error for a list that is longer than its total was; `now` is the batch call, read again."""
        total = now.counts.total
        if total is not None and total >= len(self._seen):
            return IllegalTransition(
                f"The list of {self._name} was changed while it was read: it has {total:,} tasks now and had "
                f"{self._total:,} before. Nothing was sent. Read it with get_batch_call and decide again."
            )
        return self._no_end(f"the backend counts {self._total:,} tasks and gave at least {len(self._seen):,}")

    def goes_round(self, *, last: bool) -> bool:
        """Whether a page that brought nothing new repeats what was read completely.

        Raises:
            NoEnd: not all was read, and nothing says that the next page brings more.
        """
        if self._total == len(self._seen):
            return True
        self._empty_pages += 1
        if not last and (not self._filtered or self._empty_pages > self._may_be_empty()):
            raise self._no_end(
                f"a page of the backend brought nothing new after {len(self._seen):,} tasks, and it says that more "
                "follow"
            )
        return False

    def _may_be_empty(self) -> int:
        most = min(one for one in (self._total, self._most, self._bounds.tasks) if one is not None)
        fewest, ceiling = _EMPTY_PAGES
        return min(max(most // self._page_size, fewest), ceiling)

    def too_slow(self) -> NoEnd:
        """The error for a read that takes longer than somebody waits."""
        of = "" if self._total is None else f" of {self._total:,}"
        return NoEnd(
            f"The tasks of {self._name} were not read to the end: {self._bounds.seconds:g} s passed, and "
            f"{len(self._seen):,}{of} tasks were read. Nothing was sent. Try again; if it happens again, make smaller "
            "batch calls."
        )

    def _no_end(self, why: str) -> NoEnd:
        return NoEnd(
            f"The tasks of {self._name} were not read to the end: {why}. Nothing was sent. Compare the batch call with "
            "get_batch_call, and check BATCHCALL_URL and BATCHCALL_BACKEND."
        )


def _identity(task: CallTask) -> int:
    """A small stand-in for a task: 100,000 of them take little memory. Pure."""
    unnamed = () if task.task_id else (task.name, *sorted(task.dynamic_variables.items()))
    return hash((task.task_id, task.to_number, *unnamed))
