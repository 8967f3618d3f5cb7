"""What the REST API takes, in the dialect's words: strict, so that a field that is not known is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from batchcall_mcp.dialer.domain.records import SortBy, SortOrder
from batchcall_mcp.dialer.domain.rules import FASTEST, SLOWEST, State

# A first tool call over stdio only lists: what reads a body is built when one comes. Pydantic lets one thread build.
_STRICT = ConfigDict(extra="forbid", strict=True, defer_build=True)
_CLOCK: Final = r"^([01]\d|2[0-3]):[0-5]\d$"
_CLOCK_OR_24: Final = r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$"

_DATE: Final = r"^\d{4}-\d{2}-\d{2}$"
_E164: Final = r"^\+[1-9][0-9]{6,14}$"
MOST_ALTERNATIVES: Final = 100
"""Values of one filter."""
MOST_FIRST: Final = 1_000_000
_NO_NUL: Final = r"^[^\x00]*$"
PATTERNS: Final = {
    _NO_NUL: "holds a NUL character",
    _CLOCK: "is not a local time like 09:00",
    _CLOCK_OR_24: "is not a local time like 17:00, up to 24:00",
    _DATE: "is not a date like 2026-11-27",
    _E164: "is not a number in E.164, like +14155550123",
}
"""What is wrong with a text that does not match."""

_WHOLE: Final = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""JSON has one kind of number: 5.0 is 5."""
PhoneNumber: TypeAlias = Annotated[str, Field(pattern=_E164, description="E.164")]
MOMENT_SCHEMA: Final[dict[str, Any]] = {
    "description": "Unix seconds or milliseconds, or ISO 8601, from 1970 to 2200; without an offset in `timezone`",
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": 7_258_118_400, "description": "Unix seconds"},
        {"type": "number", "minimum": 100_000_000_000, "maximum": 7_258_118_400_000, "description": "milliseconds"},
        {"type": "string", "format": "date-time"},
    ],
}
Moment: TypeAlias = Annotated[int | float | str, WithJsonSchema(MOMENT_SCHEMA)]
_TIME_SCHEMA: Final[dict[str, Any]] = {
    **MOMENT_SCHEMA,
    "description": f"{MOMENT_SCHEMA['description']}; at most a day in the past, unless it is the stored time",
}
Time: TypeAlias = Annotated[int | float | str, WithJsonSchema(_TIME_SCHEMA)]
Timezone: TypeAlias = Annotated[str, Field(json_schema_extra={"format": "timezone"})]
"""An IANA name."""
Day: TypeAlias = Annotated[str, Field(pattern=_DATE, json_schema_extra={"format": "date"})]
"""A date on the called person's clock."""
Text: TypeAlias = Annotated[str, Field(max_length=255, pattern=_NO_NUL)]
"""PostgreSQL keeps no NUL."""


Finished: TypeAlias = Literal[
    "completed", "no_answer", "busy", "voicemail", "failed", "skipped", "cancelled", "expired", "interrupted"
]


class _Strict(BaseModel):
    model_config = _STRICT


@checked_dataclass(config=_STRICT, frozen=True, slots=True, kw_only=True)
class TaskIn:
    """One person to call."""

    to_number: PhoneNumber
    name: Text | None = None
    dynamic_variables: dict[str, Any] | None = None
    max_retries: Annotated[int, Field(ge=0, le=10, description="dials after the first"), _WHOLE] | None = None
    timezone: Annotated[Timezone | None, Field(description="IANA name; wins over the number's own zones")] = None
    not_before: Annotated[Time | None, Field(description="a call-back that was promised; ISO with an offset")] = None


class WindowIn(_Strict):
    """When calls may start."""

    start: Annotated[str, Field(pattern=_CLOCK)]
    end: Annotated[str, Field(pattern=_CLOCK_OR_24)]
    days: Annotated[
        list[Annotated[int, Field(ge=0, le=6), _WHOLE]] | None,
        Field(min_length=1, json_schema_extra={"uniqueItems": True}, description="0 = Sunday … 6"),
    ] = None
    timezone: Annotated[Timezone, Field(description="IANA name, or recipient: each called person's own")] = "recipient"


class QuietHoursIn(_Strict):
    """When calls may not start: kept as the window that they leave."""

    enabled: bool = True
    start_time: Annotated[str, Field(pattern=_CLOCK)]
    end_time: Annotated[str, Field(pattern=_CLOCK_OR_24)]
    timezone: Timezone = "recipient"


class RetryConfigIn(_Strict):
    """Automatic redials."""

    enabled: bool = True
    max_attempts: Annotated[
        int, Field(ge=0, le=10, description="dials after the first: the lower of two readings"), _WHOLE
    ]


class RetryAt(_Strict):
    """Redial at a local time of the called person."""

    type: Literal["AT"]
    time: Annotated[str, Field(pattern=_CLOCK)]


class RetryAfter(_Strict):
    """Redial so many minutes later."""

    type: Literal["AFTER"]
    duration_minutes: Annotated[float, Field(ge=0, le=14 * 24 * 60, allow_inf_nan=False)]


