"""What our prepared plans say of a number is what libphonenumber says of it."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers.timezone import UNKNOWN_TIMEZONE, time_zones_for_number

from batchcall_mcp import number_plans

KINDS = [
    phonenumbers.PhoneNumberType.FIXED_LINE,
    phonenumbers.PhoneNumberType.MOBILE,
    phonenumbers.PhoneNumberType.TOLL_FREE,
    phonenumbers.PhoneNumberType.PREMIUM_RATE,
    phonenumbers.PhoneNumberType.SHARED_COST,
    phonenumbers.PhoneNumberType.VOIP,
    phonenumbers.PhoneNumberType.PERSONAL_NUMBER,
    phonenumbers.PhoneNumberType.PAGER,
    phonenumbers.PhoneNumberType.UAN,
]


def _example(region: str, kind: int) -> str | None:
    number = phonenumbers.example_number_for_type(region, kind)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if number else None


EXAMPLES = sorted(
    {number for region in phonenumbers.SUPPORTED_REGIONS for kind in KINDS if (number := _example(region, kind))}
    | {
        phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)
        for code in phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS
        if (found := phonenumbers.example_number_for_non_geo_entity(code))
    }
)


def test_every_kind_of_number_of_every_country_has_its_country_and_zones() -> None:
    assert len(EXAMPLES) > 900
    assert [number for number in EXAMPLES if not _agrees(number)] == []


@given(st.sampled_from(EXAMPLES), st.lists(st.tuples(st.integers(2, 14), st.sampled_from("0123456789")), max_size=6))
def test_a_number_with_other_digits_has_what_libphonenumber_says(example: str, others: list[tuple[int, str]]) -> None:
    digits = list(example)
    for at, digit in others:
        digits[min(at, len(digits) - 1)] = digit
    assert _agrees("".join(digits))


@pytest.mark.parametrize("length", [-3, -2, -1, 1, 2])
def test_a_number_that_is_too_short_or_too_long_is_judged_as_libphonenumber_does(length: int) -> None:
    others = [number[:length] if length < 0 else number + "1" * length for number in EXAMPLES]
    assert [number for number in others if not _agrees(number)] == []


@pytest.mark.parametrize("written", ["", "+", "+0", "+1", "+049301234567", "+x", "+١٢١٢٥٥٥٠١٠٠", "12125550100 "])
def test_what_is_no_number_has_nothing(written: str) -> None:
    assert not number_plans.is_valid(written)
    assert number_plans.place(written).country is None
    assert number_plans.place(written).zones == ()


def _agrees(e164: str) -> bool:
    """A number that is valid as written; what parsing would change is not compared, because it is another number."""
    try:
        number = phonenumbers.parse(e164)
    except phonenumbers.NumberParseException:
        return not number_plans.is_valid(e164)
    if phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) != e164:
        return not number_plans.is_valid(e164)
    valid = phonenumbers.is_valid_number(number)
    if number_plans.is_valid(e164) and not valid:
        return False
    if not valid:
        return number_plans.place(e164).zones == ()
    region = phonenumbers.region_code_for_number(number)
    zones = tuple(zone for zone in time_zones_for_number(number) if zone != UNKNOWN_TIMEZONE)
    return (number_plans.place(e164).country or "001", number_plans.place(e164).zones) == (region, zones)
