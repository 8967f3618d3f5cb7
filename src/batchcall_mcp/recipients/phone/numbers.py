"""Phone numbers as people and spreadsheets write them ─► E.164, or a reason why not. Pure.

Validity and countries are libphonenumber's (the `phonenumbers` package, imported when first needed). What it would
quietly drop, such as letters, an extension or a second number, is refused here: a wrong guess calls a stranger.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

from batchcall_mcp import number_plans
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.phone.former_numbers import may_be_former, of_today
from batchcall_mcp.text import quoted

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

_TRUNK_ZERO = re.compile(
    r"\+(?:2(?:[07]|[1-689][0-9])|3(?:[0-469]|[578][0-9])|4(?:[013-9]|2[0-9])|5(?:[1-8]|[09][0-9])|6(?:[0-6]|[7-9][0-9])"
    r"|7|8(?:[1246]|[03578-9][0-9])|9(?:[0-58]|[679][0-9]))0",
    re.ASCII,
)
"""A country code, and a zero after it: people write the one that is dialled at home."""
_E164 = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
_LONGEST = 100
LACKS_COUNTRY = "has no country code; write it as +…, or pass default_region"
"""How the reason ends, where a country would have made a number of the text."""
_FORMULA_TEXT = re.compile(r'="(.*)"', re.DOTALL)
_URI = re.compile(r"(tel|callto|phone|whatsapp):(//)?", re.IGNORECASE)
_URI_PARAMETERS = re.compile(r"(;phone-context=\+?[0-9.-]*)+", re.IGNORECASE)
_SCIENTIFIC = re.compile(r"(\+?)([0-9](?:[.,][0-9]+)?)[eE]\+?([0-9]{1,2})", re.ASCII)
_WHOLE_FLOAT = re.compile(r"(\+?[0-9]{7,15})\.0{1,6}", re.ASCII)
_EXTENSION = re.compile(r"[0-9)]\s*[;,]?\s*(?:extension|extn|ext|x|#)[.:=\s]*[0-9]+\s*", re.IGNORECASE)
_SHORT_AFTER_SLASH = re.compile(r"/(?!(?:[^0-9]*[0-9]){5})", re.ASCII)
_BRACKETED_PLUS = re.compile(r"\(\s*\+\s*([0-9]{1,3})\s*\)", re.ASCII)
_WRITTEN = re.compile(r"[+0-9 ().\-/]", re.ASCII)
_LOOKS_DIALLED = re.compile(r"\+?[0-9 ().\-/]{7,25}", re.ASCII)
_FEWEST_DIGITS = 7
_SPACES_AND_MARKS = {"Zs": " ", "Zl": " ", "Zp": " ", "Pd": "-", "Cf": "", "Cc": " "}


class InvalidNumber(InvalidInput, ValueError):
    """The text is not a number that can be dialled; the message is the reason, quoting the text."""


def normalise_number(text: str, default_region: str | None) -> str:
    """The number in E.164.

    `default_region` (ISO 3166, such as `US`) is the country of a number without `+` or `00`; None refuses those.

    Raises:
        InvalidNumber: with the reason.
    """
    if _E164.fullmatch(text) and number_plans.is_valid(text):
        return text
    return _parsed(text, _cleaned(text), default_region)


def region_of(number: str) -> str | None:
    """The country (ISO 3166) of a number in E.164; None for one of no country."""
    import phonenumbers

    region = phonenumbers.region_code_for_number(phonenumbers.parse(number, None))
    return None if region in {None, "001", "ZZ"} else str(region)


def comparable(number: str) -> str:
    """A number that a backend stores, as it is compared with others: `12125550124` is `+12125550124`.

    For comparing only, never for sending: digits alone are read as if `+` stood in front, and a number of an earlier
    plan is the one of today. What cannot be read as a number comes back as it is; see `is_comparable`.
    """
    if is_comparable(number):
        if may_be_former(number):
            return of_today(number, None) or number
        return (_read(number) if _TRUNK_ZERO.match(number) else None) or number
    try:
        written = _cleaned(number)
    except InvalidNumber:
        return number.strip()
    international = written if written.startswith("+") else "+" + written.removeprefix("00").lstrip()
    try:
        return _parsed(number, international, None)
    except InvalidNumber:
        former = of_today(international, None) if looks_like_a_number(international) else None
        return former or number.strip()


def as_dialled(number: str) -> str:
    """A number of `+` and digits as it is dialled today: without a trunk prefix, and by the plan of its country.

    What cannot be read as a number comes back as it is. Cheap for one that is written so.
    """
    return _read(number) or comparable(number)


def _read(number: str) -> str | None:
    """As libphonenumber reads it: `+4402079460000` is `+442079460000`, and the zero of an Italian number stays."""
    if number_plans.is_valid(number):
        return number
    try:
        return _parsed(number, number, None)
    except InvalidNumber:
        return None


def digits_as_written(text: str) -> str | None:
    """`+` and the digits of a text that says its country and looks like a number, known to libphonenumber or not."""
    digits = "".join(character for character in text if character.isascii() and character.isdecimal())
    return f"+{digits}" if text.strip().startswith("+") and digits and looks_like_a_number(text) else None


def is_comparable(number: str) -> bool:
    """Whether it is written as `comparable` writes numbers: `+`, a country code and 7 to 15 digits in all.

    Cheap, and not a check of validity.
    """
    return _E164.fullmatch(number) is not None


def looks_like_a_number(text: str) -> bool:
    """Whether a cell holds a phone number rather than a word, without asking whether it exists."""
    written = _plain_characters(text).lstrip("'")
    digits = sum(character.isdecimal() for character in written)
    return bool(_LOOKS_DIALLED.fullmatch(written) or _SCIENTIFIC.fullmatch(written)) and digits >= _FEWEST_DIGITS


def _plain_characters(text: str) -> str:
    """ASCII for what only looks like it: full-width and other digits, any space and dash; no invisible marks.

    Contacts copied from phones come wrapped in direction marks; web pages give non-breaking spaces.
    """
    text = text.strip()
    if text.isascii() and text.isprintable():
        return text
    return "".join(plain_character(character) for character in text).strip()


def plain_character(character: str) -> str:
    """ASCII for a character that only looks like it; empty for a mark that nobody sees."""
    if character.isascii() and character.isprintable():
        return character
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    replaced = _SPACES_AND_MARKS.get(unicodedata.category(character))
    if replaced is not None:
        return replaced
    # Full-width punctuation such as U+FF0B has an ASCII original; for anything else the caller names the character.
    original = unicodedata.normalize("NFKC", character)
    return original if len(original) == 1 and original in "+().-/#" else character


def _cleaned(text: str) -> str:
    if not text.strip():
        raise InvalidNumber("the number is empty")
    if len(text) > _LONGEST:
        raise InvalidNumber(f"{quoted(text)} is not a phone number: too long")
    written = _plain_characters(text)
    if formula := _FORMULA_TEXT.fullmatch(written):
        written = formula[1].strip()
    written = written.lstrip("'").strip()
    if uri := _URI.match(written):
        written = written[uri.end() :]
        number, semicolon, parameters = written.partition(";")
        if _URI_PARAMETERS.fullmatch(semicolon + parameters):
            written = number.strip()
    if whole := _WHOLE_FLOAT.fullmatch(written):
        return whole[1]
    if scientific := _SCIENTIFIC.fullmatch(written):
        return scientific[1] + _digits_of(text, scientific[2].replace(",", "."), int(scientific[3]))
    return _BRACKETED_PLUS.sub(r"+\1 ", written) if written.startswith("(") else written


def _digits_of(text: str, mantissa: str, exponent: int) -> str:
    """The digits of what a spreadsheet wrote as 1.41555501E+10, if it wrote all of them."""
    if len(mantissa.partition(".")[2]) < exponent:
        raise InvalidNumber(
            f"{quoted(text)} has lost digits: the spreadsheet rounded it; format the column as text and fill it again"
        )
    with localcontext() as context:
        context.prec = _LONGEST
        number = Decimal(mantissa).scaleb(exponent)
    if number != number.to_integral_value():
        raise InvalidNumber(f"{quoted(text)} is not a phone number: not a whole number")
    return str(int(number))


def _parsed(text: str, written: str, default_region: str | None) -> str:
    import phonenumbers

    phonenumbers.enable_pattern_cache()  # without it a list of a hundred countries compiles patterns all the time
    offence = _offence(written)
    if offence:
        raise InvalidNumber(f"{quoted(text)} {offence}")
    attempts: list[tuple[str, str | None]] = []
    if not written.startswith("+") and default_region:
        attempts.append((written, default_region))
    if international := _international(written):
        attempts.append((international, None))
    if not attempts:
        raise InvalidNumber(f"{quoted(text)} {LACKS_COUNTRY}")
    reason = ""
    for attempt, region in attempts:
        try:
            number = phonenumbers.parse(attempt, region)
        except phonenumbers.NumberParseException as error:
            reason = reason or _parse_problem(error.error_type)
            continue
        if phonenumbers.is_valid_number(number):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        reason = reason or _validity_problem(number, region)
    raise InvalidNumber(f"{quoted(text)} is not a phone number: {reason}")


def _international(written: str) -> str | None:
    """With `+`, if the number says its country: by `+` itself or by 00, which most of the world dials for it."""
    if written.startswith("+"):
        return written
    digits = re.sub(r"[^0-9]", "", written)
    return "+" + digits[2:] if digits.startswith("00") else None


def _offence(written: str) -> str | None:
    """What is wrong with the characters alone."""
    if not any(character.isdecimal() for character in written):
        return "is not a phone number: no digits"
    if _EXTENSION.search(written):
        return "has an extension, which cannot be dialled"
    # 030/1234567 is one number, 030 1234567/68 is two: joined they would be a third.
    if re.search(r"[,;|&]", written) or _SHORT_AFTER_SLASH.search(written):
        return "is not a phone number: it seems to contain more than one number"
    if re.search(r"[^\W\d_]", written):
        return "is not a phone number: it contains letters"
    if "+" in written[1:]:
        return "is not a phone number: a + is allowed only at the start"
    strange = next((character for character in written if not _WRITTEN.fullmatch(character)), None)
    return f"is not a phone number: it contains {quoted(strange)}" if strange else None


def _parse_problem(kind: int) -> str:
    from phonenumbers import NumberParseException

    return {
        NumberParseException.INVALID_COUNTRY_CODE: "no country has this code",
        NumberParseException.TOO_SHORT_AFTER_IDD: "too short",
        NumberParseException.TOO_SHORT_NSN: "too short",
        NumberParseException.TOO_LONG: "too long",
    }.get(kind, "not enough digits in a row")


def _validity_problem(number: PhoneNumber, region: str | None) -> str:
    import phonenumbers

    possible = phonenumbers.is_possible_number_with_reason(number)
    country = phonenumbers.region_code_for_country_code(number.country_code or 0)
    where = f" for {region or country}" if (region or country) not in {"001", "ZZ"} else ""
    return {
        phonenumbers.ValidationResult.TOO_SHORT: f"too short{where}",
        phonenumbers.ValidationResult.TOO_LONG: f"too long{where}",
        phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY: f"the area code is missing{where}",
        phonenumbers.ValidationResult.INVALID_LENGTH: f"no number{where} has this length",
    }.get(possible, f"no number{where} starts like this")
