"""get, list, check and the account: what can be known without changing anything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeVar

import anyio.to_thread

from batchcall_mcp.backends.base import ReadTasks, read_with_tasks
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls import listing
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.next_call import CheckedList, Next, after_check, after_check_of
from batchcall_mcp.batch_calls.recipient_source import ListSource, fit_fields, parts_that_fit, read_source
from batchcall_mcp.batch_calls.summing_up import summed_up
from batchcall_mcp.batch_calls.writes.create import caller_number
from batchcall_mcp.batch_calls.writes.launch import waiting
from batchcall_mcp.batch_calls.writes.write import People, Write
from batchcall_mcp.errors import BatchCallError, ConfigurationError, InvalidInput, NotFound, UnexpectedResponse
from batchcall_mcp.guard.preflight.cost import left_of
from batchcall_mcp.guard.preflight.dates import check_promises
from batchcall_mcp.guard.preflight.preflight import Preflight
from batchcall_mcp.kept_files.caller_files import CallerFiles
from batchcall_mcp.kept_files.records import KEPT_FOR
from batchcall_mcp.model import (
    Account,
    BatchCall,
    BatchCallPage,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallTask,
    Counts,
    ListQuery,
    TaskPage,
    TaskQuery,
    Turn,
)
from batchcall_mcp.money import Money
from batchcall_mcp.recipients.files.allowed_folders import ListedFile, list_files
from batchcall_mcp.recipients.files.columns import Columns
from batchcall_mcp.recipients.phone.numbers import (
    LACKS_COUNTRY,
    InvalidNumber,
    comparable,
    digits_as_written,
    is_comparable,
    normalise_number,
    region_of,
)
from batchcall_mcp.recipients.validation import Recipients, SkippedRow
from batchcall_mcp.text import identifier, printable, shortened

_T = TypeVar("_T")
PAGE_BYTES = 60_000
_TASK_BYTES = 200
"""Of a task on the wire, without the texts that may be long."""
_LINE = 200
"""Characters of one text of a task that stands among others."""
_EXTRACTED_SHOWN = 10
TURNS = 20
TURNS_BYTES = 3_000
EXTRACTED_BYTES = 1_000
LONGEST_TURN = 500
"""Characters of one text that a result shows."""
_FILES_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendFacts:
    """What a model must know before it plans."""

    account: Account
    files: tuple[ListedFile, ...]
    now: datetime
    calls_left_today: int | None = None
    """Of BATCHCALL_MAX_CALLS_PER_DAY, until midnight UTC; None: there is no such limit."""
    cost_left_today: Money | None = None
    """Of BATCHCALL_MAX_COST_PER_DAY; None: there is no such limit, or what is left is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The preflight alone, with the rows that would be skipped and a few that would be called."""

    preflight: Preflight
    columns: Columns | None
    sample: tuple[CallTask, ...]
    skipped_rows: tuple[SkippedRow, ...]
    skipped_rows_total: int
    next_cursor: str | None
    parts: tuple[str, ...]
    next: Next = None
    batch_call: BatchCall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPage:
    """A call with a page of its transcript; `turns`: of the whole, None where there is no transcript."""

    call: Call
    turns: int | None
    next_cursor: str | None
    notes: tuple[str, ...] = ()


async def backend_facts(context: CallContext, name_contains: str | None, limit: int) -> BackendFacts:
    """Caller numbers, agents and files; a part that cannot be read is a note, not an error."""
    if Operation.ACCOUNT in context.backend.capabilities.operations:
        account = await context.backend.account()
    else:
        account = Account(notes=(f"{context.backend.name} does not report the account's numbers and agents.",))
    files: tuple[ListedFile, ...] = ()
    if context.local_files:
        files = await anyio.to_thread.run_sync(
            partial(list_files, context.settings.files, context.settings.never_lists, limit=_FILES_SHOWN)
        )
    elif context.files is not None:
        files = await _uploaded(context.files)
    reported = account.cost_per_minute if account.cost_per_minute and account.cost_per_minute.is_sound else None
    price = None if context.backend.capabilities.simulated else context.limits.cost.price(reported)
    other = context.limits.cost.other_currency(reported)
    calls_left, cost_left, stopped = await _left_today(context, price)
    notes = (*stopped, *([f"Nothing launches: {other}."] if other else []), *account.notes)
    return BackendFacts(
        account=_narrow(replace(account, cost_per_minute=price, notes=notes), name_contains, limit),
        files=files,
        now=context.clock(),
        calls_left_today=calls_left,
        cost_left_today=cost_left,
    )


async def _uploaded(files: CallerFiles) -> tuple[ListedFile, ...]:
    """The caller's newest lists; a store that cannot be used is reported by the call that needs it."""
    try:
        lists = [file for file in await files.listed() if file.kind == "list"]
    except ConfigurationError:
        return ()
    return tuple(
        ListedFile(name=file.name, size_bytes=file.size_bytes, modified=file.kept_until - KEPT_FOR)
        for file in lists[:_FILES_SHOWN]
    )


