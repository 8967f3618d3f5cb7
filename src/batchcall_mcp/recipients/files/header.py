"""Which row of a table has the column names: the first, the one that the caller names, or one below a title. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.files.columns import Layout, number_header
from batchcall_mcp.recipients.phone.numbers import looks_like_a_number
from batchcall_mcp.text import quoted

MOST_LOOKED_AT = 20
"""Rows with content in which the column names are looked for: a title is short."""
_FEWEST_NAMES = 2


class Row(NamedTuple):
    """The cells of one row; `line` is where it begins in the file."""

    line: int
    cells: list[str]

    @property
    def filled(self) -> list[str]:
        """The texts of the cells that have any."""
        return [text for cell in self.cells if (text := cell.strip())]


def from_header(rows: Iterable[Row], layout: Layout, where: str, notes: list[str]) -> Iterator[Row]:
    """The rows that have content, from the one with the column names on.

    A row below the first is taken only where the first has no column of numbers, and a note says which one it was.

    Raises:
        InvalidInput: if `header_row` has no content.
    """
    filled = (row for row in rows if "".join(row.cells).strip())
    if layout.header_row is not None:
        return _from_row(filled, layout.header_row, where)
    sample = list(islice(filled, MOST_LOOKED_AT))
    at = header_at(sample, layout)
    if at:
        above = f"the row above it, {quoted(sample[0].filled[0])}, was" if at == 1 else f"the {at} rows above it were"
        notes.append(
            f"Row {sample[at].line} was taken as the column names; {above} not read. header_row names another row."
        )
    return chain(sample[at:], filled)


def header_at(rows: Sequence[Row], layout: Layout) -> int:
    """Where the column names are among the first rows with content; 0 if no other row is more like them.

    A row with a column of numbers, by its name and with a number below it; else the first of several different texts
    above a number. A row with a number in it is a person: nobody looks below it, or people would be taken for a title.
    """
    if not rows or (number_header(rows[0].filled, layout) and not _is_title(rows, 0)):
        return 0
    first_person = next((at for at, row in enumerate(rows) if any(map(looks_like_a_number, row.filled))), None)
    if first_person is None:
        return 0
    above = range(first_person)
    named = [at for at in above if _is_header(rows, at, layout)]
    whole = [at for at in named if not _is_title(rows, at)] or named
    return whole[0] if whole else next((at for at in above if _has_names(rows[at], rows[first_person])), 0)


def _is_title(rows: Sequence[Row], at: int) -> bool:
    """One text alone above a table that is wider."""
    return len(rows[at].filled) == 1 and any(len(row.filled) > 1 for row in rows[at + 1 :])


def _is_header(rows: Sequence[Row], at: int, layout: Layout) -> bool:
    """Whether it has a column of numbers by its name, and a number below it in that column."""
    names = [cell.strip() for cell in rows[at].cells]
    number = number_header([name for name in names if name], layout)
    if number is None:
        return False
    place = names.index(number)
    return any(place < len(row.cells) and looks_like_a_number(row.cells[place]) for row in rows[at + 1 :])


def _has_names(row: Row, person: Row) -> bool:
    """Whether it names the columns of a row with a number in it."""
    names = row.filled
    places = [place for place, cell in enumerate(person.cells) if looks_like_a_number(cell.strip())]
    named = any(place < len(row.cells) and row.cells[place].strip() for place in places)
    return named and len(names) >= _FEWEST_NAMES and len(set(names)) == len(names)


def _from_row(filled: Iterator[Row], header_row: int, where: str) -> Iterator[Row]:
    last = 0
    for row in filled:
        last = row.line
        if last == header_row:
            return chain([row], filled)
        if last > header_row:
            break
    problem = f"the last row with content is {last}" if last < header_row else "that row is empty"
    raise InvalidInput(
        f"header_row: row {header_row} of {where} has no column names; {problem}. Nothing was sent. Pass the row that "
        "has the names, counted from 1, or omit header_row."
    )
