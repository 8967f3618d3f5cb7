"""The arguments that several tools share, each described once, with the surfaces on which it exists.

What create_batch_call spells out, other tools only name: that saves the model's context, and validation is the same.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from batchcall_mcp.backends.capabilities import TaskResult
from batchcall_mcp.batch_calls.recipient_source import ListSource
from batchcall_mcp.batch_calls.timestamps import When, read_moment, read_when
from batchcall_mcp.batch_calls.writes import tasks_from
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import NOT_REACHED, WHOLE, AnsweredBy, CallingWindow, CallTask, RetryPolicy, TaskStatus
from batchcall_mcp.recipients.files.columns import Layout
from batchcall_mcp.recipients.validation import known_region, promised_moment
from batchcall_mcp.server.tools.held import MOST_AT_ONCE
from batchcall_mcp.server.tools.strict_tools import OnlyIf, RequiredIf, TypedBy
from batchcall_mcp.server.tools.tool_spec import Surface
from batchcall_mcp.text import only_printing

OBJECT = WithJsonSchema({"type": "object"})
LONGEST_CURSOR = 8000
"""Characters; it may hold a vendor's own, which can be long."""


def from_zero(schema: dict[str, Any]) -> None:
    """That a number is not negative, nobody has to read."""
    schema.pop("minimum", None)


