"""A dialer that is closed at a bad moment, or whose closing is cut short, leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.engine import heartbeat
from batchcall_mcp.dialer.storage.store import Store
from tests.dialer.conftest import NewCaller, emptied_postgresql, eventually, numbers


def dialling_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("batchcall-dialer")]


async def test_closing_that_is_cancelled_cuts_calls_off_and_ends_the_engine(new_caller: NewCaller) -> None:
    """Nobody waits for the calls in progress any more; the event loop goes on meanwhile."""
    async with new_caller(simulated_speed=1.0, drain_seconds=60) as caller:
        batch_call_id = await caller.create(numbers(3), send_now=True)
        await eventually(lambda: len(caller.dialled()) == 3)
        closing = asyncio.create_task(caller.dialer.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await eventually(lambda: not dialling_threads())
        data = await caller.until(batch_call_id, lambda data: data["counts"]["calling"] == 0)
        assert data["counts"]["interrupted"] == 3


async def test_a_sign_of_life_does_not_outlive_the_dialer(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is under way while it closes would stay in the list, and be taken for dead by the others."""
    real = heartbeat.beat
    dialling, held, let_go = threading.Event(), threading.Event(), threading.Event()

    def beat(store: Store, worker_id: str, capacity: int) -> Mapping[str, int]:
        if dialling.is_set():
            held.set()
            assert let_go.wait(20)
        return real(store, worker_id, capacity)

    monkeypatch.setattr(heartbeat, "beat", beat)
    async with new_caller(database=emptied_postgresql(), beat_seconds=0.01) as caller:
        dialling.set()
        await eventually(held.is_set)
        store = caller.dialer.store()
        closing = asyncio.create_task(caller.dialer.aclose())
        await asyncio.wait({closing}, timeout=0.2)
        let_go.set()
        await closing
        await eventually(lambda: not dialling_threads())
        assert heartbeat.listed(store) == set()
        store.close()


async def test_a_dialer_that_cannot_hand_over_ends_all_the_same(new_caller: NewCaller) -> None:
    """All connections are in use while it closes; the next one of this process dials."""
    async with new_caller() as caller:
        batch_call_id = await caller.create(numbers(1), send_now=True)
        await caller.until_status(batch_call_id, "completed")
        pool = caller.dialer.store().engine.pool
        assert isinstance(pool, sa.pool.QueuePool)
        pool._timeout = 0.05
        with contextlib.ExitStack() as held:
            while pool.overflow() < pool._max_overflow or pool.checkedin():
                held.enter_context(caller.dialer.store().reading())
            await caller.dialer.aclose()
        await caller.dialer.start()
        batch_call_id = await caller.create(numbers(1), send_now=True)
        await caller.until_status(batch_call_id, "completed")
