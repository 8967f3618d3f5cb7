"""Opening a list by its kind: what the extension says, held against what is there."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.files import delimited, workbook
from batchcall_mcp.recipients.files.columns import Layout
from batchcall_mcp.recipients.files.header import Row
from batchcall_mcp.recipients.files.json_lines import JsonObjects
from batchcall_mcp.recipients.files.raw_rows import OpenedList, open_table
from batchcall_mcp.recipients.files.text_files import encoding_of
from batchcall_mcp.text import quoted

_Kind: TypeAlias = Literal["delimited", "json_lines", "workbook"]
KINDS: dict[str, _Kind] = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".txt": "delimited",
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
    ".xlsx": "workbook",
}
ACCEPTED = "CSV (.csv, .tsv, .txt), JSONL (.jsonl) or Excel (.xlsx)"
_MOST_BYTES = 100_000_000


@contextmanager
def open_list(path: Path, layout: Layout) -> Iterator[OpenedList]:
    """A list of recipients, read row by row while the context is open.

    Raises:
        InvalidInput: if the file is missing, of no accepted kind, not what its name says, or not what `layout` says;
            also while reading.
    """
    kind = _kind(path)
    _check_layout(path, kind, layout)
    with _no_os_error(path):
        if kind == "json_lines":
            encoding, note = encoding_of(path)
            objects = JsonObjects(path, layout)
            with path.open(encoding=encoding, newline="\n") as file:
                yield OpenedList(objects.entries(file), objects.columns, [note] if note else [])
        else:
            with open_rows(path, layout) as (rows, notes):
                yield open_table(rows, layout, quoted(path.name), notes)


@contextmanager
def open_rows(path: Path, layout: Layout) -> Iterator[tuple[Iterator[Row], list[str]]]:
    """The raw rows of a table, header and all, and a list to which notes for the person are added while reading."""
    notes: list[str] = []
    with _no_os_error(path):
        if _kind(path) == "workbook":
            yield workbook.read_rows(path, layout, notes), notes
            return
        encoding, note = encoding_of(path)
        notes.extend([note] if note else [])
        with path.open(encoding=encoding, newline="") as file:
            yield delimited.read_rows(file, path, layout), notes


def _check_layout(path: Path, kind: _Kind, layout: Layout) -> None:
    layout.check()
    if layout.sheet and kind != "workbook":
        raise InvalidInput(f"sheet: {quoted(path.name)} is not a workbook. Nothing was sent. Omit sheet.")
    if layout.header_row and kind == "json_lines":
        raise InvalidInput(
            f"header_row: {quoted(path.name)} has no row of column names. Nothing was sent. Omit header_row."
        )


def kind_of(path: Path) -> _Kind | None:
    """What the extension says, or None for one that is not accepted."""
    return KINDS.get(path.suffix.lower())


def _kind(path: Path) -> _Kind:
    with _no_os_error(path):
        found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise InvalidInput(f"{quoted(path.name)} is a folder. Nothing was sent. Name a file in it.")
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInput(f"{quoted(path.name)} is not a regular file. Nothing was sent. Save the list as a file.")
    kind = kind_of(path)
    if kind is None:
        old = " Save the old Excel file as .xlsx or CSV." if path.suffix.lower() == ".xls" else ""
        raise InvalidInput(
            f"{quoted(path.name)} is not {ACCEPTED}. Nothing was sent.{old or ' Save it in one of these formats.'}"
        )
    if found.st_size > _MOST_BYTES:
        raise InvalidInput(
            f"{quoted(path.name)} has {found.st_size / 1e6:,.0f} MB; the limit is {_MOST_BYTES / 1e6:,.0f} MB. "
            "Nothing was sent. Split it."
        )
    return kind


@contextmanager
def _no_os_error(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InvalidInput(f"{quoted(path.name)} does not exist. Nothing was sent. Check the name.") from None
    except OSError as error:
        problem, then = f" ({error.strerror or type(error).__name__})", "Check the disk and try again."
        if isinstance(error, PermissionError):
            problem = ": access is denied"
            then = "Close it in other programs, or give this user permission to read it."
        raise InvalidInput(f"{quoted(path.name)} cannot be read{problem}. Nothing was sent. {then}") from None
