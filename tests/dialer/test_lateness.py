"""A batch call whose engine was away is paused and asks; one that only waits goes on."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from batchcall_mcp.dialer.engine.lateness import Gap, is_late, may_have_been_away
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.model import CallingWindow
from tests.dialer.conftest import ALWAYS, Caller, NewCaller, emptied_postgresql, eventually, numbers, on_sqlite

HOUR = timedelta(hours=1)
MONDAY_NOON = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)
"""12:00 in Los Angeles, where `numbers` are and the test's clock begins."""
OFFICE = {"start": "09:00", "end": "17:00"}
LOOKED = "+1310200"
"""Somebody else each time, so no rule about one number is in the way."""
_LOOKS = count()
LATE: dict[str, Any] = {"late_after": HOUR}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"database": emptied_postgresql()} if request.param == "postgresql" else {}


async def run_once(new_caller: NewCaller, place: dict[str, Any], **others: Any) -> None:
    """A dialer comes, looks, and goes."""
    async with new_caller(**place, **LATE, **others) as caller:
        await looked(caller)


async def looked(caller: Caller) -> None:
    """The engine has looked for work since now: it has dialled somebody who was due."""
    batch_call_id = await caller.create([f"{LOOKED}{next(_LOOKS):03d}0"], send_now=True)
    await caller.until_status(batch_call_id, "completed")


def called(caller: Caller) -> set[str]:
    return {line["to_number"] for line in caller.dialled() if not line["to_number"].startswith(LOOKED)}


async def reason(caller: Caller, batch_call_id: str) -> tuple[str, str | None]:
    found = await caller.get(batch_call_id)
    return found["status"], (found["status_reason"] or {}).get("code")


async def test_slept_through_the_start(new_caller: NewCaller, place: dict[str, Any]) -> None:
    """Scheduled for 13:00, the laptop asleep; on Friday its client opens."""
    async with new_caller(**place, **LATE) as caller:
        batch_call_id = await caller.create(numbers(3), trigger_timestamp=(MONDAY_NOON + HOUR).isoformat())
        await looked(caller)
    caller.clock.forward(days=4)
    async with new_caller(**place, **LATE) as caller:
        data = await caller.until_status(batch_call_id, "paused")
        assert data["status_reason"]["code"] == "late"
        assert "from 2026-11-23 20:00 to 2026-11-27 20:00 UTC" in data["status_reason"]["text"]
        await looked(caller)
        assert called(caller) == set()
        # A person's yes: resumed, it dials at once, and the reason is gone.
        await caller.ask("POST", f"/batch-call/{batch_call_id}/resume")
        done = await caller.until_status(batch_call_id, "completed")
        assert done["status_reason"] is None
        assert called(caller) == set(numbers(3))


async def test_slept_in_the_middle(new_caller: NewCaller, place: dict[str, Any]) -> None:
    """Half done: who was called stays called, the others wait for a yes."""
    async with new_caller(**place, **LATE) as caller:
        batch_call_id = await caller.create(numbers(40), send_now=True, calls_per_second=1)
        await eventually(lambda: len(called(caller)) == 1)
    before = called(caller)
    caller.clock.forward(hours=1, minutes=1)
    async with new_caller(**place, **LATE) as caller:
        data = await caller.until_status(batch_call_id, "paused")
        assert data["status_reason"]["code"] == "late"
        await looked(caller)
        assert called(caller) == before
        assert len(before) == 1


async def test_the_machine_of_a_dialer_that_runs_sleeps(new_caller: NewCaller, place: dict[str, Any]) -> None:
    """The process goes on where it was, hours later; the same is so of a clock that is set forward."""
    async with new_caller(**place, **LATE) as caller:
        batch_call_id = await caller.create(numbers(3), trigger_timestamp=(MONDAY_NOON + HOUR).isoformat())
        await looked(caller)
        caller.clock.forward(hours=5)
        assert (await caller.until_status(batch_call_id, "paused"))["status_reason"]["code"] == "late"
        assert called(caller) == set()


@on_sqlite("place")
async def test_an_hour_late_is_in_time(new_caller: NewCaller, place: dict[str, Any]) -> None:
    async with new_caller(**place, **LATE) as caller:
        batch_call_id = await caller.create(numbers(3), trigger_timestamp=(MONDAY_NOON + HOUR).isoformat())
        await looked(caller)
    caller.clock.forward(hours=2)
    async with new_caller(**place, **LATE) as caller:
        await caller.until_status(batch_call_id, "completed")
        assert called(caller) == set(numbers(3))


@on_sqlite("place")
async def test_away_overnight_is_not_late_for_who_waited_for_the_morning(
    new_caller: NewCaller, place: dict[str, Any]
) -> None:
    """The window was closed but for the last half hour."""
    async with new_caller(**place, **LATE) as caller:
        caller.clock.forward(hours=6)  # 18:00 there
        batch_call_id = await caller.create(numbers(3), send_now=True, window=OFFICE)
        await looked(caller)
    caller.clock.forward(hours=15, minutes=30)  # 9:30 there
    async with new_caller(**place, **LATE) as caller:
        await caller.until_status(batch_call_id, "completed")
        assert called(caller) == set(numbers(3))


