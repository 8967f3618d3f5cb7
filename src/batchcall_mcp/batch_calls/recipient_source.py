"""Where a list of people comes from: the tool call itself, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio.to_thread

from batchcall_mcp.backends.capabilities import Capabilities
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.errors import InvalidInput, NotSupported
from batchcall_mcp.kept_files.caller_files import CallerFiles
from batchcall_mcp.kept_files.records import KeptFile
from batchcall_mcp.model import CallTask
from batchcall_mcp.recipients.do_not_call import DoNotCall
from batchcall_mcp.recipients.files.allowed_folders import resolve_file
from batchcall_mcp.recipients.files.columns import Layout
from batchcall_mcp.recipients.phone.numbers import comparable, is_comparable
from batchcall_mcp.recipients.validation import ReadOptions, Recipients, SkipReason, read_file, read_inline
from batchcall_mcp.text import in_quotes, quoted

_NAMES_SHOWN = 10
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSource:
    """A list as a tool call names it: `tasks` or `tasks_file`, never both."""

    tasks: tuple[CallTask, ...] | None = None
    tasks_file: str | None = None
    layout: Layout = field(default_factory=Layout)
    rows: str | None = None
    timezones: tuple[str, ...] | None = None
    default_region: str | None = None
    later: Mapping[str, str] = field(default_factory=dict)
    """As of `ReadOptions`: who is skipped, because a later batch call has them."""

    @property
    def given(self) -> bool:
        """Whether the call names a list at all."""
        return self.tasks is not None or self.tasks_file is not None

    def check_given(self) -> None:
        """Hold what is said about a list against whether there is one.

        Raises:
            InvalidInput: if there is none: a call that selects people must not get all of them.
        """
        said = [*self.layout.given(), *(name for name in ("rows", "timezones") if getattr(self, name) is not None)]
        if said and not self.given:
            raise InvalidInput(
                f"{', '.join(said)}: only a list that is given can be read so. Nothing was sent. Give tasks or "
                "tasks_file as well."
            )


async def read_source(
    context: CallContext, source: ListSource, from_number: str | None, there: frozenset[str] = frozenset()
) -> Recipients:
    """Read the list; what cannot be called is skipped, each row with its reason.

    `there`: whom a batch call has already, as numbers are compared; they are skipped too.

    Raises:
        InvalidInput: both or neither given, an unreadable file, or a bad `rows`; nothing was sent.
    """
    if source.tasks is not None and source.tasks_file is not None:
        raise InvalidInput("Give tasks or tasks_file, not both. Nothing was sent.")
    if not source.given:
        raise InvalidInput("The people to call are missing: give tasks or tasks_file. Nothing was sent.")
    if source.tasks_file is None or context.local_files:
        return await anyio.to_thread.run_sync(_read, context, source, from_number, there, await context.do_not_call())
    if context.files is None:
        raise NotSupported("This connection has no uploaded lists. Nothing was sent. Give the people as tasks.")
    uploaded = await _uploaded(context.files, source.tasks_file)
    # Its turn first: copies that wait for theirs would fill the disk.
    async with context.files.reading, context.files.copied(uploaded) as path:
        never = await context.do_not_call()
        return await anyio.to_thread.run_sync(_read, context, source, from_number, there, never, path)


async def _uploaded(files: CallerFiles, name: str) -> KeptFile:
    """A list that the caller has uploaded: over HTTP a name never means a file on the server's own disk."""
    mine = [file for file in await files.listed() if file.kind == "list"]
    found = next((file for file in mine if file.name == name), None)
    if found is None:
        names = ", ".join(quoted(file.name, _LONGEST_NAME) for file in mine[:_NAMES_SHOWN])
        there = f"Yours: {names}." if mine else "There is none."
        raise InvalidInput(
            f"tasks_file: {quoted(name)} is not a list that you have uploaded. Nothing was sent. {there} To upload "
            f"one: {files.how_to_upload()} Its answer has the name for tasks_file; a list is kept for a day."
        )
    return found


def _read(
    context: CallContext,
    source: ListSource,
    from_number: str | None,
    there: frozenset[str],
    never: DoNotCall,
    uploaded: Path | None = None,
) -> Recipients:
    settings = context.settings
    options = ReadOptions(
        layout=source.layout,
        rows=source.rows,
        timezones=source.timezones,
        default_region=source.default_region or settings.default_region,
        do_not_call=never,
        from_number=from_number,
        there=there,
        consent=settings.require_consent,
        later=source.later,
    )
    if source.tasks is not None:
        return read_inline(source.tasks, options)
    return read_file(uploaded or resolve_file(source.tasks_file or "", settings.files, settings.never_lists), options)


