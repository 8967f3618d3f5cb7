"""Looks at the backend for what became of a write, and records what is shown."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from batchcall_mcp.backends.base import Backend, FindsCreated
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.task_reading import every_task
from batchcall_mcp.errors import BatchCallError, ConfigurationError, NotFound
from batchcall_mcp.guard.delivery.effect_evidence import is_like_it, is_made_by, is_older, took_effect
from batchcall_mcp.guard.fingerprints import people_digest
from batchcall_mcp.guard.write_record import Entry, WriteState
from batchcall_mcp.model import BatchCall, ListQuery
from batchcall_mcp.recipients.phone.numbers import comparable

if TYPE_CHECKING:
    from batchcall_mcp.guard.ledger.ledger import Ledger

logger = logging.getLogger(__name__)

LONGEST_LOOK_S = 10
_PAGE = 100
_MOST_PAGES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look found. `words` say it to a person; `may_be_made_again`: only of a draft that is absent for good."""

    entry: Entry
    words: str
    batch_call: BatchCall | None = None
    may_be_made_again: bool = False
    is_nowhere: bool = False
    """There is no place to look for it."""
    again_in_s: float = 0
    """How long until a draft may be believed absent."""


class Reconciler:
    """Sees with one caller's credentials. `wait_s`: how long after it was sent a draft may be believed absent."""

    def __init__(self, ledger: Ledger, backend: Backend, *, wait_s: float) -> None:
        self._ledger = ledger
        self._backend = backend
        self._wait_s = wait_s

    async def look(self, entry: Entry, current: BatchCall | None = None) -> Looked:
        """Settle an open entry if the backend shows that it took effect. One that cannot be read shows nothing.

        `current` is the batch call if it was read after the write was sent. A look has a limit of its own: after a
        write that ran into its time-out the client's patience is nearly at its end.
        """
        with anyio.move_on_after(LONGEST_LOOK_S):
            return await self._look(entry, current)
        return Looked(entry=entry, words=f"It could not be looked up within {LONGEST_LOOK_S} s.")

    async def _look(self, entry: Entry, current: BatchCall | None) -> Looked:
        if entry.batch_call_id is None:
            return await self._for_a_new_one(entry, self._backend)
        try:
            if current is None:
                current = await self._backend.get(entry.batch_call_id)
        except NotFound:
            if entry.operation is Operation.DELETE:
                return await self._shown(entry, entry.batch_call_id, None, "it is no longer there.")
            return Looked(entry=entry, words=f"{entry.batch_call_id} is not there at {_now()}.")
        except BatchCallError as error:
            return Looked(entry=entry, words=f"It could not be looked up ({error.code}).")
        if took_effect(entry, current) and (
            entry.operation is not Operation.APPEND or await self._has_added(entry, current)
        ):
            return await self._shown(entry, current.batch_call_id, current, f"it is {current.status} at {_now()}.")
        return Looked(entry=entry, words=f"{entry.batch_call_id} is {current.status} at {_now()}.", batch_call=current)

    async def _has_added(self, entry: Entry, current: BatchCall) -> bool:
        """Whether those who follow the ones of before are the very people who were to be added.

        A list may have grown by somebody else's addition.
        """
        first, count = entry.evidence.total_before or 0, entry.evidence.total or 0
        try:
            read = [task async for task in every_task(self._backend, current)]
        except BatchCallError:
            return False
        added = [comparable(task.to_number) for task in read[first : first + count]]
        return self._ledger.hashed(people_digest(added)) == entry.evidence.people

    async def _for_a_new_one(self, entry: Entry, backend: Backend) -> Looked:
        """By what it echoes, or in its list, where it has either."""
        if isinstance(backend, FindsCreated):
            return await self._by_what_it_echoes(entry, backend)
        if Operation.LIST in backend.capabilities.operations:
            return await self._in_the_list(entry)
        words = f"{backend.name} cannot list batch calls, so it was looked up nowhere."
        return Looked(entry=entry, words=words, is_nowhere=True)

    async def _in_the_list(self, entry: Entry) -> Looked:
        try:
            found, complete = await self._candidates(entry)
            theirs = [one for one in found if await self._has_its_people(entry, one)]
        except BatchCallError as error:
            return Looked(entry=entry, words=f"The backend's list could not be read ({error.code}).")
        if len(theirs) == 1 and not await self._fits_another(entry, theirs[0]):
            made = theirs[0]
            return await self._shown(entry, made.batch_call_id, made, f"it made {made.batch_call_id}.")
        if found:
            # Perhaps it is not stored completely yet, or the numbers are written in another way there.
            ids = ", ".join(one.batch_call_id for one in (theirs or found)[:5])
            how = "have its name and people" if theirs else "have its name and size, but not its people"
            return Looked(entry=entry, words=f"Possible matches: {ids}. They {how}.")
        if not complete:
            return Looked(entry=entry, words="The backend's list is too long to be read completely.")
        words = f"The backend's list, read to its end at {_now()}, does not show it."
        left = self._wait_s - await anyio.to_thread.run_sync(self._ledger.writes.seconds_since_sent, entry)
        again = not entry.dials and entry.absent_at is not None and left <= 0
        with suppress(ConfigurationError):  # then a later look is the first one
            entry = await anyio.to_thread.run_sync(self._ledger.writes.note_absent, entry.write_id)
        return Looked(entry=entry, words=words, may_be_made_again=again, again_in_s=max(left, 0))

    async def _by_what_it_echoes(self, entry: Entry, backend: FindsCreated) -> Looked:
        try:
            made = await backend.find_created(entry.backend_key)
        except BatchCallError as error:
            return Looked(entry=entry, words=f"It could not be looked up ({error.code}).")
        if made is None:
            return Looked(entry=entry, words=f"{self._backend.name} does not show it at {_now()}.")
        # The key may be made of the caller's own word, which another machine may have used too.
        if not is_like_it(entry, made, self._ledger.hashed) or await self._known(entry, [made.batch_call_id]):
            words = f"{made.batch_call_id} was made with the same key, but is not what this call asked for."
            return Looked(entry=entry, words=words)
        return await self._shown(entry, made.batch_call_id, made, f"it made {made.batch_call_id}.")

    async def _has_its_people(self, entry: Entry, found: BatchCall) -> bool:
        """Whether a batch call of the right name and size is for these very people: a name may be given twice.

        Where the backend does not list them, a name that nobody else has, or its size and caller number, are enough.
        """
        if self._backend.capabilities.tasks_reported != "all":
            is_ours = entry.evidence.name is not None or entry.evidence.named_there
            return is_ours or (found.counts.total is not None and found.from_number is not None)
        numbers = [comparable(task.to_number) async for task in every_task(self._backend, found)]
        return self._ledger.hashed(people_digest(numbers)) == entry.evidence.people

    async def _candidates(self, entry: Entry) -> tuple[list[BatchCall], bool]:
        """Batch calls that nobody else made and that fit; and whether the list was read as far as it matters."""
        found: list[BatchCall] = []
        cursor: str | None = None
        complete = False
        for _ in range(_MOST_PAGES):
            page = await self._backend.list(ListQuery(limit=_PAGE, cursor=cursor))
            found += [one for one in page.batch_calls if is_made_by(entry, one, self._ledger.hashed)]
            cursor = page.next_cursor
            # Newest first: a whole page of older ones is followed by older ones.
            complete = cursor is None or (
                bool(page.batch_calls) and all(is_older(entry, one) for one in page.batch_calls)
            )
            if complete:
                break
        known = await self._known(entry, [one.batch_call_id for one in found])
        return [one for one in found if one.batch_call_id not in known], complete

    async def _known(self, entry: Entry, ids: list[str]) -> set[str]:
        return await anyio.to_thread.run_sync(self._ledger.history.known_ids, entry.backend, ids)

    async def _fits_another(self, entry: Entry, found: BatchCall) -> bool:
        """Whether another create without an answer may have made it too, where the backend does not list its people."""
        if self._backend.capabilities.tasks_reported == "all":
            return False
        others = await anyio.to_thread.run_sync(self._ledger.history.open_creates, entry.backend)
        return any(one.write_id != entry.write_id and is_made_by(one, found, self._ledger.hashed) for one in others)

    async def _shown(self, entry: Entry, batch_call_id: str, made: BatchCall | None, words: str) -> Looked:
        status = str(made.status) if made else None
        record = partial(
            self._ledger.writes.finish, entry.write_id, WriteState.DONE, batch_call_id=batch_call_id, status=status
        )
        try:
            with anyio.CancelScope(shield=True):
                entry = await anyio.to_thread.run_sync(record)
        except ConfigurationError as error:  # what is shown is shown; it will be looked up again
            logger.warning("The outcome of ledger entry %d could not be recorded: %s", entry.write_id, error)
            entry = replace(entry, state=WriteState.DONE, batch_call_id=batch_call_id, status=status)
        return Looked(entry=entry, words=words, batch_call=made)


def _now() -> str:
    return f"{datetime.now(UTC):%H:%M:%S UTC}"
