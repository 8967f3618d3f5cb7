"""Several dialers in one process on PostgreSQL take turns: DBOS, which runs their lanes, is one for a process."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from dbos._sys_db import SystemDatabase

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.carriers.base import Attempt, Line, Outcome
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier
from batchcall_mcp.dialer.engine import heartbeat
from batchcall_mcp.dialer.engine.lanes import opening as lanes
from batchcall_mcp.dialer.engine.lanes.dbos_queue import DbosQueue
from tests.dialer.conftest import Caller, Clock, client_of, emptied_postgresql, eventually, numbers
from tests.postgresql import postgresql_url

Open: TypeAlias = Callable[..., AbstractAsyncContextManager[Caller]]
LONG = 0.001
"""A simulated speed at which a call does not end within a test."""


@pytest.fixture
def open_caller(tmp_path: Path, clock: Clock) -> Open:
    """Dialers of this process with a database each, unless one is given."""

    @asynccontextmanager
    async def make(name: str, **given: Any) -> AsyncIterator[Caller]:
        options: dict[str, Any] = {"simulated_speed": 10_000.0, "clock": clock, "poll_seconds": 0.02, **given}
        options.setdefault("database", postgresql_url())
        home = tmp_path / name
        dialer = EmbeddedDialer(home, **options)
        await dialer.start()
        assert dialer._supervisor is not None
        # A turn must come by a signal, not because somebody looks again and again.
        dialer._supervisor.engine._poll_seconds = 3600
        try:
            async with client_of(dialer.app, *dialer.credentials) as http:
                yield Caller(dialer, http, clock, home)
        finally:
            await dialer.aclose()

    return make


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The dialer's own lines that an operator sees."""
    return [
        one.getMessage()
        for one in caplog.records
        if one.name.startswith("batchcall_mcp") and one.levelno >= logging.WARNING
    ]


class Held(SimulatedCarrier):
    """Its calls end when the test says so."""

    def __init__(self, record: Path) -> None:
        super().__init__(record, speed=10_000.0)
        self.ends = threading.Event()

    async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
        while not self.ends.is_set():  # noqa: ASYNC110 - DBOS has an event loop of its own
            await anyio.sleep(0.01)
        return await super().outcome(attempt, line)


async def test_two_dialers_of_a_process_both_finish_and_the_one_that_waits_says_so_once(
    open_caller: Open, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    held = Held(tmp_path / "one" / "carrier.jsonl")
    async with open_caller("one", carrier=held) as one, open_caller("two") as two:
        assert two.dialer._supervisor is not None
        two.dialer._supervisor.engine._poll_seconds = 0.02  # asks for its turn again and again
        first = await one.create(numbers(3), send_now=True)
        await eventually(lambda: len(one.dialled()) == 3)
        second = await two.create(numbers(3), send_now=True)
        await two.until(second, lambda _data: bool(said(caplog)))
        assert two.dialled() == [], "DBOS is the other one's while that dials"
        held.ends.set()
        await two.until_status(second, "completed")
        assert (await one.get(first))["status"] == "completed"
        assert (len(one.dialled()), len(two.dialled())) == (3, 3)
    (line,) = said(caplog)
    assert line == lanes.WAITS
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_dialer_that_rests_lets_go_at_once_for_one_that_waits(open_caller: Open) -> None:
    """It keeps DBOS for half a minute only while nobody else of its process needs it."""
    async with open_caller("one") as one, open_caller("two") as two:
        await one.until_status(await one.create(numbers(1), send_now=True), "completed")
        assert lanes.DBOS_TURNS.taken
        await two.until_status(await two.create(numbers(1), send_now=True), "completed")
        await one.until_status(await one.create(numbers(1), send_now=True), "completed")


async def test_the_next_one_takes_over_at_once_when_a_dialer_closes(open_caller: Open) -> None:
    async with open_caller("two") as two:
        async with open_caller("one", simulated_speed=LONG) as one:
            await one.create(numbers(1), send_now=True)
            await eventually(lambda: len(one.dialled()) == 1)
            batch_call_id = await two.create(numbers(1), send_now=True)
            await eventually(lambda: lanes.DBOS_TURNS.waiting == 1)
        await two.until_status(batch_call_id, "completed")


async def test_a_dialer_that_waits_serves_and_stops_and_closes_without_waiting_for_its_turn(
    open_caller: Open,
) -> None:
    async with open_caller("one", simulated_speed=LONG) as one:
        await one.create(numbers(1), send_now=True)
        await eventually(lambda: len(one.dialled()) == 1)
        async with open_caller("two") as two:
            batch_call_id = await two.create(numbers(1), send_now=True)
            await eventually(lambda: lanes.DBOS_TURNS.waiting == 1)
            assert (await two.ask("POST", f"/batch-call/{batch_call_id}/cancel"))["status"] == "cancelled"
            # Nothing is left that it would wait for.
            await eventually(lambda: lanes.DBOS_TURNS.waiting == 0)
            await two.create(numbers(1), send_now=True)
            await eventually(lambda: lanes.DBOS_TURNS.waiting == 1)
            with anyio.fail_after(60):  # the other one's call goes on for hours
                await two.dialer.aclose()
            assert lanes.DBOS_TURNS.waiting == 0
            assert two.dialled() == []


async def test_a_dialer_that_waits_on_postgresql_lives_and_what_it_shares_is_dialled(
    open_caller: Open,
) -> None:
    """Nobody takes it for dead, nor does it stand in the way of those that dial from the same database."""
    url = emptied_postgresql()
    async with (
        open_caller("one", database=url, beat_seconds=0.1) as one,
        open_caller("two", database=url, beat_seconds=0.1) as two,
    ):
        await one.until_status(await one.create(numbers(1), send_now=True), "completed")
        store = two.dialer.store()
        both = heartbeat.listed(store)
        assert len(both) == 2
        batch_call_id = await two.create(numbers(40), send_now=True)
        await two.until_status(batch_call_id, "completed")
        assert heartbeat.listed(store) == both
        assert len({line["attempt_id"] for line in [*one.dialled(), *two.dialled()]}) == 41


async def test_dbos_takes_up_no_further_lane_while_it_waits_for_the_last_one(
    open_caller: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it took up then could not run: its event loop is about to end, and the thread would wait for it for ever.

    A thread that polls just now, however slowly, is waited for before anything is looked up or dropped.
    """
    polls, goes_on = threading.Event(), threading.Event()
    still_polling: list[str] = []
    takes_up = SystemDatabase.start_queued_workflows
    waits, joins = DbosQueue._wait_for_the_last, threading.Thread.join

    def take_up_slowly(*given: Any, **named: Any) -> Any:
        if is_polling(threading.current_thread()):
            polls.set()
            goes_on.wait()
        return takes_up(*given, **named)

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        if is_polling(thread) and "queue_thread" not in threading.current_thread().name:  # DBOS's own joins it too
            goes_on.set()
        joins(thread, timeout)

    def wait(queue: DbosQueue) -> None:
        still_polling.extend(thread.name for thread in threading.enumerate() if is_polling(thread))
        goes_on.set()
        waits(queue)

    async with open_caller("one") as one:
        await one.until_status(await one.create(numbers(1), send_now=True), "completed")
        monkeypatch.setattr(DbosQueue, "_wait_for_the_last", wait)
        monkeypatch.setattr(threading.Thread, "join", join)
        monkeypatch.setattr(SystemDatabase, "start_queued_workflows", take_up_slowly)
        await eventually(polls.is_set)
    assert still_polling == []


def is_polling(thread: threading.Thread) -> bool:
    return "batchcall-lanes" in thread.name
