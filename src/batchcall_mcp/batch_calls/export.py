"""export_batch_call: every task as CSV or JSON lines, or a report of all; memory does not grow with the list."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TextIO, TypeAlias
from zoneinfo import ZoneInfo

import anyio.to_thread

from batchcall_mcp.backends.base import read_with_tasks
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.task_reading import FOR_A_FILE
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.calling_hours import is_timezone
from batchcall_mcp.errors import BatchCallError, InvalidInput
from batchcall_mcp.kept_files.caller_files import CallerFiles
from batchcall_mcp.model import BatchCall, CallTask, TaskStatus
from batchcall_mcp.recipients.files.allowed_folders import exports_folder
from batchcall_mcp.text import harmless_cell

Format: TypeAlias = Literal["csv", "jsonl", "report"]
EXTENSIONS: Final[Mapping[Format, str]] = {"csv": "csv", "jsonl": "jsonl", "report": "html"}
logger = logging.getLogger(__name__)


class Rows(NamedTuple):
    """How many rows a file has, and how many more tasks the backend counts than its list shows."""

    written: int
    missing: int = 0


_COLUMNS = (
    "to_number",
    "name",
    "status",
    "backend_status",
    "attempts",
    "call_id",
    "error",
    "attempted_at",
    "completed_at",
    "duration_seconds",
    "answered_by",
    "choice",
    "cost",
    "currency",
    "summary",
)
_OF_A_TASK = tuple(name for name in _COLUMNS if name not in {"cost", "currency"})
_values_of = attrgetter(*_OF_A_TASK)
_as_json = json.JSONEncoder(ensure_ascii=False).encode
_OF_THE_PERSON = frozenset({"to_number", "name"})
_MOST_OWN_COLUMNS = 100
"""Of what was read out of the calls: with more names than these, all of it goes into one column, as JSON."""
_IN_MEMORY = 4 * 1024 * 1024
_PIECE = 128 * 1024


async def export_to_file(
    context: CallContext, batch_call_id: str, form: Format, statuses: frozenset[TaskStatus] | None
) -> tuple[Path, Rows]:
    """Write a new file into the exports of the first folder of BATCHCALL_FILES; an existing file is never overwritten.

    Raises:
        InvalidInput: the folder cannot be written; nothing was changed at the backend.
    """
    if not context.settings.files:
        raise InvalidInput("BATCHCALL_FILES is empty, so there is no folder to write to. Nothing was written.")
    folder = exports_folder(context.settings.files)
    text, rows = await export_text(context, batch_call_id, form, statuses)
    try:
        path = await anyio.to_thread.run_sync(_store, folder, batch_call_id, form, text)
    except OSError as error:
        raise InvalidInput(
            f"The folder {folder} cannot be written ({error.strerror}). Nothing was written. "
            "The operator sets the folder with BATCHCALL_FILES."
        ) from None
    finally:
        text.close()
    return path, rows


async def export_to_store(
    context: CallContext,
    files: CallerFiles,
    batch_call_id: str,
    form: Format,
    statuses: frozenset[TaskStatus] | None,
) -> tuple[str, Rows]:
    """Keep an export for its caller, for a day; its URL and its number of rows.

    Raises:
        QuotaExceeded: it is larger than what a caller may keep.
        ConfigurationError: the store cannot be used.
    """
    text, rows = await export_text(context, batch_call_id, form, statuses)
    with text:
        encoded = (chunk.encode() for chunk in iter(partial(text.read, _PIECE), ""))
        return files.url_of(
            (await files.keep(batch_call_id, f".{EXTENSIONS[form]}", "export", encoded, rows.written)).name
        ), rows


async def export_text(
    context: CallContext, batch_call_id: str, form: Format, statuses: frozenset[TaskStatus] | None
) -> tuple[TextIO, Rows]:
    """The export as an open text file at its start (on disk beyond 4 MB), and its number of rows.

    Raises:
        InvalidInput: the folder for temporary files is full or cannot be written; or a report is asked of some people.
    """
    if form == "report":
        return await _report_text(context, batch_call_id, statuses)
    names: dict[str, None] = {}
    extracted: dict[str, None] = {}
    rows = 0
    batch_call, read = await read_with_tasks(context.backend, batch_call_id)
    with _in_temporary_files(), ExitStack() as until_returned:
        spool = until_returned.enter_context(_spool())
        async for task in context.every_task(batch_call, statuses, read=read, bounds=FOR_A_FILE):
            names.update(dict.fromkeys(task.dynamic_variables))
            if len(extracted) <= _MOST_OWN_COLUMNS:
                extracted.update(dict.fromkeys(task.extracted))
            spool.write(_as_json(_record(task)) + "\n")
            rows += 1
        spool.seek(0)
        found = Rows(rows, 0 if statuses else _missing(batch_call, rows))
        if form == "csv":
            return await anyio.to_thread.run_sync(_as_csv, spool, tuple(names), tuple(extracted)), found
        until_returned.pop_all()
        return spool, found


def _missing(batch_call: BatchCall, shown: int) -> int:
    return max((batch_call.counts.total or 0) - shown, 0)


async def _report_text(
    context: CallContext, batch_call_id: str, statuses: frozenset[TaskStatus] | None
) -> tuple[TextIO, Rows]:
    if statuses is not None:
        raise InvalidInput(
            "task_status: a report is about the whole batch call. Nothing was written. Call it again without "
            'task_status, or with format "csv" for some of the people.'
        )
    batch_call, read = await read_with_tasks(context.backend, batch_call_id)
    from batchcall_mcp.batch_calls.report.page import report_page
    from batchcall_mcp.batch_calls.report.tally import Tally
    from batchcall_mcp.batch_calls.report.words import About

    tally = Tally()
    async for task in context.every_task(batch_call, read=read, bounds=FOR_A_FILE):
        tally.add(task)
    about = About(
        batch_call=batch_call,
        backend=context.backend.name,
        reported=frozenset(context.backend.capabilities.outcomes),
        carried=context.backend.capabilities.results,
        zone=_zone_of(batch_call),
        made_at=context.clock(),
        agent_name=await _agent_name(context, batch_call.agent_id),
    )
    rows = Rows(tally.people, _missing(batch_call, tally.people))
    return io.StringIO(await anyio.to_thread.run_sync(report_page, tally, about)), rows


def _zone_of(batch_call: BatchCall) -> ZoneInfo:
    """The clock of the batch call, if it has one; else UTC."""
    window = batch_call.window.timezone if batch_call.window else None
    named = (zone for zone in (window, batch_call.timezone) if zone is not None and is_timezone(zone))
    return ZoneInfo(next(named, "UTC"))


async def _agent_name(context: CallContext, agent_id: str | None) -> str | None:
    """What the account calls the agent. A report does not fail because that cannot be read."""
    if agent_id is None or Operation.ACCOUNT not in context.backend.capabilities.operations:
        return None
    try:
        agents = (await context.backend.account()).agents or ()
    except BatchCallError as error:
        logger.info("The report names no agent: %s", error)
        return None
    return next((agent.name for agent in agents if agent.agent_id == agent_id), None)


@contextmanager
def _in_temporary_files() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInput(
            f"The folder for temporary files ({tempfile.gettempdir()}) cannot be written ({error.strerror}). Nothing "
            "was written. The operator makes room there, or names another folder with TMPDIR."
        ) from None


def _spool() -> TextIO:
    return tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", newline="")  # type: ignore[return-value]  # a TextIO in all but name


def _record(task: CallTask) -> dict[str, Any]:
    """What is known of a task, in the order of the columns; nearly all that there could be is not."""
    record: dict[str, Any] = {
        name: _cell(value)
        for name, value in zip(_OF_A_TASK, _values_of(task), strict=True)
        if value is not None and value != ""
    }
    if task.cost is not None:
        record |= {"cost": f"{task.cost.amount:f}", "currency": task.cost.currency}
    if task.dynamic_variables:
        record["dynamic_variables"] = dict(task.dynamic_variables)
    if task.extracted:
        record["extracted"] = dict(task.extracted)
    return record


def _cell(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _as_csv(spool: TextIO, variables: tuple[str, ...], extracted: tuple[str, ...]) -> TextIO:
    """Two passes, because the columns are known only after the last row."""
    own = tuple(name for name in variables if name not in _OF_THE_PERSON)
    titles = [f"variables.{name}" if name in _COLUMNS else name for name in own]
    apart = len(extracted) <= _MOST_OWN_COLUMNS
    out = _spool()
    writer = csv.writer(out)
    read_out = [f"extracted.{name}" for name in extracted] if apart else ["extracted"]
    writer.writerow([*_COLUMNS, *map(harmless_cell, titles), *read_out])
    for line in spool:
        record = json.loads(line)
        values, found = record.get("dynamic_variables", {}), record.get("extracted", {})
        writer.writerow(
            [
                *_cells(record, _COLUMNS),
                *_cells(values, own),
                *(_cells(found, extracted) if apart else [_as_json(found)]),
            ]
        )
    out.seek(0)
    return out


def _cells(record: Mapping[str, Any], columns: Sequence[str]) -> list[object]:
    return [harmless_cell(record[name]) if name in record else "" for name in columns]


def _store(folder: Path, batch_call_id: str, form: Format, text: TextIO) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for path in _free_names(folder, batch_call_id, form):
        try:
            # Readable by its owner only, as the databases are: it has names, numbers and what was said.
            with open(path, "x", encoding="utf-8", newline="", opener=_private) as file:
                _pour(text, file, path)
        except FileExistsError:
            continue
        return path
    raise InvalidInput(f"The folder {folder} holds too many exports of {batch_call_id}. Nothing was written.")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _pour(text: TextIO, file: TextIO, path: Path) -> None:
    """A part of an export looks like a whole one: if not all of it can be written, nothing stays."""
    try:
        while chunk := text.read(_PIECE):
            file.write(chunk)
        file.flush()
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _free_names(folder: Path, batch_call_id: str, form: Format) -> Iterator[Path]:
    # A backend chose the id: only harmless characters of it make a file name.
    stem = "".join(character if character.isalnum() or character in "-_" else "_" for character in batch_call_id)[:80]
    stem = stem or "batch_call"
    yield folder / f"{stem}.{EXTENSIONS[form]}"
    yield from (folder / f"{stem}-{number}.{EXTENSIONS[form]}" for number in range(2, 1000))
