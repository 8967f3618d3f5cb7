"""update_batch_call: changes only what is given, in one write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, Final

import anyio.to_thread

from batchcall_mcp.backends.base import Never, ReadTasks
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.recipient_source import ListSource, read_callable, skipped_rows_words
from batchcall_mcp.batch_calls.writes.create import caller_number
from batchcall_mcp.batch_calls.writes.results import Result
from batchcall_mcp.batch_calls.writes.write import Judged, People, Write
from batchcall_mcp.errors import InvalidInput, NotSupported
from batchcall_mcp.guard.preflight.changes import (
    end_change,
    list_change,
    moved,
    not_shown,
    not_taken,
    scheduled_words,
    setting_changes,
)
from batchcall_mcp.guard.preflight.dates import check_promises
from batchcall_mcp.guard.preflight.humanize import counted
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
    _check_schedule(request)
    source.check_given()
    if request.from_number is not None:
        request = replace(request, from_number=caller_number(context, request.from_number))
    current, read, seen = await context.look(batch_call_id)
    recipients: Recipients | None = None
    notes: tuple[str, ...] = ()
    if source.given:
        from_number = request.from_number or current.from_number
        recipients, tasks, notes = await read_callable(context, source, from_number)
        request = replace(request, tasks=tasks)
    given = _given(request)
    if not given:
        raise InvalidInput("No change was given. Nothing was sent. Name at least one field.")
    fixed = sorted(set(given) - context.backend.capabilities.update_fields)
    if fixed:
        raise NotSupported(
            f"{context.backend.name} cannot change {', '.join(fixed)} of a batch call that exists. Nothing was sent. "
            "Make a new one with create_batch_call and delete or cancel this one."
        )
    context.require_fields(request)
    check_promises(request, current, context.backend.capabilities, context.limits.calling_hours)

    async def people() -> People:
        dials = context.backend.dials(Operation.UPDATE, request, current)
        is_read = request.tasks is None and not isinstance(dials, Never)
        stored = await context.tasks_or_none(current, read) if is_read else ()
        return People(
            tasks=stored if request.tasks is None else request.tasks,
            skipped_rows=recipients.skipped_rows if recipients else (),
            rows_read=recipients.rows_read if recipients else None,
            warnings=notes,
            notes=recipients.remarks if recipients else (),
            replaced=await _list_change(context, request, current, read),
            changes=[*setting_changes(request, current), *moved(request, current), *end_change(request, current)],
        )

    async def report(updated: BatchCall, judged: Judged) -> Result:
        replaced = judged.people.replaced
        return Result(
            result="updated",
            summary=_summary(judged.request, current, updated, replaced)
            + (skipped_rows_words(recipients) if recipients else ""),
            next=context.next_of(updated),
            batch_call=updated,
            preflight=judged.preflight if judged.preflight.starts else None,
            changed=_changed(given, current, updated, replaced),
            notes=(*notes, *(recipients.remarks if recipients else ())),
        )

    return await Write(context, Operation.UPDATE, request, current, seen=seen).run(
        people=people,
        send=lambda judged, ticket: context.backend.update(current, judged.request, ticket.backend_key),
        report=report,
    )


def _check_schedule(request: BatchCallRequest) -> None:
    if request.status is BatchStatus.DRAFT and request.send_now:
        raise InvalidInput("status=draft and send_now=true contradict each other. Nothing was sent.")
    timed = request.trigger_at is not None or request.trigger_on is not None
    if request.status is BatchStatus.DRAFT and timed:
        raise InvalidInput(
            "status=draft and trigger_timestamp contradict each other: a draft has no time. Nothing was sent."
        )
    if request.send_now and timed:
        raise InvalidInput("send_now=true and trigger_timestamp contradict each other. Nothing was sent. Give one.")


def _given(request: BatchCallRequest) -> list[str]:
    return [field.name for field in fields(request) if getattr(request, field.name) is not None]


async def _list_change(
    context: CallContext, request: BatchCallRequest, current: BatchCall, read: ReadTasks
) -> str | None:
    """How the list differs from the one that the backend holds, which is read for this once; None: not at all."""
    if request.tasks is None:
        return None
    total = current.counts.total
    replaced = f"the list is replaced by {counted(len(request.tasks), 'person', 'people')}"
    if total is not None and total > _MOST_COMPARED:
        return f"{replaced} (the {total} people that it held before were not compared)"
    before = await context.tasks_or_none(current, read)
    if before is None or (total is not None and len(before) < total):
        return f"{replaced} (what it held before could not be read)"
    return await anyio.to_thread.run_sync(list_change, before, request.tasks, context.backend.capabilities)


def _changed(
    given: Iterable[str], before: BatchCall, after: BatchCall, replaced: str | None
) -> dict[str, tuple[Any, Any]]:
    """Before and after of each field that was given: after as the backend answered, where it answers it."""
    changed: dict[str, tuple[Any, Any]] = {}
    for name in given:
        if name == "tasks":
            changed[name] = (before.counts.total, after.counts.total)
        elif name == "trigger_at":
            changed["trigger_timestamp"] = (before.scheduled_at, after.scheduled_at)
        elif name == "trigger_on":
            changed["trigger_timestamp"] = (before.scheduled_on or before.scheduled_at, after.scheduled_on)
        elif name in {"ends_at", "ends_on"}:
            changed["ends_at"] = (before.expires_on or before.expires_at, after.expires_on or after.expires_at)
        elif name == "send_now":
            changed.setdefault("status", (before.status, after.status))
        else:
            changed[name] = (getattr(before, name, None), getattr(after, name, None))
    # Other people may be as many.
    return {name: pair for name, pair in changed.items() if pair[0] != pair[1] or (name == "tasks" and replaced)}


def _summary(request: BatchCallRequest, before: BatchCall, after: BatchCall, replaced: str | None) -> str:
    """What differs now, and what the backend does not show: that a change was taken is not that it was made."""
    differs = [*([replaced] if replaced else ()), *setting_changes(request, before, after)]
    timed = request.trigger_at is not None or request.trigger_on is not None
    was, is_now = scheduled_words(before), scheduled_words(after)
    if timed and is_now is not None and was != is_now:
        differs.append(f"time {is_now}" + ("" if was is None else f" instead of {was}"))
    differs += end_change(request, before)
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