async def read_callable(
    context: CallContext, source: ListSource, from_number: str | None
) -> tuple[Recipients, tuple[CallTask, ...], tuple[str, ...]]:
    """The list, what of it can be sent to this backend, and notes for the result.

    Raises:
        InvalidInput: as `read_source`; nobody can be called, or more than the backend takes: the text spells out the
            calls that fit.
    """
    recipients, capabilities = await read_source(context, source, from_number), context.backend.capabilities
    if not recipients.tasks:
        raise nobody_left(recipients)
    limit = capabilities.limits.tasks
    if limit is not None and len(recipients.tasks) > limit:
        parts = ", then ".join(f'rows="{part}"' for part in parts_that_fit(recipients, limit)[:20])
        how = f"Narrow rows={source.rows!r}" if source.rows else f"Make one batch call for each part: {parts}"
        raise InvalidInput(
            f"{len(recipients.tasks)} callable rows are more than the {limit} that one batch call of "
            f"{context.backend.name} takes. Nothing was sent. {how}."
        )
    tasks, dropped = fit_fields(recipients.tasks, capabilities, from_file=source.tasks_file is not None)
    return recipients, tasks, (*recipients.notes, *dropped)


def nobody_left(recipients: Recipients) -> InvalidInput:
    """The error for a list of which nobody can be called."""
    reasons = [f"line {row.line}: {row.reason}" for row in recipients.skipped_rows[:20]]
    said = [
        f"None of the {recipients.rows_read} rows can be called.",
        *recipients.remarks,
        "Nothing was sent. Correct the list; check_batch_call shows every row.",
    ]
    return InvalidInput(" ".join(said), reasons)


def parts_that_fit(recipients: Recipients, limit: int) -> list[str]:
    """Ranges for `rows` of at most `limit` rows each; empty if all fit at once."""
    total = recipients.last_row
    if len(recipients.tasks) <= limit:
        return []
    return [f"{first}-{min(first + limit - 1, total)}" for first in range(1, total + 1, limit)]


def fit_fields(
    tasks: tuple[CallTask, ...], capabilities: Capabilities, *, from_file: bool
) -> tuple[tuple[CallTask, ...], tuple[str, ...]]:
    """Drop what the backend has no field for, with a note for each: only for the extra columns of a file.

    What a model wrote into `tasks` itself is refused elsewhere, not dropped.
    """
    if not from_file:
        return tasks, ()
    notes = []
    if not capabilities.dynamic_variables and any(task.dynamic_variables for task in tasks):
        columns = [in_quotes(name) for name in sorted({name for task in tasks for name in task.dynamic_variables})]
        tasks = tuple(replace(task, dynamic_variables={}) for task in tasks)
        notes.append(f"This backend has no variables: the columns {', '.join(columns[:20])} were not sent.")
    if not capabilities.task_names:
        # The name stays with the agent as a variable, where there are variables; the field itself has no seat.
        if any(task.name for task in tasks) and not capabilities.dynamic_variables:
            notes.append("This backend has no field for a name: it was not sent.")
        tasks = tuple(replace(task, name=None) if task.name else task for task in tasks)
    if not capabilities.task_timezones and any(task.timezone for task in tasks):
        tasks = tuple(replace(task, timezone=None) for task in tasks)
        notes.append("This backend has no time zone for each task: the timezone column was not sent.")
    if not capabilities.task_max_retries and any(task.max_retries is not None for task in tasks):
        tasks = tuple(replace(task, max_retries=None) for task in tasks)
        notes.append("This backend has no retries for each task: the max_retries column was not sent.")
    return tasks, tuple(notes)


def as_new(task: CallTask) -> CallTask:
    """A person of another batch call as a new list has them: with name and variables, and without what came of it.

    A backend may keep digits alone, which say their country: no default region makes somebody else's number of them.
    """
    stored = comparable(task.to_number)
    says_country = task.to_number.lstrip().startswith("+") or not is_comparable(stored)
    return CallTask(
        to_number=task.to_number if says_country else stored,
        name=task.name,
        dynamic_variables=task.dynamic_variables,
        timezone=task.timezone,
        max_retries=task.max_retries,
    )


def skipped_rows_words(recipients: Recipients) -> str:
    """`" 12 rows are skipped: 5 invalid, 4 duplicate, 3 do-not-call."`, or nothing."""
    if not recipients.skipped_rows:
        return ""
    counts = {kind: sum(row.kind == kind for row in recipients.skipped_rows) for kind in SkipReason}
    reasons = ", ".join(f"{count} {kind.words}" for kind, count in counts.items() if count)
    rows = "row is" if len(recipients.skipped_rows) == 1 else "rows are"
    return f" {len(recipients.skipped_rows)} {rows} skipped: {reasons}."
