"""Every country that a phone number can have has a name."""

from __future__ import annotations

import phonenumbers
import pytest

from batchcall_mcp.recipients.phone.countries import country_name


@pytest.mark.parametrize(
    ("region", "name"),
    [("US", "United States"), ("GB", "United Kingdom"), ("KR", "South Korea"), ("DE", "Germany"), ("XK", "Kosovo")],
)
def test_a_country_has_the_name_that_people_use(region: str, name: str) -> None:
    assert country_name(region) == name


def test_every_region_of_a_phone_number_has_a_name_that_fits_into_brackets() -> None:
    names = {region: country_name(region) for region in phonenumbers.SUPPORTED_REGIONS}

    assert [region for region, name in names.items() if name == region] == []
    assert [name for name in names.values() if set("()/;") & set(name)] == []
    assert len(set(names.values())) == len(names)


def test_a_region_that_nobody_knows_stays_a_code() -> None:
    assert country_name("ZZ") == "ZZ"
