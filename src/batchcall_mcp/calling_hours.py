"""When a call may start: the zones of a number, calling windows, the next moment that is inside all of them. Pure.

A window is read on the called person's clock, and nothing else: a moment is inside if that clock shows a time from
`start` up to, not including, `end`. So a time that the clock skips in spring is never inside, and one that it shows
twice in autumn is inside twice. Zones of a number come from the prefix data of libphonenumber.
"""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from batchcall_mcp import number_plans
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import WEEKDAYS, CallingWindow
from batchcall_mcp.text import quoted

RECIPIENT = "recipient"
_DAY = timedelta(days=1)
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|(24):(00)", re.ASCII)
_OFFSET = re.compile(r"(utc|gmt)?\s*[+\-]\s*\d{1,2}(:?\d{2})?", re.IGNORECASE)
_NOT_A_PLACE = frozenset({"Factory", "localtime", "posixrules", "Etc/Unknown"})

_MEANT = {
    "America/Los_Angeles": "PST PDT PT PST8PDT PACIFIC PACIFIC_TIME PACIFIC_STANDARD_TIME",
    "America/Denver": "MST MDT MT MST7MDT MOUNTAIN MOUNTAIN_TIME MOUNTAIN_STANDARD_TIME",
    "America/Chicago": "CST CDT CT CST6CDT CENTRAL CENTRAL_TIME CENTRAL_STANDARD_TIME",
    "America/New_York": "EST EDT ET EST5EDT EASTERN EASTERN_TIME EASTERN_STANDARD_TIME",
    "America/Anchorage": "AKST AKDT ALASKAN_STANDARD_TIME",
    "Pacific/Honolulu": "HST HAST HAWAIIAN_STANDARD_TIME",
    "America/Halifax": "AST ADT ATLANTIC_STANDARD_TIME",
    "America/Sao_Paulo": "BRT BRST",
    "Europe/London": "BST GB GMT GMT_STANDARD_TIME",
    "Europe/Paris": "CET CEST MET MEST MEZ MESZ ROMANCE_STANDARD_TIME CENTRAL_EUROPE_STANDARD_TIME",
    "Europe/Berlin": "W._EUROPE_STANDARD_TIME",
    "Europe/Athens": "EET EEST",
    "Europe/Lisbon": "WET WEST",
    "Europe/Moscow": "MSK",
    "Asia/Kolkata": "IST INDIA_STANDARD_TIME",
    "Asia/Dubai": "GST",
    "Asia/Tokyo": "JST",
    "Asia/Shanghai": "CHINA_STANDARD_TIME",
    "Asia/Singapore": "SGT",
    "Asia/Hong_Kong": "HKT",
    "Asia/Manila": "PHT",
    "Australia/Sydney": "AEST AEDT AET",
    "Australia/Adelaide": "ACST ACDT",
    "Australia/Perth": "AWST",
    "Pacific/Auckland": "NZST NZDT NZ",
    "UTC": "Z ZULU",
}
_ABBREVIATIONS = {word: zone for zone, words in _MEANT.items() for word in words.split()}


class _Opening(NamedTuple):
    start: datetime
    end: datetime


class _Hours(NamedTuple):
    """A window's clock times as distances from the midnight on which it starts; `end` may lie past the next one."""

    start: timedelta
    end: timedelta
    days: frozenset[int]


def zones_of(to_number: str) -> tuple[str, ...]:
    """The IANA zones in which an E.164 number may be, by its prefix; empty where none is known.

    A number that belongs to no place (+1 800, a mobile in a country of many zones) has all zones of its country.
    """
    return number_plans.place(to_number).zones


def check_timezone(name: str, field: str = "timezone") -> str:
    """The IANA zone `name`, without the spaces around it.

    Raises:
        InvalidInput: naming `field`, with the zone that was probably meant. Abbreviations are refused even where the
            tz database has them (`EST`, `CET`): most people mean a place, with its summer time.
    """
    zone = name.strip()
    if is_timezone(zone):
        return zone
    meant = _probably_meant(zone)
    raise InvalidInput(
        f"{field}: {quoted(zone)} is not the IANA name of a time zone"
        + (
            f"; did you mean {meant}? Nothing was sent."
            if meant
            else ". Nothing was sent. Use a name such as America/New_York."
        )
    )


def is_timezone(name: str) -> bool:
    """Whether `check_timezone` takes this very name."""
    return name in _names() and name not in _ABBREVIATIONS


def timezones() -> frozenset[str]:
    """The names that `check_timezone` takes."""
    return _names() - _ABBREVIATIONS.keys()


