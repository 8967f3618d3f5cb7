"""The rules about time, beside a slow reference of their own: somebody who looks at the clock every minute.

Zones whose clocks change by an hour, by half of one, at midnight, over midnight, by 45 minutes off the hour, and over
a whole day; UTC is the only clock that is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from batchcall_mcp.calling_hours import is_open, next_open
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import WEEKDAYS, CallingWindow

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
DAY = timedelta(hours=24)
CHANGES = {
    "America/New_York": ("2026-03-08T07:00", "2026-11-01T06:00"),
    "Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "Australia/Lord_Howe": ("2026-04-04T15:00", "2026-10-03T15:30"),
    "Pacific/Chatham": ("2026-04-04T14:00", "2026-09-26T14:00"),
    "America/Sao_Paulo": ("2018-02-18T02:00", "2018-11-04T03:00"),
    "America/St_Johns": ("2011-03-13T03:31", "2010-11-07T02:31"),
    "Pacific/Apia": ("2011-12-30T10:00", "2011-12-30T10:00"),
}
ZONES = sorted(CHANGES)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@st.composite
def near_a_change(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone, and a whole minute at most two days from a change of its clock."""
    zone = draw(st.sampled_from(ZONES))
    change = utc(draw(st.sampled_from(CHANGES[zone])))
    return zone, change + draw(st.integers(-48 * 60, 24 * 60)) * MINUTE


clock_times = st.builds(lambda h, m: f"{h:02}:{m:02}", st.integers(0, 23), st.sampled_from((0, 1, 15, 30, 45, 59)))
day_sets = st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True).map(tuple)
windows = st.builds(CallingWindow, start=clock_times, end=clock_times | st.just("24:00"), days=day_sets).filter(
    lambda window: window.start != window.end
)


