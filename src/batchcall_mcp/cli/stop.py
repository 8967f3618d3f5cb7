"""`batchcall-mcp stop`: from now on nothing is launched, and what is live is paused or cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import click

from batchcall_mcp.cli.environment import load_settings
from batchcall_mcp.errors import BatchCallError, ConfigurationError
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.guard.entries import STOP_WAITS_S, Entry
from batchcall_mcp.settings import Settings
from batchcall_mcp.wording import shortened

if TYPE_CHECKING:
    from batchcall_mcp.batch_calls.emergency import Stopped

_LONGEST_WORDS = 300


@click.command()
@click.option("--clear", is_flag=True, help="Lift the stop. What it paused stays paused.")
def stop(*, clear: bool) -> None:
    """Emergency stop: refuse every launch at once, then pause or cancel what is live.

    Every server on the same ledger refuses from then on, until --clear. Live batch calls are stopped as far as the
    credentials reach that this command finds in BATCHCALL_API_KEY and BATCHCALL_API_SECRET. Exit code 1: some of it
    could not be done.
    """
    settings = load_settings()
    if clear:
        _clear(settings)
    else:
        _stop(settings)


def _clear(settings: Settings) -> None:
    from batchcall_mcp.guard.ledger.ledger import Ledger

    ledger = Ledger.open(settings)
    ledger.stops.clear()
    ledger.close()
    Audit(settings.data_dir).note(Event(event="stop", caller="operator", tool="stop", outcome="cleared"))
    click.echo("The emergency stop is lifted: launches are possible again. What was paused or cancelled stays so.")


def _stop(settings: Settings) -> None:
    from batchcall_mcp.guard.ledger.ledger import Ledger

    file_made = row_made = False
    try:  # the file first: it works without a database
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        settings.stop_file.touch()
        file_made = True
    except OSError as error:
        click.echo(f"The file {settings.stop_file} could not be made: {error.strerror}.", err=True)
    unknown: list[Entry] = []
    try:
        ledger = Ledger.open(settings)
        ledger.stops.stop(wait_s=STOP_WAITS_S)
        row_made = True
        unknown = [entry for entry in ledger.history.unsettled() if entry.dials]
        ledger.close()
    except ConfigurationError as error:
        click.echo(f"Other machines on the ledger do not know of the stop: {error}", err=True)
    on = file_made or row_made
    outcome = "stopped" if on else "not_stopped"
    Audit(settings.data_dir).note(Event(event="stop", caller="operator", tool="stop", outcome=outcome))
    if on:
        click.echo("Stopped: nothing is launched from now on. Now what is live:")
    else:
        click.echo("NOT STOPPED: launches are still possible. End the servers themselves. Now what is live:")
    stopped: list[Stopped] = []
    broken = anyio.run(_stop_live, settings, stopped)
    if broken is not None:
        click.echo(f"Not every live batch call could be stopped: {shortened(str(broken), _LONGEST_WORDS)}", err=True)
    click.echo(_report(stopped))
    for entry in unknown:
        what = f"{entry.tool} {entry.batch_call_id or entry.evidence.name or ''} (ledger entry {entry.write_id})"
        click.echo(f"not known: {what} got no answer and may still take effect. Look at the backend's own page.")
    click.echo("Calls in progress end by themselves." + (" `batchcall-mcp stop --clear` lifts the stop." if on else ""))
    complete = file_made and row_made and broken is None
    if not complete or unknown or any(one.done == "not stopped" for one in stopped):
        raise SystemExit(1)


async def _stop_live(settings: Settings, stopped: list[Stopped]) -> BatchCallError | None:
    """Fills `stopped`; what was stopped before something broke counts too."""
    from batchcall_mcp.batch_calls.emergency import stop_live
    from batchcall_mcp.server.service import Service

    try:
        service = Service(settings, local=True, dials=False)
    except ConfigurationError as error:
        return error
    async with service.opened():
        try:
            async for one in stop_live(await service.operator_relay("stop")):
                stopped.append(one)  # noqa: PERF401 - see above
        except BatchCallError as error:
            return error
    return None


def _report(stopped: list[Stopped]) -> str:
    if not stopped:
        return "Nothing that could be seen is live."
    return "\n".join(f"{one.done}: {one.batch_call_id} (was {one.was}). {_words(one)}".rstrip() for one in stopped)


def _words(one: Stopped) -> str:
    return shortened(one.told, _LONGEST_WORDS) if one.done == "not stopped" else ""