def check_window(window: CallingWindow) -> CallingWindow:
    """The same window, once it is known to make sense.

    Raises:
        InvalidInput: naming the part that does not.
    """
    _clock(window.start, "window.start")
    if window.start == "24:00":
        raise InvalidInput('window.start: "24:00" can only be an end; use "00:00". Nothing was sent.')
    _clock(window.end, "window.end")
    if window.start == window.end:
        raise InvalidInput(
            f'window: start and end are both "{window.start}", which could mean always or never. Nothing was sent. '
            'Use "00:00" to "24:00" for always.'
        )
    if not window.days:
        raise InvalidInput("window.days: the list is empty. Nothing was sent. Omit days for every day.")
    unknown = [day for day in window.days if day not in WEEKDAYS]
    if unknown or len(set(window.days)) != len(window.days):
        what = f'"{str(unknown[0])[:20]}" is not a day' if unknown else "a day is named twice"
        raise InvalidInput(f"window.days: {what}. Nothing was sent. Days are {', '.join(WEEKDAYS)}, each once.")
    if window.timezone != RECIPIENT:
        check_timezone(window.timezone, "window.timezone")
    return window


def parse_calling_hours(text: str) -> CallingWindow:
    """BATCHCALL_CALLING_HOURS, such as `08:00-21:00`, as a window on every called person's own clock.

    Raises:
        InvalidInput: if it is not two clock times.
    """
    start, dash, end = text.partition("-")
    if not dash:
        raise InvalidInput(
            f'BATCHCALL_CALLING_HOURS: "{text[:40]}" is not two clock times. Nothing was sent. '
            "Use a value such as 08:00-21:00."
        )
    return check_window(CallingWindow(start=start.strip(), end=end.strip(), timezone=RECIPIENT))


def recipient_zones(to_number: str, task_timezone: str | None, batch_timezone: str | None) -> tuple[str, ...]:
    """The zones whose clocks decide for a number; see `deciding_zones`."""
    return deciding_zones(() if task_timezone else zones_of(to_number), task_timezone, batch_timezone)


def deciding_zones(
    by_prefix: tuple[str, ...], task_timezone: str | None, batch_timezone: str | None
) -> tuple[str, ...]:
    """The task's own zone, else those of its number's prefix, else the batch call's."""
    if task_timezone:
        return (task_timezone,)
    return by_prefix or ((batch_timezone,) if batch_timezone else ())


def is_open(window: CallingWindow, zones: Sequence[str], moment: datetime) -> bool:
    """Whether a call may start at `moment` (aware): inside the window in every zone. Without a zone: no.

    A window with a zone of its own is read on that clock alone, whatever `zones` are.
    """
    hours = _hours(window)
    deciding = window_zones(window, zones)
    return bool(deciding) and all(_inside(hours, moment.astimezone(_zone(zone))) for zone in deciding)


def next_open(window: CallingWindow, zones: Sequence[str], moment: datetime, horizon_days: int = 15) -> datetime | None:
    """The first moment from `moment` (aware) on at which `is_open`, in UTC; None if there is none in `horizon_days`."""
    until = moment.astimezone(UTC) + horizon_days * _DAY
    return next((opens for opens, _ in _spans(window, zones, moment, until)), None)


def openings(
    window: CallingWindow, zones: Sequence[str], moment: datetime, until: datetime
) -> tuple[tuple[datetime, datetime], ...]:
    """The spans from `moment` to `until` (both aware) in which `is_open`, in order, in UTC, cut at both."""
    return tuple(_spans(window, zones, moment, until))


def _spans(
    window: CallingWindow, zones: Sequence[str], moment: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime]]:
    start, limit = moment.astimezone(UTC), until.astimezone(UTC)
    for one in _common_openings(_hours(window), window_zones(window, zones), start.date(), limit.date()):
        opens, closes = max(one.start, start), min(one.end, limit)
        if opens < closes:
            yield opens, closes


def dates_there(zone: str, first: date, last: date) -> tuple[tuple[datetime, datetime], ...]:
    """The spans of UTC in which the clock of a zone shows a date from `first` to `last`, in order.

    Usually one. A clock that goes back over midnight shows a date twice, and one that skips a day shows it never.
    """
    found: list[tuple[datetime, datetime]] = []
    for segment, offset in _constant_offsets(zone, first, last):
        begins, ends = (datetime(day.year, day.month, day.day, tzinfo=UTC) - offset for day in (first, last + _DAY))
        begins, ends = max(begins, segment.start), min(ends, segment.end)
        if begins < ends:
            if found and found[-1][1] == begins:
                begins = found.pop()[0]
            found.append((begins, ends))
    return tuple(found)


def window_zones(window: CallingWindow, zones: Sequence[str]) -> tuple[str, ...]:
    """The zones on whose clocks a window is read: those of the called person, or the window's own one."""
    return tuple(dict.fromkeys(zones)) if window.timezone == RECIPIENT else (window.timezone,)


