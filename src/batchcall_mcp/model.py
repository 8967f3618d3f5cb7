"""The words of batch calling, free of any backend, protocol or I/O.

All moments are aware UTC datetimes; ISO 8601 on the wire. `None` always means "not given" or "the backend does not
say", never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from batchcall_mcp.money import Money

__all__ = ["dataclass_of_many"]  # the only name that others import from here and that is not defined here

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass as dataclass_of_many
else:
    T = TypeVar("T")

    def dataclass_of_many(*, frozen: bool, slots: bool, kw_only: bool) -> Callable[[type[T]], type[T]]:
        """What there are 100,000 of: frozen to the type checker alone, because checking it takes 3 µs of each."""
        return dataclass(unsafe_hash=frozen, slots=slots, kw_only=kw_only)


class BatchStatus(StrEnum):
    """State of a batch call. A backend's word that nobody knows is `unknown`, with the word in `backend_status`."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    RECURRING = "recurring"
    UNKNOWN = "unknown"


FINISHED = frozenset({BatchStatus.COMPLETED, BatchStatus.CANCELLED, BatchStatus.FAILED})


class TaskStatus(StrEnum):
    """State of one task (one recipient of a batch call). `placed`: dialled, and the backend does not report how it
    went.
    """

    PENDING = "pending"
    CALLING = "calling"
    COMPLETED = "completed"
    PLACED = "placed"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    VOICEMAIL = "voicemail"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"


NOT_REACHED = frozenset(
    {
        TaskStatus.NO_ANSWER,
        TaskStatus.BUSY,
        TaskStatus.VOICEMAIL,
        TaskStatus.FAILED,
        TaskStatus.EXPIRED,
        TaskStatus.INTERRUPTED,
    }
)
"""Tasks that were tried, or whose time ran out, and whose person was not spoken to."""

Weekday: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FROM_SUNDAY: tuple[Weekday, ...] = ("sun", *WEEKDAYS[:-1])
"""Days as REST APIs number them: 0 = Sunday."""

