"""Somebody else's text inside ours: only what prints, and not more of it than a sentence bears."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_QUOTED_LENGTH = 40
# A spreadsheet runs a cell that begins like this; a plain number is not a formula and stays as it is.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"\+[0-9]+")
_QUOTATION_MARKS = dict.fromkeys(map(ord, '"“”„‟«»″‶〝〞\N{FULLWIDTH QUOTATION MARK}'), "'")
_BLANK: Final = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0]")
"""To Unicode these are letters, marks and symbols; to a reader they are nothing, and hide what differs."""
FEWEST_HIDDEN: Final = 6
"""Digits of a called person's number that every mask hides: nobody tries out a million."""
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode: controls, marks of the writing direction and of format, half characters, line ends."""
_PLAIN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,80}", re.ASCII)


def harmless_cell(value: object) -> object:
    """A cell of a CSV file that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value


def printable(text: str) -> str:
    """The text on one line, with a space for each character that does not print, or prints as nothing."""
    if text.isascii() and text.isprintable():  # nearly every text; no character of ASCII prints as nothing
        return text
    if not text.isprintable():  # fifty times faster than looking at each character
        text = "".join(character if character.isprintable() else " " for character in text)
    return _BLANK.sub(" ", text)


def printable_lines(text: str) -> str:
    """The same of each line."""
    return "\n".join(map(printable, text.split("\n")))


def shortened(text: str, longest: int) -> str:
    """Only what prints, at most `longest` characters of it."""
    # What is cut off is not looked at: a cell may hold megabytes.
    shown = printable(text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def quoted(text: str, longest: int = _QUOTED_LENGTH) -> str:
    """For a message: cut, and in quotation marks."""
    return f'"{shortened(text, longest)}"'


def in_quotes(text: str, longest: int = _QUOTED_LENGTH) -> str:
    """Quoted, without a quotation mark of its own: what follows the closing one is ours and not the text's."""
    return quoted(text[: longest + 1].translate(_QUOTATION_MARKS), longest)


def identifier(text: str) -> str:
    """A backend's id as it is, if it looks like one; else as the foreign text that it may be."""
    return text if _PLAIN_ID.fullmatch(text) else in_quotes(text)


def only_printing(text: str) -> str:
    """A text that results, questions and the audit record repeat: what does not print would hide or turn a line.

    Raises:
        ValueError: a character does not print.
    """
    if any(unicodedata.category(character) in _UNSEEN for character in text):
        raise ValueError("must hold only characters that print")
    return text
