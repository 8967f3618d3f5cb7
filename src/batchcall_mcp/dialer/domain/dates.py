"""When a batch call begins and ends that names dates: worked out from where its people are, at each write. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from batchcall_mcp.call_dates import CallDates, earliest, latest
from batchcall_mcp.calling_hours import RECIPIENT, recipient_zones
from batchcall_mcp.clock import from_ms
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import CallingWindow

_MOST_NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class Person:
    """What matters of a task; `row` counts from 0 in the list, `not_before` is in milliseconds."""

    row: int
    to_number: str
    timezone: str | None
    not_before: int | None


@dataclass(frozen=True, slots=True)
class Times:
    """When the first person may be called, and when it is over for everybody; None: never, or nobody knows."""

    begins: datetime | None
    ends: datetime | None
    first_ends: datetime | None = None
    """When the first date is over for everybody."""


def times(
    dates: CallDates, window: CallingWindow, people: Iterable[Person], batch_timezone: str | None, now: datetime
) -> Times:
    """From when to when these people can be called.

    Raises:
        InvalidInput: a call-back is promised for a moment at which its person is not called any more, naming the row.
    """
    places: set[tuple[str, ...]] = set()
    broken: list[str] = []
    for person in people:
        zones = (
            recipient_zones(person.to_number, person.timezone, batch_timezone) if window.timezone == RECIPIENT else ()
        )
        places.add(zones)
        end = dates.end(window, zones) if person.not_before is not None else None
        if person.not_before is not None and end is not None and from_ms(person.not_before) >= end:
            broken.append(f"tasks.{person.row}.not_before: is not before {end.isoformat()}, when it ends there")
    if broken:
        more = [f"… and {len(broken) - _MOST_NAMED} more"] if len(broken) > _MOST_NAMED else []
        raise InvalidInput(
            "A call-back is promised for when its person is not called any more. Nothing was changed.",
            [*broken[:_MOST_NAMED], *more],
        )
    alone = None if dates.first is None else latest(CallDates(last=dates.first), window, places)
    return Times(earliest(dates, window, places, now), latest(dates, window, places), alone)
