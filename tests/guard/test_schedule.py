"""When calls would start: first and last, how long, who waits, and who would be called too late."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall_mcp.calling_hours import is_open, next_open, openings, parse_calling_hours
from batchcall_mcp.guard.preflight.humanize import about, day_and_minute, distance, in_words
from batchcall_mcp.guard.preflight.schedule import CALL_LASTS, LOOKS_AHEAD, Hours, Timetable, timetable
from batchcall_mcp.model import CallingWindow
from tests.guard.test_preflight import FULL, ONE_ZONE, PLAIN

NEW_YORK, CHICAGO, LOS_ANGELES, LONDON = (
    ("America/New_York",),
    ("America/Chicago",),
    ("America/Los_Angeles",),
    ("Europe/London",),
)
DAY = parse_calling_hours("08:00-21:00")
ALWAYS = CallingWindow(start="00:00", end="24:00")
KEPT, NOBODYS = Hours(DAY, DAY), Hours(None, DAY)
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)

groups = st.dictionaries(
    st.sampled_from((NEW_YORK, CHICAGO, LOS_ANGELES, LONDON, ("America/New_York", "America/Denver"), ())),
    st.integers(1, 400),
    min_size=1,
).map(lambda counted: list(counted.items()))
windows = st.sampled_from(
    (DAY, ALWAYS, CallingWindow(start="22:00", end="02:00"), CallingWindow(start="09:00", end="09:01"))
)
kinds = st.one_of(
    windows.map(lambda window: Hours(window, window)),
    windows.map(lambda window: Hours(None, window)),
    windows.map(lambda window: Hours(replace(window, timezone="America/New_York"), DAY)),
)
# Around both nights on which the clocks of New York change.
moments = st.one_of(
    *(
        st.datetimes(night - timedelta(days=3), night + timedelta(days=3), timezones=st.just(UTC))
        for night in (datetime(2026, 11, 1), datetime(2027, 3, 14))
    )
)


def at(hour: int, minute: int = 0, days: int = 0) -> datetime:
    return MONDAY + timedelta(days=days, hours=hour, minutes=minute)


class TestWhoseHoursHold:
    def test_a_backend_with_windows_of_its_own_keeps_the_batch_calls_or_the_operators(self) -> None:
        assert Hours.of(None, FULL, DAY) == Hours(DAY, DAY)
        assert Hours.of(ALWAYS, FULL, DAY) == Hours(ALWAYS, ALWAYS)

    def test_a_window_on_one_clock_is_kept_and_says_nothing_of_other_clocks(self) -> None:
        there = replace(ALWAYS, timezone="America/New_York")
        for capabilities in (FULL, ONE_ZONE):
            found = Hours.of(there, capabilities, DAY)
            assert (found, found.keeps_own) == (Hours(there, DAY), False)

    def test_without_windows_nobody_keeps_any(self) -> None:
        assert Hours.of(None, ONE_ZONE, DAY) == Hours.of(ALWAYS, PLAIN, DAY) == NOBODYS


class TestOneGroup:
    def test_lines_are_filled_one_round_after_the_other(self) -> None:
        found = timetable([(LONDON, 21)], KEPT, at(12), 10)

        assert (found.first, found.last, found.takes) == (at(12), at(12, 4), 3 * CALL_LASTS)
        assert (found.waiting, found.beyond) == (0, 0)

    def test_a_call_may_start_in_the_last_minute_before_the_window_closes(self) -> None:
        found = timetable([(LONDON, 3)], KEPT, at(20, 59), 2)

        assert (found.first, found.last, found.waiting) == (at(20, 59), at(8, days=1), 1)

    def test_what_does_not_fit_goes_on_the_next_day_and_the_day_after(self) -> None:
        """Thirteen hours a day, thirty calls an hour."""
        found = timetable([(LONDON, 2 * 390 + 1)], KEPT, at(8), 1)

        assert (found.last, found.waiting, found.takes) == (at(8, days=2), 391, timedelta(hours=26, minutes=2))

    def test_what_does_not_fit_into_two_months_has_no_last_moment(self) -> None:
        found = timetable([(LONDON, 390 * LOOKS_AHEAD.days + 5)], KEPT, at(8), 1)

        assert (found.last, found.beyond) == (None, 5)

    def test_a_window_that_is_always_open_never_lets_anybody_wait(self) -> None:
        found = timetable([(LONDON, 10_000)], Hours(ALWAYS, ALWAYS), at(3), 1)

        assert (found.first, found.last, found.waiting) == (at(3), at(3) + 9_999 * CALL_LASTS, 0)

    def test_of_one_call_first_and_last_are_the_same_however_many_lines(self) -> None:
        found = timetable([(LONDON, 1)], KEPT, at(3), None)

        assert (found.first, found.last, found.not_before) == (at(8), at(8), None)


class TestSeveralGroups:
    def test_who_may_be_called_earlier_is_called_earlier(self) -> None:
        found = timetable([(LOS_ANGELES, 5), (LONDON, 5)], KEPT, at(9), 1)

        assert (found.first, found.last, found.not_before) == (at(9), at(16, 8), None)
        assert [group.opens for group in found.groups] == [at(16), at(9)]

    def test_lines_that_are_busy_are_busy_for_everybody(self) -> None:
        """London takes until 16:20, when Los Angeles has been open for twenty minutes."""
        found = timetable([(LOS_ANGELES, 1), (LONDON, 220)], KEPT, at(9), 1)

        assert (found.last, found.takes) == (at(16, 20), 221 * CALL_LASTS)

    def test_without_a_number_of_lines_the_hours_alone_say_when_the_last_is_not_before(self) -> None:
        found = timetable([(LOS_ANGELES, 5), (LONDON, 5)], KEPT, at(9), None)

        assert (found.first, found.last, found.not_before, found.takes) == (at(9), None, at(16), None)

    def test_who_is_never_open_is_not_waited_for(self) -> None:
        found = timetable([((), 5), (LONDON, 5)], KEPT, at(9), 1)

        assert (found.never, found.takes, found.unplaced) == (5, 5 * CALL_LASTS, 0)
        assert timetable([((), 5)], KEPT, at(9), 1) == Timetable(groups=(((), 5, None),), never=5)  # type: ignore[arg-type]  # a group is a tuple


class TestNobodyKeepsHours:
    def test_everybody_is_called_from_the_start_on(self) -> None:
        found = timetable([(LOS_ANGELES, 5), (LONDON, 5), ((), 5)], NOBODYS, at(9), 1)

        assert (found.first, found.last) == (at(9), at(9, 28))
        assert (found.outside, found.unplaced, found.tail, found.never) == (5, 5, 0, 0)

    def test_in_whatever_order_the_rest_of_the_list_is_too_late(self) -> None:
        """Ten minutes are left in London, of which five calls make use; any of the others may be one of London's."""
        found = timetable([(LONDON, 8), (NEW_YORK, 2)], NOBODYS, at(20, 50), 1)

        assert found.tail == 5
        assert timetable([(LONDON, 3), (NEW_YORK, 7)], NOBODYS, at(20, 50), 1).tail == 3
        assert timetable([(LONDON, 5)], NOBODYS, at(20, 50), 1).tail == 0

    def test_what_comes_round_to_the_next_morning_is_in_hours_again(self) -> None:
        """From 20:00: an hour of thirty calls, eleven hours of 330 too late, and the rest from 08:00 on."""
        assert timetable([(LONDON, 700)], NOBODYS, at(20), 1).tail == 330

    def test_a_window_on_another_clock_lets_calls_wait_and_does_not_know_the_persons_evening(self) -> None:
        """Noon to four in New York is 17:00 to 21:00 in London, and 09:00 to 13:00 in Los Angeles."""
        noon = CallingWindow(start="12:00", end="16:01", timezone="America/New_York")
        found = timetable([(LONDON, 121), (LOS_ANGELES, 1)], Hours(noon, DAY), at(9), 1)

        assert (found.first, found.last, found.outside) == (at(17), at(17, days=1), 0)
        assert (found.tail, found.waiting) == (1, 1)


