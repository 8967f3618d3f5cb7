"""Moments as people and models write them become one aware UTC moment, or a clear error."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.batch_calls.timestamps import read_moment, read_start
from batchcall_mcp.errors import InvalidInput

NINE = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "timezone"),
    [
        ("2026-11-24T09:00-05:00", None),
        ("2026-11-24T14:00:00Z", None),
        (" 2026-11-24 14:00+00:00 ", None),
        ("2026-11-24T09:00", "America/New_York"),
        (1795528800, None),
        (1795528800000, None),
        ("1795528800", None),
        ("1795528800000", None),
        (1795528800.0, None),
    ],
)
def test_every_spelling_is_the_same_moment(value: str | float, timezone: str | None) -> None:
    assert read_moment(value, timezone) == NINE


def test_an_offset_wins_over_a_timezone() -> None:
    assert read_moment("2026-11-24T09:00-05:00", "Asia/Tokyo") == NINE


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2026-11-24T09:00", "has no offset"),
        ("tomorrow at 9", "is not a time"),
        ("", "is not a time"),
        ("2026-13-01T09:00Z", "is not a time"),
        (10**30, "not a time that exists"),
        ("nan", "is not a time"),
        ("0001-01-01T00:00+14:00", "not a time that exists"),
        ("9999-12-31T23:59-14:00", "not a time that exists"),
        ("²", "is not a time"),
        ("--5", "is not a time"),
        ("٣", "is not a time"),
    ],
)
def test_a_bad_one_names_the_field_and_says_that_nothing_was_sent(value: str | float, words: str) -> None:
    with pytest.raises(InvalidInput, match=r"^trigger_timestamp: .*Nothing was sent") as caught:
        read_moment(value, None)
    assert words in str(caught.value)


def test_an_abbreviated_zone_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(InvalidInput, match="America/Los_Angeles"):
        read_moment("2026-11-24T09:00", "PST")


@pytest.mark.parametrize("value", ["now", "NOW", " now "])
def test_now_is_a_word_of_its_own(value: str) -> None:
    assert read_start(value).now


@given(st.datetimes(min_value=datetime(1980, 1, 1), max_value=datetime(2200, 1, 1)))
def test_any_moment_comes_back_from_its_own_iso_form(naive: datetime) -> None:
    moment = naive.replace(tzinfo=UTC)

    assert read_moment(moment.isoformat(), None) == moment


@given(st.text(max_size=30) | st.floats() | st.integers())
def test_nothing_but_invalid_input_is_ever_raised(value: str | float) -> None:
    with suppress(InvalidInput):
        assert read_moment(value, "UTC").tzinfo is UTC
