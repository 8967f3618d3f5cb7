"""A carrier that places calls over a vendor's API, one request a call: what all vendors have in common.

`outcome` asks once, remembers the vendor's id, and reads the call until it is over. Nobody is asked for twice: what is
not known is looked up, and if it is not found, `interrupted`. A vendor's class says the rest in these hooks:

    name, title, default_url, default_concurrency       as in BATCHCALL_CARRIER; for people; its API; lines at once
    ring_seconds, longest_call_seconds                  the longest that a call of ours may ring, and last
    has_idempotency_key (False)                         the same create again finds the call of the first one
    no_such_call ({404, 410})                           HTTP statuses of a read that say that it knows no such call
    payer                                               property: whose money it is, without a secret
    auth()                     -> headers               with the key
    numbers(), agents()        -> list or None          async; of the account; None: it has no such list
    account_problem(account, attempt) -> str or None    every call of the batch call would fail: it is paused
    person_problem(account, attempt)  -> str or None    this person is skipped
    create_call(attempt, account)     -> HttpCall       pure
    created(body, attempt)     -> id, Outcome or None   what a 2xx answer to the create means; None: it does not say
    refused(no, attempt)       -> Outcome               what a 4xx answer to it means; or raises what base has for that
    find(attempt, since)       -> ids                   async; calls that may be this attempt's, from a moment of the
                                                        vendor's clock on
    look(call_id, attempt)     -> Seen                  async; how the call is
    hang_up(call_id)                                    async; ends it, also one that only waits at the vendor
    details(call_id)           -> CallDetails           async
    verify(headers, body, url) -> bool                  whether a webhook is the vendor's; `body` as it arrived
    named(body)                -> call ids              which calls a webhook is about
    told(call_id, body)        -> Outcome or None       only where nothing but the webhook says how a call ended

`await self.read(HttpCall(...))` asks anything but a create: JSON, or None without a body. It raises `Refused` (4xx and
501) and `CarrierUnavailable` (no readable answer now), both of which a hook lets through. `self.words(text)` makes a
vendor's words harmless. Errors and summaries of an Outcome are made harmless here too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar

import anyio
from pydantic import SecretStr

from batchcall_mcp.clock import Clock, utc_now
from batchcall_mcp.dialer.carriers import destinations
from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CallDetails,
    CarrierAccount,
    CarrierUnavailable,
    Line,
    NoLongerWanted,
    NotCallable,
    Outcome,
)
from batchcall_mcp.dialer.carriers.reading import Pace, Wakes, pause_before
from batchcall_mcp.dialer.carriers.vendor_api import LATER_S, Lost, Refused, VendorApi
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.settings import secret_problem
from batchcall_mcp.vendor_http.client import Sleep
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.json_values import text, unpacked

LOG = logging.getLogger(__name__)
T = TypeVar("T")
LOOK_UPS: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each look for a call whose create got no answer: lists of calls lag behind."""
GRACE_S: Final = 60.0
"""So much longer than it may ring and last a call is read; and so long it may be unknown after it was placed."""
ACCOUNT_KEPT_S: Final = 300.0
ACCOUNT_FAILED_S: Final = 5.0
_BEFORE: Final = timedelta(seconds=5)
"""A call may be dated so much before it was asked for: clocks of vendors are in whole seconds."""
_TOLD_KEPT: Final = 1000
_AT_FAULT: Final[Mapping[int, str]] = {
    401: "does not accept the key (HTTP 401). Check BATCHCALL_CARRIER_KEY and BATCHCALL_CARRIER_SECRET",
    402: "asks for credit or payment (HTTP 402). Check the account's balance there",
    403: "does not let this key do that (HTTP 403). Check what the key and the account may do there",
    404: "knows no such address or agent (HTTP 404). Check BATCHCALL_CARRIER_URL and the agent",
    405: "does not know this request (HTTP 405). Check BATCHCALL_CARRIER_URL",
}
_KEY_REFUSED: Final = frozenset({401, 402, 403})
_TOO_MANY: Final = 429
_LONGEST_WORD: Final = 100


