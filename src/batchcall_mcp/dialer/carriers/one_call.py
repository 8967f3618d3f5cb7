"""The course of one call at a vendor: asked for once, looked up if its answer is lost, read until it is over.

Nobody is asked for twice: what is not known is looked up, and `interrupted` if it is not found.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

import anyio

from batchcall_mcp.clock import Clock
from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CarrierUnavailable,
    Line,
    NoLongerWanted,
    NotCallable,
    Outcome,
)
from batchcall_mcp.dialer.carriers.reading import CallsHere, pause_before
from batchcall_mcp.dialer.carriers.vendor_api import KEY_REFUSED, LATER_S, TOO_MANY, Lost, Refused, VendorApi
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.vendor_http.client import Sleep
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.json_values import text

LOG = logging.getLogger(__name__)
LOOK_UPS: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each look for a call whose create got no answer: lists of calls lag behind."""
TURNED_AWAY: Final = (4.0, 4.0, 8.0)
"""The same after a plain 503: one look is enough, so it is a late one. A call that is missed there is placed again."""
GRACE_S: Final = 60.0
"""So much longer than it may ring and last a call is read; and so long a call that was placed may be unknown."""
_BEFORE: Final = timedelta(seconds=5)
"""A call may be dated so much before it was asked for: clocks of vendors are in whole seconds."""
_LONGEST_WORD: Final = 100


class Progress(Enum):
    """A call that is not over. `QUEUED`: the vendor has not begun to dial, and might do so much later."""

    QUEUED = "queued"
    GOING = "going"


Seen: TypeAlias = Progress | Outcome | CarrierUnavailable | AccountAtFault
"""What a look at a call shows. An exception that is returned, not raised: it is over, and nobody was rung."""


@dataclass(frozen=True, slots=True)
class _Unseen:
    """A look that showed nothing, and why. `is_unknown`: the vendor knows no such call."""

    why: str
    is_unknown: bool = False


