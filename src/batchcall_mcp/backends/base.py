"""What every backend offers and says of itself: the `Backend` protocol, `Capabilities` and `Dials`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable
from zoneinfo import ZoneInfo

from batchcall_mcp.calling_hours import recipient_zones
from batchcall_mcp.model import (
    WEEKDAYS,
    Account,
    BatchCall,
    BatchCallPage,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallingWindow,
    CallTask,
    Counts,
    ListQuery,
    RetryOutcome,
    TaskPage,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials


class Operation(StrEnum):
    """What can be asked of a backend."""

    ACCOUNT = "account"
    CREATE = "create"
    UPDATE = "update"
    APPEND = "append"
    GET = "get"
    LIST = "list"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"
    GET_CALL = "get_call"


LAUNCHING = frozenset(
    {Operation.CREATE, Operation.UPDATE, Operation.APPEND, Operation.START, Operation.RESUME, Operation.RETRY}
)
"""What may make a phone ring."""


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


TaskResult: TypeAlias = Literal["duration_seconds", "answered_by", "choice", "cost", "summary", "extracted"]
"""Fields of a task that say what came of its call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do. Tools, their arguments and their enums are made from this; `docs/backends.md` too."""

    operations: frozenset[Operation]
    """What it does itself. RETRY is here only if it re-dials exactly the tasks named; APPEND, if people can be added to
    one that exists, without its list being sent again."""
    drafts: Literal["full", "start_now_only", "none"]
    """full: stored drafts can be started or scheduled; start_now_only: started, not scheduled; none: create dials."""
    max_tasks: int | None = None
    """Most tasks in one batch call; None = no limit of its own."""
    task_page_size: int = 100
    """Most tasks in one read."""
    outcomes: tuple[TaskStatus, ...]
    """Task states that it reports."""
    results: frozenset[TaskResult] = frozenset()
    """What its tasks say of how their call went."""
    stop: Literal["any_time", "before_start", "pending_only", "never"]
    """What cancel can withdraw: everything not dialled at any time, only a batch call that has not started, …"""
    cancel_effect: str
    """One sentence: what cancel does to calls in progress, and what it cannot stop."""
    pause_stops: bool = True
    """Whether a pause keeps everybody from being dialled; if not, a run of a paused series that is under way dials on.
    """
    windows: Literal["full", "one_zone", "utc_same_day", "none"] = "none"
    """full: as CallingWindow; one_zone: one IANA zone; utc_same_day: UTC and not over midnight."""
    window_days: bool = True
    """Whether a window may leave out days of the week."""
    max_concurrency: int | None = None
    """Most calls at once that a batch call may ask for; None = the field does not exist."""
    trigger_dates: bool = False
    """Whether it calls each person on a date of their own clock; if not, it holds one moment for all."""
    ends: Literal["none", "time", "date"] = "none"
    """Whether a batch call ends at a moment, or also with a date on each person's own clock."""
    not_before: bool = False
    """Whether a task can carry the moment of a promised call-back."""
    idempotency: Literal["none", "key"] = "none"
    """key: the same write with the same key takes effect once."""
    dynamic_variables: bool = False
    """Whether tasks carry variables to the agent."""
    returns_variables: bool = False
    """Whether reading the tasks gives their variables back; without it a list cannot be rebuilt from the backend."""
    task_names: bool = False
    task_timezones: bool = False
    task_max_retries: bool = False
    retry_policy: bool = False
    """Whether a batch call can carry a RetryPolicy."""
    retry_outcomes: tuple[RetryOutcome, ...] = ("no_answer", "busy", "voicemail", "failed")
    """Outcomes that a RetryPolicy may name."""
    max_name_length: int | None = None
    """Most characters in the name of a batch call; None = no limit of its own."""
    agent: Literal["per_batch", "caller_number"] = "per_batch"
    """caller_number: an agent_id is ignored, the agent of from_number speaks."""
    update_fields: frozenset[str] = frozenset()
    """Fields of BatchCallRequest that update can change."""
    needs_secret: bool = True
    """Whether a caller has an API secret in addition to the key."""
    first: bool = False
    """Whether a launch can be for the first people of the list, with a pause after them."""
    prices: bool = False
    """Whether its account says what a minute of a call costs."""
    simulated: bool = False
    """No real phone rings, whatever is launched."""
    in_process: bool = False
    """It dials only while this process, or another one on the same database, runs."""
    limitations: tuple[str, ...] = ()
    """One sentence each: what somebody who plans on this backend must know."""

    @property
    def needs_list_again(self) -> bool:
        """Whether the variables are only in the list that a batch call was made from."""
        return self.dynamic_variables and not self.returns_variables


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


def unsupported(request: BatchCallRequest, capabilities: Capabilities) -> list[str]:
    """What of a request the backend has no field for, one sentence each; empty if it can hold all of it. Pure."""
    return [
        *_unsupported_window(request.window, capabilities),
        *_unsupported_dates(request, capabilities),
        *_unsupported_settings(request, capabilities),
        *_unsupported_task_fields(request.tasks or (), capabilities),
    ]