def _inside(hours: _Hours, local: datetime) -> bool:
    since_midnight = timedelta(
        hours=local.hour, minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    today, yesterday = local.weekday(), (local.weekday() - 1) % 7
    return (today in hours.days and hours.start <= since_midnight < hours.end) or (
        yesterday in hours.days and since_midnight + _DAY < hours.end
    )


@lru_cache(maxsize=512)
def _common_openings(hours: _Hours, zones: tuple[str, ...], first: date, last: date) -> tuple[_Opening, ...]:
    """Maximal openings common to all zones, in order, of which the parts in the days `first` to `last` are exact."""
    if not zones:
        return ()
    common = _zone_openings(hours, zones[0], first, last)
    for zone in zones[1:]:
        common = _intersection(common, _zone_openings(hours, zone, first, last))
    return common


def _intersection(left: Sequence[_Opening], right: Sequence[_Opening]) -> tuple[_Opening, ...]:
    found: list[_Opening] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i].start, right[j].start), min(left[i].end, right[j].end)
        if start < end:
            found.append(_Opening(start, end))
        if left[i].end < right[j].end:
            i += 1
        else:
            j += 1
    return tuple(found)


@lru_cache(maxsize=512)
def _zone_openings(hours: _Hours, zone: str, first: date, last: date) -> tuple[_Opening, ...]:
    """Openings on one zone's clock that touch the UTC days `first` to `last`, those that meet joined into one."""
    found: list[_Opening] = []
    for segment, offset in _constant_offsets(zone, first, last):
        day = (segment.start + offset).date() - _DAY
        while (midnight := datetime(day.year, day.month, day.day, tzinfo=UTC) - offset) < segment.end:
            start, end = max(midnight + hours.start, segment.start), min(midnight + hours.end, segment.end)
            if day.weekday() in hours.days and start < end:
                if found and found[-1].end >= start:
                    found[-1] = _Opening(found[-1].start, max(end, found[-1].end))
                else:
                    found.append(_Opening(start, end))
            day += _DAY
    return tuple(found)


def _constant_offsets(zone: str, first: date, last: date) -> list[tuple[_Opening, timedelta]]:
    """Spans of UTC with one distance to the zone's clock, from two days before `first` to two days after `last`."""
    clock = _zone(zone)

    def offset_at(moment: datetime) -> timedelta:
        return moment.astimezone(clock).utcoffset() or timedelta()

    moment = start = datetime(first.year, first.month, first.day, tzinfo=UTC) - 2 * _DAY
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + 3 * _DAY
    offset = offset_at(start)
    spans: list[tuple[_Opening, timedelta]] = []
    while moment < end:
        # No zone has changed its clock twice within six hours: there is at most one change in between.
        before, after = moment, moment + timedelta(hours=6)
        if (changed := offset_at(after)) != offset:
            while after - before > timedelta(seconds=1):
                middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
                before, after = (middle, after) if offset_at(middle) == offset else (before, middle)
            spans.append((_Opening(start, after), offset))
            start, offset = after, changed
        moment += timedelta(hours=6)
    spans.append((_Opening(start, end), offset))
    return spans


@lru_cache(maxsize=64)
def _hours(window: CallingWindow) -> _Hours:
    start, end = _clock(window.start, "window.start"), _clock(window.end, "window.end")
    return _Hours(
        start=start,
        end=end if end > start else end + _DAY,
        days=frozenset(index for index, day in enumerate(WEEKDAYS) if day in window.days),
    )


def _clock(text: str, field: str) -> timedelta:
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise InvalidInput(
            f'{field}: "{text[:20]}" is not a clock time. Nothing was sent. Use HH:MM, from 00:00 to 24:00.'
        )
    return timedelta(hours=int(match[1] or match[3]), minutes=int(match[2] or match[4]))


@lru_cache(maxsize=1024)
def _zone(name: str) -> zoneinfo.ZoneInfo:
    # The name is checked against the list first: a case-insensitive file system would take a wrong case.
    return zoneinfo.ZoneInfo(check_timezone(name))


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) - _NOT_A_PLACE


@lru_cache(maxsize=256)
def _probably_meant(text: str) -> str | None:
    word = re.sub(r"[\s/_]+", "_", text[:60]).upper()
    if word in _ABBREVIATIONS:
        return _ABBREVIATIONS[word]
    if _OFFSET.fullmatch(text[:60]):
        return None
    places = {name.upper(): name for name in sorted(_names()) if "/" in name or name == "UTC"}
    cities = {name.rpartition("/")[2]: places[name] for name in places}
    by_word = {name.replace("/", "_"): places[name] for name in places}
    for known in (by_word, cities):
        if word in known:
            return known[word]
    for known in (by_word, cities):
        close = difflib.get_close_matches(word, known, n=1, cutoff=0.8)
        if close:
            return known[close[0]]
    return None
