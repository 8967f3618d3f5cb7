"""Which numbers real phones may be rung at."""

import pytest
from phonenumbers import (
    SUPPORTED_REGIONS,
    PhoneNumberFormat,
    PhoneNumberType,
    example_number_for_type,
    format_number,
)

from batchcall_mcp import number_plans
from batchcall_mcp.recipients.phone.destinations import allowed_countries, problem

US = frozenset({"US"})


@pytest.mark.parametrize(
    "number",
    [
        "+14155550123",
        "+18005550123",  # toll-free
    ],
)
def test_an_ordinary_number_may_be_called(number: str) -> None:
    assert problem(number, US) is None


@pytest.mark.parametrize("number", ["+1911", "+911", "911", "+112", "+44999", "+19115550123", "+4411255501234"])
def test_an_emergency_number_is_refused_however_it_is_written(number: str) -> None:
    assert problem(number, {"US", "GB", "IN"}) == "is an emergency number"


def test_a_number_that_exists_may_begin_like_an_emergency_number() -> None:
    delhi = "+911123456789"
    assert problem(delhi, {"IN"}) is None


@pytest.mark.parametrize(
    ("number", "why"),
    [
        ("+19005550123", "is a premium-rate number"),
        ("+449091234567", "is a premium-rate number"),
        ("+448451234567", "is a premium-rate number"),
        ("+4918011234567", "is a shared-cost number"),
        ("+447700900123", "is a number of no known kind"),
        ("+1", "is not a phone number with its country code"),
        ("4155550123", "is not a phone number with its country code"),
        ("+870773111632", "belongs to no country that may be called"),  # a satellite
    ],
)
def test_what_is_dear_or_unknown_is_refused(number: str, why: str) -> None:
    assert problem(number, {"US", "GB", "DE"}) == why


def test_countries_that_share_a_country_code_are_told_apart() -> None:
    jamaica = "+18765550123"
    assert problem(jamaica, US) == "is in JM, which may not be called (allowed: US; BATCHCALL_COUNTRIES names them)"
    assert problem(jamaica, {"JM"}) is None


def test_without_any_country_nobody_is_called() -> None:
    assert problem("+14155550123", ()) == (
        "is in US, which may not be called (allowed: none is known; BATCHCALL_COUNTRIES names them)"
    )


def test_the_setting_comes_before_the_account_and_the_account_before_the_caller_number() -> None:
    assert allowed_countries({"FR"}, ["+14155550123"], "+442079460958") == {"FR"}
    assert allowed_countries(None, ["+14155550123", "+18765550123"], "+442079460958") == {"US", "JM"}
    assert allowed_countries(None, None, "+442079460958") == {"GB"}
    assert allowed_countries(None, None, "no number") == frozenset()


def test_the_short_way_says_what_libphonenumber_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a number of each kind in each country, and of one that differs from it in its last digits."""
    kinds = [kind for kind in vars(PhoneNumberType).values() if isinstance(kind, int)]
    found = [example_number_for_type(region, kind) for region in sorted(SUPPORTED_REGIONS) for kind in kinds]
    written = [format_number(one, PhoneNumberFormat.E164) for one in found if one is not None]
    assert len(written) > 1000
    numbers = [*written, *(f"{one[:-2]}99" for one in written), *(one[:-1] for one in written)]
    short = [problem(number, SUPPORTED_REGIONS) for number in numbers]
    monkeypatch.setattr(number_plans, "ordinary_country", lambda _number: None)
    assert [problem(number, SUPPORTED_REGIONS) for number in numbers] == short
    short_us = [problem(number, US) for number in numbers]
    monkeypatch.undo()
    assert [problem(number, US) for number in numbers] == short_us
