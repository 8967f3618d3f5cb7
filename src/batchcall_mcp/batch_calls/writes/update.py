"""update_batch_call: changes only what is given, in one write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from functools import partial
from typing import Any, Final

import anyio.to_thread

from batchcall_mcp.backends.base import Never, Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.recipient_source import (
    ListSource,
    callable_tasks,
    fit_fields,
    read_source,
    skipped_rows_words,
)
from batchcall_mcp.batch_calls.writes.create import caller_number
from batchcall_mcp.batch_calls.writes.results import Result, noted, replayed, waiting
from batchcall_mcp.batch_calls.writes.write import Write
from batchcall_mcp.errors import InvalidInput, NotSupported
from batchcall_mcp.guard.preflight.changes import ListChange, moved, not_shown, not_taken, setting_changes
from batchcall_mcp.guard.preflight.humanize import day_and_minute
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus
from batchcall_mcp.recipients.validation import Recipients

_MOST_COMPARED: Final = 20_000
"""People of a list that is read only to say what an update changes of it."""


async def update(context: CallContext, batch_call_id: str, request: BatchCallRequest, source: ListSource) -> Result:
    """Change a batch call. What its new time fields would launch is confirmed first.

    Raises:
        InvalidInput: nothing given, or fields that contradict each other; nothing was sent.
        NotSupported: the backend cannot change one of the fields; nothing was sent.
    """
    context.require(Operation.UPDATE)
    context.guard.check_mode(Operation.UPDATE, Never())
    _check_schedule(request)
    if request.from_number is not None:
        request = replace(request, from_number=caller_number(context, request.from_number))
    current = await context.look(batch_call_id)
    recipients: Recipients | None = None
    notes: tuple[str, ...] = ()
    if source.given:
        recipients = await read_source(context, source, request.from_number or current.from_number)
        capabilities = context.backend.capabilities
        tasks = callable_tasks(recipients, capabilities, context.backend.name, source.rows)
        tasks, dropped = fit_fields(tasks, capabilities, from_file=source.tasks_file is not None)
        notes = (*recipients.notes, *dropped)
        request = replace(request, tasks=tasks)
    given = _given(request)
    if not given:
        raise InvalidInput("Nothing to change was given. Nothing was sent. Name at least one field.")
    fixed = sorted(set(given) - context.backend.capabilities.update_fields)
    if fixed:
        raise NotSupported(
            f"{context.backend.name} cannot change {', '.join(fixed)} of a batch call that exists. Nothing was sent. "
            "Make a new one with create_batch_call and delete or cancel this one."
        )
    context.require_fields(request)

    write = Write(context, Operation.UPDATE, request, current)
    earlier = await write.earlier()
    if earlier is not None:
        return replayed(earlier, "updated", f"updated {batch_call_id}")
    context.backend.check_state(Operation.UPDATE, request, current)
    whole = request.tasks if request.tasks is not None else await _list_if_it_dials(context, request, current)
    replaced = await _list_change(context, request, current)
    skipped_rows = recipients.skipped_rows if recipients else ()
    asked = [*replaced.words, *setting_changes(request, current), *moved(request, current)]
    rows_read = recipients.rows_read if recipients else None
    found, needed = await write.admit(whole, skipped_rows, rows_read, notes, changes=asked)
    if needed:
        return waiting(needed, found, context.tool, current, skipped_rows)
    if write.overtaken:
        return replayed(write.overtaken, "updated", f"updated {batch_call_id}")
    sent = await write.send(lambda ticket: context.backend.update(current, write.request, ticket.backend_key))
    updated = sent.batch_call
    changed = _changed(given, current, updated, replaced)
    told = _summary(write.request, current, updated, replaced)
    return Result(
        result="updated",
        summary=told + (skipped_rows_words(recipients) if recipients else ""),
        next=f"get_batch_call with batch_call_id={batch_call_id}.",
        batch_call=updated,
        preflight=found if found.starts else None,
        skipped_rows=(*skipped_rows, *write.skipped_rows),
        changed=changed,
        replayed=sent.replayed,
        notes=(*notes, *noted(write.skipped_note, sent.note)),
    )


def _check_schedule(request: BatchCallRequest) -> None:
    if request.status is BatchStatus.DRAFT and request.send_now:
        raise InvalidInput("status=draft and send_now=true contradict each other. Nothing was sent.")
    if request.status is BatchStatus.DRAFT and request.trigger_at is not None:
        raise InvalidInput(
            "status=draft and trigger_timestamp contradict each other: a draft has no time. Nothing was sent."
        )
    if request.send_now and request.trigger_at is not None:
        raise InvalidInput("send_now=true and trigger_timestamp contradict each other. Nothing was sent. Give one.")


def _given(request: BatchCallRequest) -> list[str]:
    return [field.name for field in fields(request) if getattr(request, field.name) is not None]


async def _list_if_it_dials(context: CallContext, request: BatchCallRequest, current: BatchCall) -> Any:
    if isinstance(context.backend.dials(Operation.UPDATE, request, current), Never):
        return ()
    return await context.tasks_or_none(current)


async def _list_change(context: CallContext, request: BatchCallRequest, current: BatchCall) -> ListChange:
    """How the list differs from the one that the backend holds, which is read for this once."""
    if request.tasks is None:
        return ListChange()
    total = current.counts.total
    if total is not None and total > _MOST_COMPARED:
        return ListChange.unread(request.tasks, f"the {total} people that it held before were not compared")
    before = await context.tasks_or_none(current)
    if before is None or (total is not None and len(before) < total):
        return ListChange.unread(request.tasks, "what it held before could not be read")
    compare = partial(ListChange.of, before, request.tasks, context.backend.capabilities)
    return await anyio.to_thread.run_sync(compare)


def _changed(
    given: Iterable[str], before: BatchCall, after: BatchCall, replaced: ListChange
) -> dict[str, tuple[Any, Any]]:
    """Before and after of each field that was given: after as the backend answered, where it answers it."""
    changed: dict[str, tuple[Any, Any]] = {}
    for name in given:
        if name == "tasks":
            changed[name] = (before.counts.total, after.counts.total)
        elif name == "trigger_at":
            changed["trigger_timestamp"] = (before.scheduled_at, after.scheduled_at)
        elif name == "send_now":
            changed.setdefault("status", (before.status, after.status))
        else:
            changed[name] = (getattr(before, name, None), getattr(after, name, None))
    # Other people may be as many.
    return {name: pair for name, pair in changed.items() if pair[0] != pair[1] or (name == "tasks" and replaced.words)}


def _summary(request: BatchCallRequest, before: BatchCall, after: BatchCall, replaced: ListChange) -> str:
    """What differs now, and what the backend does not show: that a change was taken is not that it was made."""
    differs = [*replaced.words, *setting_changes(request, before, after)]
    if request.trigger_at is not None and before.scheduled_at != after.scheduled_at is not None:
        instead = "" if before.scheduled_at is None else f" instead of {day_and_minute(before.scheduled_at)}"
        differs.append(f"time {day_and_minute(after.scheduled_at)}{instead}")
    if before.status != after.status:
        differs.append(f"status {after.status} instead of {before.status}")
    unshown = not_shown(request, after)
    kept = not_taken(request, before, after)
    said = [f"Updated {after.batch_call_id}: {'; '.join(differs)}."] if differs else []
    if not said:
        what = "the backend took it" if unshown else "the backend shows no difference"
        said.append(f"Updated {after.batch_call_id}: {what}.")
    if unshown:
        said.append(f"The backend does not show: {', '.join(unshown)}.")
    if kept:
        said.append(f"The backend still shows the old value of: {', '.join(kept)}.")
    sent = None if request.tasks is None else len(request.tasks)
    if sent is not None and after.counts.total not in {None, sent}:
        said.append(f"{sent} people were sent, and the backend counts {after.counts.total}.")
    return " ".join([*said, f"Its status is {after.status}."])
