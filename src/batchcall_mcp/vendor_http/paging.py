"""From a vendor's numbered pages to our cursor, filtering on the way without ever holding a whole list.

A cursor is an offset in the vendor's own order. Everything here is bounded: a call reads at most `MAX_PAGES` raw pages
and then hands back what it found with a cursor to go on from.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from batchcall_mcp.errors import InvalidInput, UnexpectedResponse

MAX_PAGES = 20
T = TypeVar("T")
Raw: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RawPage:
    """One page of a vendor's list: None for what is not an object, the page size in force, whether more follow."""

    items: tuple[Raw | None, ...]
    size: int | None
    has_more: bool


@dataclass(frozen=True, slots=True)
class Scanned(Generic[T]):
    """What was found; `next_cursor` None = nothing follows."""

    found: tuple[T, ...]
    next_cursor: str | None
    unreadable: int = 0

    def notes(self, what: str) -> tuple[str, ...]:
        """What to say about entries that could not be read."""
        if not self.unreadable:
            return ()
        return (f"{self.unreadable} {what} in the backend's answer could not be read and are not shown.",)


def offset_of(cursor: str | None) -> int:
    """The offset that a cursor stands for.

    Raises:
        InvalidInput: if it is not one of ours.
    """
    if cursor is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,12}", cursor):
        raise InvalidInput("cursor: not one that this tool gave. Leave it out to begin with the first page.")
    return int(cursor)


async def scan(
    fetch: Callable[[int, int], Awaitable[RawPage]],
    keep: Callable[[Raw], T | None],
    *,
    cursor: str | None,
    limit: int,
    size: int,
) -> Scanned[T]:
    """Up to `limit` entries that `keep` does not turn into None, from `cursor` on.

    `fetch(page, size)` reads a numbered page, the first being 0. A server that gives smaller pages than asked for, or
    everything at once, is followed.
    """
    offset = offset_of(cursor)
    found: list[T] = []
    unreadable = 0
    last: RawPage | None = None
    for _ in range(MAX_PAGES):
        number = offset // size
        page = await fetch(number, size)
        if last is not None and any(page.items) and page.items == last.items:
            raise UnexpectedResponse(
                "The backend gives the same page again and again, and its list has no end. Nothing was changed. Check "
                "BATCHCALL_URL and BATCHCALL_BACKEND."
            )
        last = page
        if page.size is not None and page.size < size and page.items:
            size = page.size
            if offset // size != number:
                continue
        everything = len(page.items) > size  # more than was asked for: the server ignores paging
        begin = 0 if everything else number * size
        taken, unread, used = _take(page.items[max(offset - begin, 0) :], keep, limit - len(found))
        found += taken
        unreadable += unread
        offset += used
        exhausted = offset - begin >= len(page.items)
        if exhausted and (everything or not page.has_more):
            return Scanned(tuple(found), None, unreadable)
        if exhausted:
            offset = max(offset, begin + size)
        if len(found) >= limit:
            break
    return Scanned(tuple(found), str(offset), unreadable)


def _take(items: Sequence[Raw | None], keep: Callable[[Raw], T | None], limit: int) -> tuple[list[T], int, int]:
    """Entries kept, entries unreadable, entries used up."""
    found: list[T] = []
    unreadable = 0
    for used, item in enumerate(items):
        if len(found) >= limit:
            return found, unreadable, used
        kept = None if item is None else keep(item)
        unreadable += item is None
        if kept is not None:
            found.append(kept)
    return found, unreadable, len(items)
