"""Numbers as people and spreadsheets write them."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp import number_plans
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.phone.numbers import (
    InvalidNumber,
    comparable,
    is_comparable,
    looks_like_a_number,
    normalise_number,
)

EXAMPLES = sorted(
    phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    for region in phonenumbers.SUPPORTED_REGIONS
    if (number := phonenumbers.example_number(region)) is not None
)


@pytest.mark.parametrize(
    ("written", "region"),
    [
        ("+14155550100", None),
        (" +1 (415) 555-0100 ", None),
        ("(415) 555-0100", "US"),
        ("415.555.0100", "US"),
        ("14155550100", "US"),
        ("0014155550100", None),
        ("00 1 415 555 0100", "DE"),
        ("00 1 415 555 0100", "AU"),
        ("14155550100.0", "US"),
        ("1.4155550100E+10", "US"),
        ("1,41555501000e10", "US"),
        ("+1.4155550100E+10", None),
        ("'+14155550100", None),
        ('="+14155550100"', None),
        ("tel:+1-415-555-0100", None),
        ("tel:415-555-0100;phone-context=+1", "US"),
        ("(+1) 415 555 0100", None),
        ("+1\N{NO-BREAK SPACE}415\N{NARROW NO-BREAK SPACE}555\N{NON-BREAKING HYPHEN}0100", None),
        ("\N{LEFT-TO-RIGHT EMBEDDING}+14155550100\N{POP DIRECTIONAL FORMATTING}", None),
        ("\N{ZERO WIDTH NO-BREAK SPACE}+14155550100", None),
        ("\uff0b\uff11\uff14\uff11\uff15\uff15\uff15\uff15\uff10\uff11\uff10\uff10", None),
        ("+\u0661\u0664\u0661\u0665\u0665\u0665\u0665\u0660\u0661\u0660\u0660", None),
        ("+14155550100\n", None),
    ],
)
def test_one_number_is_known_in_every_dress(written: str, region: str | None) -> None:
    assert normalise_number(written, region) == "+14155550100"


@pytest.mark.parametrize("written", ["+44 (0)20 7946 0018", "+4402079460018", "(+44) 20 7946 0018", "+442079460018"])
def test_a_trunk_zero_is_dropped(written: str) -> None:
    assert normalise_number(written, None) == "+442079460018"


@pytest.mark.parametrize(
    ("written", "region", "says"),
    [
        ("", "US", "the number is empty"),
        (" \t", "US", "the number is empty"),
        ("14155550100", None, "no country code.*default_region"),
        ("1.41555501E+10", "US", "has lost digits"),
        ("1E10", "US", "has lost digits"),
        ("1.41555501005E+10", "US", "not a whole number"),
        ("+1 415 555 0100 x12", None, "extension"),
        ("415-555-0100 ext. 12", "US", "extension"),
        ("415-555-0100 #12", "US", "extension"),
        ("tel:+14155550100;ext=12", None, "extension"),
        ("+1415555O100", None, "letters"),
        ("+1-800-FLOWERS", None, "letters"),
        ("+14155550100, +14155550101", None, "more than one number"),
        ("030 1234567/68", "DE", "more than one number"),
        ("+14155550100 +14155550101", None, r"a \+ is allowed only at the start"),
        ("+14155550100,,3", None, "more than one number"),
        ("*67 4155550100", "US", r'contains "\*"'),
        ("+999123456789", None, "no country has this code"),
        ("+1 415", None, "too short"),
        ("+1 415 555 0100 0100 01", None, "too long"),
        ("5550100", "US", "area code is missing"),
        ("+1 111 555 0100", None, "no number for US starts like this"),
        ("n/a", "US", "no digits"),
        ("-", "US", "no digits"),
        ("\N{SUPERSCRIPT TWO}", "US", "no digits"),
        ("1" * 101, "US", "too long"),
    ],
)
def test_what_cannot_be_dialled_is_refused_with_the_reason(written: str, region: str | None, says: str) -> None:
    with pytest.raises(InvalidNumber, match=says):
        normalise_number(written, region)


def test_the_reason_quotes_the_value_cut_and_without_control_characters() -> None:
    with pytest.raises(InvalidInput) as refused:
        normalise_number("call\x1b[31m me" + "!" * 80, None)
    assert refused.value.message.startswith('"call [31m me!!!')
    assert "…" in refused.value.message
    assert len(refused.value.message) < 120


def test_a_number_german_writers_divide_by_a_slash_is_one() -> None:
    assert normalise_number("030/1234567", "DE") == "+49301234567"


@given(st.text(max_size=120), st.sampled_from([None, "US", "DE", "IT"]))
def test_any_text_is_e164_or_an_invalid_number(text: str, region: str | None) -> None:
    try:
        number = normalise_number(text, region)
    except InvalidNumber:
        return
    assert normalise_number(number, None) == number


@given(
    st.text(alphabet="+0123456789 ()-./xeE,;'=\"\u202a\uff0b\uff11#", max_size=30),
    st.sampled_from([None, "US", "GB", "BR"]),
)
def test_any_text_that_nearly_is_a_number_is_one_or_is_refused(text: str, region: str | None) -> None:
    try:
        number = normalise_number(text, region)
    except InvalidNumber:
        return
    assert phonenumbers.is_valid_number(phonenumbers.parse(number))


@given(st.sampled_from(EXAMPLES), st.lists(st.tuples(st.integers(2, 12), st.sampled_from("0123456789")), max_size=4))
def test_the_quick_way_for_e164_and_the_library_agree(example: str, changes: list[tuple[int, str]]) -> None:
    digits = list(example)
    for at, digit in changes:
        digits[min(at, len(digits) - 1)] = digit
    written = "".join(digits)
    try:
        parsed = phonenumbers.parse(written)
        valid = phonenumbers.is_valid_number(parsed)
    except phonenumbers.NumberParseException:
        valid = False
    if not valid:
        with pytest.raises(InvalidNumber):
            normalise_number(written, None)
        return
    number = normalise_number(written, None)
    assert number == phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    region = phonenumbers.region_code_for_number(parsed)
    assert number_plans.place(number).country == (None if region == "001" else region)


@pytest.mark.parametrize("number", ["+80012345678", "+999", "nonsense"])
def test_a_number_of_no_country_has_none(number: str) -> None:
    assert number_plans.place(number).country is None


@pytest.mark.parametrize(
    ("cell", "is_one"),
    [("+1 415 555 0100", True), ("4155550100", True), ("1.41555501E+10", True), ("phone", False), ("2026", False)],
)
def test_a_cell_that_holds_a_number_is_distinguished_from_a_header(cell: str, is_one: bool) -> None:
    assert looks_like_a_number(cell) is is_one


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("+12125550124", "+12125550124"),
        ("12125550124", "+12125550124"),
        ("+1 212 555 0124", "+12125550124"),
        ("1 (212) 555-0124", "+12125550124"),
        ("0012125550124", "+12125550124"),
        ("tel:+1-212-555-0124", "+12125550124"),
        ("\uff0b\uff11\uff12\uff11\uff12\uff15\uff15\uff15\uff10\uff11\uff12\uff14", "+12125550124"),
        ("+999123456789", "+999123456789"),
    ],
)
def test_a_number_is_compared_however_a_backend_spells_it(written: str, compared: str) -> None:
    assert comparable(written) == compared
    assert is_comparable(compared)


@pytest.mark.parametrize("written", ["02012345678", "the office", "", "+12", "+1 212 555 0124 x9", "1" * 16])
def test_what_is_not_an_international_number_is_not_comparable(written: str) -> None:
    assert not is_comparable(comparable(written))
