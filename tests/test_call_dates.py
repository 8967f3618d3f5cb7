"""On which dates somebody may be called: held to what their clocks show, through daylight saving and the date line."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import example, given
from hypothesis import strategies as st

from batchcall_mcp.call_dates import CallDates, earliest, latest
from batchcall_mcp.calling_hours import is_open
from batchcall_mcp.model import CallingWindow

ALWAYS = CallingWindow(start="00:00", end="24:00")
NINE_TO_FIVE = CallingWindow(start="09:00", end="17:00")
NIGHT = CallingWindow(start="22:00", end="06:00")
ZONES = (  # noqa: SIM905
    "Africa/Cairo Africa/Casablanca America/Havana America/New_York America/Santiago America/Sao_Paulo "
    "America/St_Johns Asia/Beirut Asia/Kathmandu Australia/Lord_Howe Europe/London Pacific/Apia Pacific/Auckland "
    "Pacific/Chatham Pacific/Honolulu Pacific/Kiritimati Pacific/Kwajalein Pacific/Pago_Pago Etc/GMT+12"
).split()

one_zone = st.sampled_from(ZONES)
places = st.lists(one_zone, min_size=1, max_size=3, unique=True).map(tuple)
days = st.dates(date(1990, 1, 1), date(2037, 12, 1))
windows = st.sampled_from(
    [ALWAYS, NINE_TO_FIVE, NIGHT, CallingWindow(start="09:00", end="17:00", timezone="Asia/Tokyo")]
)


def shows(zones: tuple[str, ...], moment: datetime, first: date | None, last: date | None) -> bool:
    """Whether all these clocks show one of the dates: what the code is held to."""
    shown = [moment.astimezone(ZoneInfo(zone)).date() for zone in zones]
    return all((first is None or first <= one) and (last is None or one <= last) for one in shown)


@given(places, days, st.integers(0, 12), st.integers(-60, 24 * 14 + 60), st.integers(0, 3599), st.sampled_from("bfl"))
@example(("Pacific/Apia",), date(2011, 12, 30), 0, 5, 0, "b")  # a day that was skipped
@example(("America/Sao_Paulo",), date(2018, 2, 17), 0, 27, 1800, "b")  # its last hour came twice
@example(("America/St_Johns",), date(2007, 11, 3), 0, 28, 0, "b")  # a minute of the next day came before it
@example(("America/Havana", "America/New_York"), date(2026, 11, 1), 0, 29, 1, "b")
def test_a_moment_is_on_the_dates_exactly_if_all_clocks_show_one_of_them(
    zones: tuple[str, ...], first: date, length: int, hours: int, seconds: int, bounded: str
) -> None:
    last = first + timedelta(days=length)
    sides: dict[str, tuple[date | None, date | None]] = {"b": (first, last), "f": (first, None), "l": (None, last)}
    bounds = sides[bounded]
    dates = CallDates(first=bounds[0], last=bounds[1])
    moment = datetime(first.year, first.month, first.day, tzinfo=UTC) + timedelta(hours=hours - 14, seconds=seconds)
    assert dates.allow(ALWAYS, zones, moment) == shows(zones, moment, *bounds)


@given(places, days, st.integers(0, 2), st.integers(-40, 90), windows, st.integers(0, 40) | st.none())
def test_the_next_call_is_the_first_moment_that_hours_and_dates_allow(
    zones: tuple[str, ...], first: date, length: int, hours: int, window: CallingWindow, later: int | None
) -> None:
    last = first + timedelta(days=length)
    dates = CallDates(first=first, last=last)
    now = datetime(first.year, first.month, first.day, tzinfo=UTC) + timedelta(hours=hours)
    not_before = None if later is None else now + timedelta(hours=later)
    clocks = zones if window.timezone == "recipient" else (window.timezone,)

    def may(moment: datetime) -> bool:
        open_ = is_open(window, zones, moment) and shows(clocks, moment, first, last)
        return open_ and (not_before is None or moment >= not_before)

    opens = dates.next_open(window, zones, now, not_before)
    if opens is not None:
        assert opens >= now
        assert may(opens)
    # Every clock change and every window begins at a full quarter of an hour, in the years that are drawn.
    quarter = now
    while quarter < (opens or now + timedelta(days=length + 4)):
        assert not may(quarter), quarter
        quarter += timedelta(minutes=15)


@given(places, days, windows)
def test_nobody_is_called_from_the_end_on_and_somebody_could_be_until_then(
    zones: tuple[str, ...], day: date, window: CallingWindow
) -> None:
    dates = CallDates(last=day)
    end = dates.end(window, zones)
    clocks = zones if window.timezone == "recipient" else (window.timezone,)
    assert end is not None
    assert not dates.allow(window, zones, end)
    assert not dates.allow(window, zones, end + timedelta(hours=25))
    assert shows(clocks, end - timedelta(seconds=1), None, day)
    assert latest(dates, window, [zones, ()]) == end


def test_tomorrow_begins_in_auckland_and_ends_in_honolulu() -> None:
    dates = CallDates(first=date(2026, 11, 27), last=date(2026, 11, 27))
    everywhere = [("Pacific/Auckland",), ("Europe/London",), ("Pacific/Honolulu",)]
    now = datetime(2026, 11, 26, 12, tzinfo=UTC)
    assert earliest(dates, NINE_TO_FIVE, everywhere, now) == datetime(2026, 11, 26, 20, tzinfo=UTC)
    assert latest(dates, NINE_TO_FIVE, everywhere) == datetime(2026, 11, 28, 10, tzinfo=UTC)
    noon = datetime(2026, 11, 27, 12, tzinfo=UTC)
    assert dates.next_open(NINE_TO_FIVE, everywhere[0], noon) is None  # it is over there
    assert dates.next_open(NINE_TO_FIVE, everywhere[1], noon) == noon
    assert dates.next_open(NINE_TO_FIVE, everywhere[2], noon) == datetime(2026, 11, 27, 19, tzinfo=UTC)


def test_a_number_of_several_zones_is_called_while_it_is_the_date_and_open_in_all() -> None:
    dates = CallDates(first=date(2026, 11, 27), last=date(2026, 11, 27))
    both = ("America/New_York", "Pacific/Honolulu")
    now = datetime(2026, 11, 27, 0, tzinfo=UTC)
    assert dates.next_open(NINE_TO_FIVE, both, now) == datetime(2026, 11, 27, 19, tzinfo=UTC)
    assert dates.next_open(NINE_TO_FIVE, both, datetime(2026, 11, 27, 22, tzinfo=UTC)) is None
    far_apart = ("Pacific/Kiritimati", "Etc/GMT+12")  # never the same date in the same hour
    assert dates.next_open(ALWAYS, far_apart, now - timedelta(days=3)) is None


def test_an_end_that_only_came_of_a_date_moves_with_it_and_one_that_was_given_stays() -> None:
    friday, monday = date(2026, 11, 27), date(2026, 11, 30)
    until = datetime(2026, 12, 1, tzinfo=UTC)
    on_friday = CallDates().moved(says_when=True, first=friday)
    assert on_friday == CallDates(first=friday, last=friday)
    assert on_friday.moved(says_when=True, first=monday) == CallDates(first=monday, last=monday)
    assert on_friday.moved(says_when=True) == CallDates()
    assert on_friday.moved(says_when=False) == on_friday
    assert on_friday.moved(says_when=False, last=monday) == CallDates(first=friday, last=monday)
    assert CallDates(last=monday).moved(says_when=True, first=friday) == CallDates(first=friday, last=monday)
    assert CallDates(until=until).moved(says_when=True, first=friday) == CallDates(first=friday, until=until)
    assert CallDates(last=monday).moved(says_when=True) == CallDates(last=monday)
