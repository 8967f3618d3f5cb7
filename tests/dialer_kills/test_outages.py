"""A database that stops, a disk that is full, a clock that jumps, a process that is stopped: and then it goes on."""

from __future__ import annotations

import logging
import resource
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer import app
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.engine import engine
from batchcall_mcp.dialer.engine import heartbeat as beating
from batchcall_mcp.dialer.engine.lanes.dbos_queue import DbosQueue
from batchcall_mcp.dialer.storage.tables import attempts
from tests.dialer.conftest import body, client_of, dialled, numbers
from tests.dialer_kills.harness import Dialling
from tests.dialer_kills.judging import Dead, Judge, Scene, check, poll, snapshot, stop_until_taken_over
from tests.postgresql import Outage

AWAY = "The dialer's database does not work"
BACK = "The dialer's database works again"


async def says(process: Dialling, words: str, times: int = 1) -> None:
    await poll(lambda: process.said().count(words) >= times)


@pytest.fixture
def server() -> Iterator[Outage]:
    # Not pytest's own folder, which another user (PostgreSQL does not run as root) cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="batchcall-outage-"))
    outage = Outage(folder)
    yield outage
    outage.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


async def test_postgresql_stops_in_the_middle_and_starts_again(judge: Judge, server: Outage) -> None:
    """One word when it goes and one when it is back, in each process; nobody is taken for dead for it."""
    async with judge.scene("postgresql", database=server.url, simulated_speed=100.0) as scene:
        both = await scene.two()
        await scene.call_all()
        for times in (1, 2):
            await scene.until_dialled(times * scene.people // 3)
            await anyio.to_thread.run_sync(server.begin)
            for process in both:
                await says(process, AWAY, times)
            await anyio.to_thread.run_sync(server.end)
            for process in both:
                await says(process, BACK, times)
        await scene.until(scene.completed, 60)
        await check(scene, [])
        for process in both:
            said = process.said()
            assert (said.count(AWAY), said.count(BACK)) == (2, 2), said
            assert (said.count("WARNING"), said.count("ERROR")) == (4, 0), said


async def test_postgresql_stops_while_a_process_starts(
    tmp_path: Path, server: Outage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It starts as soon as the database is there again, says so once, and leaves nobody to be taken for dead."""
    monkeypatch.setattr(app, "LOCK_RETRY_SECONDS", 0.05)
    cut_off_at(monkeypatch, server, beating, "beat")
    dialer = EmbeddedDialer(tmp_path, database=server.url, poll_seconds=0.02)
    await dialer.start()
    try:
        assert dialer._engine_state() == "standby"
        await anyio.to_thread.run_sync(server.end)
        await poll(lambda: dialer._engine_state() == "running")
        assert warnings(caplog) == [AWAY, BACK]
    finally:
        await dialer.aclose()


async def test_postgresql_stops_while_dbos_is_launched(
    tmp_path: Path, server: Outage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is launched again, and everybody is dialled."""
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.05)
    cut_off_at(monkeypatch, server, DbosQueue, "take_over")
    dialer = EmbeddedDialer(tmp_path, database=server.url, poll_seconds=0.02, simulated_speed=10_000)
    await dialer.start()
    try:
        async with client_of(dialer.app, *dialer.credentials) as client:
            made = await client.post("/batch-call", json=body(numbers(20), send_now=True))
            await poll(lambda: warnings(caplog) == [AWAY])
            await anyio.to_thread.run_sync(server.end)
            await poll(lambda: warnings(caplog) == [AWAY, BACK])
            with anyio.fail_after(20):
                while await status(client, made.json()["data"]["batch_call_id"]) != "completed":
                    continue
    finally:
        await dialer.aclose()
    assert len(dialled(tmp_path)) == 20


def cut_off_at(monkeypatch: pytest.MonkeyPatch, server: Outage, place: Any, name: str) -> None:
    """Stop the database where this is called for the first time."""
    function, times = getattr(place, name), ["once"]

    def cut_off(*args: Any) -> Any:
        if times:
            times.clear()
            server.begin()
        return function(*args)

    monkeypatch.setattr(place, name, cut_off)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    return [line.partition(";")[0] for line in said]


async def status(client: httpx2.AsyncClient, batch_call_id: str) -> str:
    return str((await client.get(f"/batch-call/{batch_call_id}")).json()["data"]["status"])


@pytest.mark.sweep
@pytest.mark.parametrize("full", ["database", "record"])
async def test_a_disk_is_full_and_then_has_room_again(judge: Judge, full: str) -> None:
    """For the database, or for the carrier's record alone; by a limit to the size of files, which needs no root."""
    async with judge.scene("sqlite", simulated_speed=200.0) as scene:
        record = scene.data_dir / "carrier.jsonl"
        limit = 64 * 1024
        if full == "record":
            limit = 16 * 1024 * 1024
            record.write_text(" " * (limit - 1_500) + "\n")  # room for a few calls
        process = await scene.start()
        if full == "record":
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            await scene.call_all()
            word = "The carrier does not take calls"
        else:
            await scene.call_all()
            await scene.until_dialled(10)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            word = AWAY
        await says(process, word)
        stuck = len(dialled(scene.data_dir))
        assert stuck < scene.people
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await scene.until(scene.completed, 60)
        await check(scene, [])
        said = process.said()
        assert "ERROR" not in said
        if full == "database":
            assert (said.count(AWAY), said.count(BACK)) == (1, 1), said


async def test_the_clock_jumps_an_hour_forward_and_back(judge: Judge) -> None:
    """Each time with a warning; whoever is due by the wrong time is dialled when that comes."""
    async with judge.scene("sqlite", simulated_speed=100.0) as scene:
        setting = _clock(scene, "clock", 0)
        process = await scene.start(clock=str(setting))
        await scene.call_all()
        await scene.until_dialled(15)
        _clock(scene, "clock", 3600)
        await says(process, "The clock was set forward by 3600 s")
        await scene.until_dialled(25)
        _clock(scene, "clock", 0)
        await says(process, "The clock was set back by 3600 s")
        # Redials that were written down in that hour are due in it.
        _clock(scene, "clock", 3700)
        await scene.until(scene.completed, 60)
        await check(scene, [], clock_jumps=True)
        assert "ERROR" not in process.said()


async def test_two_machines_whose_clocks_are_an_hour_apart(judge: Judge) -> None:
    """Neither takes the other for dead; when one dies, the other notices as soon as ever."""
    async with judge.scene("postgresql", simulated_speed=100.0, capacity=6) as scene:
        slow = await scene.start(clock=str(_clock(scene, "slow", 0)))
        fast = await scene.start(clock=str(_clock(scene, "fast", 3600)))
        await scene.until(lambda: len(scene.workers()) == 2)
        names = scene.workers()
        await scene.call_all()
        await scene.until_dialled(scene.people // 2)
        assert scene.workers() == names
        assert "died" not in slow.said() + fast.said()
        fast.kill()
        await fast.gone()
        dead = [Dead(fast.pid, names[fast.pid], snapshot(scene), is_victim=True)]
        await scene.until(lambda: names[fast.pid] not in scene.who_is_left(), 10)
        # What the fast one put off is due by its clock.
        _clock(scene, "slow", 3700)
        await scene.until(scene.completed, 60)
        await check(scene, dead, clock_jumps=True)


def _clock(scene: Scene, name: str, seconds: float) -> Path:
    """Set a clock; whole or not at all, because it is read all the time."""
    setting = scene.data_dir / name
    new = setting.with_suffix(".new")
    new.write_text(str(seconds))
    return new.replace(setting)


@pytest.mark.sweep
@pytest.mark.parametrize("then", ["goes on", "dies at once"])
async def test_a_process_is_stopped_for_longer_than_the_others_wait(judge: Judge, then: str) -> None:
    """SIGSTOP, and SIGCONT when it was taken over: what it had claimed is not dialled, what it hears is too late."""
    async with judge.scene("postgresql", simulated_speed=100.0, capacity=6) as scene:
        stopped, _ = await scene.two()
        name = scene.workers()[stopped.pid]
        await scene.call_all()
        await scene.until_dialled(scene.people // 3)
        left = await stop_until_taken_over(scene, stopped, name)
        stopped.kill(signal.SIGCONT)
        if then == "goes on":
            await scene.until(lambda: name in scene.workers().values())
        else:
            # It claims again before it has said that it lives.
            later = sa.select(sa.func.count()).where(attempts.c.worker_id == name)
            before = scene.rows(later)[0][0]
            await poll(lambda: scene.rows(later)[0][0] > before or scene.completed())
            stopped.kill()
        await scene.until(scene.completed)
        await check(scene, [Dead(stopped.pid, name, left, is_victim=True)])
