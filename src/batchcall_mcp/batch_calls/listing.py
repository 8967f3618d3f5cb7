"""Batch calls, newest first: as the backend lists them, where it cannot, those that the ledger knows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import anyio
import anyio.to_thread

from batchcall_mcp.backends.base import completed_by, matches
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.clock import from_ms
from batchcall_mcp.errors import BatchCallError, ConfigurationError, InvalidInput, NotFound
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.guard.write_record import Entry
from batchcall_mcp.model import BatchCall, BatchCallPage, BatchStatus, Counts, ListQuery

_MOST_READ: Final = 100
"""Of one page: a filter that finds nobody ends, and says where to go on."""
_AT_ONCE: Final = 4
_MOST_NAMED: Final = 5
_LONGEST_CURSOR: Final = 18
"""Digits: a database holds no larger number."""


def lists(context: CallContext) -> bool:
    """Whether the backend lists the batch calls of the account itself."""
    return Operation.LIST in context.backend.capabilities.operations


async def batch_calls(context: CallContext, query: ListQuery) -> BatchCallPage:
    """One page.

    Raises:
        InvalidInput: the cursor is not one of ours.
        ConfigurationError: the ledger is needed, and cannot be opened.
    """
    return await (context.backend.list(query) if lists(context) else _made_here(context, query))


def only_known(context: CallContext) -> str:
    """A sentence about what a list of these does not show; empty where it shows all."""
    if lists(context):
        return ""
    return f"{context.backend.name} cannot list batch calls: only those made from here with this key are known."


async def without_an_answer(context: CallContext) -> str:
    """A sentence about creates of this caller that may have been made and that no list shows, or nothing."""
    if lists(context):
        return ""
    ledger = await context.open_ledger()
    caller, sent = ledger.hashed(context.caller), ledger.history.open_creates
    lost = [one for one in await anyio.to_thread.run_sync(sent, context.backend_address) if one.caller == caller]
    if not lost:
        return ""
    which = ", ".join(str(one.write_id) for one in lost[:_MOST_NAMED])
    return (
        f"{counted(len(lost), 'create')} got no answer, and may have been made: ledger entry {which}. "
        f"Look at {context.backend.name}'s own page."
    )


async def with_what_is_recorded(context: CallContext, found: BatchCall) -> BatchCall:
    """Where the backend lists nothing, it may say little of one that waits, too: with what was sent from here.

    How it stands stays as the backend says it.
    """
    if lists(context) or found.status is not BatchStatus.UNKNOWN:
        return found
    made: Sequence[Entry] = ()
    with suppress(ConfigurationError):  # what the backend says is worth reading without it
        ledger = await context.open_ledger()
        mine = partial(ledger.history.made_by, context.backend_address, ledger.hashed(context.caller), limit=1)
        made = await anyio.to_thread.run_sync(partial(mine, batch_call_id=found.batch_call_id))
    if not made:
        return found
    recorded = _as_recorded(made[0])
    note = "Its time and number of tasks are as they were sent from here."
    shown = completed_by(found, replace(recorded, notes=()))
    return replace(shown, backend_status=found.backend_status, notes=(*found.notes, note))


async def _made_here(context: CallContext, query: ListQuery) -> BatchCallPage:
    """Of what this caller made at this backend: each read, where the backend can be asked, else as it was recorded."""
    before = _entry_of(query.cursor)
    ledger = await context.open_ledger()
    caller = ledger.hashed(context.caller)
    made = await anyio.to_thread.run_sync(
        partial(ledger.history.made_by, context.backend_address, caller, before=before, limit=_MOST_READ + 1)
    )
    found: list[BatchCall] = []
    notes: dict[str, None] = {}
    for first in range(0, min(len(made), _MOST_READ), _AT_ONCE):
        part = made[first : min(first + _AT_ONCE, _MOST_READ)]
        for entry, one in zip(part, await _read(context, part), strict=True):
            if one.batch_call is not None and matches(one.batch_call, query):
                found.append(one.batch_call)
            notes |= dict.fromkeys(one.notes)
            before = entry.write_id
            if len(found) == query.limit:
                last = entry is made[-1]
                return BatchCallPage(tuple(found), None if last else str(before), tuple(notes))
    more = len(made) > _MOST_READ
    return BatchCallPage(tuple(found), str(before) if more else None, tuple(notes))


async def launched_here(context: CallContext) -> BatchCallPage:
    """What this caller launched at this backend and is not known to be over, newest first, on one page.

    What is over is remembered so: many that are over are not read before every launch.
    """
    ledger, read_at = await context.open_ledger(), context.clock()
    caller = ledger.hashed(context.caller)
    launched = await anyio.to_thread.run_sync(ledger.history.launched)
    mine = [one for one in reversed(launched) if (one.backend, one.caller) == (context.backend_address, caller)]
    found: list[BatchCall] = []
    notes: dict[str, None] = {}
    for first in range(0, len(mine), _AT_ONCE):
        for one in await _read(context, mine[first : first + _AT_ONCE]):
            notes |= dict.fromkeys(one.notes)
            if one.batch_call is not None:
                found.append(one.batch_call)
                await context.note_over(one.batch_call, read_at)
    return BatchCallPage(tuple(found), None, tuple(notes))


def _entry_of(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not cursor.isdecimal() or len(cursor) > _LONGEST_CURSOR:
        raise InvalidInput("cursor: pass next_cursor as the last answer gave it, or omit it. Nothing was changed.")
    return int(cursor)


@dataclass(frozen=True, slots=True)
class _Read:
    """One of them; None if the backend says that it is gone."""

    batch_call: BatchCall | None
    notes: tuple[str, ...] = ()


async def _read(context: CallContext, entries: Sequence[Entry]) -> list[_Read]:
    found = [_Read(None)] * len(entries)

    async def read(at: int, entry: Entry) -> None:
        found[at] = await _one(context, entry)

    async with anyio.create_task_group() as group:
        for at, entry in enumerate(entries):
            group.start_soon(read, at, entry)
    return found


async def _one(context: CallContext, entry: Entry) -> _Read:
    if Operation.GET not in context.backend.capabilities.operations:
        return _Read(_as_recorded(entry))
    try:
        found = await context.backend.get(entry.batch_call_id or "")
        return _Read(replace(found, created_at=found.created_at or from_ms(entry.at)))
    except NotFound:
        return _Read(None)
    except BatchCallError as error:
        why = f"{entry.batch_call_id} could not be read and is shown as it was recorded: {error.message}"
        return _Read(_as_recorded(entry), (why,))


def _as_recorded(entry: Entry) -> BatchCall:
    """What is known of it without the backend. How it stands now is not."""
    evidence, at = entry.evidence, from_ms(entry.at)
    was = f"{entry.status or 'made'} at {at:%Y-%m-%d %H:%M UTC}, as recorded here"
    return BatchCall(
        batch_call_id=entry.batch_call_id or "",
        status=BatchStatus.UNKNOWN,
        backend_status=was,
        name=evidence.name,
        created_at=at,
        scheduled_at=None if evidence.trigger_at is None else from_ms(evidence.trigger_at),
        retry_of=evidence.retry_of,
        test_of=evidence.test_of,
        counts=Counts(total=evidence.total),
    )
