"""What is wrong with one batch call stops that one: nobody else's calls, and never the engine."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.engine import scheduler
from batchcall_mcp.dialer.engine.broken import Broken, concerning
from batchcall_mcp.dialer.storage.tables import batch_calls, installation, tasks
from tests.dialer.conftest import Caller, NewCaller, body, emptied_postgresql, eventually, numbers, on_sqlite
from tests.dialer.hooks import another_organization

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
TOO_LATE = 10**18
"""Milliseconds: no calendar has that moment."""


@pytest.fixture(params=["sqlite", "postgresql"])
async def dialling(new_caller: NewCaller, request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    """Calls take some seconds, so that they are in progress when something goes wrong."""
    database = emptied_postgresql() if request.param == "postgresql" else None
    async with new_caller(database=database, simulated_speed=60.0) as made:
        yield made


def stored(caller: Caller, batch_call_id: str, **columns: Any) -> None:
    """Write what this version would not take: an older one did, or a disk has changed it."""
    with caller.dialer.store().writing() as tx:
        tx.execute(batch_calls.update().where(batch_calls.c.batch_call_id == batch_call_id).values(**columns))


def raw(caller: Caller, batch_call_id: str, column: str, text: str) -> None:
    with caller.dialer.store().writing() as tx:
        query = f"UPDATE batch_calls SET {column} = :text WHERE batch_call_id = :id"
        tx.execute(sa.text(query), {"text": text, "id": batch_call_id})


async def others_draft(caller: Caller, to_numbers: list[str], **fields: Any) -> str:
    """A draft of another organisation."""
    headers = another_organization(caller)
    answer = await caller.http.post("/batch-call", json=body(to_numbers, **fields), headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["batch_call_id"])


def row(caller: Caller, batch_call_id: str) -> sa.RowMapping:
    with caller.dialer.store().reading() as tx:
        columns = (batch_calls.c.status, batch_calls.c.status_reason, batch_calls.c.status_reason_text)
        found = tx.execute(sa.select(*columns).where(batch_calls.c.batch_call_id == batch_call_id))
        return found.mappings().one()


async def until_paused(caller: Caller, batch_call_id: str) -> sa.RowMapping:
    await eventually(lambda: row(caller, batch_call_id)["status"] == "paused")
    return row(caller, batch_call_id)


@pytest.mark.parametrize("wrong", [1e-12, 0.0009, 0, -1, 1000.5])
@on_sqlite("desk")
async def test_a_pace_that_cannot_be_kept_to_is_refused(desk: Caller, wrong: float) -> None:
    answer = await desk.ask("POST", "/batch-call", body(numbers(1), calls_per_second=wrong), status=422)
    assert "calls_per_second: Input should be " in answer["error"]
    draft = await desk.create(numbers(1), calls_per_second=0.001)
    await desk.ask("PATCH", f"/batch-call/{draft}", {"calls_per_second": wrong}, status=422)


@pytest.mark.parametrize("wrong", [1e-12, 5e-324, 0.0, -1.0, math.inf, math.nan])
def test_a_stored_pace_of_any_size_has_a_span(wrong: float) -> None:
    room, again_at = rules.paced([LONG_AGO], LONG_AGO, wrong)
    if wrong == math.inf:
        assert (room, again_at) == (999, None)
    else:
        assert (room, again_at) == (0, LONG_AGO + timedelta(seconds=1000))


@on_sqlite("dialling")
async def test_a_pace_of_an_older_version_dials_and_stops_nobody(dialling: Caller) -> None:
    """1e-12 calls a second: the engine failed every two seconds, and cut off whoever was on the line."""
    mine = await dialling.create(numbers(3, 5), send_now=True)
    await dialling.until(mine, lambda data: data["counts"]["calling"] == 3)
    slow = await others_draft(dialling, numbers(2, 7))
    stored(dialling, slow, calls_per_second=1e-12, status="sent")
    await eventually(lambda: len(dialling.dialled()) == 4)
    data = await dialling.until_status(mine, "completed")
    assert data["counts"]["completed"] == 3
    assert row(dialling, slow)["status"] == "sent"
    dialling.clock.forward(seconds=1000)
    await eventually(lambda: row(dialling, slow)["status"] == "completed")


BREAKS: Mapping[str, Mapping[str, Any]] = {
    "a window without hours": {"window": {}},
    "hours that no clock shows": {
        "window": {"start": "99:99", "end": "24:00", "days": [0, 1, 2, 3, 4, 5, 6], "timezone": "recipient"}
    },
    "a day that no week has": {"window": {"start": "00:00", "end": "24:00", "days": [9], "timezone": "recipient"}},
    "a zone that is not on earth": {
        "window": {"start": "08:00", "end": "21:00", "days": [1], "timezone": "Nowhere/At_All"}
    },
    "a status that nobody knows the rules of": {"retry_rules": [{"enabled": True}]},
}


async def test_a_batch_call_with_an_error_is_paused_and_the_others_go_on(
    dialling: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """Of another organisation, and of this one: calls in progress, and those that come after."""
    mine = await dialling.create(numbers(2, 5), send_now=True, max_concurrency=1)
    await dialling.until(mine, lambda data: data["counts"]["calling"] == 1)
    for what, columns in BREAKS.items():
        bad = await others_draft(dialling, numbers(3, 7))
        stored(dialling, bad, **columns, status="sent")
        reason = await until_paused(dialling, bad)
        assert reason["status_reason"] == "error", what
        assert "Resume it to try again" in reason["status_reason_text"]
    after = await dialling.create(numbers(2), send_now=True)
    assert (await dialling.until_status(after, "completed"))["completed"] == 2
    assert (await dialling.until_status(mine, "completed"))["completed"] == 2
    assert "starts again" not in caplog.text
    assert not [number for number in numbers(3, 7) if number in caplog.text]


async def test_a_row_that_cannot_be_read_is_paused_and_found_among_others(new_caller: NewCaller) -> None:
    """JSON that a disk has changed: SQLite keeps it as text."""
    async with new_caller(simulated_speed=60.0) as caller:
        mine = await caller.create(numbers(3, 5), send_now=True)
        bad = await others_draft(caller, numbers(3, 7))
        await caller.until(mine, lambda data: data["counts"]["calling"] == 3)
        raw(caller, bad, "window", '{"start": "00:0')
        stored(caller, bad, status="sent")
        assert (await until_paused(caller, bad))["status_reason"] == "error"
        assert (await caller.until_status(mine, "completed"))["completed"] == 3


@on_sqlite("dialling")
async def test_an_outcome_is_written_down_though_its_batch_call_has_an_error(dialling: Caller) -> None:
    """A redial cannot be timed; who was called is known all the same."""
    mine = await dialling.create(numbers(1, 5), send_now=True)
    bad = await dialling.create(numbers(2, 8), send_now=True, max_concurrency=1, retry_config={"max_attempts": 1})
    await dialling.until(bad, lambda data: data["counts"]["calling"] == 1)
    stored(dialling, bad, retry_rules=[{"enabled": True}])
    await until_paused(dialling, bad)
    data = await dialling.until(bad, lambda data: data["counts"]["calling"] == 0)
    assert (data["counts"]["voicemail"], data["counts"]["pending"]) == (1, 1)
    assert data["status_reason"]["code"] == "error"
    assert "KeyError" in data["status_reason"]["text"]
    assert (await dialling.until_status(mine, "completed"))["completed"] == 1


@on_sqlite("dialling")
async def test_a_resume_tries_again_and_is_paused_again_until_it_is_mended(dialling: Caller) -> None:
    bad = await dialling.create(numbers(1))
    good = (await dialling.get(bad))["window"]
    stored(dialling, bad, window={}, status="sent")
    await until_paused(dialling, bad)
    await dialling.ask("POST", f"/batch-call/{bad}/resume")
    await until_paused(dialling, bad)
    stored(dialling, bad, window=good)
    await dialling.ask("POST", f"/batch-call/{bad}/resume")
    data = await dialling.until_status(bad, "completed")
    assert (data["completed"], data["status_reason"]) == (1, None)


@pytest.mark.parametrize("columns", [{"scheduled_at": TOO_LATE}, {"expires_at": TOO_LATE, "status": "sent"}])
async def test_a_moment_that_no_calendar_has_is_only_far_away(dialling: Caller, columns: Mapping[str, Any]) -> None:
    at = dialling.clock() + timedelta(hours=1)
    far = await dialling.create(numbers(1, 1), trigger_timestamp=at.isoformat())
    stored(dialling, far, **columns)
    mine = await dialling.create(numbers(1), send_now=True)
    assert (await dialling.until_status(mine, "completed"))["completed"] == 1
    if columns.get("status") == "sent":
        await dialling.until_status(far, "completed")
    else:
        assert row(dialling, far)["status"] == "scheduled"


@on_sqlite("dialling")
async def test_a_schedule_without_a_time_is_paused(dialling: Caller) -> None:
    """It was due at every look, and never began."""
    bad = await dialling.create(numbers(1))
    stored(dialling, bad, status="scheduled", scheduled_at=None)
    assert (await until_paused(dialling, bad))["status_reason"] == "error"


@on_sqlite("dialling")
async def test_a_task_whose_zone_is_not_known_any_more_stops_its_batch_call_only(dialling: Caller) -> None:
    bad = await dialling.create(numbers(2), timezone="America/Los_Angeles", window={"start": "08:00", "end": "21:00"})
    mine = await dialling.create(numbers(1, 1))
    with dialling.dialer.store().writing() as tx:
        tx.execute(tasks.update().where(tasks.c.batch_call_id == bad).values(timezone="Nowhere/At_All"))
    for one in (bad, mine):
        await dialling.ask("POST", f"/batch-call/{one}/execute")
    assert (await until_paused(dialling, bad))["status_reason"] == "error"
    assert (await dialling.until_status(mine, "completed"))["completed"] == 1


async def test_a_carrier_that_fails_for_one_call_may_have_dialled_it(
    dialling: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the person is interrupted, never dialled again, and the batch call waits for somebody to look."""
    place = SimulatedCarrier.dial
    asked: list[str] = []

    def fails(self: SimulatedCarrier, attempt: Attempt) -> None:
        asked.append(attempt.to_number)
        if attempt.to_number == numbers(1, 1)[0]:
            raise RuntimeError("nobody thought of this")
        place(self, attempt)

    monkeypatch.setattr(SimulatedCarrier, "dial", fails)
    mine = await dialling.create(numbers(2, 5), send_now=True)
    bad = await dialling.create([*numbers(1, 1), *numbers(3, 2)], send_now=True, max_concurrency=1)
    assert (await until_paused(dialling, bad))["status_reason"] == "error"
    data = await dialling.until(bad, lambda data: data["counts"]["calling"] == 0)
    assert (data["counts"]["interrupted"], data["counts"]["pending"]) == (1, 3)
    assert asked.count(numbers(1, 1)[0]) == 1
    assert (await dialling.until_status(mine, "completed"))["completed"] == 2


