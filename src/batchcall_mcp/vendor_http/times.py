"""Moments and calling windows as vendors write them. Rounded up: nothing is due before what was confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from batchcall_mcp.clock import to_ms
from batchcall_mcp.model import CallingWindow, Weekday

DAY_NAMES: Final[Mapping[Weekday, str]] = {
    "mon": "Monday",
    "tue": "Tuesday",
    "wed": "Wednesday",
    "thu": "Thursday",
    "fri": "Friday",
    "sat": "Saturday",
    "sun": "Sunday",
}


def epoch_ms(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return to_ms(moment)


def epoch_s(moment: datetime) -> int:
    """Whole seconds since 1970."""
    return -(-to_ms(moment) // 1000)


def iso_z(moment: datetime) -> str:
    """ISO 8601 in UTC to the millisecond: `2026-07-04T16:00:00.000Z`."""
    utc = moment.astimezone(UTC)
    up = utc + timedelta(microseconds=-utc.microsecond % 1000)
    return up.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_offset(moment: datetime, zone: str = "UTC") -> str:
    """ISO 8601 to the second with a numeric offset: `2026-07-04T18:00:00+02:00`; UTC is `+00:00`."""
    local = moment.astimezone(ZoneInfo(zone))
    return (local + timedelta(microseconds=-local.microsecond % 1_000_000)).isoformat(timespec="seconds")


def minutes_of(clock: str) -> int:
    """Minutes since midnight of `HH:MM`, up to 1440."""
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def clock_of(minutes: int) -> str:
    """`HH:MM` of minutes since midnight."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def next_mark(moment: datetime, step: timedelta) -> datetime:
    """The first multiple of `step` within an hour that is not before `moment`."""
    begin = moment.replace(minute=0, second=0, microsecond=0)
    return begin + -((begin - moment) // step) * step


def days_of(window: CallingWindow) -> list[str]:
    """Its days by their English names."""
    return [DAY_NAMES[day] for day in DAY_NAMES if day in window.days]
