"""The operator's do-not-call lists (BATCHCALL_DO_NOT_CALL). One line that cannot be read fails all of them:
if it were skipped, a person who asked not to be called would be called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchcall_mcp.errors import ConfigurationError, InvalidInput
from batchcall_mcp.recipients.files.columns import Layout, choose_columns
from batchcall_mcp.recipients.files.file_formats import kind_of, open_list, open_rows
from batchcall_mcp.recipients.files.raw_rows import Broken
from batchcall_mcp.recipients.phone.former_numbers import of_today
from batchcall_mcp.recipients.phone.numbers import (
    InvalidNumber,
    digits_as_written,
    looks_like_a_number,
    normalise_number,
)
from batchcall_mcp.text import FEWEST_HIDDEN, quoted

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DoNotCall:
    """Who is never called. `numbers` in E.164; `forgotten`: those of people who were forgotten, as `hashed` names them.

    `unknown`: the lines of those that nobody has today, with the number masked, by file.
    """

    numbers: frozenset[str] = frozenset()
    unknown: tuple[tuple[str, int, str], ...] = ()
    forgotten: frozenset[bytes] = frozenset()
    hashed: Callable[[str], bytes] = str.encode

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, str):
            return False
        return number in self.numbers or (bool(self.forgotten) and self.hashed(number) in self.forgotten)

    def notes(self) -> tuple[str, ...]:
        """What the operator should know of it: a sentence for each file, or none."""
        by_file: dict[str, list[str]] = {}
        for name, line, masked in self.unknown:
            by_file.setdefault(name, []).append(f"line {line} ({masked})")
        return tuple(
            f"The do-not-call list {quoted(name)} (BATCHCALL_DO_NOT_CALL) contains numbers that nobody has today: "
            f"{', '.join(lines[:_MOST_NAMED])}{_more(lines)}. Each blocks only a number that is written with the same "
            "digits. Correct these lines."
            for name, lines in by_file.items()
        )


def read_do_not_call_lists(paths: Sequence[Path], default_region: str | None = None) -> DoNotCall:
    """The numbers of all these lists; see `read_do_not_call`.

    Raises:
        ConfigurationError: naming the first list that cannot be read.
    """
    found = [read_do_not_call(path, default_region) for path in paths]
    return DoNotCall(
        numbers=frozenset().union(*(one.numbers for one in found)),
        unknown=tuple(line for one in found for line in one.unknown),
    )


def read_do_not_call(path: Path, default_region: str | None = None) -> DoNotCall:
    """The numbers of a list, in E.164: a table or JSONL with a number column, or bare numbers, one on each line.

    Lines of a text that begin with `#` are comments. A number of an earlier plan is the one of today, and what it was.
    Any other number with its country code that libphonenumber does not know is kept as its digits, which hold if a
    vendor knows it, and named.

    Raises:
        ConfigurationError: naming BATCHCALL_DO_NOT_CALL and each line that is not a number.
    """
    numbers: set[str] = set()
    unknown: list[tuple[str, int, str]] = []
    problems: list[str] = []
    try:
        for line, text in _written_numbers(path):
            if isinstance(text, Broken):
                problems.append(f"line {line}: {text.reason}")
                continue
            try:
                numbers.add(normalise_number(text, default_region))
            except InvalidNumber as error:
                today = of_today(text, default_region) if looks_like_a_number(text) else None
                digits = digits_as_written(text)
                numbers |= {one for one in (today, digits) if one is not None}
                if today is None and digits is not None:
                    unknown.append((path.name, line, _masked(digits)))
                elif today is None:
                    problems.append(f"line {line}: {error.message}")
    except InvalidInput as error:
        raise ConfigurationError(f"BATCHCALL_DO_NOT_CALL: {error.message}") from None
    if problems:
        raise ConfigurationError(
            f"BATCHCALL_DO_NOT_CALL: {quoted(path.name)} contains lines that are not numbers: "
            f"{'; '.join(problems[:_MOST_NAMED])}{_more(problems, ';')}. Nothing was sent, because a person on the "
            "list could be called. Correct these lines; numbers without + need BATCHCALL_DEFAULT_REGION."
        )
    return DoNotCall(numbers=frozenset(numbers), unknown=tuple(unknown))


def _more(named: Sequence[str], separator: str = "") -> str:
    return f"{separator} and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""


def _masked(number: str) -> str:
    """Enough to find it in its line, not enough to dial it."""
    hidden = max(len(number) - 5, FEWEST_HIDDEN)
    return number[:3] + "•" * hidden + number[3 + hidden :]


def _written_numbers(path: Path) -> Iterator[tuple[int, str | Broken]]:
    if kind_of(path) == "json_lines":
        with open_list(path, Layout()) as opened:
            for entry in opened.entries:
                yield entry.line, entry if isinstance(entry, Broken) else entry.to_number
        return
    with open_rows(path, Layout()) as (rows, _):
        place: int | None = None
        for row in rows:
            cells = [cell.strip() for cell in row.cells]
            if not any(cells) or cells[0].startswith("#"):
                continue
            if place is None:
                place = _place_without_header(cells, path)
                if place is None:
                    place = cells.index(choose_columns(cells, Layout(), quoted(path.name)).to_number)
                    continue
            yield row.line, cells[place] if place < len(cells) else ""


def _place_without_header(cells: list[str], path: Path) -> int | None:
    """Where the numbers stand, if the first row holds one already; a + distinguishes a number from a date or an id."""
    alike = [at for at, cell in enumerate(cells) if looks_like_a_number(cell)]
    international = [at for at in alike if cells[at].startswith("+")] or alike
    if len(international) > 1:
        raise InvalidInput(
            f"several columns of {quoted(path.name)} contain numbers. Nothing was sent. Add column names as the first "
            "line."
        )
    return international[0] if international else None
