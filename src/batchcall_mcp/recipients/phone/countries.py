"""Names of countries for people to read. Pure.

The names are those of the tz database (`iso3166.tab`, which the `tzdata` package brings with the time zones): a file of
four kilobytes. The names inside `phonenumbers` come with all its places, 98 MB of memory and 0.3 s.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Final

_OTHERWISE: Final = {
    # Where the table writes a bracket, as a sentence would have it.
    "AS": "American Samoa",
    "CC": "Cocos Islands",
    "CD": "DR Congo",
    "CG": "Congo Republic",
    "FK": "Falkland Islands",
    "GB": "United Kingdom",
    "KP": "North Korea",
    "KR": "South Korea",
    "MF": "Saint Martin",
    "MM": "Myanmar",
    "SX": "Sint Maarten",
    "SZ": "Eswatini",
    "VG": "British Virgin Islands",
    "VI": "US Virgin Islands",
    "WS": "Samoa",
    # Places with a country code for telephones and none in ISO 3166.
    "AC": "Ascension Island",
    "TA": "Tristan da Cunha",
    "XK": "Kosovo",
}


def country_name(region: str) -> str:
    """The English name of an ISO 3166 region; the code itself where there is none."""
    return _OTHERWISE.get(region) or _names().get(region, region)


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    table = files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text(encoding="utf-8")
    lines = (line.split("\t") for line in table.splitlines() if line and not line.startswith("#"))
    return {region: name for region, name, *_ in lines}
