"""Opening text whose encoding nobody wrote down."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.text import quoted

_CHUNK = 1 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WINDOWS_NOTE = (
    "The file is not UTF-8 and was read as Windows-1252, which Excel writes in Western Europe and America. "
    "Check a name with an accent before you call."
)
_SAVE_AS_UTF8 = 'Save it as "CSV UTF-8" and name that file.'


def encoding_of(path: Path) -> tuple[str, str | None]:
    """The encoding that reads the whole file, and a note for the person if it had to be guessed.

    The whole file is decoded once: one wrong byte in row 90,000 must not surface after 89,999 rows, nor turn a UTF-8
    file into a Windows one, which would read every accent in it wrongly.

    Raises:
        InvalidInput: if no encoding reads it, naming the line.
    """
    with path.open("rb") as file:
        head = file.read(8)
    _refuse_binary(path, head)
    encoding = next((name for mark, name in _BOMS if head.startswith(mark)), "utf-8")
    wrong = _first_wrong_byte(path, encoding)
    if wrong is None:
        return encoding, None
    # Windows-1252 and its like give almost no sequence that is valid UTF-8: where there are some, the file is UTF-8.
    if encoding != "utf-8" or _has_utf8_sequences(path):
        raise InvalidInput(
            f"{quoted(path.name)}, line {_line_at(path, wrong)}: a character is not valid {encoding.upper()}, as the "
            f"rest of the file is. Nothing was sent. {_SAVE_AS_UTF8}"
        )
    wrong = _first_wrong_byte(path, "cp1252")
    if wrong is not None:
        raise InvalidInput(
            f"{quoted(path.name)}, line {_line_at(path, wrong)}: a character is neither UTF-8 nor Windows-1252, and "
            f"guessing would garble names. Nothing was sent. {_SAVE_AS_UTF8}"
        )
    return "cp1252", _WINDOWS_NOTE


def checked_lines(file: TextIO, path: Path) -> Iterator[str]:
    """The lines of an open file, with their ends.

    Raises:
        InvalidInput: at a NUL, which no text holds: the file is binary, or UTF-16 that does not say so.
    """
    try:
        for number, line in enumerate(file, 1):
            if "\0" in line:
                raise InvalidInput(
                    f"{quoted(path.name)}, line {number}: contains NUL bytes: it is not a text file, or it is UTF-16 "
                    f"without a byte order mark. Nothing was sent. {_SAVE_AS_UTF8}"
                )
            yield line
    except UnicodeError:
        raise InvalidInput(
            f"{quoted(path.name)} changed while it was read. Nothing was sent. Save it and try again."
        ) from None


def _refuse_binary(path: Path, head: bytes) -> None:
    if head.startswith(b"PK\x03\x04"):
        what, then = "is an Excel workbook or another archive", "If it is a workbook, name it .xlsx."
    elif head.startswith(b"\xd0\xcf\x11\xe0"):
        what, then = "is an old Excel file (.xls)", "Save it as .xlsx or CSV."
    elif head.startswith(b"%PDF"):
        what, then = "is a PDF", "Save the table as .xlsx or CSV."
    else:
        return
    raise InvalidInput(f"{quoted(path.name)} {what}, not text. Nothing was sent. {then}")


def _first_wrong_byte(path: Path, encoding: str) -> int | None:
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(_CHUNK)
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return max(0, offset - held + error.start)
            except UnicodeError:
                return offset
            if not chunk:
                return None
            offset += len(chunk)


def _has_utf8_sequences(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if not decoder.decode(chunk).isascii():
                return True
    return False


def _line_at(path: Path, offset: int) -> int:
    line = 1
    with path.open("rb") as file:
        while offset > 0 and (chunk := file.read(min(_CHUNK, offset))):
            line += chunk.count(b"\n")
            offset -= len(chunk)
    return line