def _unsupported_window(window: CallingWindow | None, capabilities: Capabilities) -> Iterator[str]:
    if window is None:
        return
    if capabilities.windows == "none":
        yield "window: it has no calling windows"
        return
    if capabilities.windows == "one_zone" and window.timezone == "recipient":
        yield (
            "window.timezone: it holds one IANA time zone for all tasks, not each person's own; make one batch call "
            "for each time zone: timezones selects its people, window.timezone names it"
        )
    if capabilities.windows == "utc_same_day":
        if window.timezone not in {"UTC", "Etc/UTC"}:
            yield "window.timezone: it holds windows in UTC only; give the hours in UTC, with timezone UTC"
        if window.end <= window.start:
            yield "window: it holds no window over midnight; start must be before end"
    if not capabilities.window_days and len(set(window.days)) < len(WEEKDAYS):
        yield "window.days: it cannot leave out days of the week"


def _unsupported_dates(request: BatchCallRequest, capabilities: Capabilities) -> Iterator[str]:
    if request.trigger_on is not None and not capabilities.trigger_dates:
        yield (
            "trigger_timestamp: it holds one moment for all tasks, not a date on each person's own clock; "
            + _one_moment(request.trigger_on, request)
        )
    if (request.ends_on is not None or request.ends_at is not None) and capabilities.ends == "none":
        yield "ends_at: it holds no end, and calls until all are called; shorten the list, or cancel what is left"
    elif request.ends_on is not None and capabilities.ends == "time":
        yield "ends_at: it holds one moment for all tasks, not a date; give a time with an offset"


def _one_moment(day: date, request: BatchCallRequest) -> str:
    """What can be given instead of a date: exactly that, where everybody is in one zone."""
    zones = {recipient_zones(task.to_number, task.timezone, request.timezone) for task in request.tasks or ()}
    if len(zones) == 1 and len(only := zones.pop()) == 1:
        clock = request.window.start if request.window is not None else "09:00"
        opens = datetime.combine(day, time.fromisoformat(clock), ZoneInfo(only[0]))
        return f"all of them are in {only[0]}, so give trigger_timestamp={opens.isoformat(timespec='minutes')}"
    return "make one batch call a time zone, each with a time, such as 2026-11-27T09:00-05:00"


def _unsupported_settings(request: BatchCallRequest, capabilities: Capabilities) -> Iterator[str]:
    if request.max_concurrency is not None:
        if capabilities.max_concurrency is None:
            yield "max_concurrency: it has no such field"
        elif request.max_concurrency > capabilities.max_concurrency:
            yield f"max_concurrency: it takes {capabilities.max_concurrency} at most"
    if request.retry is not None:
        unknown = [outcome for outcome in request.retry.on if outcome not in capabilities.retry_outcomes]
        if not capabilities.retry_policy:
            yield "retry: it does not redial by itself; use retry_batch_call afterwards"
        elif unknown:
            yield f"retry.on: it cannot redial after {', '.join(unknown)}"
    if request.first is not None and not capabilities.first:
        yield "first: a start is for the whole list; make a batch call of the first people (create_batch_call, rows)"
    length, longest = len(request.name or ""), capabilities.max_name_length
    if longest is not None and length > longest:
        yield f"name: it takes {longest} characters, this one has {length}"


def _unsupported_task_fields(tasks: tuple[CallTask, ...], capabilities: Capabilities) -> Iterator[str]:
    if not capabilities.dynamic_variables and any(task.dynamic_variables for task in tasks):
        yield "dynamic_variables: it carries no variables to the agent"
    if not capabilities.task_names and any(task.name is not None for task in tasks):
        yield "name of a task: it has no such field"
    if not capabilities.task_timezones and any(task.timezone is not None for task in tasks):
        yield "timezone of a task: it has no such field"
    if not capabilities.not_before and any(task.not_before is not None for task in tasks):
        yield (
            "not_before of a task: it holds no promised call-backs; make a batch call of these people, with the "
            "time as trigger_timestamp"
        )
    if not capabilities.task_max_retries and any(task.max_retries is not None for task in tasks):
        yield "max_retries of a task: it has no such field"


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


def _reference(name: str | None, kind: str) -> str | None:
    found = _REFERENCE.search(name or "")
    return found["batch_call_id"] if found and found["kind"] == kind else None


def matches(found: BatchCall, query: ListQuery) -> bool:
    """Whether a batch call is one of those asked for. One without a time of creation is not newer than any."""
    named = query.name_contains is None or query.name_contains.casefold() in (found.name or "").casefold()
    newer = query.created_after is None or (found.created_at is not None and found.created_at > query.created_after)
    by_agent = query.agent_id is None or found.agent_id == query.agent_id
    return named and newer and by_agent and (query.status is None or found.status is query.status)


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
