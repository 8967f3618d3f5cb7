"""Calling hours: zones of numbers, windows on people's own clocks, and the next moment a call may start."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall_mcp.calling_hours import (
    check_timezone,
    check_window,
    is_open,
    is_timezone,
    next_open,
    parse_calling_hours,
    recipient_zones,
    zones_of,
)
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import WEEKDAYS, CallingWindow, Weekday

MINUTE = timedelta(minutes=1)
NEW_YORK = ("America/New_York",)
# Days on which clocks change, in zones that do it at one, two, three and at midnight, by an hour and by half of one.
CHANGES = (
    ("America/New_York", datetime(2026, 3, 8, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, tzinfo=UTC)),
    ("Europe/London", datetime(2026, 3, 29, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 4, 5, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 9, 6, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(2026, 6, 1, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, tzinfo=UTC)),
)


def window(start: str, end: str, days: tuple[Weekday, ...] = WEEKDAYS, timezone: str = "recipient") -> CallingWindow:
    return CallingWindow(start=start, end=end, days=days, timezone=timezone)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def open_by_the_clock(asked: CallingWindow, zone: str, moment: datetime) -> bool:
    """What somebody with a clock and a calendar on the wall would say."""
    local = moment.astimezone(ZoneInfo(zone))
    now = f"{local.hour:02}:{local.minute:02}"
    today, yesterday = WEEKDAYS[local.weekday()], WEEKDAYS[local.weekday() - 1]
    if asked.start < asked.end:
        return asked.start <= now < asked.end and today in asked.days
    return (now >= asked.start and today in asked.days) or (now < asked.end and yesterday in asked.days)


clock_times = st.builds(lambda h, m: f"{h:02}:{m:02}", st.integers(0, 23), st.sampled_from((0, 1, 15, 30, 45, 59)))
day_sets = st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True).map(tuple)
windows = st.builds(window, clock_times, clock_times | st.just("24:00"), day_sets).filter(lambda w: w.start != w.end)


class TestZonesOfANumber:
    def test_a_geographic_number_has_the_zone_of_its_area_code(self) -> None:
        assert zones_of("+14155550100") == ("America/Los_Angeles",)

    def test_a_country_of_one_zone_has_that_zone(self) -> None:
        assert zones_of("+442079460018") == ("Europe/London",)

    def test_a_number_of_no_place_has_all_zones_of_its_country(self) -> None:
        zones = zones_of("+18005550100")
        assert {"America/New_York", "Pacific/Honolulu"} <= set(zones)

    @pytest.mark.parametrize("number", ["+80012345678", "+999123", "+", "", "abc", "+1", "+1415"])
    def test_an_unknown_number_has_none(self, number: str) -> None:
        assert zones_of(number) == ()

    def test_a_leading_zero_belongs_to_the_number(self) -> None:
        assert zones_of("+390236618300") == ("Europe/Rome",)

    def test_every_zone_of_the_prefix_data_can_be_used(self) -> None:
        from phonenumbers.tzdata import TIMEZONE_DATA

        assert [zone for zones in TIMEZONE_DATA.values() for zone in zones if not is_timezone(zone)] == []

    def test_the_tasks_own_zone_comes_first_then_the_prefix_then_the_batch_call(self) -> None:
        assert recipient_zones("+14155550100", "Asia/Tokyo", "Europe/Paris") == ("Asia/Tokyo",)
        assert recipient_zones("+14155550100", None, "Europe/Paris") == ("America/Los_Angeles",)
        assert recipient_zones("+80012345678", None, "Europe/Paris") == ("Europe/Paris",)
        assert recipient_zones("+80012345678", None, None) == ()


class TestTimeZoneNames:
    @pytest.mark.parametrize(
        "name", ["America/New_York", "UTC", "Etc/UTC", "America/Argentina/Ushuaia", " Asia/Tokyo "]
    )
    def test_iana_names_pass(self, name: str) -> None:
        assert check_timezone(name) == name.strip()

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("PST", "America/Los_Angeles"),
            ("pdt", "America/Los_Angeles"),
            ("EST", "America/New_York"),
            ("EST5EDT", "America/New_York"),
            ("CET", "Europe/Paris"),
            ("Eastern Standard Time", "America/New_York"),
            ("W. Europe Standard Time", "Europe/Berlin"),
            ("america/los_angeles", "America/Los_Angeles"),
            ("America/Los Angeles", "America/Los_Angeles"),
            ("Los Angeles", "America/Los_Angeles"),
            ("America/Los_Angelos", "America/Los_Angeles"),
            ("berlin", "Europe/Berlin"),
            ("utc", "UTC"),
        ],
    )
    def test_what_people_write_instead_is_refused_with_what_they_meant(self, written: str, meant: str) -> None:
        with pytest.raises(InvalidInput, match=f"^timezone: .*did you mean {meant}\\? Nothing was sent"):
            check_timezone(written)

    @pytest.mark.parametrize(
        "name", ["", "UTC+2", "+02:00", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "a\0b"]
    )
    def test_what_is_no_zone_is_refused_naming_the_field(self, name: str) -> None:
        with pytest.raises(InvalidInput, match=r"^window\.timezone: .* is not the IANA name"):
            check_timezone(name, "window.timezone")

    @given(st.text(max_size=300))
    def test_any_text_is_a_zone_or_invalid_input(self, text: str) -> None:
        try:
            assert ZoneInfo(check_timezone(text)).key == text.strip()
        except InvalidInput as error:
            assert len(error.message) < 300  # noqa: PT017


class TestCheckingAWindow:
    @pytest.mark.parametrize("good", [window("09:00", "17:00"), window("22:00", "06:00"), window("00:00", "24:00")])
    def test_a_sensible_window_is_given_back(self, good: CallingWindow) -> None:
        assert check_window(good) is good

    @pytest.mark.parametrize(
        ("bad", "says"),
        [
            (window("9:00", "17:00"), r'window\.start: "9:00"'),
            (window("09:00", "25:00"), r'window\.end: "25:00"'),
            (window("09:00", "24:01"), r'window\.end: "24:01"'),
            (window("24:00", "09:00"), r"window\.start: .*only be an end"),
            (window("\u0660\u0669:00", "17:00"), r"window\.start"),
            (window("09:00", "09:00"), r'"00:00" to "24:00" for always'),
            (window("09:00", "17:00", days=()), r"window\.days: the list is empty"),
            (window("09:00", "17:00", days=("mon", "mon")), r"window\.days: a day is named twice"),
            (window("09:00", "17:00", days=("monday",)), r'window\.days: "monday" is not a day'),  # type: ignore[arg-type]
            (window("09:00", "17:00", timezone="PST"), r"window\.timezone: .*America/Los_Angeles"),
        ],
    )
    def test_anything_else_is_refused_naming_the_part(self, bad: CallingWindow, says: str) -> None:
        with pytest.raises(InvalidInput, match=says):
            check_window(bad)

    def test_the_setting_is_read_on_every_persons_own_clock(self) -> None:
        assert parse_calling_hours("08:00-21:00") == window("08:00", "21:00")

    @pytest.mark.parametrize("text", ["", "08:00", "08:00-08:00", "8-21", "08:00-21:00-22:00"])
    def test_a_setting_that_is_no_pair_of_times_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidInput):
            parse_calling_hours(text)


class TestOpenAndNextOpen:
    def test_the_start_is_inside_and_the_end_is_not(self) -> None:
        nine_to_five = window("09:00", "17:00")
        assert is_open(nine_to_five, NEW_YORK, utc("2026-06-01T13:00"))
        assert not is_open(nine_to_five, NEW_YORK, utc("2026-06-01T12:59:59.999999"))
        assert not is_open(nine_to_five, NEW_YORK, utc("2026-06-01T21:00"))
        assert is_open(nine_to_five, NEW_YORK, utc("2026-06-01T20:59:59.999999"))

    def test_all_zones_must_be_inside(self) -> None:
        zones = ("America/New_York", "America/Los_Angeles")
        assert next_open(window("09:00", "17:00"), zones, utc("2026-06-01T13:00")) == utc("2026-06-01T16:00")

    def test_zones_that_never_share_an_hour_never_open(self) -> None:
        assert next_open(window("09:00", "12:00"), ("America/New_York", "Asia/Tokyo"), utc("2026-06-01T00:00")) is None

    def test_an_unknown_zone_is_never_open(self) -> None:
        always = window("00:00", "24:00")
        assert not is_open(always, (), utc("2026-06-01T16:00"))
        assert next_open(always, (), utc("2026-06-01T16:00")) is None

    def test_a_zone_of_its_own_overrules_the_persons(self) -> None:
        tokyo = window("09:00", "17:00", timezone="Asia/Tokyo")
        for zones in ((), NEW_YORK):
            assert next_open(tokyo, zones, utc("2026-06-01T12:00")) == utc("2026-06-02T00:00")
            assert is_open(tokyo, zones, utc("2026-06-02T00:00"))

    def test_the_night_belongs_to_the_day_on_which_it_began(self) -> None:
        friday_night = window("22:00", "06:00", days=("fri",))
        saturday_early, friday_early = utc("2026-06-06T05:59"), utc("2026-06-05T05:59")
        assert is_open(friday_night, ("UTC",), saturday_early)
        assert not is_open(friday_night, ("UTC",), friday_early)
        assert next_open(friday_night, ("UTC",), friday_early) == utc("2026-06-05T22:00")
        assert not is_open(friday_night, ("UTC",), utc("2026-06-06T06:00"))

    def test_days_are_the_called_persons_days(self) -> None:
        monday = window("00:00", "24:00", days=("mon",))
        assert next_open(monday, ("Pacific/Auckland",), utc("2026-06-06T00:00")) == utc("2026-06-07T12:00")

    def test_a_time_that_the_clock_skips_is_never_inside(self) -> None:
        skipped = window("02:15", "02:45")
        assert next_open(skipped, NEW_YORK, utc("2026-03-08T05:00")) == utc("2026-03-09T06:15")

    def test_a_window_over_a_gap_opens_when_the_clock_has_jumped_into_it(self) -> None:
        assert next_open(window("02:30", "04:00"), NEW_YORK, utc("2026-03-08T05:00")) == utc("2026-03-08T07:00")

    def test_a_time_that_the_clock_shows_twice_is_inside_twice(self) -> None:
        early = window("01:30", "02:30")
        assert next_open(early, NEW_YORK, utc("2026-11-01T05:00")) == utc("2026-11-01T05:30")
        assert not is_open(early, NEW_YORK, utc("2026-11-01T06:00"))
        assert next_open(early, NEW_YORK, utc("2026-11-01T06:00")) == utc("2026-11-01T06:30")
        assert not is_open(early, NEW_YORK, utc("2026-11-01T07:30"))

    @pytest.mark.parametrize(("zone", "day"), CHANGES)
    def test_midnight_to_midnight_is_always(self, zone: str, day: datetime) -> None:
        always = window("00:00", "24:00")
        for hours in range(-24, 48):
            moment = day + timedelta(hours=hours)
            assert is_open(always, (zone,), moment)
            assert next_open(always, (zone,), moment) == moment

    def test_nothing_is_promised_behind_the_horizon(self) -> None:
        sundays = window("09:00", "10:00", days=("sun",))
        monday = utc("2026-06-01T00:00")
        assert next_open(sundays, ("UTC",), monday, horizon_days=6) is None
        assert next_open(sundays, ("UTC",), monday, horizon_days=7) == utc("2026-06-07T09:00")

    def test_moments_may_come_with_any_offset_and_leave_in_utc(self) -> None:
        found = next_open(window("09:00", "17:00"), NEW_YORK, datetime(2026, 6, 1, 12, tzinfo=ZoneInfo("Asia/Tokyo")))
        assert found == utc("2026-06-01T13:00")
        assert found.tzinfo is UTC

    @settings(max_examples=150, deadline=None)
    @given(windows, st.sampled_from(CHANGES), st.integers(-26 * 60, 40 * 60))
    def test_a_person_who_looks_at_the_clock_every_minute_agrees(
        self, asked: CallingWindow, change: tuple[str, datetime], offset: int
    ) -> None:
        zone, day = change
        start = day + offset * MINUTE
        wall = [open_by_the_clock(asked, zone, start + minute * MINUTE) for minute in range(1500)]
        assert [is_open(asked, (zone,), start + minute * MINUTE) for minute in range(0, 1500, 7)] == wall[::7]
        found, first = next_open(asked, (zone,), start), wall.index(True) if True in wall else None
        if first is not None:
            assert found == start + first * MINUTE
        else:
            assert found is None or found >= start + 1500 * MINUTE

    @settings(max_examples=150, deadline=None)
    @given(
        windows,
        st.lists(st.sampled_from([zone for zone, _ in CHANGES]), min_size=1, max_size=3),
        st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
    )
    def test_what_is_found_is_open_and_nothing_before_it_is(
        self, asked: CallingWindow, zones: list[str], moment: datetime
    ) -> None:
        found = next_open(asked, zones, moment)
        end = found or moment + timedelta(days=15)
        if found is not None:
            assert is_open(asked, zones, found)
            assert found == moment or not is_open(asked, zones, found - timedelta(microseconds=1))
        step = max((end - moment) / 50, MINUTE)
        earlier = moment
        while earlier < end:
            assert not is_open(asked, zones, earlier)
            earlier += step
