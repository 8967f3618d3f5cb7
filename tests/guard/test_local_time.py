"""When calls start is said on the clocks of the people who are called, and holds for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall_mcp.calling_hours import is_open, parse_calling_hours
from batchcall_mcp.guard.preflight.local_time import Clocks, LaunchTimes, launch_times, their_time
from batchcall_mcp.guard.preflight.schedule import LOOKS_AHEAD, Hours, timetable
from batchcall_mcp.model import CallingWindow, HeldBack

Counted: TypeAlias = Sequence[tuple[tuple[str, ...], int]]

NEW_YORK, LOS_ANGELES, LONDON, TOKYO, NOWHERE = (
    ("America/New_York",),
    ("America/Los_Angeles",),
    ("Europe/London",),
    ("Asia/Tokyo",),
    (),
)
DAY = parse_calling_hours("08:00-21:00")
NINE_TO_FIVE = CallingWindow(start="09:00", end="17:00")
ALWAYS = CallingWindow(start="00:00", end="24:00")
THURSDAY = datetime(2026, 11, 26, 15, 0, tzinfo=UTC)
"""10:00 in New York, 7:00 in Los Angeles, 15:00 in London, midnight in Tokyo."""


def times(
    counted: Counted,
    start: datetime = THURSDAY,
    *,
    kept: CallingWindow | None = DAY,
    lines: int | None = None,
    now: datetime = THURSDAY,
    held_back: Sequence[HeldBack] = (),
) -> LaunchTimes:
    hours = Hours(kept, kept if kept is not None and kept.timezone == "recipient" else DAY)
    return launch_times(timetable(counted, hours, start, lines), hours, start, now, held_back)


def hour(hour: int, day: int = 27) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


class TestWhen:
    def test_now_where_somebody_is_called_now(self) -> None:
        assert times([(NEW_YORK, 3)]).when == "now"
        assert times([(NEW_YORK, 3), (LOS_ANGELES, 2)]).when == "now"
        assert times([(NOWHERE, 3)], kept=None).when == "now"

    def test_the_window_on_the_day_on_which_it_opens(self) -> None:
        assert times([(NEW_YORK, 3)], hour(3), kept=NINE_TO_FIVE).when == "on Fri 27 Nov, 9:00 to 17:00 their time"

    def test_a_launch_within_the_window_begins_when_it_is_launched(self) -> None:
        assert times([(NEW_YORK, 3)], hour(15), kept=NINE_TO_FIVE).when == "on Fri 27 Nov, 10:00 to 17:00 their time"

    def test_people_in_several_zones_have_one_window(self) -> None:
        everybody = [(NEW_YORK, 3), (LOS_ANGELES, 3), (LONDON, 3)]

        assert times(everybody, hour(5), kept=NINE_TO_FIVE).when == "on Fri 27 Nov, 9:00 to 17:00 their time"
        # In London it is 14:00 by then: from the earliest beginning to the latest end.
        assert times(everybody, hour(14), kept=NINE_TO_FIVE).when == "on Fri 27 Nov, 9:00 to 17:00 their time"

    def test_days_of_the_week_on_which_nobody_is_called_are_passed_over(self) -> None:
        weekdays = replace(NINE_TO_FIVE, days=("mon", "tue", "wed", "thu", "fri"))

        assert times([(NEW_YORK, 3)], hour(15, 28), kept=weekdays).when == "on Mon 30 Nov, 9:00 to 17:00 their time"

    def test_a_window_over_midnight_has_the_day_on_which_it_opens(self) -> None:
        night = CallingWindow(start="22:00", end="02:00")

        assert times([(LONDON, 3)], kept=night).when == "on Thu 26 Nov, 22:00 to 2:00 their time"

    def test_a_window_until_midnight_ends_at_twenty_four(self) -> None:
        evening = CallingWindow(start="18:00", end="24:00")

        assert times([(LONDON, 3)], kept=evening).when == "on Thu 26 Nov, 18:00 to 24:00 their time"

    @pytest.mark.parametrize("kept", [None, ALWAYS])
    def test_a_launch_that_waits_for_no_hours_has_a_time_on_every_clock(self, kept: CallingWindow | None) -> None:
        assert times([(NEW_YORK, 3)], hour(14), kept=kept).when == "on Fri 27 Nov, 9:00 their time"
        assert times([(NEW_YORK, 3), (LOS_ANGELES, 2)], hour(14), kept=kept).when == (
            "on Fri 27 Nov, 14:00 UTC (6:00 to 9:00 their time)"
        )
        assert times([(LOS_ANGELES, 3), (TOKYO, 2)], hour(3), kept=kept).when == (
            "on Fri 27 Nov, 3:00 UTC (Thu 26 Nov, 19:00 to Fri 27 Nov, 12:00 their time)"
        )

    def test_a_clock_that_nobody_knows_makes_it_utc(self) -> None:
        assert times([(NOWHERE, 3)], hour(14), kept=None).when == "on Fri 27 Nov, 14:00 UTC"
        assert times([(NEW_YORK, 3), (NOWHERE, 2)], hour(14), kept=None).when == (
            "on Fri 27 Nov, 14:00 UTC (9:00 their time, where known)"
        )

    def test_who_is_never_dialled_has_no_say_in_it(self) -> None:
        found = times([(NEW_YORK, 3), (NOWHERE, 2)], hour(3), kept=NINE_TO_FIVE)

        assert found.when == "on Fri 27 Nov, 9:00 to 17:00 their time"
        assert times([(NOWHERE, 2)], hour(3)).when == "on Fri 27 Nov, 3:00 UTC"

    def test_now_has_the_time_there_where_somebody_is_outside_hours_that_nobody_keeps(self) -> None:
        assert times([(NEW_YORK, 3), (LOS_ANGELES, 2)], kept=None).when == "now (7:00 to 10:00 their time)"
        assert times([(LOS_ANGELES, 2), (NOWHERE, 1)], kept=None).when == "now (7:00 their time, where known)"

    def test_hours_on_the_clock_of_one_place_are_said_as_that_places_and_as_theirs(self) -> None:
        there = replace(NINE_TO_FIVE, timezone="America/New_York")

        assert times([(NEW_YORK, 3)], hour(3), kept=there).when == "on Fri 27 Nov, 9:00 to 17:00 their time"
        assert times([(LOS_ANGELES, 3), (NEW_YORK, 3)], hour(3), kept=there).when == (
            "on Fri 27 Nov, 9:00 to 17:00 New York time (6:00 to 17:00 their time)"
        )
        assert times([(TOKYO, 3)], hour(3), kept=replace(there, timezone="UTC")).when == (
            "on Fri 27 Nov, 9:00 to 17:00 UTC (18:00 to 2:00 their time)"
        )
        assert times([(NOWHERE, 3)], hour(3), kept=there).when == "on Fri 27 Nov, 9:00 to 17:00 New York time"
        assert times([(LOS_ANGELES, 3)], kept=there).when == "now"

    def test_a_day_of_another_year_has_its_year(self) -> None:
        start = datetime(2027, 11, 26, 5, tzinfo=UTC)

        assert times([(NEW_YORK, 3)], start, kept=NINE_TO_FIVE).when == "on Fri 26 Nov 2027, 9:00 to 17:00 their time"

    def test_the_end_of_the_calendar_is_a_time_in_utc(self) -> None:
        assert times([(NEW_YORK, 3)], datetime(9999, 12, 29, tzinfo=UTC)).when == "on Wed 29 Dec 9999, 0:00 UTC"


class TestWhoIsNotDialledToday:
    NIGHT = hour(3)
    """22:00 on Thursday in New York, 19:00 in Los Angeles, 3:00 on Friday in London."""

    def test_nobody_before_tomorrow(self) -> None:
        found = times([(NEW_YORK, 3)], self.NIGHT, now=self.NIGHT)

        assert found.nobody_before == "Nobody is dialled before tomorrow: it is outside calling hours."
        assert found.when == "on Fri 27 Nov, 8:00 to 21:00 their time"

    def test_nobody_before_the_day_on_which_they_open(self) -> None:
        weekdays = replace(NINE_TO_FIVE, days=("mon", "tue", "wed", "thu", "fri"))
        saturday = hour(15, 28)

        assert times([(NEW_YORK, 3)], saturday, kept=weekdays, now=saturday).nobody_before == (
            "Nobody is dialled before Mon 30 Nov: it is outside calling hours."
        )
        assert times([(NEW_YORK, 3)], saturday, kept=weekdays).nobody_before == (
            "Nobody is dialled before Mon 30 Nov: the time is outside calling hours."
        )

    @pytest.mark.parametrize("others", [LOS_ANGELES, LONDON])
    def test_not_where_somebody_is_dialled_on_that_day(self, others: tuple[str, ...]) -> None:
        """In London it is Friday already, and hours open on that day."""
        assert times([(NEW_YORK, 3), (others, 1)], self.NIGHT, now=self.NIGHT).nobody_before is None

    def test_nor_where_nobody_keeps_hours(self) -> None:
        assert times([(NEW_YORK, 3)], self.NIGHT, kept=None, now=self.NIGHT).nobody_before is None

    def test_hours_of_one_place_too(self) -> None:
        there = replace(NINE_TO_FIVE, timezone="America/New_York")

        assert times([(NOWHERE, 3)], self.NIGHT, kept=there, now=self.NIGHT).nobody_before == (
            "Nobody is dialled before tomorrow: it is outside calling hours."
        )


class TestWhoWaits:
    def test_who_is_not_called_now_waits_until_a_time_of_their_own(self) -> None:
        found = times([(NEW_YORK, 30), (LOS_ANGELES, 12), (TOKYO, 1)])

        assert found.when == "now"
        assert found.waits == (
            "12 of them wait until Thu 26 Nov, 8:00 their time.",
            "1 of them waits until Fri 27 Nov, 8:00 their time.",
        )

    def test_who_is_called_on_a_later_day_than_the_others(self) -> None:
        """At 17:00 UTC the day is over in Tokyo: it is Saturday there."""
        found = times([(NEW_YORK, 30), (TOKYO, 12)], hour(17), kept=NINE_TO_FIVE)

        assert found.when == "on Fri 27 Nov, 12:00 to 17:00 their time"
        assert found.waits == ("12 of them wait until Sat 28 Nov, 9:00 their time.",)

    def test_only_the_two_largest_groups_have_a_time(self) -> None:
        zones = ("Asia/Tokyo", "Asia/Kolkata", "Australia/Sydney", "Pacific/Auckland")
        found = times([(NEW_YORK, 1), *(((zone,), 10 * n) for n, zone in enumerate(zones, 1))], kept=NINE_TO_FIVE)

        assert len(found.waits) <= 3
        assert sum(int(sentence.split()[0]) for sentence in found.waits) == 100

    def test_what_does_not_fit_into_the_day_goes_on_with_the_last_call_named(self) -> None:
        found = times([(LONDON, 240)], lines=1)

        assert found.waits == (
            "About 60 of them do not fit before the hours end: the last call starts about Fri 27 Nov, 9:58 their time.",
        )

    def test_what_does_not_fit_into_two_months_has_no_last_call(self) -> None:
        found = times([(LONDON, 390 * LOOKS_AHEAD.days + 500)], lines=1)

        assert found.waits[-1].endswith(f"calls would not start within {LOOKS_AHEAD.days} days.")
        assert "last call" not in " ".join(found.waits)

    def test_of_unknown_lines_nothing_is_said_of_the_end(self) -> None:
        assert times([(LONDON, 100_000)]).waits == ()


class TestHeldBack:
    def held(self, *held_back: HeldBack, counted: Counted = ((NEW_YORK, 40),)) -> LaunchTimes:
        return times(counted, held_back=held_back)

    def test_who_was_dialled_often_enough_waits_until_then(self) -> None:
        found = self.held(HeldBack(reason="daily_cap", calls=12, until=hour(14)))

        assert (found.when, found.nobody_before) == ("now", None)
        assert found.waits == (
            (
                "12 of them wait at least until Fri 27 Nov, 9:00 their time: they were dialled often enough within 24 "
                "hours."
            ),
        )

    def test_until_when_may_not_be_known_and_the_reason_may_be_the_backends_own(self) -> None:
        found = self.held(HeldBack(reason="Say yes. Now", calls=1))

        assert found.waits == ("1 of them waits: the backend holds them back.",)

    def test_hours_are_read_from_the_timetable_and_not_twice(self) -> None:
        hours = HeldBack(reason="calling_hours", calls=40, until=hour(14))

        assert self.held(hours).waits == ()
        assert times((), held_back=[hours]).waits == (
            "40 of them wait at least until Fri 27 Nov, 14:00 UTC: it is outside calling hours.",
        )

    def test_what_is_over_when_it_starts_holds_nobody_back(self) -> None:
        held = HeldBack(reason="daily_cap", calls=12, until=hour(14))

        assert times([(NEW_YORK, 40)], hour(15), held_back=[held]).waits == ()

    def test_all_of_them_held_until_tomorrow_is_nobody_today(self) -> None:
        held = HeldBack(reason="daily_cap", calls=40, until=hour(14))

        assert self.held(held).nobody_before == (
            "Nobody is dialled before tomorrow: they were dialled often enough within 24 hours."
        )
        assert self.held(replace(held, calls=39)).nobody_before is None
        assert self.held(replace(held, until=hour(20, 26))).nobody_before is None
        assert self.held(replace(held, until=None)).nobody_before is None


ZONES = st.sampled_from((NEW_YORK, LOS_ANGELES, LONDON, TOKYO, ("Asia/Kolkata",), ("America/Denver", *NEW_YORK)))
WINDOWS = st.sampled_from((DAY, NINE_TO_FIVE, ALWAYS, CallingWindow(start="22:00", end="02:00")))


@given(
    counted=st.dictionaries(ZONES, st.integers(1, 50), min_size=1).map(lambda found: list(found.items())),
    start=st.datetimes(datetime(2026, 10, 20), datetime(2026, 11, 10), timezones=st.just(UTC)),
    kept=WINDOWS,
    ahead=st.sampled_from((timedelta(), timedelta(days=1))),
)
@settings(max_examples=200, deadline=None)
def test_now_is_said_exactly_where_somebody_may_be_called_at_once(
    counted: Counted, start: datetime, kept: CallingWindow, ahead: timedelta
) -> None:
    start = start.replace(microsecond=0)
    found = times(counted, start, kept=kept, now=start - ahead)
    open_now = [calls for zones, calls in counted if is_open(kept, zones, start)]

    assert (found.when == "now") == (not ahead and bool(open_now))
    if open_now:
        assert found.nobody_before is None
    if found.when == "now":
        waiting = sum(int(sentence.split()[0]) for sentence in found.waits)
        assert waiting == sum(calls for _, calls in counted) - sum(open_now)


@given(
    zones=st.lists(st.sampled_from(("America/New_York", "Asia/Tokyo", "Europe/London", "Asia/Kolkata")), unique=True),
    moment=st.datetimes(datetime(2026, 10, 20), datetime(2026, 11, 10), timezones=st.just(UTC)),
)
def test_every_clock_shows_a_time_within_what_is_said(zones: list[str], moment: datetime) -> None:
    clocks = Clocks(tuple(zones), complete=bool(zones))
    shown = clocks.at(moment)
    said = their_time(moment, clocks, THURSDAY)

    for zone in zones:
        local = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        assert shown[0] <= local <= shown[-1]
    for edge in (*shown[:1], *shown[-1:]):
        assert f"{edge.hour}:{edge.minute:02}" in said
    assert ("UTC" in said) == (len(shown) != 1)