async def _left_today(context: CallContext, price: Money | None) -> tuple[int | None, Money | None, tuple[str, ...]]:
    """What is left of the limits of a day, in calls and in money, and what stands in the way of every launch."""
    most, most_cost = context.settings.max_calls_per_day, context.settings.max_cost_per_day
    try:
        ledger = await context.open_ledger()
        since = await anyio.to_thread.run_sync(ledger.stops.since)
        used = (
            0
            if most is None
            else await anyio.to_thread.run_sync(
                partial(ledger.history.calls_on, context.clock(), simulated=context.backend.capabilities.simulated)
            )
        )
        cost_left = None
        if most_cost is not None and price is not None:
            cost_left = left_of(
                most_cost, price, await anyio.to_thread.run_sync(ledger.history.spent_on, context.clock())
            )
    except ConfigurationError as error:
        return None, None, (error.message,)
    stopped = (
        () if since is None else (f"The emergency stop is on since {since:%Y-%m-%d %H:%M UTC}: nothing launches.",)
    )
    return None if most is None else max(most - used, 0), cost_left, stopped


def _narrow(account: Account, name_contains: str | None, limit: int) -> Account:
    notes = list(account.notes)

    def shown(
        what: str, all_of_them: Sequence[_T] | None, names: Callable[[_T], tuple[str | None, ...]]
    ) -> tuple[_T, ...] | None:
        if all_of_them is None:
            return None
        wanted = (name_contains or "").casefold()
        found = [one for one in all_of_them if any(wanted in (name or "").casefold() for name in names(one))]
        if len(found) > limit:
            notes.append(f"{len(found)} {what} match; the first {limit} are shown. Narrow name_contains.")
        return tuple(found[:limit])

    numbers = shown("numbers", account.numbers, lambda one: (one.name, one.from_number))
    agents = shown("agents", account.agents, lambda one: (one.name, one.agent_id))
    return replace(account, numbers=numbers, agents=agents, notes=tuple(notes))


async def get(
    context: CallContext, batch_call_id: str, query: TaskQuery, *, variables: bool = False
) -> tuple[BatchCall, TaskPage | None]:
    """One batch call and a page of its tasks, never more than 60 KB of them; limit 0 reads no tasks.

    `variables`: whether the page shows those of each task.
    """
    if query.to_number is not None:
        query = replace(query, to_number=_as_e164(query.to_number, context.settings.default_region))
    read_at = context.clock()
    batch_call, read = await read_with_tasks(context.backend, batch_call_id)
    await context.note_over(batch_call, read_at)
    batch_call = await listing.with_what_is_recorded(context, batch_call)
    if not query.limit or context.backend.capabilities.tasks_reported == "none":
        hidden = context.unlisted(batch_call, 0) if query.limit else ""
        batch_call = replace(batch_call, notes=(*batch_call.notes, *([hidden] if hidden else [])))
        return await summed_up(context, batch_call, read, query, None), None
    try:
        page = await _page(read, query, variables=variables)
        fitting = _fitting(page.tasks)
        if fitting < len(page.tasks):
            page = await _page(read, replace(query, limit=fitting), variables=variables)
    except InvalidInput:
        raise  # the cursor is wrong, not the backend
    except BatchCallError as error:
        note = f"Its tasks could not be read: {error.message}"
        return replace(batch_call, notes=(*batch_call.notes, note)), None
    batch_call = await summed_up(context, batch_call, read, query, page)
    notes = (*page.notes, *_hidden_on_last_page(context, batch_call, query, page))
    return replace(batch_call, notes=(*batch_call.notes, *notes)), page