@on_sqlite("place")
async def test_a_window_that_opens_later_is_waited_for(new_caller: NewCaller, place: dict[str, Any]) -> None:
    async with new_caller(**place, **LATE) as caller:
        caller.clock.forward(hours=6)  # 18:00 there
        batch_call_id = await caller.create(numbers(3), send_now=True, window=OFFICE)
        await looked(caller)
    caller.clock.forward(hours=10)  # 4:00 there
    async with new_caller(**place, **LATE) as caller:
        await looked(caller)
        assert await reason(caller, batch_call_id) == ("sent", None)
        assert called(caller) == set()
        caller.clock.forward(hours=6)


@on_sqlite("place")
async def test_one_window_of_two_zones_is_looked_at_for_each_person(
    new_caller: NewCaller, place: dict[str, Any]
) -> None:
    """For London it is night all the time; for Los Angeles two hours were missed."""
    async with new_caller(**place, **LATE) as caller:
        london = await caller.create(["+442079460000"], send_now=True, window=OFFICE)
        both = await caller.create(["+442079460010", *numbers(1)], trigger_timestamp=(MONDAY_NOON + HOUR).isoformat())
        await looked(caller)
    caller.clock.forward(hours=3)
    async with new_caller(**place, **LATE) as caller:
        await caller.until_status(both, "paused")
        assert await reason(caller, london) == ("sent", None)


@on_sqlite("place")
async def test_a_clock_that_is_set_back_does_not_count_as_an_absence(
    new_caller: NewCaller, place: dict[str, Any]
) -> None:
    async with new_caller(**place, **LATE) as caller:
        scheduled = await caller.create(numbers(3), trigger_timestamp=(MONDAY_NOON + HOUR).isoformat())
        await looked(caller)
    caller.clock.forward(hours=-30)
    async with new_caller(**place, **LATE) as caller:
        await looked(caller)
        assert await reason(caller, scheduled) == ("scheduled", None)
        caller.clock.forward(minutes=45)
        await looked(caller)
        assert await reason(caller, scheduled) == ("scheduled", None)


@on_sqlite("place")
async def test_a_dialer_that_only_serves_counts_as_away_and_a_yes_that_was_given_meanwhile_counts(
    new_caller: NewCaller, place: dict[str, Any]
) -> None:
    """What is launched, or resumed, while no engine runs is late only from then on."""
    await run_once(new_caller, place)
    async with new_caller(start=False, **place) as desk:
        old = await desk.create(numbers(2), send_now=True)
        resumed = await desk.create(numbers(4)[2:], send_now=True)
        await desk.ask("POST", f"/batch-call/{resumed}/pause")
        desk.clock.forward(hours=3)
        young = await desk.create(numbers(6)[4:], send_now=True)
        await desk.ask("POST", f"/batch-call/{resumed}/resume")
    async with new_caller(**place, **LATE) as caller:
        await caller.until_status(young, "completed")
        await caller.until_status(resumed, "completed")
        assert await reason(caller, old) == ("paused", "late")
        assert called(caller) == set(numbers(6)[2:])


@on_sqlite("place")
async def test_zero_turns_it_off(new_caller: NewCaller, place: dict[str, Any]) -> None:
    async with new_caller(**place) as caller:
        batch_call_id = await caller.create(numbers(3), trigger_timestamp=(MONDAY_NOON + HOUR).isoformat())
        await looked(caller)
    caller.clock.forward(days=4)
    async with new_caller(**place) as caller:
        await caller.until_status(batch_call_id, "completed")


async def test_it_is_decided_once(new_caller: NewCaller, place: dict[str, Any]) -> None:
    """The next dialer finds that an engine ran a moment ago."""
    async with new_caller(**place, **LATE) as caller:
        batch_call_id = await caller.create(numbers(3), trigger_timestamp=(MONDAY_NOON + HOUR).isoformat())
        await looked(caller)
    caller.clock.forward(hours=5)
    async with new_caller(**place, **LATE) as caller:
        await caller.until_status(batch_call_id, "paused")
        await caller.ask("POST", f"/batch-call/{batch_call_id}/resume")
    async with new_caller(**place, **LATE) as caller:
        await caller.until_status(batch_call_id, "completed")
        assert called(caller) == set(numbers(3))


async def test_a_database_of_the_version_before_is_judged_by_what_it_last_wrote(
    new_caller: NewCaller, tmp_path: Path
) -> None:
    """Migration 0004 finds one dial, and after it nothing for four days."""
    async with new_caller(**LATE) as caller:
        batch_call_id = await caller.create(numbers(3), trigger_timestamp=(MONDAY_NOON + HOUR).isoformat())
        await looked(caller)
    downgrade(tmp_path / "dialer.db")
    caller.clock.forward(days=4)
    async with new_caller(**LATE) as caller:
        assert (await caller.until_status(batch_call_id, "paused"))["status_reason"]["code"] == "late"
        assert called(caller) == set()


