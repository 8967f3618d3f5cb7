"""`batchcall-mcp dialer remove-gate`: an operator's word that people may be dialled without asking a gate before."""

from __future__ import annotations

from contextlib import closing

import click

from batchcall_mcp.server.startup import load_settings


@click.command("remove-gate")
def remove_gate() -> None:
    """Let processes without BATCHCALL_PREDIAL_URL dial from a database whose calls were asked about at a gate.

    A process that has BATCHCALL_PREDIAL_URL goes on asking, and at its next start only such processes dial again.
    """
    settings = load_settings()
    from batchcall_mcp.dialer.storage import installation
    from batchcall_mcp.dialer.storage.store import Store, database_location

    where = database_location(settings)
    store = Store.open_existing(where)
    if store is None:
        raise click.ClickException("No dialer has used this database. Nothing was changed.")
    with closing(store), store.writing() as tx:
        changed = installation.set_gated(tx, gated=False)
    if not changed:
        click.echo("No gate was set for this database. Nothing was changed.")
        return
    click.echo("Processes without a gate may dial from this database from now on. Restart those that were halted.")
    if settings.predial_url is not None:
        click.echo("BATCHCALL_PREDIAL_URL is set here: remove it before the next start, or the gate is set again.")
