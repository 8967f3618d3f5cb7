"""The content of a file without a person: the rows of a list or an export without theirs. Pure."""

from __future__ import annotations

import codecs
import csv
import html
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from batchcall_mcp.recipients.files.columns import Layout, number_header
from batchcall_mcp.recipients.phone.spellings import Spellings

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS: Final = ",;\t|"
_LINES: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_TAG: Final = re.compile(r"<[^>]*>")
_SEPARATOR_LINE: Final = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
_LARGEST_PART: Final = 200_000_000
"""Of a workbook that is unpacked; a larger one was never read here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Without:
    """A content without the person. `content` None: it cannot be taken out of it, so that all of it has to go."""

    content: bytes | None
    rows: int = 0
    """How many rows were theirs."""


def without(content: bytes, ending: str, who: Spellings) -> Without | None:
    """A file without this person; None: they are not in it.

    Args:
        content: all of it.
        ending: what its name ends in, such as `.csv`.
        who: the number.
    """
    match ending.lower():
        case ".xlsx":
            return Without(content=None, rows=1) if _in_workbook(content, who) else None
        case ".html":
            return Without(content=None) if who.within(_visible(_decoded(content)[0])) else None
        case ".jsonl" | ".ndjson":
            return _of_lines(content, who)
    return _of_table(content, who)


def occurs(content: bytes, who: Spellings) -> bool:
    """Whether the number is written in a file of any kind."""
    if content.startswith(b"PK\x03\x04"):
        return _in_workbook(content, who)
    return who.within(_decoded(content)[0])


def _decoded(content: bytes) -> tuple[str, str]:
    named = next((name for mark, name in _BOMS if content.startswith(mark)), None)
    for encoding in [named] if named else ["utf-8"]:
        try:
            return content.decode(encoding), encoding
        except UnicodeError:
            break
    return content.decode("latin-1"), "latin-1"  # every byte is kept as it is


def _of_table(content: bytes, who: Spellings) -> Without | None:
    text, encoding = _decoded(content)
    kept: list[str] = []
    rows, changed = 0, False
    place: int | None = None
    delimiter = ""
    for record in _records(text):
        declared = _SEPARATOR_LINE.fullmatch(record)
        if not delimiter:
            if declared:
                kept.append(record)
                delimiter = declared[1]
                continue
            delimiter = max(_DELIMITERS, key=record.count)
        cells = _cells(record, delimiter)
        if place is None:
            place = _place(cells)
        if any(map(who.is_it, _of_number(cells, place))):
            rows += 1
            continue
        cleaned = who.without(record)
        changed = changed or cleaned != record
        kept.append(cleaned)
    if not rows and not changed:
        return None
    return Without(content="".join(kept).encode(encoding), rows=rows)


def _cells(record: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([record], delimiter=delimiter), [])
    except csv.Error:  # marks that are no table's
        return record.split(delimiter)


def _place(header: list[str]) -> int:
    """Where the number stands, by the first row; -1: it may be anywhere."""
    names = [cell.strip() for cell in header]
    named = number_header(names, Layout())
    return names.index(named) if named is not None else -1


def _of_number(cells: list[str], place: int) -> list[str]:
    return cells if place < 0 else cells[place : place + 1]


def _records(text: str) -> Iterator[str]:
    """The records of a table as they are written, with their ends; a quoted cell may hold ends of lines."""
    held: list[str] = []
    is_quoted = False
    for line in _LINES.findall(text):
        held.append(line)
        is_quoted = _ends_quoted(line, is_quoted=is_quoted)
        if not is_quoted:
            yield "".join(held)
            held = []
    yield from held  # a mark that is never closed: each line for itself


def _ends_quoted(line: str, *, is_quoted: bool) -> bool:
    """Whether the cell at the end of a line goes on in the next one, if one did at its beginning.

    Only a mark at the beginning of a cell opens it: elsewhere it stands for inches, or a nickname.
    """
    at = line.find('"')
    while at >= 0:
        if is_quoted and line[at + 1 : at + 2] == '"':
            at += 1
        elif is_quoted or line[max(at - 1, 0) : at] in {"", *_DELIMITERS}:
            is_quoted = not is_quoted
        at = line.find('"', at + 1)
    return is_quoted


def _of_lines(content: bytes, who: Spellings) -> Without | None:
    text, encoding = _decoded(content)
    kept: list[str] = []
    rows, changed = 0, False
    for line in _LINES.findall(text):
        try:
            value = json.loads(line)
            if isinstance(value, dict) and _is_of(value, who):
                rows += 1
                continue
            cleaned_value = in_texts(value, who)
        except (ValueError, RecursionError):  # it is no JSON that anybody reads
            cleaned = who.without(line)
            changed = changed or cleaned != line
            kept.append(cleaned)
            continue
        if cleaned_value == value:
            kept.append(line)
            continue
        changed = True
        kept.append(_as_json(cleaned_value) + line[len(line.rstrip("\r\n")) :])
    if not rows and not changed:
        return None
    return Without(content="".join(kept).encode(encoding), rows=rows)


def _as_json(value: Any) -> str:
    written = json.dumps(value, ensure_ascii=False)
    # Half of a pair of code units, which no encoding writes, stays the escape that it was.
    return written if written.isprintable() else json.dumps(value)


def _is_of(record: dict[str, Any], who: Spellings) -> bool:
    named = number_header(list(record), Layout())
    values: Iterable[Any] = record.values() if named is None else [record[named]]
    return any(who.is_it(str(value)) for value in values if isinstance(value, str | int))


def in_texts(value: Any, who: Spellings) -> Any:
    """The same JSON, without the number in any text of it."""
    match value:
        case str():
            return who.without(value)
        case list():
            return [in_texts(one, who) for one in value]
        case dict():
            return {name: in_texts(one, who) for name, one in value.items()}
    return value


def _visible(page: str) -> str:
    return html.unescape(_TAG.sub(" ", page))


def _in_workbook(content: bytes, who: Spellings) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as workbook:
            for part in workbook.infolist():
                with workbook.open(part) as file:
                    if who.within(_visible(file.read(_LARGEST_PART).decode("utf-8", "replace"))):
                        return True
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError):  # damaged: nobody reads it
        return False
    return False
