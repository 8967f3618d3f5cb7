"""Which column is what: the number, the name, the zone, the retries. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.phone.numbers import looks_like_a_number
from batchcall_mcp.text import quoted

_MOST_COLUMNS = 100_000
_MOST_LISTED = 30
_NUMBER, _FIELDS = "to_number", ("name", "timezone", "max_retries", "not_before")

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
_CALL_BACK_HEADERS = ["notbefore"]
_KNOWN = (_NAME_HEADERS, _TIMEZONE_HEADERS, _RETRY_HEADERS, _CALL_BACK_HEADERS)
"""Of each of `_FIELDS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a caller says about a file; nothing of it is needed where it can be seen.

    `columns` maps a variable, or to_number, name, timezone, max_retries or not_before, to a column, as people write
    it. `sheet` is one of a workbook; `header_row` the row, from 1, that has the column names.
    """

    number_column: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    sheet: str | None = None
    header_row: int | None = None

    @property
    def number(self) -> str | None:
        """The column of the numbers, if it is named."""
        return self.number_column or self.columns.get(_NUMBER)

    def given(self) -> list[str]:
        """The names of the arguments that were given."""
        return [name for name in ("number_column", "columns", "sheet", "header_row") if getattr(self, name)]

    def check(self) -> None:
        """Hold it against itself.

        Raises:
            InvalidInput: if it names two columns for the number, a variable without a name, or a row that no table has.
        """
        mapped = self.columns.get(_NUMBER)
        if self.number_column and mapped and not is_alike(self.number_column, mapped):
            raise InvalidInput(
                f"number_column is {quoted(self.number_column)} and columns.to_number is {quoted(mapped)}. Nothing was "
                "sent. Give one of them."
            )
        if any(not variable.strip() for variable in self.columns):
            raise InvalidInput("columns: a variable has no name. Nothing was sent. Name it, or omit it.")
        if self.header_row is not None and self.header_row < 1:
            raise InvalidInput("header_row: rows are counted from 1. Nothing was sent. Pass 1 for the first row.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column was taken for what, for a person to see. `variables`: all but the number's, in order.

    `mapped`: variable -> its column, where `columns` gave it another name.
    """

    to_number: str
    variables: tuple[str, ...] = ()
    name: str | None = None
    timezone: str | None = None
    max_retries: str | None = None
    not_before: str | None = None
    mapped: Mapping[str, str] = field(default_factory=dict)

    def sources(self) -> list[tuple[str, str]]:
        """Each variable, with the column that it comes from."""
        return [(variable, self.mapped.get(variable, variable)) for variable in self.variables]

    def fields(self) -> list[str | None]:
        """The variables that are the name, the zone, the retries and the promised call-back as well."""
        variable_of = {column: variable for variable, column in reversed(self.sources())}
        fields = (self.name, self.timezone, self.max_retries, self.not_before)
        return [variable_of[column] if column else None for column in fields]


def choose_columns(headers: Sequence[str], layout: Layout, where: str) -> Columns:
    """Decide which column of a table, or key of a JSON object, is what.

    `where` names the file in errors. What `layout` names wins; without it the most usual header of those there are.
    A column that `columns` maps is a variable under its new names only.

    Raises:
        InvalidInput: if two columns have one name, if a named one is not there, if no column looks like the number, if
            there are too many columns.
    """
    if len(headers) > _MOST_COLUMNS:
        raise InvalidInput(
            f"{where} has {len(headers):,} columns, more than the {_MOST_COLUMNS:,} that are looked at. Nothing "
            "was sent. Keep only the columns of the list."
        )
    named = [header for header in headers if header]
    repeated = sorted(header for header, times in Counter(named).items() if times > 1)
    if repeated:
        raise InvalidInput(
            f"{where} has more than one column {', '.join(quoted(header) for header in repeated[:5])}, so it is "
            "unclear which one is meant. Nothing was sent. Give each column a unique name."
        )
    # The columns that were named first: of two mistakes, the one in the call is the one that the caller can correct.
    mapped = {
        variable: _named(named, column, f"columns.{variable}", where)
        for variable, column in layout.columns.items()
        if variable != _NUMBER
    }
    named_by = "number_column" if layout.number_column else "columns.to_number"
    number = _named(named, layout.number, named_by, where) if layout.number else _usual_number(named, where)
    rest = tuple(header for header in named if header != number)
    moved = set(mapped.values())
    _check_names(rest, mapped, where)
    fields = {one: mapped.get(one) or _first_known(rest, known) for one, known in zip(_FIELDS, _KNOWN, strict=True)}
    return Columns(
        to_number=number,
        variables=(*mapped, *(header for header in rest if header not in moved)),
        name=fields["name"],
        timezone=fields["timezone"],
        max_retries=fields["max_retries"],
        not_before=fields["not_before"],
        mapped={variable: column for variable, column in mapped.items() if variable != column},
    )


def number_header(headers: Sequence[str], layout: Layout) -> str | None:
    """The header that is the number's by its name, if there is one."""
    if layout.number:
        return next((header for header in headers if is_alike(header, layout.number)), None)
    return _first_known(headers, _NUMBER_HEADERS)


def listed(headers: Sequence[str]) -> str:
    """Column names for a message, at most 30."""
    shown = ", ".join(quoted(header) for header in headers[:_MOST_LISTED])
    return f"{shown} and {len(headers) - _MOST_LISTED} more" if len(headers) > _MOST_LISTED else shown or "none"


def _named(headers: Sequence[str], column: str, argument: str, where: str) -> str:
    if column.strip() in headers:
        return column.strip()
    alike = [header for header in headers if is_alike(header, column)]
    if len(alike) == 1:
        return alike[0]
    problem = "more than one column like" if alike else "no column"
    raise InvalidInput(
        f"{where} has {problem} {quoted(column)} ({argument}). Nothing was sent. "
        f"Its columns: {listed(alike or headers)}."
    )


def _check_names(headers: Sequence[str], mapped: Mapping[str, str], where: str) -> None:
    """Two columns under one name would be one of them, and nobody would know which."""
    moved = set(mapped.values())
    taken = next((header for header in headers if header in mapped and header not in moved), None)
    if taken is not None:
        raise InvalidInput(
            f"columns gives the name {quoted(taken)} to {quoted(mapped[taken])}, but {where} has a column "
            f"{quoted(taken)} too. Nothing was sent. Give that column another name in columns as well."
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
    written: dict[str, str] = {}
    for header in headers:
        written.setdefault(folded(header), header)
    return next((written[word] for word in known if word in written), None)


def is_alike(name: str, other: str) -> bool:
    """Whether people mean the same by both; of what has neither letters nor digits only the very same."""
    return name.strip() == other.strip() or (bool(folded(name)) and folded(name) == folded(other))


def folded(header: str) -> str:
    """Letters and digits only, without case and accents: `Phone-Number`, `phone_number` and `PHONE NUMBER` are one."""
    decomposed = unicodedata.normalize("NFKD", header.casefold())
    return "".join(character for character in decomposed if character.isalnum())
