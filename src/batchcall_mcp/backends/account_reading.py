"""The account behind a key, read in two parts: one that cannot be read is a note, and the other one is still shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from batchcall_mcp.errors import AuthenticationFailed, BackendUnavailable, BatchCallError, NotFound, NotSupported
from batchcall_mcp.model import Account, Agent, CallerNumber
from batchcall_mcp.vendor_http.client import CallerHttp
from batchcall_mcp.vendor_http.json_values import members
from batchcall_mcp.vendor_http.paging import Pages

T = TypeVar("T")
Part: TypeAlias = tuple[tuple[T, ...] | None, tuple[str, ...]]
"""What was read (None: nothing readable), and notes about it."""
_MOST_LISTED = 2000
"""Numbers or agents of an account that are read."""


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


async def read_listing(http: CallerHttp, doing: str, listing: Listing) -> tuple[dict[str, Any], ...]:
    """Its rows, as fields of ours."""

    def keep(data: Mapping[str, Any]) -> dict[str, Any] | None:
        return {**members(data, listing.members), **listing.more(data)} if listing.counts(data) else None

    try:
        scanned = await listing.pages.scan(http, doing, keep, cursor=None, limit=_MOST_LISTED)
    except (NotFound, NotSupported):
        if listing.otherwise is None:
            raise
        scanned = await listing.otherwise.scan(http, doing, keep, cursor=None, limit=_MOST_LISTED)
    return scanned.found


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
