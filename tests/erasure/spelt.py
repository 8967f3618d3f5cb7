"""Numbers as some keyboards write them."""

from __future__ import annotations


def full_width(text: str) -> str:
    """The same with the wide digits of East Asia."""
    return text.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
