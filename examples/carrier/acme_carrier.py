"""A whole carrier, for a vendor that does not exist: docs/writing-a-carrier.md explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from batchcall_mcp.dialer.carriers.base import Attempt, CallDetails, CarrierAccount, CarrierUnavailable, Outcome
from batchcall_mcp.dialer.carriers.http_carrier import HttpCarrier, Progress, Refused, Seen
from batchcall_mcp.model import CallerNumber, TaskStatus
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.json_values import seconds, text, unpacked


def outcome_of(call: Mapping[str, Any]) -> Outcome:
    """How a call ended, by Acme's own word. A word that nobody knows counts by whether somebody was connected. Pure."""
    word, lasted = text(call.get("end")) or "nothing", seconds(call.get("seconds"))
    if word == "hung_up":
        return Outcome(TaskStatus.COMPLETED, duration_seconds=lasted, backend_status=word)
    if word == "busy":
        return Outcome(TaskStatus.BUSY, backend_status=word)
    if word == "nobody":
        return Outcome(TaskStatus.NO_ANSWER, backend_status=word)
    if word == "bad_number":
        return Outcome(TaskStatus.FAILED, "Acme: no such number", permanent=True, backend_status=word)
    if lasted:
        return Outcome(TaskStatus.COMPLETED, duration_seconds=lasted, backend_status=word)
    return Outcome(TaskStatus.FAILED, "Acme gives another reason", permanent=True, backend_status=word)


class AcmeCarrier(HttpCarrier):
    """Acme's calls, one by one."""

    name = "acme"
    title = "Acme"
    default_url = "https://api.acme.example"
    default_concurrency = 5
    one_call = HttpCall("GET", "/calls/{call_id}")

    async def numbers(self) -> Sequence[CallerNumber] | None:
        """Of the account; a caller number that is not among them is refused."""
        found = await self.read(HttpCall("GET", "/numbers"))
        return [CallerNumber(from_number=number) for row in found["numbers"] if (number := text(row.get("number")))]

    def create_call(self, attempt: Attempt, account: CarrierAccount) -> HttpCall:  # noqa: ARG002 - it needs no ids
        """The one request. `reference` is what the call is found by, if its answer is lost."""
        body = {
            "to": attempt.to_number,
            "from": attempt.from_number,
            "reference": attempt.attempt_id,
            "values": unpacked(attempt.dynamic_variables) or {},
            "ring_seconds": self.ring_seconds,
            "longest_seconds": self.longest_call_seconds,
        }
        return HttpCall("POST", "/calls", json=body)

    def created(self, body: Mapping[str, Any], attempt: Attempt) -> str | None:  # noqa: ARG002 - it is in the body
        """The id of the call."""
        return text(body.get("id"))

    def refused(self, no: Refused, attempt: Attempt) -> Outcome:
        """Acme says 409 when no line is free: nobody was rung, and the call is placed later."""
        if no.status == 409:
            raise CarrierUnavailable("Acme has no free line", retry_after=30, whole_account=True)
        return super().refused(no, attempt)

    async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]:  # noqa: ARG002 - a reference is used once
        """By the reference."""
        found = await self.read(HttpCall("GET", "/calls", query={"reference": attempt.attempt_id}))
        return [call_id for row in found["calls"] if (call_id := text(row.get("id")))]

    async def look(self, call_id: str, attempt: Attempt) -> Seen:  # noqa: ARG002 - the call says it all
        """How the call is now."""
        call = await self.record(call_id)
        if call.get("state") == "waiting":
            return Progress.QUEUED
        return outcome_of(call) if call.get("state") == "over" else Progress.GOING

    async def hang_up(self, call_id: str) -> None:
        """Also of a call that only waits there."""
        await self.read(HttpCall("POST", "/calls/{call_id}/end").at(call_id=call_id))

    async def details(self, call_id: str) -> CallDetails:
        """Acme keeps no words."""
        return CallDetails(ended_reason=text((await self.record(call_id)).get("end")))