class TestNightsOnWhichClocksChange:
    @pytest.mark.parametrize(
        ("launch", "opens"),
        [
            (datetime(2026, 10, 31, 4, tzinfo=UTC), datetime(2026, 10, 31, 12, tzinfo=UTC)),
            (datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 11, 1, 13, tzinfo=UTC)),
            (datetime(2026, 11, 1, 6, 30, tzinfo=UTC), datetime(2026, 11, 1, 13, tzinfo=UTC)),
            (datetime(2027, 3, 13, 5, tzinfo=UTC), datetime(2027, 3, 13, 13, tzinfo=UTC)),
            (datetime(2027, 3, 14, 5, tzinfo=UTC), datetime(2027, 3, 14, 12, tzinfo=UTC)),
            (datetime(2027, 3, 14, 7, 30, tzinfo=UTC), datetime(2027, 3, 14, 12, tzinfo=UTC)),
        ],
    )
    def test_new_york_opens_at_eight_by_the_clock_of_that_morning(self, launch: datetime, opens: datetime) -> None:
        found = timetable([(NEW_YORK, 1)], KEPT, launch, 1)

        assert (found.first, found.groups[0].opens) == (opens, opens)

    def test_an_hour_that_comes_twice_takes_twice_the_calls(self) -> None:
        night = Hours.of(CallingWindow(start="01:00", end="02:00"), FULL, DAY)

        autumn = timetable([(NEW_YORK, 61)], night, datetime(2026, 11, 1, 4, tzinfo=UTC), 1)

        assert (autumn.first, autumn.waiting) == (datetime(2026, 11, 1, 5, tzinfo=UTC), 1)

    def test_an_hour_that_does_not_come_takes_none(self) -> None:
        night = Hours.of(CallingWindow(start="02:00", end="03:00"), FULL, DAY)

        spring = timetable([(NEW_YORK, 1)], night, datetime(2027, 3, 14, 5, tzinfo=UTC), 1)

        assert spring.first == datetime(2027, 3, 15, 6, tzinfo=UTC)


