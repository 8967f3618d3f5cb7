"""When the calls of one launch would start, how long they take, and whom that reaches outside their hours. Pure.

No backend reports beforehand how fast it dials, so all of this is "about": so many lines, each busy for `CALL_LASTS`
with every call, first dials only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple, TypeAlias

from batchcall_mcp.backends.capabilities import Capabilities
from batchcall_mcp.call_dates import ANY_DATE, CallDates
from batchcall_mcp.calling_hours import RECIPIENT, is_open, is_timezone, openings, window_zones
from batchcall_mcp.guard.preflight.humanize import about, counted, in_words
from batchcall_mcp.model import CallingWindow

CALL_LASTS: Final = timedelta(minutes=2)
"""One call, ringing included. An assumption of ours, measured nowhere: durations rest on it."""

LOOKS_AHEAD: Final = timedelta(days=60)
"""How far calls are placed into openings. What does not fit is said to start later, and not when."""

_Openings: TypeAlias = Sequence[tuple[datetime, datetime]]


@dataclass(frozen=True, slots=True)
class Hours:
    """Whose hours hold: `kept` by the backend itself, if it keeps any; `own`, the called person's."""

    kept: CallingWindow | None
    own: CallingWindow
    dates: CallDates = ANY_DATE
    """On which dates at all, and until when: only a backend that keeps its own windows keeps those."""

    @classmethod
    def of(
        cls,
        window: CallingWindow | None,
        capabilities: Capabilities,
        calling_hours: CallingWindow,
        dates: CallDates = ANY_DATE,
    ) -> Hours:
        """What a backend keeps to: the batch call's window if it has windows, else the operator's hours if it can.

        A window on one place's clock is kept too, but says nothing of the hours of people elsewhere.
        """
        kept = calling_hours if capabilities.windows == "full" else None
        if window is not None and capabilities.windows != "none":
            kept = window if is_readable(window) else None
        own = kept if kept is not None and kept.timezone == RECIPIENT else calling_hours
        return cls(kept, own, dates)

    @property
    def keeps_own(self) -> bool:
        """Whether the backend itself keeps to each called person's clock."""
        return self.kept is self.own

    def opens(self, zones: Sequence[str], start: datetime) -> datetime | None:
        """When people in `zones` may be called, from `start` on; None: never, or nobody knows."""
        if self.kept is not None and not self.keeps_own:
            return self.dates.next_open(self.kept, (), start)
        return self.dates.next_open(self.own, zones, start) if zones else None

    def is_over(self, zones: Sequence[str], start: datetime) -> bool:
        """Whether people in `zones` are not called any more at `start`, because of the dates alone."""
        window = self.kept or self.own
        end = self.dates.end(window, zones) if window_zones(window, zones) else None
        return end is not None and end <= start


def is_readable(window: CallingWindow) -> bool:
    """Whether its clock is one that we know: a backend may name any."""
    return window.timezone == RECIPIENT or is_timezone(window.timezone)


class Group(NamedTuple):
    """Calls to people whose candidate time zones are the same; no zones: nobody knows where they are."""

    zones: tuple[str, ...]
    calls: int
    opens: datetime | None


class _Run(NamedTuple):
    """Calls one after the other from `begin` on, as many at once as there are lines."""

    begin: datetime
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """What is known of the starts. Counts are calls; `takes` None: nobody knows how many are made at once.

    Where `last` cannot be known, `not_before` may say a moment before which it cannot be.
    """

    groups: tuple[Group, ...]
    first: datetime | None = None
    last: datetime | None = None
    not_before: datetime | None = None
    takes: timedelta | None = None
    never: int = 0
    """The backend will not dial them: no zone is known, or no hour is open."""
    outside: int = 0
    """Would start outside the called person's hours from the first call on."""
    over: int = 0
    """Their dates are over where they are, so that the backend will not dial them."""
    shut: int = 0
    """No hour is open where they are on these dates, or before the end."""
    unplaced: int = 0
    """No zone is known, and the backend dials them all the same."""
    tail: int = 0
    """At most so many more would start outside the called person's hours, because the list is long."""
    waiting: int = 0
    """Do not fit before their window closes, and wait for its next opening."""
    beyond: int = 0
    """Do not fit into `LOOKS_AHEAD`."""
    too_far: bool = False
    """The launch lies at the end of the calendar, where no clock can be asked."""


