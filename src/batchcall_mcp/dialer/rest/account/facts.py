"""What the carrier's account has, and what was said in a call, as the REST API gives it."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from batchcall_mcp.clock import to_ms
from batchcall_mcp.dialer.carriers.base import AccountAtFault, CallDetails, Carrier, CarrierUnavailable, HasAccount
from batchcall_mcp.dialer.rest.account.placing import AccountRead, Placing
from batchcall_mcp.dialer.rest.messages import mapping
from batchcall_mcp.dialer.storage import queries
from batchcall_mcp.dialer.storage.queries import PlacedCall
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.errors import BackendUnavailable


def account(opened: Store, placing: Placing, organization_id: str, read: AccountRead) -> dict[str, Any]:
    """Whose key it is, and what it can dial with. Days are UTC days."""
    carrier, countries = placing.carrier, placing.allowed(read.account)
    now = opened.clock().astimezone(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    with opened.reading() as tx:
        calls_today = queries.attempts_since(tx, organization_id, to_ms(midnight), carrier.name)
    unread = () if read.unread is None else (f"The account of {carrier.title} cannot be read now: {read.unread}",)
    return {
        "organization_id": organization_id,
        **mapping.account_json(read.account),
        "carrier": carrier.name,
        "carrier_title": carrier.title,
        "places_real_calls": carrier.places_real_calls,
        "payer": carrier.payer if isinstance(carrier, HasAccount) else None,
        "calls_at_once": carrier.capacity if carrier.places_real_calls else None,
        "countries": None if countries is None else sorted(countries),
        "keeps_dates": True,
        "calls_today": calls_today,
        "notes": [*unread, *(read.account.notes if read.account is not None else ())],
    }


async def call(carrier: Carrier, placed: PlacedCall) -> dict[str, Any]:
    """A call with what was said in it, where this carrier placed it and has that.

    Raises:
        BackendUnavailable: the carrier could not be asked now.
    """
    known_here = placed.carrier == carrier.name and placed.carrier_call_id is not None
    if not known_here or not isinstance(carrier, HasAccount):
        return mapping.call_json(placed.task, placed.attempt_id, CallDetails())
    try:
        details = await carrier.details(str(placed.carrier_call_id))
    except (CarrierUnavailable, AccountAtFault) as error:
        raise BackendUnavailable(f"{carrier.title} could not be asked: {error}. Nothing was changed.") from error
    return mapping.call_json(placed.task, placed.attempt_id, details)
