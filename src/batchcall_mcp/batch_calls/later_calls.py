"""Whom later batch calls have called since: the retries of a batch call, and what `tasks_from` made of its people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

import anyio.to_thread

from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.listing import batch_calls, only_known
from batchcall_mcp.errors import BatchCallError, ConfigurationError, NotFound
from batchcall_mcp.model import FINISHED, BatchCall, BatchStatus, CallTask, ListQuery, TaskStatus
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.text import identifier

_CHAIN_PAGES: Final = 5
_MOST_GENERATIONS: Final = 20
BEING_CALLED: Final = frozenset(
    {TaskStatus.COMPLETED, TaskStatus.PLACED, TaskStatus.CALLING, TaskStatus.PENDING, TaskStatus.UNKNOWN, None}
)
"""Who was reached, will be called, or may have been reached."""


def called_by_itself(everybody: Iterable[CallTask]) -> dict[str, str]:
    """Numbers, as `comparable` has them, that one task of a list has reached or will call, for its other tasks. Pure.

    Somebody may be in a list twice: who was reached by one of the calls is not called again for the other.
    """
    return {
        comparable(task.to_number): "reached, or about to be called, by this same batch call"
        for task in everybody
        if task.status in BEING_CALLED
    }


def waits_for_redial(task: CallTask, batch_call: BatchCall) -> bool:
    """Whether the batch call may dial this person again by itself: its retry policy is not used up. Pure."""
    policy = batch_call.retry
    if policy is None or batch_call.status in FINISHED or task.status not in policy.on:
        return False
    most = policy.max_retries if task.max_retries is None else task.max_retries
    return task.attempts is None or task.attempts <= most


async def later_calls(
    context: CallContext, current: BatchCall, people: Iterable[CallTask]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Numbers, as `comparable` has them, that a later batch call of the chain has reached or will call, and which.

    One that is not over and shows only who was dialled may call any of the `people`.
    """
    later: dict[str, str] = {}
    known = only_known(context)
    try:
        for member in await _later_of_chain(context, current):
            if await _hides_people(context, member):
                may = f"may be called by {identifier(member.batch_call_id)}, which does not list them yet"
                later |= dict.fromkeys(await _may_call(context, member, people), may)
            async for task in context.every_task(member):
                redialled = waits_for_redial(task, member)
                if task.status in BEING_CALLED or redialled:
                    waits = redialled or task.status is TaskStatus.PENDING
                    how = "waits to be called by" if waits else "called again since, by"
                    later[comparable(task.to_number)] = f"{how} {identifier(member.batch_call_id)}"
    except BatchCallError as error:
        return later, (f"Later batch calls could not be read, so they were not counted: {error.message}",)
    return later, (f"{known} Whether others called these people again is not known.",) if known else ()


async def _may_call(context: CallContext, member: BatchCall, people: Iterable[CallTask]) -> list[str]:
    """Those of the people whom it was launched for from here; all of them, where that is not known."""
    numbers = [comparable(task.to_number) for task in people]
    try:
        ledger = await context.open_ledger()
    except ConfigurationError:
        return numbers
    history, total = ledger.history, member.counts.total
    called = await anyio.to_thread.run_sync(history.called_by, context.backend_address, member.batch_call_id, total)
    return numbers if called is None else list(await anyio.to_thread.run_sync(history.found_in, called, numbers))


async def _hides_people(context: CallContext, member: BatchCall) -> bool:
    """Whether it may still call people whom it does not show."""
    if context.backend.capabilities.tasks_reported == "all" or member.status in FINISHED:
        return False
    shown = 0
    async for _ in context.every_task(member):
        shown += 1
    return member.counts.total is None or shown < member.counts.total


async def _later_of_chain(context: CallContext, current: BatchCall) -> list[BatchCall]:
    """What was made after `current` of the same first list: of its people, and of those of what it was made of."""
    eldest, chain = await _upwards(context, current)
    seen = await _with_the_ledgers_word(context, await _made_since(context, eldest.created_at))
    members: list[BatchCall] = []
    grown = True
    while grown:  # a retry of a retry belongs to the chain too, in any order of the backend's list
        found = [one for one in seen if one.retry_of in chain and one.batch_call_id not in chain]
        chain.update(one.batch_call_id for one in found)
        members += found
        grown = bool(found)
    return [
        one
        for one in members
        if (one.status is not BatchStatus.CANCELLED or one.counts.total != 0)
        and (current.created_at is None or one.created_at is None or one.created_at >= current.created_at)
    ]


async def _with_the_ledgers_word(context: CallContext, seen: list[BatchCall]) -> list[BatchCall]:
    """What the ledger alone knows: whose people `tasks_from` took; and `retry_of`, where it stood in another name."""
    try:
        ledger = await context.open_ledger()
    except ConfigurationError:
        return seen
    ids = [one.batch_call_id for one in seen]
    known = await anyio.to_thread.run_sync(ledger.history.made_of, context.backend_address, ids)
    return [replace(one, retry_of=one.retry_of or known.get(one.batch_call_id)) for one in seen]


async def _upwards(context: CallContext, current: BatchCall) -> tuple[BatchCall, set[str]]:
    """The first of the chain that can be read, and the ids from `current` up to it."""
    (eldest,) = await _with_the_ledgers_word(context, [current])
    ids = {current.batch_call_id}
    while eldest.retry_of is not None and eldest.retry_of not in ids and len(ids) < _MOST_GENERATIONS:
        ids.add(eldest.retry_of)
        try:
            (eldest,) = await _with_the_ledgers_word(context, [await context.backend.get(eldest.retry_of)])
        except NotFound:
            break  # deleted; its other retries still name it
    return eldest, ids


async def _made_since(context: CallContext, moment: datetime | None) -> list[BatchCall]:
    seen: list[BatchCall] = []
    cursor: str | None = None
    for _ in range(_CHAIN_PAGES):
        page = await batch_calls(context, ListQuery(created_after=moment, limit=100, cursor=cursor))
        seen += page.batch_calls
        cursor = page.next_cursor
        if cursor is None:
            return seen
    raise BatchCallError(f"more than {len(seen)} batch calls were made since")
