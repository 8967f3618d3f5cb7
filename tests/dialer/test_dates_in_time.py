"""What the dialer starts, with dates, held to the clocks on the walls of those who are dialled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchcall_mcp.clock import to_ms
from batchcall_mcp.dialer.domain.records import NewTask
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.engine import claims
from batchcall_mcp.dialer.storage import commands, queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import tasks
from batchcall_mcp.model import TaskStatus
from tests.dialer.test_rules_in_time import CHANGES, ZONES, utc

ZONED = (*ZONES, "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Tokyo")
TOLL_FREE = "+18002000000"
WINDOWS = ({"start": "00:00", "end": "24:00"}, {"start": "09:00", "end": "17:00"}, {"start": "22:00", "end": "06:00"})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store.open(tmp_path_factory.mktemp("dates") / "dialer.db")
    yield opened
    opened.close()


@st.composite
def days(draw: st.DrawFn) -> date:
    """A date near a change of some clock."""
    change = utc(draw(st.sampled_from([one for changes in CHANGES.values() for one in changes])))
    return (change + timedelta(days=draw(st.integers(-1, 1)))).date()


def may_be_dialled(zone: str, window: dict[str, str], moment: datetime, first: date | None, last: date | None) -> bool:
    """By what the clock on the wall shows."""
    local = moment.astimezone(ZoneInfo(zone))
    shown = f"{local:%H:%M}"
    start, end = window["start"], window["end"]
    inside = start <= shown < end if start < end else shown >= start or shown < end
    return inside and (first is None or first <= local.date()) and (last is None or local.date() <= last)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(ZONED), min_size=1, max_size=5, unique=True),
    days(),
    st.integers(0, 1),
    st.booleans(),
    st.sampled_from(WINDOWS),
    st.lists(st.integers(-26 * 60, 52 * 60), min_size=1, max_size=12, unique=True).map(sorted),
    st.integers(-10, 40) | st.none(),
)
@example(
    ["Pacific/Apia", "Pacific/Pago_Pago"], date(2011, 12, 30), 0, True, WINDOWS[0], [-1000, 0, 600, 660, 1300], None
)
def test_who_is_dialled_is_dialled_on_the_date_inside_the_window_and_not_before_it_was_promised(
    store: Store,
    zones: list[str],
    first: date,
    longer: int,
    begins: bool,
    window: dict[str, str],
    minutes: list[int],
    promised: int | None,
) -> None:
    last, midnight = first + timedelta(days=longer), datetime(first.year, first.month, first.day, tzinfo=UTC)
    not_before = None if promised is None else midnight + timedelta(hours=promised)
    numbers = {f"+1213200{at:03}0": zone for at, zone in enumerate(zones)}
    columns: dict[str, Any] = {
        "status": State.SENT,
        "from_number": "+14157774444",
        "max_concurrency": 100,
        "window": {**window, "days": list(range(7)), "timezone": "recipient"},
        "trigger_date": str(first) if begins else None,
        "expires_date": str(last),
    }
    people = [
        NewTask(to_number=number, timezone=zone, not_before=None if not_before is None else to_ms(not_before))
        for number, zone in numbers.items()
    ]
    left = dict(numbers)
    with store.writing() as tx:
        made = commands.create(tx, "org", columns, [*people, NewTask(to_number=TOLL_FREE)], 0)
        for minute in minutes:
            now = midnight + timedelta(minutes=minute)
            started = claims.start_due(tx, made, 50, now=now, daily_cap=3, worker_id="w").started
            dialled = {attempt.to_number for attempt in started} - {TOLL_FREE}
            may = {
                number
                for number, zone in left.items()
                if may_be_dialled(zone, window, now, first if begins else None, last)
                and (not_before is None or now >= not_before)
            }
            assert dialled == may, now
            for number in may:
                del left[number]
        over = midnight + timedelta(days=longer + 3)
        assert claims.start_due(tx, made, 50, now=over, daily_cap=3, worker_id="w").started == []
        ended = tx.execute(
            sa.select(tasks.c.to_number, tasks.c.status).where(tasks.c.batch_call_id == made.batch_call_id)
        )
        waiting = {row.to_number for row in ended if row.status == TaskStatus.PENDING}
        assert waiting == set(), "who was not dialled by the end has expired"
        assert queries.get(tx, "org", made.batch_call_id).trigger_date == columns["trigger_date"]
        tx.rollback()
