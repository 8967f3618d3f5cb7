"""The engine with Retell and with Vapi: a list on their strict fakes, with answers lost and processes that leave."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypeAlias

import pytest

from batchcall_mcp.dialer.carriers.http_carrier import HttpCarrier
from batchcall_mcp.dialer.carriers.vendors.retell import RetellCarrier
from batchcall_mcp.dialer.carriers.vendors.vapi import VapiCarrier
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage.store import Store
from tests.carriers import retell, vapi
from tests.carriers.retell import Retell
from tests.carriers.vapi import Vapi
from tests.dialer.conftest import eventually, numbers
from tests.dialer.wired import Desk

Fake: TypeAlias = Retell | Vapi
FASTER = 60.0
BOTH: list[tuple[type[Fake], type[HttpCarrier], str]] = [
    (Retell, RetellCarrier, retell.AGENT),
    (Vapi, VapiCarrier, vapi.ASSISTANT),
]
both = pytest.mark.parametrize(("fake", "kind", "agent"), BOTH, ids=["retell", "vapi"])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Store.open(tmp_path / "dialer.db"))


def running(desk: Desk, kind: type[HttpCarrier], agent: str, people: list[str]) -> str:
    return desk.running(people, carrier=kind.name, from_number=retell.NUMBER, agent_id=agent)


@both
async def test_everybody_is_rung_once_and_has_their_outcome(
    desk: Desk, fake: type[Fake], kind: type[HttpCarrier], agent: str
) -> None:
    vendor = fake()
    vendor.speed = FASTER
    people = [*numbers(4), *numbers(2, 7), *numbers(2, 8), *numbers(2, 9), *numbers(1, 6)]
    batch_call_id = running(desk, kind, agent, people)
    vendor.drop_create_answer()
    async with vendor.carrier(kind, calls_per_second=50.0) as carrier, desk.engine(carrier):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)

    assert desk.statuses(batch_call_id) == {"completed": 4, "busy": 2, "voicemail": 2, "failed": 2, "no_answer": 1}
    assert Counter(number for number, _ in vendor.rung) == Counter(people)


@both
async def test_calls_that_a_process_leaves_are_read_by_the_next_one(
    desk: Desk, fake: type[Fake], kind: type[HttpCarrier], agent: str
) -> None:
    vendor = fake()
    vendor.speed = 0.5
    batch_call_id = running(desk, kind, agent, numbers(4))
    async with vendor.served() as url:
        async with vendor.carrier_at(kind, url, calls_per_second=50.0) as first, desk.engine(first):
            await eventually(lambda: len(vendor.rung) == 4 and desk.statuses(batch_call_id) == {"calling": 4})
        vendor.speed = FASTER
        async with vendor.carrier_at(kind, url, calls_per_second=50.0) as second, desk.engine(second):
            await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)

    assert desk.statuses(batch_call_id) == {"completed": 4}
    assert len(vendor.creates) == len(vendor.rung) == 4


@both
async def test_a_wrong_key_pauses_the_batch_call_and_fails_nobody(
    desk: Desk, fake: type[Fake], kind: type[HttpCarrier], agent: str
) -> None:
    vendor = fake()
    vendor.speed = 1.0  # a carrier remembers for a minute that its key is wrong
    batch_call_id = running(desk, kind, agent, numbers(100))
    async with vendor.carrier(kind, calls_per_second=50.0) as carrier:
        vendor.key = "another"
        async with desk.engine(carrier):
            await eventually(lambda: desk.record(batch_call_id).status is State.PAUSED)

    record = desk.record(batch_call_id)
    assert (record.status_reason, desk.statuses(batch_call_id)) == ("account", {"pending": 100})
    assert vendor.creates == []
    assert len(vendor.requests) <= 3


async def test_whoever_found_no_line_at_retell_is_placed_later(desk: Desk) -> None:
    """With a key of its own: with the first one Retell would answer with the call that found no line."""
    vendor = Retell()
    vendor.speed = FASTER
    vendor.next_word = "concurrency_limit_reached"
    batch_call_id = running(desk, RetellCarrier, retell.AGENT, numbers(1, 7))
    async with vendor.carrier(RetellCarrier, calls_per_second=50.0) as carrier, desk.engine(carrier):
        await eventually(lambda: desk.record(batch_call_id).status is State.COMPLETED)

    assert desk.statuses(batch_call_id) == {"busy": 1}
    assert [one["idempotency_key"].count(":") for one in vendor.creates] == [1, 2]


async def test_who_asks_retell_not_to_be_called_is_on_the_do_not_call_list(desk: Desk) -> None:
    """For every later batch call of this organisation."""
    vendor = Retell()
    vendor.speed = FASTER
    vendor.next_word = "user_requested_dnc"
    people = numbers(1)
    first = running(desk, RetellCarrier, retell.AGENT, people)
    async with vendor.carrier(RetellCarrier, calls_per_second=50.0) as carrier, desk.engine(carrier):
        await eventually(lambda: desk.record(first).status is State.COMPLETED)
        second = running(desk, RetellCarrier, retell.AGENT, people)
        await eventually(lambda: desk.record(second).status is State.COMPLETED)

    assert (desk.statuses(first), desk.statuses(second)) == ({"completed": 1}, {"skipped": 1})
    assert len(vendor.rung) == 1