class TestProperties:
    @given(groups, kinds, moments, st.one_of(st.none(), st.integers(1, 50)))
    @settings(max_examples=150, deadline=None)
    def test_the_last_call_is_not_before_the_first_and_the_first_not_before_the_launch(
        self, counted: list[tuple[tuple[str, ...], int]], hours: Hours, start: datetime, lines: int | None
    ) -> None:
        found = timetable(counted, hours, start, lines)

        whole = sum(calls for _, calls in counted)
        assert found.first is None or found.first >= start.replace(microsecond=0)
        for later in (found.last, found.not_before):
            assert later is None or (found.first is not None and later >= found.first)
        assert (found.first is None) == (found.never == whole)
        assert found.outside + found.unplaced + found.tail + found.never <= whole
        assert found.beyond <= found.waiting <= whole
        if lines is None:
            assert (found.takes, found.tail, found.waiting) == (None, 0, 0)

    @given(groups, kinds, moments)
    @settings(max_examples=100, deadline=None)
    def test_the_first_call_is_inside_every_window_that_is_kept(
        self, counted: list[tuple[tuple[str, ...], int]], hours: Hours, start: datetime
    ) -> None:
        found = timetable(counted, hours, start, 1)

        if hours.kept is not None and found.first is not None:
            assert any(is_open(hours.kept, zones, found.first) for zones, _ in counted)
        for group in found.groups:
            if group.opens is not None and hours.kept is not None:
                assert is_open(hours.kept, group.zones, group.opens)

    @given(groups, kinds, moments, st.integers(1, 50), st.integers(1, 500))
    @settings(max_examples=150, deadline=None)
    def test_more_calls_take_no_less_time_and_more_lines_no_more(
        self, counted: list[tuple[tuple[str, ...], int]], hours: Hours, start: datetime, lines: int, more: int
    ) -> None:
        (zones, calls), *others = counted
        one = timetable(counted, hours, start, lines)
        longer = timetable([(zones, calls + more), *others], hours, start, lines)
        wider = timetable(counted, hours, start, lines + more)

        if one.takes is not None and longer.takes is not None and wider.takes is not None:
            assert wider.takes <= one.takes <= longer.takes
        if one.last is not None and longer.last is not None:
            assert one.last <= longer.last
        assert longer.tail >= one.tail

    @given(windows, st.sampled_from((NEW_YORK, LONDON, (*NEW_YORK, *LOS_ANGELES), ())), moments)
    @settings(max_examples=100, deadline=None)
    def test_openings_are_the_moments_at_which_it_is_open(
        self, window: CallingWindow, zones: tuple[str, ...], start: datetime
    ) -> None:
        until = start + timedelta(days=4)
        found = openings(window, zones, start, until)

        assert all(start <= opens < closes <= until for opens, closes in found)
        assert all(one[1] < other[0] for one, other in pairwise(found))
        for minutes in range(0, 4 * 24 * 60, 7):
            moment = start + timedelta(minutes=minutes)
            assert is_open(window, zones, moment) == any(opens <= moment < closes for opens, closes in found)
        if found:
            assert found[0][0] == next_open(window, zones, start)
        assert openings(window, zones, until, start) == ()


