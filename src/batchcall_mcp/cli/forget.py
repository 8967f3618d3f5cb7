"""`batchcall-mcp forget`: the command. What it does is in `erasure`, which is imported when it is needed."""

from __future__ import annotations

import sys

import click

from batchcall_mcp.cli.keys import database_url as database_url_option
from batchcall_mcp.server.startup import load_settings_of_init
from batchcall_mcp.settings import Settings


@click.command(short_help="Erase what is kept of a phone number, and never call it again.")
@click.argument("numbers", nargs=-1, required=True, metavar="+NUMBER...")
@click.option("--dry-run", is_flag=True, help="Show what would be erased. Nothing is changed.")
@click.option("--yes", is_flag=True, help="Do not ask before it is done.")
@database_url_option
def forget(numbers: tuple[str, ...], database_url: str | None, *, dry_run: bool, yes: bool) -> None:
    """Erase what this installation keeps of a phone number, and never call it again.

    Names, variables, summaries, results and exports of the number go, in every place: the dialer's database, uploaded
    lists, exports and reports, what a stop has listed. Counts stay. The ledger keeps a hash of the number, and the
    dialer's do-not-call list the number itself. Your own lists, and what other services keep, are named.

    It shows what it found and asks before it changes anything. Servers and dialers may go on running.

    \b
    Exit code 0  everything was erased
              1  something could not be erased, or you said no; the output says what
              2  wrong usage: a number, an option or a setting
              3  everything here was erased; a backend elsewhere may still call the number
    """  # noqa: D301 - click reads the escape
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("A person has to answer here, and stdin is not a terminal. Use --yes, or --dry-run.")
    settings = load_settings_of_init()
    codes = [
        _forget(settings, database_url, number, dry_run=dry_run, yes=yes) for number in _checked(settings, numbers)
    ]
    raise SystemExit(1 if 1 in codes else max(codes))


def _checked(settings: Settings, numbers: tuple[str, ...]) -> list[str]:
    """Every number before the first one is forgotten."""
    from batchcall_mcp.recipients.phone.numbers import InvalidNumber
    from batchcall_mcp.recipients.phone.spellings import Spellings

    for number in numbers:
        try:
            Spellings.of(number, settings.default_region)
        except InvalidNumber as error:
            raise click.UsageError(f"{error.message}. Nothing was changed.") from None
    return list(dict.fromkeys(numbers))


def _forget(settings: Settings, database_url: str | None, number: str, *, dry_run: bool, yes: bool) -> int:
    from batchcall_mcp.erasure.forget import Forget
    from batchcall_mcp.recipients.phone.spellings import Spellings

    who = Spellings.of(number, settings.default_region)
    if dry_run or not yes:
        seen = Forget(settings, database_url, who, change=False)
        seen.run()
        click.echo(f"{who.number}, as it is now:")
        click.echo("\n".join(seen.lines))
        if dry_run:
            click.echo("Nothing was changed.")
            return seen.exit_code
        if not click.confirm("\nErase this? It cannot be undone.", default=False):
            click.echo("Nothing was changed.")
            return 1
    done = Forget(settings, database_url, who, change=True)
    done.run()
    click.echo(f"{who.number}:")
    click.echo("\n".join(done.lines))
    return done.exit_code
