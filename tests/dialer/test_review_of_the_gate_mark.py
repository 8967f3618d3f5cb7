"""A process without the gate: what it may still do while one with a gate starts next to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from batchcall_mcp.cli import cli
from batchcall_mcp.dialer import app
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier
from batchcall_mcp.dialer.storage.store import Store
from tests.dialer.conftest import NewCaller, emptied_postgresql, eventually, numbers
from tests.dialer.test_predial import gating


async def test_an_engine_without_the_gate_that_runs_already_leaves_the_file_to_a_process_that_has_it(
    new_caller: NewCaller,
) -> None:
    """An MCP client was open when the operator set up the gate: what waits is asked about, and dialled."""
    async with new_caller() as without:
        later = await without.create(numbers(3), trigger_timestamp="2026-11-23T20:05:00Z")
        async with gating(new_caller) as gated:
            gated.caller.clock.forward(minutes=6)
            await gated.caller.until_status(later, "completed")
            assert set(gated.asked()) == set(numbers(3))
            refused = await without.ask("POST", f"/batch-call/{later}/retry", {"task_ids": ["x"]}, status=409)
            assert refused["code"] == "dialer_halted"


async def test_calls_in_progress_end_as_they_would_before_the_file_is_left(new_caller: NewCaller) -> None:
    async with new_caller(simulated_speed=20) as without:
        running = await without.create(numbers(1), send_now=True)
        await without.until(running, lambda data: data["counts"]["calling"] == 1)
        async with gating(new_caller) as gated:
            done = await gated.caller.until(running, lambda data: data["status"] == "completed")
            assert done["counts"].get("interrupted", 0) == 0
            assert gated.asked() == {}


async def test_on_postgresql_nobody_is_dialled_unasked_once_the_gate_is_noted(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is noted while a process without the gate asks its carrier to dial: it waits until that is over."""
    database = emptied_postgresql()
    dial: Callable[[SimulatedCarrier, Attempt], None] = SimulatedCarrier.dial
    noting: list[Future[None]] = []
    early: list[str] = []
    other = Store.open(database)

    def waits() -> bool:
        with other.reading() as tx:
            return bool(tx.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")))

    def dial_while_it_is_noted(self: SimulatedCarrier, attempt: Attempt) -> None:
        if not noting:
            noting.append(threads.submit(app._note_the_gate, other))
            while not noting[0].done() and not waits():
                pass
        early.extend([attempt.to_number] if noting[0].done() else [])
        dial(self, attempt)

    monkeypatch.setattr(SimulatedCarrier, "dial", dial_while_it_is_noted)
    with ThreadPoolExecutor(1) as threads:
        async with new_caller(database=database, folder=tmp_path / "without") as without:
            await without.create(numbers(1), send_now=True)
            await eventually(lambda: bool(noting) and noting[0].done())
    other.close()
    assert early == []


async def test_on_postgresql_what_runs_without_the_gate_goes_on_with_it(new_caller: NewCaller, tmp_path: Path) -> None:
    database = emptied_postgresql()
    async with new_caller(database=database, folder=tmp_path / "without", simulated_speed=100) as without:
        running = await without.create(numbers(40), send_now=True, max_concurrency=4)
        await without.until(running, lambda data: data["counts"]["completed"] > 0)
        async with gating(new_caller, database=database, folder=tmp_path / "with") as gated:
            unasked = {line["to_number"] for line in without.dialled()}
            await gated.caller.until_status(running, "completed")
            assert {line["to_number"] for line in without.dialled()} == unasked
            assert set(gated.asked()) == {line["to_number"] for line in gated.caller.dialled()}


async def test_a_copy_that_is_adopted_keeps_the_gate(new_caller: NewCaller, tmp_path: Path) -> None:
    async with gating(new_caller, folder=tmp_path / "first") as gated:
        draft = await gated.caller.create(numbers(1))
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "first" / "dialer.db", tmp_path / "copy" / "dialer.db")
    async with new_caller(folder=tmp_path / "copy") as without:
        refused = await without.ask("POST", f"/batch-call/{draft}/execute", status=409)
        assert "dialer adopt" in refused["error"]
    adopted = CliRunner().invoke(cli, ["dialer", "adopt"], env={"BATCHCALL_DATA_DIR": str(tmp_path / "copy")})
    assert adopted.exit_code == 0, adopted.output
    async with new_caller(folder=tmp_path / "copy") as without:
        refused = await without.ask("POST", f"/batch-call/{draft}/execute", status=409)
        assert "remove-gate" in refused["error"]
        assert without.dialled() == []
