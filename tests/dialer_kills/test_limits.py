"""Stops, concurrency, calls per second and fairness, exact while two processes dial from one PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from batchcall_mcp.clock import utc_now
from batchcall_mcp.dialer.carriers.simulated import simulate
from batchcall_mcp.dialer.storage.tables import attempts, batch_calls
from batchcall_mcp.dialer.storage.tables import tasks as tasks_table
from tests.dialer.conftest import dialled, eventually, numbers
from tests.dialer_kills.judging import DATABASES, Database, Judge, Scene, most_at_once

SECOND = timedelta(seconds=1)


def at(line: dict[str, str]) -> datetime:
    return datetime.fromisoformat(line["at"])


def of(scene: Scene, batch_call_id: str) -> list[dict[str, str]]:
    """Its lines in the carrier's record."""
    mine = sa.select(tasks_table.c.task_id).where(tasks_table.c.batch_call_id == batch_call_id)
    names = {row.task_id for row in scene.rows(mine)}
    return [line for line in dialled(scene.data_dir) if line["attempt_id"].partition(":")[0] in names]


def dialled_by(scene: Scene, batch_call_id: str) -> Counter[str]:
    """How many of its attempts each process made."""
    rows = scene.rows(sa.select(attempts.c.worker_id).where(attempts.c.batch_call_id == batch_call_id))
    return Counter(row.worker_id for row in rows)


@pytest.mark.sweep
@pytest.mark.parametrize("stop", ["pause", "cancel"])
@pytest.mark.parametrize("database", DATABASES)
async def test_after_a_stop_has_answered_no_process_dials(judge: Judge, database: Database, stop: str) -> None:
    """Under full load, from another process, twice in a row: no line is of a later moment than the answer."""
    async with judge.scene(database, simulated_speed=2_000.0) as scene:
        desk = scene.desk
        dialling = 2 if database == "postgresql" else 1
        for _ in range(dialling):
            await scene.start()
        await scene.until(lambda: len(scene.workers()) == dialling)
        for _ in range(2):
            before = len(desk.dialled())
            batch_call_id = await desk.create(numbers(1_000), send_now=True, max_concurrency=60)
            await eventually(lambda before=before: len(desk.dialled()) >= before + 150)  # type: ignore[misc]
            await scene.until(
                lambda batch_call_id=batch_call_id: len(dialled_by(scene, batch_call_id)) == dialling  # type: ignore[misc]
            )
            data = await desk.ask("POST", f"/batch-call/{batch_call_id}/{stop}")
            answered = utc_now()
            assert data["status"] == {"pause": "paused", "cancel": "cancelled"}[stop]
            data = await desk.until(batch_call_id, lambda data: data["counts"]["calling"] == 0)
            lines = desk.dialled()[before:]
            assert max(map(at, lines)) <= answered
            assert len({line["attempt_id"] for line in lines}) == len(lines) == data["sent"] < 1_000
            # Their daily cap must not hold the next round back.
            await desk.ask("POST", f"/batch-call/{batch_call_id}/cancel")
            with scene.store.writing() as tx:
                tx.exec_driver_sql("delete from attempts")


async def test_concurrency_is_exact_over_two_processes(judge: Judge) -> None:
    """It is reached, and never exceeded, by what is written and by what the carrier was asked."""
    speed = 15.0  # calls that last long enough for both processes of a busy machine to begin all of them
    async with judge.scene("postgresql", simulated_speed=speed, capacity=12) as scene:
        await scene.two()
        limits = {}
        for index, limit in enumerate((7, 13)):
            people = [f"+12132{index * 100 + number:05d}0" for number in range(limit * 2)]
            limits[await scene.desk.create(people, send_now=True, max_concurrency=limit)] = limit
        for batch_call_id, limit in limits.items():
            await scene.desk.until(batch_call_id, lambda data: data["status"] == "completed", 60)
            rows = scene.rows(sa.select(attempts).where(attempts.c.batch_call_id == batch_call_id))
            assert most_at_once(rows) == limit
            assert most_at_once(_calls(of(scene, batch_call_id), speed)) == limit
        assert len(dialled_by(scene, batch_call_id)) == 2, "13 lines are more than one of them has"


def _calls(lines: Iterable[dict[str, str]], speed: float) -> list[SimpleNamespace]:
    """Each call from the moment at which it was asked for until the first at which it can have ended."""
    lasts = [timedelta(seconds=simulate(line["to_number"], 1)[1] / speed) for line in lines]
    return [
        SimpleNamespace(started_at=at(line), ended_at=at(line) + last) for line, last in zip(lines, lasts, strict=True)
    ]


async def test_calls_per_second_are_exact_over_two_processes(judge: Judge) -> None:
    """No second, wherever it begins, holds more; and most of what is allowed is used."""
    pace = 20
    async with judge.scene("postgresql") as scene:
        await scene.two()
        batch_call_id = await scene.desk.create(numbers(70), max_concurrency=50)
        with scene.store.writing() as tx:
            tx.execute(batch_calls.update().values(calls_per_second=float(pace)))
        await scene.desk.ask("POST", f"/batch-call/{batch_call_id}/execute")
        await scene.desk.until(batch_call_id, lambda data: data["status"] == "completed", 60)
        assert len(dialled_by(scene, batch_call_id)) == 2, "both of them dialled"
        moments = sorted(map(at, of(scene, batch_call_id)))
    assert len(moments) == 70
    windows = [sum(1 for moment in moments if first <= moment < first + SECOND) for first in moments]
    assert 0.8 * pace <= max(windows) <= pace


async def test_a_small_batch_call_is_done_long_before_one_that_takes_every_line(judge: Judge) -> None:
    """20 people next to 1,500, whose batch call could use all lines of both processes and more."""
    async with judge.scene("postgresql", simulated_speed=20.0) as scene:
        await scene.two()
        large = await scene.desk.create(numbers(1_500), send_now=True, max_concurrency=1_000)
        await scene.desk.until(large, lambda data: data["counts"]["calling"] == 100)
        small = await scene.desk.create([f"+1213399{index:04d}" for index in range(20)], send_now=True)
        await scene.desk.until(small, lambda data: data["status"] == "completed", 60)
        data = await scene.desk.get(large)
        assert data["counts"]["pending"] > 750
        await scene.desk.ask("POST", f"/batch-call/{large}/cancel")
        await scene.desk.until(large, lambda data: data["counts"]["calling"] == 0)
