"""Whether a file is what its name says, and how many rows it has: before anybody says which column is what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.files.columns import Layout
from batchcall_mcp.recipients.files.file_formats import kind_of, open_rows
from batchcall_mcp.recipients.files.header import Row
from batchcall_mcp.recipients.files.text_files import checked_lines, encoding_of
from batchcall_mcp.recipients.files.workbook import rows_of_sheets
from batchcall_mcp.text import quoted

_LINES_TRIED: Final = 20
_OF_OTHERS: Final = {
    "{": "JSON objects; name it .jsonl",
    "[": "a JSON array; write it as JSONL",
    "<": "a web page or XML",
}
"""What the first character of a table says that it is instead."""


def count_rows(path: Path) -> int:
    """How many rows a list has without its header, empty ones not counted; of a workbook in all its visible sheets.

    Reads all of it; blocks.

    Raises:
        InvalidInput: it cannot be read as what its extension says, or has no rows.
    """
    match kind_of(path):
        case "json_lines":
            rows = _json_lines(path)
        case "workbook":
            rows = sum(_below_header(sheet) for sheet in rows_of_sheets(path))
        case _:
            with open_rows(path, Layout()) as (table, _):
                rows = _below_header(_no_other_format(table, path))
    if not rows:
        raise InvalidInput(f"{quoted(path.name)} has no rows below its column names. Nothing was sent. Add rows.")
    return rows


def _below_header(rows: Iterable[Row]) -> int:
    return max(sum(any(cell and not cell.isspace() for cell in row.cells) for row in rows) - 1, 0)


def _no_other_format(rows: Iterable[Row], path: Path) -> Iterator[Row]:
    begun = False
    for row in rows:
        first = "".join(row.cells).lstrip()[:1]
        if first and not begun and first in _OF_OTHERS:
            raise InvalidInput(f"{quoted(path.name)} is not CSV: it looks like {_OF_OTHERS[first]}. Nothing was sent.")
        begun = begun or bool(first)
        yield row


def _json_lines(path: Path) -> int:
    encoding, _ = encoding_of(path)
    with path.open(encoding=encoding, newline="\n") as file:
        filled = (line for line in checked_lines(file, path) if line.strip())
        tried = [line for _, line in zip(range(_LINES_TRIED), filled, strict=False)]
        if tried and not _any_object(tried):
            what = "a JSON array" if tried[0].lstrip().startswith("[") else "not JSON objects"
            raise InvalidInput(
                f"{quoted(path.name)}: its first lines are {what}; JSONL has one object on each line. Nothing was "
                "sent. Use that format, or give the file the extension of what it is."
            )
        return len(tried) + sum(1 for _ in filled)


def _any_object(lines: Iterable[str]) -> bool:
    for line in lines:
        try:
            if isinstance(json.loads(line), dict):
                return True
        except (ValueError, RecursionError):
            continue
    return False
