"""Rows of a vendor's lists: page by page, as the numbers and agents of an account, and those of one attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from batchcall_mcp.model import Agent, CallerNumber
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.json_values import inside, rows, text

_MOST_PAGES: Final = 20
_MOST_READ: Final = 20
_LONGEST_CURSOR: Final = 4000
Row: TypeAlias = Mapping[str, Any]


async def every_row(read: Callable[[HttpCall], Awaitable[Any]], call: HttpCall, items: str, cursor: str) -> list[Row]:
    """All rows of a list. `items`: where they are in an answer that is no list itself; `cursor`: where it says, with
    `has_more`, what to ask for next. The query takes that by its name without `next_`.
    """
    found: list[Row] = []
    asked = call
    for _ in range(_MOST_PAGES):
        answer = await read(asked)
        found += rows(answer if isinstance(answer, list) else inside(answer, items))[0]
        following = text(inside(answer, cursor), _LONGEST_CURSOR)
        if following is None or inside(answer, "has_more") is not True:
            break
        asked = replace(call, query={**(call.query or {}), cursor.removeprefix("next_"): following})
    return found


def agents_in(found: Iterable[Row], agent_id: str, name: str = "name") -> list[Agent]:
    """The agents in these rows, each once, by the paths of its id and name."""
    named = {text(inside(row, agent_id), 200): text(row.get(name)) for row in found}
    return [Agent(agent_id=one, name=its_name) for one, its_name in named.items() if one]


def numbers_in(found: Iterable[Row], number: str, name: str, number_id: str) -> list[CallerNumber]:
    """The caller numbers in these rows, by the names of their members."""
    return [
        CallerNumber(from_number=one, name=text(row.get(name)), number_id=text(row.get(number_id)))
        for row in found
        if (one := text(row.get(number)))
    ]


async def those_that(
    are_own: Callable[[Any], bool], call_ids: Iterable[str | None], read: Callable[[str], Awaitable[Any]]
) -> Sequence[str]:
    """Of these calls, those that are the attempt's own, where only reading them one by one says that."""
    first = [one for one in call_ids if one is not None][:_MOST_READ]
    return [call_id for call_id in first if are_own(await read(call_id))]
