"""What nobody sends is in nobody's hand, for every process: else others wait for it and `ledger resolve` refuses."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import sqlalchemy as sa

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.errors import ConfigurationError, OutcomeUnknown
from batchcall_mcp.guard.delivery import write_sender
from batchcall_mcp.guard.delivery.write_sender import Ticket
from batchcall_mcp.guard.ledger import database
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.write_record import Entry, Evidence, Intent, WriteState
from batchcall_mcp.model import BatchCall, BatchStatus
from batchcall_mcp.settings import Settings
from tests.dialer_kills.judging import poll
from tests.guard.test_sending import Desk, desk

STOP = Intent(
    caller="a",
    backend="zudu",
    tool="pause_batch_call",
    operation=Operation.PAUSE,
    batch_call_id="bc_1",
    fingerprint="e" * 64,
    evidence=Evidence(),
)
PAUSED = BatchCall(batch_call_id="bc_1", status=BatchStatus.PAUSED)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_AGAIN_EVERY_S", 0.01)


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Desk, Ledger]]:
    """A caller, and another process on the same ledger."""
    async with desk(folder) as at:
        other = Ledger.open(Settings(data_dir=folder), at.clock)
        yield at, other
        other.close()


class Held:
    """What is recorded is committed, and its thread does not come back until it is let go."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        self.recorded, self.let_go = anyio.Event(), threading.Event()
        note, loop = ledger.database.note_newest, anyio.lowlevel.current_token()

        def noted(write_id: int | None = None) -> None:
            anyio.from_thread.run_sync(self.recorded.set, token=loop)
            assert self.let_go.wait(60)
            note(write_id)

        monkeypatch.setattr(ledger.database, "note_newest", noted)


def the_one(ledger: Ledger) -> Entry:
    entry = ledger.writes.entry(1)
    assert entry is not None
    return entry


async def test_a_stop_that_is_cancelled_while_it_is_recorded_was_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(_ticket: Ticket) -> BatchCall:
        raise AssertionError("its caller is gone")

    async with two(tmp_path) as (at, other):
        held = Held(at.ledger, monkeypatch)
        async with anyio.create_task_group() as group:
            group.start_soon(at.sender.send, STOP, send)
            await held.recorded.wait()
            group.cancel_scope.cancel()
        held.let_go.set()
        await poll(lambda: the_one(other).state is not WriteState.SENDING)
        assert the_one(other).state is WriteState.REFUSED
        assert not at.ledger.writes.is_in_hand(the_one(other))


async def test_a_stop_that_went_on_without_the_ledger_is_not_being_sent_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_sender, "STOP_WAITS_S", -0.9)

    async def send(_ticket: Ticket) -> BatchCall:
        return PAUSED

    async with two(tmp_path) as (at, other):
        held = Held(at.ledger, monkeypatch)
        outcome = await at.sender.send(STOP, send)
        assert outcome.note is not None
        held.let_go.set()
        await poll(lambda: the_one(other).state is not WriteState.SENDING)
        assert the_one(other).state is WriteState.UNKNOWN, "it was sent, and what it did can be looked up"
        assert await at.sender.seen("zudu", "bc_1") == 1, "a launch that sees it is in nobody's way"


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Entries can be read, and not be changed."""
    with sqlite3.connect(folder / "ledger.db") as ledger:
        ledger.execute("CREATE TRIGGER full BEFORE UPDATE ON writes BEGIN SELECT RAISE(FAIL, 'the disk is full'); END")
    yield
    with ledger:
        ledger.execute("DROP TRIGGER full")
    ledger.close()


@pytest.mark.parametrize("answer", ["made", "lost"])
async def test_an_outcome_that_could_not_be_recorded_is_recorded_when_it_can_be(tmp_path: Path, answer: str) -> None:
    """Other processes take it for one that is being sent, as long as this one lives."""

    async def send(_ticket: Ticket) -> BatchCall:
        if answer == "lost":
            raise OutcomeUnknown("lost")
        return PAUSED

    async with two(tmp_path) as (at, other):
        resume = replace(STOP, operation=Operation.UPDATE, tool="update_batch_call")
        with unwritable(tmp_path):
            if answer == "lost":
                with pytest.raises(OutcomeUnknown):
                    await at.sender.send(resume, send)
            else:
                await at.sender.send(resume, send)
            assert the_one(other).state is WriteState.SENDING
        await poll(lambda: not other.writes.is_in_hand(the_one(other)))
        assert the_one(other).state is (WriteState.UNKNOWN if answer == "lost" else WriteState.DONE)


async def test_what_was_recorded_although_the_ledger_said_no_was_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to its commit was lost."""
    async with two(tmp_path) as (at, other):
        writing = at.ledger.database.writing

        @contextmanager
        def lost(*given: Any) -> Iterator[sa.Connection]:
            with writing(*given) as tx:
                yield tx
            raise ConfigurationError("the connection was lost")

        monkeypatch.setattr(at.ledger.database, "writing", lost)
        with pytest.raises(ConfigurationError):
            await anyio.to_thread.run_sync(at.ledger.writes.begin, at.intent)
        monkeypatch.setattr(at.ledger.database, "writing", writing)
        await poll(lambda: the_one(other).state is not WriteState.SENDING)
        assert the_one(other).state is WriteState.REFUSED
        assert isinstance(other.writes.begin(at.intent), Entry), "an equal call is a new one"
