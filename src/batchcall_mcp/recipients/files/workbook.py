"""Excel workbooks (.xlsx): the sheet that has the numbers, cells as the text a person means by them."""

from __future__ import annotations

import re
import string
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from xml.parsers import expat

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.files.columns import Layout, is_alike, number_header
from batchcall_mcp.recipients.files.header import MOST_LOOKED_AT, Row, header_at
from batchcall_mcp.recipients.phone.numbers import looks_like_a_number
from batchcall_mcp.text import quoted

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook

_Cell: TypeAlias = int | float | str | bool | time | date | datetime | timedelta

_CHUNK = 1 << 20
_MOST_XML_BYTES = 1 << 29
_MOST_CELLS = 4_000_000
_SHEET = b"sheetData"
_CELL = re.compile(rb"<(?:[^\s<>/:]+:)?c(?=[\s/>])")
_CELL_AT = re.compile(rb'<(?:[^\s<>/:]+:)?c\s+r="([A-Z]{1,3})([0-9]{1,7})"')
_HIDDEN_ROW = re.compile(rb"""<(?:\w+:)?row\s[^>]*\bhidden\s*=\s*["'](?:1|true)["']""")
_LONGEST_MATCH = 1024
_WHOLE_FLOAT_LIMIT = 1e15
_ROWS_SEARCHED = 1000
"""Of a sheet, for a first number."""
_MOST_SHEETS_NAMED = 10


@dataclass(slots=True)
class _Extent:
    """How far the cells of a workbook reach."""

    columns: int = 0
    rows: int = 0
    hidden_rows: int = 0


def read_rows(path: Path, layout: Layout, notes: list[str]) -> Iterator[Row]:
    """The rows of one sheet, the row number of the sheet as `line`.

    Raises:
        InvalidInput: if it is not a readable workbook, reaches too far to be held, or has several sheets with numbers
            of which `layout` names none.
    """
    with _loaded(path, notes) as workbook:
        yield from _rows(_sheet(workbook, path, layout, notes))


def rows_of_sheets(path: Path) -> Iterator[Iterator[Row]]:
    """The rows of every visible sheet, for a look at a workbook of which nobody has said yet which sheet is meant.

    Raises:
        InvalidInput: if it is not a readable workbook, or reaches too far to be held.
    """
    with _loaded(path, []) as workbook:
        yield from (_rows(workbook.get_sheet_by_name(name)) for name in _visible(workbook))


@contextmanager
def _loaded(path: Path, notes: list[str]) -> Iterator[CalamineWorkbook]:
    from python_calamine import CalamineError, load_workbook

    extent = _extent(path)
    if extent.columns * extent.rows > _MOST_CELLS:
        raise InvalidInput(
            f"{quoted(path.name)} spans {extent.rows:,} rows and {extent.columns:,} columns; usually one stray cell "
            "lies far outside the table. Nothing was sent. Save only the list, or save it as CSV."
        )
    if extent.hidden_rows:
        notes.append(
            f"{extent.hidden_rows} rows are hidden in Excel, for example by a filter; they are read like the others."
        )
    try:
        yield load_workbook(str(path))
    except CalamineError as error:
        raise _unreadable(path, type(error).__name__) from None


def _rows(sheet: CalamineSheet) -> Iterator[Row]:
    for line, cells in enumerate(sheet.iter_rows(), 1):
        yield Row(line, [_text(cell) for cell in cells])


def _visible(workbook: CalamineWorkbook) -> list[str]:
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    return [
        sheet.name
        for sheet in workbook.sheets_metadata
        if sheet.visible == SheetVisibleEnum.Visible and sheet.typ == SheetTypeEnum.WorkSheet
    ]


def _sheet(workbook: CalamineWorkbook, path: Path, layout: Layout, notes: list[str]) -> CalamineSheet:
    """The sheet that is named, or the only one in which somebody could be called."""
    visible = _visible(workbook)
    if layout.sheet:
        return workbook.get_sheet_by_name(_named_sheet(visible, layout.sheet, path))
    filled, with_numbers, kept = [], [], None
    for name in visible:  # one at a time: each takes the memory of all its cells
        sheet = workbook.get_sheet_by_name(name)
        if sheet.end is None:
            continue
        filled.append(name)
        if _has_numbers(sheet, layout):
            with_numbers.append(name)
            kept = kept or sheet
    if not filled:
        raise InvalidInput(f"{quoted(path.name)} has no visible sheet with content. Nothing was sent. Add rows.")
    if len(filled) > 1 and len(with_numbers) != 1:
        several = "more than one sheet" if with_numbers else "several sheets, and none of them"
        raise InvalidInput(
            f"{quoted(path.name)} has {several} with phone numbers. Nothing was sent. Pass sheet with one of these, or "
            f"keep only one: {_names(with_numbers or filled)}."
        )
    sheet = kept or workbook.get_sheet_by_name(filled[0])
    others = [quoted(name) for name in visible if name != sheet.name]
    if others:
        notes.append(f"Only the sheet {quoted(sheet.name)} was read, not {', '.join(others[:5])}.")
    return sheet


def _named_sheet(visible: Sequence[str], wanted: str, path: Path) -> str:
    alike = [name for name in visible if name == wanted] or [name for name in visible if is_alike(name, wanted)]
    if len(alike) == 1:
        return alike[0]
    problem = "more than one sheet like" if alike else "no visible sheet"
    raise InvalidInput(
        f"{quoted(path.name)} has {problem} {quoted(wanted)} (sheet). Nothing was sent. Its sheets: "
        f"{_names(alike or visible)}."
    )


