"""CSV and its like: which delimiter, where each record begins, and what broken quoting does."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.files.columns import Layout, number_header
from batchcall_mcp.recipients.files.header import Row, header_at
from batchcall_mcp.recipients.files.text_files import checked_lines
from batchcall_mcp.text import quoted

_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 200
_SAMPLE_RECORDS = 20
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)


class _Fit(NamedTuple):
    """How well a delimiter fits, best last."""

    has_number: bool
    columns: int
    even: int


def read_rows(file: TextIO, path: Path, layout: Layout) -> Iterator[Row]:
    """The records of an open file, from its first, each with the physical line on which it begins.

    Quoting is read strictly: a quotation mark that is never closed would otherwise swallow the people after it.

    Raises:
        InvalidInput: naming the line, if a record cannot be read.
    """
    sample = list(islice(checked_lines(file, path), _SAMPLE_LINES))
    file.seek(0)
    lines = checked_lines(file, path)
    skipped = 0
    declared = _SEPARATOR_LINE.fullmatch(sample[0]) if sample else None
    if declared and declared[1] not in '"\r\n':
        # Excel's own first line, which says what the delimiter is.
        delimiter, skipped = declared[1], 1
        next(lines)
    else:
        delimiter = max(_DELIMITERS, key=lambda one: _fit(sample, one, layout))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begins = skipped + 1
    try:
        for cells in reader:
            yield Row(begins, cells)
            begins = skipped + reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(
            f"{quoted(path.name)}, the record that begins on line {begins}: {_problem(error)}. Nothing was sent. "
            "Correct that line, or save the list as .xlsx."
        ) from None


def _fit(sample: list[str], delimiter: str, layout: Layout) -> _Fit:
    records: list[Row] = []
    reader, begins = csv.reader(sample, delimiter=delimiter), 1
    try:
        for record in reader:
            # A row of nothing but separators is empty whichever of them is the delimiter.
            if any(cell.strip(_DELIMITERS + " ") for cell in record) and begins >= (layout.header_row or 0):
                records.append(Row(begins, record))
            if len(records) == _SAMPLE_RECORDS:
                break
            begins = reader.line_num + 1
    except csv.Error:
        records = []
    if not records:
        return _Fit(has_number=False, columns=0, even=0)
    records = records[0 if layout.header_row else header_at(records, layout) :]
    header = [cell.strip() for cell in records[0].cells]
    return _Fit(
        has_number=number_header(header, layout) is not None,
        columns=len(header),
        even=sum(len(record.cells) == len(header) for record in records),
    )


def _problem(error: csv.Error) -> str:
    text = str(error)
    if "end of data" in text:
        return "a quotation mark is never closed"
    if "field limit" in text:
        return f"a cell is longer than {csv.field_size_limit():,} characters; usually a quotation mark is not closed"
    if "expected after" in text:
        return 'text follows a closing quotation mark; inside a quoted cell write ""'
    return "it cannot be read as CSV"
