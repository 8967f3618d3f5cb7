"""The data folder is deleted, or a file of it replaced, under a dialer that runs: it dials nobody any more."""

from __future__ import annotations

import shutil
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pytest

from batchcall_mcp.clock import utc_now
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from tests import forked
from tests.dialer.conftest import ALWAYS, NewCaller, dialled, eventually, numbers
from tests.dialer.test_health import anonymous
from tests.dialer.test_processes import PROCESS, Dialer

FILES = ("dialer.db", "dialer.db.engine.lock", "carrier.jsonl")
SAYS = "was deleted, moved or replaced while the dialer ran"


@asynccontextmanager
async def dialer(data_dir: Path, speed: float, log: IO[bytes]) -> AsyncIterator[Dialer]:
    process = await create_subprocess_exec(
        *forked.program(), "-m", PROCESS, str(data_dir), str(speed), stdin=PIPE, stdout=PIPE, stderr=log
    )
    try:
        yield Dialer(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_deleted_folder_ends_the_dialling_and_a_second_dialer_begins_afresh(
    new_caller: NewCaller, tmp_path: Path
) -> None:
    """The record of the first, which no longer has a name, gets no further line once it has said so."""
    folder, log = tmp_path / "data", tmp_path / "log"
    async with new_caller(start=False, clock=utc_now, folder=folder) as desk:
        batch_call_id = await desk.create(numbers(3_000), send_now=True, max_concurrency=20)
    with log.open("wb") as lines:
        async with dialer(folder, 200, lines) as first:
            await first.says("running")
            await eventually(lambda: len(dialled(folder)) >= 50)
            with (folder / "carrier.jsonl").open("rb") as record:
                shutil.rmtree(folder)
                await eventually(lambda: SAYS in log.read_text())
                rang = len(record.read().splitlines())
                assert 50 <= rang < 3_000

                async with dialer(folder, 10_000, lines) as second:
                    await second.says("running")
                    async with new_caller(start=False, clock=utc_now, folder=folder) as desk:
                        await desk.ask("GET", f"/batch-call/{batch_call_id}", status=404)
                        other = await desk.create(numbers(20), send_now=True)
                        await desk.until_status(other, "completed")
                    assert await second.close() == 0
                assert len(dialled(folder)) == 20
                assert record.read() == b""
            assert await first.close() == 0
    assert log.read_text().count(SAYS) == 1


@pytest.mark.sweep
@pytest.mark.parametrize("how", ["deleted", "replaced"])
@pytest.mark.parametrize("name", FILES)
async def test_without_its_own_files_nobody_is_dialled_and_it_is_said(
    new_caller: NewCaller, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, how: str
) -> None:
    """Once in the log, at /readyz, in what a launch is answered, and in the batch call itself."""
    async with new_caller() as caller:
        before = await caller.create(numbers(2), send_now=True)
        await caller.until_status(before, "completed")
        draft = await caller.create(numbers(2, 1))
        running = await caller.create(numbers(3, 2), send_now=True, window=NEVER_NOW)
        path = tmp_path / name
        connections = caller.dialer.store().engine
        with ExitStack() as at_once:  # each request here finds one that is open: there will be no other
            for _ in range(5):
                at_once.enter_context(connections.connect())
        pool: Any = connections.pool
        await eventually(lambda: pool.checkedout() == 0)  # nor one that is being opened
        if how == "deleted":
            path.unlink()
        else:
            shutil.copy(path, tmp_path / "copy")
            (tmp_path / "copy").replace(path)
        paused = await caller.until_status(running, "paused")
        assert paused["status_reason"]["code"] == "error"
        assert f"{name} {SAYS}" in paused["status_reason"]["text"]
        for method, at, content in (
            ("POST", f"/batch-call/{draft}/execute", None),
            ("POST", f"/batch-call/{running}/resume", None),
            ("POST", f"/batch-call/{before}/retry", {"task_status": ["completed"]}),
            ("POST", "/batch-call", {"from_number": "+14157774444", "tasks": [{"to_number": numbers(1)[0]}]}),
        ):
            refused = await caller.ask(method, at, content, status=409)
            assert refused["code"] == "dialer_halted"
            assert f"{name} {SAYS}" in refused["error"]
            assert "Nothing was changed. Restart the dialer" in refused["error"]
        async with anonymous(caller.dialer.app) as http:
            answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "files_replaced")
        assert str(tmp_path) not in answer.text
        # What stops calls is not held up.
        assert (await caller.ask("POST", f"/batch-call/{running}/cancel"))["status"] == "cancelled"
    assert len([record for record in caplog.records if SAYS in record.getMessage()]) == 1


NEVER_NOW = {**ALWAYS, "days": [0]}
"""The clock of the tests stands on a Monday."""


async def test_what_is_claimed_when_the_file_goes_is_not_dialled(new_caller: NewCaller, tmp_path: Path) -> None:
    """Between the claim and the dial is a commit: the file is looked at again."""
    async with new_caller(start=False) as caller:
        batch_call_id = await caller.create(numbers(3), send_now=True)
        store = caller.dialer.store()
        dispatch = Dispatch(store, "bench", daily_cap=3, retry_delay=timedelta(0))
        turn = dispatch.record_and_claim([], {batch_call_id: 3})
        assert len(turn.started) == 3
        (tmp_path / "dialer.db").rename(tmp_path / "elsewhere.db")
        asked: list[Attempt] = []

        def dial(attempt: Attempt) -> bool:
            asked.append(attempt)
            return True

        dispatch.dial(turn.started, store.clock(), lambda: True, dial)
        assert asked == []
        assert (await caller.get(batch_call_id))["counts"]["pending"] == 3
        assert dispatch.record_and_claim([], {batch_call_id: 3}).started == []
