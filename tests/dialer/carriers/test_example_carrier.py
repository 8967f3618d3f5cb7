"""The example of docs/writing-a-carrier.md: it places calls and loses none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from acme_calls import AcmeCalls
from acme_carrier import AcmeCarrier
from pydantic import SecretStr

from batchcall_mcp.dialer.carriers.base import AccountAtFault, CarrierUnavailable, HasAccount
from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig
from batchcall_mcp.model import TaskStatus
from tests.carriers.scripted import ScriptedLine, Time, attempt_to
from tests.vendors.serving import Recording, listening


@asynccontextmanager
async def acme(
    vendor: AcmeCalls, key: str = AcmeCalls.key, *, loses_answer: bool = False
) -> AsyncIterator[AcmeCarrier]:
    served, time = Recording(vendor.app, lambda one: one.method == "POST"), Time()
    served.swallow_next_write = loses_answer
    async with listening(served) as url:
        config = CarrierConfig(key=SecretStr(key), url=url)
        carrier = AcmeCarrier(config, clock=time.clock, sleep=time.sleep, now=time.now)
        try:
            yield carrier
        finally:
            await carrier.aclose()


@pytest.mark.parametrize(
    ("last", "status", "permanent"),
    [
        ("0", TaskStatus.COMPLETED, False),
        ("7", TaskStatus.BUSY, False),
        ("8", TaskStatus.NO_ANSWER, False),
        ("9", TaskStatus.FAILED, True),
    ],
)
async def test_it_calls_once_and_says_how_it_ended(last: str, status: TaskStatus, permanent: bool) -> None:
    vendor = AcmeCalls()
    async with acme(vendor) as carrier:
        assert isinstance(carrier, HasAccount)
        found = await carrier.outcome(attempt_to(f"+1212555012{last}", from_number=vendor.number), ScriptedLine())
    assert (found.status, found.permanent, vendor.rung) == (status, permanent, [f"+1212555012{last}"])


async def test_a_lost_answer_is_looked_up_and_nobody_is_rung_again() -> None:
    vendor = AcmeCalls()
    async with acme(vendor, loses_answer=True) as carrier:
        found = await carrier.outcome(attempt_to("+12125550120", from_number=vendor.number), ScriptedLine())
    assert (found.status, len(vendor.rung)) == (TaskStatus.COMPLETED, 1)


async def test_nobody_is_rung_without_a_line_or_with_a_wrong_key() -> None:
    vendor = AcmeCalls()
    vendor.has_line = False
    attempt = attempt_to("+12125550120", from_number=vendor.number)
    async with acme(vendor) as carrier:
        with pytest.raises(CarrierUnavailable, match="no free line"):
            await carrier.outcome(attempt, ScriptedLine())
    async with acme(vendor, "acme-another") as carrier:
        with pytest.raises(AccountAtFault):
            await carrier.outcome(attempt, ScriptedLine())
    assert vendor.rung == []