def _hidden_on_last_page(
    context: CallContext, batch_call: BatchCall, query: TaskQuery, page: TaskPage
) -> tuple[str, ...]:
    """That the end of the pages is not the end of the list, where that shows only who was dialled."""
    if page.next_cursor is not None:
        return ()
    if query.is_filtered or query.cursor is not None:  # how many are listed in all is not known here
        batch_call = replace(batch_call, counts=Counts())
    sentence = context.unlisted(batch_call, len(page.tasks))
    return (sentence,) if sentence else ()


async def get_call(
    context: CallContext, batch_call_id: str, to_number: str | None, call_id: str | None, cursor: str | None
) -> CallPage:
    """One call with a page of what was said in it: at most 20 turns, and a few kilobytes.

    Raises:
        InvalidInput: neither the person nor the call is named, or both; or the cursor is not one of ours.
        NotFound: nobody has this number there, or nobody has called it yet.
    """
    context.require(Operation.GET_CALL)
    if (to_number is None) == (call_id is None):
        raise InvalidInput("Give to_number or call_id, one of them. Nothing was changed.")
    first = _position(cursor)
    number = None if to_number is None else _as_e164(to_number, context.settings.default_region)
    asked = call_id or await _call_of(context, batch_call_id, number or "")
    call = await context.backend.get_call(batch_call_id, asked)
    _check_asked_for(call, asked, number)
    turns = call.transcript
    shown = None if turns is None else _turns_that_fit(turns[first : first + TURNS])
    last = first + len(shown or ())
    task, left = _within(replace(call.task, dynamic_variables={}))
    heard = _web_address(call.recording_url)
    return CallPage(
        call=replace(call, task=task, transcript=shown, recording_url=heard),
        turns=None if turns is None else len(turns),
        next_cursor=str(last) if turns is not None and shown and last < len(turns) else None,
        notes=tuple(_not_shown(call, heard, left)),
    )


def _not_shown(call: Call, heard: str | None, left: int) -> Iterator[str]:
    if left:
        yield f"{left} more extracted values are not shown; export_batch_call has them."
    if call.recording_url is not None and heard is None:
        yield "There is a recording. Its address is not shown: it is not a web address, or too long."


def _check_asked_for(call: Call, call_id: str, number: str | None) -> None:
    """Show nobody's words as somebody else's.

    Raises:
        UnexpectedResponse: the answer is about another call, or a call to another person.
    """
    of = call.task.to_number
    if call.call_id != call_id:
        other = f"call {identifier(call.call_id)}"
    elif number is not None and of and comparable(of) != number:
        other = "a call to another person"
    else:
        return
    raise UnexpectedResponse(
        f"The backend was asked for call {identifier(call_id)} and answered with {other}. Nothing was changed. "
        "get_batch_call shows the calls; try again."
    )


async def _call_of(context: CallContext, batch_call_id: str, number: str) -> str:
    """The last call of a person, by their number in E.164."""
    page = await context.backend.tasks(batch_call_id, TaskQuery(to_number=number, limit=1))
    if not page.tasks or comparable(page.tasks[0].to_number) != number:
        raise NotFound(f"to_number: {number} is not in batch call {batch_call_id}. Nothing was changed.")
    if page.tasks[0].call_id is None:
        state = page.tasks[0].status or "unknown"
        raise NotFound(
            f"to_number: no call of {number} is known yet; its status is {state}. Nothing was changed. "
            "watch_batch_call waits for the calls."
        )
    return page.tasks[0].call_id


