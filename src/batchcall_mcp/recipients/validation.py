"""Judging rows: who can be called, who is skipped and why. The files and lists come in, `Recipients` come out."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from zoneinfo import ZoneInfo

from batchcall_mcp.calling_hours import check_timezone, is_timezone
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import CallTask
from batchcall_mcp.recipients.files.columns import Columns, Layout, is_alike, listed
from batchcall_mcp.recipients.files.file_formats import open_list
from batchcall_mcp.recipients.files.raw_rows import Broken, Candidate, Entry, OpenedList
from batchcall_mcp.recipients.phone.numbers import (
    InvalidNumber,
    comparable,
    looks_like_a_number,
    normalise_number,
)
from batchcall_mcp.recipients.phone.spellings import is_forgotten
from batchcall_mcp.recipients.selection import parse_rows
from batchcall_mcp.recipients.zones import ZoneSelection
from batchcall_mcp.text import quoted

MOST_VARIABLE_BYTES = 5 * 1024
"""Of one task's variables as JSON. Zudu's API reference: "max 5 KB per task"."""
MOST_RETRIES = 10
_YEARS = (1971, 2199)
_MOST_SUGGESTIONS = 50
_CONSENTS = frozenset({"yes", "true", "y", "1"})
"""What says yes, in any case. Anything else does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read a list; `layout` is about files alone.

    `rows` counts data rows from 1; `timezones` are IANA names; `do_not_call` has those numbers in E.164 that are never
    called. `consent`: the column (of a file) or the variable (of a task) that has to say yes.
    """

    layout: Layout = field(default_factory=Layout)
    rows: str | None = None
    timezones: Sequence[str] | None = None
    default_region: str | None = None
    do_not_call: Container[str] = frozenset()
    from_number: str | None = None
    there: frozenset[str] = frozenset()
    """Whom the batch call has to which these are added, as `comparable` has numbers."""
    consent: str | None = None
    later: Mapping[str, str] = field(default_factory=dict)
    """Whom later batch calls have called since, or will: number, as `comparable` has it -> a sentence about that."""


class SkipReason(StrEnum):
    """Why a row is not called."""

    INVALID = "invalid"
    DUPLICATE = "duplicate"
    DO_NOT_CALL = "do_not_call"
    ALREADY_THERE = "already_there"
    """Somebody to be added, whom the batch call has."""
    NO_CONSENT = "no_consent"
    """The column of BATCHCALL_REQUIRE_CONSENT does not say yes."""
    LATER_BATCH_CALL = "later_batch_call"
    """Of people of another batch call: a later one has called them, or will."""
    CONCERN = "concern"
    """Somebody whom a person would have had to judge, where nobody is asked."""

    @property
    def words(self) -> str:
        """After a number of rows."""
        return "already there" if self is SkipReason.ALREADY_THERE else self.replace("_", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedRow:
    """A row that is not called. `line`: where it begins in the file, the sheet's row, or the list's position from 1."""

    line: int
    kind: SkipReason
    reason: str
    to_number: str | None = None
    of_line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipients:
    """A list as it would be called: `tasks` in order, and every row that is skipped.

    `columns` is None for a list that was passed inline. `notes` are sentences for the person who confirms: what was
    guessed about the file, or not read of it. `remarks` are of what the caller asked for, or can still ask for.
    `last_row`: the last data row that was looked at, counted as in `rows`. `already_there`: those of the skipped rows
    whom the batch call has, as they were asked for.
    """

    tasks: tuple[CallTask, ...]
    rows_read: int
    skipped_rows: tuple[SkippedRow, ...]
    columns: Columns | None
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    last_row: int = 0
    already_there: tuple[CallTask, ...] = ()


def read_inline(tasks: Sequence[CallTask], options: ReadOptions) -> Recipients:
    """Judge tasks as a model passes them; `line` is the position in the list, from 1.

    Raises:
        InvalidInput: for options that do not fit: `rows` past the end, a `layout`, an unknown region or zone, or zones
            in which nobody is.
    """
    if names := options.layout.given():
        applies = "applies" if len(names) == 1 else "apply"
        raise InvalidInput(
            f"{', '.join(names)} {applies} only to tasks_file. Nothing was sent. Omit it when you pass tasks."
        )
    candidates = (
        Candidate(line, task.to_number, task.dynamic_variables, task.name, task.timezone, task.max_retries, given=task)
        for line, task in enumerate(tasks, 1)
    )
    return _Judge(options).judged(OpenedList(candidates, lambda: None), "the list")


def read_file(path: Path, options: ReadOptions) -> Recipients:
    """Judge the rows of a CSV, TSV, JSONL or XLSX file; the path is one that `resolve_file` gave.

    Every column but the number's becomes a variable of the task, an empty cell an empty variable; columns for the
    name, the zone and the retries also set these fields.

    Raises:
        InvalidInput: if the file cannot be read as a whole, `rows` asks for more than it has, or nobody is in
            `timezones`. A single row that cannot be read or called is skipped instead.
    """
    _check_consent(options.consent, options.layout.columns)
    judge = _Judge(options)
    with open_list(path, options.layout) as opened:
        return judge.judged(opened, quoted(path.name))


class _Judge:
    """Goes through entries once, in order: invalid, do-not-call, without consent, duplicate, already there."""

    def __init__(self, options: ReadOptions) -> None:
        self._region = known_region(options.default_region)
        self._do_not_call = options.do_not_call
        self._there = options.there
        self._later = options.later
        self._from_number = _from_number(options.from_number, self._region)
        self._selection = parse_rows(options.rows) if options.rows is not None else None
        self._zones = ZoneSelection.of(options.timezones) if options.timezones is not None else None
        self._without_country: list[tuple[int, str]] = []
        self._rows_read = 0
        self._readable = False
        self._tasks: list[CallTask] = []
        self._already_there: list[CallTask] = []
        self._skipped_rows: list[SkippedRow] = []
        self._line_of: dict[str, int] = {}
        self._zone_problems: dict[str, str] = {}
        self._consent = options.consent
        self._consent_found = False
        self._is_consent: dict[str, bool] = {}
        self._without_consent: set[str] = set()

    def judged(self, opened: OpenedList, where: str) -> Recipients:
        row = 0
        for row, entry in enumerate(opened.entries, 1):
            if self._selection is None or row in self._selection:
                self._judge(entry)
            if self._selection is not None and row == self._selection.last:
                break
        if self._selection is not None:
            self._selection.check(row, where)
        if self._zones is not None:
            self._zones.check(where)
        if self._consent is not None and self._readable and not self._consent_found:
            raise _no_consent_column(self._consent, opened.columns(), where)
        self._take_out()
        return Recipients(
            tasks=tuple(self._tasks),
            already_there=tuple(self._already_there),
            rows_read=self._rows_read,
            skipped_rows=tuple(self._skipped_rows),
            columns=opened.columns(),
            notes=tuple(opened.notes),
            remarks=(*self._missing_region(), *(self._zones.remarks() if self._zones else ())),
            last_row=row,
        )

    def _judge(self, entry: Entry) -> None:
        if isinstance(entry, Broken):
            self._skip(entry.line, SkipReason.INVALID, entry.reason)
            return
        self._readable = True
        consents = self._consent is None or self._says_yes(entry.variables, self._consent)
        number = self._number(entry)
        if number is None:
            return
        if not consents:
            self._without_consent.add(number)
        retries = _retries(entry.max_retries)
        promised = promised_moment(entry.not_before, entry.timezone)
        problem = self._problem(entry, number, retries) or (promised if isinstance(promised, str) else None)
        if problem is not None:
            self._skip(entry.line, SkipReason.INVALID, problem, number)
            return
        first = self._line_of.setdefault(number, entry.line)
        if self._zones is not None and not self._zones.takes(entry.timezone, number, counts=first == entry.line):
            return
        if number in self._do_not_call:
            self._skip(entry.line, SkipReason.DO_NOT_CALL, f"{number} is on the do-not-call list", number)
        elif not consents:
            self._skip(entry.line, SkipReason.NO_CONSENT, f"{quoted(self._consent or '')} does not say yes", number)
        elif first != entry.line:
            reason = f"{number} is already on line {first}"
            self._skip(entry.line, SkipReason.DUPLICATE, reason, number, of_line=first)
        else:
            self._take_or_leave(entry.line, number, _task(entry, number, retries, promised))

    def _take_or_leave(self, line: int, number: str, task: CallTask) -> None:
        """Of somebody who can be called: take them, unless another batch call has them, as far as it is known here."""
        same = comparable(number) if self._there or self._later else number
        if same in self._there:
            self._skip(line, SkipReason.ALREADY_THERE, f"{number} is in the batch call already", number)
            self._already_there.append(task)
        elif same in self._later:
            self._skip(line, SkipReason.LATER_BATCH_CALL, self._later[same], number)
        else:
            self._rows_read += 1
            self._tasks.append(task)

    def _number(self, entry: Candidate) -> str | None:
        if is_forgotten(entry.to_number):
            self._skip(entry.line, SkipReason.DO_NOT_CALL, "this person was forgotten (`batchcall-mcp forget`)")
            return None
        try:
            return normalise_number(entry.to_number, self._region)
        except InvalidNumber as error:
            self._skip(entry.line, SkipReason.INVALID, error.message)
            if self._region is None and _lacks_country(entry.to_number):
                self._without_country.append((entry.line, entry.to_number.strip()))
            return None

    def _says_yes(self, variables: Mapping[str, str], column: str) -> bool:
        """Whether a row consents; a column that is there twice, written in two ways, has to say so twice."""
        for name in variables.keys() - self._is_consent.keys():
            self._is_consent[name] = is_alike(name, column)
        said = [value for name, value in variables.items() if self._is_consent[name]]
        self._consent_found = self._consent_found or bool(said)
        return bool(said) and all(value.strip().casefold() in _CONSENTS for value in said)

    def _take_out(self) -> None:
        """Whose number is there again without consent has not agreed, whatever the first of the rows says."""
        if all(task.to_number not in self._without_consent for task in self._tasks):
            return
        for number in (task.to_number for task in self._tasks if task.to_number in self._without_consent):
            reason = f"{quoted(self._consent or '')} does not say yes in another row of {number}"
            row = SkippedRow(line=self._line_of[number], kind=SkipReason.NO_CONSENT, reason=reason, to_number=number)
            self._skipped_rows.append(row)
        self._skipped_rows.sort(key=lambda row: row.line)
        self._tasks = [task for task in self._tasks if task.to_number not in self._without_consent]

    def _missing_region(self) -> tuple[str, ...]:
        """The argument that was missing, if some numbers say no country."""
        if not self._without_country:
            return ()
        line, text = self._without_country[0]
        count = len(self._without_country)
        have, they = ("1 number has", "it is") if count == 1 else (f"{count} numbers have", "they are")
        missing = f"{have} no country code, such as {quoted(text)} on line {line}"
        return (f'{missing}. default_region, such as "US", says of which country {they}.',)

    def _problem(self, entry: Candidate, number: str, retries: int | str | None) -> str | None:
        if number == self._from_number:
            return f"{number} is from_number, which cannot call itself"
        if isinstance(retries, str):
            return retries
        zone = (entry.timezone or "").strip()
        if zone and not is_timezone(zone):
            return self._zone_problem(zone)
        return _text_problem(entry.name or "") or _variables_problem(entry.variables)

    def _zone_problem(self, zone: str) -> str:
        if zone not in self._zone_problems:
            if len(self._zone_problems) >= _MOST_SUGGESTIONS:
                # Looking for the zone that was meant takes milliseconds: too long for 100,000 rows of something else.
                return f"timezone: {quoted(zone)} is not the IANA name of a time zone"
            try:
                check_timezone(zone)
            except InvalidInput as error:
                self._zone_problems[zone] = error.message.partition(" Nothing was sent.")[0]
        return self._zone_problems[zone]

    def _skip(
        self, line: int, kind: SkipReason, reason: str, to_number: str | None = None, of_line: int | None = None
    ) -> None:
        self._rows_read += 1
        self._skipped_rows.append(SkippedRow(line=line, kind=kind, reason=reason, to_number=to_number, of_line=of_line))


def _lacks_country(text: str) -> bool:
    """Whether it looks like a number, and says no country."""
    return looks_like_a_number(text) and not text.strip().lstrip("'(").startswith(("+", "00"))


def _task(entry: Candidate, number: str, retries: int | str | None, promised: datetime | str | None) -> CallTask:
    name = (entry.name or "").strip() or None
    zone = (entry.timezone or "").strip() or None
    if entry.given is not None:
        return replace(entry.given, to_number=number, name=name, timezone=zone)
    return CallTask(
        to_number=number,
        name=name,
        dynamic_variables=entry.variables,
        max_retries=None if isinstance(retries, str) else retries,
        timezone=zone,
        not_before=None if isinstance(promised, str) else promised,
    )


def promised_moment(value: str | None, zone: str | None) -> datetime | str | None:
    """The moment of a promised call-back in UTC, None if there is none, or the reason why it is none.

    A time without an offset is on the clock of the row's own zone.
    """
    text = (value or "").strip()
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or len(text) <= len("2026-11-27") or not _YEARS[0] <= moment.year <= _YEARS[1]:
        return f"not_before: {quoted(text)} is not a time, such as 2026-11-27T15:00+01:00"
    if moment.tzinfo is None:
        zone = (zone or "").strip()
        if not is_timezone(zone):
            return f"not_before: {quoted(text)} has no offset, and the row no timezone"
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return moment.astimezone(UTC)


def _check_consent(column: str | None, columns: Mapping[str, str]) -> None:
    """Which column consents is the operator's: no other one is called so, and this one is called nothing else.

    Raises:
        InvalidInput: `columns` renames it.
    """
    if column is None:
        return
    for variable, named in columns.items():
        if is_alike(variable, column) != is_alike(named, column):
            raise InvalidInput(
                f"columns.{variable}: the column {quoted(column)} says who has agreed to be called "
                "(BATCHCALL_REQUIRE_CONSENT), and keeps its name. Nothing was sent. Remove this entry of columns."
            )


def _no_consent_column(column: str, columns: Columns | None, where: str) -> InvalidInput:
    if columns is None:
        return InvalidInput(
            f"No task has the variable {quoted(column)}, and nobody is called without it "
            "(BATCHCALL_REQUIRE_CONSENT). Nothing was sent. Add it to the dynamic_variables of those who have agreed "
            "to be called, with yes."
        )
    return InvalidInput(
        f"{where} has no column {quoted(column)}, and nobody is called without it (BATCHCALL_REQUIRE_CONSENT). "
        f"Nothing was sent. Add it, with yes for those who have agreed to be called. Its columns: "
        f"{listed((columns.to_number, *columns.variables))}."
    )


def _retries(value: str | int | None) -> int | str | None:
    """The number of retries, None if there is none, or the reason why it is none."""
    text = str(value).strip() if value is not None else ""
    if not text:
        return None
    whole = text.removesuffix(".0")
    if whole.isascii() and whole.isdecimal() and int(whole[:9]) <= MOST_RETRIES and len(whole) <= len("10"):
        return int(whole)
    return f"max_retries: {quoted(text)} is not a whole number from 0 to {MOST_RETRIES}"


def _variables_problem(variables: Mapping[str, str]) -> str | None:
    characters = 2
    for key, value in variables.items():
        if problem := _text_problem(key) or _text_problem(value):
            return problem
        characters += len(key) + len(value) + 6
    # A character takes six bytes of JSON at most: what is short is not measured exactly.
    if characters * 6 <= MOST_VARIABLE_BYTES:
        return None
    size = len(json.dumps(dict(variables), ensure_ascii=False).encode())
    if size > MOST_VARIABLE_BYTES:
        return f"the variables take {size:,} bytes as JSON; the limit is {MOST_VARIABLE_BYTES:,} for each task"
    return None


def _text_problem(text: str) -> str | None:
    if "\0" in text:
        return f"{quoted(text)} contains a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return f"{text[:40]!a} contains half a character, which cannot be sent"
    return None


def known_region(region: str | None) -> str | None:
    """A country's two letters in capitals, however they are written.

    Raises:
        InvalidInput: no country has them.
    """
    if region is None:
        return None
    import phonenumbers

    known = region.strip().upper()
    if known not in phonenumbers.SUPPORTED_REGIONS:
        meant = ' Did you mean "GB"?' if known == "UK" else ""
        raise InvalidInput(
            f"default_region: {quoted(region)} is not a two-letter country code.{meant} Nothing was sent. "
            'Pass one such as "US".'
        )
    return known


def _from_number(number: str | None, region: str | None) -> str | None:
    """Comparable with a row's number. Whether it can call at all is judged elsewhere."""
    if number is None:
        return None
    try:
        return normalise_number(number, region)
    except InvalidNumber:
        return number.strip()
