"""From a vendor's pages to our cursor, filtering on the way without ever holding a whole list.

A cursor is an offset in the vendor's own order, or the vendor's own cursor with an offset in its page. Everything here
is bounded: a call reads at most `MAX_PAGES` raw pages and then hands back what it found with a cursor to go on from.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from anyio import CapacityLimiter, create_task_group

from batchcall_mcp.errors import BatchCallError, InvalidInput, UnexpectedResponse
from batchcall_mcp.vendor_http.client import CallerHttp
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.json_values import inside, text, whole

MAX_PAGES = 20
_LONGEST_CURSOR = 4000
_CURSOR_VERSION = 1
_MOST_AT_ONCE = 2000
R = TypeVar("R")
T = TypeVar("T")
Raw: TypeAlias = Mapping[str, Any]
Items: TypeAlias = tuple[Raw | None, ...]
"""None for what is not an object."""


@dataclass(frozen=True, slots=True)
class RawPage:
    """One page of a vendor's list: the page size in force, whether more follow."""

    items: Items
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
        raise _not_ours()
    return int(cursor)


def _not_ours() -> InvalidInput:
    return InvalidInput("cursor: not one that this tool gave. Leave it out to begin with the first page.")


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
            raise _no_end()
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


def cut(items: Items, keep: Callable[[Raw], T | None], *, cursor: str | None, limit: int) -> Scanned[T]:
    """A page of a list that is here as a whole, from `cursor` on.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    offset = offset_of(cursor)
    found, unreadable, used = _take(items[offset:], keep, limit)
    after = offset + used
    return Scanned(tuple(found), str(after) if after < len(items) else None, unreadable)


async def each(items: Sequence[R], read: Callable[[R], Awaitable[T]], at_once: int = 5) -> list[T]:
    """What `read` makes of every item, in their order, where a list says less than one read for each of its rows.

    Raises:
        BatchCallError: of the first that fails; no more are begun then.
    """
    found: dict[int, T] = {}
    failed: list[BatchCallError] = []
    limiter = CapacityLimiter(at_once)

    async def one(number: int, item: R) -> None:
        async with limiter:
            try:
                found[number] = await read(item)
            except BatchCallError as error:
                failed.append(error)
                group.cancel_scope.cancel()

    async with create_task_group() as group:
        for number, item in enumerate(items):
            group.start_soon(one, number, item)
    if failed:
        raise failed[0]
    return [found[number] for number in range(len(items))]


def _no_end() -> UnexpectedResponse:
    return UnexpectedResponse(
        "The backend gives the same page again and again, and its list has no end. Nothing was changed. Check "
        "BATCHCALL_URL and BATCHCALL_BACKEND."
    )


class Pages(Protocol):
    """A list at a vendor, however it is cut into pages."""

    async def scan(
        self, http: CallerHttp, doing: str, keep: Callable[[Raw], T | None], *, cursor: str | None, limit: int
    ) -> Scanned[T]:
        """Up to `limit` entries that `keep` does not turn into None, from `cursor` on.

        Raises:
            InvalidInput: the cursor is not one of ours.
            UnexpectedResponse: an answer without such a list, or one that has no end.
        """
        ...


async def items_of(
    http: CallerHttp, doing: str, call: HttpCall, member: str | None, *, or_bare: bool = False
) -> tuple[Mapping[str, Any], Items]:
    """An answer and its list: the member of that name, or the whole answer (None); with `or_bare` either of them.

    Raises:
        UnexpectedResponse: there is no such list.
    """
    if member is None:
        return {}, _rows(await http.read_array(doing, call))
    answer = await (http.read_either(doing, call) if or_bare else http.read(doing, call))
    return ({}, _rows(answer)) if isinstance(answer, list) else (answer, _list_in(answer, member, doing))


def _list_in(answer: Raw, member: str, doing: str) -> Items:
    found = inside(answer, member)
    if not isinstance(found, list):
        raise UnexpectedResponse(
            f"Could not {doing}: the backend answered without a list of {member}. Nothing was changed. Check "
            "BATCHCALL_URL and BATCHCALL_BACKEND."
        )
    return _rows(found)


def _rows(found: list[Any]) -> Items:
    return tuple(item if isinstance(item, dict) else None for item in found)


@dataclass(frozen=True, slots=True)
class InlinePages:
    """Everything in one answer, in the member `items` (None: the answer is the list); pages are cut out of it here.

    `check` looks at the whole answer first: whether it is about what was asked for. `or_bare`: an answer that is a list
    itself will do too.
    """

    call: HttpCall
    items: str | None
    check: Callable[[Raw], None] = lambda _answer: None
    or_bare: bool = False

    async def scan(
        self, http: CallerHttp, doing: str, keep: Callable[[Raw], T | None], *, cursor: str | None, limit: int
    ) -> Scanned[T]:
        """See `Pages`."""
        offset_of(cursor)  # one that is not ours is refused before anything is asked
        answer, items = await items_of(http, doing, self.call, self.items, or_bare=self.or_bare)
        self.check(answer)
        return cut(items, keep, cursor=cursor, limit=limit)

    def scan_in(
        self, answer: Raw, doing: str, keep: Callable[[Raw], T | None], *, cursor: str | None, limit: int
    ) -> Scanned[T]:
        """The same out of an answer that is here already, of which the list is a member."""
        self.check(answer)
        return cut(_list_in(answer, self.items or "", doing), keep, cursor=cursor, limit=limit)


@dataclass(frozen=True, slots=True)
class JoinedPages:
    """A list that comes in several answers, each of them an array, such as one an agent; newest first by `newest`.

    `parts` says which requests make it up, each with members that its rows have in addition.
    """

    parts: Callable[[], Awaitable[Sequence[tuple[HttpCall, Raw]]]]
    newest: str

    async def scan(
        self, http: CallerHttp, doing: str, keep: Callable[[Raw], T | None], *, cursor: str | None, limit: int
    ) -> Scanned[T]:
        """See `Pages`."""
        offset_of(cursor)  # one that is not ours is refused before anything is asked

        async def read(part: tuple[HttpCall, Raw]) -> list[Raw | None]:
            call, more = part
            return [None if row is None else {**row, **more} for row in _rows(await http.read_array(doing, call))]

        found = [row for rows in await each(await self.parts(), read) for row in rows]
        found.sort(key=lambda row: text((row or {}).get(self.newest)) or "", reverse=True)
        return cut(tuple(found), keep, cursor=cursor, limit=limit)


@dataclass(frozen=True, slots=True)
class OffsetPages:
    """Numbered pages: `call(page, size)` asks for one, the first being 0; the last has fewer entries than `size`.

    `says`: what an answer says itself, the size of its pages and whether more follow; None where it says nothing.
    """

    call: Callable[[int, int], HttpCall]
    items: str
    size: int
    says: Callable[[Raw], tuple[Any, Any]] = lambda _answer: (None, None)

    async def scan(
        self, http: CallerHttp, doing: str, keep: Callable[[Raw], T | None], *, cursor: str | None, limit: int
    ) -> Scanned[T]:
        """See `Pages`."""

        async def fetch(page: int, size: int) -> RawPage:
            answer, items = await items_of(http, doing, self.call(page, size), self.items)
            named, more = self.says(answer)
            in_force = whole(named) or size
            has_more = more if isinstance(more, bool) else len(items) >= min(in_force, size)
            return RawPage(items, in_force, has_more)

        return await scan(fetch, keep, cursor=cursor, limit=limit, size=self.size)


@dataclass(frozen=True, slots=True)
class LatestPages:
    """Of a list of calls, the oldest first, the last one to each person: `person` is the path to who that is.

    Nobody can know the last call of a person before the end of the list, so all of it is read; where nobody is called
    twice (`twice`), its pages are the vendor's.
    """

    pages: Pages
    person: str
    twice: Callable[[], Awaitable[bool]]

    async def scan(
        self, http: CallerHttp, doing: str, keep: Callable[[Raw], T | None], *, cursor: str | None, limit: int
    ) -> Scanned[T]:
        """See `Pages`."""
        offset_of(cursor)  # one that is not ours is refused before anything is asked
        if not await self.twice():
            return await self.pages.scan(http, doing, keep, cursor=cursor, limit=limit)
        last: dict[Any, Raw] = {}
        at, unreadable = None, 0
        for _ in range(MAX_PAGES):
            page = await self.pages.scan(http, doing, dict, cursor=at, limit=_MOST_AT_ONCE)
            last |= {text(inside(row, self.person)): row for row in page.found}
            at, unreadable = page.next_cursor, unreadable + page.unreadable
            if at is None:
                found = cut(tuple(last.values()), keep, cursor=cursor, limit=limit)
                return replace(found, unreadable=unreadable)
        raise _no_end()


@dataclass(frozen=True, slots=True)
class CursorPages:
    """Pages that name the next one: `call(cursor)` asks for one (None: the first); `after` finds the next cursor in an
    answer, None at the end. `or_bare`: an answer that is a list itself will do too, and is all of it.
    """

    call: Callable[[str | None], HttpCall]
    items: str
    after: Callable[[Mapping[str, Any]], Any]
    or_bare: bool = False

    async def scan(
        self, http: CallerHttp, doing: str, keep: Callable[[Raw], T | None], *, cursor: str | None, limit: int
    ) -> Scanned[T]:
        """See `Pages`."""
        at, offset = _read_cursor(cursor)
        found: list[T] = []
        unreadable = 0
        for _ in range(MAX_PAGES):
            answer, items = await items_of(http, doing, self.call(at), self.items, or_bare=self.or_bare)
            taken, unread, used = _take(items[offset:], keep, limit - len(found))
            found += taken
            unreadable += unread
            offset += used
            if offset < len(items):
                break
            following = text(self.after(answer), _LONGEST_CURSOR)
            if following is None:
                return Scanned(tuple(found), None, unreadable)
            if following == at:
                raise _no_end()
            at, offset = following, 0
            if len(found) >= limit:
                break
        return Scanned(tuple(found), _write_cursor(at, offset), unreadable)


def _write_cursor(at: str | None, offset: int) -> str:
    packed = json.dumps([_CURSOR_VERSION, at, offset], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _read_cursor(cursor: str | None) -> tuple[str | None, int]:
    if cursor is None:
        return None, 0
    try:
        if len(cursor) > 2 * _LONGEST_CURSOR:
            raise _not_ours()
        version, at, offset = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError):
        raise _not_ours() from None
    known = version == _CURSOR_VERSION and (at is None or isinstance(at, str))
    if not known or type(offset) is not int or offset < 0:
        raise _not_ours()
    return at, offset
