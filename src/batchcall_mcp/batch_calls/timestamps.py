"""Reading the moments that people and models write. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from batchcall_mcp.calling_hours import check_timezone
from batchcall_mcp.errors import InvalidInput

_MILLISECONDS_FROM = 100_000_000_000  # as seconds, that is the year 5138
_EPOCH = re.compile(r"-?[0-9]{1,20}(\.[0-9]{0,20})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FIRST_YEAR, _LAST_YEAR = 1971, 2200
_EXAMPLE = "2026-11-24T09:00-05:00"


def read_moment(value: str | float, timezone: str | None, field: str = "trigger_timestamp") -> datetime:
    """Read ISO 8601 or an epoch (seconds or milliseconds by magnitude) as aware UTC.

    Args:
        value: what was given.
        timezone: IANA name that reads a time without an offset; None refuses such a time.
        field: the argument's name, for the error.

    Raises:
        InvalidInput: naming the field; nothing was sent.
    """
    if isinstance(value, str) and not _EPOCH.fullmatch(value.strip()):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise InvalidInput(
                f"{field}: {value[:60]!r} is not a time. Write ISO 8601 with an offset, such as {_EXAMPLE}, or an "
                "epoch. Nothing was sent."
            ) from None
        _check_exists(moment, value, field)
        if moment.tzinfo is None:
            if timezone is None:
                raise InvalidInput(
                    f"{field}: {value[:60]!r} has no offset, so the time zone is not known. Write it as "
                    f"{_EXAMPLE}, or name a timezone where the tool takes one. Nothing was sent."
                )
            moment = moment.replace(tzinfo=ZoneInfo(check_timezone(timezone)))
        return moment.astimezone(UTC)
    number = float(value)
    try:
        return datetime.fromtimestamp(number / 1000 if abs(number) >= _MILLISECONDS_FROM else number, UTC)
    except (OverflowError, ValueError, OSError):
        raise InvalidInput(f"{field}: {str(value)[:60]} is not a time that exists. Nothing was sent.") from None


def _check_exists(moment: datetime, value: str, field: str) -> None:
    """The first and the last day of the calendar have no room for an offset."""
    if not datetime.min.date() < moment.date() < datetime.max.date():
        raise InvalidInput(f"{field}: {value[:60]} is not a time that exists. Nothing was sent.")


@dataclass(frozen=True, slots=True)
class When:
    """A moment (aware UTC), or a date on each called person's own clock; neither: now."""

    at: datetime | None = None
    on: date | None = None

    @property
    def now(self) -> bool:
        """Neither of them."""
        return self.at is None and self.on is None


def read_when(value: str | float, timezone: str | None, field: str = "trigger_timestamp") -> When:
    """Read a date, such as `2026-11-27`, or as `read_moment`.

    Raises:
        InvalidInput: naming the field; nothing was sent.
    """
    if isinstance(value, str) and _DATE.fullmatch(value.strip()):
        try:
            day = date.fromisoformat(value.strip())
        except ValueError:
            raise InvalidInput(f"{field}: {value.strip()} is not a date that exists. Nothing was sent.") from None
        if not _FIRST_YEAR <= day.year < _LAST_YEAR:
            raise InvalidInput(f"{field}: {day} is not a date from 1971 to 2199. Nothing was sent.")
        return When(on=day)
    return When(at=read_moment(value, timezone, field))


def read_start(value: str | float, timezone: str | None = None) -> When:
    """Read the time of a launch: `"now"`, or as `read_when`."""
    if isinstance(value, str) and value.strip().lower() == "now":
        return When()
    return read_when(value, timezone)
