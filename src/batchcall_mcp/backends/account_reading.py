"""The account behind a key, read in two parts: one that cannot be read is a note, and the other one is still shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias, TypeVar

from batchcall_mcp.backends.capabilities import Capabilities
from batchcall_mcp.errors import (
    AuthenticationFailed,
    BackendUnavailable,
    BatchCallError,
    InvalidInput,
    NotFound,
    NotSupported,
    RateLimited,
)
from batchcall_mcp.model import Account, Agent, BatchCall, CallerNumber
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.vendor_http.client import CallerHttp
from batchcall_mcp.vendor_http.json_values import members
from batchcall_mcp.vendor_http.paging import Pages

T = TypeVar("T")
_MOST_LISTED = 2000
"""Numbers or agents of an account that are read."""
Part: TypeAlias = tuple[tuple[T, ...] | None, tuple[str, ...]]
"""What was read (None: nothing readable), and notes about it."""


async def read_parts(
    numbers: Callable[[], Awaitable[Part[CallerNumber]]], agents: Callable[[], Awaitable[Part[Agent]]]
) -> Account:
    """Numbers and agents.

    Raises:
        AuthenticationFailed: the key is not accepted at all.
    """
    silent: list[str] = []
    found, notes = await _read("caller numbers", numbers, silent)
    known, more = await _read("agents", agents, silent)
    unavailable = silent[0] if len(silent) > 1 else None
    return Account(numbers=found, agents=known, notes=(*notes, *more), unavailable=unavailable)


async def _read(what: str, read: Callable[[], Awaitable[Part[T]]], silent: list[str]) -> Part[T]:
    try:
        return await read()
    except AuthenticationFailed:
        raise
    except BatchCallError as error:
        if isinstance(error, BackendUnavailable):
            silent.append(error.message)
        return None, (f"The {what} could not be read: {error.message}",)


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of the account: its pages, our fields by their paths, which rows count, and fields that have no path.

    `otherwise`: where it is if the service does not know `pages`, because its documents differ.
    """

    pages: Pages
    members: Mapping[str, str]
    counts: Callable[[Mapping[str, Any]], bool] = lambda _row: True
    more: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _row: {}
    otherwise: Pages | None = None


class AccountReader:
    """Numbers and agents of an account, and which id a caller number has: what an adapter says in two `Listing`s."""

    title: ClassVar[str]
    """What the service calls itself, for sentences."""
    capabilities: ClassVar[Capabilities]
    numbers_at: ClassVar[Listing | None] = None
    """Of the adapter: where the account's numbers are, as fields of CallerNumber."""
    agents_at: ClassVar[Listing | None] = None
    """Of the adapter: where its agents are, as fields of Agent."""

    _http: CallerHttp
    _numbers: Mapping[str | None, str]

    async def numbers(self) -> tuple[CallerNumber, ...]:
        """The numbers of the account that can call, with their ids."""
        rows = await self.listed("list the caller numbers", self.numbers_at)
        return tuple(CallerNumber(**row) for row in rows if row["from_number"])

    async def agents(self) -> tuple[Agent, ...]:
        """The agents of the account."""
        rows = await self.listed("list the agents", self.agents_at)
        return tuple(Agent(**row) for row in rows if row["agent_id"])

    async def listed(self, doing: str, listing: Listing | None) -> tuple[dict[str, Any], ...]:
        """The rows of a list of the account, as fields of ours."""
        if listing is None:
            raise NotSupported(f"Could not {doing}: {self.title} has no such list that this key can read.")

        def keep(data: Mapping[str, Any]) -> dict[str, Any] | None:
            return {**members(data, listing.members), **listing.more(data)} if listing.counts(data) else None

        try:
            scanned = await listing.pages.scan(self._http, doing, keep, cursor=None, limit=_MOST_LISTED)
        except (NotFound, NotSupported):
            if listing.otherwise is None:
                raise
            scanned = await listing.otherwise.scan(self._http, doing, keep, cursor=None, limit=_MOST_LISTED)
        return scanned.found

    async def account(self) -> Account:
        """Numbers and agents; a part that cannot be read is None and a note."""

        async def numbers() -> Part[CallerNumber]:
            return await self.numbers(), ()

        async def agents() -> Part[Agent]:
            return await self.agents(), ()

        return await read_parts(numbers, agents)

    async def own_number(self, from_number: str) -> CallerNumber:
        """The account's number that `from_number` names, with its id.

        Raises:
            AuthenticationFailed, BackendUnavailable, RateLimited: as for every read; nothing was changed.
            InvalidInput: it is not one of the account's; nothing was sent.
            NotSupported: that could not be read; nothing was sent.
        """
        try:
            numbers = await self.numbers()
        except (AuthenticationFailed, BackendUnavailable, RateLimited):
            raise
        except BatchCallError as error:
            raise NotSupported(
                f"Whether {from_number} is a number of this account could not be read, and {self.title} has to know "
                f"that. Nothing was changed. {error.message}"
            ) from None
        for number in numbers:
            if comparable(number.from_number) == comparable(from_number):
                return number
        raise InvalidInput(
            f"from_number: {from_number} is not an active number of this account. Nothing was sent. get_backend lists "
            "them."
        )

    async def number_id(self, from_number: str) -> str:
        """The id by which the service names a caller number; raises as `own_number`."""
        found = await self.own_number(from_number)
        if found.number_id is None:
            raise NotSupported(f"{self.title} gives no id for {from_number}. Nothing was sent. Use another number.")
        return found.number_id

    async def with_numbers(self, *found: BatchCall) -> tuple[BatchCall, ...]:
        """Where a caller number is named by an id, which readers give as `from_number`: with the numbers themselves.

        A number that is not among the account's, or cannot be read, is None.
        """
        named = {one.from_number for one in found} - {None}
        if self.capabilities.caller != "id" or not named:
            return found
        if not named <= self._numbers.keys():
            try:
                self._numbers = {one.number_id: one.from_number for one in await self.numbers()}
            except BatchCallError:
                self._numbers = {}
        return tuple(replace(one, from_number=self._numbers.get(one.from_number)) for one in found)