def minutes_of(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def inside(window: CallingWindow, zone: str, moment: datetime) -> bool:
    """By the minute that the clock on the wall shows, and the name of its day."""
    local = moment.astimezone(ZoneInfo(zone))
    shown, start, end = local.hour * 60 + local.minute, minutes_of(window.start), minutes_of(window.end)
    today, yesterday = WEEKDAYS[local.weekday()], WEEKDAYS[local.weekday() - 1]
    if start < end:
        return today in window.days and start <= shown < end
    return (today in window.days and shown >= start) or (yesterday in window.days and shown < end)


def test_the_changes_are_where_they_are_said_to_be() -> None:
    """Or every test here would look at quiet days."""
    for zone, changes in CHANGES.items():
        for change in map(utc, changes):
            before, after = (moment.astimezone(ZoneInfo(zone)).utcoffset() for moment in (change - SECOND, change))
            assert before != after, (zone, change)


@settings(max_examples=150, deadline=None)
@given(windows, near_a_change(), st.lists(st.sampled_from(ZONES), max_size=2))
def test_the_next_opening_is_the_first_open_minute(
    window: CallingWindow, place: tuple[str, datetime], others: list[str]
) -> None:
    """One zone or several, of which all have to be open: minute by minute, and nothing between."""
    zones, start = (place[0], *others), place[1]
    stepped = [start + step * MINUTE for step in range(36 * 60)]
    expected = [all(inside(window, zone, moment) for zone in zones) for moment in stepped]
    assert [is_open(window, zones, moment) for moment in stepped] == expected
    found = next_open(window, zones, start)
    first = expected.index(True) if True in expected else None
    if first is not None:
        assert found == stepped[first]
    else:
        assert found is None or found > stepped[-1]


@settings(deadline=None)
@given(windows, near_a_change(), st.timedeltas(timedelta(0), MINUTE))
def test_within_a_minute_nothing_opens_or_closes(
    window: CallingWindow, place: tuple[str, datetime], part: timedelta
) -> None:
    """Seconds do not matter to a window, and the next opening is never before it is asked for."""
    assume(part < MINUTE)
    zone, moment = place
    assert is_open(window, (zone,), moment + part) == is_open(window, (zone,), moment)
    found = next_open(window, (zone,), moment + part)
    if is_open(window, (zone,), moment):
        assert found == moment + part
    else:
        assert found == next_open(window, (zone,), moment)


@settings(deadline=None)
@given(clock_times | st.just("24:00"), clock_times | st.just("24:00"), near_a_change())
def test_quiet_hours_and_open_hours_divide_the_day(
    quiet_start: str, quiet_end: str, place: tuple[str, datetime]
) -> None:
    """Every minute is in exactly one of them, or the quiet hours are refused."""
    zone, start = place
    quiet = CallingWindow(start="00:00" if quiet_start == "24:00" else quiet_start, end=quiet_end)
    try:
        opens, closes = rules.open_hours(quiet_start, quiet_end)
    except InvalidInput:
        assert quiet.start == quiet.end or {minutes_of(quiet_start) % 1440, minutes_of(quiet_end) % 1440} == {0}
        return
    for step in range(0, 30 * 60, 5):
        moment = start + step * MINUTE
        assert is_open(CallingWindow(start=opens, end=closes), (zone,), moment) != inside(quiet, zone, moment)


@settings(max_examples=200, deadline=None)
@given(clock_times, near_a_change(), st.timedeltas(timedelta(0), MINUTE))
@example("02:30", ("America/New_York", utc("2026-03-08T06:00")), timedelta(0))  # skipped on that day
@example("01:30", ("America/New_York", utc("2026-11-01T05:45")), timedelta(0))  # shown again 45 minutes later
@example("23:30", ("America/St_Johns", utc("2010-11-07T02:30")), timedelta(0))  # yesterday comes again
@example("10:00", ("Pacific/Apia", utc("2011-12-29T20:00")), timedelta(0))  # over the day that was not
def test_a_redial_at_a_local_time_is_when_a_clock_there_next_comes_to_show_it(
    clock: str, place: tuple[str, datetime], part: timedelta
) -> None:
    """In gaps (not on that day) and overlaps (twice) too."""
    zone, start = place
    now = start + min(part, MINUTE - timedelta(microseconds=1))
    moment = start + MINUTE
    while f"{moment.astimezone(ZoneInfo(zone)):%H:%M}" != clock:
        moment += MINUTE
    assert rules.next_local_time(clock, zone, now) == moment


def most_in_any(span: timedelta, moments: Iterable[datetime]) -> int:
    """Most of the moments that one half-open span holds, wherever it begins."""
    ordered = sorted(moments)
    return max((sum(start <= moment < start + span for moment in ordered) for start in ordered), default=0)


@settings(deadline=None)
@given(
    st.lists(st.timedeltas(timedelta(hours=-30), timedelta(hours=30)), max_size=40),
    st.integers(1, 4),
    near_a_change(),
)
def test_no_day_holds_more_dials_than_the_cap(steps: list[timedelta], cap: int, place: tuple[str, datetime]) -> None:
    """On days of 23 and 25 hours, and with a clock that jumps back and forth: whoever obeys is within the cap."""
    now, dialled = place[1], list[datetime]()
    for step in steps:
        now += step
        until = rules.capped_until(dialled, now, cap)
        if until is None:
            dialled.append(now)
            continue
        assert until > now
        assert rules.capped_until(dialled, until, cap) is None
        assert rules.capped_until(dialled, until - timedelta(microseconds=1), cap) is not None
        assert most_in_any(DAY, [*dialled, now]) > cap or any(moment > now for moment in dialled)
    assert most_in_any(DAY, dialled) <= cap


@given(st.none() | st.timedeltas(-DAY, DAY), st.timedeltas(-DAY, DAY))
def test_what_has_expired_stays_so(expiry: timedelta | None, age: timedelta) -> None:
    """From its very moment on; without one, never."""
    born = utc("2026-03-08T06:00")
    expires_at = None if expiry is None else born + expiry
    assert rules.expired(expires_at, born + age) == (expiry is not None and age >= expiry)


@settings(deadline=None)
@given(windows, near_a_change(), st.none() | st.integers(1, 30 * 60))
def test_a_task_waits_only_for_an_opening_before_its_expiry(
    window: CallingWindow, place: tuple[str, datetime], lasts: int | None
) -> None:
    """Given up exactly if no minute until the expiry is open; without an expiry, only if it never opens."""
    zone, now = place
    expires_at = None if lasts is None else now + lasts * MINUTE
    opens = next_open(window, (zone,), now)
    in_vain = rules.closes_before(expires_at, opens)
    if lasts is None:
        assert in_vain == (opens is None)
    else:
        assert in_vain == (not any(inside(window, zone, now + step * MINUTE) for step in range(lasts)))


RATES = st.one_of(st.floats(0.01, 20), st.integers(1, 20).map(float), st.sampled_from((0.1, 1 / 3, 0.99, 1.0, 1.99)))


def least_span(calls_per_second: float) -> timedelta:
    """Within which only `most` calls are allowed, to the microsecond."""
    return timedelta(microseconds=int(1_000_000 * max(Fraction(1), 1 / Fraction(calls_per_second))))


@given(
    st.lists(st.tuples(st.timedeltas(timedelta(0), 3 * SECOND), st.integers(1, 30)), max_size=30),
    RATES,
    st.lists(st.timedeltas(timedelta(0), SECOND / 2), min_size=2, max_size=2),
)
def test_no_second_holds_more_calls_than_are_allowed(
    requests: list[tuple[timedelta, int]], rate: float, skews: list[timedelta]
) -> None:
    """Whatever is asked for and when, by two machines whose clocks differ: over every half-open window there is."""
    passed, placed = utc("2026-11-01T06:00"), list[datetime]()
    for turn, (step, wanted) in enumerate(requests):
        passed += step
        now = passed + skews[turn % 2]
        room, later = rules.paced(placed, now, rate)
        assert (room == 0) == (later is not None)
        if later is not None:
            assert later > now
            before, _ = rules.paced(placed, later - timedelta(microseconds=1), rate)
            after, _ = rules.paced(placed, later, rate)
            assert (before, after > 0) == (0, True)
        placed += [now] * min(room, wanted)
    most = max(1, int(rate))
    ordered = sorted(placed)
    for first, beyond in zip(ordered, ordered[most:], strict=False):
        assert beyond - first >= least_span(rate)


@given(RATES, st.timedeltas(timedelta(0), 120 * SECOND))
def test_nobody_waits_longer_than_the_rate_asks(rate: float, age: timedelta) -> None:
    """A full second is over after one second, not two; and what was long ago does not count."""
    most, now = max(1, int(rate)), utc("2026-11-01T06:00")
    room, later = rules.paced([now - age] * most, now, rate)
    if later is None:
        assert (room, age >= least_span(rate)) == (most, True)
    else:
        assert timedelta(0) <= (later - (now - age)) - least_span(rate) <= timedelta(microseconds=1)


@pytest.mark.parametrize("rate", [0.25, 1.0, 5.0])
def test_a_clock_that_has_jumped_back_does_not_stop_the_calls(rate: float) -> None:
    """What lies more than a second in the future is no reason to wait; what lies less may be another's clock."""
    now, most = utc("2026-11-01T06:00"), max(1, int(rate))
    assert rules.paced([now + timedelta(hours=1)] * most, now, rate) == (most, None)
    assert rules.paced([now + SECOND + timedelta(microseconds=1)] * most, now, rate) == (most, None)
    assert rules.paced([now + SECOND] * most, now, rate)[0] == 0
