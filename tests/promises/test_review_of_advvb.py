"""What a second set of strict fakes of Vapi, ElevenLabs and Bland found, made from the vendors' documents alone."""

from __future__ import annotations

import pytest

from batchcall_mcp.dialer.carriers.base import AccountAtFault, CarrierAccount
from batchcall_mcp.dialer.carriers.http_carrier import HttpCarrier
from batchcall_mcp.dialer.carriers.vendors.bland import BlandCarrier
from batchcall_mcp.dialer.carriers.vendors.elevenlabs import ElevenLabsCarrier
from batchcall_mcp.dialer.carriers.vendors.retell import RetellCarrier
from batchcall_mcp.dialer.carriers.vendors.vapi import VapiCarrier
from tests.carriers.scripted import attempt_to, config_for

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
