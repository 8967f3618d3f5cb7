"""Numbers as they were written before a country changed its plan ─► as they are dialled today. Pure.

For comparing only: nothing is dialled by it. Validity is libphonenumber's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_CHANGES: Final[Mapping[int, tuple[re.Pattern[str], str]]] = {
    52: (re.compile(r"1([0-9]{10})"), r"\1"),
    55: (re.compile(r"([1-9][0-9])([6-9][0-9]{7})"), r"\g<1>9\2"),
    229: (re.compile(r"([0-9]{8})"), r"01\1"),
}
"""Mexico dropped the 1 of mobiles (2019), Brazil put a 9 before theirs (2012 to 2016), Benin 01 before all (2024)."""
_BACK: Final[Mapping[int, tuple[re.Pattern[str], str]]] = {
    52: (re.compile(r"([0-9]{10})"), r"1\1"),
    55: (re.compile(r"([1-9][0-9])9([6-9][0-9]{7})"), r"\1\2"),
    229: (re.compile(r"01([0-9]{8})"), r"\1"),
}
"""From the number of today to the one before."""
_FORMER = re.compile(r"\+(?:521[0-9]{10}|55[1-9][0-9][6-9][0-9]{7}|229[0-9]{8})", re.ASCII)


def may_be_former(number: str) -> bool:
    """Whether `+` and digits look like one of those; cheap."""
    return _FORMER.fullmatch(number) is not None


def of_today(written: str, default_region: str | None) -> str | None:
    """The number in E.164 as it is dialled today, where `written` is nobody's and was somebody's; else None."""
    import phonenumbers

    try:
        number = phonenumbers.parse(written, default_region)
    except phonenumbers.NumberParseException:
        return None
    change = _CHANGES.get(number.country_code or 0)
    if change is None or phonenumbers.is_valid_number(number):
        return None
    before, after = change
    national = str(number.national_number)
    if not before.fullmatch(national):
        return None
    changed = phonenumbers.parse(f"+{number.country_code}{before.sub(after, national)}", None)
    if not phonenumbers.is_valid_number(changed):
        return None
    return phonenumbers.format_number(changed, phonenumbers.PhoneNumberFormat.E164)


def earlier(number: str) -> tuple[str, ...]:
    """How a number in E.164 was written before its country changed its plan, if it was."""
    for code, (today, before) in _BACK.items():
        national = number.removeprefix(f"+{code}")
        if national != number and today.fullmatch(national):
            return (f"+{code}{today.sub(before, national)}",)
    return ()