def _has_numbers(sheet: CalamineSheet, layout: Layout) -> bool:
    """Whether somebody on it could be called: a column of numbers, by its name, or a cell that looks like a number.

    A cell with a date looks like one; what Excel itself calls a date is none.
    """
    head: list[Row] = []
    for line, cells in enumerate(islice(sheet.iter_rows(), _ROWS_SEARCHED), 1):
        if any(not isinstance(cell, date | time) and looks_like_a_number(_text(cell)) for cell in cells):
            return True
        row = Row(line, [_text(cell) for cell in cells])
        if row.filled and len(head) < MOST_LOOKED_AT:
            head.append(row)
    return bool(head) and number_header(head[header_at(head, layout)].filled, layout) is not None


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_SHEETS_NAMED} more" if len(names) > _MOST_SHEETS_NAMED else ""
    return (", ".join(map(quoted, names[:_MOST_SHEETS_NAMED])) or "none") + more


def _extent(path: Path) -> _Extent:
    """Measure before reading: the reader lays a sheet out in full, and one stray cell at XFD1048576 would end us."""
    extent = _Extent()
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if sum(part.file_size for part in parts) > _MOST_XML_BYTES:
                raise InvalidInput(f"{quoted(path.name)} is too large to be read. Nothing was sent. Save it as CSV.")
            for part in parts:  # whatever it is named: a sheet may be named as anything
                measured = _measured(archive, part)
                extent.columns = max(extent.columns, measured.columns)
                extent.rows = max(extent.rows, measured.rows)
                extent.hidden_rows += measured.hidden_rows
    except (
        *(zipfile.BadZipFile, zlib.error, expat.ExpatError, NotImplementedError, RuntimeError, EOFError),
        *(OSError, ValueError),
    ) as error:
        raise _unreadable(path, type(error).__name__) from None
    return extent


def _measured(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> _Extent:
    """How far one part reaches; nowhere if it is no sheet.

    By its bytes where each cell says its place as Excel writes it, else as XML, which takes longer.
    """
    extent, seam, tail = _Extent(), b"", b""
    is_sheet, cells, placed, is_odd = False, 0, 0, False
    with archive.open(part) as file:
        while chunk := file.read(_CHUNK):
            is_sheet = is_sheet or _SHEET in seam + chunk
            seam = chunk[-len(_SHEET) :]
            # What is cut by the end of a chunk is seen with the next; what is whole before it is not counted twice.
            text = tail + chunk
            cut = max(text.rfind(b"<"), 0)
            if len(text) - cut >= _LONGEST_MATCH:
                is_odd = is_odd or b">" not in text[cut:]
                cut = len(text)
            text, tail = text[:cut], text[cut:]
            cells += len(_CELL.findall(text))
            placed += _look_at(text, extent)
    cells += len(_CELL.findall(tail))
    placed += _look_at(tail, extent)
    if not is_sheet:
        return _Extent()
    if cells == placed and not is_odd:
        return extent
    counter = _Places(extent)
    with archive.open(part) as file:
        counter.parser.ParseFile(file)
    return extent


def _look_at(text: bytes, extent: _Extent) -> int:
    """How many cells say their place; `extent` reaches to all of them."""
    extent.hidden_rows += len(_HIDDEN_ROW.findall(text))
    places = _CELL_AT.findall(text)
    for letters, digits in set(places):
        extent.columns = max(extent.columns, _column(letters.decode()))
        extent.rows = max(extent.rows, int(digits))
    return len(places)


def _column(letters: str) -> int:
    column = 0
    for letter in letters.upper():
        column = column * 26 + ord(letter) - 64
    return column


class _Places:
    """Counts as the reader does: a cell or a row that does not say its place follows the one before it."""

    def __init__(self, extent: _Extent) -> None:
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._begins
        self._extent = extent
        self._row = 0
        self._column = 0

    def _begins(self, name: str, attributes: dict[str, str]) -> None:
        kind, place = name.rpartition(":")[2], attributes.get("r", "").strip()
        if kind == "row":
            self._row = int(place) if place else self._row + 1
            self._column = 0
        elif kind == "c":
            digits = place.lstrip(string.ascii_letters)
            self._row = max(int(digits) if digits else self._row, 1)
            self._column = _column(place[: len(place) - len(digits)]) if place else self._column + 1
            self._extent.rows = max(self._extent.rows, self._row)
            self._extent.columns = max(self._extent.columns, self._column)


def _text(cell: _Cell) -> str:
    """12.0 is what Excel holds for 12; dates are ISO 8601."""
    match cell:
        case str():
            return cell
        case bool():
            return "true" if cell else "false"
        case float():
            return str(int(cell)) if cell.is_integer() and abs(cell) < _WHOLE_FLOAT_LIMIT else repr(cell)
        case datetime():
            return cell.date().isoformat() if cell.time() == time() else cell.isoformat(sep=" ")
        case date() | time():
            return cell.isoformat()
        case _:
            return str(cell)


def _unreadable(path: Path, kind: str) -> InvalidInput:
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"\xd0\xcf\x11\xe0":
        return InvalidInput(
            f"{quoted(path.name)} is protected by a password, or is an old .xls file. Nothing was sent. "
            "Save it without a password as .xlsx or CSV."
        )
    if not head.startswith(b"PK"):
        return InvalidInput(
            f"{quoted(path.name)} is not an Excel workbook. Nothing was sent. If it is text, name it .csv."
        )
    return InvalidInput(
        f"{quoted(path.name)} is damaged ({kind}). Nothing was sent. Open it in Excel and save it again, or as CSV."
    )
