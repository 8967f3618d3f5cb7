"""The telephone numbering plans of the world, asked about one E.164 number: valid, which country, which time zones.

The facts and the answers are libphonenumber's (the `phonenumbers` package); its functions parse, format and look up
with every question, and its patterns fall out of the cache of `re` where a list has a hundred countries. Here each plan
is prepared once, the first time that a number needs it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from phonenumbers import PhoneMetadata

_NO_COUNTRY: Final = "001"
"""libphonenumber's region of numbers of no country: satellite, +800."""
_LONGEST_COUNTRY_CODE: Final = 3
_GEOGRAPHICAL_MOBILES: Final = frozenset({52, 54, 55, 62, 86})
"""Country codes where mobiles belong to places: Mexico, Argentina, Brazil, Indonesia, China (libphonenumber's list)."""
_PLACELESS: Final = (
    "premium_rate",
    "toll_free",
    "shared_cost",
    "voip",
    "personal_number",
    "pager",
    "uan",
    "voicemail",
)
"""Kinds of numbers that belong to no place, in libphonenumber's words. A number that is one of them is no other."""


def is_valid(e164: str) -> bool:
    """Whether it is a valid number as written, in which no reader could take the first digits for a trunk prefix.

    False for some valid ones too, such as those of Italy that begin with a zero: libphonenumber has to be asked.
    """
    found = _plan_of(e164)
    if found is None:
        return False
    plan, national = found
    return not national.startswith("0") and not plan.may_begin_with_trunk(national) and plan.region_of(national)[1]


def ordinary_country(e164: str) -> str | None:
    """The country of a valid number as written that costs what calls there cost: not premium-rate, not shared-cost.

    None for some of those too, as for `is_valid`: libphonenumber has to be asked.
    """
    found = _plan_of(e164)
    if found is None or not is_valid(e164):
        return None
    plan, national = found
    region, _ = plan.region_of(national)
    return None if region is None or region.code == _NO_COUNTRY or region.is_dear(national) else region.code


class Place(NamedTuple):
    """Where a number is. `country`: ISO 3166 region; None: of no country (satellite, +800), or of no known one.

    `zones`: the IANA zones of its prefix; of a number that belongs to no place, all of its country; empty: none known.
    """

    country: str | None
    zones: tuple[str, ...]


def place(e164: str) -> Place:
    found = _plan_of(e164)
    if found is None:
        return _NOWHERE
    plan, national = found
    region, valid = plan.region_of(national)
    if region is None:
        return _NOWHERE
    country = None if region.code == _NO_COUNTRY else region.code
    if not valid:
        return Place(country, ())
    prefixed = e164.removeprefix("+") if region.is_geographical(national) else str(plan.country_code)
    return Place(country, _zones_by_prefix(prefixed))


_NOWHERE: Final = Place(None, ())


class _Patterns:
    """Whether a national number is one of some kinds, by its length. A pattern is compiled when it is first needed.

    `within`: whether it has to fit the country's general description as well.
    """

    def __init__(self, general: Any, kinds: Sequence[Any], *, within: bool = False) -> None:
        self._by_length: dict[int, list[str]] = {}
        for kind in kinds:
            if kind is not None and kind.national_number_pattern:
                for length in kind.possible_length or general.possible_length:
                    self._by_length.setdefault(length, []).append(kind.national_number_pattern)
        self._within = general if within else None
        self._compiled: dict[int, re.Pattern[str] | None] = {}

    def match(self, national: str) -> bool:
        length = len(national)
        try:
            pattern = self._compiled[length]
        except KeyError:
            pattern = self._compiled[length] = self._pattern(length)
        return pattern is not None and pattern.fullmatch(national) is not None

    def _pattern(self, length: int) -> re.Pattern[str] | None:
        general = self._within
        if length not in self._by_length or (general is not None and length not in general.possible_length):
            return None
        either = "|".join(f"(?:{one})" for one in dict.fromkeys(self._by_length[length]))
        return re.compile(either if general is None else rf"(?=(?:{general.national_number_pattern})\Z)(?:{either})")