def _turns_that_fit(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Those of a page that stay under TURNS_BYTES; at least one, whose text is cut where it is shown."""
    size = 0
    for position, turn in enumerate(turns):
        size += min(len(turn.text.encode()), LONGEST_TURN) + 40
        if size > TURNS_BYTES and position:
            return tuple(turns[:position])
    return tuple(turns)


def _within(task: CallTask) -> tuple[CallTask, int]:
    """A task with as many extracted values as a few kilobytes hold, and how many more it has."""
    size, kept = 0, {}
    for name, value in task.extracted.items():
        size += min(len(name), LONGEST_TURN) + min(len(value), LONGEST_TURN)
        if size > EXTRACTED_BYTES:
            break
        kept[name] = value
    return replace(task, extracted=kept), len(task.extracted) - len(kept)


def _web_address(given: str | None) -> str | None:
    """Where a recording can be heard: only http and https, nothing that would run where it is clicked."""
    whole = given is not None and len(given) <= LONGEST_TURN and printable(given) == given
    return given if given is not None and whole and re.fullmatch(r"https?://[^\s<>\"']+", given) else None


def _as_e164(number: str, region: str | None) -> str:
    """As a list would hold it; digits with a country code that no list of ours could hold, a backend may.

    Raises:
        InvalidInput: it is not a number, so nobody has it.
    """
    try:
        return normalise_number(number, region)
    except InvalidNumber as error:
        stored = digits_as_written(number)
        if stored is not None and is_comparable(stored):
            return comparable(stored)
        raise InvalidInput(f"to_number: {error.message}. Nothing was changed.") from None


async def _page(read: ReadTasks, query: TaskQuery, *, variables: bool) -> TaskPage:
    """A page of tasks as a result shows it."""
    page = await read(query)
    return replace(page, tasks=tuple(_on_a_page(task, variables=variables) for task in page.tasks))


def _on_a_page(task: CallTask, *, variables: bool) -> CallTask:
    """A task with others next to it: a line of what was said, and the first of what was read out of it."""
    hidden = not variables and bool(task.dynamic_variables)
    if not (hidden or task.summary or task.extracted):
        return task
    first = list(task.extracted.items())[:_EXTRACTED_SHOWN]
    return replace(
        task,
        dynamic_variables={} if hidden else task.dynamic_variables,
        summary=None if task.summary is None else shortened(task.summary, _LINE),
        extracted={name: shortened(value, _LINE) for name, value in first},
    )


def _fitting(tasks: Sequence[CallTask]) -> int:
    """How many tasks stay under PAGE_BYTES on the wire; at least one."""
    texts = [
        [task.name, dict(task.dynamic_variables), task.error, task.choice, task.summary, dict(task.extracted)]
        for task in tasks
    ]
    if len(tasks) * _TASK_BYTES + _bytes_of(texts) <= PAGE_BYTES:  # nearly every page, at once
        return len(tasks)
    size = 0
    for position, written in enumerate(texts):
        size += _TASK_BYTES + _bytes_of(written)
        if size > PAGE_BYTES and position:
            return position
    return len(tasks)


def _bytes_of(written: object) -> int:
    return len(json.dumps(written, ensure_ascii=False).encode())


async def list_page(context: CallContext, query: ListQuery) -> BatchCallPage:
    """One page of batch calls, newest first; where the backend cannot list them, those that the ledger knows."""
    page = await listing.batch_calls(context, query)
    lost = "" if query.cursor else await listing.without_an_answer(context)
    return replace(page, notes=(lost, *page.notes)) if lost else page


async def check(
    context: CallContext,
    request: BatchCallRequest,
    source: ListSource,
    batch_call_id: str | None,
    limit: int,
    cursor: str | None,
) -> Check:
    """Judge a list, or a batch call that exists, as if it were launched; nothing is sent."""
    if source.given == (batch_call_id is not None):
        raise InvalidInput("Give exactly one of tasks, tasks_file and batch_call_id. Nothing was sent.")
    source.check_given()
    current: BatchCall | None = None
    recipients: Recipients | None = None
    tasks: Sequence[CallTask] | None
    if batch_call_id is not None:
        current, of_current = await read_with_tasks(context.backend, batch_call_id)
        tasks = await context.tasks_or_none(current, of_current)
    else:
        recipients = await read_source(context, source, request.from_number)
        tasks = recipients.tasks
    context.require_fields(BatchCallRequest(window=request.window))
    if request.trigger_on is not None:
        numbers = tuple(CallTask(to_number=task.to_number) for task in tasks or ())
        context.require_fields(BatchCallRequest(trigger_on=request.trigger_on, window=request.window, tasks=numbers))
    launch = request if request.trigger_at or request.trigger_on else replace(request, send_now=True)
    rows = recipients.skipped_rows if recipients else ()
    is_paused = current is not None and current.status is BatchStatus.PAUSED
    people = People(
        tasks=tasks,
        to_call=waiting(tasks) if is_paused and tasks is not None else None,
        skipped_rows=rows,
        rows_read=recipients.rows_read if recipients else None,
        warnings=recipients.notes if recipients else (),
        notes=recipients.remarks if recipients else (),
    )
    judged = await Write(context, Operation.START, launch, current).judge(people)
    first = _position(cursor)
    most = context.backend.capabilities.limits.tasks
    parts = tuple(parts_that_fit(recipients, most)[:100]) if recipients and most and not source.rows else ()
    if current is not None:
        blocked, timed = bool(judged.preflight.blocks), launch is request
        following = after_check_of(current, context.offer, context.clock(), is_blocked=blocked, is_timed=timed)
    else:
        following = after_check(_checked(context, request, source, recipients, judged.preflight, parts), context.offer)
    return Check(
        preflight=judged.preflight,
        columns=recipients.columns if recipients else None,
        sample=tuple((tasks or ())[:3]),
        skipped_rows=tuple(rows[first : first + limit]),
        skipped_rows_total=len(rows),
        next_cursor=str(first + limit) if first + limit < len(rows) else None,
        parts=parts,
        next=following,
        batch_call=current,
    )


def _checked(
    context: CallContext,
    request: BatchCallRequest,
    source: ListSource,
    recipients: Recipients | None,
    judged: Preflight,
    parts: Sequence[str],
) -> CheckedList:
    """What a next call depends on."""
    tasks, rows = (recipients.tasks, recipients.skipped_rows) if recipients else ((), ())
    region = source.default_region or context.settings.default_region
    try:
        number = caller_number(context, request.from_number, region) if request.from_number else None
    except InvalidInput:
        number = None
    return CheckedList(
        arguments=context.arguments,
        from_number=number,
        calls=len(tasks),
        skipped=len(rows),
        lacking_country=0 if region else sum(row.reason.endswith(LACKS_COUNTRY) for row in rows),
        region=region_of(number) if number else None,
        parts=parts,
        refused=_refusal(context, replace(request, from_number=number or request.from_number), source, tasks)
        or next((one.sentence for one in judged.concerns if one.kind == "countries"), None),
        is_blocked=bool(judged.blocks),
    )


def _refusal(
    context: CallContext, request: BatchCallRequest, source: ListSource, tasks: tuple[CallTask, ...]
) -> str | None:
    """Why no batch call could be made of what was checked; None if one could."""
    capabilities = context.backend.capabilities
    fitting, _ = fit_fields(tasks[: capabilities.limits.tasks], capabilities, from_file=source.tasks_file is not None)
    request = replace(request, tasks=fitting)
    if capabilities.drafts == "full":
        request = replace(request, trigger_at=None, trigger_on=None)
    try:
        context.require_fields(request)
        check_promises(request, None, capabilities, context.limits.calling_hours)
        if fitting and (request.from_number is not None or "from_number" not in capabilities.required):
            context.require_complete(request)
            context.backend.check_state(Operation.CREATE, request, None)
    except BatchCallError as error:
        return error.message
    return None


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal():
        raise InvalidInput("cursor: pass next_cursor as the last answer gave it, or omit it. Nothing was sent.")
    return int(cursor)
