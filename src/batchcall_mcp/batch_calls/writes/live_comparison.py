"""Whom of a list another live batch call of the account will call too: a few reads at once, within a limit.

What was not compared is one concern that names each batch call, and a yes covers exactly these. The look after the yes
does not try them again: it compares what the look before the question compared, and what is new since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import anyio
import anyio.to_thread

from batchcall_mcp.backends.task_reading import BEFORE_A_WRITE
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.later_calls import waits_for_redial
from batchcall_mcp.batch_calls.listing import batch_calls, launched_here, lists
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.guard.fingerprints import member
from batchcall_mcp.guard.preflight.preflight import NotCompared
from batchcall_mcp.model import BatchCall, BatchStatus, ListQuery, TaskStatus
from batchcall_mcp.recipients.phone.numbers import comparable

LONGEST_S: Final = 20.0
"""For everything, the list of batch calls included."""
AT_ONCE: Final = 4
_MOST_LIVE: Final = 200
_LIST_PAGE: Final = 100
_MOST_LIST_PAGES: Final = 20
_LIVE: Final = frozenset(
    {BatchStatus.SCHEDULED, BatchStatus.RUNNING, BatchStatus.PAUSED, BatchStatus.RECURRING, BatchStatus.UNKNOWN}
)
_STILL_CALLED: Final = frozenset({TaskStatus.PENDING, TaskStatus.CALLING, TaskStatus.UNKNOWN})
_NOT_TRIED: Final = f"at most {_MOST_LIVE} are compared, and after a question no more than before it."
_TIME_OVER: Final = f"{LONGEST_S:g} s were not enough."


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveComparison:
    """What was found. `elsewhere`: number -> id of a live batch call that will call it too.

    `hidden`: the same of people who are known by their hashes alone, under names that say nothing.
    """

    elsewhere: Mapping[str, str] = field(default_factory=dict)
    hidden: Mapping[str, str] = field(default_factory=dict)
    not_compared: NotCompared | None = None
    unchecked: tuple[str, ...] = ()


async def compare_with_live(
    context: CallContext,
    numbers: Collection[str],
    current: BatchCall | None,
    named: Collection[bytes],
    hidden: frozenset[bytes] = frozenset(),
) -> LiveComparison:
    """Compare the numbers, as `comparable` has them, and hashed ones with all live batch calls but `current`.

    `named`: the batch calls, as `fingerprints.member` has them, that the question before named as not compared.
    """
    if not numbers and not hidden:
        return LiveComparison()
    deadline = context.monotonic() + LONGEST_S
    try:
        live, unchecked = await _live(context, current, deadline)
    except (BatchCallError, TimeoutError) as error:
        why = error.message if isinstance(error, BatchCallError) else _TIME_OVER
        return LiveComparison(unchecked=(f"Other live batch calls could not be compared: {why}",))
    tried = [one for one in live if member(one.batch_call_id) not in named][:_MOST_LIVE]
    reading = _Reading(context, frozenset(numbers), hidden, deadline)
    async with anyio.create_task_group() as group:
        for one in tried:
            group.start_soon(reading.compare, one)
    elsewhere: dict[str, str] = {}
    names: dict[str, str] = {}
    for one in tried:
        for number in reading.shared.get(one.batch_call_id, ()):
            elsewhere.setdefault(number, one.batch_call_id)
        for name in reading.shared_hidden.get(one.batch_call_id, ()):
            names.setdefault(name, one.batch_call_id)
    return LiveComparison(
        elsewhere=elsewhere,
        hidden=names,
        not_compared=_not_compared(live, tried, reading.failed),
        unchecked=unchecked,
    )


async def _live(
    context: CallContext, current: BatchCall | None, deadline: float
) -> tuple[list[BatchCall], tuple[str, ...]]:
    """The newest live batch calls but `current`, and sentences about those that could not be seen.

    Raises:
        TimeoutError: the time is over.
    """
    live: dict[str, BatchCall] = {}
    unchecked: dict[str, None] = {}
    cursor: str | None = None
    for _ in range(_MOST_LIST_PAGES):
        with anyio.fail_after(max(deadline - context.monotonic(), 0)):
            query = ListQuery(limit=_LIST_PAGE, cursor=cursor)
            page = await (batch_calls(context, query) if lists(context) else launched_here(context))
        live |= {one.batch_call_id: one for one in page.batch_calls if one.status in _LIVE}
        unchecked |= dict.fromkeys(f"Other live batch calls: {note}" for note in page.notes)
        cursor = page.next_cursor
        if cursor is None:
            break
    else:
        unchecked[f"Only the newest {_MOST_LIST_PAGES * _LIST_PAGE} batch calls of the account were compared."] = None
    if current is not None:
        live.pop(current.batch_call_id, None)
    return list(live.values()), tuple(unchecked)


class _Reading:
    """Reads the others. `shared`: id -> numbers that it calls too; `shared_hidden`, names of hashed people; `failed`:
    id -> why it was not read to its end.
    """

    def __init__(
        self, context: CallContext, numbers: frozenset[str], hidden: frozenset[bytes], deadline: float
    ) -> None:
        self._context = context
        self._numbers = numbers
        self._hidden = hidden
        self._deadline = deadline
        self._turns = anyio.CapacityLimiter(AT_ONCE)
        self.shared: dict[str, list[str]] = {}
        self.shared_hidden: dict[str, list[str]] = {}
        self.failed: dict[str, str] = {}

    async def compare(self, other: BatchCall) -> None:
        """Note whom it will call too, as far as it can be read in time."""
        async with self._turns:
            bounds = replace(BEFORE_A_WRITE, seconds=self._deadline - self._context.monotonic())
            shared = self.shared.setdefault(other.batch_call_id, [])
            read: set[str] = set()
            listed: list[str] = []
            called: list[str] = []
            try:
                # All of them: a page of those who wait moves when somebody is called, and skips others.
                async for task in self._context.every_task(other, bounds=bounds, whole=True):
                    read.add(task.task_id or f"{len(read)}.")
                    number = comparable(task.to_number)
                    listed.append(number)
                    if task.status in _STILL_CALLED or waits_for_redial(task, other):
                        called.append(number)
                shared += filter(self._numbers.__contains__, called)
                if self._hidden:
                    names = await self._found_in(self._hidden, called)
                    self.shared_hidden[other.batch_call_id] = list(names.values())
                reported = self._context.backend.capabilities.tasks_reported
                if reported != "all" and (hidden := self._context.unlisted(other, len(read))):
                    await self._by_the_ledger(other, hidden, listed)
                elif len(read) < (other.counts.total or 0):
                    self.failed[other.batch_call_id] = "its list changed while it was read."
            except BatchCallError as error:
                late = self._context.monotonic() >= self._deadline
                self.failed[other.batch_call_id] = _TIME_OVER if late else error.message

    async def _found_in(self, people: frozenset[bytes], numbers: Collection[str]) -> dict[str, str]:
        history = (await self._context.open_ledger()).history
        return await anyio.to_thread.run_sync(history.found_in, people, numbers)

    async def _by_the_ledger(self, other: BatchCall, why: str, listed: Collection[str]) -> None:
        """Compare with those whom launches of it that were sent from here may call, and the backend does not show."""
        ledger = await self._context.open_ledger()
        of_it = self._context.backend_address, other.batch_call_id, other.counts.total
        people = await anyio.to_thread.run_sync(ledger.history.called_by, *of_it)
        if people is None:
            self.failed[other.batch_call_id] = why
            return
        shown = await self._found_in(people, listed)
        people -= {bytes.fromhex(name) for name in shown.values()}
        self.shared[other.batch_call_id] += await self._found_in(people, self._numbers)
        names = self.shared_hidden.setdefault(other.batch_call_id, [])
        names += [digest.hex() for digest in people & self._hidden]


def _not_compared(
    live: Sequence[BatchCall], tried: Iterable[BatchCall], failed: Mapping[str, str]
) -> NotCompared | None:
    compared = {one.batch_call_id for one in tried} - failed.keys()
    ids = tuple(one.batch_call_id for one in live if one.batch_call_id not in compared)
    why = next((failed[one] for one in ids if one in failed), _NOT_TRIED)
    return NotCompared(ids, len(live), why) if ids else None
