"""`batchcall-mcp ledger`: writes whose outcome nobody knows, and a person's word on what became of them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from batchcall_mcp.clock import from_ms
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.guard.write_record import Entry, WriteState
from batchcall_mcp.server.startup import load_settings_of_init
from batchcall_mcp.settings import Settings
from batchcall_mcp.text import shortened

if TYPE_CHECKING:
    from batchcall_mcp.guard.ledger.ledger import Ledger

_LONGEST_ID = 200


@click.group(invoke_without_command=True, short_help="List writes of unknown outcome; settle them.")
@click.pass_context
def ledger(context: click.Context) -> None:
    """List the writes of unknown outcome, oldest first."""
    if context.invoked_subcommand is not None:
        return
    with _opened(load_settings_of_init()) as opened:
        entries = opened.history.unsettled()
    click.echo("\n".join(map(_line, entries)) or "The outcome of every write is known.")


@ledger.command()
@click.argument("entry", type=click.IntRange(1))
@click.argument("outcome", type=click.Choice(["made", "not-made"]))
@click.option("--batch-call-id", help="Id of what a create made, as the backend shows it.")
def resolve(entry: int, outcome: str, batch_call_id: str | None) -> None:
    """Settle ENTRY as the backend itself shows it: made, or not made.

    After `not-made` the same call may be sent again, with a new confirmation if it dials: be sure.
    """
    settings = load_settings_of_init()
    with _opened(settings) as opened:
        found = opened.writes.entry(entry)
        if found is None:
            raise click.ClickException(
                f"Entry {entry} does not exist. `batchcall-mcp ledger` lists the entries to settle."
            )
        if not found.is_open:
            raise click.ClickException(f"Entry {entry} is already settled: {found.state}.")
        if opened.writes.is_in_hand(found):
            raise click.ClickException(f"Entry {entry} is being sent now. Try again in a minute.")
        if batch_call_id and (outcome != "made" or found.batch_call_id):
            raise click.ClickException("--batch-call-id applies only to a create that was made. Omit it here.")
        if outcome == "made" and not (found.batch_call_id or batch_call_id):
            raise click.ClickException("Name what it made: pass --batch-call-id, as the backend's own page shows it.")
        state = WriteState.DONE if outcome == "made" else WriteState.REFUSED
        if not opened.writes.settle(found, state, batch_call_id=batch_call_id if outcome == "made" else None):
            raise click.ClickException(
                f"Entry {entry} has just changed: it was sent again, or its outcome is known. This command changed "
                "nothing. See `batchcall-mcp ledger`."
            )
        event = Event(
            event="settled",
            caller="operator",
            tool=found.tool,
            operation=str(found.operation),
            batch_call_id=batch_call_id or found.batch_call_id,
            outcome=outcome,
            write_id=entry,
        )
        Audit(settings.data_dir).note(event)
    click.echo(f"Entry {entry} is settled: {outcome}.")


def _opened(settings: Settings) -> closing[Ledger]:
    from batchcall_mcp.guard.ledger.ledger import Ledger

    return closing(Ledger.open(settings))


def _line(entry: Entry) -> str:
    at = from_ms(entry.sent_at)
    new = entry.evidence.name or f"a batch call of {entry.evidence.total} people"
    what = shortened(entry.batch_call_id, _LONGEST_ID) if entry.batch_call_id else new
    calls = f", {entry.calls} calls" if entry.calls else ""
    return f"{entry.write_id}: {entry.tool} {what}{calls}, sent {at:%Y-%m-%d %H:%M:%S UTC}: {entry.state}"