class Vendor(Protocol):
    """Of the hooks of `HttpCarrier`, which says more of them, those that a call needs once it is written down."""

    title: str
    ring_seconds: float
    longest_call_seconds: float
    has_idempotency_key: bool
    no_such_call: frozenset[int]

    def created(self, body: Mapping[str, Any], attempt: Attempt) -> str | Outcome | None: ...

    def refused(self, no: Refused, attempt: Attempt) -> Outcome: ...

    async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]: ...

    async def look(self, call_id: str, attempt: Attempt) -> Seen: ...

    async def hang_up(self, call_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Time:
    """`clock`: seconds from any moment on; `now`: what time it is, for what a vendor has dated."""

    clock: Callable[[], float]
    sleep: Sleep
    now: Clock


@dataclass(frozen=True, slots=True)
class OneCall:
    """One attempt at one vendor. Every method ends in its outcome, and raises what `Carrier.outcome` raises.

    When it is cancelled, the call goes on.
    """

    vendor: Vendor
    api: VendorApi
    here: CallsHere
    time: Time
    attempt: Attempt
    line: Line

    async def place(self, call: HttpCall) -> Outcome:
        """Ask for it with this request."""
        since = self.time.now()
        try:
            found = await self._ask(call)
        except Lost as lost:
            LOG.warning("Attempt %s was asked for without a clear answer: %s", self.attempt.attempt_id, lost)
            found = await self._after_loss(call, since, lost)
            if isinstance(found, str):
                return await self._looked_up(found, since)
        if isinstance(found, Outcome):
            return self._harmless(found)
        return await self._placed(found, since)

    async def recover(self, since: datetime) -> Outcome:
        """A process that ended may have asked for it. While the vendor cannot be asked, it is looked up again."""
        over_at = self._over_at(since)
        pauses = iter(LOOK_UPS)
        while True:
            found = await self._found(since)
            only = self._only(found or ())
            if isinstance(only, Outcome):
                return only
            if only is not None:
                return await self._looked_up(only, since)
            pause = LATER_S if found is None else next(pauses, None)
            if pause is None or self.time.clock() > over_at:
                return _unknown(
                    f"the dialer stopped while it asked {self.vendor.title} for the call, which is not found there; "
                    "whether the phone rang is not known"
                )
            await self.time.sleep(pause)

    async def follow(self, call_id: str, since: datetime) -> Outcome:
        """Read it until it is over; it was asked for at `since`, or after that."""
        began, over_at = self._began(since), self._over_at(since)
        reads, unknown_since, is_stopped = 0, None, False
        last: Seen | _Unseen | None = None
        with self.here.following(call_id, self.attempt.attempt_id) as woken:
            while True:
                await self._pause(woken, pause_before(reads, self.time.clock() - began))
                reads += 1
                seen = await self._seen(call_id)
                now = self.time.clock()
                if isinstance(seen, Outcome):
                    return self._harmless(self._after_stop(seen) if is_stopped else seen)
                if isinstance(seen, Exception):
                    self.here.rang_nobody(call_id)
                    seen.args = (self._plain(str(seen)),)
                    raise seen
                if isinstance(seen, Progress):
                    unknown_since = None
                elif seen != last:
                    LOG.warning("The call of attempt %s cannot be read now: %s", self.attempt.attempt_id, seen.why)
                if isinstance(seen, _Unseen) and seen.is_unknown:
                    unknown_since = now if unknown_since is None else unknown_since
                    if now - unknown_since > GRACE_S:
                        return _unknown(f"{self.vendor.title} knows no such call any more; its outcome is not known")
                if now > over_at:
                    await self._stop(call_id)
                    return _unknown(f"{self.vendor.title} did not say in time how it ended; its outcome is not known")
                if seen is Progress.QUEUED and self._waited_enough(now - began):
                    is_stopped = True
                    await self._stop(call_id)
                last = seen

    # Asking for it.

    async def _ask(self, call: HttpCall) -> str | Outcome:
        """The one request: the id of the call, or what came of it.

        Raises:
            Lost: whether somebody is rung is not known.
        """
        try:
            body = await self.api.create(call, self.line, _number(self.attempt))
        except Refused as no:
            return self.vendor.refused(no, self.attempt)
        try:
            found = self.vendor.created(body, self.attempt)
        except (CarrierUnavailable, AccountAtFault, NotCallable):
            raise
        except Exception as error:
            LOG.exception("The answer to attempt %s could not be understood", self.attempt.attempt_id)
            raise Lost(f"{self.vendor.title} answered something that cannot be understood") from error
        if not found:
            raise Lost(f"{self.vendor.title} answered without the id of the call")
        return found

    async def _placed(self, call_id: str, since: datetime) -> Outcome:
        await _unbroken(self.line.placed(call_id))
        return await self.follow(call_id, since)

    # Its answer is lost.

    async def _after_loss(self, call: HttpCall, since: datetime, lost: Lost) -> str | Outcome:
        is_asked_again = self.vendor.has_idempotency_key and not lost.is_turned_away
        if is_asked_again and (again := await self._ask_again(call)) is not None:
            return again
        found = await self._look_up(since, once=lost.is_turned_away)
        if found is None and lost.is_turned_away:
            why = f"{self.vendor.title} takes no calls for the moment. {lost}"
            raise CarrierUnavailable(why, retry_after=max(lost.retry_after or 0.0, LATER_S), whole_account=True)
        return found or _unknown(f"{str(lost).rstrip('.')}; whether the phone rang is not known")

    async def _ask_again(self, call: HttpCall) -> str | None:
        """The same request with the same key: it finds the call of the first one, or places that."""
        for pause in LOOK_UPS:
            await self.time.sleep(pause)
            try:
                found = await self._ask(call)
            except (Lost, CarrierUnavailable) as error:
                LOG.warning("Attempt %s was asked for again with its key: %s", self.attempt.attempt_id, error)
            except (NoLongerWanted, AccountAtFault, NotCallable):
                return None  # that is of this request, and says nothing of the first one
            else:
                return found if isinstance(found, str) else None
        return None

    async def _look_up(self, since: datetime, *, once: bool) -> str | Outcome | None:
        """The id of the call that was asked for; an outcome, if several may be it; None: none is found.

        `once`: the first list that can be read is enough.
        """
        for pause in TURNED_AWAY if once else LOOK_UPS:
            await self.time.sleep(pause)
            found = await self._found(since)
            if found or (once and found is not None):
                return self._only(found)
        return None

    async def _looked_up(self, call_id: str, since: datetime) -> Outcome:
        """What came of a call that was found. One that rang nobody may be of an earlier try, which was withdrawn and
        left its id to this one: then the call of this one may be in the list a little later.
        """
        try:
            return await self._placed(call_id, since)
        except (CarrierUnavailable, AccountAtFault):
            later = await self._look_up(since, once=False)
            if later is None:
                raise
        return later if isinstance(later, Outcome) else await self._looked_up(later, since)

    def _only(self, found: Sequence[str]) -> str | Outcome | None:
        if len(found) > 1:
            title = self.vendor.title
            return _unknown(f"{title} has {len(found)} calls that may be this one; what came of it is not known")
        return found[0] if found else None

    async def _found(self, since: datetime) -> Sequence[str] | None:
        """The calls that may be this attempt's and are no other's; None: it could not be looked up now."""
        try:
            found = await self.vendor.find(self.attempt, since + self.api.ahead - _BEFORE)
        except CarrierUnavailable as error:
            LOG.warning("Attempt %s could not be looked up: %s", self.attempt.attempt_id, self._plain(str(error)))
            is_final = isinstance(error, Refused) and error.status not in {*KEY_REFUSED, TOO_MANY}
            return () if is_final else None
        except Exception:
            LOG.exception("Attempt %s could not be looked up", self.attempt.attempt_id)
            return None
        return self.here.not_of_others(found, self.attempt.attempt_id)

    # Following it.

    async def _seen(self, call_id: str) -> Seen | _Unseen:
        if (told := self.here.told(call_id)) is not None:
            return told
        try:
            return await self.vendor.look(call_id, self.attempt)
        except AccountAtFault as fault:
            return fault
        except Refused as no:
            return _Unseen(self._plain(str(no)), is_unknown=no.status in self.vendor.no_such_call)
        except CarrierUnavailable as error:
            return _Unseen(self._plain(str(error)))
        except Exception as error:
            LOG.debug("What is said of attempt %s", self.attempt.attempt_id, exc_info=True)
            return _Unseen(self._plain(f"it could not be understood: {error!r}"))

    def _waited_enough(self, age: float) -> bool:
        """Whether a call that the vendor has not begun to dial must not be dialled any more."""
        until = self.attempt.until
        return age > self.vendor.ring_seconds + GRACE_S or (until is not None and self.time.now() >= until)

    async def _stop(self, call_id: str) -> None:
        try:
            await self.vendor.hang_up(call_id)
        except CarrierUnavailable as error:
            LOG.warning("The call of attempt %s is not ended: %s", self.attempt.attempt_id, self._plain(str(error)))
        except Exception:
            LOG.exception("The call of attempt %s is not ended", self.attempt.attempt_id)

    def _after_stop(self, seen: Outcome) -> Outcome:
        """What came of a call that waited at the vendor and was cancelled there; it may have begun in that moment."""
        if seen.status not in {TaskStatus.FAILED, TaskStatus.INTERRUPTED}:
            return seen
        why = f"it waited at {self.vendor.title} for so long that it was cancelled there"
        return replace(_unknown(why), backend_status=seen.backend_status, cost=seen.cost)

    async def _pause(self, woken: asyncio.Event, seconds: float) -> None:
        """Wait so long, or until something is heard of the call; not at all, if that was since the last pause."""

        async def end() -> None:
            await woken.wait()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(end)
            await self.time.sleep(seconds)
            group.cancel_scope.cancel()
        woken.clear()

    def _began(self, since: datetime) -> float:
        """That moment by the carrier's clock."""
        return self.time.clock() - max((self.time.now() - since).total_seconds(), 0.0)

    def _over_at(self, since: datetime) -> float:
        """When a call that was asked for at `since` is over at the latest. One of long ago can be read a while yet."""
        longest = self.vendor.ring_seconds + self.vendor.longest_call_seconds + GRACE_S
        return max(self._began(since) + longest, self.time.clock() + GRACE_S)

    def _plain(self, words: str) -> str:
        return self.api.plain(words, _number(self.attempt))

    def _harmless(self, outcome: Outcome) -> Outcome:
        """Without what a vendor may have put into its words."""
        return replace(
            outcome,
            error=outcome.error and self._plain(outcome.error),
            backend_status=text(outcome.backend_status, _LONGEST_WORD),
            summary=text(outcome.summary),
        )


def _unknown(why: str) -> Outcome:
    return Outcome(TaskStatus.INTERRUPTED, why)


def _number(attempt: Attempt) -> tuple[str, ...]:
    """What is not repeated of it in a text."""
    return attempt.to_number, attempt.to_number.removeprefix("+")


async def _unbroken(work: Coroutine[Any, Any, None]) -> None:
    """Wait for its end, also when the caller is cancelled meanwhile; it is cancelled after that."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
    if (failed := task.exception()) is not None:
        LOG.error("The id of a call could not be stored; it is followed all the same", exc_info=failed)
    if cancelled is not None:
        raise cancelled
