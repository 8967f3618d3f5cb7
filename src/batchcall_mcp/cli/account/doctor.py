"""`batchcall-mcp doctor`: what a server with these settings would find, one line each, with the cure.

It only reads: the account, one batch call at most, folders and the database. It makes nothing.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_address

import anyio
import anyio.to_thread
import click
import httpx2

from batchcall_mcp.backends.base import Backend
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.registry import EMBEDDED, backend_class, base_url, select, serving_class
from batchcall_mcp.cli.account.carrier_findings import dialer_findings
from batchcall_mcp.cli.account.findings import Finding, clock_finding, listed_findings
from batchcall_mcp.clock import Clock, utc_now
from batchcall_mcp.errors import BatchCallError, ConfigurationError
from batchcall_mcp.model import ListQuery
from batchcall_mcp.recipients.do_not_call import read_do_not_call_lists
from batchcall_mcp.recipients.files.allowed_folders import list_files
from batchcall_mcp.server.credentials import caller_credentials
from batchcall_mcp.server.startup import load_settings_of_init
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import BackendHttp, open_client


@click.command(short_help="Check settings, key, account, folders, database and clock. Nothing is called.")
def doctor() -> None:
    """Check what a server with these settings would find: one line each, with what to do about it.

    It reads the account and looks whether batch calls may be read. It makes nothing, and calls nobody.
    Exit code 0: nothing is wrong; 1: a line begins with "wrong"; 2: the settings cannot be read.
    """
    settings = load_settings_of_init()

    async def shown() -> bool:
        fine = True
        async for finding in examine(settings):
            click.echo(str(finding))
            fine = fine and finding.word != "wrong"
        return fine

    if not anyio.run(shown):
        raise SystemExit(1)


async def examine(settings: Settings, clock: Clock = utc_now) -> AsyncIterator[Finding]:
    """Everything, one finding after the other.

    Raises:
        ConfigurationError: no such backend, or its address is none.
    """
    kind = backend_class(select(settings))
    url = base_url(settings, kind)
    try:
        serving_class(settings)
    except ConfigurationError as error:  # a carrier next to a backend that places the calls itself
        yield Finding("wrong", "carrier", error.message)
    if kind.name == EMBEDDED:
        async for finding in dialer_findings(settings):
            yield finding
    else:
        yield _address(kind, url)
        async for finding in _account(settings, kind, url, clock):
            yield finding
    yield _launching(settings)
    for look in (_folders, _data_folder, _ledger, _do_not_call):
        for found in await anyio.to_thread.run_sync(_all, look, settings):
            yield found


def _all(look: Callable[[Settings], Iterator[Finding]], settings: Settings) -> list[Finding]:
    return list(look(settings))


def _address(kind: type[Backend], url: str) -> Finding:
    where = httpx2.URL(url)
    if where.scheme == "http" and not _is_loopback(where.host):
        return Finding("look", "backend", f"{kind.name} at {url}: others on the way can read the key. Use https.")
    return Finding("ok", "backend", f"{kind.name} at {url}")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def _account(settings: Settings, kind: type[Backend], url: str, clock: Clock) -> AsyncIterator[Finding]:
    can = kind.capabilities
    try:
        credentials = caller_credentials(None, settings, needs_secret=can.needs_secret)
    except ConfigurationError as error:
        yield Finding("wrong", "key", str(error))
        return
    key = credentials.api_key.get_secret_value()
    if can.key_begins and not key.startswith(can.key_begins):
        yield Finding("look", "key", f"keys of {kind.name} begin with {can.key_begins}, and this one does not.")
    if settings.api_secret is not None and not can.needs_secret:
        yield Finding("look", "key", f"{kind.name} has no secrets: BATCHCALL_API_SECRET is not sent. Remove it.")
    off: list[timedelta] = []

    async def note_the_time(response: httpx2.Response) -> None:
        try:
            off.append(clock() - parsedate_to_datetime(response.headers.get("date", "")))
        except (ValueError, TypeError):
            return  # it has no date, or none with a time zone

    async with open_client() as client:
        client.event_hooks = {"request": [], "response": [note_the_time]}
        backend = kind(BackendHttp(client, url, settings.request_timeout_s), credentials)
        try:
            async for finding in _read(backend):
                yield finding
        except BatchCallError as error:
            yield Finding("wrong", "account", error.message)
    yield clock_finding(off, "the backend")


async def _read(backend: Backend) -> AsyncIterator[Finding]:
    can = backend.capabilities
    account = await backend.account()
    if account.unavailable is not None:
        yield Finding("wrong", "account", account.unavailable)
        return
    for finding in listed_findings(account.numbers, account.agents, "this backend does not list them to this key."):
        yield finding
    for note in account.notes:
        yield Finding("look", "account", note)
    if Operation.LIST not in can.operations:
        yield Finding("look", "batch calls", "this backend lists none, so nothing says whether this key may make them.")
        return
    await backend.list(ListQuery(limit=1))
    yield Finding("ok", "batch calls", "this key may read them.")


def _launching(settings: Settings) -> Finding:
    if settings.stop_file.exists():
        return Finding("look", "launches", "stopped by `batchcall-mcp stop`; `batchcall-mcp stop --clear` lifts it.")
    if settings.mode != "full":
        return Finding("look", "launches", f"BATCHCALL_MODE={settings.mode}: nothing can be launched.")
    if settings.confirm == "off":
        return Finding("look", "launches", "BATCHCALL_CONFIRM=off: nobody is asked before people are called.")
    return Finding("ok", "launches", "a person is asked first.")


def _folders(settings: Settings) -> Iterator[Finding]:
    for folder in settings.files:
        if not folder.exists():
            yield Finding("look", "lists", f"{folder} does not exist; a server over stdio makes the first one.")
        elif not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
            yield Finding("wrong", "lists", f"{folder} cannot be read. Correct its permissions, or BATCHCALL_FILES.")
    there = [folder for folder in settings.files if folder.is_dir()]
    if there:
        found = list_files(there, settings.do_not_call)
        yield Finding("ok", "lists", f"{len(found)} in {', '.join(map(str, there))}")


def _data_folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    nearest = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("wrong", "data", f"{folder} cannot be written. Correct its permissions, or BATCHCALL_DATA_DIR.")
    else:
        yield Finding("ok", "data", f"{folder}")


def _ledger(settings: Settings) -> Iterator[Finding]:
    from batchcall_mcp.guard.ledger.ledger import Ledger

    where = "PostgreSQL" if settings.database_url is not None else "SQLite in the data folder"
    try:
        ledger = Ledger.open_existing(settings)
    except ConfigurationError as error:
        yield Finding("wrong", "database", str(error))
        return
    if ledger is None:
        yield Finding("ok", "database", f"{where}; the first write makes it.")
        return
    ledger.close()
    yield Finding("ok", "database", f"{where}; the record of all writes can be read.")


def _do_not_call(settings: Settings) -> Iterator[Finding]:
    if not settings.do_not_call:
        return
    try:
        found = read_do_not_call_lists(settings.do_not_call, settings.default_region)
    except BatchCallError as error:
        yield Finding("wrong", "do-not-call", error.message)
        return
    yield Finding("ok", "do-not-call", f"{len(found.numbers):,} numbers")
    for note in found.notes():
        yield Finding("look", "do-not-call", note)
