"""`batchcall-mcp stop`: the command. What it does is in `stopping`, which is imported when it is needed."""

from __future__ import annotations

import click

from batchcall_mcp.cli.keys import database_url as database_url_option
from batchcall_mcp.server.startup import load_settings_of_init
from batchcall_mcp.settings import Settings


@click.command()
@click.option("--clear", is_flag=True, help="Lift the stop. Batch calls that it paused stay paused.")
@database_url_option
def stop(*, clear: bool, database_url: str | None) -> None:
    """Emergency stop: refuse every launch at once, then pause or cancel live batch calls.

    Every server on the same ledger refuses launches from then on, until --clear. A dialer in the data folder, or in
    the PostgreSQL database, dials nobody, for any organisation. At other backends, everything that was launched from
    here is stopped with BATCHCALL_API_KEY and BATCHCALL_API_SECRET. Exit code 1: some of it could not be done; 3: a
    key is missing for batch calls that may be live.
    """
    settings = load_settings_of_init()
    # Before anything heavy is imported, and without a database: servers and dialers look for this file.
    problem = None if clear else _make_file(settings)
    from batchcall_mcp.cli import stopping

    if clear:
        stopping.clear(settings, database_url)
    else:
        stopping.Stop(settings, database_url).run(problem)


def _make_file(settings: Settings) -> str | None:
    """Make the file `STOP`; what went wrong, or None."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        if not settings.stop_file.is_symlink():  # a link that leads nowhere is a stop already
            settings.stop_file.touch()
    except OSError as error:
        return f"The file {settings.stop_file} could not be made: {error.strerror}."
    return None
