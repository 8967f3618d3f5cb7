"""Several processes on one file, and what a `kill -9` leaves. The judge is what the carrier was asked to dial."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from batchcall_mcp.clock import utc_now
from tests import forked
from tests.dialer.conftest import Caller, NewCaller, dialled, eventually, numbers

PROCESS = "tests.dialer.process"


class Dialer:
    """One process."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def says(self, word: str) -> None:
        assert self.process.stdout is not None
        with anyio.fail_after(60):
            assert (await self.process.stdout.readline()).decode().strip() == word

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def close(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        with anyio.fail_after(60):
            return await self.process.wait()


@asynccontextmanager
async def dialer(data_dir: Path, speed: float) -> AsyncIterator[Dialer]:
    process = await asyncio.create_subprocess_exec(
        *forked.program(), "-m", PROCESS, str(data_dir), str(speed), stdin=PIPE, stdout=PIPE
    )
    try:
        yield Dialer(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def desk(new_caller: NewCaller) -> AsyncIterator[Caller]:
    """This process only serves; the others dial."""
    async with new_caller(start=False, clock=utc_now) as made:
        yield made


async def test_after_kill_9_nobody_is_dialled_twice_and_nobody_is_forgotten(desk: Caller) -> None:
    """Twice in a row; who was on the line is `interrupted`, everybody else is dialled once."""
    people = numbers(300)
    batch_call_id = await desk.create(people, send_now=True, max_concurrency=20)
    for progress in (60, 160):
        async with dialer(desk.data_dir, 200) as victim:
            await eventually(lambda progress=progress: len(desk.dialled()) >= progress)  # type: ignore[misc]
            await victim.kill()
    async with dialer(desk.data_dir, 10_000) as last:
        await last.says("running")
        data = await desk.until_status(batch_call_id, "completed")
        assert await last.close() == 0
    calls = Counter(line["to_number"] for line in desk.dialled())
    assert max(calls.values()) == 1
    assert data["counts"]["interrupted"] > 0
    assert data["counts"]["interrupted"] + data["counts"]["completed"] == 300
    by_status = {task["to_number"]: task["status"] for task in await desk.tasks(batch_call_id)}
    assert {person for person in people if person not in calls} <= {
        person for person, status in by_status.items() if status == "interrupted"
    }


async def test_one_engine_dials_and_the_next_takes_over(desk: Caller) -> None:
    """Invariant 5: by an OS lock, which a killed process cannot keep."""
    batch_call_id = await desk.create(numbers(400), send_now=True, max_concurrency=10)
    async with dialer(desk.data_dir, 100) as first:
        await first.says("running")
        async with dialer(desk.data_dir, 10_000) as second:
            await second.says("standby")
            await eventually(lambda: len(desk.dialled()) >= 20)
            assert (await desk.get(batch_call_id))["counts"]["interrupted"] == 0
            await first.kill()
            await second.says("running")
            data = await desk.until_status(batch_call_id, "completed")
            assert await second.close() == 0
    assert len({line["attempt_id"] for line in desk.dialled()}) == len(desk.dialled())
    assert 0 < data["counts"]["interrupted"] <= 10


async def test_a_clean_stop_hands_over_too(desk: Caller) -> None:
    """The lock is given back, and its own open attempts are marked by the one that stops."""
    batch_call_id = await desk.create(numbers(40), send_now=True, max_concurrency=5)
    async with dialer(desk.data_dir, 1) as first:  # nobody's call ends before it stops
        await first.says("running")
        await eventually(lambda: len(desk.dialled()) == 5)
        assert await first.close() == 0
    data = await desk.get(batch_call_id)
    assert (data["counts"]["calling"], data["counts"]["interrupted"]) == (0, 5)
    async with dialer(desk.data_dir, 10_000) as second:
        await second.says("running")
        await desk.until_status(batch_call_id, "completed")
        assert await second.close() == 0


@pytest.mark.sweep
@pytest.mark.parametrize("stop", ["pause", "cancel"])
async def test_after_stop_has_answered_another_process_dials_nobody(desk: Caller, stop: str) -> None:
    """Invariant 2, under load: not one line more in the carrier's record, three times in a row."""
    async with dialer(desk.data_dir, 2_000) as engine:
        await engine.says("running")
        for _ in range(3):
            before = len(desk.dialled())
            batch_call_id = await desk.create(numbers(3_000), send_now=True, max_concurrency=50)
            await eventually(lambda before=before: len(desk.dialled()) >= before + 100)  # type: ignore[misc]
            data = await desk.ask("POST", f"/batch-call/{batch_call_id}/{stop}")
            answered = len(dialled(desk.data_dir))
            assert data["counts"]["pending"] == (0 if stop == "cancel" else 3_000 - data["sent"])
            data = await desk.until(batch_call_id, lambda data: data["counts"]["calling"] == 0)
            assert len(desk.dialled()) == answered < before + 3_000
            assert data["sent"] == answered - before
            # Their daily cap must not hold the next round back.
            await desk.ask("POST", f"/batch-call/{batch_call_id}/cancel")
            with desk.dialer.store().writing() as tx:
                tx.exec_driver_sql("delete from attempts")
        assert await engine.close() == 0
