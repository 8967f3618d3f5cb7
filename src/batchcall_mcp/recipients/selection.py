"""The `rows` argument: which data rows of a file, or which positions of a list, are meant. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from operator import itemgetter

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.text import quoted

_PART = re.compile(r"\s*([0-9]{1,9})\s*(?:[-\u2013]\s*([0-9]{1,9})\s*)?", re.ASCII)
_EXAMPLE = 'Pass rows such as "1-1000" or "1-1000,1500"; the first row after the column names is 1.'


@dataclass(frozen=True, slots=True)
class RowSelection:
    """Row numbers, counted from 1, as ascending ranges that neither touch nor overlap; both ends are included."""

    ranges: tuple[tuple[int, int], ...]

    @property
    def last(self) -> int:
        return self.ranges[-1][1]

    def __contains__(self, row: int) -> bool:
        at = bisect_right(self.ranges, row, key=itemgetter(0)) - 1
        return at >= 0 and row <= self.ranges[at][1]

    def check(self, rows: int, where: str) -> None:
        """Hold the selection against the number of rows that there are.

        Raises:
            InvalidInput: if it asks for a row past the end.
        """
        if self.last > rows:
            some = f"has {rows} row{'' if rows == 1 else 's'}" if rows else "has no rows"
            raise InvalidInput(
                f"rows: row {self.last} was requested, but {where} {some}. Nothing was sent. "
                + (f"The last row is {rows}." if rows else "Add rows first.")
            )


def parse_rows(text: str) -> RowSelection:
    """Read `"1-1000,1500"`.

    Raises:
        InvalidInput: naming the part that is neither a row nor a range.
    """
    ranges: list[tuple[int, int]] = []
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise InvalidInput(f"rows: {quoted(part.strip())} is not a row or a range. Nothing was sent. {_EXAMPLE}")
        first, last = int(match[1]), int(match[2] or match[1])
        if first == 0:
            raise InvalidInput(f"rows: row numbers start at 1; there is no row 0. Nothing was sent. {_EXAMPLE}")
        if last < first:
            raise InvalidInput(f"rows: {quoted(part.strip())} runs backwards. Nothing was sent. {_EXAMPLE}")
        ranges.append((first, last))
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return RowSelection(tuple(joined))
