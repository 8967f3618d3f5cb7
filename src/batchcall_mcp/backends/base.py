"""What every backend offers and says of itself: the `Backend` protocol, `Capabilities` and `Dials`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.model import (
    Account,
    BatchCall,
    BatchCallPage,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallTask,
    Counts,
    ListQuery,
    TaskPage,
    TaskQuery,
)
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials


@dataclass(frozen=True, slots=True)
class Never:
    """The request makes no phone ring."""


@dataclass(frozen=True, slots=True)
class Now:
    """The request makes phones ring as soon as it is sent, or may: unsure means Now."""


FIRST_ZONE = timedelta(hours=14)
"""How far the clocks that are the first to show a date are ahead of UTC."""
_DATE_LASTS = timedelta(hours=24 + 12)
"""From its midnight in UTC until it is over where clocks are the last to show it."""


@dataclass(frozen=True, slots=True)
class At:
    """The request makes phones ring at `time` (aware UTC) without anybody asking again.

    `on`: on this date, on each called person's own clock; `time` is its midnight in UTC, for what is counted by day.
    """

    time: datetime
    on: date | None = None

    @classmethod
    def date(cls, day: date) -> At:
        """On a date."""
        return cls(datetime.combine(day, time(), UTC), day)

    @property
    def may_begin(self) -> datetime:
        """The first moment at which somebody may be called: a date begins where clocks are 14 hours ahead of UTC."""
        return self.time if self.on is None else self.time - FIRST_ZONE

    def counts_at(self, now: datetime) -> datetime:
        """The moment by whose day its calls count: a time in the past means now, a date is the one that is named.

        A date that is over everywhere means now: a backend may say anything.
        """
        is_named = self.on is not None and now < self.time + _DATE_LASTS
        return self.time if is_named else max(self.time, now)


Dials: TypeAlias = Never | Now | At


class Backend(Protocol):
    """A batch-call service, seen with one caller's credentials. Cheap to make: one for each tool call.

    Reads raise BackendUnavailable or UnexpectedResponse where a write raises OutcomeUnknown; see `errors`.
    """

    name: ClassVar[str]
    default_url: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    def __init__(self, http: BackendHttp, credentials: Credentials) -> None:
        """Use the process's HTTP client with one caller's credentials."""
        ...

    async def account(self) -> Account:
        """Caller numbers and agents. A part that cannot be read is None and a note, not an error."""
        ...

    async def create(self, request: BatchCallRequest, idempotency_key: str | None = None) -> BatchCall:
        """Make a batch call; without a word about when, a draft that does not dial."""
        ...

    async def keeps_keys(self) -> bool:
        """Whether this very server is known to let the same write with the same idempotency key take effect once."""
        ...

    async def update(
        self, current: BatchCall, request: BatchCallRequest, idempotency_key: str | None = None
    ) -> BatchCall:
        """Change only what is given, in one write.

        Raises:
            InvalidInput: if only a full replacement would do and `current` does not hold what would be replaced.
        """
        ...

    async def append(
        self, current: BatchCall, tasks: tuple[CallTask, ...], idempotency_key: str | None = None
    ) -> BatchCall:
        """Put these people after the last one of its list, all or none; where it dials, they are dialled too.

        The answer says how many were added (`BatchCall.added`), where the backend says it.
        """
        ...

    async def get(self, batch_call_id: str) -> BatchCall:
        """One batch call, without its tasks."""
        ...

    async def tasks(self, batch_call_id: str, query: TaskQuery) -> TaskPage:
        """A page of its tasks. The batch call itself is not read again for it."""
        ...

    async def get_call(self, batch_call_id: str, call_id: str) -> Call:
        """One call of that batch call, with what was said in it.

        Raises:
            NotFound: it has no such call.
        """
        ...

    async def list(self, query: ListQuery) -> BatchCallPage:
        """One page of batch calls, newest first."""
        ...

    async def start(self, current: BatchCall, at: datetime | None, idempotency_key: str | None = None) -> BatchCall:
        """Launch now (`at` None) or at a moment; also moves one that is scheduled."""
        ...

    async def pause(self, current: BatchCall) -> BatchCall:
        """No new dial; calls in progress go on."""
        ...

    async def resume(self, current: BatchCall, idempotency_key: str | None = None) -> BatchCall:
        """Dial on."""
        ...

    async def cancel(self, current: BatchCall) -> BatchCall:
        """Withdraw what was not dialled; see `Capabilities.cancel_effect`."""
        ...

    async def retry(
        self, current: BatchCall, task_ids: tuple[str, ...], idempotency_key: str | None = None
    ) -> BatchCall:
        """Dial exactly these tasks again, now, in the same batch call."""
        ...

    async def delete(self, current: BatchCall) -> None:
        """Remove it for good."""
        ...

    def check_state(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> None:
        """Refuse a write that its state forbids, as the batch call was read. Pure.

        `Write.run` asks this once, before a person is asked; the write itself does not check it again.

        Raises:
            BatchCallError: nothing was sent.
        """
        ...

    def dials(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> Dials:
        """Would this make a phone ring, given the batch call as it stands? Pure; unsure means Now.

        `start` is asked with a request whose `send_now` or `trigger_at` says when.
        """
        ...


def as_asked(found: BatchCall, batch_call_id: str) -> BatchCall | None:
    """What an answer says of the batch call that was asked for, under that id; None if it is about another one.

    All that follows goes to the id that was asked for. Pure.
    """
    return replace(found, batch_call_id=batch_call_id) if is_same_id(found.batch_call_id, batch_call_id) else None


def unread(batch_call_id: str) -> BatchCall:
    """A batch call of which only the id is known, because no answer spoke of it: enough to stop it. Pure."""
    return BatchCall(batch_call_id=batch_call_id, status=BatchStatus.UNKNOWN)


def is_unread(current: BatchCall) -> bool:
    """Whether no answer spoke of it at all. Pure."""
    return current == unread(current.batch_call_id)


def is_same_id(one: str, other: str) -> bool:
    """Whether two spellings name the same batch call. Pure.

    Letter case makes another one: the ledger knows a batch call by one spelling of its id.
    """
    return one.strip() == other.strip()


@runtime_checkable
class KeepsDates(Protocol):
    """A backend that can be started on a date, or with an end; see `Capabilities.trigger_dates` and `ends`."""

    async def start_as(
        self,
        current: BatchCall,
        request: BatchCallRequest,
        skip: Mapping[str, Sequence[str]],
        idempotency_key: str | None = None,
    ) -> BatchCall:
        """As `start` at the request's time, date or now, with its end; without the tasks of `skip` (reason -> ids)."""
        ...


