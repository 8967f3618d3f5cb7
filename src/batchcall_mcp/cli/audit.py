"""`batchcall-mcp audit`: what was done, shown or exported from the record that guard/audit.py keeps."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, get_args

import click

from batchcall_mcp.clock import utc_now
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.audit import COLUMNS, FILE_NAME, Reading, recorded_id
from batchcall_mcp.server.startup import load_settings_of_init
from batchcall_mcp.settings import Settings
from batchcall_mcp.text import printable

Form: TypeAlias = Literal["table", "csv", "jsonl"]
_BY_ENDING: dict[str, Form] = {".csv": "csv", ".jsonl": "jsonl"}
_SHOWN = 20
_WIDTH = 160
"""Of a table that no terminal limits."""
_MACHINE = "machine"
_IN_TABLE = ("at (UTC)", "event", "what", "batch call", "calls", "outcome", "entry", "caller")
_NUMBERS = ("calls", "entry")
_FOLD = ("what", "batch call", "outcome", "caller", _MACHINE)
"""Headings of columns that may fold where the screen is narrow."""
_AGO = re.compile(r"([0-9]{1,6})([mhdw])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def since(text: str, now: datetime) -> datetime:
    """The moment that a date, a time or an age ("30m", "24h", "7d", "2w") means; without a zone it is UTC.

    Raises:
        ValueError: it means none.
    """
    if ago := _AGO.fullmatch(text):
        try:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        except OverflowError:
            raise ValueError("before the calendar begins") from None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)


def _since(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    del context, parameter
    try:
        return None if value is None else since(value, utc_now())
    except ValueError:
        raise click.BadParameter("must be like 2026-11-02, 2026-11-02T09:00, 24h or 7d.") from None


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--last", type=click.IntRange(min=1), help=f"Only the newest; a table on the screen shows {_SHOWN}.")
@click.option("--since", "begin", callback=_since, help="Only from a date or time on (UTC), or from 24h, 7d ago.")
@click.option("--batch-call", "batch_call_id", metavar="ID", help="Only what was done to this batch call.")
@click.option(
    "--format", "form", type=click.Choice(get_args(Form)), help="Default: by the ending of --output, or table."
)
@click.option("--output", type=click.Path(path_type=Path), help="A new file, instead of the screen.")
def audit(
    files: tuple[Path, ...],
    last: int | None,
    begin: datetime | None,
    batch_call_id: str | None,
    form: Form | None,
    output: Path | None,
) -> None:
    """Show or export what was done: each write, question and answer, oldest first.

    An event has the caller (a hash), the action, the number of calls and the outcome; no names, variables or phone
    numbers. csv and jsonl have more columns than the table. With BATCHCALL_DATABASE_URL every machine on that database
    is included. FILES are rotated records, not compressed; they are read instead, in the order given.
    """
    settings = load_settings_of_init()
    path = settings.data_dir / FILE_NAME
    shared = not files and settings.database_url is not None
    if not files and not shared and not _is_there(path):
        click.echo(f"Nothing is recorded yet. The record will be {path}.", err=True)
        return
    if form is None:
        form = _BY_ENDING.get(output.suffix.lower(), "table") if output else "table"
    if last is None and form == "table" and output is None:
        last = _SHOWN
    with ExitStack() as opened:
        events = (
            opened.enter_context(_of_every_machine(settings, begin))
            if shared
            else chain.from_iterable(map(_events, files or (path,)))
        )
        wanted = _wanted(events, begin, None if batch_call_id is None else recorded_id(batch_call_id))
        out = opened.enter_context(_opened(output))
        _write(form, wanted if last is None else deque(wanted, last), out, [_MACHINE] * shared)


@contextmanager
def _of_every_machine(settings: Settings, begin: datetime | None) -> Iterator[Iterator[dict[str, Any]]]:
    """The record of all machines on the shared database, after this one's own last lines."""
    from batchcall_mcp.guard.ledger.database import LedgerDatabase
    from batchcall_mcp.guard.ledger.shared_audit import SharedAudit

    try:
        database = LedgerDatabase.open(settings)
        record = SharedAudit(database)
        try:
            record.copy()
            yield record.events(begin)
        finally:
            record.close()
            database.close()
    except ConfigurationError as error:
        path = settings.data_dir / FILE_NAME
        raise click.ClickException(f"{error} The record of this machine alone: batchcall-mcp audit {path}") from None


def _events(path: Path) -> Iterator[dict[str, Any]]:
    reading = Reading(path)
    try:
        yield from reading
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}.") from None
    if reading.skipped:
        click.echo(f"Skipped lines of {path} that are not complete events: {reading.skipped}.", err=True)


def _wanted(
    events: Iterable[dict[str, Any]], begin: datetime | None, batch_call_id: str | None
) -> Iterator[dict[str, Any]]:
    for event in events:
        if begin is not None and datetime.fromisoformat(event["at"]) < begin:
            continue
        if batch_call_id is None or event.get("batch_call_id") == batch_call_id:
            yield event


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}.") from None
    return True


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        with click.open_file("-", "w") as out:
            yield out
        return
    try:
        # Readable by its owner only, as the record is.
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.ClickException(f"{output} exists already. Nothing was written; name a new file.") from None
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}. Nothing was written.") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
    except BaseException as error:
        output.unlink()  # a part of an export looks like a whole one
        if isinstance(error, OSError):
            raise click.ClickException(f"{output} cannot be written: {error.strerror}. It was removed.") from None
        raise


def _write(form: Form, events: Iterable[dict[str, Any]], out: IO[str], machine: Sequence[str]) -> None:
    """`machine`: the last column, where the events are those of several machines."""
    if form == "jsonl":
        out.writelines(json.dumps(event) + "\n" for event in events)
    elif form == "csv":
        columns = (*COLUMNS, *machine)
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows([_cell(event.get(name)) for name in columns] for event in events)
    else:
        _write_table(events, out, machine)


def _cell(value: object) -> object:
    """A spreadsheet may run a text as a formula unless it begins with a letter, a digit or an apostrophe."""
    text = printable(value) if isinstance(value, str) else ""
    return (text if text[0].isalnum() else "'" + text) if text else value


def _write_table(events: Iterable[dict[str, Any]], out: IO[str], machine: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in (*_IN_TABLE, *machine):
        justify: Literal["right", "left"] = "right" if heading in _NUMBERS else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading not in _FOLD)
    for event in events:
        shown = (
            event["at"][:19].replace("T", " "),
            event["event"],
            event.get("operation") or event.get("tool", ""),
            *(event.get(name, "") for name in ("batch_call_id", "calls", "outcome", "write_id", "caller", *machine)),
        )
        table.add_row(*(Text(printable(str(value))) for value in shown))  # what a backend chose is not markup
    if table.row_count:
        Console(file=out, width=None if out.isatty() else _WIDTH).print(table)
    else:
        click.echo("No recorded event matches.", err=True)
