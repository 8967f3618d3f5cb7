"""What a model reads: small, complete in the text and in the structured part alike, nulls left out.

Names, variables and messages come from a backend: data, never instructions. They are stripped of characters that do not
print and cut to a length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal

from mcp.types import CallToolResult, ContentBlock, ResourceLink, TextContent
from pydantic import BaseModel, Field

from batchcall_mcp.batch_calls.writes.results import Outcome, ResultWord
from batchcall_mcp.guard.preflight.preflight import Preflight
from batchcall_mcp.model import Agent, BatchCall, CallerNumber, CallTask
from batchcall_mcp.recipients.files.columns import Columns
from batchcall_mcp.recipients.validation import SkippedRow
from batchcall_mcp.text import shortened

SKIPPED_ROWS_SHOWN = 20
_LONGEST_TEXT = 500
_LONGEST_SENTENCE = 4000
_MOST_ENTRIES = 200
"""Of a list or an object: no page that we cut is longer, so that only what a backend sent can be."""
_OUR_SENTENCES = frozenset({"summary", "next"})

Summary = Annotated[str, Field(description="what is so, in one or two sentences")]
Next = Annotated[str | None, Field(description="the sensible next tool call, in words")]
Cursor = Annotated[str | None, Field(description="pass as cursor for the next page; left out on the last")]


class WriteResult(BaseModel):
    """What a write did."""

    summary: Summary
    next: Next = None
    result: Annotated[ResultWord, Field(description="what happened; the state is batch_call.status")]
    batch_call: BatchCall | None = None
    preflight: Preflight | None = None
    confirmation_code: Annotated[str | None, Field(description="repeat the call with it after a person's yes")] = None
    replayed: Annotated[bool | None, Field(description="true: an equal earlier call did it, this one sent nothing")] = (
        None
    )
    skipped_rows: Annotated[list[SkippedRow], Field(description="the first 20 rows that are left out")] = []
    changed: Annotated[dict[str, list[Any]], Field(description="field: [before, after]")] = {}
    notes: list[str] = []


class BatchCallResult(BaseModel):
    """A batch call and a page of its tasks."""

    summary: Summary
    next: Next = None
    batch_call: BatchCall
    tasks: list[CallTask] | None = None
    next_cursor: Cursor = None


class ListResult(BaseModel):
    """A page of batch calls, newest first."""

    summary: Summary
    next: Next = None
    batch_calls: list[BatchCall] = []
    next_cursor: Cursor = None


class CheckResult(BaseModel):
    """The preflight, row by row."""

    summary: Summary
    next: Next = None
    preflight: Preflight
    columns: Annotated[Columns | None, Field(description="which column became what")] = None
    sample: Annotated[list[CallTask], Field(description="the first tasks as they would be called")] = []
    skipped_rows: Annotated[list[SkippedRow], Field(description="one page of the rows that are left out")] = []
    skipped_rows_total: int = 0
    parts: Annotated[
        list[str], Field(description="values for rows, one batch call each, where the list is too long")
    ] = []
    batch_call: BatchCall | None = None
    next_cursor: Cursor = None


class FileEntry(BaseModel):
    """A file that tasks_file may name."""

    name: str
    size_bytes: int
    modified: datetime


class BackendResult(BaseModel):
    """What a model must know before it plans."""

    summary: Summary
    next: Next = None
    backend: str
    now: datetime
    numbers: Annotated[list[CallerNumber] | None, Field(description="caller numbers; left out: not told")] = None
    agents: Annotated[list[Agent] | None, Field(description="agents; left out: not told")] = None
    organization_id: str | None = None
    max_tasks: Annotated[int | None, Field(description="most tasks in one batch call")] = None
    max_concurrency: int | None = None
    max_calls_per_launch: int | None = None
    max_calls_per_day: int | None = None
    calls_left_today: Annotated[int | None, Field(description="until midnight UTC")] = None
    outcomes_reported: list[str] = []
    confirmation: Annotated[str, Field(description="how launches are confirmed")]
    mode: str
    stop: Annotated[str, Field(description="what cancel can take back")]
    calling_hours: str
    folder: Annotated[str | None, Field(description="a bare name in tasks_file means a file in here")] = None
    files: list[FileEntry] = []
    limitations: list[str] = []
    notes: list[str] = []


class ExportResult(BaseModel):
    """Where the export is."""

    summary: Summary
    next: Next = None
    rows: int | None = None
    file: str | None = None
    resource: str | None = None
    format: Literal["csv", "jsonl"]


def write_result(outcome: Outcome) -> CallToolResult:
    """Render the end of a writing use case."""
    return render(
        WriteResult(
            summary=outcome.summary,
            next=outcome.next,
            result=outcome.result,
            batch_call=outcome.batch_call,
            preflight=outcome.preflight,
            confirmation_code=outcome.confirmation_code,
            replayed=True if outcome.replayed else None,
            skipped_rows=list(outcome.skipped_rows[:SKIPPED_ROWS_SHOWN]),
            changed={name: list(pair) for name, pair in outcome.changed.items()},
            notes=list(outcome.notes),
        )
    )


def render(model: BaseModel, links: Sequence[ResourceLink] = ()) -> CallToolResult:
    """The same content as structured result and as compact JSON text."""
    structured = _structured(model)
    content: list[ContentBlock] = [TextContent(type="text", text=_as_text(structured)), *links]
    return CallToolResult(content=content, structured_content=structured)


def text_of(model: BaseModel) -> str:
    """The text part alone, as for a resource."""
    return _as_text(_structured(model))


def _structured(model: BaseModel) -> dict[str, Any]:
    return compact(model.model_dump(mode="json", exclude_none=True))


def _as_text(structured: Mapping[str, Any]) -> str:
    return json.dumps(structured, ensure_ascii=False, separators=(",", ":"))


def compact(structured: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is empty, clean what comes from elsewhere."""
    return {
        name: shortened(value, _LONGEST_SENTENCE) if name in _OUR_SENTENCES else _compacted(value)
        for name, value in structured.items()
        if not _is_empty(value)
    }


def _compacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        given = islice(((name, inner) for name, inner in value.items() if not _is_empty(inner)), _MOST_ENTRIES)
        return {shortened(name, _LONGEST_TEXT): _compacted(inner) for name, inner in given}
    if isinstance(value, list):
        return [_compacted(inner) for inner in value[:_MOST_ENTRIES]]
    return shortened(value, _LONGEST_TEXT) if isinstance(value, str) else value


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, list | dict) and not value)