@runtime_checkable
class SkipsAtStart(Protocol):
    """A backend whose start can skip people of a list that it holds; elsewhere only a list that is sent can be cut."""

    async def start_without(
        self,
        current: BatchCall,
        at: datetime | None,
        skip: Mapping[str, Sequence[str]],
        idempotency_key: str | None = None,
        *,
        first: int | None = None,
    ) -> BatchCall:
        """As `start`, without some tasks: reason -> their ids. Both in one step, or neither. `first`: as below."""
        ...


@runtime_checkable
class StartsFirst(Protocol):
    """A backend of which `Capabilities.first` may be so."""

    async def start_first(
        self, current: BatchCall, at: datetime | None, first: int, idempotency_key: str | None = None
    ) -> BatchCall:
        """As `start`, for the first people of the list; after them it pauses until somebody resumes it."""
        ...


@runtime_checkable
class FindsCreated(Protocol):
    """A backend that can tell by ids or metadata that it gives back what became of a create, without a list."""

    async def find_created(self, idempotency_key: str) -> BatchCall | None:
        """The batch call that the create with this key made; None: it shows none, which proves nothing."""
        ...


ReadTasks: TypeAlias = Callable[[TaskQuery], Awaitable[TaskPage]]
"""Reads a page of the tasks of one batch call; see `Backend.tasks`."""


@runtime_checkable
class GetsWithTasks(Protocol):
    """A backend whose answer about a batch call has all its tasks too: who wants both asks once."""

    async def get_with_tasks(self, batch_call_id: str) -> tuple[BatchCall, ReadTasks]:
        """As `get`, and pages of the tasks that the same answer has: neither is older than the other."""
        ...


