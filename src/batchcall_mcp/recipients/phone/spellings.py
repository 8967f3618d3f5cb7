"""The ways in which one phone number is written: to find it where somebody kept it, and to take it out. Pure.

Also what stands in its place where a row has to stay: a name without a digit, which nothing reads as a number.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from batchcall_mcp.recipients.phone.former_numbers import earlier, of_today
from batchcall_mcp.recipients.phone.numbers import (
    InvalidNumber,
    comparable,
    digits_as_written,
    looks_like_a_number,
    normalise_number,
    plain_character,
)

FORGOTTEN: Final = "forgotten-"
"""How what stands in the place of a number begins."""
IN_A_TEXT: Final = "[forgotten]"
_LETTERS: Final = 16
_LAST_DIGITS: Final = 4
_LONGEST_DIGITS: Final = 20
_FEWEST_DIGITS: Final = 7
"""Fewer, without a country, are also something else."""
_SHORTEST_WITH_COUNTRY: Final = 8
_GROUP: Final = re.compile(r"\+?[0-9]+", re.ASCII)
_GAP: Final = re.compile(r"[ \t.\-()/]{1,3}", re.ASCII)


def stand_in() -> str:
    """A new one, which says nothing of the number, and which no other person has."""
    return FORGOTTEN + "".join(secrets.choice(string.ascii_lowercase) for _ in range(_LETTERS))


def is_forgotten(number: str) -> bool:
    """Whether it is no number, but stands in the place of one."""
    return number.startswith(FORGOTTEN)


@dataclass(frozen=True, slots=True)
class Spellings:
    """A number in E.164, with the digits of its other spellings: those that say the country, and those that do not."""

    number: str
    international: frozenset[str]
    national: frozenset[str]

    @classmethod
    def of(cls, written: str, default_region: str | None) -> Spellings:
        """The number that somebody typed. One that nobody has today is taken by its digits, if it says its country.

        Raises:
            InvalidNumber: with the reason.
        """
        try:
            number = normalise_number(written, default_region)
        except InvalidNumber:
            today = of_today(written, default_region) if looks_like_a_number(written) else None
            found = today or digits_as_written(written)
            if found is None:
                raise
            number = found
        country, national = _parts(number)
        digits = number[1:]
        international = {digits, f"00{digits}", f"011{digits}", *(one[1:] for one in earlier(number))}
        if country:
            international.add(f"{country}0{digits.removeprefix(country)}")
        return cls(number, frozenset(international), national - international)

    @property
    def last_digits(self) -> str:
        """How every spelling ends: what ends otherwise is another number."""
        return self.number[-_LAST_DIGITS:]

    def is_it(self, text: str) -> bool:
        """Whether a cell or a field is this number, however it is written."""
        if text == self.number:
            return True
        plain = "".join(map(plain_character, text)).strip()
        digits = "".join(character for character in plain if character.isdecimal())
        if digits in self.international or (digits in self.national and "+" not in plain):
            return True
        # In a form that a spreadsheet gave it, such as 1.4155550101E+10.
        is_exponent = "e" in plain.lower() and len(plain) <= _LONGEST_DIGITS + 10
        return is_exponent and bool(digits) and comparable(text) == self.number

    def within(self, text: str) -> bool:
        """Whether it occurs in a text."""
        return next(self._places(text), None) is not None

    def without(self, text: str) -> str:
        """The text with `IN_A_TEXT` in its place."""
        kept, end = [], 0
        for begin, after in self._places(text):
            kept += [text[end:begin], IN_A_TEXT]
            end = after
        return "".join([*kept, text[end:]]) if kept else text

    def _places(self, text: str) -> Iterator[tuple[int, int]]:
        plain = text if text.isascii() else "".join(map(_one_character, text))
        for run in _runs(plain):
            yield from self._in_run(plain, run)

    def _in_run(self, plain: str, run: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Of groups of digits that may be one number: those that are this one."""
        says_country = plain[run[0][0]] == "+"
        groups = [plain[begin:end].lstrip("+") for begin, end in run]
        at = 0
        while at < len(groups):
            # The rest of a number that says its country is no number of its own, until that one may be over.
            before = sum(map(len, groups[:at])) if says_country else _SHORTEST_WITH_COUNTRY
            longest = 0
            if at == 0 or before >= _SHORTEST_WITH_COUNTRY:
                wanted = self.international if says_country and at == 0 else self.international | self.national
                for count, digits in enumerate(accumulate(groups[at:]), 1):
                    if len(digits) > _LONGEST_DIGITS:
                        break
                    longest = count if digits in wanted else longest
            if longest:
                yield run[at][0], run[at + longest - 1][1]
            at += longest or 1


def _runs(plain: str) -> Iterator[list[tuple[int, int]]]:
    """Groups of digits between which stands only what people write within a number; a + begins a new one."""
    run: list[tuple[int, int]] = []
    for found in _GROUP.finditer(plain):
        begin, end = found.span()
        if run and (plain[begin] == "+" or not _GAP.fullmatch(plain, run[-1][1], begin)):
            yield run
            run = []
        run.append((begin, end))
    if run:
        yield run


def _one_character(character: str) -> str:
    plain = plain_character(character)
    return plain if len(plain) == 1 else " "


def _parts(number: str) -> tuple[str, frozenset[str]]:
    """The country's code, and the digits of spellings without it."""
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return "", frozenset()
    significant = phonenumbers.national_significant_number(parsed)
    written = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
    national = {"".join(filter(str.isdecimal, written)), significant, f"0{significant}"}
    return str(parsed.country_code), frozenset(one for one in national if len(one) >= _FEWEST_DIGITS)
