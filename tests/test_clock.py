"""One clock for all rooms: what is rounded, and where seconds end and milliseconds begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from batchcall_mcp.clock import MILLISECONDS_FROM, from_epoch, from_ms, retry_after, to_ms

_NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(("microseconds", "later_ms"), [(0, 0), (1, 1), (499, 1), (999, 1), (1000, 1), (1001, 2)])
def test_a_moment_is_never_rounded_to_one_before_it(microseconds: int, later_ms: int) -> None:
    assert to_ms(_NOON + timedelta(microseconds=microseconds)) == to_ms(_NOON) + later_ms


@pytest.mark.parametrize("moment", [_NOON, datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)])
def test_whole_milliseconds_come_back_as_they_were(moment: datetime) -> None:
    assert from_ms(to_ms(moment)) == moment


def test_what_no_calendar_has_is_its_first_or_last_moment() -> None:
    assert from_ms(10**30).year == datetime.max.year
    assert from_ms(-(10**30)).year == datetime.min.year


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-1.5, datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC)),
        (1_795_521_600, _NOON),
        (1_795_521_600_000, _NOON),
        (1_795_521_600.25, _NOON + timedelta(milliseconds=250)),
        (MILLISECONDS_FROM, datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        (MILLISECONDS_FROM - 1, datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)),
    ],
)
def test_an_epoch_number_is_read_by_its_magnitude(number: float, moment: datetime) -> None:
    assert from_epoch(number) == moment


@pytest.mark.parametrize("number", [1e18, -1e18, 10**400, float("inf"), float("nan")])
def test_a_number_that_no_calendar_has_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match=r"calendar|NaN"):
        from_epoch(number)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        (" 1.5 ", 1.5),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("", None),
        (None, None),
        ("-3", None),
        ("soon", None),
        ("٣", None),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, _NOON) == seconds
