"""Which numbers real phones may be rung at: a wrong one costs a fortune, or keeps somebody from an ambulance. Pure.

Kinds and countries are libphonenumber's. `+1` alone is two dozen countries, some of them dear: each is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from batchcall_mcp import number_plans
from batchcall_mcp.recipients.phone.numbers import comparable

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

_NO_COUNTRY: Final = "001"
"""libphonenumber's region of numbers of no country: satellite, +800."""
_SETTING: Final = "BATCHCALL_COUNTRIES"
_EMERGENCY: Final = "is an emergency number"
_LONGEST_EMERGENCY: Final = 6
_DEAR: Final = "is of a dear kind (pay-per-call, directory assistance, satellite or personal)"
_LOOKS_ORDINARY: Final = re.compile(
    r"\+(?:1(?:[2-9][0-9]{2}976[0-9]{4}|[2-9][0-9]{2}5551212|600[0-9]{7})|4470[0-9]{8})"
)
"""Dear, and of an ordinary kind to libphonenumber: in North America pay-per-call services, directory assistance and
numbers for satellites; in the United Kingdom personal numbers, which lead anywhere."""


def problem(number: str, countries: Collection[str]) -> str | None:
    """Why a number must not be dialled, without the number; None: it may be.

    Args:
        number: `+` and digits.
        countries: ISO 3166 codes of those that may be called; see `allowed_countries`.
    """
    kind, country = _judged(number)
    return kind or _country_problem(country, countries)


def kind_problem(number: str) -> str | None:
    """Why a number must not be dialled in whatever country it is, without the number; None: it may be.

    Args:
        number: `+` and digits.
    """
    return _judged(number)[0]


def _judged(number: str) -> tuple[str | None, str | None]:
    """What is wrong with its kind, and its country, if that is known."""
    if _LOOKS_ORDINARY.fullmatch(number):
        return _DEAR, None
    ordinary = number_plans.ordinary_country(number)  # nearly all, at a tenth of the time
    if ordinary is not None:
        return None, ordinary
    if _is_short_emergency_number(number.removeprefix("+")):
        return _EMERGENCY, None
    parsed = _parsed(number)
    if parsed is None:
        return "is not a phone number with its country code", None
    return _kind_problem(parsed), _country(parsed)


def allowed_countries(
    setting: Collection[str] | None, caller_numbers: Iterable[str] | None, from_number: str
) -> frozenset[str]:
    """The countries that may be called: as the operator has set them, else those of the account's caller numbers.

    Args:
        setting: of BATCHCALL_COUNTRIES; None: not set.
        caller_numbers: the account's; None: not known.
        from_number: of the batch call, whose country it is where the account does not tell of its own.
    """
    if setting is not None:
        return frozenset(setting)
    parsed = (_parsed(comparable(number)) for number in caller_numbers or (from_number,))
    return frozenset(country for one in parsed if one is not None and (country := _country(one)) is not None)


def _parsed(number: str) -> PhoneNumber | None:
    import phonenumbers

    phonenumbers.enable_pattern_cache()  # without it a list of a hundred countries compiles patterns all the time
    try:
        return phonenumbers.parse(number, None) if number.startswith("+") else None
    except phonenumbers.NumberParseException:
        return None


def _country(number: PhoneNumber) -> str | None:
    """None: of no country, or of no known one."""
    from phonenumbers import region_code_for_number

    found = region_code_for_number(number)
    return None if found is None or found == _NO_COUNTRY else str(found)


def _kind_problem(number: PhoneNumber) -> str | None:
    from phonenumbers import PhoneNumberType, national_significant_number, number_type, region_codes_for_country_code
    from phonenumbers.shortnumberinfo import connects_to_emergency_number

    kind = number_type(number)
    if kind == PhoneNumberType.PREMIUM_RATE:
        return "is a premium-rate number"
    if kind == PhoneNumberType.SHARED_COST:
        return "is a shared-cost number"
    if kind != PhoneNumberType.UNKNOWN:
        return None
    # Only what does not exist: an existing number may begin like an emergency number, as those of Delhi with 112.
    national = national_significant_number(number)
    regions = region_codes_for_country_code(number.country_code or 0)
    reaches_help = any(connects_to_emergency_number(national, region) for region in regions)
    return _EMERGENCY if reaches_help else "is a number of no known kind"


def _is_short_emergency_number(digits: str) -> bool:
    """Whether these digits alone are the emergency number of any country: `911`, `112`."""
    from phonenumbers.shortnumberinfo import SUPPORTED_SHORT_REGIONS, is_emergency_number

    return len(digits) <= _LONGEST_EMERGENCY and any(is_emergency_number(digits, at) for at in SUPPORTED_SHORT_REGIONS)


def _country_problem(country: str | None, countries: Collection[str]) -> str | None:
    if country is None:
        return "belongs to no country that may be called"
    if country in countries:
        return None
    may_be = ", ".join(sorted(countries)) or "none is known"
    return f"is in {country}, which may not be called (allowed: {may_be}; {_SETTING} names them)"
