"""Amounts of money, exact, each in its currency. No amount is ever converted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Final

_WRITTEN = re.compile(r"(?P<amount>[0-9]{1,9}(\.[0-9]{1,6})?) (?P<currency>[A-Z]{3})")
_CURRENCY = re.compile(r"[A-Z]{3}")
_CENT: Final = Decimal("0.01")
_MILLION: Final = 1_000_000
_END: Final = Decimal(10) ** 9
"""Less than this can be written, and be meant."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount that is not negative, in a currency by its ISO 4217 code."""

    amount: Decimal
    currency: str

    def __str__(self) -> str:
        """Exactly, as it is written in a setting: `0.14 USD`, `84 USD`."""
        return f"{_written(self.amount)} {self.currency}"

    @property
    def about(self) -> str:
        """To the cent, for people: `84 USD`, `1,234.50 USD`. What is less than a cent stays exact."""
        rounded = self.amount.quantize(_CENT, ROUND_HALF_UP)
        return f"{_written(rounded or self.amount, ',')} {self.currency}"

    @property
    def millionths(self) -> int:
        """As a whole number of millionths, for a database; rounded up."""
        return int((self.amount * _MILLION).to_integral_value(ROUND_CEILING))

    @property
    def is_sound(self) -> bool:
        """Whether it can be an amount at all: what a vendor reports may be anything."""
        amount = self.amount
        return amount.is_finite() and 0 <= amount < _END and _CURRENCY.fullmatch(self.currency) is not None

    def plus(self, other: Money) -> Money:
        """Both. They have to be in one currency."""
        return Money(self.amount + other.amount, self.currency)

    def times(self, number: int) -> Money:
        """So many of them."""
        return Money(self.amount * number, self.currency)


def of_millionths(millionths: int, currency: str) -> Money:
    """What `Money.millionths` made a number of."""
    return Money(Decimal(millionths) / _MILLION, currency)


def parse_money(written: str) -> Money:
    """Read `0.14 USD`.

    Raises:
        ValueError: it is written in another form; the text says in which one to write it.
    """
    found = _WRITTEN.fullmatch(written.strip())
    if found is None:
        raise ValueError("write an amount and the three letters of its currency, such as 0.14 USD")
    return Money(Decimal(found["amount"]), found["currency"])


def total(written: Iterable[tuple[str, int]]) -> Money | None:
    """The sum of amounts as `str(Money)` writes them, each so many times; None: there are none, or in two currencies.

    Nothing is converted, and half a sum would be none.
    """
    sum_of: Money | None = None
    for text, times in written:
        one = parse_money(text).times(times)
        if sum_of is not None and sum_of.currency != one.currency:
            return None
        sum_of = one if sum_of is None else sum_of.plus(one)
    return sum_of


def _written(amount: Decimal, thousands: str = "") -> str:
    """Whole, or with at least two digits after the point."""
    plain = amount.normalize()
    exponent = plain.as_tuple().exponent
    if isinstance(exponent, int) and exponent == -1:
        plain = plain.quantize(_CENT)
    return format(plain, f"{thousands}f")
