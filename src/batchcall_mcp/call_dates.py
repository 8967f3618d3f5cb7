"""On which dates somebody may be called, on their own clock, and from and until which moments. Pure.

A date is what a clock shows: "27 November" begins in Auckland a day before it ends in Honolulu. A number that fits
several zones may be called while it is the date in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, TypeAlias

from batchcall_mcp.calling_hours import dates_there, is_open, next_open, window_zones
from batchcall_mcp.calling_hours import openings as hours_open
from batchcall_mcp.model import CallingWindow

_DAY: Final = timedelta(days=1)
_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)

Spans: TypeAlias = tuple[tuple[datetime, datetime], ...]
"""In order, and apart from each other: from a moment up to, not including, another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDates:
    """From the date `first` through the date `last`, and before the moment `until`; None: no such limit.

    Dates are read on the clocks that decide (`window_zones`): the called person's own, or the window's one.
    """

    first: date | None = None
    last: date | None = None
    until: datetime | None = None

    @property
    def named(self) -> bool:
        """Whether there is a date in it, so that it matters where somebody is."""
        return self.first is not None or self.last is not None

    @property
    def is_endless(self) -> bool:
        """Whether it has neither a last date nor a moment that ends it."""
        return self.last is None and self.until is None

    def spans(self, window: CallingWindow, zones: Sequence[str]) -> Spans:
        """When these dates are, where somebody is: in all their zones at once. Without a zone there is no date."""
        return _spans(self, window_zones(window, zones))

    def allow(self, window: CallingWindow, zones: Sequence[str], moment: datetime) -> bool:
        """Whether it is such a date at `moment` (aware) in all zones, whatever the hour."""
        return any(begins <= moment < ends for begins, ends in self.spans(window, zones))

    def end(self, window: CallingWindow, zones: Sequence[str]) -> datetime | None:
        """From when on somebody in these zones is not called any more; None: there is no end.

        Where the dates never come (no zone, or a day that a clock skips), that is the beginning of time.
        """
        spans = self.spans(window, zones)
        end = spans[-1][1] if spans else _ALWAYS
        return None if end == _NEVER else end

    def next_open(
        self, window: CallingWindow, zones: Sequence[str], moment: datetime, not_before: datetime | None = None
    ) -> datetime | None:
        """The first moment from `moment` on, and not before `not_before`, at which a call may start; None: never."""
        start = moment if not_before is None else max(moment, not_before)
        for begins, ends in self.spans(window, zones):
            if ends > start:
                opens = next_open(window, zones, max(begins, start))
                if opens is not None and opens < ends:
                    return opens
        return None

    def may_call(self, window: CallingWindow, zones: Sequence[str], moment: datetime) -> bool:
        """Whether a call may start at `moment`: on such a date, and inside the window."""
        return is_open(window, zones, moment) and self.allow(window, zones, moment)

    def openings(self, window: CallingWindow, zones: Sequence[str], moment: datetime, until: datetime) -> Spans:
        """The spans from `moment` to `until` in which a call may start."""
        return tuple(_both(hours_open(window, zones, moment, until), self.spans(window, zones)))

    def moved(
        self,
        *,
        says_when: bool,
        first: date | None = None,
        last: date | None = None,
        until: datetime | None = None,
    ) -> CallDates:
        """What a launch makes of the dates that a batch call has.

        A launch on a date that names no end ends with that date. Such an end goes when the launch is moved; one that
        was given stays until another one is.
        """
        begins = first if says_when else self.first
        if last is not None or until is not None:
            return CallDates(first=begins, last=last, until=until)
        kept = self
        if says_when and self.first is not None and self.last == self.first:
            kept = replace(self, last=None)
        if begins is not None and kept.last is None and kept.until is None:
            return CallDates(first=begins, last=begins)
        return replace(kept, first=begins)


ANY_DATE: Final = CallDates()


def earliest(
    dates: CallDates, window: CallingWindow, places: Iterable[tuple[str, ...]], now: datetime
) -> datetime | None:
    """The first moment from `now` on at which anybody in these places may be called; None: it is over for all."""
    opens = (dates.next_open(window, zones, now) for zones in places)
    return min((moment for moment in opens if moment is not None), default=None)


def latest(dates: CallDates, window: CallingWindow, places: Iterable[tuple[str, ...]]) -> datetime | None:
    """The moment from which nobody in these places is called any more; None: there is no such moment."""
    ends = [dates.end(window, zones) for zones in places if window_zones(window, zones)]
    known = [end for end in ends if end is not None]
    return max(known) if len(known) == len(ends) and known else None


@lru_cache(maxsize=4096)
def _spans(dates: CallDates, zones: tuple[str, ...]) -> Spans:
    ends = _NEVER if dates.until is None else dates.until.astimezone(UTC)
    found: Spans = ((_ALWAYS, ends),)
    if not dates.named:
        return found
    if not zones:
        return ()
    for zone in zones:
        found = tuple(_both(found, _there(zone, dates.first, dates.last)))
    return found


def _there(zone: str, first: date | None, last: date | None) -> Spans:
    """When a clock shows these dates. Only around the first and the last one it matters what it does in between."""
    if first is not None and last is not None and last - first < 4 * _DAY:
        return dates_there(zone, first, last) if first <= last else ()
    begin = dates_there(zone, first, first + _DAY) if first is not None else ((_ALWAYS, _ALWAYS + _DAY),)
    end = dates_there(zone, last - _DAY, last) if last is not None else ((_NEVER - _DAY, _NEVER),)
    if not begin or not end or (first is not None and last is not None and last < first):
        return ()
    return (*begin[:-1], (begin[-1][0], end[0][1]), *end[1:])


def _both(one: Spans, other: Spans) -> Iterator[tuple[datetime, datetime]]:
    """Where two lists of spans overlap."""
    for begins, ends in one:
        for starts, stops in other:
            if max(begins, starts) < min(ends, stops):
                yield max(begins, starts), min(ends, stops)
