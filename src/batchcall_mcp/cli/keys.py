"""`batchcall-mcp dialer keys`: who may speak to the dialer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

import click

from batchcall_mcp.errors import InvalidInput, NotFound
from batchcall_mcp.server.startup import load_settings

if TYPE_CHECKING:
    from batchcall_mcp.dialer.storage.store import Store

_LONGEST_NAME: Final = 100


def _checked_url(_context: click.Context, _parameter: click.Parameter, url: str | None) -> str | None:
    # Its value is not repeated: it may hold a password.
    if url is not None and not url.startswith(("postgresql://", "postgres://")):
        raise click.BadParameter("must start with postgresql://; omit it for SQLite in BATCHCALL_DATA_DIR")
    return url


def _checked_name(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise click.BadParameter(f"must be one line of at most {_LONGEST_NAME} characters, not blank")
    return name.strip()


database_url = click.option(
    "--database-url",
    callback=_checked_url,
    help="PostgreSQL that the dialer uses.  [default: BATCHCALL_DATABASE_URL, else SQLite in the data folder]",
)


@click.group()
def keys() -> None:
    """Make, list and revoke the dialer's API keys, on the database that its servers use."""


@keys.command()
@click.option(
    "--organization",
    default="local",
    show_default=True,
    callback=_checked_name,
    help="Whose key it is: an organisation sees only its own batch calls.",
)
@database_url
@click.pass_context
def create(context: click.Context, organization: str, database_url: str | None) -> None:
    """Make a key and its secret. The secret is shown once and not stored."""
    with _opened(context, database_url) as store:
        from batchcall_mcp.dialer.storage.api_keys import add, new_pair

        pair = new_pair()
        add(store, pair, organization)
    click.echo(f"BATCHCALL_API_KEY={pair.api_key}\nBATCHCALL_API_SECRET={pair.api_secret}")


@keys.command("list")
@database_url
@click.pass_context
def list_keys(context: click.Context, database_url: str | None) -> None:
    """List the keys in force: first characters, creation time (UTC) and organisation, separated by tabs."""
    with _opened(context, database_url) as store:
        from batchcall_mcp.dialer.storage.api_keys import in_force

        for key in in_force(store):
            click.echo(f"{key.name}\t{key.created_at:%Y-%m-%d %H:%M}\t{key.organization_id}")


@keys.command()
@click.argument("hint")
@database_url
@click.pass_context
def revoke(context: click.Context, hint: str, database_url: str | None) -> None:
    """Revoke the key that `list` shows as HINT, at once and on every server. Batch calls that it started go on.

    An old key, listed as "(old) #…", is named by its #… in quotes.
    """
    with _opened(context, database_url) as store:
        from batchcall_mcp.dialer.storage import api_keys as dialer_keys

        try:
            key = dialer_keys.revoke(store, hint)
        except (NotFound, InvalidInput) as error:
            raise click.ClickException(error.message) from None
    click.echo(f"{key.name} of {key.organization_id} is revoked: requests with it now get 401.")


@contextmanager
def _opened(context: click.Context, given: str | None) -> Iterator[Store]:
    """The database that the dialer's servers use; also one that was given to `dialer`, before `keys`."""
    settings = load_settings()
    from batchcall_mcp.dialer.storage.store import Store, database_location

    while not given and context.parent is not None:
        context = context.parent
        given = context.params.get("database_url")
    if given:
        settings = settings.with_database(given)
    with closing(Store.open(database_location(settings))) as store, store.usable():
        yield store
