"""500 people in five zones on two continents, nine to five their time, through a change of daylight saving."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage.store import Store
from tests.dialer.conftest import emptied_postgresql, eventually
from tests.dialer.test_wire import counting
from tests.dialer.wire import Wire
from tests.dialer.wired import Desk
from tests.sampling import EVERYTHING

ZONES = {
    "+1213200": "America/Los_Angeles",
    "+1312200": "America/Chicago",
    "+1212200": "America/New_York",
    "+4930200": "Europe/Berlin",
    "+4420790": "Europe/London",
}
EACH = 100 if EVERYTHING else 12
"""People of each zone."""
LASTS = {"+4930200": 4, "+4420790": 5}
"""How many digits follow where it is not four."""
CHANGES = {
    "Europe, in spring": datetime(2026, 3, 27, 6, 0, tzinfo=UTC),
    "America, in autumn": datetime(2026, 10, 30, 6, 0, tzinfo=UTC),
}
"""A Friday morning in Berlin; the clocks change on Sunday, and nobody is called on a weekend."""
NINE, FIVE = time(9), time(17)


def people() -> list[str]:
    return [f"{prefix}{number:0{LASTS.get(prefix, 4)}d}" for prefix in ZONES for number in range(EACH)]


def zone_of(number: str) -> ZoneInfo:
    return ZoneInfo(next(zone for prefix, zone in ZONES.items() if number.startswith(prefix)))


class Stepping:
    """A clock that a test moves, and, a little, everybody who looks at it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=2)
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


CASES = [(database, change) for database in ("sqlite", "postgresql") for change in CHANGES]


@pytest.mark.parametrize(("database", "change"), CASES if EVERYTHING else CASES[:1])
async def test_nobody_is_rung_outside_nine_to_five_their_time(database: str, change: str, tmp_path: Path) -> None:
    """The time passes while they are called, and, for some, while the connection to the vendor opens."""
    clock = Stepping(CHANGES[change])
    where = emptied_postgresql() if database == "postgresql" else tmp_path / "dialer.db"
    desk = Desk(Store.open(where, clock))
    late: set[str] = set()

    async def connects(attempt: Attempt) -> None:
        if int(attempt.to_number[-3:]) % 7 == 0 and attempt.to_number not in late:
            late.add(attempt.to_number)
            clock.forward(minutes=4)

    async def rings(_attempt: Attempt) -> None:
        clock.forward(minutes=450 / EACH)

    wire = Wire(tmp_path, clock=clock, trouble=connects, answered=rings, calls_per_second=1e3, speed=1e6)
    dispatch, looks = counting()
    window = {"start": "09:00", "end": "17:00", "days": [1, 2, 3, 4, 5], "timezone": "recipient"}
    key = desk.running(people(), window=window, max_concurrency=1)
    async with desk.engine(wire, dispatch=dispatch):
        while desk.record(key).status is not State.COMPLETED:
            rung, seen = wire.count(), len(looks)
            await eventually(lambda seen=seen: len(looks) >= seen + 2)  # type: ignore[misc]
            if wire.count() == rung:
                clock.forward(minutes=29)
    calls = wire.calls()
    assert len({call["to_number"] for call in calls}) == len(calls) == len(ZONES) * EACH
    days = Counter[int]()
    for call in calls:
        local = datetime.fromisoformat(call["at"]).astimezone(zone_of(call["to_number"]))
        assert NINE <= local.time() < FIVE, f"{call['to_number'][:5]} at {local}"
        days[local.isoweekday()] += 1
    assert set(days) <= {1, 2, 3, 4, 5}
    assert min(days[5], days[1]) > EACH, "many of them before the change, and many after it"
    desk.store.close()
