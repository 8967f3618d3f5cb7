"""Between the wire's words and the records, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from batchcall_mcp import calling_hours
from batchcall_mcp.call_dates import ANY_DATE, CallDates
from batchcall_mcp.clock import from_epoch, from_ms, to_ms
from batchcall_mcp.dialer.carriers.base import CallDetails, CarrierAccount
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.records import BatchCallRecord, NewTask, Results, TaskCounts, TaskRecord
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.rest.messages.json_keys import repeated
from batchcall_mcp.dialer.rest.messages.request_models import PATTERNS, BatchCallFields, QuietHoursIn, TaskIn, WindowIn
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import FROM_SUNDAY, Agent, CallingWindow, TaskStatus
from batchcall_mcp.text import shortened

MAX_VARIABLES_BYTES: Final = 5 * 1024
SHOWN_PROBLEMS: Final = 20
MOST_PROBLEMS: Final = 100_000
"""In one piece of a body; of more than that not even the first ones are named, which take a kilobyte each."""
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_EARLIEST_PROMISE: Final = datetime(1971, 1, 1, tzinfo=UTC)
_NOTHING: Final = "Nothing was changed."
NOT_VALID: Final = f"The request is not valid. {_NOTHING}"
_LONGEST_PLACE: Final = 200

_AS_GIVEN: Final = (
    "name from_number agent_id timezone max_concurrency calls_per_second retry_of test_of pause_on_failures"
)
"""Columns that are what a body gives."""

Body = TypeVar("Body", bound=BaseModel)


class Problems:
    """What is wrong with a request, however much of it is: the first ones in words, the others counted."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._more = 0

    def __bool__(self) -> bool:
        return bool(self._shown)

    def add(self, problem: str) -> None:
        """One more, with its field and row."""
        if len(self._shown) < SHOWN_PROBLEMS:
            self._shown.append(problem)
        else:
            self._more += 1

    def of(self, error: ValidationError, first_row: int | None = None) -> None:
        """Those of a body, or of the tasks from `first_row` on; values are not repeated."""
        if error.error_count() > MOST_PROBLEMS:
            self.add(f"body: more than {MOST_PROBLEMS} fields are wrong")
            return
        found = error.errors(include_url=False, include_input=False)
        for problem in found[:SHOWN_PROBLEMS]:
            place = problem["loc"]
            if first_row is not None:
                place = ("tasks", first_row + int(place[0]), *place[1:])
            name = shortened(".".join(map(str, place)), _LONGEST_PLACE) or "body"
            self.add(f"{name}: {_plain(problem)}")
        self._more += max(0, len(found) - SHOWN_PROBLEMS)

    def extend(self, later: Problems) -> None:
        """Those of `later` after these."""
        for problem in later._shown:
            self.add(problem)
        self._more += later._more

    def error(self, headline: str = NOT_VALID) -> InvalidInput:
        """As the error that names them."""
        return InvalidInput(headline, [*self._shown, *([f"… and {self._more} more"] if self._more else [])])

    def raise_any(self) -> None:
        """Go on only if there is none."""
        if self:
            raise self.error()


def parse(shape: type[Body], body: bytes) -> Body:
    """Read a small JSON body.

    Raises:
        InvalidInput: naming each field that is wrong, not known or missing.
    """
    try:
        read = shape.model_validate_json(body)
    except ValidationError as error:
        problems = Problems()
        problems.of(error)
        raise problems.error() from None
    if (place := repeated(body)) is not None:
        raise InvalidInput(NOT_VALID, [f"{shortened(place, _LONGEST_PLACE)}: is given twice"])
    return read


