"""The answer decides who is next: people of an earlier batch call, by what came of their calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from batchcall_mcp.backends.base import read_with_tasks
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.later_calls import BEING_CALLED, called_by_itself, later_calls, waits_for_redial
from batchcall_mcp.batch_calls.recipient_source import ListSource, as_new
from batchcall_mcp.batch_calls.writes.preflight_context import different
from batchcall_mcp.errors import InvalidInput, NotSupported, UnexpectedResponse
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.model import FINISHED, BatchCall, BatchStatus, CallTask, TaskQuery, TaskStatus
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.text import in_quotes, shortened

_WAITS = frozenset({TaskStatus.PENDING, TaskStatus.CALLING})
_REACHED = BEING_CALLED - {TaskStatus.PENDING}
_LONGEST_NAME = 255
_MOST_NAMED = 3
"""Later batch calls that are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksFrom:
    """Whom a call means: all of it must be so. `extracted`: values, by name."""

    batch_call_id: str
    statuses: frozenset[TaskStatus] | None = None
    choice: str | None = None
    extracted: Mapping[str, str] = field(default_factory=dict)

    @property
    def query(self) -> TaskQuery:
        """The same, as tasks are asked for."""
        return TaskQuery(statuses=self.statuses, choice=self.choice, extracted=self.extracted)

    def in_words(self) -> str:
        """`status no_answer, choice "call_back" and wants_callback "yes"`; words from outside are quoted."""
        parts = [] if self.statuses is None else [f"status {' or '.join(sorted(self.statuses))}"]
        parts += [] if self.choice is None else [f"choice {in_quotes(self.choice)}"]
        parts += [f"{in_quotes(name)} {in_quotes(value)}" for name, value in self.extracted.items()]
        return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The people, as the list of a new batch call, and a sentence that says where they come from."""

    source: ListSource
    origin: str
    name: str
    """For a batch call that is given none: a later question names it, and so says where its people come from."""
    warnings: tuple[str, ...] = ()
    """What a person should know of them before they are called."""


async def people_of(context: CallContext, wanted: TasksFrom, given: ListSource) -> Chosen:
    """Exactly those people, reached or not, with their variables and names, each as the first list had them.

    Who was not reached, and was by a later batch call of these people or waits in one, is skipped, as a retry does. Who
    was reached is called again because somebody says so: that they were called since is a warning.

    Raises:
        InvalidInput: no result is named, another list is given too, or nobody is meant.
        NotSupported: this backend does not give back what the agent would need; nothing was sent.
    """
    if given.given:
        raise InvalidInput("Give tasks_from or a list of people, not both. Nothing was sent.")
    if not wanted.query.is_filtered:
        raise InvalidInput("tasks_from: say whose: give task_status, choice or extracted too. Nothing was sent.")
    capabilities = context.backend.capabilities
    if capabilities.tasks_reported == "none":
        raise NotSupported(
            f"tasks_from: {context.backend.name} does not list the people of a batch call. Nothing was sent. Give the "
            "people as a list."
        )
    if capabilities.dynamic_variables and not capabilities.returns_variables:
        raise NotSupported(
            f"tasks_from: {context.backend.name} does not return the variables of a batch call; without them the agent "
            "would read blanks. Nothing was sent. Give the people as a list."
        )
    current, read = await read_with_tasks(context.backend, wanted.batch_call_id)
    everybody = [task async for task in context.every_task(current, read=read, whole=True)]
    hidden = context.unlisted(current, different(everybody))
    if not hidden:
        _check_whole(current, everybody)
    found = [task for task in everybody if _is_meant(task, wanted)]
    _check_nobody_waits(current, found)
    if not found:
        others = f" {hidden}" if hidden else ""
        raise InvalidInput(
            f"tasks_from: nobody in {current.batch_call_id} has {wanted.in_words()}.{others} Nothing was sent. "
            "get_batch_call shows what came of the calls."
        )
    since, notes = await later_calls(context, current, found)
    reached = {comparable(task.to_number) for task in found if task.status in _REACHED}
    missed = {comparable(task.to_number) for task in found if task.status not in BEING_CALLED}
    twice = {number: why for number, why in called_by_itself(everybody).items() if number in missed}
    later = {number: why for number, why in (since | twice).items() if number not in reached}
    people = counted(len({comparable(task.to_number) for task in found}), "person", "people")
    return Chosen(
        source=replace(given, tasks=tuple(map(as_new, found)), later=later),
        origin=f"The list: {people} of batch call {current.batch_call_id} with {wanted.in_words()}.",
        name=_name(current, wanted, capabilities.limits.name_length or _LONGEST_NAME),
        warnings=(*_called_since(reached, since), *notes, *([hidden] if hidden else [])),
    )


def _is_meant(task: CallTask, wanted: TasksFrom) -> bool:
    return (wanted.statuses is None or task.status in wanted.statuses) and wanted.query.answers(task)


def _check_whole(current: BatchCall, everybody: Sequence[CallTask]) -> None:
    """Refuse a list of which not all was read: pages that move while they are read leave somebody out.

    Raises:
        UnexpectedResponse: nothing was sent.
    """
    total, read = current.counts.total, different(everybody)
    if total is not None and read < total:
        raise UnexpectedResponse(
            f"tasks_from: {current.batch_call_id} has {total:,} tasks, but its list shows {read:,}. Nothing was sent. "
            "Try again, when nobody changes it."
        )


def _called_since(numbers: Iterable[str], since: Mapping[str, str]) -> Iterator[str]:
    """Of the people who were reached: how many a later batch call has called too, and which one."""
    for why, count in Counter(since[number] for number in numbers if number in since).most_common(_MOST_NAMED):
        yield f"{counted(count, 'person of them', 'people of them')}: {why}."


def _check_nobody_waits(current: BatchCall, found: list[CallTask]) -> None:
    """Refuse to make a second list of people whom the first one is about to call.

    Raises:
        InvalidInput: some of them wait to be called there; nothing was sent.
    """
    waiting = sum(task.status in _WAITS or waits_for_redial(task, current) for task in found)
    if waiting and current.status not in {*FINISHED, BatchStatus.DRAFT}:
        people = counted(waiting, "person", "people")
        raise InvalidInput(
            f"tasks_from: {people} of them {'is' if waiting == 1 else 'are'} about to be called by "
            f"{current.batch_call_id} itself. Nothing was sent. Wait until it is finished (watch_batch_call), or give "
            "a task_status without pending and calling."
        )


def _name(current: BatchCall, wanted: TasksFrom, longest: int) -> str:
    """Short enough for the backend, and on one line."""
    return shortened(f"{current.name or current.batch_call_id}: {wanted.in_words()}", longest)
