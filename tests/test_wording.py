"""Somebody else's text inside ours."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.text import quoted, shortened


@given(st.text(), st.integers(2, 50))
def test_a_quotation_is_one_short_line(text: str, length: int) -> None:
    shown = quoted(text, length)
    assert len(shown) <= length + 2
    assert shown[1:-1].isprintable()


def test_what_fits_is_not_cut_and_what_does_not_says_so() -> None:
    assert (shortened("abc", 3), shortened("abcd", 3)) == ("abc", "ab…")


def test_what_does_not_print_becomes_a_space() -> None:
    assert quoted("a\nb\x1b[0m\u202ec") == '"a b [0m c"'
