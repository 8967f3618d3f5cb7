"""Tools that change a batch call, or make phones ring."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.timestamps import read_start
from batchcall_mcp.batch_calls.writes import append, create, hear_first, launch, retry, update
from batchcall_mcp.calling_hours import check_timezone, check_window
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import BatchCallRequest, BatchStatus
from batchcall_mcp.server.tools import arguments as given
from batchcall_mcp.server.tools.results import WriteResult
from batchcall_mcp.server.tools.strict_tools import OnlyIf, RequiredIf, TypedBy
from batchcall_mcp.server.tools.tool_spec import Surface, tool


def _create(capabilities: Capabilities) -> str:
    skipped = "Invalid, repeated and do-not-call rows are skipped and reported."
    if not _dials_by_itself(capabilities):
        return f"Make a draft batch call of a list of people. No phone rings: start_batch_call launches it. {skipped}"
    if capabilities.drafts == "start_now_only":
        return (
            "Make a batch call of a list of people: a draft without trigger_timestamp (start_batch_call dials it, at "
            f'once only); with "now" or a time it dials by itself, after a confirmation. {skipped}'
        )
    return f"Make a batch call that dials at trigger_timestamp, after a confirmation. {skipped}"


def _dials_by_itself(capabilities: Capabilities) -> bool:
    return capabilities.drafts in {"start_now_only", "none"}


_WHEN_IT_DIALS = Field(description='When it dials: "now", ISO 8601 or an epoch')


def _dial_type(surface: Surface) -> Any:
    """Where there are no drafts, there is none without a time."""
    return Annotated[str | None, _WHEN_IT_DIALS] if surface.capabilities.drafts == "none" else None


@tool(Operation.CREATE, "Create a batch call", _create, confirms=_dials_by_itself, always_loaded=True)
async def create_batch_call(
    context: CallContext,
    /,
    from_number: Annotated[given.FromNumber, given.needed("from_number")] = None,
    tasks: given.Tasks = None,
    tasks_file: given.TasksFile = None,
    tasks_from: given.TasksFrom = None,
    rows: given.Rows = None,
    number_column: given.NumberColumn = None,
    columns: given.Columns = None,
    sheet: given.Sheet = None,
    header_row: given.HeaderRow = None,
    timezones: given.Timezones = None,
    default_region: given.Region = None,
    name: Annotated[given.Name, given.needed("name")] = None,
    agent_id: Annotated[given.AgentId, given.needed("agent_id")] = None,
    window: Annotated[given.Window, given.needed("window")] = None,
    timezone: Annotated[given.Timezone, given.needed("timezone")] = None,
    trigger_timestamp: Annotated[
        given.Moment,
        Field(description='Dial then: "now", ISO 8601 or an epoch; without it a draft'),
        TypedBy(_dial_type),
        OnlyIf(lambda surface: _dials_by_itself(surface.capabilities)),
        RequiredIf(lambda surface: surface.capabilities.drafts == "none"),
    ] = None,
    ends_at: given.Ends = None,
    max_concurrency: Annotated[given.Concurrency, given.needed("max_concurrency")] = None,
    retry: given.Retry = None,
    idempotency_key: given.IdempotencyKey = None,
) -> WriteResult:
    when = None if trigger_timestamp is None else read_start(trigger_timestamp, timezone)
    end = given.when_of(ends_at, timezone, "ends_at")
    request = BatchCallRequest(
        from_number=from_number,
        name=name,
        agent_id=agent_id,
        window=check_window(window) if window else None,
        timezone=check_timezone(timezone) if timezone else None,
        trigger_at=when.at if when else None,
        trigger_on=when.on if when else None,
        send_now=True if when is not None and when.now else None,
        ends_at=end.at,
        ends_on=end.on,
        max_concurrency=max_concurrency,
        retry=given.retry_of(retry),
    )
    layout = given.layout_of(number_column, columns, sheet, header_row)
    source = given.source_of(tasks, tasks_file, layout, rows=rows, timezones=timezones, default_region=default_region)
    wanted = given.people_from(tasks_from)
    return WriteResult.of(await create.create(context, request, source, idempotency_key, wanted))


def _update(capabilities: Capabilities) -> str:
    timed = bool(capabilities.update_fields & {"trigger_at", "status", "send_now"})
    launch = " A change of its time can launch it; then it is confirmed. Prefer start_batch_call." if timed else ""
    others = "" if Operation.APPEND in capabilities.operations else " To add people, create_batch_call with them alone."
    return f"Change fields of a batch call that has not ended; only what is given.{launch}{others}"


_REPLACES = Field(description="Replaces the whole list")
_ADDS = OnlyIf(lambda surface: Operation.APPEND in surface.capabilities.operations)
_LISTED = OnlyIf(
    lambda surface: Operation.APPEND in surface.capabilities.operations or "tasks" in surface.capabilities.update_fields
)


@tool(Operation.UPDATE, "Update a batch call", _update, confirms=True)
async def update_batch_call(
    context: CallContext,
    /,
    batch_call_id: given.Id,
    from_number: Annotated[str | None, given.AS_IN_CREATE, given.can_change("from_number")] = None,
    tasks: Annotated[given.Tasks, given.LIST_OF_OBJECTS, _REPLACES, given.can_change("tasks")] = None,
    tasks_file: Annotated[given.TasksFile, _REPLACES, given.can_change("tasks")] = None,
    add_tasks: Annotated[
        given.Tasks,
        given.LIST_OF_OBJECTS,
        Field(description="Adds people, each once; no other change with it"),
        _ADDS,
    ] = None,
    add_tasks_file: Annotated[given.TasksFile, Field(description="Instead of add_tasks"), _ADDS] = None,
    rows: Annotated[given.Rows, given.AS_IN_CREATE, _ADDS] = None,
    columns: Annotated[given.Columns, given.OBJECT, given.AS_IN_CREATE, _LISTED] = None,
    sheet: Annotated[given.Sheet, given.AS_IN_CREATE, _LISTED] = None,
    header_row: Annotated[given.HeaderRow, given.AS_IN_CREATE, _LISTED] = None,
    default_region: Annotated[given.Region, given.AS_IN_CREATE, _LISTED] = None,
    name: Annotated[given.Name, given.AS_IN_CREATE, given.can_change("name")] = None,
    agent_id: Annotated[given.AgentId, given.AS_IN_CREATE, given.can_change("agent_id")] = None,
    trigger_timestamp: Annotated[given.Moment, given.can_change("trigger_at")] = None,
    ends_at: Annotated[given.Ends, given.AS_IN_CREATE, given.can_change("ends_at")] = None,
    timezone: Annotated[given.Timezone, given.AS_IN_CREATE, given.can_change("timezone", "trigger_at")] = None,
    status: Annotated[
        Literal[BatchStatus.DRAFT, BatchStatus.SCHEDULED] | None,
        Field(description="draft cancels a schedule"),
        given.can_change("status"),
    ] = None,
    send_now: Annotated[bool | None, Field(description="true dials at once"), given.can_change("send_now")] = None,
    window: Annotated[given.Window, given.OBJECT, given.AS_IN_CREATE, given.can_change("window")] = None,
    max_concurrency: Annotated[given.Concurrency, given.AS_IN_CREATE, given.can_change("max_concurrency")] = None,
    retry: Annotated[given.Retry, given.OBJECT, given.AS_IN_CREATE, given.can_change("retry")] = None,
) -> WriteResult:
    when, end = given.when_of(trigger_timestamp, timezone), given.when_of(ends_at, timezone, "ends_at")
    request = BatchCallRequest(
        from_number=from_number,
        name=name,
        agent_id=agent_id,
        trigger_at=when.at,
        trigger_on=when.on,
        ends_at=end.at,
        ends_on=end.on,
        timezone=check_timezone(timezone) if timezone else None,
        status=status,
        send_now=send_now,
        window=check_window(window) if window else None,
        max_concurrency=max_concurrency,
        retry=given.retry_of(retry),
    )
    layout = given.layout_of(None, columns, sheet, header_row)
    list_of = partial(given.source_of, layout=layout, rows=rows, default_region=default_region)
    source, added = list_of(tasks, tasks_file), list_of(add_tasks, add_tasks_file)
    if not added.given:
        return WriteResult.of(await update.update(context, batch_call_id, request, source))
    if source.given or request != BatchCallRequest():
        raise InvalidInput(
            "add_tasks: goes alone, because tasks replaces the list and other fields are another change. Nothing was "
            "sent. Add the people in a call of its own."
        )
    return WriteResult.of(await append.append(context, batch_call_id, added))


def _start(capabilities: Capabilities) -> str:
    when = (
        "now or at a time: phones ring. Also moves a scheduled one."
        if capabilities.drafts == "full"
        else "now: phones ring. This backend cannot schedule a stored draft."
    )
    paused = "; if paused, resume_batch_call" if Operation.RESUME in capabilities.operations else ""
    return (
        f"Launch a batch call {when} Asks for a confirmation first; use it after the person has seen the draft. "
        f"If it has ended, use retry_batch_call{paused}."
    )


def _start_type(surface: Surface) -> Any:
    if surface.capabilities.trigger_dates:
        return given.StartOrDate
    drafts = surface.capabilities.drafts
    if drafts not in {"start_now_only", "now_only"}:
        return None
    instead = "; create_batch_call takes a time" if drafts == "start_now_only" else ""
    return Annotated[Literal["now"] | None, Field(description=f"now: a stored draft cannot be scheduled here{instead}")]


@tool(Operation.START, "Start a batch call", _start, confirms=True, always_loaded=True)
async def start_batch_call(
    context: CallContext,
    /,
    batch_call_id: given.Id,
    trigger_timestamp: Annotated[
        given.Start, TypedBy(_start_type), RequiredIf(lambda surface: not surface.test_numbers)
    ] = None,
    timezone: Annotated[
        str | None,
        Field(description="Of times without an offset; default: the batch call's"),
        OnlyIf(lambda surface: surface.capabilities.drafts == "full"),
    ] = None,
    ends_at: Annotated[given.Ends, given.AS_IN_CREATE] = None,
    first: given.First = None,
    test_number: given.TestNumber = None,
    idempotency_key: Annotated[given.IdempotencyKey, given.AS_IN_CREATE] = None,
) -> WriteResult:
    if test_number is not None:
        if trigger_timestamp not in {None, "now"} or first is not None or ends_at is not None:
            raise InvalidInput(
                "test_number: a test call rings at once, and calls nobody else: give neither first nor a time with "
                "it. Nothing was sent."
            )
        return WriteResult.of(await hear_first.hear(context, batch_call_id, test_number, idempotency_key))
    if trigger_timestamp is None:
        raise InvalidInput(
            'trigger_timestamp: is missing. Nothing was sent. Give "now" or a time, or a test_number to hear it first.'
        )
    started = await launch.start(
        context, batch_call_id, trigger_timestamp, idempotency_key, first=first, timezone=timezone, ends=ends_at
    )
    return WriteResult.of(started)


def _pause(capabilities: Capabilities) -> str:
    ends = ", cancel_batch_call ends it" if Operation.CANCEL in capabilities.operations else ""
    return f"Stop placing new calls; calls in progress go on. resume_batch_call dials on{ends}."


@tool(Operation.PAUSE, "Pause a batch call", _pause, idempotent=True)
async def pause_batch_call(context: CallContext, /, batch_call_id: given.Id) -> WriteResult:
    return WriteResult.of(await launch.pause(context, batch_call_id))


@tool(
    Operation.RESUME,
    "Resume a batch call",
    "Dial on after pause_batch_call: phones ring. Asks for a confirmation first.",
    confirms=True,
)
async def resume_batch_call(context: CallContext, /, batch_call_id: given.Id) -> WriteResult:
    return WriteResult.of(await launch.resume(context, batch_call_id))


def _cancel(capabilities: Capabilities) -> str:
    later = " Use pause_batch_call to go on later." if Operation.PAUSE in capabilities.operations else ""
    return f"Cancel what has not been dialled. {capabilities.cancel_effect}{later}"


@tool(Operation.CANCEL, "Cancel a batch call", _cancel, destructive=True, idempotent=True)
async def cancel_batch_call(context: CallContext, /, batch_call_id: given.Id) -> WriteResult:
    return WriteResult.of(await launch.cancel(context, batch_call_id))


def _needs_list(surface: Surface) -> bool:
    can = surface.capabilities
    return can.needs_list_again and not (Operation.RETRY in can.operations and can.retry != "named")


def _retry(capabilities: Capabilities) -> str:
    can_dial = Operation.RETRY in capabilities.operations
    if can_dial and capabilities.retry == "all_unreached":
        return "Call again everybody not reached, in the same batch call, after a confirmation. It cannot call some."
    if can_dial and capabilities.retry == "child_draft":
        return (
            "Make a NEW draft of everybody not reached; it cannot take some. No phone rings until start_batch_call, "
            "which asks."
        )
    who = "Call again exactly the people not reached (default no_answer, busy, failed), never all."
    if can_dial:
        return f"{who} They are dialled in the same batch call, after a confirmation."
    if capabilities.drafts == "none":
        return f"{who} Makes a NEW batch call of them that dials at trigger_timestamp, after a confirmation."
    return f"{who} Makes a NEW draft of them with retry_of; no phone rings until start_batch_call."


def _is_timed(surface: Surface) -> bool:
    """A retry is a new batch call that dials by itself."""
    can = surface.capabilities
    return can.drafts == "none" and Operation.RETRY not in can.operations


@tool(Operation.RETRY, "Retry who was not reached", _retry, destructive=True, confirms=retry.dials_again)
async def retry_batch_call(
    context: CallContext,
    /,
    batch_call_id: given.Id,
    task_status: Annotated[given.StatusFilter, given.STATES, given.AS_IN_GET] = None,
    trigger_timestamp: Annotated[
        given.Moment,
        _WHEN_IT_DIALS,
        OnlyIf(_is_timed),
        RequiredIf(_is_timed),
    ] = None,
    tasks: Annotated[
        given.Tasks, given.LIST_OF_OBJECTS, OnlyIf(lambda surface: _needs_list(surface) and not surface.local_files)
    ] = None,
    tasks_file: Annotated[
        given.TasksFile,
        Field(description="The list it was made from; only its unreached rows are used"),
        OnlyIf(_needs_list),
    ] = None,
    columns: Annotated[given.Columns, given.OBJECT, given.AS_IN_CREATE, OnlyIf(_needs_list)] = None,
    sheet: Annotated[given.Sheet, given.AS_IN_CREATE, OnlyIf(_needs_list)] = None,
    header_row: Annotated[given.HeaderRow, given.AS_IN_CREATE, OnlyIf(_needs_list)] = None,
    default_region: Annotated[given.Region, given.AS_IN_CREATE, OnlyIf(_needs_list)] = None,
    idempotency_key: Annotated[given.IdempotencyKey, given.AS_IN_CREATE] = None,
) -> WriteResult:
    when = None if trigger_timestamp is None else read_start(trigger_timestamp, None)
    layout = given.layout_of(None, columns, sheet, header_row)
    source = given.source_of(tasks, tasks_file, layout, default_region=default_region)
    statuses = given.statuses_of(task_status)
    return WriteResult.of(await retry.retry(context, batch_call_id, statuses, source, idempotency_key, when))


@tool(
    Operation.DELETE,
    "Delete a batch call",
    "Remove a batch call for good. If results would be lost, a person is asked. To stop calls: cancel_batch_call.",
    idempotent=True,
    confirms=True,
)
async def delete_batch_call(context: CallContext, /, batch_call_id: given.Id) -> WriteResult:
    return WriteResult.of(await launch.delete(context, batch_call_id))
