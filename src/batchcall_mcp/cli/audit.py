"""`batchcall-mcp audit`: what was done, shown or exported from the record that guard/audit.py keeps."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypeAlias, get_args

import click

from batchcall_mcp.cli.environment import load_settings
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.audit import COLUMNS, FILE_NAME, read, recorded_id, utc_now
from batchcall_mcp.settings import Settings
from batchcall_mcp.text import printable

Form: TypeAlias = Literal["table", "csv", "jsonl"]
_SHOWN = 20
_WIDTH = 160
"""Of a table that no terminal limits."""
_IN_TABLE = (
    ("at (UTC)", False, False),
    ("event", False, False),
    ("what", False, True),
    ("batch call", False, True),
    ("calls", True, False),
    ("outcome", False, True),
    ("entry", True, False),
    ("caller", False, True),
)
"""Each heading, whether numbers stand below it, and whether its column may fold where the screen is narrow."""
_MACHINE = "machine"
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

    It says who (a hash), what, to how many and with what outcome; no names, variables or phone numbers. csv and jsonl
    have more columns than the table. With BATCHCALL_DATABASE_URL it is the record of every machine on that database.
    FILES are records that were rotated away, not compressed; they are read instead,
    in the order given.
    """
    settings = load_settings()
    path = settings.data_dir / FILE_NAME
    shared = not files and settings.database_url is not None
    if not files and not shared and not _is_there(path):
        click.echo(f"Nothing is recorded yet. The record will be {path}.", err=True)
        return
    form = form or _form_of(output)
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
        _WRITERS[form](wanted if last is None else deque(wanted, last), out, shared=shared)


def _form_of(output: Path | None) -> Form:
    endings: dict[str, Form] = {".csv": "csv", ".jsonl": "jsonl"}
    return "table" if output is None else endings.get(output.suffix.lower(), "table")


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
    reading = read(path)
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


def _write_jsonl(events: Iterable[dict[str, Any]], out: IO[str], *, shared: bool) -> None:
    del shared  # an event of another machine names it
    out.writelines(json.dumps(event) + "\n" for event in events)


def _write_csv(events: Iterable[dict[str, Any]], out: IO[str], *, shared: bool) -> None:
    import csv

    writer = csv.writer(out)
    columns = (*COLUMNS, *[_MACHINE] * shared)
    writer.writerow(columns)
    writer.writerows([_cell(event.get(name)) for name in columns] for event in events)


def _cell(value: object) -> object:
    """A spreadsheet may run a text as a formula unless it begins with a letter, a digit or an apostrophe."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return text if not text or text[0].isalnum() else "'" + text


def _write_table(events: Iterable[dict[str, Any]], out: IO[str], *, shared: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading, numeric, folds in (*_IN_TABLE, *[(_MACHINE, False, True)] * shared):
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold", no_wrap=not folds)
    for event in events:
        # As Text: what a backend chose is no markup.
        table.add_row(*(Text(printable(str(value))) for value in (*_row(event), *[event.get(_MACHINE, "")] * shared)))
    if table.row_count:
        Console(file=out, width=None if out.isatty() else _WIDTH).print(table)
    else:
        click.echo("No recorded event matches.", err=True)


def _row(event: dict[str, Any]) -> tuple[object, ...]:
    return (
        event["at"][:19].replace("T", " "),
        event["event"],
        event.get("operation") or event.get("tool", ""),
        *(event.get(name, "") for name in ("batch_call_id", "calls", "outcome", "write_id", "caller")),
    )


class _Writer(Protocol):
    def __call__(self, events: Iterable[dict[str, Any]], out: IO[str], *, shared: bool) -> None: ...


_WRITERS: Mapping[Form, _Writer] = {
    "table": _write_table,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
}
