"""Two batch calls do not ring one phone minutes apart; the redials of one follow its own policy."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.clock import to_ms
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier
from batchcall_mcp.dialer.domain.records import NewTask
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.engine import claims
from batchcall_mcp.dialer.storage import commands, queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import tasks
from batchcall_mcp.settings import Settings
from tests.dialer.conftest import ALWAYS, CALLER, Caller, Clock, NewCaller, body, numbers, on_sqlite
from tests.dialer.hooks import another_organization
from tests.postgresql import postgresql_url

SOON = [{"condition": "busy", "retry_timing": {"type": "AFTER", "duration_minutes": 2}}]


def held(calls: int, until: int) -> list[dict[str, Any]]:
    return [{"reason": "min_gap", "calls": calls, "until": until}]


async def done(caller: Caller, to_numbers: list[str]) -> str:
    batch_call_id = await caller.create(to_numbers, send_now=True)
    await caller.until_status(batch_call_id, "completed")
    return batch_call_id


async def test_a_second_batch_call_waits_fifteen_minutes_for_whom_the_first_has_dialled(real: Caller) -> None:
    """Nobody else waits."""
    began = real.clock()
    await done(real, numbers(2))
    real.clock.forward(minutes=5)
    second = await real.create(numbers(3), send_now=True)
    data = await real.until(second, lambda data: data["completed"] == 1 and data["held_back"] != [])
    until = began + timedelta(minutes=15)
    assert data["held_back"] == held(2, to_ms(until))
    [first, *_] = await real.tasks(second)
    assert first["error_message"].startswith("another batch call dialled the number; next attempt not before ")
    real.clock.now = until - timedelta(milliseconds=1)
    other = await real.create(numbers(1, 1), send_now=True)
    await real.until_status(other, "completed")
    assert (await real.get(second))["completed"] == 1
    real.clock.now = until
    assert (await real.until_status(second, "completed"))["completed"] == 3


@on_sqlite("real")
async def test_redials_of_one_batch_call_follow_its_own_policy(real: Caller) -> None:
    batch_call_id = await real.create(numbers(1, 7), send_now=True, retry_config={"max_attempts": 1}, retry_rules=SOON)
    await real.until(batch_call_id, lambda data: data["held_back"] != [])
    real.clock.forward(minutes=2)
    data = await real.until_status(batch_call_id, "completed")
    assert data["counts"]["busy"] == 1
    assert len(real.dialled()) == 2


async def test_a_redial_waits_if_another_batch_call_has_dialled_meanwhile(real: Caller) -> None:
    mine = await real.create(numbers(1, 7), send_now=True, retry_config={"max_attempts": 1}, retry_rules=SOON)
    await real.until(mine, lambda data: data["held_back"] != [])
    real.clock.forward(minutes=1)
    other = await real.create(numbers(1, 7), send_now=True)
    await real.until(other, lambda data: data["held_back"] != [])
    real.clock.forward(minutes=14)
    # Both are due: the redial dials, and the other waits for a gap after it, or the other way round.
    await real.until(mine, lambda _: len(real.dialled()) == 2)
    data = [
        await real.until(one, lambda data: data["status"] == "completed" or data["held_back"] != [])
        for one in (mine, other)
    ]
    assert sorted(one["status"] for one in data) == ["completed", "sent"]
    [waits] = [one for one in data if one["status"] == "sent"]
    assert waits["held_back"] == held(1, to_ms(real.clock() + timedelta(minutes=15)))


@on_sqlite("real")
async def test_another_organisation_s_dials_hold_nobody_back(real: Caller) -> None:
    await done(real, numbers(1))
    asked = body(numbers(1), send_now=True)
    answer = await real.http.post("/batch-call", json=asked, headers=another_organization(real))
    assert answer.status_code == 200
    await real.until(await done(real, numbers(1, 1)), lambda _: len(real.dialled()) == 3)


@on_sqlite("real")
async def test_what_a_draft_says_is_what_its_launch_does(real: Caller) -> None:
    began = real.clock()
    await done(real, numbers(2))
    real.clock.forward(minutes=1)
    draft = await real.create(numbers(4))
    said = (await real.get(draft))["held_back"]
    assert said == held(2, to_ms(began + timedelta(minutes=15)))
    await real.ask("POST", f"/batch-call/{draft}/execute")
    data = await real.until(draft, lambda data: data["completed"] == 2 and data["counts"]["calling"] == 0)
    assert data["held_back"] == said
    scheduled = began + timedelta(minutes=15)
    later = await real.create(numbers(2), trigger_timestamp=scheduled.isoformat())
    assert (await real.get(later))["held_back"] == []


@on_sqlite("real")
async def test_who_was_dialled_often_enough_waits_for_that_alone(real: Caller) -> None:
    """In one sum each person is counted once."""
    began = real.clock()
    for _ in range(3):
        await done(real, numbers(1))
        real.clock.forward(minutes=15)
    await done(real, numbers(1, 1))
    real.clock.forward(minutes=1)
    draft = await real.create([*numbers(1), *numbers(1, 1)])
    capped = {"reason": "daily_cap", "calls": 1, "until": to_ms(began + timedelta(hours=24))}
    until = to_ms(real.clock() + timedelta(minutes=14))
    assert (await real.get(draft))["held_back"] == [capped, *held(1, until)]
    await real.ask("POST", f"/batch-call/{draft}/execute")
    data = await real.until(draft, lambda data: len(data["held_back"]) == 2)
    assert data["held_back"] == [capped, *held(1, until)]


async def test_the_gap_can_be_turned_off(new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedCarrier, "places_real_calls", True)
    async with new_caller(min_gap=timedelta(0)) as caller:
        await done(caller, numbers(2))
        await done(caller, numbers(2))


async def test_no_phone_rings_with_the_simulated_carrier_so_nobody_waits(caller: Caller) -> None:
    """Two batch calls to the example list, one after the other, both dial."""
    await done(caller, numbers(2))
    await done(caller, numbers(2))


def test_the_setting_is_the_dialer_s_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedCarrier, "places_real_calls", True)
    assert EmbeddedDialer.of(Settings(data_dir=tmp_path, min_gap_minutes=3))._options.min_gap == timedelta(minutes=3)
    assert EmbeddedDialer.of(Settings(data_dir=tmp_path))._options.min_gap == timedelta(minutes=15)


def test_two_processes_in_the_middle_of_their_transactions_keep_the_gap(clock: Clock) -> None:
    """Each with a batch call of its own for the same people."""
    store = Store.open(postgresql_url(), clock)
    window = {**ALWAYS, "days": list(range(7)), "timezone": "recipient"}
    asked = {"from_number": CALLER, "status": State.SENT, "max_concurrency": 50, "window": window}
    with store.writing() as tx:
        listed = [NewTask(to_number=number) for number in numbers(4)]
        ids = [commands.create(tx, "local", asked, listed, store.now()).batch_call_id for _ in range(3)]
    with store.reading() as tx:
        records = {key: queries.get(tx, "local", key) for key in ids}

    def start(tx: sa.Connection, key: str) -> int:
        claim = claims.start_due(
            tx, records[key], 10, now=clock(), daily_cap=9, worker_id=key, min_gap=timedelta(minutes=15)
        )
        return len(claim.started)

    with store.writing() as one, store.writing() as other:
        assert start(one, ids[0]) == 4
        assert start(other, ids[1]) == 0
    clock.forward(seconds=1)
    with store.writing() as tx:
        assert start(tx, ids[1]) == 0
        assert start(tx, ids[2]) == 0, "in the same transaction too"
    with store.reading() as tx:
        reasons = tx.execute(sa.select(tasks.c.held_by).where(tasks.c.batch_call_id != ids[0])).scalars().all()
    assert reasons == ["min_gap"] * 8
    clock.forward(minutes=15)
    with store.writing() as one, store.writing() as other:
        assert (start(one, ids[1]), start(other, ids[2])) == (4, 0)
    store.close()
