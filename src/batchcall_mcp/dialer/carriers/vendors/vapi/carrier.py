"""Vapi (https://docs.vapi.ai/calls/outbound-calling): one call by the id of a number, found again by its name.

Sources: VapiAI/docs `fern/apis/api/openapi.json` and `fern/calls/`, vapi_server_sdk 3.0.0.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from batchcall_mcp.dialer.carriers.base import Attempt, CallDetails, CarrierAccount, CarrierUnavailable, Outcome
from batchcall_mcp.dialer.carriers.hooks.lists import agents_in, numbers_in
from batchcall_mcp.dialer.carriers.hooks.refusals import RefusalWords
from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, HttpCarrier, Progress, Seen
from batchcall_mcp.dialer.carriers.vendor_api import Refused
from batchcall_mcp.dialer.carriers.vendors.vapi.call_outcomes import outcome_of
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.json_values import inside, rows, text, unpacked
from batchcall_mcp.vendor_http.times import iso_z
from batchcall_mcp.vendor_http.transcripts import turns, turns_in

LOG = logging.getLogger(__name__)
_LONGEST_NAME: Final = 40
_ALL: Final = {"limit": 1000}
_PAGE: Final = 100
_MOST_PAGES: Final = 10
_BAD: Final = 400
_OF_THE_PERSON: Final = r"customer|e\.?164|international"
_REFUSALS: Final = RefusalWords(
    title="Vapi",
    later=re.compile("concurrency"),
    at_fault=re.compile(rf"(?s)^(?!.*({_OF_THE_PERSON}))"),
    check="the caller number, the assistant and the account",
    permanent=re.compile(""),
)
_BY_US: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.INTERRUPTED})
"""What the words for a call mean that was ended from here: nothing documents which of them Vapi uses."""
_GIVEN_OUT: Final = "phoneCallProviderId|transport.callSid"
"""What a call has that was given to the telephone provider: its phone may have rung."""
_SPEAKERS: Final[Mapping[str, Literal["agent", "person"]]] = {"bot": "agent", "assistant": "agent", "user": "person"}
_RECORDING: Final = "artifact.recordingUrl|artifact.recording.mono.combinedUrl|recordingUrl"
_NOT_THERE: Final = frozenset({"not-found", "deletion-failed"})


def name_of(attempt_id: str) -> str:
    """What a call is named after its attempt: the id, or the digest of one that is longer than Vapi's names."""
    return attempt_id if len(attempt_id) <= _LONGEST_NAME else sha256(attempt_id.encode()).hexdigest()[:_LONGEST_NAME]