async def test_a_new_database_is_never_late(new_caller: NewCaller) -> None:
    async with new_caller(**LATE) as caller:
        batch_call_id = await caller.create(numbers(3), send_now=True, window=ALWAYS)
        await caller.until_status(batch_call_id, "completed")


def downgrade(database: Path) -> None:
    """As version 0003 left it."""
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("DROP INDEX attempts_at_carrier")
        for table, columns in {
            "batch_calls": (
                "status_reason",
                "status_reason_text",
                "launched_at",
                "pause_on_failures",
                "first",
                "test_of",
                "trigger_date",
                "expires_date",
                "carrier",
                "erased_at",
            ),
            "tasks": ("not_before", "duration_ms", "answered_by", "choice", "backend_status", "cost", "summary"),
            "attempts": ("carrier", "asked_at", "carrier_call_id"),
        }.items():
            for column in columns:
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.execute("DROP INDEX attempts_ended")
        connection.execute("DROP TABLE dialer_stops")
        connection.execute("DROP TABLE installation")
        connection.execute("DROP TABLE carriers")
        connection.execute("DROP TABLE do_not_call")
        connection.execute("CREATE TABLE do_not_call (to_number VARCHAR PRIMARY KEY, added_at BIGINT NOT NULL)")
        connection.execute("UPDATE dialer_version SET version_num = '0003'")
    connection.close()


NINE_TO_FIVE = CallingWindow(start="09:00", end="17:00")
BERLIN = ("Europe/Berlin",)


@pytest.mark.parametrize(
    ("due", "away", "hours"),
    [
        ("2026-11-24T08:00Z", ("2026-11-24T07:00Z", "2026-11-24T12:00Z"), 4),  # due at 9:00 there
        ("2026-11-24T08:00Z", ("2026-11-24T10:00Z", "2026-11-24T12:00Z"), 2),  # due before the engine went
        ("2026-11-24T13:00Z", ("2026-11-24T10:00Z", "2026-11-24T12:00Z"), 0),  # due after it came back
        ("2026-11-23T10:00Z", ("2026-11-23T15:00Z", "2026-11-24T09:00Z"), 2),  # the night does not count
    ],
)
def test_only_the_hours_inside_the_window_are_missed(due: str, away: tuple[str, str], hours: float) -> None:
    gap = Gap(*map(datetime.fromisoformat, away))
    judged = [
        is_late(NINE_TO_FIVE, BERLIN, datetime.fromisoformat(due), gap, timedelta(hours=hours) + change)
        for change in (-timedelta(seconds=1), timedelta())
    ]
    assert judged == [hours > 0, False]


@pytest.mark.parametrize(
    ("due", "away", "late"),
    [
        ("2026-11-24T08:00Z", ("2026-11-24T07:00Z", "2026-11-24T17:00Z"), True),  # from nine to five, all of it
        ("2026-11-24T07:00Z", ("2026-11-24T07:00Z", "2026-11-24T16:00Z"), False),  # it closes only now
        ("2026-11-24T08:01Z", ("2026-11-24T07:00Z", "2026-11-24T17:00Z"), False),  # it was open before
        ("2026-10-24T00:00Z", ("2026-10-24T20:00Z", "2026-10-25T17:00Z"), True),  # the clock goes back that night
    ],
)
def test_a_whole_opening_that_was_missed_is_late_however_short_it_is(
    due: str,
    away: tuple[str, str],
    late: bool,
) -> None:
    gap = Gap(*map(datetime.fromisoformat, away))
    assert is_late(NINE_TO_FIVE, BERLIN, datetime.fromisoformat(due), gap, timedelta(hours=12)) is late


@pytest.mark.parametrize(
    ("said", "away"),
    [(None, True), (timedelta(minutes=60), False), (timedelta(minutes=61), True), (timedelta(minutes=-90), False)],
)
def test_an_engine_that_spoke_a_moment_ago_was_not_away_whatever_the_clock_of_another_says(
    said: timedelta | None,
    away: bool,
) -> None:
    """Two machines, one of which is an hour fast, do not pause each other's batch calls."""
    said_at = None if said is None else MONDAY_NOON - said
    assert may_have_been_away(said_at, MONDAY_NOON, HOUR) is away
    assert not may_have_been_away(said_at, MONDAY_NOON, None)


def test_where_no_engine_ever_ran_it_is_missed_since_it_was_due() -> None:
    due = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
    gap = Gap(None, due + HOUR)
    assert is_late(NINE_TO_FIVE, BERLIN, due, gap, HOUR - timedelta(seconds=1))
    assert not is_late(NINE_TO_FIVE, BERLIN, due, gap, HOUR)


def test_a_zone_that_is_not_known_misses_nothing() -> None:
    """Nobody would have been dialled."""
    due = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
    assert not is_late(NINE_TO_FIVE, (), due, Gap(None, due + HOUR), timedelta())


def test_the_file_of_a_dialer_says_when_an_engine_last_ran(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "dialer.db")
    with store.reading() as tx:
        assert tx.exec_driver_sql("SELECT engine_ran_at FROM installation").scalar_one() is None
    store.close()
