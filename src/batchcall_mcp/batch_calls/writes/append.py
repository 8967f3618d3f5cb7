"""update_batch_call with add_tasks: people join the list of a batch call that exists, each of them once."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

import anyio.to_thread

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.recipient_source import (
    ListSource,
    fit_fields,
    nobody_left,
    read_source,
    skipped_rows_words,
)
from batchcall_mcp.batch_calls.writes.preflight_context import different
from batchcall_mcp.batch_calls.writes.results import Result, ResultWord
from batchcall_mcp.batch_calls.writes.write import Judged, People, Write
from batchcall_mcp.errors import InvalidInput, UnexpectedResponse
from batchcall_mcp.guard.fingerprints import fingerprint
from batchcall_mcp.guard.preflight.dates import check_promises
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, CallTask
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.recipients.validation import Recipients


async def append(context: CallContext, batch_call_id: str, source: ListSource) -> Result:
    """Add people; where the batch call dials, or will by itself, that is confirmed first.

    Whose number is on its list stays as they are, also after their call: retry_batch_call calls people again.

    Raises:
        InvalidInput: nobody can be called, or its list would be longer than is allowed; nothing was sent.
        IllegalTransition: it is over; nothing was sent.
        UnexpectedResponse: who is on its list cannot be read completely; nothing was sent.
    """
    context.require(Operation.APPEND)
    current, read, seen = await context.look(batch_call_id)
    if current.test_of is not None:
        raise InvalidInput(
            f"{batch_call_id} is a test call of {current.test_of}, and has one person. Nothing was sent. Add the "
            "people to that one, or make a new batch call of them with create_batch_call."
        )
    before = [task async for task in context.every_task(current, read=read)]
    listed = different(before)
    hidden = context.unlisted(current, listed)
    total = max(listed, current.counts.total or await _sent_before(context, current) or 0)
    if listed < total and not hidden:
        raise UnexpectedResponse(
            f"The backend says that {batch_call_id} has {total:,} tasks, but its list shows {listed:,}: who is in it "
            "already is not known. Nothing was sent. Try again, or make a new batch call of these people."
        )
    there = await anyio.to_thread.run_sync(_numbers, before)
    recipients = await read_source(context, source, current.from_number, there)
    asked = (*recipients.tasks, *recipients.already_there)
    if not asked:
        raise nobody_left(recipients)
    capabilities = context.backend.capabilities
    tasks, dropped = fit_fields(recipients.tasks, capabilities, from_file=source.tasks_file is not None)
    request = BatchCallRequest(tasks=tasks)
    context.require_fields(request)
    check_promises(request, current, capabilities, context.limits.calling_hours)
    write = Write(
        context,
        Operation.APPEND,
        request,
        current,
        seen=seen,
        known_as=await anyio.to_thread.run_sync(_known_as, batch_call_id, asked),
    )

    async def already() -> Result | None:
        if tasks:
            return None
        return Result(
            result="nothing_to_do",
            summary=f"Nobody is added to {batch_call_id}.{skipped_rows_words(recipients)} Nothing was sent.",
            next=context.next_of(current),
            batch_call=current,
            skipped_rows=recipients.skipped_rows,
        )

    async def people() -> People:
        _check_length(context, current, total + len(tasks))
        return People(
            tasks=tasks,
            joined=before,
            skipped_rows=recipients.skipped_rows,
            rows_read=recipients.rows_read,
            warnings=(*recipients.notes, *dropped, *_may_be_there(hidden)),
            notes=(*_waits_for_a_resume(current), *recipients.remarks),
            changes=[f"{counted(len(tasks), 'person', 'people')} added to the {total:,} of this batch call"],
        )

    async def report(after: BatchCall, judged: Judged) -> Result:
        return Result(
            result="added",
            summary=_summary(after, len(judged.request.tasks or ()), recipients),
            next=context.next_of(after),
            batch_call=after,
            preflight=judged.preflight if judged.preflight.starts else None,
            changed={"tasks": (current.counts.total, after.counts.total)},
            notes=(*recipients.notes, *dropped, *recipients.remarks),
        )

    return await write.run(
        already=already,
        people=people,
        send=lambda judged, ticket: context.backend.append(current, judged.request.tasks or (), ticket.backend_key),
        report=report,
        did=_added,
    )


async def _sent_before(context: CallContext, current: BatchCall) -> int | None:
    """How many people were sent to it from here, where the backend does not count them."""
    ledger = await context.open_ledger()
    find = ledger.history.listed_total
    return await anyio.to_thread.run_sync(find, context.backend_address, current.batch_call_id)


def _may_be_there(hidden: str) -> list[str]:
    return [f"{hidden} Somebody who is added may be in it already, and be called twice."] if hidden else []


def _numbers(tasks: Iterable[CallTask]) -> frozenset[str]:
    return frozenset(comparable(task.to_number) for task in tasks)


def _known_as(batch_call_id: str, asked: Iterable[CallTask]) -> str:
    """By all whom it asks for, in any order: when it is repeated, fewer of them are new."""
    in_order = tuple(sorted(asked, key=attrgetter("to_number")))
    return fingerprint(Operation.APPEND, BatchCallRequest(tasks=in_order), batch_call_id)


def _waits_for_a_resume(current: BatchCall) -> list[str]:
    if current.first is None:
        return []
    first = "person" if current.first == 1 else f"{current.first:,} people"
    return [f"It pauses after its first {first}: who is added may wait until somebody resumes it."]


def _added(found: BatchCall) -> tuple[ResultWord, str]:
    return "added", f"added these people to {found.batch_call_id}"


def _check_length(context: CallContext, current: BatchCall, total: int) -> None:
    """Many small additions are one large list: limits count all of it, except while it is a draft, which dials nobody.

    Raises:
        InvalidInput: nothing was sent.
    """
    most, allowed = context.backend.capabilities.limits.tasks, context.limits.max_calls_per_launch
    limits = [(most, f"the {most} that one batch call of {context.backend.name} takes")]
    if current.status is not BatchStatus.DRAFT:
        limits.append((allowed, f"BATCHCALL_MAX_CALLS_PER_LAUNCH={allowed}"))
    for limit, words in limits:
        if limit is not None and total > limit:
            raise InvalidInput(
                f"{current.batch_call_id} would have {total} people, more than {words}. Nothing was sent. Make a new "
                "batch call of these people with create_batch_call."
            )


def _summary(after: BatchCall, sent: int, recipients: Recipients) -> str:
    """What the backend says, where it says it."""
    if after.added is None:
        said = f"{counted(sent, 'person was', 'people were')} sent to be added to {after.batch_call_id}"
    else:
        said = f"Added {counted(after.added, 'person', 'people')} to {after.batch_call_id}"
    total = "" if after.counts.total is None else f", which has {after.counts.total:,} now"
    between = 0 if after.added is None else max(sent - after.added, 0)
    late = f" {counted(between, 'person was', 'people were')} added by somebody else meanwhile." if between else ""
    return f"{said}{total}.{late}{skipped_rows_words(recipients)} Its status is {after.status}."
