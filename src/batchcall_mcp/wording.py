"""Somebody else's text inside ours: only what prints, and not more of it than a sentence bears."""

from __future__ import annotations

_QUOTED_LENGTH = 40


def printable(text: str) -> str:
    """The text on one line, with a space for each character that does not print."""
    if text.isprintable():  # nearly every text, and fifty times faster than looking at each character
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def shortened(text: str, longest: int) -> str:
    """Only what prints, at most `longest` characters of it."""
    # What is cut off is not looked at: a cell may hold megabytes.
    shown = printable(text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def quoted(text: str, longest: int = _QUOTED_LENGTH) -> str:
    """For a message: cut, and in quotation marks."""
    return f'"{shortened(text, longest)}"'
