"""Amounts of money, exact, each in its currency. No amount is ever converted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

_WRITTEN = re.compile(r"(?P<amount>\d{1,9}(\.\d{1,6})?) (?P<currency>[A-Z]{3})")


@dataclass(frozen=True, slots=True)
class Money:
    """An amount that is not negative, in a currency by its ISO 4217 code."""

    amount: Decimal
    currency: str

    def __str__(self) -> str:
        """As it is written in a setting: `0.14 USD`."""
        return f"{self.amount:f} {self.currency}"


def parse_money(written: str) -> Money:
    """Read `0.14 USD`.

    Raises:
        ValueError: it is written in another form; the text says in which one to write it.
    """
    found = _WRITTEN.fullmatch(written.strip())
    if found is None:
        raise ValueError("write an amount and the three letters of its currency, such as 0.14 USD")
    return Money(Decimal(found["amount"]), found["currency"])
