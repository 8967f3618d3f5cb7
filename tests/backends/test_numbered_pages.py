"""Numbered pages whose answers say themselves how large they are and whether more follow."""

from __future__ import annotations

from typing import Any, cast

import pytest

from batchcall_mcp.vendor_http.client import CallerHttp
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.paging import OffsetPages

ROWS = [{"number": number} for number in range(25)]


class Shelf:
    """A list in pages of at most `most`. `words`: whether its answers say so."""

    def __init__(self, most: int, *, words: bool) -> None:
        self.most = most
        self.words = words
        self.asked: list[tuple[int, int]] = []

    async def read(self, _doing: str, call: HttpCall) -> dict[str, Any]:
        """One page, the first being 1."""
        query = dict(call.query or {})
        page, asked = int(str(query["page"])), int(str(query["limit"]))
        self.asked.append((page, asked))
        size = min(asked, self.most)
        items = ROWS[(page - 1) * size : page * size]
        return {"rows": items} | ({"size": size, "more": page * size < len(ROWS)} if self.words else {})


async def everything(shelf: Shelf, limit: int) -> list[int]:
    pages = OffsetPages(
        lambda page, size: HttpCall("GET", "/rows", query={"page": page + 1, "limit": size}),
        "rows",
        10,
        lambda answer: (answer.get("size"), answer.get("more")),
    )
    found: list[int] = []
    cursor: str | None = None
    while True:
        scanned = await pages.scan(
            cast("CallerHttp", shelf), "read rows", lambda row: row["number"], cursor=cursor, limit=limit
        )
        found += scanned.found
        cursor = scanned.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 10, 100])
@pytest.mark.parametrize(("most", "words"), [(100, True), (100, False), (4, True), (5, True)])
async def test_every_row_comes_once_from_a_server_that_gives_smaller_pages_too(
    most: int, words: bool, limit: int
) -> None:
    assert await everything(Shelf(most, words=words), limit) == list(range(25))


async def test_a_full_last_page_is_not_followed_by_another_request_where_the_answer_says_that_it_is_the_last() -> None:
    shelf = Shelf(5, words=True)
    assert await everything(shelf, 100) == list(range(25))
    assert shelf.asked[-1] == (5, 5)