def timetable(
    counted: Iterable[tuple[tuple[str, ...], int]], hours: Hours, start: datetime, concurrency: int | None
) -> Timetable:
    """Place the calls, counted by candidate zones, from `start` (aware) on."""
    start = start.replace(microsecond=0)
    if start.year == MAXYEAR:
        return Timetable(groups=tuple(Group(zones, calls, None) for zones, calls in counted), too_far=True)
    groups = tuple(Group(zones, calls, hours.opens(zones, start)) for zones, calls in counted)
    dialled = groups if hours.kept is None else tuple(group for group in groups if group.opens is not None)
    closed = () if hours.kept is None else (group for group in groups if group.opens is None)
    over = _calls(group for group in closed if hours.is_over(group.zones, start))
    shut = 0 if hours.dates == ANY_DATE else _calls(groups) - _calls(dialled) - over - _nowhere(groups, hours)
    never = _calls(groups) - _calls(dialled) - over - shut
    if not dialled:
        return Timetable(groups=groups, never=never, over=over, shut=shut)
    opens = [start if hours.kept is None else group.opens or start for group in dialled]
    first = min(opens)
    runs, waiting, beyond = _placed(dialled, hours, start, concurrency) if concurrency else ((), 0, 0)
    not_before = (
        runs[-1].begin + (runs[-1].calls - 1) // concurrency * CALL_LASTS if runs and concurrency else max(opens)
    )
    last_is_known = (runs and not beyond) or _calls(dialled) == 1
    known_to_be_open = [group for group in dialled if group.zones and is_open(hours.own, group.zones, first)]
    unplaced = sum(group.calls for group in dialled if not group.zones)
    late = not hours.keeps_own
    return Timetable(
        groups=groups,
        first=first,
        last=not_before if last_is_known else None,
        not_before=not_before if not last_is_known and not_before > first else None,
        takes=-(-_calls(dialled) // concurrency) * CALL_LASTS if concurrency else None,
        never=never,
        over=over,
        shut=shut,
        outside=_calls(dialled) - _calls(known_to_be_open) - unplaced if late else 0,
        unplaced=unplaced if late else 0,
        tail=_tail(known_to_be_open, hours, runs, concurrency) if late and concurrency else 0,
        waiting=waiting,
        beyond=beyond,
    )


def _calls(groups: Iterable[Group]) -> int:
    return sum(group.calls for group in groups)


def _nowhere(groups: Iterable[Group], hours: Hours) -> int:
    """Calls to people of whom no clock is known that decides."""
    window = hours.kept or hours.own
    return _calls(group for group in groups if not window_zones(window, group.zones))


def _placed(dialled: Sequence[Group], hours: Hours, start: datetime, lines: int) -> tuple[tuple[_Run, ...], int, int]:
    """The runs, how many calls miss their first opening, and how many the last one."""
    until = start + LOOKS_AHEAD
    if hours.kept is None:
        return (_Run(start, _calls(dialled)),), 0, 0
    if hours.keeps_own:
        spans = [(hours.dates.openings(hours.own, group.zones, start, until), group.calls) for group in dialled]
        return _filled(spans, lines)
    return _filled([(hours.dates.openings(hours.kept, (), start, until), _calls(dialled))], lines)


def _filled(queues: Sequence[tuple[_Openings, int]], lines: int) -> tuple[tuple[_Run, ...], int, int]:
    """Fill each queue's openings, those that open first before the others.

    A backend mixes the people who may be called at the same time; how many find a line is the same.
    """
    left = [calls for _, calls in queues]
    turns = [(*spans[0], queue, 0) for queue, (spans, _) in enumerate(queues)]
    heapify(turns)
    runs: list[_Run] = []
    waiting = beyond = 0
    while turns:
        opens, closes, queue, turn = heappop(turns)
        if not runs or opens > runs[-1].begin + runs[-1].calls // lines * CALL_LASTS:
            runs.append(_Run(opens, 0))
        run = runs[-1]
        fitting = max(0, min(left[queue], lines * _rounds(closes - run.begin) - run.calls))
        runs[-1] = run._replace(calls=run.calls + fitting)
        left[queue] -= fitting
        if not left[queue]:
            continue
        waiting += left[queue] if turn == 0 else 0
        spans = queues[queue][0]
        if turn + 1 < len(spans):
            heappush(turns, (*spans[turn + 1], queue, turn + 1))
        else:
            beyond += left[queue]
    return tuple(runs), waiting, beyond


def _rounds(span: timedelta) -> int:
    """How many calls one line begins within `span`."""
    return max(0, -(-span // CALL_LASTS))


def _tail(groups: Sequence[Group], hours: Hours, runs: Sequence[_Run], lines: int) -> int:
    """At most so many of these calls start outside their people's hours, in any order of dialling."""
    until = runs[0].begin + LOOKS_AHEAD

    def begun(run: _Run, moment: datetime) -> int:
        return min(run.calls, lines * _rounds(moment - run.begin))

    found = 0
    for group in groups:
        inside = openings(hours.own, group.zones, runs[0].begin, until)
        outside = sum(
            begun(run, until) - sum(begun(run, closes) - begun(run, opens) for opens, closes in inside) for run in runs
        )
        found += min(group.calls, outside)
    return found


def hours_warnings(table: Timetable, hours: Hours, concurrency: int | None) -> list[str]:
    """Who would be called outside their hours, or not at all."""
    own = f"{hours.own.start}-{hours.own.end} of the called person's own time"
    found = []
    if table.too_far:
        found.append("The time lies too far ahead: calling hours were not checked.")
    if table.never:
        calls = counted(table.never, "call has", "calls have")
        found.append(f"{calls} no known time zone or no open hour, and will not be dialled.")
    if table.outside:
        found.append(f"{counted(table.outside, 'call')} would start outside {own}.")
    if table.unplaced:
        calls = counted(table.unplaced, "call has", "calls have")
        found.append(f"{calls} no known time zone: nobody can say whether it is {own}.")
    if table.tail and table.takes is not None:
        found.append(
            f"Up to {counted(table.tail, 'call')} would start after hours, outside {own}: "
            f"with {concurrency} at once the list takes {about(table.takes)}."
        )
    return found


def last_start(table: Timetable, now: datetime) -> str | None:
    """When the last call would start, as far as anybody knows."""
    if table.last is not None:
        return in_words(table.last, now)
    return f"not before {in_words(table.not_before, now)}" if table.not_before is not None else None
