"""The engine and a carrier over HTTP together: a vendor that loses answers, pauses, processes that leave."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import anyio
import pytest
from pydantic import SecretStr

from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.storage.store import Store
from tests.carriers.scripted import ScriptedCarrier, ScriptedVendor, config_for
from tests.dialer.conftest import CALLER, eventually, numbers
from tests.dialer.wired import Desk
from tests.faults.server import Answerer, answer, hang_up, reset

FASTER = 30


def carrier_of(vendor: ScriptedVendor, key: str | None = None, faster: float = FASTER) -> ScriptedCarrier:
    """Reads so much more often than it would; all that it waits for ends as much sooner, on a busy machine too."""
    vendor.numbers = [{"number": CALLER}]
    given = {} if key is None else {"key": SecretStr(key)}
    return ScriptedCarrier(
        config_for(vendor.url, calls_per_second=50.0, **given),
        clock=lambda: monotonic() * faster,
        sleep=lambda seconds: anyio.sleep(seconds / faster),
    )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Store.open(tmp_path / "dialer.db"))


async def test_everybody_is_rung_once_although_answers_are_lost(desk: Desk) -> None:
    async with ScriptedVendor("queued", "going", "completed").served() as vendor:
        vendor.goes_wrong("create", hang_up, reset, answer(500), answer(201, "{}"), answer(503), done=True)
        carrier = carrier_of(vendor)
        batch_call_id = desk.running(numbers(12), carrier="scripted")
        async with desk.engine(carrier):
            await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
        await carrier.aclose()
    assert desk.statuses(batch_call_id) == {"completed": 12}
    assert sorted(vendor.rung) == sorted(numbers(12))
    assert len(vendor.asked("create")) == 12
    assert (len(vendor.asked("numbers")), vendor.asked("stop")) == (1, [])


async def test_what_is_lost_for_good_is_interrupted_and_nobody_is_asked_for_twice(desk: Desk) -> None:
    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("create", hang_up, answer(502))
        carrier = carrier_of(vendor)
        batch_call_id = desk.running(numbers(5), carrier="scripted")
        async with desk.engine(carrier):
            await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
        await carrier.aclose()
    assert desk.statuses(batch_call_id) == {"completed": 3, "interrupted": 2}
    assert len(vendor.asked("create")) == 5


async def test_calls_that_a_process_leaves_go_on_and_are_read_by_the_next_one(desk: Desk) -> None:
    async with ScriptedVendor("going").served() as vendor:
        vendor.goes_wrong("create", silent, done=True)  # one whose answer never comes
        first = carrier_of(vendor)
        batch_call_id = desk.running(numbers(5), carrier="scripted")
        async with desk.engine(first):
            await eventually(lambda: len(vendor.calls) == 5 and len(vendor.asked("look")) > 8)
        await first.aclose()
        assert desk.statuses(batch_call_id) == {"calling": 5}
        for call in vendor.calls.values():
            call.story = ["completed"]
        second = carrier_of(vendor)
        async with desk.engine(second):
            await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
        await second.aclose()
    assert desk.statuses(batch_call_id) == {"completed": 5}
    assert len(vendor.asked("create")) == 5
    assert vendor.asked("stop") == []


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """No answer, as long as somebody waits for it."""
    await reader.read()


async def test_no_request_leaves_after_a_pause(desk: Desk) -> None:
    there, goes = asyncio.Event(), asyncio.Event()

    def waiting(then: Answerer) -> Answerer:
        async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there.set()
            await goes.wait()
            await then(reader, writer)

        return send

    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("agents", waiting(answer(200, "[]")))
        carrier = carrier_of(vendor)
        batch_call_id = desk.running(numbers(3), carrier="scripted")
        async with desk.engine(carrier):
            await there.wait()
            await asyncio.to_thread(desk.move, batch_call_id, Action.PAUSE)
            goes.set()
            await eventually(lambda: desk.statuses(batch_call_id) == {"pending": 3})
            assert vendor.asked("create") == []
            await asyncio.to_thread(desk.move, batch_call_id, Action.RESUME)
            await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)
        await carrier.aclose()
    assert len(vendor.asked("create")) == 3


async def test_a_wrong_key_pauses_a_long_list_after_one_request(desk: Desk) -> None:
    async with ScriptedVendor().served() as vendor:
        carrier = carrier_of(vendor, key="wrong_key_0123456789", faster=1)
        batch_call_id = desk.running(numbers(200), carrier="scripted")
        async with desk.engine(carrier):
            await eventually(lambda: desk.record(batch_call_id).status is State.PAUSED)
        await carrier.aclose()
    record = desk.record(batch_call_id)
    assert record.status_reason == "account"
    assert "BATCHCALL_CARRIER_KEY" in str(record.status_reason_text)
    assert "wrong_key" not in str(record.status_reason_text)
    assert desk.statuses(batch_call_id) == {"pending": 200}
    assert len(vendor.requests) == 1