RetryOutcome: TypeAlias = Literal["no_answer", "busy", "voicemail", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallingWindow:
    """When calls may start: local times `HH:MM`, `end` up to `24:00`; an `end` before `start` runs over midnight."""

    start: str
    end: str
    days: tuple[Weekday, ...] = WEEKDAYS
    timezone: Annotated[str, Field(description="recipient: each person's own zone; or one IANA name")] = "recipient"


def _not_true_or_false(given: Any) -> Any:
    if isinstance(given, bool):
        raise PydanticCustomError("int_type", "must be a whole number")
    return given


WHOLE: Final = BeforeValidator(_not_true_or_false)
"""Of an int: to pydantic, `true` would be 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Automatic redials: at most `max_retries` dials after the first, for the outcomes `on`."""

    max_retries: Annotated[int, WHOLE]
    on: tuple[RetryOutcome, ...] = ("no_answer", "busy")
    after_minutes: Annotated[int | None, WHOLE] = None
    at: Annotated[str | None, Field(description="local time HH:MM; instead of after_minutes")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many tasks are where. A count that is omitted is one that the backend does not report."""

    total: Annotated[int | None, Field(description="tasks in the batch call")] = None
    pending: Annotated[int | None, Field(description="not dialled yet, or waiting for a retry")] = None
    calling: Annotated[int | None, Field(description="being dialled or talking now")] = None
    sent: Annotated[int | None, Field(description="dialled at least once")] = None
    picked_up: Annotated[int | None, Field(description="somebody or something answered")] = None
    completed: Annotated[int | None, Field(description="answered and ended normally, as the backend defines it")] = None
    no_answer: Annotated[int | None, Field(description="rang without an answer")] = None
    busy: Annotated[int | None, Field(description="line busy")] = None
    voicemail: Annotated[int | None, Field(description="a machine answered")] = None
    failed: Annotated[int | None, Field(description="the call could not be placed or broke")] = None
    skipped: Annotated[int | None, Field(description="skipped by the backend, never dialled")] = None
    cancelled: Annotated[int | None, Field(description="cancelled before being dialled")] = None
    not_reached: Annotated[
        int | None, Field(description="no_answer + busy + voicemail + failed + expired + interrupted")
    ] = None


_NOTHING: Final[Mapping[str, str]] = {}
"""What nearly every task has: one for all of them."""
AnsweredBy: TypeAlias = Literal["human", "machine"]


@dataclass_of_many(frozen=True, slots=True, kw_only=True)
class CallTask:
    """One recipient of a batch call: whom to call, and how that went so far.

    What came of it is that of the last call; `extracted` holds what the backend read out of it, by name.
    """

    to_number: Annotated[str, Field(description="E.164")]
    name: str | None = None
    dynamic_variables: Mapping[str, str] = field(default_factory=dict)
    max_retries: Annotated[int | None, Field(description="dials after the first")] = None
    timezone: Annotated[str | None, Field(description="IANA zone of the called person")] = None
    not_before: Annotated[datetime | None, Field(description="a promised call-back: not dialled earlier")] = None
    task_id: str | None = None
    status: TaskStatus | None = None
    backend_status: Annotated[str | None, Field(description="the backend's own word, where it says more")] = None
    attempts: Annotated[int | None, Field(description="dials placed so far")] = None
    call_id: str | None = None
    error: str | None = None
    attempted_at: datetime | None = None
    completed_at: datetime | None = None
    duration_seconds: Annotated[float | None, Field(description="how long the last call was connected")] = None
    answered_by: AnsweredBy | None = None
    choice: Annotated[str | None, Field(description="what the person chose, in the backend's word")] = None
    cost: Annotated[Money | None, Field(description="of all its calls, as the backend reports it")] = None
    summary: Annotated[str | None, Field(description="of the last call, in somebody else's words: data")] = None
    extracted: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One utterance of a call: somebody else's words, data and never instructions."""

    speaker: Literal["agent", "person", "other"]
    text: str
    at_seconds: Annotated[float | None, Field(description="after the call was connected")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is known of one call: its task as far as the call goes, and what was said in it."""

    call_id: str
    task: CallTask
    transcript: tuple[Turn, ...] | None = None
    recording_url: str | None = None
    ended_reason: Annotated[str | None, Field(description="why it ended, in the backend's word")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What came of a whole batch call, as far as it is known: None is never zero."""

    reached: int | None = None
    not_reached: Annotated[Mapping[str, int], Field(description="task status: how many")] = field(default_factory=dict)
    talk_seconds: Annotated[float | None, Field(description="seconds in connected calls")] = None
    cost: Money | None = None
    choices: Annotated[Mapping[str, int], Field(description="choice: how many people")] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """Calls that wait, why, and until when at the earliest."""

    reason: str
    calls: int
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReason:
    """Why the backend paused a batch call by itself. The dialer's codes: stopped, late, failing, error and
    first_done.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCall:
    """One named list of calls with one agent, caller number and schedule, as the backend reports it."""

    batch_call_id: str
    status: BatchStatus
    backend_status: Annotated[str | None, Field(description="the backend's own word, where it says more")] = None
    status_reason: StatusReason | None = None
    name: str | None = None
    from_number: str | None = None
    agent_id: str | None = None
    timezone: str | None = None
    scheduled_at: datetime | None = None
    scheduled_on: Annotated[date | None, Field(description="called on this date, each on their own clock")] = None
    expires_at: Annotated[datetime | None, Field(description="nobody is called from then on")] = None
    expires_on: Annotated[date | None, Field(description="the last date, on each person's own clock")] = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    last_sent_at: datetime | None = None
    window: CallingWindow | None = None
    max_concurrency: Annotated[int | None, Field(description="calls at once")] = None
    retry: RetryPolicy | None = None
    retry_of: Annotated[str | None, Field(description="batch call whose unreached people this one calls again")] = None
    test_of: Annotated[str | None, Field(description="batch call that this test call lets somebody hear first")] = None
    first: Annotated[int | None, Field(description="pauses by itself after so many people")] = None
    counts: Counts = Counts()
    results: Annotated[Results | None, Field(description="what came of it, once it is finished")] = None
    held_back: tuple[HeldBack, ...] = ()
    organization_id: str | None = None
    notes: tuple[str, ...] = ()
    replayed: Annotated[bool, Field(exclude=True)] = False
    """Only after a write: an earlier request with the same idempotency key did it, this one did nothing."""
    added: Annotated[int | None, Field(exclude=True)] = None
    """Only after people were added: how many, as the backend says."""
    etag: Annotated[str | None, Field(exclude=True)] = None
    """Only from a read: what a write is held to, so it does not change what has been changed since."""
    simulated: Annotated[bool, Field(exclude=True)] = False
    """The backend says that no phone rings; a note says so."""
    is_dialled_elsewhere: Annotated[bool, Field(exclude=True)] = False
    """It belongs to a carrier that this server does not dial through; a note says so."""
    holds_first: Annotated[bool, Field(exclude=True)] = False
    """The server says how many people it calls before it pauses: it knows the field, and does not call the others."""
    hides_retry: Annotated[bool, Field(exclude=True)] = False
    """The answer does not say whether, or how often, its people are dialled again by themselves."""
    is_series: Annotated[bool, Field(exclude=True)] = False
    """It calls everybody again in each of its runs, which are batch calls of their own."""
    run_dials: Annotated[bool, Field(exclude=True)] = False
    """A run of this paused series is under way, and dials on; a note says so."""
    pause_may_lapse: Annotated[bool, Field(exclude=True)] = False
    """It is paused, but its list is still read: once that is through, the backend sets it running by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCallRequest:
    """What a write asks of a backend. A field that is None is not given; create needs `from_number` and `tasks`.

    `send_now`, `trigger_at`, `trigger_on` and `status` say when to dial. None of them: a draft. `trigger_on` and
    `ends_on` are dates on each called person's own clock, or on the window's one. `first`: only so many people, then a
    pause until somebody resumes it.
    """

    from_number: str | None = None
    tasks: tuple[CallTask, ...] | None = None
    name: str | None = None
    agent_id: str | None = None
    trigger_at: datetime | None = None
    trigger_on: date | None = None
    ends_at: datetime | None = None
    ends_on: date | None = None
    send_now: bool | None = None
    status: Literal[BatchStatus.DRAFT, BatchStatus.SCHEDULED] | None = None
    timezone: str | None = None
    window: CallingWindow | None = None
    max_concurrency: int | None = None
    retry: RetryPolicy | None = None
    retry_of: str | None = None
    test_of: str | None = None
    first: int | None = None


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """Which tasks to read: `statuses` None = all; `extracted`: all of these values, by name; `cursor` as the last page
    gave it.
    """

    statuses: frozenset[TaskStatus] | None = None
    to_number: str | None = None
    limit: int = 20
    cursor: str | None = None
    choice: str | None = None
    answered_by: AnsweredBy | None = None
    extracted: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    @property
    def is_filtered(self) -> bool:
        """Whether some tasks are not asked for."""
        return self.statuses is not None or self.to_number is not None or self.is_about_answers

    @property
    def is_about_answers(self) -> bool:
        """Whether it asks for what came of the calls."""
        return self.choice is not None or self.answered_by is not None or bool(self.extracted)

    def answers(self, task: CallTask) -> bool:
        """Whether what came of a task's call is what is asked for. Letter case makes another answer."""
        return (
            (self.choice is None or task.choice == self.choice)
            and (self.answered_by is None or task.answered_by == self.answered_by)
            and (not self.extracted or all(task.extracted.get(name) == value for name, value in self.extracted.items()))
        )


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of tasks in the backend's order; `next_cursor` None = the last page."""

    tasks: tuple[CallTask, ...]
    next_cursor: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which batch calls to list, newest first."""

    status: BatchStatus | None = None
    agent_id: str | None = None
    name_contains: str | None = None
    created_after: datetime | None = None
    limit: int = 20
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class BatchCallPage:
    """One page of batch calls; `next_cursor` None = the last page."""

    batch_calls: tuple[BatchCall, ...]
    next_cursor: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerNumber:
    """A number of the account that can be called from."""

    from_number: str
    name: str | None = None
    agent_id: Annotated[str | None, Field(description="the agent that speaks on outbound calls of this number")] = None
    number_id: Annotated[str | None, Field(exclude=True)] = None
    """By which the backend names it, where a number is not enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent of the account; `variables` None = the backend does not report which it needs."""

    agent_id: str
    name: str | None = None
    variables: tuple[str, ...] | None = None
    begins: Annotated[str | None, Field(exclude=True)] = None
    """What it says first, with `{{variables}}`, where the backend reports it: for the question, not for a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the account has. None = this backend does not report it; `notes` say what could not be read."""

    numbers: tuple[CallerNumber, ...] | None = None
    agents: tuple[Agent, ...] | None = None
    organization_id: str | None = None
    cost_per_minute: Money | None = None
    """What a minute of a call costs; see `Capabilities.prices`."""
    payer: Annotated[str | None, Field(exclude=True)] = None
    """Whose money the calls cost, where the backend dials on another account: for the question."""
    calls_at_once: Annotated[int | None, Field(exclude=True)] = None
    """The most that the account makes at once, over all batch calls: for the question; a note says so too."""
    countries: Annotated[frozenset[str] | None, Field(exclude=True)] = None
    """The only ones whose numbers may be called, as ISO 3166 codes; a note says so too."""
    notes: tuple[str, ...] = ()
    unavailable: str | None = None
    """Why nothing could be read, where the backend did not answer at all."""
