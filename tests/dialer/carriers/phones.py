"""A carrier with an account and real phones, as far as the REST face sees it: nothing is rung."""

from __future__ import annotations

import json

from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CallDetails,
    CarrierAccount,
    CarrierUnavailable,
    Line,
    Outcome,
)
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus, Turn

CALLER = "+14157774444"
AGENT = "agent_1"
FIRST_NAME = "first_name"


class Phones:
    """`fault` is raised instead of the account; `asked` counts how often it was read."""

    name = "phones"
    title = "Acme Phones"
    places_real_calls = True
    capacity = 10
    calls_per_second: float | None = None
    calls_outlive_us = True
    payer = "the Acme account AC…9f2c"

    def __init__(self, name: str = "phones") -> None:
        self.name = name
        self.fault: AccountAtFault | CarrierUnavailable | None = None
        self.account_now = CarrierAccount(
            numbers=(CallerNumber(from_number=CALLER, name="Main"),),
            agents=(Agent(agent_id=AGENT, name="Ada", variables=(FIRST_NAME,), begins="Hello {{first_name}}"),),
            notes=("A note of the account.",),
        )
        self.asked = 0
        self.closed = False
        self.said = CallDetails(
            transcript=(Turn(speaker="agent", text="Hello Ann", at_seconds=0.5), Turn(speaker="person", text="Hi")),
            recording_url="https://calls.example.com/rec.mp3",
            summary="They confirmed.",
            ended_reason="customer-hung-up",
        )

    def dial(self, attempt: Attempt) -> None:
        return

    async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
        await line.placed(f"vendor-{attempt.attempt_id}")
        return Outcome(TaskStatus.COMPLETED)

    async def account(self) -> CarrierAccount:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.account_now

    def problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:
        wanted = next((one.variables for one in account.agents or () if one.agent_id == attempt.agent_id), None)
        given = json.loads(attempt.dynamic_variables or "{}")
        missing = [name for name in wanted or () if name not in given]
        return f"the variable {missing[0]} is missing" if missing else None

    async def details(self, call_id: str) -> CallDetails:
        if isinstance(self.fault, (AccountAtFault, CarrierUnavailable)):
            raise self.fault
        return self.said

    async def aclose(self) -> None:
        self.closed = True
