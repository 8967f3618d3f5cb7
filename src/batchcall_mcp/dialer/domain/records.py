"""What the dialer's tables hold, as values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args, get_type_hints

import sqlalchemy as sa

from batchcall_mcp.call_dates import CallDates
from batchcall_mcp.clock import from_ms
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.rules import Redialing, RetryRule, State
from batchcall_mcp.model import FROM_SUNDAY, AnsweredBy, CallingWindow, TaskStatus, dataclass_of_many
from batchcall_mcp.money import Money

HeldBy: TypeAlias = Literal[
    "calling_hours", "date", "not_before", "daily_cap", "min_gap", "retry", "carrier", "predial"
]
"""Why a pending task is not dialled before a later time: its hours, its date, a call-back that was promised, its day's
attempts, another batch call that has just dialled the number, its redial, a busy carrier, a gate before each dial that
gives no clear answer."""

ReasonCode: TypeAlias = Literal["stopped", "late", "failing", "error", "first_done", "account"]
"""Why the dialer paused a batch call by itself: the emergency stop, a start that was missed, too many failed calls, an
error of the dialer, the first people were called and the others wait for a resume, the carrier's account is at
fault."""

SortBy: TypeAlias = Literal["created_at", "updated_at", "scheduled_timestamp", "name", "status", "total_task_count"]
SortOrder: TypeAlias = Literal["ascending", "descending"]


@dataclass_of_many(frozen=True, slots=True, kw_only=False)
class NewTask:
    """A task as it is asked for; `dynamic_variables` is compact JSON."""

    to_number: str
    name: str | None = None
    dynamic_variables: str | None = None
    max_retries: int | None = None
    timezone: str | None = None
    not_before: int | None = None
    """Milliseconds: a call-back that was promised."""


class NewTasks(Protocol):
    """A task list that need not be in memory."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[NewTask]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCallRecord:
    """A row of `batch_calls`, column by column."""

    batch_call_id: str
    organization_id: str
    name: str | None
    from_number: str
    agent_id: str | None
    timezone: str | None
    status: State
    total_task_count: int
    max_concurrency: int
    calls_per_second: float | None
    window: Mapping[str, Any]
    retry_config: Mapping[str, Any] | None
    retry_rules: list[Mapping[str, Any]] | None
    retry_of: str | None
    scheduled_at: int | None
    trigger_date: str | None
    expires_at: int | None
    expires_date: str | None
    created_at: int
    updated_at: int
    started_at: int | None
    completed_at: int | None
    last_sent_at: int | None
    revision: int
    status_reason: ReasonCode | None
    status_reason_text: str | None
    launched_at: int | None
    pause_on_failures: bool
    first: int | None
    test_of: str | None
    carrier: str
    erased_at: int | None

    @classmethod
    def of(cls, row: sa.RowMapping) -> BatchCallRecord:
        """Read a row of `select(batch_calls)`."""
        return cls(**(dict(row) | {"status": State(row["status"])}))

    def check_numbers(self) -> None:
        """Compute with it only if its numbers are numbers: SQLite keeps any text in any column.

        Raises:
            TypeError: one of them is not, naming the column.
        """
        for name, kinds in _NUMBERS.items():
            if not isinstance(getattr(self, name), kinds):
                raise TypeError(f"{name} is not a number")

    @property
    def etag(self) -> str:
        """Its entity tag, opaque: another one after each change of status, list or settings, and after no dial.

        `updated_at` changes with the revision; with it, a tag from before an old back-up was restored is never met.
        """
        named = hashlib.sha256(f"{self.batch_call_id} {self.updated_at}".encode()).hexdigest()[:16]
        return f'"{named}-{self.revision}"'

    def expires(self) -> datetime | None:
        """The moment from which nobody is dialled any more."""
        return None if self.expires_at is None else from_ms(self.expires_at)

    def dates(self) -> CallDates:
        """The dates on which its people are called, and the moment before which.

        Where it ends with a date, `expires_at` is only the moment at which that is over for everybody.
        """
        return dates_of(self.trigger_date, self.expires_date, self.expires_at)

    def pace(self) -> float | None:
        """Calls per second, within what can be kept to; None: as many as there are lines."""
        return None if self.calls_per_second is None else rules.pace(self.calls_per_second)

    def calling_window(self) -> CallingWindow:
        """The stored window as the rules take it."""
        return window_of(self.window)

    def redialing(self) -> Redialing:
        """The stored retry policy. Rules without a retry_config allow one redial; a disabled config none."""
        rules = [rule for rule in self.retry_rules or () if rule["enabled"]]
        if self.retry_config is None:
            limit = 1 if rules else 0
        else:
            limit = self.retry_config["max_attempts"] if self.retry_config["enabled"] else 0
        return Redialing(
            max_retries=limit,
            rules=tuple(
                RetryRule(
                    outcome=TaskStatus(rule["condition"]),
                    after_minutes=rule["retry_timing"].get("duration_minutes"),
                    at=rule["retry_timing"].get("time"),
                )
                for rule in rules
            ),
        )