async def read_with_tasks(backend: Backend, batch_call_id: str) -> tuple[BatchCall, ReadTasks]:
    """A batch call that is asked for now, and what reads its tasks: in the same answer, where that has them.

    For who goes on to the tasks at once: what they are read from may be as old as the batch call.
    """
    if isinstance(backend, GetsWithTasks):
        return await backend.get_with_tasks(batch_call_id)
    return await backend.get(batch_call_id), partial(backend.tasks, batch_call_id)


_REFERENCE = re.compile(r" \((?P<kind>retry|test) of (?P<batch_call_id>[^()\s]{1,100})\)$")


def name_with_retry_of(name: str | None, retry_of: str, max_length: int | None = None) -> str:
    """The name of a batch call that calls the unreached of `retry_of` again, where the backend has no field for that.

    The reference is never cut; the name in front of it is.
    """
    return _with_reference(name, f" (retry of {retry_of})", max_length)


def name_with_test_of(name: str | None, test_of: str, max_length: int | None = None) -> str:
    """The same for a test call of `test_of`."""
    return _with_reference(name, f" (test of {test_of})", max_length)


def name_with_the_same_reference(name: str, before: str | None, max_length: int | None = None) -> str:
    """A new name with the reference that the old one carried, if it did."""
    found = _REFERENCE.search(before or "")
    return name if found is None else _with_reference(name, found[0], max_length)


def _with_reference(name: str | None, reference: str, max_length: int | None) -> str:
    plain = name_without_reference(name) or "Batch call"
    if max_length is not None:
        plain = plain[: max(max_length - len(reference), 0)].rstrip()
    return plain + reference


def name_without_reference(name: str | None) -> str | None:
    """The name that was given, without what was added to it."""
    return None if name is None else _REFERENCE.sub("", name)


def retry_of_in_name(name: str | None) -> str | None:
    """The batch call that a name made by `name_with_retry_of` points to."""
    return _reference(name, "retry")


def test_of_in_name(name: str | None) -> str | None:
    """The batch call that a name made by `name_with_test_of` points to."""
    return _reference(name, "test")


def with_references_in_name(found: BatchCall) -> BatchCall:
    """A batch call as a retry or a test of the one that its name points to, unless it says so itself."""
    retry_of = found.retry_of or retry_of_in_name(found.name)
    return replace(found, retry_of=retry_of, test_of=found.test_of or test_of_in_name(found.name))


def name_with_references(name: str, request: BatchCallRequest, max_length: int | None = None) -> str:
    """A name with the batch call that the request is a retry or a test of, if it is one."""
    if request.retry_of is not None:
        return name_with_retry_of(name, request.retry_of, max_length)
    return name if request.test_of is None else name_with_test_of(name, request.test_of, max_length)


def _reference(name: str | None, kind: str) -> str | None:
    found = _REFERENCE.search(name or "")
    return found["batch_call_id"] if found and found["kind"] == kind else None


def matches(found: BatchCall, query: ListQuery) -> bool:
    """Whether a batch call is one of those asked for. One without a time of creation is not newer than any."""
    named = query.name_contains is None or query.name_contains.casefold() in (found.name or "").casefold()
    newer = query.created_after is None or (found.created_at is not None and found.created_at > query.created_after)
    by_agent = query.agent_id is None or found.agent_id == query.agent_id
    return named and newer and by_agent and (query.status is None or found.status is query.status)


def is_asked_for(task: CallTask, query: TaskQuery) -> bool:
    """Whether a task is one of those that a query is about. Pure."""
    by_status = query.statuses is None or task.status in query.statuses
    by_number = query.to_number is None or comparable(task.to_number) == query.to_number
    return by_status and by_number and query.answers(task)


_AS_ANSWERED = frozenset(
    {"backend_status", "etag", "status_reason", "first", "scheduled_on", "expires_on", "expires_at"}
)
"""What an answer does not have of these has gone: backends that have them answer whole batch calls."""


def completed_by(answer: BatchCall, known: BatchCall) -> BatchCall:
    """An answer that has only some fields (execute, older creates), with the others as they were known.

    Not its entity tag: it is another one now. Nor why it was paused, or for how many people it was launched.
    """
    missing: dict[str, Any] = {
        field.name: getattr(known, field.name)
        for field in fields(answer)
        if getattr(answer, field.name) is None and field.name not in _AS_ANSWERED
    }
    if answer.counts == Counts():
        missing["counts"] = known.counts
    return replace(answer, **missing)
