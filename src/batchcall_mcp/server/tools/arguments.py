"""The arguments that several tools share, each described once. `As in create_batch_call` saves the model's context."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from batchcall_mcp.batch_calls.recipient_source import ListSource
from batchcall_mcp.batch_calls.timestamps import read_moment
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import NOT_REACHED, CallingWindow, CallTask, RetryPolicy, TaskStatus

AS_CREATE = "As in create_batch_call"
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode: controls, marks of the writing direction and of format, half characters, line ends."""


# The two classes have no docstring, because pydantic would tell it to the model, in every schema.
class TaskInput(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    to_number: Annotated[str, Field(description="E.164, such as +14155550123")]
    name: str | None = None
    dynamic_variables: Annotated[dict[str, str] | None, Field(description="what the agent may say")] = None
    max_retries: Annotated[int | None, Field(ge=0, le=10, description="dials after the first")] = None
    timezone: Annotated[str | None, Field(description="IANA zone of the person; default: by prefix")] = None


class PlainTaskInput(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    to_number: Annotated[str, Field(description="E.164, such as +14155550123")]
    name: str | None = None


def _in_print(batch_call_id: str) -> str:
    """An id is repeated in results, questions and the audit record: what does not print would hide or turn a line."""
    if any(unicodedata.category(character) in _UNSEEN for character in batch_call_id):
        raise ValueError("must hold only characters that print")
    return batch_call_id


def _lengths_untold(schema: dict[str, Any]) -> None:
    """Lengths that only stop nonsense are checked, and not told: a dozen times over they cost the model's context."""
    schema.pop("minLength", None)
    schema.pop("maxLength", None)


Id = Annotated[
    str,
    AfterValidator(_in_print),
    Field(min_length=1, max_length=200, description="Batch call ID", json_schema_extra=_lengths_untold),
]
Tasks = Annotated[list[TaskInput] | list[PlainTaskInput] | None, Field(description="The people to call, in order")]
TasksFile = Annotated[
    str | None,
    Field(description="Instead of tasks: CSV, JSONL or XLSX in get_backend's folder; other columns become variables"),
]
Rows = Annotated[str | None, Field(description='Only these data rows, such as "1-1000" or "1-1000,1500"')]
NumberColumn = Annotated[str | None, Field(description="Column with the number, if not the one detected")]
Region = Annotated[str | None, Field(pattern="^[A-Z]{2}$", description='Country of numbers without +, such as "US"')]
FromNumber = Annotated[str, Field(description="Caller number, E.164; get_backend lists them")]
Name = Annotated[str | None, Field(max_length=255, description="Name of the batch call")]
AgentId = Annotated[str | None, Field(max_length=200, description="Agent that speaks; get_backend lists them")]
Window = Annotated[
    CallingWindow | None, Field(description='Hours in which calls may start, "HH:MM"; default: the backend\'s')
]
Timezone = Annotated[str | None, Field(description="IANA zone; reads a trigger_timestamp that has no offset")]
Moment = Annotated[str | float | None, Field(description="ISO 8601 such as 2026-11-24T09:00-05:00, or an epoch")]


def _number_as_text(value: object) -> object:
    """An epoch is taken as a number too; published as text alone, the argument asks less of a model."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Start = Annotated[
    str,
    BeforeValidator(_number_as_text),
    Field(description='"now", or ISO 8601 such as 2026-11-24T09:00-05:00, or an epoch; in the past means now'),
]
Concurrency = Annotated[int | None, Field(ge=1, le=1000, description="Most calls at once")]
Retry = Annotated[RetryPolicy | None, Field(description="Automatic redials; after_minutes or at")]
IdempotencyKey = Annotated[
    str | None,
    Field(min_length=1, max_length=200, description="Same key = the same request, done once; a new key = anew"),
]
Code = Annotated[
    str | None,
    Field(
        max_length=40,
        description="From the last answer, after the person's yes",
        json_schema_extra=_lengths_untold,
    ),
]
StatusFilter = Annotated[
    list[TaskStatus | Literal["not_reached"]] | None, Field(min_length=1, description="Only tasks in these states")
]
Limit = Annotated[int, Field(ge=1, le=100, description="Most entries in the answer")]
Cursor = Annotated[
    str | None,
    Field(max_length=500, description="next_cursor of the last answer", json_schema_extra=_lengths_untold),
]


def source_of(
    tasks: list[TaskInput] | list[PlainTaskInput] | None,
    tasks_file: str | None = None,
    rows: str | None = None,
    number_column: str | None = None,
    default_region: str | None = None,
) -> ListSource:
    """The list that a tool call names."""
    return ListSource(
        tasks=None if tasks is None else tuple(_task(one) for one in tasks),
        tasks_file=tasks_file,
        rows=rows,
        number_column=number_column,
        default_region=default_region,
    )


def _task(given: TaskInput | PlainTaskInput) -> CallTask:
    if isinstance(given, PlainTaskInput):
        return CallTask(to_number=given.to_number, name=given.name)
    return CallTask(
        to_number=given.to_number,
        name=given.name,
        dynamic_variables=given.dynamic_variables or {},
        max_retries=given.max_retries,
        timezone=given.timezone,
    )


def statuses_of(given: list[TaskStatus | Literal["not_reached"]] | None) -> frozenset[TaskStatus] | None:
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


def moment_of(given: str | float | None, timezone: str | None) -> datetime | None:
    """The moment given, as aware UTC."""
    return None if given is None else read_moment(given, timezone)
