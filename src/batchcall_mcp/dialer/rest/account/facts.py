"""What the carrier's account has, and what was said in a call, as the REST API gives it."""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Any

from batchcall_mcp.clock import to_ms
from batchcall_mcp.dialer.carriers.base import AccountAtFault, Carrier, CarrierUnavailable, HasAccount
from batchcall_mcp.dialer.rest.account.placing import AccountRead
from batchcall_mcp.dialer.rest.messages import mapping
from batchcall_mcp.dialer.storage import queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.errors import BackendUnavailable, NotFound
from batchcall_mcp.text import quoted


def account(opened: Store, carrier: Carrier, organization_id: str, read: AccountRead) -> dict[str, Any]:
    """Whose key it is, and what it can dial with. Days are UTC days."""
    now = opened.clock().astimezone(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    with opened.reading() as tx:
        calls_today = queries.attempts_since(tx, organization_id, to_ms(midnight))
    unread = () if read.unread is None else (f"The account of {carrier.title} cannot be read now: {read.unread}",)
    return {
        "organization_id": organization_id,
        **mapping.account_json(read.account),
        "carrier": carrier.name,
        "carrier_title": carrier.title,
        "places_real_calls": carrier.places_real_calls,
        "payer": carrier.payer if isinstance(carrier, HasAccount) else None,
        "keeps_dates": True,
        "calls_today": calls_today,
        "notes": [*unread, *(read.account.notes if read.account is not None else ())],
    }


async def call(
    opened: Store, carrier: Carrier, organization_id: str, batch_call_id: str, task_id: str
) -> dict[str, Any]:
    """What was said in the last call of a task, as the carrier has it.

    Raises:
        NotFound: it has no call that this carrier could be asked about.
        BackendUnavailable: the carrier could not be asked now.
    """
    known = await asyncio.to_thread(_last_call, opened, organization_id, batch_call_id, task_id)
    if known.carrier != carrier.name or not isinstance(carrier, HasAccount):
        raise NotFound(
            f"What was said in this call only its carrier {quoted(known.carrier)} knows, and this dialer dials through "
            f"{quoted(carrier.name)}. Nothing was changed."
        )
    try:
        details = await carrier.details(known.carrier_call_id)
    except (CarrierUnavailable, AccountAtFault) as error:
        raise BackendUnavailable(f"{carrier.title} could not be asked: {error}. Nothing was changed.") from error
    return mapping.call_json(known.task, known.attempt_id, details)


def _last_call(opened: Store, organization_id: str, batch_call_id: str, task_id: str) -> queries.LastCall:
    with opened.reading() as tx:
        queries.get(tx, organization_id, batch_call_id)
        return queries.last_call(tx, batch_call_id, task_id)
