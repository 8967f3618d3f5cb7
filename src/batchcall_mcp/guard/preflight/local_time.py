"""When the calls of a launch start, on the clocks of the people who are called, in words. Pure.

Where their clocks differ, the words hold for all of them: from the earliest to the latest. Where somebody's clock is
not known, the time is UTC and says so. A day has its year only where that is not this year.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from batchcall_mcp.backends.capabilities import Capabilities
from batchcall_mcp.guard.preflight.changes import hours_words
from batchcall_mcp.guard.preflight.humanize import clock, clock_after, counted, day
from batchcall_mcp.guard.preflight.schedule import LOOKS_AHEAD, Group, Hours, Timetable
from batchcall_mcp.model import HeldBack

_DAY: Final = timedelta(days=1)
_MOST_WAITS: Final = 2
_HELD_BACK_BECAUSE: Final[Mapping[str, str]] = {
    "daily_cap": "they were dialled often enough within 24 hours",
    "min_gap": "another batch call has just dialled them",
    "calling_hours": "it is outside calling hours",
    "retry": "they are dialled again then",
    "predial": "the gate that is asked before each dial gives no clear answer",
    "date": "it is not their date yet",
    "not_before": "their call-backs are promised for then",
}
"""Reasons that a backend may give. What another one means, only the backend knows."""


_KNOWN_HERE: Final = frozenset({"calling_hours", "date"})
"""Reasons that are read from the timetable instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchTimes:
    """`when` completes "Call 3 people …". `nobody_before` and `waits` are sentences about who is not dialled then."""

    when: str
    nobody_before: str | None = None
    waits: tuple[str, ...] = ()


def must_be_on(capabilities: Capabilities, *, later: bool) -> Iterator[str]:
    """That a dialer in this process dials only while it runs. `later`: it does not start now."""
    if not capabilities.in_process:
        return
    if later:
        yield "This computer must be on then, with its client open."
    elif not capabilities.simulated:
        yield "Calls are placed only while this client is connected."


class Clocks(NamedTuple):
    """The time zones in which people are, or may be; `complete`: that is known of each of them."""

    zones: tuple[str, ...]
    complete: bool

    @classmethod
    def of(cls, groups: Iterable[Group]) -> Clocks:
        """Those of all people of these groups."""
        groups = tuple(groups)
        zones = sorted({zone for group in groups for zone in group.zones})
        return cls(tuple(zones), bool(zones) and all(group.zones for group in groups))

    def at(self, moment: datetime) -> list[datetime]:
        """What these clocks show, each time once, the earliest first."""
        return sorted({_local(moment, zone) for zone in self.zones})


class _Span(NamedTuple):
    """Hours on people's clocks: the days on which they open, and from when to when after midnight; no end: always."""

    first: date
    last: date
    begins: timedelta
    ends: timedelta | None


def launch_times(
    table: Timetable, hours: Hours, start: datetime, now: datetime, held_back: Sequence[HeldBack] = ()
) -> LaunchTimes:
    """What is known of a launch at `start`, which means now where it is not later than `now`.

    `held_back`: what the backend itself says of calls that wait. Calling hours are read from the timetable instead,
    where there is one.
    """
    groups = [group for group in table.groups if hours.kept is None or group.opens is not None]
    if not groups or table.first is None or table.too_far:
        nobodys = Clocks((), complete=False)
        return LaunchTimes(when=_moment(start, nobodys, now), waits=tuple(_held(held_back, nobodys, start, now)))
    clocks = Clocks.of(groups)
    if hours.dates.first is not None:
        kept = [one for one in held_back if one.reason not in _KNOWN_HERE]
        waits = (*_held(kept, clocks, start, now), *_overflow(table, clocks, now), *ending(hours, clocks, now))
        return LaunchTimes(when=_on_dates(hours, table.first, now), waits=waits)
    others = [one for one in held_back if one.reason != "calling_hours"]
    when, later = _when(groups, hours, start, table.first, now, outside=table.outside > 0)
    return LaunchTimes(
        when=when,
        nobody_before=_closed(groups, hours, start, now) or _all_held(others, groups, start, now),
        waits=(
            *_waits(later, start, now),
            *_held(others, clocks, start, now),
            *_overflow(table, clocks, now),
            *ending(hours, clocks, now),
        ),
    )


def _on_dates(hours: Hours, first: datetime, now: datetime) -> str:
    """The dates by name, and whose clock they are on."""
    begins, ends = hours.dates.first, hours.dates.last
    if begins is None:
        return "now"
    days = f"from {day(begins, now)} to {day(ends, now)}" if ends not in {None, begins} else f"on {day(begins, now)}"
    days = f"from {day(begins, now)} on" if ends is None else days
    at_once = ", beginning now" if first <= now else ""
    return f"{days}, {hours_words(hours.kept or hours.own)}{at_once}"


