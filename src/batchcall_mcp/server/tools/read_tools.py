"""Tools that change nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from mcp.types import CallToolResult, ResourceLink
from pydantic import Field

from batchcall_mcp.batch_calls import export, read, watch
from batchcall_mcp.batch_calls.call_context import Relay
from batchcall_mcp.calling_hours import check_window
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    ListQuery,
    TaskPage,
    TaskQuery,
)
from batchcall_mcp.server.tools import arguments as given
from batchcall_mcp.server.tools.results import (
    BackendResult,
    BatchCallResult,
    CheckResult,
    ExportResult,
    FileEntry,
    ListResult,
    render,
)
from batchcall_mcp.settings import Confirm

_CONFIRMATION = {
    "person": "only by a person: in the client, on an approval page in their browser, or in a terminal",
    "code": "with a one-time code, after the person's yes",
    "off": "nobody is asked; warnings block",
}
_SIMULATED_CONFIRMATION = "the person is asked by the client; where it cannot ask, with a one-time code (simulated)"


async def get_backend(
    relay: Relay,
    name_contains: Annotated[str | None, Field(description="Only numbers and agents with this in the name")] = None,
    limit: given.Limit = 20,
) -> Annotated[CallToolResult, BackendResult]:
    """Facts to plan with."""
    facts = await read.backend_facts(relay, name_contains, limit)
    backend, settings = relay.backend, relay.settings
    capabilities = backend.capabilities
    numbers, agents, silent = facts.account.numbers, facts.account.agents, facts.account.unavailable
    return render(
        BackendResult(
            summary=(
                f"The backend {backend.name} does not answer. {silent}"
                if silent
                else f"Backend {backend.name}: {_told(numbers, 'caller numbers')}, {_told(agents, 'agents')}."
            ),
            next=(
                "get_backend, when the backend answers again."
                if silent
                else "check_batch_call with a list and a from_number."
            ),
            backend=backend.name,
            now=facts.now.replace(microsecond=0),
            numbers=None if numbers is None else list(numbers),
            agents=None if agents is None else list(agents),
            organization_id=facts.account.organization_id,
            max_tasks=capabilities.max_tasks,
            max_concurrency=capabilities.max_concurrency,
            max_calls_per_launch=settings.max_calls_per_launch,
            max_calls_per_day=settings.max_calls_per_day,
            calls_left_today=facts.calls_left_today,
            outcomes_reported=[str(status) for status in capabilities.outcomes],
            confirmation=_confirmation(settings.confirm, simulated=capabilities.simulated),
            mode=settings.mode,
            stop=capabilities.cancel_effect,
            calling_hours=f"{settings.calling_hours} of the called person's own time",
            folder=str(settings.files[0]) if relay.local_files and settings.files else None,
            files=[FileEntry(name=one.name, size_bytes=one.size_bytes, modified=one.modified) for one in facts.files],
            limitations=list(capabilities.limitations),
            notes=list(facts.account.notes),
        )
    )


def _confirmation(confirm: Confirm, *, simulated: bool) -> str:
    if confirm == "auto":
        return _SIMULATED_CONFIRMATION if simulated else _CONFIRMATION["person"]
    return _CONFIRMATION[confirm]


def _told(entries: tuple[object, ...] | None, what: str) -> str:
    return f"{what} not told" if entries is None else f"{len(entries)} {what}"


async def check_batch_call(
    relay: Relay,
    tasks: given.Tasks = None,
    tasks_file: given.TasksFile = None,
    batch_call_id: given.Id | None = None,
    rows: given.Rows = None,
    number_column: given.NumberColumn = None,
    default_region: given.Region = None,
    from_number: Annotated[str | None, Field(description="Caller number, E.164")] = None,
    agent_id: Annotated[str | None, Field(description="Agent whose variables are checked")] = None,
    window: Annotated[given.Window, Field(description=given.AS_CREATE)] = None,
    timezone: given.Timezone = None,
    trigger_timestamp: Annotated[given.Moment, Field(description="Judge a launch then; default now")] = None,
    limit: given.Limit = 20,
    cursor: given.Cursor = None,
) -> Annotated[CallToolResult, CheckResult]:
    """The preflight alone."""
    request = BatchCallRequest(
        from_number=from_number,
        agent_id=agent_id,
        window=check_window(window) if window else None,
        timezone=timezone,
        trigger_at=given.moment_of(trigger_timestamp, timezone),
    )
    source = given.source_of(tasks, tasks_file, rows, number_column, default_region)
    found = await read.check(relay, request, source, batch_call_id, limit, cursor)
    calls = found.preflight.calls
    whole = found.preflight.rows_read
    if calls is None:
        counted = "The list could not be read"
    elif whole is None:
        counted = f"{calls} people would be called"
    else:
        counted = f"{calls} of {whole} rows can be called; {found.skipped_rows_total} are left out"
    return render(
        CheckResult(
            summary=f"{counted}. Nothing was sent.",
            next="create_batch_call with the same list." if batch_call_id is None else "start_batch_call.",
            preflight=found.preflight,
            columns=found.columns,
            sample=list(found.sample),
            skipped_rows=list(found.skipped_rows),
            skipped_rows_total=found.skipped_rows_total,
            parts=list(found.parts),
            batch_call=found.batch_call,
            next_cursor=found.next_cursor,
        )
    )


async def get_batch_call(
    relay: Relay,
    batch_call_id: given.Id,
    task_status: given.StatusFilter = None,
    to_number: Annotated[str | None, Field(description="Only the task of this number, E.164")] = None,
    include_variables: Annotated[bool, Field(description="Show each task's variables")] = False,  # noqa: FBT002 - the contract's
    limit: Annotated[int, Field(ge=0, le=200, description="Most tasks in the answer; 0 for the counts alone")] = 20,
    cursor: given.Cursor = None,
) -> Annotated[CallToolResult, BatchCallResult]:
    """One batch call and a page of its tasks."""
    query = TaskQuery(given.statuses_of(task_status), to_number, limit, cursor)
    batch_call, page = await read.get(relay, batch_call_id, query)
    return render(_batch_call_result(batch_call, page, include_variables=include_variables))


def _batch_call_result(batch_call: BatchCall, page: TaskPage | None, *, include_variables: bool) -> BatchCallResult:
    tasks = None if page is None else list(page.tasks)
    if tasks is not None and not include_variables:
        from dataclasses import replace

        tasks = [replace(task, dynamic_variables={}) for task in tasks]
    nobody = " No task matches." if page is not None and not page.tasks and not page.next_cursor else ""
    return BatchCallResult(
        summary=in_words(batch_call) + nobody,
        next=_next_for(batch_call),
        batch_call=batch_call,
        tasks=tasks,
        next_cursor=page.next_cursor if page else None,
    )


def in_words(batch_call: BatchCall) -> str:
    """One sentence about a batch call, with nothing in it that the backend did not say."""
    counts = batch_call.counts
    parts = [
        f"{number} {word}"
        for number, word in (
            (counts.total, "tasks"),
            (counts.completed, "completed"),
            (counts.not_reached, "not reached"),
            (counts.pending, "pending"),
            (counts.calling, "in a call"),
        )
        if number is not None
    ]
    why = "" if batch_call.status_reason is None else f" {batch_call.status_reason.text}"
    return f"{batch_call.batch_call_id} is {batch_call.status}" + (f": {', '.join(parts)}." if parts else ".") + why


def _next_for(batch_call: BatchCall) -> str | None:
    following = {
        BatchStatus.DRAFT: "start_batch_call, after the person has seen it.",
        BatchStatus.SCHEDULED: "watch_batch_call until it starts; cancel_batch_call takes it back.",
        BatchStatus.RUNNING: "watch_batch_call until it is finished.",
        BatchStatus.PAUSED: "resume_batch_call, after a person has agreed.",
        BatchStatus.COMPLETED: 'get_batch_call with task_status=["not_reached"], or retry_batch_call for them.',
    }
    return following.get(batch_call.status)


async def list_batch_calls(
    relay: Relay,
    status: Annotated[BatchStatus | None, Field(description="Only in this state")] = None,
    agent_id: Annotated[str | None, Field(description="Only with this agent")] = None,
    name_contains: Annotated[str | None, Field(description="Only with this in the name")] = None,
    created_after: Annotated[given.Moment, Field(description="ISO 8601 with an offset, or an epoch")] = None,
    limit: given.Limit = 20,
    cursor: given.Cursor = None,
) -> Annotated[CallToolResult, ListResult]:
    """One page of batch calls."""
    after = given.moment_of(created_after, None)
    page = await read.list_page(relay, ListQuery(status, agent_id, name_contains, after, limit, cursor))
    more = " There are more." if page.next_cursor else ""
    return render(
        ListResult(
            summary=f"{len(page.batch_calls)} batch calls, newest first.{more}",
            next="get_batch_call with a batch_call_id." if page.batch_calls else None,
            batch_calls=list(page.batch_calls),
            next_cursor=page.next_cursor,
        )
    )


async def watch_batch_call(
    relay: Relay,
    progress: watch.Progress,
    batch_call_id: given.Id,
    until: Annotated[Literal["finished", "started", "changed"], Field(description="What to wait for")] = "finished",
    timeout_seconds: Annotated[float, Field(ge=0, le=600, description="Longest wait")] = 45,
) -> Annotated[CallToolResult, BatchCallResult]:
    """Wait, with progress."""
    seen = await watch.watch(relay, batch_call_id, until, timeout_seconds, progress)
    return render(BatchCallResult(summary=seen.summary, next=seen.next, batch_call=seen.batch_call))


async def export_batch_call(
    relay: Relay,
    batch_call_id: given.Id,
    format: Annotated[Literal["csv", "jsonl"], Field(description="File format")] = "csv",  # noqa: A002 - the contract's
    task_status: Annotated[given.StatusFilter, Field(description="Only tasks in these states")] = None,
) -> Annotated[CallToolResult, ExportResult]:
    """All tasks, as a file or a link."""
    if not relay.local_files:
        await relay.backend.get(batch_call_id)  # a link to what is not there would be a promise
        uri = f"batchcall://batch-calls/{batch_call_id}/export.{format}"
        link = ResourceLink(type="resource_link", uri=uri, name=f"{batch_call_id}.{format}", mime_type=_MIME[format])
        summary = f"The export of {batch_call_id} can be read as the resource {uri}, with the reader's own credentials."
        return render(ExportResult(summary=summary, resource=uri, format=format), [link])
    path, rows = await export.export_to_file(relay, batch_call_id, format, given.statuses_of(task_status))
    summary = f"Wrote {rows} tasks of {batch_call_id} to {path}."
    return render(ExportResult(summary=summary, rows=rows, file=str(path), format=format))


_MIME = {"csv": "text/csv", "jsonl": "application/jsonl"}
