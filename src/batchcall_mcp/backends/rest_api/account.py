"""The account behind a key, in the batch-call REST API: our `/account`, else Zudu's lists of numbers and agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from batchcall_mcp.backends.rest_api import mapping as words
from batchcall_mcp.errors import AuthenticationFailed, BackendUnavailable, BatchCallError, NotFound, NotSupported
from batchcall_mcp.model import Account
from batchcall_mcp.vendor_http.client import CallerHttp
from batchcall_mcp.vendor_http.http_errors import JsonObject
from batchcall_mcp.vendor_http.json_values import rows, text, whole

T = TypeVar("T")
LIMIT = 100
"""Numbers and agents that are read; a note says so where there are more."""


async def read_account(http: CallerHttp, *, extended: bool) -> Account:
    """Numbers and agents; a part that cannot be read is None and a note.

    Raises:
        AuthenticationFailed: the key is not accepted at all.
    """
    if extended:
        try:
            return _account(await http.read("read the account", "GET", "/account"))
        except (NotFound, NotSupported):
            pass  # a server without this extension may have Zudu's lists
    found = Account()
    silent: str | None = None
    page: JsonObject = {"page": 0, "limit": LIMIT}
    try:
        answer = await http.read("list the caller numbers", "POST", "/api/phone-numbers/list", json=page)
        numbers, notes = _listed(answer, words.caller_number, "caller numbers", "phone_numbers", "numbers")
        found = replace(found, numbers=numbers, notes=found.notes + notes)
    except AuthenticationFailed:
        raise
    except BatchCallError as error:
        silent = error.message if isinstance(error, BackendUnavailable) else None
        found = replace(found, notes=(*found.notes, f"The caller numbers could not be read: {error.message}"))
    try:
        answer = await http.read("list the agents", "GET", "/api/agents", params={"page": 0, "limit": LIMIT})
        agents, notes = _listed(answer, words.agent, "agents", "agents")
        return replace(found, agents=agents, notes=found.notes + notes)
    except AuthenticationFailed:
        raise
    except BatchCallError as error:
        unavailable = silent if isinstance(error, BackendUnavailable) else None
        notes = (*found.notes, f"The agents could not be read: {error.message}")
        return replace(found, notes=notes, unavailable=unavailable)


def _account(answer: JsonObject) -> Account:
    data = words.payload(answer)
    numbers = _read(data.get("numbers"), words.caller_number)
    agents = _read(data.get("agents"), words.agent)
    notes = []
    if data.get("places_real_calls") is False:
        notes.append(f"Its carrier is {text(data.get('carrier')) or 'a simulation'}: no phone rings.")
    calls = whole(data.get("calls_today"))
    if calls is not None:
        notes.append(f"Calls placed today: {calls}.")
    return Account(
        numbers=numbers, agents=agents, organization_id=text(data.get("organization_id")), notes=tuple(notes)
    )


def _read(value: Any, read: Callable[[Mapping[str, Any]], T | None]) -> tuple[T, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(item for data in rows(value)[0] if (item := read(data)) is not None)


def _listed(
    answer: JsonObject, read: Callable[[Mapping[str, Any]], T | None], what: str, *members: str
) -> tuple[tuple[T, ...] | None, tuple[str, ...]]:
    found = words.account_rows(answer, *members)
    if found is None:
        return None, (f"The backend answered without a list of {what}.",)
    items, has_more = found
    notes = (f"Only the first {len(items)} {what} were read.",) if has_more else ()
    return _read(items, read), notes