async def test_an_engine_that_failed_and_started_again_is_counted(
    dialling: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In /healthz of this process, and in the metrics of all processes on its database."""
    look = scheduler.look
    failing = iter((RuntimeError("nobody thought of this"), RuntimeError("nor of this")))

    def fails(*args: Any) -> scheduler.Work:
        for error in failing:
            raise error
        return look(*args)

    assert (await dialling.http.get("/healthz")).json()["engine_failures"] == 0
    monkeypatch.setattr(scheduler, "look", fails)
    done = await dialling.create(numbers(1), send_now=True)
    await dialling.until_status(done, "completed")
    # A look that was under way then has seen the batch call, and the second failure may come after its calls.
    with anyio.fail_after(60):
        while "batchcall_dialer_engine_failures_total 2.0" not in (await dialling.http.get("/metrics")).text:  # noqa: ASYNC110
            await anyio.sleep(0.02)
    assert caplog.text.count("starts again") == 2
    assert (await dialling.http.get("/healthz")).json()["engine_failures"] == 2
    assert (await dialling.http.get("/readyz")).json()["engine_failures"] == 2


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_batch_call_whose_lateness_is_unknown_is_paused_for_its_error(new_caller: NewCaller, kind: str) -> None:
    """The others are late, or not, as they are."""
    database = emptied_postgresql() if kind == "postgresql" else None
    async with new_caller(start=False, database=database, late_after=timedelta(hours=1)) as caller:
        bad = await caller.create(numbers(1, 1), send_now=True)
        late = await caller.create(numbers(1, 2), send_now=True)
        stored(caller, bad, window={})
        with caller.dialer.store().writing() as tx:
            tx.execute(installation.delete())
            tx.execute(installation.insert().values(one=1, engine_ran_at=caller.dialer.store().now()))
        caller.clock.forward(hours=3)
        await caller.dialer.start()
        assert (await until_paused(caller, late))["status_reason"] == "late"
        assert (await until_paused(caller, bad))["status_reason"] == "error"
        fresh = await caller.create(numbers(1), send_now=True)
        assert (await caller.until_status(fresh, "completed"))["completed"] == 1


@pytest.mark.parametrize(
    "error",
    [
        sa.exc.OperationalError("SELECT 1", None, Exception("the server is away")),
        sa.exc.InterfaceError("SELECT 1", None, Exception("the connection is closed")),
        sa.exc.InternalError("SELECT 1", None, Exception("the transaction has failed")),
        sa.exc.ProgrammingError("SELECT 1", None, Exception("there is no such table")),
        sa.exc.TimeoutError("all connections are in use"),
        MemoryError(),
    ],
)
def test_what_is_wrong_with_the_database_or_the_machine_is_nobody_s_error(error: Exception) -> None:
    with pytest.raises(type(error)), concerning("batch_call_1"):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        sa.exc.DataError("INSERT", None, Exception("out of range")),
        sa.exc.IntegrityError("INSERT", None, Exception("there already")),
        OverflowError(),
        KeyError("start"),
        ZeroDivisionError(),
    ],
)
def test_what_is_wrong_with_its_values_is_a_batch_call_s_own_error(error: Exception) -> None:
    with pytest.raises(Broken) as raised, concerning("batch_call_1"):
        raise error
    assert (raised.value.batch_call_id, raised.value.__cause__) == ("batch_call_1", error)
