"""`batchcall-mcp dialer adopt`: a person's word that a database which was copied or moved is the one that dials."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchcall_mcp.clock import from_ms
from batchcall_mcp.server.startup import load_settings
from batchcall_mcp.text import shortened

if TYPE_CHECKING:
    from batchcall_mcp.dialer.storage.adoption import Adopted, Live

_LONGEST_NAME = 200
_RESUME = "Resume those whose people were not called in the meantime, for example by the original; cancel the others."


@click.command()
def adopt() -> None:
    """Let the dialer dial from a database in the data folder that was copied, moved or restored.

    Batch calls that are running, or were due while nothing was dialled, are paused and listed: a person decides which
    of them go on. Batch calls that are scheduled for later keep their time. Only SQLite needs this.
    """
    settings = load_settings()
    from batchcall_mcp.dialer.storage.adoption import NotAdopted, adopt
    from batchcall_mcp.dialer.storage.store import Store, database_location

    where = database_location(settings)
    if isinstance(where, str):
        raise click.ClickException("The dialer uses PostgreSQL; only a SQLite file moves. There is nothing to adopt.")
    if not where.exists():
        raise click.ClickException(f"The database {where} does not exist. Nothing was changed.")
    with closing(Store.open(where)) as store:
        try:
            adopted = adopt(store)
        except NotAdopted as error:
            raise click.ClickException(error.message) from None
    click.echo("\n".join(_lines(where, adopted)))


def _lines(where: Path, adopted: Adopted | None) -> list[str]:
    if adopted is None:
        return [f"{where} has not moved since it last dialled, or it never dialled. There is nothing to adopt."]
    said = [f"{where} is the dialer's database from now on. It last dialled as {adopted.before}."]
    if adopted.original_is_there:
        said.append(f"The original is still there: a dialer on {adopted.before} calls the same people. Remove it.")
    said += [f"paused: {_named(one)}" for one in adopted.paused]
    said += [f"scheduled: {_named(one)}, dials at {_moment(one.scheduled_at)}" for one in adopted.scheduled]
    if adopted.paused:
        said.append(_RESUME)
    return said if adopted.paused or adopted.scheduled else [*said, "No batch call is live."]


def _named(one: Live) -> str:
    name = f" ({shortened(one.name, _LONGEST_NAME)})" if one.name else ""
    return f"{one.batch_call_id}{name} of {one.organization_id}, {one.waiting} of {one.total} people not called"


def _moment(ms: int | None) -> str:
    return "its time" if ms is None else f"{from_ms(ms):%Y-%m-%d %H:%M UTC}"
