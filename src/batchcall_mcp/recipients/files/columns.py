"""Which column is what: the number, the name, the zone, the retries. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.phone.numbers import looks_like_a_number
from batchcall_mcp.text import quoted

_MOST_LISTED = 30

# Paragraphs of words, not lists of ninety quoted ones (SIM905).
# In order of preference: what is surely the number to call, what usually is, what may be.
_NUMBER_HEADERS = (  # noqa: SIM905
    "tonumber phonenumber phoneno phonenr phone phonee164 e164 phone1value mobilenumber mobilephonenumber "
    "mobilephone mobileno mobile cellphonenumber cellphone cellnumber cell telephonenumber "
    "telephoneno telephone telnumber telno tel "
    "primaryphone primaryphonenumber contactnumber contactphone customerphone customernumber dialnumber callnumber "
    "whatsapp whatsappnumber msisdn homephone workphone businessphone phone1 phones "
    # Spanish, Portuguese, French, German, Dutch, Italian, Nordic, Polish, Turkish, Russian, Japanese, Chinese
    "telefono numerodetelefono telefonomovil movil celular telefone numerodetelefone telemovel numerodetelephone "
    "numtel telephoneportable portable telefonnummer telefon rufnummer handynummer handy mobilnummer mobiltelefon "
    "telefoonnummer telefoon numeroditelefono cellulare puhelinnumero puhelin numertelefonu komorka telefonnumarasi "
    "номертелефона телефон 電話番号 電話 电话号码 电话 手机 手机号 "
    "number num numero nummer"
).split()
_NAME_HEADERS = (  # noqa: SIM905
    "name fullname contactname customername recipientname leadname patientname displayname contact customer recipient "
    "nombre nombrecompleto nome nomecompleto nom nomcomplet nomprenom naam imie имя 氏名 名前 姓名"
).split()
_TIMEZONE_HEADERS = "timezone tz tzid ianatimezone timezoneid".split()  # noqa: SIM905
_RETRY_HEADERS = "maxretries maxretry retries".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column was taken for what, for a person to see. `variables`: all but the number's, in order."""

    to_number: str
    variables: tuple[str, ...] = ()
    name: str | None = None
    timezone: str | None = None
    max_retries: str | None = None


def choose_columns(headers: Sequence[str], number_column: str | None, where: str) -> Columns:
    """Decide which column of a table, or key of a JSON object, is what.

    `where` names the file in errors. `number_column` wins; without it the most usual header of those that are there.

    Raises:
        InvalidInput: if two columns have one name, if `number_column` is not there, if no column looks like the number.
    """
    named = [header for header in headers if header]
    repeated = sorted(header for header, times in Counter(named).items() if times > 1)
    if repeated:
        raise InvalidInput(
            f"{where} has more than one column {', '.join(quoted(header) for header in repeated[:5])}, so it is "
            "unclear which one is meant. Nothing was sent. Give each column a unique name."
        )
    number = _named_number(named, number_column, where) if number_column else _usual_number(named, where)
    rest = tuple(header for header in named if header != number)
    return Columns(
        to_number=number,
        variables=rest,
        name=_first_known(rest, _NAME_HEADERS),
        timezone=_first_known(rest, _TIMEZONE_HEADERS),
        max_retries=_first_known(rest, _RETRY_HEADERS),
    )


def has_number_column(headers: Sequence[str], number_column: str | None) -> bool:
    """Whether one of these headers is known as the number's."""
    if number_column:
        return any(_folded(header) == _folded(number_column) for header in headers)
    return _first_known(headers, _NUMBER_HEADERS) is not None


def listed(headers: Sequence[str]) -> str:
    """Column names for a message, at most 30."""
    shown = ", ".join(quoted(header) for header in headers[:_MOST_LISTED])
    return f"{shown} and {len(headers) - _MOST_LISTED} more" if len(headers) > _MOST_LISTED else shown or "none"


def _named_number(headers: Sequence[str], number_column: str, where: str) -> str:
    if number_column.strip() in headers:
        return number_column.strip()
    alike = [header for header in headers if _folded(header) == _folded(number_column)]
    if len(alike) == 1:
        return alike[0]
    problem = "more than one column like" if alike else "no column"
    raise InvalidInput(
        f"{where} has {problem} {quoted(number_column)} (number_column). Nothing was sent. "
        f"Its columns: {listed(alike or headers)}."
    )


def _usual_number(headers: Sequence[str], where: str) -> str:
    found = _first_known(headers, _NUMBER_HEADERS)
    if found is not None:
        return found
    if any(looks_like_a_number(header) for header in headers):
        raise InvalidInput(
            f"{where} starts with a phone number instead of the column names. Nothing was sent. "
            'Add a first line with the column names, such as "to_number,name".'
        )
    raise InvalidInput(
        f"{where} has no column that looks like phone numbers. Nothing was sent. "
        f"Pass number_column with one of its columns: {listed(headers)}."
    )


def _first_known(headers: Sequence[str], known: Sequence[str]) -> str | None:
    folded: dict[str, str] = {}
    for header in headers:
        folded.setdefault(_folded(header), header)
    return next((folded[word] for word in known if word in folded), None)


def _folded(header: str) -> str:
    """Letters and digits only, without case and accents: `Phone-Number`, `phone_number` and `PHONE NUMBER` are one."""
    decomposed = unicodedata.normalize("NFKD", header.casefold())
    return "".join(character for character in decomposed if character.isalnum())