def ending(hours: Hours, clocks: Clocks, now: datetime) -> Iterable[str]:
    """Who is not called at all, because it ends before."""
    dates = hours.dates
    if dates.until is not None:
        yield f"Who is not dialled before {their_time(dates.until, clocks, now)} is not called."
    elif dates.last is not None and dates.last == dates.first:
        yield "Who is not dialled on that day is not called."
    elif dates.last is not None:
        whose = "their time" if hours.kept is None or hours.keeps_own else f"{hours.kept.timezone} time"
        yield f"Who is not dialled by the end of {day(dates.last, now)}, {whose}, is not called."


def their_time(moment: datetime, clocks: Clocks, now: datetime) -> str:
    """A moment as these clocks show it: `Fri 27 Nov, 9:00 their time`, and UTC where they do not agree."""
    shown = clocks.at(moment)
    if len(shown) == 1 and clocks.complete:
        return f"{day(shown[0], now)}, {clock(shown[0])} their time"
    utc = moment.astimezone(UTC)
    said = f"{day(utc, now)}, {clock(utc)} UTC"
    if not shown:
        return said
    first, last = shown[0], shown[-1]
    theirs = clock(first) if first.date() == utc.date() else f"{day(first, now)}, {clock(first)}"
    if last != first:
        theirs += " to " + (clock(last) if first.date() == last.date() else f"{day(last, now)}, {clock(last)}")
    return f"{said} ({theirs} their time{'' if clocks.complete else ', where known'})"


def _when(
    groups: Sequence[Group], hours: Hours, start: datetime, first: datetime, now: datetime, *, outside: bool
) -> tuple[str, list[Group]]:
    """When the first of them are called, and who is not among those."""
    if hours.kept is None:
        clocks = Clocks.of(groups)
        return _now_there(clocks, now) if outside and start <= now else _moment(start, clocks, now), []
    if not hours.keeps_own:
        return "now" if first <= now else _hours_there(groups, hours, first, now), []
    if first <= now:
        return "now", [group for group in groups if _opens(group, start) > now]
    days = {group: min(_local(_opens(group, start), zone).date() for zone in group.zones) for group in groups}
    # At one moment it is another day elsewhere: who is called at the start does not wait.
    soon = [group for group in groups if days[group] == min(days.values()) or group.opens == start]
    later = [group for group in groups if group not in soon]
    span = _span((group.zones, *_opening(group.zones, hours, _opens(group, start))) for group in soon)
    if span.ends is None and all(group.opens == start for group in soon):
        return _moment(start, Clocks.of(soon), now), later
    return f"{_days(span, now)}, {_hours(span)} their time", later


def _moment(start: datetime, clocks: Clocks, now: datetime) -> str:
    return "now" if start <= now else f"on {their_time(start, clocks, now)}"


def _now_there(clocks: Clocks, now: datetime) -> str:
    """What time it is where the people are: somebody is outside the hours."""
    shown = clocks.at(now)
    if not shown:
        return "now"
    theirs = clock(shown[0]) if len(shown) == 1 else f"{clock(shown[0])} to {clock(shown[-1])}"
    return f"now ({theirs} their time{'' if clocks.complete else ', where known'})"


def _hours_there(groups: Sequence[Group], hours: Hours, first: datetime, now: datetime) -> str:
    """Hours on the clock of one place, and what they are where the people are."""
    place = hours.kept.timezone if hours.kept else "UTC"
    opening = _opening((), hours, first)
    there = _span([((place,), *opening)])
    clocks = Clocks.of(groups)
    theirs = _span((group.zones, *opening) for group in groups) if clocks.zones else None
    said = f"{_days(there, now)}, {_hours(there)}"
    if theirs == there and clocks.complete:
        return f"{said} their time"
    said += " UTC" if place == "UTC" else f" {place.rpartition('/')[2].replace('_', ' ')} time"
    if theirs is None or theirs == there:
        return said
    days = "" if _days(theirs, now) == _days(there, now) else _days(theirs, now).removeprefix("on ") + ", "
    return f"{said} ({days}{_hours(theirs)} their time{'' if clocks.complete else ', where known'})"


def _closed(groups: Sequence[Group], hours: Hours, start: datetime, now: datetime) -> str | None:
    """A sentence, where on nobody's clock a call starts on the day of the launch."""
    if hours.kept is None:
        return None
    place = () if hours.keeps_own else (hours.kept.timezone,)
    opens = [(_opens(group, start), zone) for group in groups for zone in group.zones or place]
    why = "it is outside calling hours" if start <= now else "the time is outside calling hours"
    return _nobody_before(opens, start, now, why)


