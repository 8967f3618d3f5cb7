"""What every kind of list comes down to before it is judged: one entry a row; and how a table gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import CallTask
from batchcall_mcp.recipients.files.columns import Columns, Layout, choose_columns
from batchcall_mcp.recipients.files.header import Row, from_header
from batchcall_mcp.text import quoted


class Candidate(NamedTuple):
    """A row as it is written. `given` is the task that a caller passed, for what a row does not have."""

    line: int
    to_number: str
    variables: Mapping[str, str]
    name: str | None = None
    timezone: str | None = None
    max_retries: str | int | None = None
    given: CallTask | None = None
    not_before: str | None = None

    @classmethod
    def of(
        cls,
        line: int,
        to_number: str,
        cells: Mapping[str, str],
        fields: Iterable[str | None],
        variables: Mapping[str, str],
    ) -> Candidate:
        """With the name, the zone, the retries and the call-back from the cells of these names (`Columns.fields`)."""
        name, timezone, max_retries, not_before = [cells[variable] if variable else None for variable in fields]
        return cls(line, to_number, variables, name, timezone, max_retries, None, not_before)


class Broken(NamedTuple):
    """A row that cannot be read, and why."""

    line: int
    reason: str


_MOST_SHARED: Final = 1_000
Entry: TypeAlias = Candidate | Broken


@dataclass(frozen=True, slots=True)
class OpenedList:
    """A list being read. `columns` is complete once `entries` is exhausted: JSON objects may bring keys late."""

    entries: Iterator[Entry]
    columns: Callable[[], Columns | None]
    notes: list[str] = field(default_factory=list)


def open_table(rows: Iterable[Row], layout: Layout, where: str, notes: list[str]) -> OpenedList:
    """Read the header, decide which column is what, and offer the other rows as entries.

    Every column but the number's becomes a variable, an empty cell an empty one: the agent then says nothing at that
    place instead of reading its placeholder aloud. Rows without any text are ignored: they are neither counted nor
    reported. Cells under a column without a name are dropped, with a note.

    Raises:
        InvalidInput: if there is no header, no row below it, or it is unclear which column is the number.
    """
    filled = from_header(rows, layout, where, notes)
    header = next(filled, None)
    if header is None:
        raise InvalidInput(f"{where} is empty. Nothing was sent. Add column names and rows.")
    names = [cell.strip() for cell in header.cells]
    while not names[-1]:
        names.pop()
    columns = choose_columns(names, layout, where)
    first = next(filled, None)
    if first is None:
        raise InvalidInput(f"{where} has column names but no rows. Nothing was sent. Add rows.")
    unnamed = [str(position) for position, name in enumerate(names, 1) if not name]
    if unnamed:
        which = f"Column {unnamed[0]} has" if len(unnamed) == 1 else f"Columns {', '.join(unnamed[:10])} have"
        notes.append(f"{which} no name and will not be passed to the agent.")
    number = names.index(columns.to_number)
    places = [(variable, names.index(column)) for variable, column in columns.sources()]
    fields = columns.fields()
    shared: dict[str, str] = {}
    entries = (_entry(row, len(names), number, places, fields, shared) for row in chain([first], filled))
    return OpenedList(entries, lambda: columns, notes)


def _entry(
    row: Row,
    width: int,
    number: int,
    places: list[tuple[str, int]],
    fields: list[str | None],
    shared: dict[str, str],
) -> Entry:
    cells = row.cells
    if len(cells) > width:
        beyond = next((cell for cell in cells[width:] if cell.strip()), None)
        if beyond is not None:
            return Broken(
                row.line,
                f"the row has {len(cells)} cells under {width} columns; the first cell without a column contains "
                f"{quoted(beyond)}. Put a cell that contains the separator in quotation marks",
            )
    elif len(cells) < width:
        cells = cells + [""] * (width - len(cells))
    variables = {name: _once(cells[index], shared) for name, index in places}
    return Candidate.of(row.line, cells[number], variables, fields, variables)


def _once(cell: str, shared: dict[str, str]) -> str:
    """The same text as in a row above, where it is one of the first different ones: a city, a plan, a greeting."""
    same = shared.get(cell)
    if same is not None:
        return same
    if len(shared) < _MOST_SHARED:
        shared[cell] = cell
    return cell