# No docstring, because pydantic would publish it in every schema. What a backend cannot hold of it: `tools.held`.
class TaskInput(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    to_number: Annotated[str, Field(description="E.164: +14155550123")]
    name: str | None = None
    dynamic_variables: Annotated[dict[str, str] | None, OBJECT, Field(description="texts the agent may say")] = None
    max_retries: Annotated[
        int | None, Field(ge=0, le=10, description="dials after the first", json_schema_extra=from_zero), WHOLE
    ] = None
    timezone: Annotated[str | None, Field(description="IANA zone; default: by prefix")] = None
    not_before: Annotated[str | None, Field(description="ISO 8601: a promised call-back")] = None


TaskInputs: TypeAlias = list[TaskInput] | None
StatusWords: TypeAlias = list[TaskStatus | Literal["not_reached"]] | None


def _number_as_text(value: object) -> object:
    """An epoch is taken as a number too; published as text alone, the argument asks less of a model."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _without_limits(schema: dict[str, Any]) -> None:
    """Limits that only stop nonsense are checked, and not published: they would cost the model's context."""
    for limit in ("minLength", "maxLength", "minItems", "minimum", "maximum"):
        schema.pop(limit, None)


def _text(description: str, longest: int, shortest: int = 0) -> Any:
    return Field(min_length=shortest, max_length=longest, description=description, json_schema_extra=_without_limits)


def _status_words(surface: Surface) -> Any:
    """The states that this backend reports."""
    reported = {TaskStatus.PENDING, TaskStatus.CALLING, *surface.capabilities.outcomes}
    words = [str(status) for status in TaskStatus if status in reported]
    words += ["not_reached"] if reported & NOT_REACHED else []
    return list[Literal.__getitem__(tuple(words))] | None  # type: ignore[misc]  # known only at run time


def returns_lists(surface: Surface) -> bool:
    """Whether a list can be made again from what the backend gives back; else its variables are only in the first."""
    return not surface.capabilities.needs_list_again


def needed(field: str) -> RequiredIf:
    """Whether the backend makes no batch call without this field of a request."""
    return RequiredIf(lambda surface: field in surface.capabilities.required)


def reports(result: TaskResult) -> OnlyIf:
    """Whether the backend's tasks say this of their calls."""
    return OnlyIf(lambda surface: result in surface.capabilities.results)


Id = Annotated[str, AfterValidator(only_printing), _text("Its ID", 200, 1)]
Tasks = Annotated[TaskInputs, Field(description="The people to call, in order")]
TasksFile = Annotated[
    str | None,
    Field(
        description="Instead of tasks: a CSV, JSONL or XLSX file (over HTTP its name from POST /files); other columns "
        "become variables"
    ),
]
Rows = Annotated[str | None, Field(description='Data rows, such as "1-1000,1500"')]
NumberColumn = Annotated[str | None, Field(description="Column of the number, if not detected")]
Columns = Annotated[dict[str, str] | None, OBJECT, Field(description='Variable: its column, as {"name": "first name"}')]
Sheet = Annotated[str | None, Field(description="Of a workbook")]
HeaderRow = Annotated[int | None, Field(description="Row of the column names")]
Timezones = Annotated[list[str] | None, Field(description="Only people in these IANA zones")]
Region = Annotated[str | None, Field(description="Country of numbers without +")]
FromNumber = Annotated[str | None, Field(description="Caller number, E.164, from get_backend")]
Name = Annotated[str | None, _text("Name of the batch call", 255)]
AgentId = Annotated[str | None, _text("Agent that speaks, from get_backend", 200)]
Window = Annotated[
    CallingWindow | None,
    Field(description='When calls may start, "HH:MM"; default: the backend\'s'),
]
Timezone = Annotated[str | None, Field(description="IANA zone, also of times without an offset")]
Moment = Annotated[
    str | None,
    BeforeValidator(_number_as_text),
    Field(description="ISO 8601 or an epoch"),
]
Ends = Annotated[
    str | None,
    BeforeValidator(_number_as_text),
    Field(description="No calls from then on; a date: after its end, in each person's zone"),
]
_START = '"now", ISO 8601 (2026-11-24T09:00-05:00) or an epoch; the past means now'
Start = Annotated[str | None, BeforeValidator(_number_as_text), Field(description=_START)]
StartOrDate = Annotated[
    str | None,
    BeforeValidator(_number_as_text),
    Field(description=f"{_START}. A date (2026-11-27): for each person on their own clock"),
]
First = Annotated[
    int | None,
    Field(ge=1, description="Call so many people, then pause until resume", json_schema_extra=_without_limits),
]
TestNumber = Annotated[
    str | None,
    Field(description="Instead: call only this number of the operator's, with the first row's variables"),
    OnlyIf(lambda surface: surface.test_numbers),
]
Concurrency = Annotated[
    int | None,
    Field(ge=1, le=MOST_AT_ONCE, description="Most calls at once", json_schema_extra=_without_limits),
]
Retry = Annotated[
    RetryPolicy | None,
    Field(description="Automatic redials, on no_answer and busy by default"),
]
IdempotencyKey = Annotated[
    str | None, _text("Repeating a key has no further effect; a new job needs a new key", 200, 1)
]
Code = Annotated[str | None, _text("After the person's yes", 40)]
StatusFilter = Annotated[
    StatusWords,
    Field(min_length=1, description="Only tasks in these states", json_schema_extra=_without_limits),
    TypedBy(_status_words),
]
Limit = Annotated[int, Field(ge=1, le=100, description="Most entries", json_schema_extra=from_zero)]
Cursor = Annotated[str | None, _text("From next_cursor", LONGEST_CURSOR)]

Choice = Annotated[str | None, _text("What they chose", 100), reports("choice")]
AnsweredByFilter = Annotated[AnsweredBy | None, Field(description="Who answered"), reports("answered_by")]
Extracted = Annotated[
    dict[str, str] | None,
    OBJECT,
    Field(description='Only with these values, as {"callback": "yes"}'),
    reports("extracted"),
]

AS_IN_CREATE = Field(description="See create")
TEXT = WithJsonSchema({"type": "string"})
LIST_OF_OBJECTS = WithJsonSchema({"type": "array", "items": {"type": "object"}})
STATES = WithJsonSchema({"type": "array", "items": {"type": "string"}})
AS_IN_GET = Field(description="See get")


class TasksFromInput(BaseModel):
    model_config = ConfigDict(extra="forbid")

    batch_call_id: Annotated[str, AfterValidator(only_printing)]
    task_status: StatusWords = None


class ByChoiceInput(TasksFromInput):
    choice: str | None = None


class ByAnswerInput(ByChoiceInput):
    extracted: dict[str, str] | None = None


def _tasks_from_type(surface: Surface) -> Any:
    """By what the tasks say; the properties are named in the description alone, where they cost less."""
    results = surface.capabilities.results
    kind, more = TasksFromInput | None, ""
    if {"choice", "extracted"} <= results:
        kind, more = ByAnswerInput | None, ", choice, extracted"
    elif "choice" in results:
        kind, more = ByChoiceInput | None, ", choice"
    whose = f"Instead of tasks, people of a batch call: {{batch_call_id, task_status{more}}}, as in get"
    return Annotated[kind, OBJECT, Field(description=whose)]


TasksFrom = Annotated[TasksFromInput | None, TypedBy(_tasks_from_type), OnlyIf(returns_lists)]


_AS_IT_IS = Layout()


def can_change(*fields: str) -> OnlyIf:
    """Whether update can change one of these fields of a request."""
    return OnlyIf(lambda surface: bool(surface.capabilities.update_fields & set(fields)))


def source_of(
    tasks: TaskInputs,
    tasks_file: str | None = None,
    layout: Layout = _AS_IT_IS,
    *,
    rows: str | None = None,
    timezones: list[str] | None = None,
    default_region: str | None = None,
) -> ListSource:
    return ListSource(
        tasks=None if tasks is None else tuple(_task(one, row) for row, one in enumerate(tasks)),
        tasks_file=tasks_file,
        layout=layout,
        rows=rows,
        timezones=None if timezones is None else tuple(timezones),
        default_region=known_region(default_region),
    )


def people_from(given: TasksFromInput | None) -> tasks_from.TasksFrom | None:
    if given is None:
        return None
    return tasks_from.TasksFrom(
        batch_call_id=given.batch_call_id.strip(),  # the ledger knows later lists of its people by one spelling
        statuses=statuses_of(given.task_status),
        choice=getattr(given, "choice", None),
        extracted=getattr(given, "extracted", None) or {},
    )


def layout_of(
    number_column: str | None, columns: dict[str, str] | None, sheet: str | None, header_row: int | None
) -> Layout:
    return Layout(number_column=number_column, columns=columns or {}, sheet=sheet, header_row=header_row)


def _task(given: TaskInput, row: int) -> CallTask:
    fields: dict[str, Any] = {name: value for name, value in given if value is not None}
    if "not_before" in fields:
        promised = promised_moment(fields["not_before"], fields.get("timezone"))
        if isinstance(promised, str):
            raise InvalidInput(f"tasks[{row}].{promised}. Nothing was sent.")
        fields["not_before"] = promised
    return CallTask(**fields)


def statuses_of(given: StatusWords) -> frozenset[TaskStatus] | None:
    """The states meant; `not_reached` stands for six of them."""
    if given is None:
        return None
    plain = {TaskStatus(one) for one in given if one != "not_reached"}
    return frozenset(plain | (NOT_REACHED if "not_reached" in given else set()))


def retry_of(given: RetryPolicy | None) -> RetryPolicy | None:
    """Check what a schema cannot say.

    Raises:
        InvalidInput: naming the field.
    """
    if given is None:
        return None
    if not 0 <= given.max_retries <= 10:  # noqa: PLR2004 - as for a task
        raise InvalidInput("retry.max_retries: must be from 0 to 10. Nothing was sent.")
    if given.after_minutes is not None and given.at is not None:
        raise InvalidInput("retry: give after_minutes or at, not both. Nothing was sent.")
    return given


def moment_of(given: str | None, timezone: str | None) -> datetime | None:
    return None if given is None else read_moment(given, timezone)


def when_of(given: str | None, timezone: str | None, field: str = "trigger_timestamp") -> When:
    """The moment or the date; neither, where nothing is given."""
    return When() if given is None else read_when(given, timezone, field)
