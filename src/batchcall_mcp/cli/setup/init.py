"""`batchcall-mcp init`: the command. What it does is in `session`, which is imported when it is needed."""

from __future__ import annotations

import sys

import click

from batchcall_mcp.cli.setup.clients import CLIENTS


@click.command(short_help="Set up the MCP clients on this machine: ask, check, show the change, write it.")
@click.option("--backend", metavar="NAME", help="Where calls are placed.  [default: asked for, or dialer]")
@click.option("--carrier", metavar="NAME", help="What the dialer dials through.  [default: asked for, or simulated]")
@click.option("--url", help="Base URL of the backend, if it is not its usual one.")
@click.option(
    "--client",
    "names",
    multiple=True,
    type=click.Choice([client.name for client in CLIENTS]),
    help="Only this client; may be repeated.  [default: those that are found]",
)
@click.option("--remove", is_flag=True, help="Remove this server's entry from the clients.")
@click.option("--dry-run", is_flag=True, help="Show the change, and write nothing.")
@click.option("--yes", is_flag=True, help="Ask for nothing that has a default, and write.")
def init(
    backend: str | None,
    carrier: str | None,
    url: str | None,
    names: tuple[str, ...],
    *,
    remove: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Write the entry of this server into the MCP clients on this machine, after showing the change.

    Asks for the backend and its key, checks the account as `doctor` does (nobody is called), makes the folder for lists
    with a sample. Keys are typed and never shown: VS Code asks for them itself; for the others they go into one file
    that only you can read, where `stop` and `approve` find them too. Everything else in a file stays as it is, and a
    back-up is next to it. Exit code 1: a file, the account or you did not agree, and nothing was written.
    """
    if remove and (backend or carrier or url):
        raise click.UsageError("--remove takes --client, --dry-run and --yes only.")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("This is not a terminal, where you could be asked. Give --yes, or --dry-run to look.")
    from batchcall_mcp.cli.setup import session
    from batchcall_mcp.cli.setup.answers import Flags

    session.run(Flags(backend, carrier, url), names, remove=remove, dry_run=dry_run, yes=yes)
