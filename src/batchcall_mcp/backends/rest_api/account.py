"""The account behind a key, in the batch-call REST API: our `/account`, else Zudu's lists of numbers and agents."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from batchcall_mcp.backends.account_reading import Part, read_parts
from batchcall_mcp.backends.rest_api import mapping as words
from batchcall_mcp.errors import NotFound, NotSupported
from batchcall_mcp.model import Account, Agent, CallerNumber
from batchcall_mcp.vendor_http.client import CallerHttp
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.http_errors import JsonObject
from batchcall_mcp.vendor_http.json_values import first, money, read_each, rows, text, whole

T = TypeVar("T")
_LONGEST_PAYER = 100
"""It stands in the question, which nobody may fill with words of their own."""
_MOST_NOTES, _LONGEST_NOTE = 10, 500
_COUNTRY = re.compile("[A-Z]{2}")
LIMIT = 100
"""Numbers and agents that are read; a note says so where there are more."""


async def read_account(http: CallerHttp, *, extended: bool) -> Account:
    """Numbers and agents; a part that cannot be read is None and a note.

    Raises:
        AuthenticationFailed: the key is not accepted at all.
    """
    if extended:
        try:
            return _account(await http.read("read the account", HttpCall("GET", "/account")))
        except (NotFound, NotSupported):
            pass  # a server without this extension may have Zudu's lists

    async def numbers() -> Part[CallerNumber]:
        page: JsonObject = {"page": 0, "limit": LIMIT}
        answer = await http.read("list the caller numbers", HttpCall("POST", "/api/phone-numbers/list", json=page))
        return listed(answer, words.caller_number, "caller numbers", "phone_numbers", "numbers")

    async def agents() -> Part[Agent]:
        answer = await http.read("list the agents", HttpCall("GET", "/api/agents", query={"page": 0, "limit": LIMIT}))
        return listed(answer, words.agent, "agents", "agents")

    return await read_parts(numbers, agents)


def _account(answer: JsonObject) -> Account:
    data = words.payload(answer)
    numbers, agents = data.get("numbers"), data.get("agents")
    payer = text(data.get("payer"), _LONGEST_PAYER)
    notes = []
    if data.get("places_real_calls") is False:
        notes.append(f"Its carrier is {text(data.get('carrier')) or 'a simulation'}: no phone rings.")
    elif data.get("places_real_calls") is True:
        through = text(data.get("carrier_title")) or text(data.get("carrier")) or "its carrier"
        notes.append(f"Real phones ring, through {through}{f', and {payer} pays' if payer else ''}.")
    at_once, countries = whole(data.get("calls_at_once")), _countries(data.get("countries"))
    notes += [] if at_once is None else [f"At most {at_once} calls at once, over all batch calls."]
    notes += [] if countries is None else [f"Only these countries may be called: {', '.join(sorted(countries))}."]
    said = listed_notes if isinstance(listed_notes := data.get("notes"), list) else []
    notes += [note for one in said[:_MOST_NOTES] if (note := text(one, _LONGEST_NOTE))]
    calls = whole(data.get("calls_today"))
    if calls is not None:
        notes.append(f"Calls placed today: {calls}.")
    return Account(
        numbers=read_each(numbers, words.caller_number) if isinstance(numbers, list) else None,
        agents=read_each(agents, words.agent) if isinstance(agents, list) else None,
        organization_id=text(data.get("organization_id")),
        cost_per_minute=money(data.get("cost_per_minute")),
        payer=payer,
        calls_at_once=at_once or None,
        countries=countries,
        notes=tuple(notes),
    )


def _countries(found: object) -> frozenset[str] | None:
    if not isinstance(found, list):
        return None
    return frozenset(one for one in found if isinstance(one, str) and _COUNTRY.fullmatch(one))


def listed(answer: JsonObject, read: Callable[[Mapping[str, Any]], T | None], what: str, *members: str) -> Part[T]:
    """The entries of a list that has any of these names, with a note if it goes on. Pure."""
    data = words.payload(answer)
    found = answer["data"] if isinstance(answer.get("data"), list) else first(data, *members)
    if not isinstance(found, list):
        return None, (f"The backend answered without a list of {what}.",)
    pagination = data.get("pagination")
    paging: Mapping[str, Any] = pagination if isinstance(pagination, dict) else data
    total = whole(first(paging, "total_count", "total"))
    has_more = paging.get("has_next_page") is True or (total is not None and total > len(found))
    notes = (f"Only the first {len(rows(found)[0])} {what} were read.",) if has_more else ()
    return read_each(found, read), notes
