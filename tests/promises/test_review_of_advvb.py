"""What a second set of strict fakes of Vapi, ElevenLabs and Bland found, made from the vendors' documents alone."""

from __future__ import annotations

import pytest

from batchcall_mcp.dialer.carriers.base import AccountAtFault, CarrierAccount
from batchcall_mcp.dialer.carriers.http_carrier import HttpCarrier
from batchcall_mcp.dialer.carriers.vendors.bland import BlandCarrier
from batchcall_mcp.dialer.carriers.vendors.elevenlabs import ElevenLabsCarrier
from batchcall_mcp.dialer.carriers.vendors.retell import RetellCarrier
from batchcall_mcp.dialer.carriers.vendors.vapi import VapiCarrier
from batchcall_mcp.model import TaskStatus
from tests.carriers.scripted import ScriptedCarrier, ScriptedLine, ScriptedVendor, Time, attempt_to, config_for
from tests.faults.server import answer

VENDORS = [RetellCarrier, VapiCarrier, ElevenLabsCarrier, BlandCarrier]
UNREAD = CarrierAccount(numbers=None, agents=None)
"""Of an account whose key is refused, or whose vendor does not answer, when a list arrives."""


@pytest.mark.parametrize("kind", VENDORS)
def test_an_account_that_cannot_be_read_refuses_no_list(kind: type[HttpCarrier]) -> None:
    """With a wrong key the batch call is stored, and paused with the reason, at each of them."""
    carrier = kind(config_for(None))

    assert carrier.problem(UNREAD, attempt_to("+12125550120", agent_id="agent")) is None


@pytest.mark.parametrize("kind", [VapiCarrier, ElevenLabsCarrier])
def test_without_the_id_of_the_caller_number_nothing_is_asked_for(kind: type[HttpCarrier]) -> None:
    carrier = kind(config_for(None))

    with pytest.raises(AccountAtFault, match="caller number"):
        carrier.create_call(attempt_to("+12125550120", agent_id="agent"), UNREAD)


async def test_a_503_is_looked_up_late_because_lists_lag() -> None:
    """A vendor that answers 503 and dials all the same shows the call some seconds later."""
    time, line = Time(), ScriptedLine()
    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("create", answer(503), done=True)
        carrier = ScriptedCarrier(config_for(vendor.url), clock=time.clock, sleep=time.sleep, now=time.now)
        outcome = await carrier.outcome(attempt_to("+12125550120"), line)
        await carrier.aclose()

    assert outcome.status is TaskStatus.COMPLETED
    assert (len(vendor.asked("create")), len(vendor.rung)) == (1, 1)
    assert next(pause for pause in time.slept if pause >= 0.5) == 4.0