def _all_held(held_back: Sequence[HeldBack], groups: Sequence[Group], start: datetime, now: datetime) -> str | None:
    """The same, where the backend says of each call that it waits longer than that."""
    known = [one for one in held_back if one.until is not None and one.calls > 0]
    if sum(one.calls for one in known) < sum(group.calls for group in groups):
        return None
    zones = Clocks.of(groups).zones or ("UTC",)
    opens = [(one.until, zone) for one in known for zone in zones if one.until]
    most = max(known, key=lambda one: one.calls)
    return _nobody_before(opens, start, now, _HELD_BACK_BECAUSE.get(most.reason, "the backend holds them back"))


def _nobody_before(opens: Sequence[tuple[datetime, str]], start: datetime, now: datetime, why: str) -> str | None:
    """`opens`: when the calls may start, each with the zone of a clock to read that on."""
    days = [(_local(moment, zone).date(), _local(start, zone).date()) for moment, zone in opens]
    if not days or any(opening <= launch for opening, launch in days):
        return None
    first = min(opening for opening, _ in days)
    tomorrow = start <= now and min(opening - launch for opening, launch in days) == _DAY
    return f"Nobody is dialled before {'tomorrow' if tomorrow else day(first, now)}: {why}."


def _waits(later: Iterable[Group], start: datetime, now: datetime) -> Iterable[str]:
    """Who is called on another day than the first of them, or later than now."""
    until: Counter[str] = Counter()
    for group in later:
        until[their_time(_opens(group, start), Clocks.of([group]), now)] += group.calls
    shown = until.most_common(_MOST_WAITS)
    for words, calls in shown:
        yield f"{_of_them(calls)} until {words}."
    if others := until.total() - sum(calls for _, calls in shown):
        yield f"{_of_them(others)} for other hours."


def _held(held_back: Iterable[HeldBack], clocks: Clocks, start: datetime, now: datetime) -> Iterable[str]:
    for one in held_back:
        if one.calls <= 0 or (one.until is not None and one.until <= max(start, now)):
            continue
        until = "" if one.until is None else f" at least until {their_time(one.until, clocks, now)}"
        yield f"{_of_them(one.calls)}{until}: {_HELD_BACK_BECAUSE.get(one.reason, 'the backend holds them back')}."


def _overflow(table: Timetable, clocks: Clocks, now: datetime) -> Iterable[str]:
    """What does not fit into the hours of one day."""
    last = ""
    if table.last is not None:
        last = f": the last call starts about {their_time(table.last, clocks, now)}"
    elif table.not_before is not None:
        last = f": the last call does not start before {their_time(table.not_before, clocks, now)}"
    if table.waiting:
        yield f"About {table.waiting:,} of them do not fit before the hours end{'' if table.beyond else last}."
    if table.beyond:
        yield f"About {counted(table.beyond, 'call')} would not start within {LOOKS_AHEAD.days} days."


def _of_them(calls: int) -> str:
    return f"{calls:,} of them {'waits' if calls == 1 else 'wait'}"


def _opens(group: Group, start: datetime) -> datetime:
    return group.opens or start


def _opening(zones: tuple[str, ...], hours: Hours, opens: datetime) -> tuple[datetime, datetime]:
    """The opening that begins at `opens`, cut after a day."""
    window = hours.kept or hours.own
    return hours.dates.openings(window, zones, opens, opens + _DAY)[0]


def _span(spans: Iterable[tuple[Sequence[str], datetime, datetime]]) -> _Span:
    """From the earliest beginning to the latest end, on whichever clock. Each: zones, opening and closing moment."""
    days, begins, ends = [], [], []
    for zones, opens, closes in spans:
        for zone in zones:
            begin, end = _local(opens, zone), _local(closes, zone)
            midnight = datetime.combine(begin.date(), time())
            days.append(begin.date())
            begins.append(begin - midnight)
            ends.append(end - midnight if closes - opens < _DAY else None)
    last = [end for end in ends if end is not None]
    return _Span(min(days), max(days), min(begins), max(last) if len(last) == len(ends) else None)


def _days(span: _Span, now: datetime) -> str:
    return (
        f"on {day(span.first, now)}"
        if span.first == span.last
        else f"from {day(span.first, now)} to {day(span.last, now)}"
    )


def _hours(span: _Span) -> str:
    begins = clock_after(span.begins)
    return f"from {begins}" if span.ends is None else f"{begins} to {clock_after(span.ends)}"


def _local(moment: datetime, zone: str) -> datetime:
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
