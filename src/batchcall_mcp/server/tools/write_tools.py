"""Tools that change a batch call, or make phones ring."""

from __future__ import annotations

from typing import Annotated, Literal

from mcp.types import CallToolResult, InputRequiredResult
from pydantic import Field

from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.timestamps import read_start
from batchcall_mcp.batch_calls.writes import create, launch, retry, update
from batchcall_mcp.calling_hours import check_timezone, check_window
from batchcall_mcp.model import BatchCallRequest, BatchStatus
from batchcall_mcp.server.tools import arguments as given
from batchcall_mcp.server.tools.results import WriteResult, write_result


async def create_batch_call(
    context: CallContext,
    from_number: given.FromNumber,
    tasks: given.Tasks = None,
    tasks_file: given.TasksFile = None,
    rows: given.Rows = None,
    number_column: given.NumberColumn = None,
    default_region: given.Region = None,
    name: given.Name = None,
    agent_id: given.AgentId = None,
    window: given.Window = None,
    timezone: given.Timezone = None,
    trigger_timestamp: Annotated[
        str | float | None, Field(description='Dial then: "now", ISO 8601 or an epoch; left out: a draft')
    ] = None,
    max_concurrency: given.Concurrency = None,
    retry: given.Retry = None,
    idempotency_key: given.IdempotencyKey = None,
    confirmation_code: given.Code = None,
) -> Annotated[CallToolResult, WriteResult] | InputRequiredResult:
    """Make a batch call."""
    del confirmation_code  # the context has it
    when = None if trigger_timestamp is None else read_start(trigger_timestamp, timezone)
    request = BatchCallRequest(
        from_number=from_number,
        name=name,
        agent_id=agent_id,
        window=check_window(window) if window else None,
        timezone=check_timezone(timezone) if timezone else None,
        trigger_at=None if when == "now" else when,
        send_now=True if when == "now" else None,
        max_concurrency=max_concurrency,
        retry=given.retry_of(retry),
    )
    source = given.source_of(tasks, tasks_file, rows, number_column, default_region)
    return write_result(await create.create(context, request, source, idempotency_key))


async def update_batch_call(
    context: CallContext,
    batch_call_id: given.Id,
    from_number: Annotated[str | None, Field(description="Caller number, E.164")] = None,
    tasks: Annotated[given.Tasks, Field(description="Replaces the whole list")] = None,
    tasks_file: Annotated[given.TasksFile, Field(description="Replaces the whole list")] = None,
    name: given.Name = None,
    agent_id: given.AgentId = None,
    trigger_timestamp: given.Moment = None,
    timezone: given.Timezone = None,
    status: Annotated[
        Literal[BatchStatus.DRAFT, BatchStatus.SCHEDULED] | None, Field(description="draft takes a schedule back")
    ] = None,
    send_now: Annotated[bool | None, Field(description="true dials at once")] = None,
    window: Annotated[given.Window, Field(description=given.AS_CREATE)] = None,
    max_concurrency: given.Concurrency = None,
    retry: Annotated[given.Retry, Field(description=given.AS_CREATE)] = None,
    confirmation_code: given.Code = None,
) -> Annotated[CallToolResult, WriteResult] | InputRequiredResult:
    """Change only what is given."""
    del confirmation_code
    request = BatchCallRequest(
        from_number=from_number,
        name=name,
        agent_id=agent_id,
        trigger_at=given.moment_of(trigger_timestamp, timezone),
        timezone=check_timezone(timezone) if timezone else None,
        status=status,
        send_now=send_now,
        window=check_window(window) if window else None,
        max_concurrency=max_concurrency,
        retry=given.retry_of(retry),
    )
    return write_result(await update.update(context, batch_call_id, request, given.source_of(tasks, tasks_file)))


async def start_batch_call(
    context: CallContext,
    batch_call_id: given.Id,
    trigger_timestamp: given.Start,
    idempotency_key: given.IdempotencyKey = None,
    confirmation_code: given.Code = None,
) -> Annotated[CallToolResult, WriteResult] | InputRequiredResult:
    """Launch."""
    del confirmation_code
    return write_result(await launch.start(context, batch_call_id, read_start(trigger_timestamp), idempotency_key))


async def pause_batch_call(context: CallContext, batch_call_id: given.Id) -> Annotated[CallToolResult, WriteResult]:
    """Stop dialling for a while."""
    return write_result(await launch.pause(context, batch_call_id))


async def resume_batch_call(
    context: CallContext, batch_call_id: given.Id, confirmation_code: given.Code = None
) -> Annotated[CallToolResult, WriteResult] | InputRequiredResult:
    """Dial on."""
    del confirmation_code
    return write_result(await launch.resume(context, batch_call_id))


async def cancel_batch_call(context: CallContext, batch_call_id: given.Id) -> Annotated[CallToolResult, WriteResult]:
    """Take back what was not dialled."""
    return write_result(await launch.cancel(context, batch_call_id))


async def retry_batch_call(
    context: CallContext,
    batch_call_id: given.Id,
    task_status: given.StatusFilter = None,
    tasks: given.Tasks = None,
    tasks_file: Annotated[
        str | None, Field(description="The list it was made from; only its unreached rows are used")
    ] = None,
    idempotency_key: given.IdempotencyKey = None,
    confirmation_code: given.Code = None,
) -> Annotated[CallToolResult, WriteResult] | InputRequiredResult:
    """Call again who was not reached."""
    del confirmation_code
    statuses = given.statuses_of(task_status) or retry.DEFAULT_STATUSES
    source = given.source_of(tasks, tasks_file)
    return write_result(await retry.retry(context, batch_call_id, statuses, source, idempotency_key))


async def delete_batch_call(
    context: CallContext, batch_call_id: given.Id, confirmation_code: given.Code = None
) -> Annotated[CallToolResult, WriteResult] | InputRequiredResult:
    """Remove for good."""
    del confirmation_code
    return write_result(await launch.delete(context, batch_call_id))