class Progress(Enum):
    """A call that is not over. `QUEUED`: the vendor has not begun to dial, and might do so much later."""

    QUEUED = "queued"
    GOING = "going"


Seen: TypeAlias = Progress | Outcome | CarrierUnavailable | AccountAtFault
"""What a look at a call shows. An exception that is returned, not raised: it is over, and nobody was rung."""


class _Unseen(Enum):
    """A look that showed nothing: the vendor knows no such call, or cannot be asked now."""

    UNKNOWN = "unknown"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierConfig:
    """What the settings BATCHCALL_CARRIER_* and their neighbours say; None: not set.

    `url`: of the vendor's API. `concurrency`: calls at once. `agents`: the TOML file. `countries`: ISO 3166 codes of
    those that may be called. `public_url`: where the vendor reaches our webhooks.
    """

    key: SecretStr
    secret: SecretStr | None = None
    url: str | None = None
    concurrency: int | None = None
    calls_per_second: float | None = None
    agents: Path | None = None
    countries: frozenset[str] | None = None
    public_url: str | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was read of the account, or why it could not be, until a moment of the carrier's clock."""

    found: CarrierAccount | AccountAtFault | CarrierUnavailable
    until: float


class HttpCarrier:
    """See the module. All of its coroutines run on one event loop; `heard` may be called from any thread."""

    name: str
    title: str
    default_url: str
    default_concurrency: int = 10
    default_calls_per_second: float = 1.0
    ring_seconds: float = 30.0
    longest_call_seconds: float = 600.0
    has_idempotency_key: bool = False
    no_such_call: frozenset[int] = frozenset({404, 410})
    places_real_calls = True
    calls_outlive_us = True

    def __init__(
        self,
        config: CarrierConfig,
        *,
        clock: Callable[[], float] = monotonic,
        sleep: Sleep = anyio.sleep,
        now: Clock = utc_now,
    ) -> None:
        """`clock`: seconds from any moment on; `now`: what time it is, for what the vendor has dated.

        Raises:
            ConfigurationError: the key or secret cannot stand in a header.
        """
        for setting, value in (("KEY", config.key), ("SECRET", config.secret)):
            if value is not None and (problem := secret_problem(value.get_secret_value())):
                raise ConfigurationError(f"BATCHCALL_CARRIER_{setting} {problem}.")
        self.config = config
        self.capacity = config.concurrency or self.default_concurrency
        self.calls_per_second: float | None = config.calls_per_second or self.default_calls_per_second
        self._clock = clock
        self._sleep = sleep
        self._now = now
        secrets = tuple(one.get_secret_value() for one in (config.key, config.secret) if one is not None)
        url = config.url or self.default_url
        self._api = VendorApi(self.title, url, self.auth, secrets, Pace(clock, sleep), now)
        self._wakes = Wakes(sleep)
        self._told: dict[str, Outcome] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._account: _Kept | None = None
        self._reading_account = asyncio.Lock()

    # What a vendor says of itself.

    @property
    def payer(self) -> str:
        """Whose money it is, without a secret."""
        return f"the {self.title} account of BATCHCALL_CARRIER_KEY"

    def auth(self) -> Mapping[str, str]:
        """The headers with the key."""
        return {"authorization": f"Bearer {self.config.key.get_secret_value()}"}

    async def numbers(self) -> Sequence[CallerNumber] | None:
        """The numbers that the account can call from; None: it has no such list."""
        return None

    async def agents(self) -> Sequence[Agent] | None:
        """The agents that can speak; None: it has no such list."""
        return None

    def account_problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:
        """Why no call of this batch call could be placed from this account, without a number; None: they can. Pure."""
        numbers, agents = account.numbers, account.agents
        if numbers is not None and not _has(numbers, attempt.from_number):
            return f"The caller number is not one of the {self.title} account. get_backend lists those."
        if agents is not None and attempt.agent_id not in {None, *(agent.agent_id for agent in agents)}:
            return f"The agent is not one of the {self.title} account. get_backend lists those."
        return None

    def person_problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:
        """Why this person could not be called, without a number; None: they can. Pure."""
        needed = [agent.variables or () for agent in account.agents or () if agent.agent_id == attempt.agent_id]
        given = unpacked(attempt.dynamic_variables) or {}
        missing = [name for names in needed for name in names if name not in given]
        return f"The agent needs the variable {', '.join(missing)}, which is missing." if missing else None

    def create_call(self, attempt: Attempt, account: CarrierAccount) -> HttpCall:
        """The one request that asks for this call.

        Raises:
            AccountAtFault, NotCallable: it cannot be written down.
        """
        raise NotImplementedError

    def created(self, body: Any, attempt: Attempt) -> str | Outcome | None:
        """What a success of the create says: the id of the call, what came of it at once, or nothing that helps.

        Raises:
            CarrierUnavailable, AccountAtFault, NotCallable: nobody is rung.
        """
        raise NotImplementedError

    def refused(self, no: Refused, attempt: Attempt) -> Outcome:  # noqa: ARG002 - for vendors
        """What a refusal of the create (4xx) means.

        Raises:
            CarrierUnavailable, AccountAtFault, NotCallable: nobody is rung.
        """
        if no.status == _TOO_MANY:
            raise self._too_many(no)
        if no.status in _AT_FAULT:
            raise AccountAtFault(f"{self.title} {_AT_FAULT[no.status]}.{no.said}")
        return Outcome(TaskStatus.FAILED, f"{self.title} refused the call (HTTP {no.status}).{no.said}")

    async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]:
        """The ids of the calls that may be this attempt's, made from `since` on by the vendor's clock.

        Raises:
            CarrierUnavailable, Refused: it could not be looked up.
        """
        raise NotImplementedError

    async def look(self, call_id: str, attempt: Attempt) -> Seen:
        """How the call is now.

        Raises:
            CarrierUnavailable, Refused: it could not be read.
        """
        raise NotImplementedError

    async def hang_up(self, call_id: str) -> None:
        """End the call, also one that only waits at the vendor. Here: this vendor has no way to do that.

        Raises:
            CarrierUnavailable, Refused: it could not be done.
        """

    async def details(self, call_id: str) -> CallDetails:
        """What was said in a call that is over; see `HasAccount`."""
        raise NotImplementedError

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:  # noqa: ARG002 - for vendors
        """Whether a webhook is the vendor's. `headers` by their names in lower case; `url`: where it was sent to."""
        return False

    def named(self, body: bytes) -> Sequence[str]:  # noqa: ARG002 - for vendors
        """The ids of the calls that a webhook is about."""
        return ()

    def told(self, call_id: str, body: bytes) -> Outcome | None:  # noqa: ARG002 - for vendors
        """How a call ended, where nothing but a verified webhook says that."""
        return None

    # What the engine and the API ask for.

    def dial(self, attempt: Attempt) -> None:
        """Nothing leaves here; see `outcome`."""

    async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
        """Ask for the call, unless an earlier process did, and read it until it is over; see `Carrier`.

        When it is cancelled, the call goes on.
        """
        self._loop = asyncio.get_running_loop()
        if line.call_id is not None:
            return await self._follow(attempt, line.call_id, line.asked_since or self._now())
        if line.asked_since is not None:
            return await self._recover(attempt, line, line.asked_since)
        return await self._place(attempt, line)

    def heard(self, call_id: str, body: bytes | None = None) -> None:
        """A verified webhook came about this call: read it now. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hear, call_id, body)

    async def account(self) -> CarrierAccount:
        """Its numbers and agents, read at most once in 5 minutes; see `HasAccount`. A failure holds for 5 s."""
        async with self._reading_account:
            if self._account is None or self._account.until <= self._clock():
                self._account = await self._read_account()
            found = self._account.found
        if isinstance(found, Exception):
            raise found.with_traceback(None)
        return found

    def problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:
        """Why this call could not be placed from this account; see `HasAccount`."""
        return self.account_problem(account, attempt) or self.person_problem(account, attempt)

    async def read(self, call: HttpCall, *, url: str | None = None) -> Any:
        """The JSON of an answer to anything but a create; see `VendorApi.read`."""
        return await self._api.read(call, url)

    def words(self, said: str) -> str:
        """A vendor's words as they can be shown."""
        return self._api.words(said)

    async def aclose(self) -> None:
        """Close the connections. Calls go on."""
        await self._api.aclose()

    # A new call.

    async def _place(self, attempt: Attempt, line: Line) -> Outcome:
        account = await self.account()
        self._check(account, attempt)
        call = self.create_call(attempt, account)
        since = self._now()
        try:
            found = await self._ask_for(call, attempt, line)
        except Lost as lost:
            LOG.warning("Attempt %s was asked for without a clear answer: %s", attempt.attempt_id, lost)
            found = await self._after_loss(call, attempt, line, since, lost)
        if isinstance(found, Outcome):
            return self._harmless(found, attempt)
        return await self._placed(attempt, line, found, since)

    def _check(self, account: CarrierAccount, attempt: Attempt) -> None:
        if (problem := self.account_problem(account, attempt)) is not None:
            raise AccountAtFault(problem)
        if (problem := self.person_problem(account, attempt)) is not None:
            raise NotCallable(problem)
        numbers = None if account.numbers is None else [number.from_number for number in account.numbers]
        countries = destinations.allowed_countries(self.config.countries, numbers, attempt.from_number)
        if (problem := destinations.problem(attempt.to_number, countries)) is not None:
            raise NotCallable(f"The number {problem}.")

    async def _ask_for(self, call: HttpCall, attempt: Attempt, line: Line) -> str | Outcome:
        """The one request: the id of the call, or what came of it.

        Raises:
            Lost: whether somebody is rung is not known.
        """
        try:
            body = await self._api.create(call, line, _number(attempt))
        except Refused as no:
            return self._refusal(no, attempt)
        try:
            found = self.created(body, attempt)
        except (CarrierUnavailable, AccountAtFault, NotCallable):
            raise
        except Exception as error:
            LOG.exception("The answer to attempt %s could not be understood", attempt.attempt_id)
            raise Lost(f"{self.title} answered something that cannot be understood") from error
        if found is None:
            raise Lost(f"{self.title} answered without the id of the call")
        return found

    def _refusal(self, no: Refused, attempt: Attempt) -> Outcome:
        try:
            return self.refused(no, attempt)
        except AccountAtFault as fault:
            if no.status in _KEY_REFUSED:  # the next call would be refused as well
                self._account = _Kept(fault, self._clock() + ACCOUNT_FAILED_S)
            raise

    async def _placed(self, attempt: Attempt, line: Line, call_id: str, since: datetime) -> Outcome:
        await _unbroken(line.placed(call_id))
        return await self._follow(attempt, call_id, since)

    # A create without a clear answer.

    async def _after_loss(
        self, call: HttpCall, attempt: Attempt, line: Line, since: datetime, lost: Lost
    ) -> str | Outcome:
        if self.has_idempotency_key and not lost.is_turned_away:
            again = await self._ask_again(call, attempt, line)
            if again is not None:
                return again
        found = await self._look_up(attempt, since, once=lost.is_turned_away)
        if found is None and lost.is_turned_away:
            why = f"{self.title} takes no calls for the moment: {lost}"
            raise CarrierUnavailable(why, retry_after=max(lost.retry_after or 0.0, LATER_S), whole_account=True)
        return found or self._unknown(f"{lost}; whether the phone rang is not known")

    async def _ask_again(self, call: HttpCall, attempt: Attempt, line: Line) -> str | None:
        """The same request with the same key; it can only find the call of the first one, or place that."""
        for pause in LOOK_UPS:
            await self._sleep(pause)
            try:
                found = await self._ask_for(call, attempt, line)
            except NoLongerWanted:
                return None
            except (Lost, CarrierUnavailable, AccountAtFault, NotCallable) as error:
                # It is a no to this request, and says nothing of the first one.
                LOG.warning("Attempt %s was asked for again with its key: %s", attempt.attempt_id, error)
                continue
            if isinstance(found, str):
                return found
        return None

    async def _look_up(self, attempt: Attempt, since: datetime, *, once: bool) -> str | Outcome | None:
        """The id of the call that was asked for; an outcome, if two may be it; None: there is none, or it cannot be
        said.
        """
        for pause in LOOK_UPS:
            await self._sleep(pause)
            found = await self._found(attempt, since)
            if found or (once and found is not None):
                return self._only(found)
        return None

    def _only(self, found: Sequence[str]) -> str | Outcome | None:
        if len(found) > 1:
            return self._unknown(f"{self.title} has {len(found)} calls that may be this one; which it is is not known")
        return found[0] if found else None

    async def _found(self, attempt: Attempt, since: datetime) -> Sequence[str] | None:
        """The calls that may be this attempt's and are no other's; None: it could not be looked up now."""
        try:
            found = await self.find(attempt, since + self._api.ahead - _BEFORE)
        except (CarrierUnavailable, Refused) as error:
            LOG.warning("Attempt %s could not be looked up: %s", attempt.attempt_id, error)
            is_final = isinstance(error, Refused) and error.status not in {*_KEY_REFUSED, _TOO_MANY}
            return () if is_final else None
        except Exception:
            LOG.exception("Attempt %s could not be looked up", attempt.attempt_id)
            return None
        return [call_id for call_id in dict.fromkeys(found) if call_id not in self._wakes]

    async def _recover(self, attempt: Attempt, line: Line, since: datetime) -> Outcome:
        """A process that ended may have asked for it. While the vendor cannot be asked, it is asked again."""
        over_at = self._over_at(since)
        pauses = iter(LOOK_UPS)
        while True:
            found = await self._found(attempt, since)
            only = self._only(found or ())
            if isinstance(only, Outcome):
                return only
            if only is not None:
                return await self._placed(attempt, line, only, since)
            pause = LATER_S if found is None else next(pauses, None)
            if pause is None or self._clock() > over_at:
                return self._unknown(
                    f"the dialer stopped while it asked {self.title} for the call, which is not found there; whether "
                    "the phone rang is not known"
                )
            await self._sleep(pause)

    # A call that is there.

    async def _follow(self, attempt: Attempt, call_id: str, since: datetime) -> Outcome:
        began, over_at = self._began(since), self._over_at(since)
        reads, unknown_since, is_stopped = 0, None, False
        with self._wakes.following(call_id):
            while True:
                await self._wakes.pause(call_id, pause_before(reads, self._clock() - began))
                reads += 1
                seen = await self._seen(call_id, attempt)
                now = self._clock()
                if isinstance(seen, Outcome):
                    return self._harmless(self._after_stop(seen) if is_stopped else seen, attempt)
                if isinstance(seen, Exception):
                    raise seen
                if seen is _Unseen.UNKNOWN:
                    unknown_since = now if unknown_since is None else unknown_since
                    if now - unknown_since > GRACE_S:
                        return self._unknown(f"{self.title} knows no such call any more; its outcome is not known")
                elif seen is not _Unseen.UNREADABLE:
                    unknown_since = None
                if now > over_at:
                    await self._stop(call_id)
                    return self._unknown(f"its end was not heard of at {self.title} in time; its outcome is not known")
                if seen is Progress.QUEUED and now - began > self.ring_seconds + GRACE_S:
                    is_stopped = True
                    await self._stop(call_id)

    async def _seen(self, call_id: str, attempt: Attempt) -> Seen | _Unseen:
        if (told := self._told.pop(call_id, None)) is not None:
            return told
        try:
            return await self.look(call_id, attempt)
        except CarrierUnavailable as error:
            LOG.info("Attempt %s could not be read: %s", attempt.attempt_id, error)
        except Refused as no:
            if no.status in self.no_such_call:
                return _Unseen.UNKNOWN
            LOG.warning("Attempt %s could not be read: %s", attempt.attempt_id, no)
        except Exception:
            LOG.exception("What %s says of attempt %s could not be understood", self.title, attempt.attempt_id)
        return _Unseen.UNREADABLE

    async def _stop(self, call_id: str) -> None:
        try:
            await self.hang_up(call_id)
        except (CarrierUnavailable, Refused) as error:
            LOG.warning("A call could not be ended at %s: %s", self.title, error)
        except Exception:
            LOG.exception("A call could not be ended at %s", self.title)

    def _after_stop(self, seen: Outcome) -> Outcome:
        """What came of a call that waited at the vendor and was cancelled there; it may have begun in that moment."""
        if seen.status not in {TaskStatus.FAILED, TaskStatus.INTERRUPTED}:
            return seen
        why = f"it waited at {self.title} for so long that it was cancelled there"
        return replace(self._unknown(why), backend_status=seen.backend_status, cost=seen.cost)

    def _hear(self, call_id: str, body: bytes | None) -> None:
        if body is not None and (told := self.told(call_id, body)) is not None:
            self._told[call_id] = told
            while len(self._told) > _TOLD_KEPT:
                del self._told[next(iter(self._told))]
        self._wakes.wake(call_id)

    def _began(self, since: datetime) -> float:
        """A moment of the past by the carrier's clock."""
        return self._clock() - max((self._now() - since).total_seconds(), 0.0)

    def _over_at(self, since: datetime) -> float:
        """When a call that was asked for at `since` is over at the latest. One of long ago can be read a while yet."""
        longest = self.ring_seconds + self.longest_call_seconds + GRACE_S
        return max(self._began(since) + longest, self._clock() + GRACE_S)

    def _unknown(self, why: str) -> Outcome:
        return Outcome(TaskStatus.INTERRUPTED, why)

    def _harmless(self, outcome: Outcome, attempt: Attempt) -> Outcome:
        """Without what a vendor may have put into its words."""
        return replace(
            outcome,
            error=outcome.error and self._api.plain(outcome.error, _number(attempt)),
            backend_status=text(outcome.backend_status, _LONGEST_WORD),
            summary=text(outcome.summary),
        )

    # The account.

    async def _read_account(self) -> _Kept:
        try:
            numbers, why_no_numbers = await self._part("caller numbers", self.numbers)
            agents, why_no_agents = await self._part("agents", self.agents)
        except (AccountAtFault, CarrierUnavailable) as error:
            return _Kept(error, self._clock() + ACCOUNT_FAILED_S)
        notes = tuple(note for note in (why_no_numbers, why_no_agents) if note is not None)
        account = CarrierAccount(numbers=numbers, agents=agents, notes=notes)
        return _Kept(account, self._clock() + ACCOUNT_KEPT_S)

    async def _part(
        self, what: str, read: Callable[[], Awaitable[Sequence[T] | None]]
    ) -> tuple[tuple[T, ...] | None, str | None]:
        """What was read, or None and why not."""
        try:
            found = await read()
        except Refused as no:
            if no.status in _KEY_REFUSED:
                raise AccountAtFault(f"{self.title} {_AT_FAULT[no.status]}.{no.said}") from None
            if no.status == _TOO_MANY:
                raise self._too_many(no) from None
            return None, f"The {what} of the {self.title} account could not be read (HTTP {no.status}).{no.said}"
        except (AccountAtFault, CarrierUnavailable):
            raise
        except Exception:
            LOG.exception("The %s of the %s account could not be understood", what, self.title)
            return None, f"The {what} of the {self.title} account could not be understood."
        return (None, None) if found is None else (tuple(found), None)

    def _too_many(self, no: Refused) -> CarrierUnavailable:
        why = f"{self.title} takes no more requests for the moment (HTTP 429).{no.said}"
        return CarrierUnavailable(why, retry_after=max(no.retry_after or 0.0, LATER_S), whole_account=True)


def _has(numbers: Sequence[CallerNumber], wanted: str) -> bool:
    if any(number.from_number == wanted for number in numbers):  # asked for each row of a long list
        return True
    return comparable(wanted) in {comparable(number.from_number) for number in numbers}


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
