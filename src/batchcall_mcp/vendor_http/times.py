"""Moments and calling windows as vendors write them. Rounded up: nothing is due before what was confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from batchcall_mcp.clock import to_ms
from batchcall_mcp.model import WEEKDAYS, CallingWindow, Weekday
from batchcall_mcp.vendor_http.json_values import rows, text, time_of_day

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


def next_mark(moment: datetime, step: timedelta) -> datetime:
    """The first multiple of `step` within an hour that is not before `moment`."""
    begin = moment.replace(minute=0, second=0, microsecond=0)
    return begin + -((begin - moment) // step) * step


def days_of(window: CallingWindow) -> list[str]:
    """Its days by their English names."""
    return [DAY_NAMES[day] for day in DAY_NAMES if day in window.days]


def slots_of(window: CallingWindow, day: str, start: str, end: str) -> list[dict[str, Any]]:
    """A window as a vendor's list of weekly slots, by the names of its members; 0 is Monday."""
    days = [number for number, name in enumerate(WEEKDAYS) if name in window.days]
    return [{day: number, start: window.start, end: window.end} for number in days]


def window_of(slots: Any, day: str, start: str, end: str, zone: Any) -> tuple[CallingWindow | None, tuple[str, ...]]:
    """The window that `slots_of` writes, and a note where there is one that has other hours on some days."""
    found = rows(slots)[0]
    hours = {(time_of_day(slot.get(start)), time_of_day(slot.get(end))) for slot in found}
    opens, closes = hours.pop() if len(hours) == 1 else (None, None)
    timezone, numbers = text(zone), [slot.get(day) for slot in found]
    if opens is None or closes is None or timezone is None:
        return None, ("Its calling hours differ by day, and are not shown.",) if found else ()
    days = tuple(name for number, name in enumerate(WEEKDAYS) if number in numbers)
    return CallingWindow(start=opens, end=closes, days=days, timezone=timezone), ()
