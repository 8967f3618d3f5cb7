"""`batchcall-mcp doctor` on the built-in dialer: its carrier, and the account of that. Nobody is called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from batchcall_mcp.cli.account.findings import Finding, clock_finding, listed_findings
from batchcall_mcp.dialer.carriers import registry
from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Carrier,
    CarrierAccount,
    CarrierUnavailable,
    HasAccount,
    ReportsCalls,
)
from batchcall_mcp.dialer.carriers.http_carrier import HttpCarrier
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.recipients.phone.destinations import allowed_countries
from batchcall_mcp.settings import Settings

_WHERE = "dialer, in the process of the server."


async def dialer_findings(settings: Settings) -> AsyncIterator[Finding]:
    """The dialer, and where it rings phones the account that pays."""
    try:
        carrier = registry.carrier_of(settings)
    except ConfigurationError as error:
        yield Finding("wrong", "carrier", error.message)
        return
    if carrier is None:
        yield Finding("ok", "backend", f"{_WHERE} No phone rings, no account is needed.")
        return
    yield Finding("ok", "backend", f"{_WHERE} Calls are placed while a client is connected.")
    payer = f", and {carrier.payer} pays" if isinstance(carrier, HasAccount) else ""
    yield Finding("look", "carrier", f"{carrier.title}: real phones ring{payer}.")
    for finding in _settled(settings, carrier):
        yield finding
    if isinstance(carrier, HasAccount):
        for finding in await _account(settings, carrier):
            yield finding


def _settled(settings: Settings, carrier: Carrier) -> Iterator[Finding]:
    """What needs no look at the account."""
    pace = "as many a second as it takes"
    if carrier.calls_per_second is not None:
        pace = f"{carrier.calls_per_second:g} a second"
    yield Finding("ok", "pace", f"{carrier.capacity} calls at once, {pace}, over all processes of this database.")
    if settings.public_url is None or not isinstance(carrier, ReportsCalls):
        return
    yield Finding(
        "look",
        "reports",
        f"{carrier.title} sends them to {settings.public_url.rstrip('/')}/carriers/{carrier.name}. "
        "`batchcall-mcp dialer` takes them; an MCP server does not start with BATCHCALL_PUBLIC_URL.",
    )


async def _account(settings: Settings, carrier: HasAccount) -> list[Finding]:
    try:
        account = await carrier.account()
    except (AccountAtFault, CarrierUnavailable) as error:
        return [Finding("wrong", "account", str(error))]
    finally:
        if isinstance(carrier, HttpCarrier):
            await carrier.aclose()
    found = [
        *listed_findings(account.numbers, account.agents, "the account does not list them to this key."),
        *(Finding("look", "account", note) for note in account.notes),
        _countries(settings, account),
    ]
    if isinstance(carrier, HttpCarrier):
        ahead = carrier.clock_ahead
        found.append(clock_finding([] if ahead is None else [-ahead], carrier.title))
    return found


def _countries(settings: Settings, account: CarrierAccount) -> Finding:
    numbers = None if account.numbers is None else [one.from_number for one in account.numbers]
    if settings.countries is None and numbers is None:
        return Finding("look", "countries", "those of each caller number. BATCHCALL_COUNTRIES names others.")
    named = ", ".join(sorted(allowed_countries(settings.countries, numbers or (), "")))
    why = "those of the caller numbers" if settings.countries is None else "BATCHCALL_COUNTRIES"
    if not named:
        return Finding("wrong", "countries", "none may be called. Set BATCHCALL_COUNTRIES.")
    return Finding("ok", "countries", f"{named} may be called: {why}.")