def _plain(problem: ErrorDetails) -> str:
    match problem["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return "this field is not known"
        case "string_pattern_mismatch":
            return PATTERNS.get(problem.get("ctx", {}).get("pattern", ""), problem["msg"])
        case _:
            return problem["msg"].removeprefix("Value error, ")


def moment(value: float | str, timezone: str | None, field: str = "trigger_timestamp") -> datetime:
    """A moment as the wire spells it: Unix seconds or milliseconds, or ISO 8601; without an offset in `timezone`.

    Raises:
        InvalidInput: it is none of those.
    """
    try:
        if isinstance(value, str):
            read = datetime.fromisoformat(value)
            if read.tzinfo is None:
                if timezone is None:
                    raise InvalidInput(f"{field}: the time has no offset; add one or give a timezone. {_NOTHING}")
                read = read.replace(tzinfo=ZoneInfo(timezone))
        else:
            read = from_epoch(value)
        in_range = datetime(1970, 1, 1, tzinfo=UTC) <= read <= _LATEST
        moment = read.astimezone(UTC) if in_range else None
    except (ValueError, OverflowError, OSError):
        moment = None
    if moment is None:
        raise InvalidInput(f"{field}: is neither Unix time nor ISO 8601 between 1970 and 2200. {_NOTHING}")
    return moment


def columns(
    body: BatchCallFields, *, default_window: CallingWindow | None, default_concurrency: int | None
) -> dict[str, Any]:
    """The columns of `batch_calls` that a body sets; the defaults fill a whole one (None: leave it out)."""
    given: dict[str, Any] = {name: getattr(body, name) for name in _AS_GIVEN.split() if getattr(body, name) is not None}
    if body.timezone is not None:
        given["timezone"] = calling_hours.check_timezone(body.timezone)
    hours = _window(body.window, body.quiet_hours) or default_window
    if hours is not None:
        given["window"] = {**asdict(hours), "days": sorted(FROM_SUNDAY.index(day) for day in hours.days)}
    if default_concurrency is not None:
        given.setdefault("max_concurrency", default_concurrency)
    if body.retry_config is not None:
        given["retry_config"] = body.retry_config.model_dump()
    if body.retry_rules is not None:
        given["retry_rules"] = [rule.model_dump() for rule in body.retry_rules]
    return given


def _window(window: WindowIn | None, quiet: QuietHoursIn | None) -> CallingWindow | None:
    if window is not None:
        days = range(7) if window.days is None else window.days
        return calling_hours.check_window(
            CallingWindow(
                start=window.start,
                end=window.end,
                days=tuple(FROM_SUNDAY[day] for day in days),
                timezone=window.timezone,
            )
        )
    if quiet is not None and quiet.enabled:
        start, end = rules.open_hours(quiet.start_time, quiet.end_time)
        return calling_hours.check_window(CallingWindow(start=start, end=end, timezone=quiet.timezone))
    return None


def new_tasks(tasks: Iterable[TaskIn], first_row: int, problems: Problems) -> list[NewTask]:
    """Tasks of a body from `first_row` on; what their shape does not check goes to `problems`, with its row."""
    made: list[NewTask] = []
    for row, task in enumerate(tasks, first_row):
        variables = _variables(task)
        if variables is not None and len(variables.encode()) > MAX_VARIABLES_BYTES:
            problems.add(f"tasks.{row}.dynamic_variables: more than {MAX_VARIABLES_BYTES} bytes of JSON")
        if task.timezone is not None and not calling_hours.is_timezone(task.timezone):
            problems.add(f"tasks.{row}.timezone: is not the IANA name of a time zone")
        made.append(
            NewTask(
                to_number=task.to_number,
                name=task.name,
                dynamic_variables=variables,
                max_retries=task.max_retries,
                timezone=task.timezone,
                not_before=_promised(task, row, problems),
            )
        )
    return made


def _promised(task: TaskIn, row: int, problems: Problems) -> int | None:
    if task.not_before is None:
        return None
    field = f"tasks.{row}.not_before"
    try:
        at = moment(task.not_before, None, field)
    except InvalidInput as error:
        problems.add(error.message.removesuffix(f" {_NOTHING}"))
        return None
    if at < _EARLIEST_PROMISE:  # 20261127 is 1970: that person would be called at once
        problems.add(f"{field}: {at.isoformat()} is too long ago for a call-back; give Unix seconds or ISO 8601")
        return None
    return to_ms(at)


def _variables(task: TaskIn) -> str | None:
    if not task.dynamic_variables:
        return None
    return to_json(task.dynamic_variables, inf_nan_mode="null").decode()


def batch_call_json(record: BatchCallRecord, counts: TaskCounts, carrier: str) -> dict[str, Any]:
    """The dialect's batch call object, and next to it what the dialect does not have; `carrier`: this process's."""
    reason = {"code": record.status_reason, "text": record.status_reason_text}
    return {
        **{name: getattr(record, name) for name in _AS_STORED.split()},
        **{f"{name}_timestamp": getattr(record, f"{name}_at") for name in _MOMENTS.split()},
        "status": record.status.value,
        "status_reason": None if record.status_reason is None else reason,
        "total": record.total_task_count,
        "sent": counts.sent,
        "picked_up": counts.picked_up,
        "completed": counts.of(TaskStatus.COMPLETED),
        "counts": {status.value: counts.of(status) for status in TaskStatus if status not in _OF_OTHERS},
        "tasks_url": f"/batch-call/{record.batch_call_id}/tasks",
        "dialled_here": record.carrier == carrier,
    }


_OF_OTHERS: Final = frozenset({TaskStatus.PLACED, TaskStatus.UNKNOWN})
"""States that only other backends report."""
_AS_STORED: Final = (
    "batch_call_id organization_id total_task_count window retry_config retry_rules trigger_date expires_date first "
    f"carrier {_AS_GIVEN}"
)
_MOMENTS: Final = "scheduled last_sent created updated started completed expires"


def task_json(task: TaskRecord) -> dict[str, Any]:
    """A task as `/tasks` gives it; `due_at` is when it may be dialled, as far as is known."""
    return {
        "task_id": task.task_id,
        "to_number": task.to_number,
        "name": task.name,
        "status": task.status,
        "attempts": task.attempts,
        "max_retries": task.max_retries,
        "dynamic_variables": from_json(task.dynamic_variables) if task.dynamic_variables else {},
        "timezone": task.timezone,
        "not_before": iso(task.not_before),
        "call_id": task.call_id,
        "error_message": task.error_message,
        "created_at": iso(task.created_at),
        "due_at": iso(task.due_at),
        "attempted_at": iso(task.attempted_at),
        "completed_at": iso(task.completed_at),
        "duration_seconds": seconds(task.duration_ms),
        "answered_by": task.answered_by,
        "choice": task.choice,
        "backend_status": task.backend_status,
        "cost": _cost_json(task.cost),
        "summary": task.summary,
    }


def _cost_json(stored: str | None) -> dict[str, str] | None:
    """An amount as the REST API has it, from `str(Money)`."""
    if stored is None:
        return None
    amount, _, currency = stored.partition(" ")
    return {"amount": amount, "currency": currency}


def call_json(task: TaskRecord, attempt_id: str, details: CallDetails) -> dict[str, Any]:
    """A call with what was said in it: data of the vendor's."""
    said = details.transcript
    return {
        "call_id": attempt_id,
        "task": {**task_json(task), "summary": details.summary or task.summary},
        "transcript": None if said is None else [asdict(turn) for turn in said],
        "recording_url": details.recording_url,
        "ended_reason": details.ended_reason,
    }


def account_json(account: CarrierAccount | None) -> dict[str, Any]:
    """The numbers and agents of a carrier's account; null: not known."""
    numbers, agents = (None, None) if account is None else (account.numbers, account.agents)
    return {
        "numbers": None
        if numbers is None
        else [{"from_number": one.from_number, "name": one.name, "agent_id": one.agent_id} for one in numbers],
        "agents": None if agents is None else [_agent_json(one) for one in agents],
    }


def _agent_json(agent: Agent) -> dict[str, Any]:
    return {
        "agent_id": agent.agent_id,
        "name": agent.name,
        "variables": None if agent.variables is None else list(agent.variables),
        "begin_message": agent.begins,
    }


def results_json(results: Results) -> dict[str, Any]:
    """What came of a batch call that is over, next to its counts."""
    cost = None if results.cost is None else _cost_json(str(results.cost))
    return {"talk_seconds": seconds(results.talk_ms), "choices": dict(results.choices), "cost": cost}


def seconds(milliseconds: int | None) -> float | None:
    """A length of time, as the REST API has it."""
    return None if milliseconds is None else milliseconds / 1000


def attempt_json(row: sa.RowMapping) -> dict[str, Any]:
    """A row of `attempts`; without an outcome it is in progress."""
    return {
        "n": row["n"],
        "attempt_id": f"{row['task_id']}:{row['n']}",
        "to_number": row["to_number"],
        "started_at": iso(row["started_at"]),
        "ended_at": iso(row["ended_at"]),
        "outcome": row["outcome"],
        "carrier_call_id": row["carrier_call_id"],
        "error_message": row["error_message"],
    }


@lru_cache(maxsize=1024)  # the tasks of one list were all made in one moment
def iso(milliseconds: int | None) -> str | None:
    """ISO 8601 in UTC, for what the dialect gives as text."""
    return None if milliseconds is None else from_ms(milliseconds).isoformat(timespec="milliseconds")


def check_times(times: Mapping[str, Any], before: BatchCallRecord | None, now: datetime) -> None:
    """Refuse a time that nobody can mean: 20261201 is 1970. What is stored already may be given again.

    `before` is the batch call as it is stored; None: it is new.

    Raises:
        InvalidInput: one of them is more than a day in the past.
    """
    for field, column in (("trigger_timestamp", "scheduled_at"), ("expires_timestamp", "expires_at")):
        at = times.get(column)
        if at is None or (before is not None and at == getattr(before, column)) or at >= to_ms(now - rules.DAY):
            continue
        raise InvalidInput(
            f"{field}: {from_ms(at).isoformat()} is more than a day in the past. {_NOTHING} Give Unix seconds, Unix "
            "milliseconds or ISO 8601, such as 2026-12-01T09:00:00+01:00."
        )


def launch_columns(body: BatchCallFields, before: BatchCallRecord | None) -> tuple[rules.Launch | None, dict[str, Any]]:
    """What a body says about when to dial, and the columns that follow. None: a partial update that does not say."""
    zone = calling_hours.check_timezone(body.timezone) if body.timezone else before.timezone if before else None
    until = None if body.expires_timestamp is None else moment(body.expires_timestamp, zone, "expires_timestamp")
    trigger = None if body.trigger_timestamp is None else moment(body.trigger_timestamp, zone)
    on = _day(body.trigger_date, "trigger_date")
    says_nothing = body.status is None and not body.send_now and trigger is None and on is None
    # The date that it is scheduled for is its time: `status: scheduled` alone does not take that from it.
    keeps_date = before is not None and body.status == "scheduled" and trigger is None and on is None
    had = before.dates() if before is not None else ANY_DATE
    dates = had.moved(
        says_when=not says_nothing and not keeps_date,
        first=on,
        last=_day(body.expires_date, "expires_date"),
        until=until,
    )
    columns = {} if dates == had else _date_columns(dates)
    if before is not None and says_nothing:
        _check_first(body, None)
        return None, columns
    if on is not None:  # the moment at which the first of its people may be called is worked out from the list
        launch = rules.Launch(State.SCHEDULED, trigger)
    else:
        known = None if before is None or (had.first is not None and dates.first is None) else before.scheduled_at
        stored = None if known is None else from_ms(known)
        launch = rules.launch(
            State(body.status) if body.status else None, send_now=body.send_now, trigger_at=trigger, stored=stored
        )
    _check_first(body, launch)
    at = to_ms(launch.scheduled_at) if launch.scheduled_at else None
    # Each launch says for how many it is: one that does not say so is for everybody.
    return launch, {**columns, "status": launch.state, "scheduled_at": at, "first": body.first}


def _check_first(body: BatchCallFields, launch: rules.Launch | None) -> None:
    if body.first is not None and (launch is None or launch.state is State.DRAFT):
        raise InvalidInput(f"first: says whom a launch calls, and this launches nothing. {_NOTHING} Give it with one.")


def _day(given: str | None, field: str) -> date | None:
    if given is None:
        return None
    try:
        day = date.fromisoformat(given)
    except ValueError:
        day = None
    if day is None or not datetime(1970, 1, 2, tzinfo=UTC).date() <= day <= _LATEST.date():
        raise InvalidInput(f"{field}: is not a date between 1970 and 2200. {_NOTHING}")
    return day


def _date_columns(dates: CallDates) -> dict[str, Any]:
    """The columns of these dates; when it ends for everybody is worked out from the list."""
    if dates.first is not None and dates.last is not None and dates.last < dates.first:
        raise InvalidInput(f"expires_date: must not be before trigger_date. {_NOTHING}")
    return {
        "trigger_date": None if dates.first is None else dates.first.isoformat(),
        "expires_date": None if dates.last is None else dates.last.isoformat(),
        "expires_at": None if dates.until is None else to_ms(dates.until),
    }


def launches(body: BatchCallFields) -> bool:
    """Whether a partial update asks for dialling, now or at a time."""
    asks = body.status is not None or bool(body.send_now) or body.trigger_timestamp is not None
    asks = asks or body.trigger_date is not None
    return asks and body.status != State.DRAFT.value


def filled(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a whole update: what it does not give is reset."""
    reset = (
        "name agent_id timezone retry_config retry_rules retry_of test_of calls_per_second trigger_date expires_at "
        "expires_date"
    )
    return {**dict.fromkeys(reset.split()), "pause_on_failures": True, **columns}
