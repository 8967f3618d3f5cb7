"""What a backend can do, said as data: tools, their arguments and `docs/backends.md` are made from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

from batchcall_mcp.calling_hours import recipient_zones
from batchcall_mcp.model import (
    WEEKDAYS,
    BatchCallRequest,
    CallingWindow,
    CallTask,
    RetryOutcome,
    RetryPolicy,
    TaskStatus,
)


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


TaskResult: TypeAlias = Literal["duration_seconds", "answered_by", "choice", "cost", "summary", "extracted"]
"""Fields of a task that say what came of its call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one batch call can be at most. None = no limit of its own; each is checked before anything is sent."""

    tasks: int | None = None
    """Most tasks in one batch call."""
    name_length: int | None = None
    """Most characters in its name."""
    list_bytes: int | None = None
    """Most bytes of its list, as it is sent."""
    variables_bytes: int | None = None
    """Most bytes of one task's variables, as JSON."""
    ahead: timedelta | None = None
    """How far ahead it may be scheduled."""
    lead: timedelta | None = None
    """How long before its start it has to be scheduled."""
    rounding: timedelta | None = None
    """Its start moves up to the next multiple of this."""
    retries: int | None = None
    """Most dials after the first that a RetryPolicy may ask for."""
    retry_minutes: int | None = None
    """Most minutes between two dials to the same person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do. Tools, their arguments and their enums are made from this; `docs/backends.md` too."""

    operations: frozenset[Operation]
    """What it does itself. RETRY is here if it re-dials people by itself, see `retry`; APPEND, if people can be added
    to one that exists, without its list being sent again."""
    drafts: Literal["full", "start_now_only", "now_only", "none"]
    """full: stored drafts can be started or scheduled; start_now_only: started, not scheduled, but a create can name a
    time; now_only: started, and nothing holds a time; none: create dials."""
    limits: Limits = Limits()
    required: frozenset[str] = frozenset({"from_number"})
    """Fields of BatchCallRequest that create needs, besides its tasks."""
    tasks_reported: Literal["all", "dialled_only", "none"] = "all"
    """Whose tasks a read shows: everybody's, only of those who were dialled, or nobody's."""
    task_ids: bool = True
    """Whether a task has an id by which it can be found again."""
    retry: Literal["named", "all_unreached", "child_draft", "none"] = "none"
    """named: re-dials exactly the tasks named; all_unreached: everybody who was not reached, in the same batch call;
    child_draft: makes a new draft of everybody who was not reached."""
    caller: Literal["number", "id", "pool"] = "number"
    """How a caller number is named to it: as it is, by an id that the account gives it, or as one of a pool of numbers
    that take turns."""
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
    pause_effect: str | None = None
    """A clause: what a pause that was taken does; None: no new call is placed."""
    windows: Literal["full", "one_zone", "utc", "none"] = "none"
    """full: as CallingWindow; one_zone: one IANA zone for all; utc: in UTC."""
    over_midnight: bool = True
    """Whether a window may run over midnight."""
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
    idempotency: Literal["none", "key", "task_id"] = "none"
    """key: the same write with the same key takes effect once; task_id: a task with an id that it has is not added
    again."""
    keys_kept: timedelta | None = None
    """How long after it a write is held to be the same one by its key; None = without an end."""
    dynamic_variables: bool = False
    """Whether tasks carry variables to the agent."""
    returns_variables: bool = False
    """Whether reading the tasks gives their variables back; without it a list cannot be rebuilt from the backend."""
    task_names: bool = False
    task_timezones: bool = False
    task_max_retries: bool = False
    retry_policy: bool = False
    """Whether a batch call can carry a RetryPolicy."""
    retry_at: bool = True
    """Whether a RetryPolicy may name a time of day instead of minutes."""
    retry_outcomes: tuple[RetryOutcome, ...] = ("no_answer", "busy", "voicemail", "failed")
    """Outcomes that a RetryPolicy may name, and after which people are in a child draft."""
    agent: Literal["per_batch", "caller_number"] = "per_batch"
    """caller_number: an agent_id is ignored, the agent of from_number speaks."""
    update_fields: frozenset[str] = frozenset()
    """Fields of BatchCallRequest that update can change."""
    needs_secret: bool = True
    """Whether a caller has an API secret in addition to the key."""
    key_begins: str | None = None
    """What its keys begin with, where that is known."""
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
    if capabilities.windows == "utc" and window.timezone not in {"UTC", "Etc/UTC"}:
        yield "window.timezone: it holds windows in UTC only; give the hours in UTC, with timezone UTC"
    if not capabilities.over_midnight and window.end <= window.start:
        yield "window: it holds no window over midnight; start must be before end"
    if not capabilities.window_days and len(set(window.days)) < len(WEEKDAYS):
        yield "window.days: it cannot leave out days of the week"


def _unsupported_dates(request: BatchCallRequest, capabilities: Capabilities) -> Iterator[str]:
    if request.trigger_at is not None and capabilities.drafts == "now_only":
        yield 'trigger_timestamp: it holds no time; start the draft with trigger_timestamp "now" when it is time'
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
    yield from _unsupported_retry(request.retry, capabilities)
    if request.first is not None and not capabilities.first:
        yield "first: a start is for the whole list; make a batch call of the first people (create_batch_call, rows)"
    length, longest = len(request.name or ""), capabilities.limits.name_length
    if longest is not None and length > longest:
        yield f"name: it takes {longest} characters, this one has {length}"


def _unsupported_retry(retry: RetryPolicy | None, capabilities: Capabilities) -> Iterator[str]:
    if retry is None:
        return
    if not capabilities.retry_policy:
        yield "retry: it does not redial by itself; use retry_batch_call afterwards"
        return
    if unknown := [outcome for outcome in retry.on if outcome not in capabilities.retry_outcomes]:
        yield f"retry.on: it cannot redial after {', '.join(unknown)}"
    limits = capabilities.limits
    if limits.retries is not None and retry.max_retries > limits.retries:
        yield f"retry.max_retries: it redials {limits.retries} times at most"
    if limits.retry_minutes is not None and (retry.after_minutes or 0) > limits.retry_minutes:
        yield f"retry.after_minutes: it waits {limits.retry_minutes} minutes at most"
    if retry.at is not None and not capabilities.retry_at:
        yield "retry.at: it waits a number of minutes, not until a time of day; give after_minutes instead"


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
