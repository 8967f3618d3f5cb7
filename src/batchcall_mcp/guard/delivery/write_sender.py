"""Sends one caller's writes: each is recorded before it leaves, and none of them leaves twice.

A write whose answer was lost is looked up, now and whenever the same call comes again. It is sent again only where that
cannot make a phone ring twice: a backend that keeps idempotency keys gets the same key; a draft that a complete look
at the backend does not show, twice, the second time long after the first request was over, is made again.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio
import anyio.to_thread

from batchcall_mcp.backends.base import Backend
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.clock import from_ms, utc_now
from batchcall_mcp.errors import BatchCallError, ConfigurationError, NotFound, OutcomeUnknown
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.guard.delivery.effect_evidence import is_as_left
from batchcall_mcp.guard.delivery.error_texts import changed_meanwhile, in_words, unknown
from batchcall_mcp.guard.delivery.reconciliation import Looked, Reconciler
from batchcall_mcp.guard.write_record import (
    ARRIVES_WITHIN_S,
    STOP_WAITS_S,
    STOPS,
    Entry,
    Intent,
    Overtaken,
    Shared,
    Token,
    WriteState,
)
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus
from batchcall_mcp.money import Money

if TYPE_CHECKING:
    from batchcall_mcp.guard.ledger.ledger import Ledger

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Begun: TypeAlias = Entry | Overtaken | Shared
_STOP_THREADS = anyio.CapacityLimiter(20)
_WRITE_THREADS = anyio.CapacityLimiter(20)
"""For what may wait for the ledger: the dialer in this process answers a stop in the threads of everybody else."""
_NOT_RECORDED = "That could not be recorded: the ledger cannot be written now."
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Ticket:
    """With what a request is sent: its idempotency key, and the name that was recorded for a new batch call."""

    backend_key: str
    name: str | None

    def named(self, request: BatchCallRequest) -> BatchCallRequest:
        """A request with a name, if it was given none."""
        return request if self.name is None else replace(request, name=self.name)


Send: TypeAlias = Callable[[Ticket], Awaitable[BatchCall]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOutcome:
    """What became of a write.

    `replayed`: an earlier equal call did it, this one sent nothing. `is_news`: nobody knew that before this call.
    """

    batch_call: BatchCall
    at: datetime
    replayed: bool = False
    is_news: bool = False
    note: str | None = None


class LaunchedMeanwhile(Exception):
    """Another launch that calls `people` of the same people was recorded while this one was judged.

    Nothing was sent and no answer was used up. The use case begins again, and the question names them.
    """

    def __init__(self, people: int) -> None:
        super().__init__(f"another launch of {people} of the people was recorded")
        self.people = people


@dataclass(frozen=True, slots=True)
class Resend:
    """An open write that may be sent again without danger."""

    entry: Entry
    why: str


class Sender:
    """One caller's way to the ledger and the backend.

    Args:
        ledger: shared with every other caller of the process, and other processes.
        backend: with the caller's credentials.
        audit: where outcomes are written down.
        request_timeout_s: how long one request may take; a draft is not made again before this and 30 s have passed.
        patience_s: how long to wait for an equal write that is being sent.
        max_calls_per_day: the operator's limit.
        max_cost_per_day: another one.
    """

    def __init__(
        self,
        ledger: Ledger,
        backend: Backend,
        audit: Audit,
        *,
        request_timeout_s: float,
        patience_s: float,
        max_calls_per_day: int | None = None,
        max_cost_per_day: Money | None = None,
    ) -> None:
        self._ledger = ledger
        self._backend = backend
        self._audit = audit
        self._patience_s = patience_s
        self._of_a_day: dict[str, Any] = {"max_calls_per_day": max_calls_per_day, "max_cost_per_day": max_cost_per_day}
        self._reconciler = Reconciler(ledger, backend, wait_s=request_timeout_s + ARRIVES_WITHIN_S)

    async def seen(self, backend: str, batch_call_id: str) -> int:
        """The newest entry about a batch call whose effect a read shows, to be asked for before the batch call is read.

        Not one that is being sent, nor what came after it: the read may be answered before it takes effect, and be
        judged when it is done.
        """
        newest = await anyio.to_thread.run_sync(self._ledger.history.newest_of, backend, batch_call_id)
        if newest is None:
            return 0
        under_way = await anyio.to_thread.run_sync(self._ledger.history.sending_to, backend, batch_call_id)
        in_hand = [entry.write_id for entry in under_way if await self._in_hand(entry)]
        return min([newest.write_id, *(write_id - 1 for write_id in in_hand)])

    async def earlier(self, intent: Intent, current: BatchCall | None) -> WriteOutcome | Resend | None:
        """What an equal call did before this one; waits for one that is being sent.

        Args:
            intent: what is meant now.
            current: the batch call, read after `intent.seen` was.

        Returns:
            None if this one is new; Resend if it may be sent once more in the place of the open one.

        Raises:
            OutcomeUnknown: nobody knows what became of it, and it is not safe to send it again.
            IllegalTransition: another call changed the batch call since it was read.
            InvalidInput: its idempotency key stands for another request.
        """
        while True:
            entry = await anyio.to_thread.run_sync(self._ledger.writes.first, intent)
            if entry is None:
                return await self._unchanged_since(intent, current)
            waited = await self._out_of_hand(entry)
            if waited.state is WriteState.REFUSED:
                continue
            fresh = current if waited == entry and entry.write_id <= intent.seen else None
            looked = await self._reconciler.look(waited, fresh) if waited.is_open else None
            if looked is not None and looked.entry.is_open:
                return await self._again_or_unknown(looked, intent)
            if not waited.is_equal(intent):
                if fresh is not None:  # it is settled now, and `current` shows what it did
                    if looked is not None and (still := await self._read(waited)).is_open:
                        raise unknown(replace(looked, entry=still, words=f"{looked.words} {_NOT_RECORDED}"), intent)
                    continue
                raise changed_meanwhile(waited)
            replayed = await self._replayed(looked.entry if looked else waited, intent)
            if replayed is not None:
                return replace(replayed, is_news=looked is not None)

    async def done_at(self, intent: Intent) -> datetime | None:
        """When an equal call did this, if nothing was written to the batch call since."""
        newest = await self._newest_if_equal(intent)
        return None if newest is None else from_ms(newest.at)

    async def send(
        self, intent: Intent, send: Send, *, token: Token | None = None, again: Resend | None = None
    ) -> WriteOutcome:
        """Record it, send it, record what came of it.

        Raises:
            OutcomeUnknown: it was sent, and nobody knows what came of it.
            IllegalTransition: another call changed the batch call meanwhile; nothing was sent.
            LaunchedMeanwhile: another launch calls some of its people; nothing was sent, and a person has to judge it.
            BatchCallError: the backend's no, or the guard's; nothing was changed.
        """
        writes = self._ledger.writes
        begin = (
            partial(writes.take_over, again.entry, intent, token=token, **self._of_a_day)
            if again
            else partial(writes.begin, intent, token=token, **self._of_a_day)
        )
        if intent.operation in STOPS:
            begun = await self._begun_in_time(begin)
            if begun is None:
                return await unrecorded(intent.operation, send)
        else:
            begun = await anyio.to_thread.run_sync(begin, limiter=_WRITE_THREADS)
        if isinstance(begun, Shared):
            raise LaunchedMeanwhile(begun.people)
        if not isinstance(begun, Entry):
            return await self._after(begun.by, intent)
        return await self._carry_out(begun, intent, send, again)

    async def _begun_in_time(self, begin: Callable[[], _Begun]) -> _Begun | None:
        """As `in_time`; what is recorded once nobody waits for it any more is not kept in hand."""
        came: list[_Begun] = []
        left_as: list[WriteState] = []
        handing = threading.Lock()

        def drop_what_came_late() -> None:
            for begun in came if left_as else ():
                if isinstance(begun, Entry):
                    self._ledger.writes.finish_later(begun, left_as[0])

        def record() -> _Begun:
            begun = begin()
            with handing:
                came.append(begun)
                drop_what_came_late()
            return begun

        begun, outcome = None, WriteState.REFUSED  # its caller is gone, and nothing is sent
        try:
            begun = await in_time(record)
            outcome = WriteState.UNKNOWN  # it is sent without the ledger
        finally:
            if begun is None:
                with handing:
                    left_as.append(outcome)
                    drop_what_came_late()
        return begun

    async def _carry_out(self, entry: Entry, intent: Intent, send: Send, again: Resend | None) -> WriteOutcome:
        began = anyio.current_time()
        try:
            made = await send(Ticket(entry.backend_key, entry.evidence.name))
        except OutcomeUnknown as error:
            entry = await self._finish(entry, WriteState.UNKNOWN)
            return await self._found(entry, intent, error, began)
        except BatchCallError as error:
            # A no to the second request is no word about the first, which may still be under way.
            await self._finish(entry, WriteState.UNKNOWN if again else WriteState.REFUSED)
            self._note(intent, entry, error.code, began)
            raise
        except BaseException:
            # Cancelled, or a defect: the request may be under way.
            await self._finish(entry, WriteState.UNKNOWN)
            self._note(intent, entry, "unknown", began)
            raise
        await self._finish(entry, WriteState.DONE, made)
        entry = replace(entry, batch_call_id=made.batch_call_id)
        self._note(intent, entry, "replayed" if made.replayed else "done", began)
        why = again.why if again else None
        news = made.replayed and again is not None
        return WriteOutcome(batch_call=made, at=from_ms(entry.at), replayed=made.replayed, is_news=news, note=why)

    async def _found(self, entry: Entry, intent: Intent, lost: OutcomeUnknown, began: float) -> WriteOutcome:
        """What the backend shows of a write whose answer was lost a moment ago."""
        looked = await self._reconciler.look(entry)
        self._note(intent, looked.entry, "unknown" if looked.entry.is_open else "done", began)
        if looked.entry.is_open:
            raise unknown(looked, intent, lost) from lost
        gone = BatchCall(batch_call_id=entry.batch_call_id or "", status=BatchStatus.UNKNOWN)
        note = f"The backend's answer was lost; {looked.words}"
        return WriteOutcome(batch_call=looked.batch_call or gone, at=from_ms(entry.sent_at), note=note)

    async def _after(self, winner: Entry, intent: Intent) -> WriteOutcome:
        """Another write was recorded first: its result is the answer, if it asked for the same."""
        entry = await self._out_of_hand(winner) if winner.is_equal(intent) else winner
        if entry.is_open and entry.is_equal(intent):
            looked = await self._reconciler.look(entry)
            if looked.entry.is_open:
                raise unknown(looked, intent)
            entry = looked.entry
        replayed = await self._replayed(entry, intent) if self._is_done(entry, intent) else None
        if replayed is None:
            raise changed_meanwhile(entry)
        return replayed

    @staticmethod
    def _is_done(entry: Entry, intent: Intent) -> bool:
        return entry.state is WriteState.DONE and entry.is_equal(intent)

    async def _out_of_hand(self, entry: Entry) -> Entry:
        """The entry, once nobody is sending it any more; or still being sent, when patience is at its end."""
        pause, until = _FIRST_PAUSE_S, anyio.current_time() + self._patience_s
        while await self._in_hand(entry) and anyio.current_time() < until:
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            entry = await self._read(entry)
        # Who had it in hand has recorded its outcome before letting go: after it was read here, perhaps.
        return await self._read(entry) if entry.state is WriteState.SENDING else entry

    async def _again_or_unknown(self, looked: Looked, intent: Intent) -> Resend:
        if looked.entry.is_equal(intent) and not await self._in_hand(looked.entry):
            if looked.may_be_made_again:
                return Resend(looked.entry, f"An earlier call may not have arrived; {looked.words} It was sent again.")
            if self._key_is_kept(looked.entry) and await self._backend.keeps_keys():
                why = "An earlier equal call got no answer; it was sent again with the same idempotency key."
                return Resend(looked.entry, why)
        raise unknown(looked, intent)

    def _key_is_kept(self, entry: Entry) -> bool:
        """Since it was recorded, which is before the backend can have heard of it."""
        kept = self._backend.capabilities.keys_kept
        return kept is None or utc_now() - from_ms(entry.at) < kept

    async def _replayed(self, entry: Entry, intent: Intent) -> WriteOutcome | None:
        """What the earlier one made, as it is now; None if it is gone, and this one is new."""
        self._note(intent, entry, "replayed")
        try:
            current = await self._backend.get(entry.batch_call_id or "")
        except NotFound:
            if intent.key is not None or entry.dials:
                raise NotFound(
                    f"An equal call made {entry.batch_call_id} at {in_words(entry.at)}, which is no longer there. "
                    "Nothing was sent. To do it again on purpose, give a new idempotency_key."
                ) from None
            await anyio.to_thread.run_sync(self._ledger.writes.note_gone, entry.write_id)
            return None
        changed = await anyio.to_thread.run_sync(self._ledger.history.changed_since, entry)
        note = None if changed is None else f"It was changed at {in_words(changed.at)}: check who is in it now."
        return WriteOutcome(batch_call=current, at=from_ms(entry.at), replayed=True, note=note)

    async def _unchanged_since(self, intent: Intent, current: BatchCall | None) -> WriteOutcome | None:
        """A launch that comes again while nothing else was written and the batch call is as the first one left it."""
        if current is None or not intent.dials or intent.key is not None:
            return None
        newest = await self._newest_if_equal(intent)
        if newest is None or not is_as_left(newest, current):
            return None
        self._note(intent, newest, "replayed")
        return WriteOutcome(batch_call=current, at=from_ms(newest.at), replayed=True)

    async def _newest_if_equal(self, intent: Intent) -> Entry | None:
        """The last write to the batch call, if it asked for the same and was done."""
        if intent.batch_call_id is None:
            return None
        newest = await anyio.to_thread.run_sync(self._ledger.history.newest_of, intent.backend, intent.batch_call_id)
        return newest if newest is not None and self._is_done(newest, intent) else None

    async def _finish(self, entry: Entry, state: WriteState, made: BatchCall | None = None) -> Entry:
        """Record the outcome, also of a cancelled call. If that fails it stays open until it can be recorded."""
        writes, recorded = self._ledger.writes, None
        batch_call_id, status = (made.batch_call_id, str(made.status)) if made else (None, None)
        record = partial(writes.finish, entry.write_id, state, batch_call_id=batch_call_id, status=status, sent=entry)
        try:
            with anyio.CancelScope(shield=True):
                if entry.operation in STOPS:
                    recorded = await in_time(partial(record, wait_s=STOP_WAITS_S))
                else:
                    recorded = await anyio.to_thread.run_sync(record, limiter=_WRITE_THREADS)
        except ConfigurationError as error:
            logger.warning("The outcome of ledger entry %d could not be recorded: %s", entry.write_id, error)
        finally:
            if recorded is None:
                writes.finish_later(entry, state, batch_call_id=batch_call_id, status=status)
        return recorded or entry

    async def _in_hand(self, entry: Entry) -> bool:
        return await anyio.to_thread.run_sync(self._ledger.writes.is_in_hand, entry)

    async def _read(self, entry: Entry) -> Entry:
        return await anyio.to_thread.run_sync(self._ledger.writes.entry, entry.write_id) or entry

    def _note(self, intent: Intent, entry: Entry, outcome: str, began: float | None = None) -> None:
        self._audit.note(
            Event(
                event="write",
                caller=intent.caller,
                tool=intent.tool,
                operation=str(intent.operation),
                backend=self._backend.name,
                batch_call_id=entry.batch_call_id,
                calls=intent.calls,
                max_dials=intent.max_dials,
                outcome=outcome,
                seconds=None if began is None else round(anyio.current_time() - began, 3),
                write_id=entry.write_id,
            )
        )


async def in_time(work: Callable[[], _T]) -> _T | None:
    """What a stop asks of the ledger; None if the ledger cannot be used, or not soon: phones ring meanwhile."""
    with anyio.move_on_after(STOP_WAITS_S + 1):
        try:
            # In threads of its own: those of launches may all be waiting for the same database.
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=_STOP_THREADS)
        except ConfigurationError as error:
            logger.warning("A stop goes on without the ledger: %s", error)
            return None
    logger.warning("A stop goes on without the ledger, which did not answer in time")
    return None


async def unrecorded(operation: Operation, send: Send) -> WriteOutcome:
    """A phone that must be stopped is not held up by a ledger that cannot be used."""
    made = await send(Ticket(f"{operation}-{secrets.token_hex(16)}", None))
    note = "The ledger could not be used: this is not recorded in it."
    return WriteOutcome(batch_call=made, at=utc_now(), note=note)