class RetryRuleIn(_Strict):
    """What to do after one outcome."""

    condition: Literal["no_answer", "busy", "voicemail", "failed", "interrupted"]
    enabled: bool = True
    retry_timing: Annotated[RetryAt | RetryAfter, Field(discriminator="type")]


class BatchCallFields(_Strict):
    """What a batch call is made of."""

    name: Text | None = None
    from_number: PhoneNumber | None = None
    agent_id: Text | None = None
    tasks: Annotated[list[TaskIn] | None, Field(min_length=1)] = None
    trigger_timestamp: Time | None = None
    trigger_date: Annotated[
        Day | None,
        Field(description="each person is called on this date, on their own clock; not before trigger_timestamp"),
    ] = None
    status: Literal["draft", "scheduled", "sent"] | None = None
    send_now: bool | None = None
    timezone: Annotated[Timezone | None, Field(description="IANA name")] = None
    window: WindowIn | None = None
    quiet_hours: QuietHoursIn | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=1000), _WHOLE] | None = None
    calls_per_second: Annotated[
        float | None, Field(ge=SLOWEST, le=FASTEST, description="calls started per second; unlimited if not given")
    ] = None
    expires_timestamp: Annotated[
        Time | None, Field(description="nothing is dialled from then on; a time like trigger_timestamp")
    ] = None
    expires_date: Annotated[
        Day | None, Field(description="instead: through this date on each person's clock; default: trigger_date")
    ] = None
    retry_config: RetryConfigIn | None = None
    retry_rules: Annotated[list[RetryRuleIn] | None, Field(max_length=20)] = None
    retry_of: Text | None = None
    test_of: Annotated[Text | None, Field(description="batch call that this one, of one task, is a test call of")] = (
        None
    )
    first: Annotated[
        int | None,
        Field(ge=1, le=MOST_FIRST, description="given with a launch: call so many people, then pause until a resume"),
        _WHOLE,
    ] = None
    pause_on_failures: Annotated[
        bool | None, Field(description="pause it when half of its last 20 calls failed; true if not given")
    ] = None

    @model_validator(mode="after")
    def _one_kind_of_each(self) -> Self:
        if self.window and self.quiet_hours and self.quiet_hours.enabled:
            raise ValueError("window and quiet_hours say the same thing twice; give one")
        if self.trigger_date and (self.send_now or self.status in {"draft", "sent"}):
            raise ValueError("trigger_date contradicts send_now and the statuses draft and sent")
        if self.expires_date and self.expires_timestamp is not None:
            raise ValueError("expires_date and expires_timestamp say the same thing twice; give one")
        return self


class BatchCallPatch(BatchCallFields):
    """A partial update: what is not given or null stays. `tasks` replaces the whole list."""

    skip_tasks: Annotated[
        dict[Text, list[Text]] | None,
        Field(
            min_length=1,
            max_length=20,
            description="reason -> ids of tasks that are not dialled; only before the start",
        ),
    ] = None


class BatchCallBody(BatchCallFields):
    """A whole batch call. Without `send_now`, a `status` and a time it is a draft that dials nobody."""

    from_number: PhoneNumber
    tasks: Annotated[list[TaskIn], Field(min_length=1)]


class AppendBody(_Strict):
    """Tasks to add after those that are there."""

    tasks: Annotated[list[TaskIn], Field(min_length=1)]


class RetryBody(_Strict):
    """Which finished tasks to dial again: those named, and all with one of these statuses."""

    # Millions of wrong ones would be millions of problems, of a kilobyte each.
    task_ids: Annotated[list[Text] | None, Field(fail_fast=True)] = None
    task_status: Annotated[list[Finished] | None, Field(fail_fast=True)] = None

    @model_validator(mode="after")
    def _names_some(self) -> Self:
        if not (self.task_ids or self.task_status):
            raise ValueError("name task_ids or task_status")
        return self


class ExecuteBody(_Strict):
    """How a batch call is started. An empty body calls everybody."""

    first: Annotated[
        int | None, Field(ge=1, le=MOST_FIRST, description="call so many people, then pause until a resume"), _WHOLE
    ] = None


class DoNotCallBody(_Strict):
    """Numbers that the organisation calls no more."""

    to_numbers: Annotated[list[PhoneNumber], Field(min_length=1, max_length=10_000, fail_fast=True)]
    reason: Text | None = None


class FilterCriteria(_Strict):
    """Which batch calls to list; values of one field are alternatives."""

    status: Annotated[list[State] | None, Field(max_length=MOST_ALTERNATIVES)] = None
    agent_id: Annotated[list[Text] | None, Field(max_length=MOST_ALTERNATIVES)] = None
    name: Annotated[
        list[Text] | None, Field(max_length=MOST_ALTERNATIVES, description="parts of names, case does not matter")
    ] = None
    created_after: Moment | None = None


class Pagination(_Strict):
    """Pages count from 0."""

    page: Annotated[int, Field(ge=0, le=10_000_000), _WHOLE] = 0
    limit: Annotated[int, Field(ge=1, le=100), _WHOLE] = 20


class ListBody(_Strict):
    """The filtered list."""

    filter_criteria: FilterCriteria = Field(default_factory=FilterCriteria)
    pagination: Pagination = Field(default_factory=Pagination)
    sort_by: SortBy = "updated_at"
    sort_order: SortOrder = "descending"
