"""The same call once more after its answer was lost: what it finds; nobody is called and nothing made twice."""

from __future__ import annotations

import pytest

from tests.faults.matrix import ANSWER, FAULTS, FINE, UNKNOWN, WRITES, Expected, Fault, status_fault
from tests.faults.observing import BACKENDS, DRAFT, Backend, Stage, impatient, staged
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

every_backend = pytest.mark.parametrize("backend", BACKENDS)


async def again(stage: Stage, fault: Fault) -> dict[str, tuple[Expected, str]]:
    """What each write gets when it is repeated, with nothing wrong any more."""
    for tool in WRITES:
        await stage.observe(fault, tool)
    repeated = [await stage.observe(NOTHING_WRONG, tool) for tool in WRITES]
    return {cell.tool: (cell.expected, cell.text) for cell in repeated}


@every_backend
@pytest.mark.parametrize("fault", SHOWS, ids=lambda fault: fault.name)
async def test_what_took_effect_is_found_and_nothing_is_sent(backend: Backend, fault: Fault) -> None:
    with impatient():
        async with staged(backend) as stage:
            found = await again(stage, fault)
            dialled = list(stage.vendor.dialled)
    assert {tool: expected for tool, (expected, _) in found.items()} == dict.fromkeys(WRITES, Expected(ANSWER, 0))
    assert '"replayed":true' in found["create_batch_call"][1]
    assert '"replayed":true' in found["start_batch_call"][1]
    assert '"result":"nothing_to_do"' in found["cancel_batch_call"][1]
    assert len(dialled) == 1


@every_backend
@pytest.mark.parametrize("fault", SHOWS_NOTHING, ids=lambda fault: fault.name)
async def test_what_shows_nowhere_is_looked_up_again_and_only_what_stops_calls_is_sent_again(
    backend: Backend, fault: Fault
) -> None:
    with impatient():
        async with staged(backend) as stage:
            found = await again(stage, fault)
            dialled = list(stage.vendor.dialled)
    assert {tool: expected for tool, (expected, _) in found.items()} == {
        "create_batch_call": Expected(UNKNOWN, 0),
        "start_batch_call": Expected(UNKNOWN, 0),
        "cancel_batch_call": Expected(ANSWER, 1),
    }
    assert "does not show it" in found["create_batch_call"][1]
    assert f"{DRAFT} is draft at " in found["start_batch_call"][1]
    assert dialled == []