class TestWords:
    @pytest.mark.parametrize(
        ("span", "said"),
        [
            (timedelta(0), "0 seconds"),
            (timedelta(seconds=1), "1 second"),
            (timedelta(seconds=99), "99 seconds"),
            (timedelta(seconds=100), "2 minutes"),
            (timedelta(minutes=99), "99 minutes"),
            (timedelta(minutes=100), "2 hours"),
            (timedelta(hours=19), "19 hours"),
            (timedelta(hours=47, minutes=29), "47 hours"),
            (timedelta(hours=48), "2 days"),
            (timedelta(days=365), "365 days"),
        ],
    )
    def test_a_distance(self, span: timedelta, said: str) -> None:
        assert distance(span) == said

    @pytest.mark.parametrize(
        ("minutes", "said"),
        [
            (2, "about 2 minutes"),
            (1, "about 1 minute"),
            (9, "about 9 minutes"),
            (12, "about 10 minutes"),
            (38, "about 40 minutes"),
            (92, "about 90 minutes"),
            (100, "about 1.5 hours"),
            (180, "about 3 hours"),
            (24 * 60, "about 24 hours"),
            (60 * 60, "about 2 days"),
            (30 * 24 * 60, "about 30 days"),
        ],
    )
    def test_a_span_that_nobody_knows_exactly(self, minutes: int, said: str) -> None:
        assert about(timedelta(minutes=minutes)) == said

    @given(st.timedeltas(timedelta(0), timedelta(days=100)), st.timedeltas(timedelta(0), timedelta(days=100)))
    def test_a_longer_span_is_never_told_as_a_shorter_one(self, one: timedelta, other: timedelta) -> None:
        shorter, longer = sorted((one, other))
        assert _read(about(shorter)) <= _read(about(longer))

    def test_a_moment_is_told_with_its_day_and_its_distance(self) -> None:
        now = at(19)

        assert in_words(now, now) == in_words(now - timedelta(days=1), now) == "now"
        assert in_words(at(14, days=1), now) == "Tue 24 Nov 2026 14:00 UTC, in 19 hours"
        assert day_and_minute(datetime(2026, 12, 4, 7, 5, 9, tzinfo=UTC)) == "Fri 4 Dec 2026 07:05 UTC"


def _read(said: str) -> timedelta:
    """The span that the words mean."""
    _, number, unit = said.split()
    return float(number) * timedelta(**{f"{unit.removesuffix('s')}s": 1})
