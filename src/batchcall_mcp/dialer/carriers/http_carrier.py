"""A carrier that places calls over a vendor's API, one request a call: what all vendors have in common.

`outcome` asks once, remembers the vendor's id, and reads the call until it is over. Nobody is asked for twice: what is
not known is looked up, and if it is not found, `interrupted`. A vendor's class says the rest in these hooks:

    name, title, default_url, default_concurrency       as in BATCHCALL_CARRIER; for people; its API; lines at once
    ring_seconds, longest_call_seconds                  the longest that a call of ours may ring, and last
    has_idempotency_key (False)                         the same create again finds the call of the first one
    no_such_call ({404, 410})                           HTTP statuses of a read that say that it knows no such call
    needs_agent (False)                                 it has nothing to say without one
    one_call                                            the read of a call, with {call_id} in its path, for `record`
    call_in_webhook                                     where its id is in a webhook, such as `data.id|id`
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
    told(call_id, body)        -> Outcome or None       only where nothing but the webhook says how a call ended

`await self.read(HttpCall(...))` asks anything but a create: JSON, or None without a body. It raises
`CarrierUnavailable` (no readable answer now) and `Refused` (4xx and 501), which is one; a hook lets both through.
`self.words(text)` makes a vendor's words harmless. The error of an Outcome is made harmless here too.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeVar

import anyio
from pydantic import SecretStr

from batchcall_mcp.clock import Clock, utc_now
from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CallDetails,
    CarrierAccount,
    CarrierUnavailable,
    Line,
    NotCallable,
    Outcome,
)
from batchcall_mcp.dialer.carriers.one_call import GRACE_S, OneCall, Progress, Seen, Time
from batchcall_mcp.dialer.carriers.reading import CallsHere, Pace
from batchcall_mcp.dialer.carriers.vendor_api import KEY_REFUSED, LATER_S, TOO_MANY, Refused, VendorApi
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from batchcall_mcp.recipients.phone import destinations
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.settings import secret_problem
from batchcall_mcp.vendor_http.client import Sleep
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.json_values import inside, text, unpacked

__all__ = ["GRACE_S", "CarrierConfig", "HttpCarrier", "Progress", "Refused", "Seen"]
LOG = logging.getLogger(__name__)
T = TypeVar("T")
_MARK_DIGITS: Final = 6
"""Of a digest: enough to tell two accounts apart, and nothing of a key."""
ACCOUNT_KEPT_S: Final = 300.0
ACCOUNT_FAILED_S: Final = 5.0
ACCOUNT_AT_FAULT_S: Final = 60.0
"""A key that is refused is not tried again with every question of a model about the account."""
_AT_FAULT: Final[Mapping[int, str]] = {
    401: "does not accept the key (HTTP 401). Check BATCHCALL_CARRIER_KEY and BATCHCALL_CARRIER_SECRET",
    402: "asks for credit or payment (HTTP 402). Check the account's balance there",
    403: "does not let this key do that (HTTP 403). Check what the key and the account may do there",
    404: "knows no such address or agent (HTTP 404). Check BATCHCALL_CARRIER_URL and the agent",
    405: "does not know this request (HTTP 405). Check BATCHCALL_CARRIER_URL",
}
_OF_THE_ACCOUNT: Final = frozenset({401, 402})


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
    needs_agent: bool = False
    one_call: HttpCall
    call_in_webhook: str = ""
    places_real_calls: bool = True
    calls_outlive_us: bool = True

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
        self._now = now
        self._time = Time(clock, sleep, now)
        secrets = tuple(one.get_secret_value() for one in (config.key, config.secret) if one is not None)
        url = config.url or self.default_url
        self._api = VendorApi(self.title, url, self.auth, secrets, Pace(clock, sleep), now)
        self._here = CallsHere()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._account: _Kept | None = None
        self._reading_account = asyncio.Lock()

    # What a vendor says of itself.

    @property
    def payer(self) -> str:
        """Whose money it is, without a secret: another key, or another address, has another mark."""
        whose = f"{self.config.url or self.default_url} {self.config.key.get_secret_value()}"
        mark = hashlib.sha256(whose.encode()).hexdigest()[:_MARK_DIGITS]
        return f"the {self.title} account of BATCHCALL_CARRIER_KEY (mark {mark})"

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
        if self.needs_agent and attempt.agent_id is None:
            return f"{self.title} needs an agent for each call. Name one in agent_id; get_backend lists them."
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

    def created(self, body: Mapping[str, Any], attempt: Attempt) -> str | Outcome | None:
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
        if no.status == TOO_MANY:
            raise self._too_many(no)
        if no.status in _AT_FAULT:
            fault = AccountAtFault(f"{self.title} {_AT_FAULT[no.status]}.{no.said}")
            if no.status in _OF_THE_ACCOUNT:  # every other call would be refused as well
                self._account = _Kept(fault, self._clock() + ACCOUNT_FAILED_S)
            raise fault
        return Outcome(TaskStatus.FAILED, f"{self.title} refused the call (HTTP {no.status}).{no.said}")

    async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]:
        """The ids of the calls that may be this attempt's, made from `since` on by the vendor's clock.

        Raises:
            CarrierUnavailable (Refused is one): it could not be looked up.
        """
        raise NotImplementedError

    async def look(self, call_id: str, attempt: Attempt) -> Seen:
        """How the call is now.

        Raises:
            CarrierUnavailable (Refused is one): it could not be read.
        """
        raise NotImplementedError

    async def hang_up(self, call_id: str) -> None:
        """End the call, also one that only waits at the vendor. Here: this vendor has no way to do that.

        Raises:
            CarrierUnavailable (Refused is one): it could not be done.
        """

    async def details(self, call_id: str) -> CallDetails:
        """What was said in a call that is over; see `HasAccount`."""
        raise NotImplementedError

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:  # noqa: ARG002 - for vendors
        """Whether a webhook is the vendor's. `headers` by their names in lower case; `url`: where it was sent to."""
        return False

    def named(self, body: bytes) -> Sequence[str]:
        """The ids of the calls that a webhook is about."""
        call_id = text(inside(unpacked(body), self.call_in_webhook), 200)
        return () if call_id is None else (call_id,)

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
        one = OneCall(self, self._api, self._here, self._time, attempt, line)
        if line.call_id is not None:
            return await one.follow(line.call_id, line.asked_since or self._now())
        if line.asked_since is not None:
            return await one.recover(line.asked_since)
        account = await self.account()
        self._check(account, attempt)
        return await one.place(self.create_call(attempt, account))

    def heard(self, call_id: str, body: bytes | None = None) -> None:
        """A verified webhook came about this call: read it now. From any thread."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._hear, call_id, body)
        except RuntimeError:
            LOG.debug("heard of call %s when nothing is followed any more", call_id)

    async def account(self) -> CarrierAccount:
        """Its numbers and agents, read at most once in 5 minutes; see `HasAccount`.

        That it could not be read holds for 5 s, that the key was refused for 60 s.
        """
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

    def number_id(self, account: CarrierAccount, attempt: Attempt) -> str:
        """The vendor's id of the caller number, for a vendor that calls by it.

        Raises:
            AccountAtFault: it is not known.
        """
        for number in account.numbers or ():
            if number.number_id is not None and comparable(number.from_number) == comparable(attempt.from_number):
                return number.number_id
        raise AccountAtFault(
            f"{self.title} wants the id of the caller number, and the numbers of the account cannot be read."
        )

    async def read(self, call: HttpCall, *, url: str | None = None) -> Any:
        """The JSON of an answer to anything but a create; see `VendorApi.read`."""
        return await self._api.read(call, url)

    async def record(self, call_id: str) -> Mapping[str, Any]:
        """What the vendor has of a call.

        Raises:
            CarrierUnavailable (Refused is one): it could not be read.
        """
        found = await self.read(self.one_call.at(call_id=call_id))
        if not isinstance(found, dict):
            raise CarrierUnavailable(f"{self.title} answered without a call")
        return found

    def words(self, said: str) -> str:
        """A vendor's words as they can be shown."""
        return self._api.words(said)

    def said(self, words: str | None, attempt: Attempt) -> str:
        """Its words about a call as a sentence that can be shown, without the number; "" if there are none."""
        number = attempt.to_number
        return self._api.said(words or "", (number, number.removeprefix("+")))

    @property
    def clock_ahead(self) -> timedelta | None:
        """How much later it is by the vendor's clock than by this machine's; None: nothing was read yet, or it does not
        say.
        """
        return self._api.ahead if self._api.says_time else None

    async def aclose(self) -> None:
        """Close the connections. Calls go on."""
        await self._api.aclose()

    def _check(self, account: CarrierAccount, attempt: Attempt) -> None:
        if (problem := self.account_problem(account, attempt)) is not None:
            raise AccountAtFault(problem)
        if (problem := self.person_problem(account, attempt)) is not None:
            raise NotCallable(problem)
        numbers = None if account.numbers is None else [number.from_number for number in account.numbers]
        countries = destinations.allowed_countries(self.config.countries, numbers, attempt.from_number)
        if (problem := destinations.problem(attempt.to_number, countries)) is not None:
            raise NotCallable(f"The number {problem}.")

    def _hear(self, call_id: str, body: bytes | None) -> None:
        told = None
        try:
            told = None if body is None else self.told(call_id, body)
        except Exception:
            LOG.exception("A webhook of %s could not be understood; its call is read", self.title)
        self._here.hear(call_id, told)

    async def _read_account(self) -> _Kept:
        try:
            numbers, why_no_numbers = await self._part("caller numbers", self.numbers)
            agents, why_no_agents = await self._part("agents", self.agents)
        except AccountAtFault as fault:
            return _Kept(fault, self._clock() + ACCOUNT_AT_FAULT_S)
        except CarrierUnavailable as error:
            later = max(error.retry_after or 0.0, LATER_S)
            away = CarrierUnavailable(str(error), retry_after=later, whole_account=True)
            return _Kept(away, self._clock() + ACCOUNT_FAILED_S)
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
            if no.status in KEY_REFUSED:
                raise AccountAtFault(f"{self.title} {_AT_FAULT[no.status]}.{no.said}") from None
            if no.status == TOO_MANY:
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
