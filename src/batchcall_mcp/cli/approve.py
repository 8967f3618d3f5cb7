"""`batchcall-mcp approve CODE`: a person's yes where the MCP client cannot show a question."""

from __future__ import annotations

import sys

import click

from batchcall_mcp.cli.environment import load_settings
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.guard.confirmation import LIFETIME_S
from batchcall_mcp.wording import shortened

_LONGEST_QUESTION = 4000


@click.command()
@click.argument("code")
def approve(code: str) -> None:
    """Show what CODE would launch, and approve it, once.

    For BATCHCALL_CONFIRM=person. It has to run with the data directory or database of the server that gave the code,
    and asks at a terminal: a program cannot answer for a person by accident.
    """
    settings = load_settings()
    if not sys.stdin.isatty():
        raise click.ClickException(
            "approve asks a person at a terminal, and this is none. Nothing was approved; nothing was sent."
        )
    from batchcall_mcp.guard.ledger.ledger import Ledger

    ledger = Ledger.open(settings)
    try:
        pending = ledger.codes.find(code)
        if pending is None or pending.kind != "approval" or pending.is_used:
            raise click.ClickException(
                f"This code is not valid: unknown here, older than {LIFETIME_S // 60} minutes, replaced by a later "
                "one, or used. Nothing was approved; nothing was sent. If the server has BATCHCALL_DATA_DIR or "
                "BATCHCALL_DATABASE_URL set, set the same here."
            )
        click.echo(shortened(pending.question, _LONGEST_QUESTION))
        yes = click.confirm("Approve exactly this, once?", default=False)
        approved = yes and ledger.codes.approve(code)
        if not approved:
            ledger.codes.discard(pending.token)
        outcome = "approved" if approved else "too_late" if yes else "declined"
        event = Event(event="approved", caller=pending.caller, tool=pending.tool, outcome=outcome)
        Audit(settings.data_dir).note(event)
    finally:
        ledger.close()
    if not approved:
        why = "This code was replaced or has expired meanwhile: there is a later question." if yes else "Not approved."
        click.echo(f"{why} The code is worth nothing any more; nothing was sent.")
        raise SystemExit(1)
    click.echo(f"Approved. The same call launches now, if it comes within {LIFETIME_S // 60} minutes of the question.")
