"""Amounts are exact, and each stays in its currency."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.money import Money, of_millionths, parse_money, total


@pytest.mark.parametrize(
    ("written", "exactly", "about"),
    [
        ("0.14 USD", "0.14 USD", "0.14 USD"),
        ("84.00 EUR", "84 EUR", "84 EUR"),
        ("84.5 USD", "84.50 USD", "84.50 USD"),
        ("0.145 USD", "0.145 USD", "0.15 USD"),
        ("0.004 USD", "0.004 USD", "0.004 USD"),
        (" 1234567 JPY", "1234567 JPY", "1,234,567 JPY"),
        ("100 USD", "100 USD", "100 USD"),
    ],
)
def test_an_amount_is_written_exactly_for_a_setting_and_to_the_cent_for_people(
    written: str, exactly: str, about: str
) -> None:
    found = parse_money(written)

    assert (str(found), found.about) == (exactly, about)
    assert parse_money(str(found)) == found


@pytest.mark.parametrize(
    "written", ["", "0.14", "USD", "0.14USD", "$0.14", "0,14 USD", "-1 USD", "1e3 USD", "NaN USD", "0.14 usd", "٣ USD"]
)
def test_what_is_written_in_another_form_is_refused_with_the_form(written: str) -> None:
    with pytest.raises(ValueError, match=r"such as 0\.14 USD"):
        parse_money(written)


@given(st.decimals(0, 999_999_999, places=6))
def test_a_database_keeps_every_amount_that_a_setting_can_name(amount: Decimal) -> None:
    assert of_millionths(Money(amount, "USD").millionths, "USD") == Money(amount, "USD")


def test_what_a_database_cannot_keep_is_rounded_up() -> None:
    assert Money(Decimal("0.0000001"), "USD").millionths == 1


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-0.01"])
def test_a_vendor_may_report_what_cannot_be_an_amount(amount: str) -> None:
    assert not Money(Decimal(amount), "USD").is_sound
    assert not Money(Decimal(1), "dollars").is_sound
    assert Money(Decimal(0), "USD").is_sound


def test_a_sum_is_exact_and_of_one_currency() -> None:
    assert total([("0.14 USD", 3), ("1 USD", 1), ("0.000001 USD", 1)]) == Money(Decimal("1.420001"), "USD")
    assert total([("0.14 USD", 1), ("0.14 EUR", 1)]) is None
    assert total([]) is None