def window_of(stored: Mapping[str, Any]) -> CallingWindow:
    """A stored window as the rules take it."""
    return CallingWindow(
        start=stored["start"],
        end=stored["end"],
        days=tuple(FROM_SUNDAY[day] for day in stored["days"]),
        timezone=stored["timezone"],
    )


def dates_of(trigger_date: str | None, expires_date: str | None, expires_at: int | None) -> CallDates:
    """These columns as dates."""
    return CallDates(
        first=None if trigger_date is None else date.fromisoformat(trigger_date),
        last=None if expires_date is None else date.fromisoformat(expires_date),
        until=None if expires_at is None or expires_date is not None else from_ms(expires_at),
    )


_NUMBERS: Final[Mapping[str, tuple[type, ...]]] = {
    name: tuple(kinds | {int})
    for name, hint in get_type_hints(BatchCallRecord).items()
    if (kinds := set(get_args(hint) or (hint,))) & {int, float}
}
"""What each column of numbers may hold. A whole number never is a fraction: a list of 1.5 lanes cannot be opened."""


@dataclass_of_many(frozen=True, slots=True, kw_only=False)
class TaskRecord:
    """A row of `tasks`, without what only the engine needs; `status` is a word of `TaskStatus`, as it is stored."""

    task_id: str
    to_number: str
    name: str | None
    status: str
    attempts: int
    max_retries: int | None
    dynamic_variables: str | None
    timezone: str | None
    not_before: int | None
    call_id: str | None
    error_message: str | None
    created_at: int
    due_at: int | None
    attempted_at: int | None
    completed_at: int | None
    duration_ms: int | None
    answered_by: AnsweredBy | None
    choice: str | None
    backend_status: str | None
    cost: str | None
    summary: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks of a list; nothing given: all of them."""

    statuses: Sequence[str] = ()
    to_number: str | None = None
    choice: str | None = None
    answered_by: AnsweredBy | None = None

    @property
    def takes_all(self) -> bool:
        """Whether nothing is given."""
        return not self.statuses and (self.to_number, self.choice, self.answered_by) == (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What came of the calls of a list: time talked in the last call to each person, and how many chose what.

    `cost`: what the last calls cost, as far as the carrier reports it.
    """

    talk_ms: int
    choices: Mapping[str, int]
    cost: Money | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """Pending tasks that would not be dialled now: `calls` of them, none before `until` (milliseconds)."""

    reason: HeldBy
    calls: int
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCounts:
    """How many tasks are where, counted from the rows: they always add up."""

    by_status: Mapping[TaskStatus, int] = field(default_factory=dict)
    sent: int = 0
    picked_up: int = 0

    def of(self, status: TaskStatus) -> int:
        """Tasks with this status."""
        return self.by_status.get(status, 0)