class VapiCarrier(HttpCarrier):
    """Vapi's assistants. How long a phone rings cannot be said."""

    name = "vapi"
    title = "Vapi"
    default_url = "https://api.vapi.ai"
    default_concurrency = 8
    ring_seconds = 60.0
    needs_agent = True
    one_call = HttpCall("GET", "/call/{call_id}")
    call_in_webhook = "message.call.id"

    def __init__(self, config: CarrierConfig, **parts: Any) -> None:
        super().__init__(config, **parts)
        self._waiting: set[str] = set()  # accepted without a free line
        self._ended: set[str] = set()  # by us, and Vapi took it

    async def numbers(self) -> Sequence[CallerNumber]:
        """Those that can be called from now; a SIP address is no number."""
        found = rows(await self.read(HttpCall("GET", "/phone-number", query=_ALL)))[0]
        active = (row for row in found if text(row.get("status")) in {None, "active"})
        return numbers_in(active, "number", "name", "id")

    async def agents(self) -> Sequence[Agent]:
        """Its assistants."""
        return agents_in(rows(await self.read(HttpCall("GET", "/assistant", query=_ALL)))[0], "id")

    def create_call(self, attempt: Attempt, account: CarrierAccount) -> HttpCall:
        """Neither a batch nor a plan of Vapi's own, and never a webhook: that would replace the assistant's."""
        overrides = given(
            variableValues=unpacked(attempt.dynamic_variables) or None,
            metadata={"attempt_id": attempt.attempt_id},
            maxDurationSeconds=int(self.longest_call_seconds),
        )
        body = given(
            assistantId=attempt.agent_id,
            phoneNumberId=self.number_id(account, attempt),
            customer={"number": attempt.to_number},
            name=name_of(attempt.attempt_id),
            assistantOverrides=overrides,
        )
        return HttpCall("POST", "/call", json=body)

    def created(self, body: Any, attempt: Attempt) -> str | None:  # noqa: ARG002 - it is in the body
        """The id of the call. One that was accepted without a free line may ring later."""
        call_id = text(inside(body, "id|results.0.id"))
        if call_id is not None and inside(body, "subscriptionLimits.concurrencyBlocked") is True:
            self._waiting.add(call_id)
        return call_id

    def refused(self, no: Refused, attempt: Attempt) -> Outcome:
        """400 is said of limits, of the account and of a person's number: only the words tell them apart."""
        if no.status == _BAD or "concurrency" in no.said.lower():
            return _REFUSALS.judged(no.said, no.said, no.retry_after)
        return replace(super().refused(no, attempt), permanent=True)

    async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]:
        """By its name, the newest calls of its assistant first: nothing else can be filtered by."""
        found: list[str] = []
        before: str | None = None
        for _ in range(_MOST_PAGES):
            query = given(assistantId=attempt.agent_id, createdAtGe=iso_z(since), createdAtLe=before, limit=_PAGE)
            page = rows(await self.read(HttpCall("GET", "/call", query=query)))[0]
            named = (row for row in page if text(row.get("name")) == name_of(attempt.attempt_id))
            found += [call_id for row in named if (call_id := text(row.get("id")))]
            oldest = text(page[-1].get("createdAt")) if len(page) >= _PAGE else None
            if oldest in {None, before}:
                break
            before = oldest
        return list(dict.fromkeys(found))

    async def look(self, call_id: str, attempt: Attempt) -> Seen:  # noqa: ARG002 - the id says it
        """One that waits for a line is ended, so that it does not ring at any later time, and placed again."""
        call = await self.record(call_id)
        status = text(inside(call, "status"))
        if status in _NOT_THERE:
            return Outcome(TaskStatus.INTERRUPTED, f"the call was deleted at Vapi ({status})", backend_status=status)
        if status in {"queued", "scheduled"}:
            if call_id in self._waiting and call_id not in self._ended:
                await self._end(call_id, call)
            return Progress.QUEUED
        if status != "ended":
            self._waiting.discard(call_id)
            return Progress.GOING
        seen, waited, ended = outcome_of(call), call_id in self._waiting, call_id in self._ended
        self._waiting.discard(call_id)
        self._ended.discard(call_id)
        if ended and isinstance(seen, Outcome) and seen.status in _BY_US and inside(call, "startedAt") is None:
            if waited and inside(call, _GIVEN_OUT) is None:
                return CarrierUnavailable("Vapi had no free line for it", whole_account=True)
            return replace(seen, status=TaskStatus.INTERRUPTED, error="the call was ended before it was answered")
        return seen

    async def hang_up(self, call_id: str) -> None:
        """By the address of its live control, which needs no key. An assistant can have it switched off."""
        await self._end(call_id, await self.record(call_id))

    async def details(self, call_id: str) -> CallDetails:
        """The transcript, the recording and the summary."""
        call = await self.record(call_id)
        said = turns(inside(call, "artifact.messages|messages"), _SPEAKERS, at="secondsFromStart")
        return CallDetails(
            transcript=said or turns_in(inside(call, "artifact.transcript|transcript"), "ai") or said,
            recording_url=text(inside(call, _RECORDING), 2000),
            summary=text(inside(call, "analysis.summary")),
            ended_reason=text(inside(call, "endedReason")),
        )

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:  # noqa: ARG002 - neither is signed
        """The token of a credential at Vapi, in one of its two headers; without BATCHCALL_CARRIER_SECRET none is."""
        if self.config.secret is None:
            return False
        token = self.config.secret.get_secret_value().encode()
        given_as = (headers.get("x-vapi-secret", ""), headers.get("authorization", "").removeprefix("Bearer "))
        return any(hmac.compare_digest(one.encode(), token) for one in given_as)

    async def _end(self, call_id: str, call: Any) -> None:
        address = text(inside(call, "monitor.controlUrl"), 2000)
        if address is None or not _is_safe(address, self.config.url or self.default_url):
            LOG.warning("Call %s at Vapi cannot be ended from here: it has no live control that may be asked", call_id)
            return
        try:
            await self.read(HttpCall("POST", "", json={"type": "end-call"}), url=address)
            self._ended.add(call_id)
        except (Refused, CarrierUnavailable) as error:
            LOG.warning("Call %s at Vapi could not be ended: %s", call_id, error)


def _is_safe(address: str, base_url: str) -> bool:
    """Whether an address that Vapi names may be asked: https, or where its API is."""
    try:
        named, own = urlsplit(address), urlsplit(base_url)
    except ValueError:
        return False
    return named.scheme == "https" or (named.scheme, named.netloc) == (own.scheme, own.netloc)