class _Region:
    """The numbers of one country, of those that share its country code."""

    def __init__(self, code: str, country_code: int, metadata: PhoneMetadata) -> None:
        self.code = code
        general = metadata.general_desc
        placeless = [getattr(metadata, kind) for kind in _PLACELESS]
        mobile = () if metadata.same_mobile_and_fixed_line_pattern else (metadata.mobile,)
        self._placeless = _Patterns(general, placeless)
        self._any = _Patterns(general, [*placeless, metadata.fixed_line, *mobile], within=True)
        self._of_places = _Patterns(
            general, [metadata.fixed_line, *(mobile if country_code in _GEOGRAPHICAL_MOBILES else ())]
        )
        self.is_dear = _Patterns(general, [metadata.premium_rate, metadata.shared_cost]).match
        self.leading = re.compile(metadata.leading_digits) if metadata.leading_digits else None
        self.is_valid = self._any.match

    def is_geographical(self, national: str) -> bool:
        """Of a valid number: whether it belongs to a place."""
        return self._of_places.match(national) and not self._placeless.match(national)


class _Plan:
    """All numbers under one country code."""

    def __init__(self, country_code: int) -> None:
        import phonenumbers

        self.country_code = country_code
        self.code_length = len(str(country_code))
        codes = phonenumbers.COUNTRY_CODE_TO_REGION_CODE[country_code]
        found = [(code, _metadata(country_code, code)) for code in codes]
        self._regions = [_Region(code, country_code, metadata) for code, metadata in found if metadata]
        self._is_shared = len(codes) > 1
        main = found[0][1]
        trunk = main.national_prefix_for_parsing if main else None
        self._trunk = re.compile(trunk) if trunk else None

    def may_begin_with_trunk(self, national: str) -> bool:
        return self._trunk is not None and self._trunk.match(national) is not None

    def region_of(self, national: str) -> tuple[_Region | None, bool]:
        """The country of a number, and whether it is valid there.

        Of those that share a code, the first whose leading digits these are; one without has what is valid there.
        """
        for region in self._regions:
            if not self._is_shared or (region.leading is not None and region.leading.match(national)):
                return region, region.is_valid(national)
            if region.leading is None and region.is_valid(national):
                return region, True
        return None, False


def _metadata(country_code: int, region: str) -> PhoneMetadata | None:
    from phonenumbers import PhoneMetadata

    found: PhoneMetadata | None = PhoneMetadata.metadata_for_region_or_calling_code(country_code, region)
    return found


def _plan_of(e164: str) -> tuple[_Plan, str] | None:
    """The plan of a number, and the number without its country code; None if no country has this code."""
    digits = e164.removeprefix("+")
    if not (digits.isascii() and digits.isdecimal()):
        return None
    plan = _plan(digits[:_LONGEST_COUNTRY_CODE])
    return None if plan is None or len(digits) <= plan.code_length else (plan, digits[plan.code_length :])


@lru_cache(maxsize=2_000)  # more than there are beginnings of so many digits and fewer
def _plan(begins: str) -> _Plan | None:
    """The plan of numbers that begin so: no country code is the beginning of another."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    codes = (begins[:length] for length in range(1, len(begins) + 1) if not begins.startswith("0"))
    known = next((int(code) for code in codes if int(code) in COUNTRY_CODE_TO_REGION_CODE), None)
    return None if known is None else _plan_under(known)


@lru_cache(maxsize=1_000)
def _plan_under(country_code: int) -> _Plan:
    return _Plan(country_code)


@lru_cache(maxsize=1)
def _zone_table() -> tuple[Mapping[str, tuple[str, ...]], int]:
    """Libphonenumber's zones by prefix without `+`, and the length of the longest one."""
    from phonenumbers.timezone import UNKNOWN_TIMEZONE
    from phonenumbers.tzdata import TIMEZONE_DATA, TIMEZONE_LONGEST_PREFIX

    known = {
        prefix: tuple(zone for zone in found if zone != UNKNOWN_TIMEZONE) for prefix, found in TIMEZONE_DATA.items()
    }
    return known, TIMEZONE_LONGEST_PREFIX


def _zones_by_prefix(digits: str) -> tuple[str, ...]:
    table, longest = _zone_table()
    for length in range(min(longest, len(digits)), 0, -1):
        if (found := table.get(digits[:length])) is not None:
            return found
    return ()
