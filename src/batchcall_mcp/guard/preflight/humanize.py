"""Moments and spans as people say them. Pure."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

MINUTE_FORMAT: Final = "%Y-%m-%d %H:%M UTC"
_SECOND, _MINUTE, _HOUR, _DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_MOST_SECONDS = _MOST_MINUTES = 100
_MOST_HOURS = 48
_TO_THE_MINUTE = 10
_MOST_FIVES = 90
_TO_HALF_AN_HOUR = 10


def minute(moment: datetime) -> str:
    """Of a moment in UTC: `2026-11-24 14:00 UTC`."""
    return moment.strftime(MINUTE_FORMAT)


def day_and_minute(moment: datetime) -> str:
    """Of a moment in UTC: `Tue 24 Nov 2026 14:00 UTC`."""
    return f"{moment:%a} {moment.day} {moment:%b %Y %H:%M UTC}"


def day(moment: date, now: datetime) -> str:
    """Of a moment on any clock: `Fri 27 Nov`, with the year where that is not this year's."""
    return f"{moment:%a} {moment.day} {moment:%b}" + ("" if moment.year == now.year else f" {moment.year}")


def clock(moment: datetime) -> str:
    """The time of a moment on any clock: `9:00`."""
    return f"{moment.hour}:{moment.minute:02}"


def clock_after(span: timedelta) -> str:
    """The time that a clock shows so long after midnight: `9:00`, `24:00`, and `2:00` of the next day."""
    minutes = span // _MINUTE
    if minutes > _DAY // _MINUTE:
        minutes -= _DAY // _MINUTE
    return f"{minutes // 60}:{minutes % 60:02}"


def in_words(moment: datetime, now: datetime) -> str:
    """`now`, or `Tue 24 Nov 2026 14:00 UTC, in 19 hours`."""
    return "now" if moment <= now else f"{day_and_minute(moment)}, in {distance(moment - now)}"


def distance(span: timedelta) -> str:
    """A span to a moment that stands next to it: `40 seconds`, `19 hours`."""
    if (seconds := round(span / _SECOND)) < _MOST_SECONDS:
        return counted(seconds, "second")
    if (minutes := round(span / _MINUTE)) < _MOST_MINUTES:
        return counted(minutes, "minute")
    if (hours := round(span / _HOUR)) < _MOST_HOURS:
        return counted(hours, "hour")
    return counted(round(span / _DAY), "day")


def about(span: timedelta) -> str:
    """A span that nobody knows exactly: `about 40 minutes`, `about 2.5 hours`."""
    if span < _TO_THE_MINUTE * _MINUTE:
        return f"about {counted(max(1, round(span / _MINUTE)), 'minute')}"
    if (minutes := 5 * round(span / (5 * _MINUTE))) <= _MOST_FIVES:
        return f"about {counted(minutes, 'minute')}"
    if (halves := round(span / (_HOUR / 2))) < 2 * _TO_HALF_AN_HOUR:
        return f"about {halves / 2:g} hours"
    if (hours := round(span / _HOUR)) <= _MOST_HOURS:
        return f"about {counted(hours, 'hour')}"
    return f"about {counted(round(span / _DAY), 'day')}"


def counted(number: int, word: str, words: str | None = None) -> str:
    """`1 call`, `3 calls`; `words` where an s does not do."""
    return f"{number:,} {word if number == 1 else words or word + 's'}"
