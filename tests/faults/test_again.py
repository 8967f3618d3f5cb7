"""The same call once more after its answer was lost: what it finds; nobody is called and nothing made twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.clock import utc_now
from tests.faults.matrix import ANSWER, FAULTS, FINE, NOT_SHOWN, UNKNOWN, WRITES, Expected, Fault, status_fault
from tests.faults.observing import BACKENDS, EVERY_FAULT, HTTP, Stage, impatient, staged
from tests.faults.server import answer

NOTHING_WRONG = Fault("nothing", lambda good: answer(200, good.body), *FINE)
_NAMED = {fault.name: fault for fault in FAULTS}
SHOWS = (
    _NAMED["reset after it was carried out"],
    _NAMED["a page instead of JSON"],
    _NAMED["carried out, and no answer to anything from then on"],
    status_fault(500),
)
SHOWS_NOTHING = (_NAMED["reset before it is carried out"], status_fault(408))

LISTING = [name for name in BACKENDS if Operation.LIST in HTTP[name].backend.capabilities.operations]
"""Where what a lost create has made can be looked up."""


def on_all(faults: Sequence[Fault], backends: Sequence[str]) -> list[Any]:
    """Every fault where every fault is tried, the first one on the other backends."""
    return [
        pytest.param(backend, fault, id=f"{backend}: {fault.name}")
        for backend in backends
        for fault in (faults if backend in EVERY_FAULT else faults[:1])
    ]


async def again(stage: Stage, fault: Fault) -> dict[str, tuple[Expected, str]]:
    """What each write gets when it is repeated, with nothing wrong any more."""
    writes = [tool for tool in stage.vendor.tools if tool in WRITES]
    for tool in writes:
        await stage.observe(fault, tool)
    repeated = [await stage.observe(NOTHING_WRONG, tool) for tool in writes]
    return {cell.tool: (cell.expected, cell.text) for cell in repeated}


def dialled_within_an_hour(stage: Stage) -> list[str]:
    """Some services begin a while after they were told to."""
    stage.vendor.fake.tick(utc_now() + timedelta(hours=1))
    return list(stage.vendor.fake.dialled)


@pytest.mark.sweep
@pytest.mark.parametrize(("backend", "fault"), on_all(SHOWS, LISTING))
async def test_what_took_effect_is_found_and_nothing_is_sent(backend: str, fault: Fault) -> None:
    with impatient():
        async with staged(backend) as stage:
            found = await again(stage, fault)
            dialled = dialled_within_an_hour(stage)
    shown = {tool: cell for tool, cell in found.items() if f"{backend} {tool}" not in NOT_SHOWN}
    assert {expected.requests for expected, _ in shown.values()} == {0}
    assert found.keys() - shown.keys() <= {"cancel_batch_call"}  # what stops calls may be sent again
    assert {expected.code for expected, _ in shown.values()} == {ANSWER}
    said = {
        "create_batch_call": '"replayed":true',
        "start_batch_call": '"replayed":true',
        "cancel_batch_call": '"result":"nothing_to_do"',
    }
    assert [tool for tool, (_, text) in shown.items() if said[tool] not in text] == []
    assert len(dialled) == ("start_batch_call" in shown)


@pytest.mark.sweep
@pytest.mark.parametrize(("backend", "fault"), on_all(SHOWS_NOTHING, LISTING))
async def test_what_shows_nowhere_is_looked_up_again_and_only_what_stops_calls_is_sent_again(
    backend: str, fault: Fault
) -> None:
    with impatient():
        async with staged(backend) as stage:
            found = await again(stage, fault)
            dialled, ids = dialled_within_an_hour(stage), stage.vendor.ids
    keeps_keys = HTTP[backend].backend.capabilities.idempotency == "key"  # it lets a write with its key happen once
    launched = Expected(ANSWER, 1) if keeps_keys else Expected(UNKNOWN, 0)
    promised = {tool: Expected(ANSWER, 1) if tool == "cancel_batch_call" else launched for tool in found}
    assert {tool: expected for tool, (expected, _) in found.items()} == promised
    assert len(dialled) == (keeps_keys and "start_batch_call" in found)  # a create is for tomorrow
    if not keeps_keys:
        assert "does not show it" in found["create_batch_call"][1]
        waits = f"{ids['start_batch_call']} is draft at "
        assert waits in found.get("start_batch_call", (launched, waits))[1]
