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
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CallDetails,
    CarrierAccount,
    CarrierUnavailable,
    Outcome,
    OutcomeStatus,
)
from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, HttpCarrier, Progress, Seen
from batchcall_mcp.dialer.carriers.vendor_api import LATER_S, Refused
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.json_values import inside, moment, rows, text, unpacked, usd
from batchcall_mcp.vendor_http.times import iso_z
from batchcall_mcp.vendor_http.transcripts import turns, turns_in

LOG = logging.getLogger(__name__)
_LONGEST_NAME: Final = 40
_PAGE: Final = 100
_MOST_PAGES: Final = 10
_BAD: Final = 400
_OF_THE_PERSON: Final = re.compile(r"(?i)customer|e\.?164|international")
_BY_US: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.INTERRUPTED})
"""What the words for a call mean that was ended from here: nothing documents which of them Vapi uses."""
_SPEAKERS: Final[Mapping[str, Literal["agent", "person"]]] = {"bot": "agent", "assistant": "agent", "user": "person"}
_RECORDING: Final = "artifact.recordingUrl|artifact.recording.mono.combinedUrl|recordingUrl"
_NOT_THERE: Final = frozenset({"not-found", "deletion-failed"})
End: TypeAlias = tuple[OutcomeStatus, bool, str | None]
"""A status, whether the number is never dialled again, and why."""
_OVER_LIMIT: Final = "call.start.error-subscription-concurrency-limit-reached"
_NOT_STARTED: Final = ("call.start.*", "call-start-error-*")
_AT_FAULT: Final = (*_NOT_STARTED, "assistant-not-*", "assistant-request-*")
"""Who has answered is not rung again for the last two."""
_BROKE: Final[End] = (TaskStatus.FAILED, True, "answered, then the call broke")
_NOT_PLACED: Final[End] = (TaskStatus.FAILED, False, "the call could not be placed")
_WRONG_NUMBER: Final[End] = (TaskStatus.FAILED, True, "this number cannot be called from here")
_TALKED: Final[End] = (TaskStatus.COMPLETED, False, None)
_NO_ANSWER: Final[End] = (TaskStatus.NO_ANSWER, False, None)
_STOPPED: Final[End] = (TaskStatus.INTERRUPTED, False, "the call was stopped at Vapi")
_ENDS: Final[tuple[tuple[str, End], ...]] = (
    ("voicemail", (TaskStatus.VOICEMAIL, False, None)),
    ("customer-busy", (TaskStatus.BUSY, False, None)),
    ("customer-did-not-answer", _NO_ANSWER),
    ("*-outbound-sip-480-*", _NO_ANSWER),
    ("*-outbound-sip-408-*", _NO_ANSWER),
    ("twilio-reported-customer-misdialed", _WRONG_NUMBER),
    ("*-vapi-number-international", _WRONG_NUMBER),
    ("customer-ended-call*", _TALKED),
    ("assistant-ended-*", _TALKED),
    ("assistant-said-end-call-phrase", _TALKED),
    ("assistant-forwarded-call", _TALKED),
    ("silence-timed-out", _TALKED),
    ("exceeded-max-duration", _TALKED),
    ("*-completed-call", _TALKED),
    ("vonage-completed", _TALKED),
    ("call.ending.*", _TALKED),
    ("call.forwarding.*", _TALKED),
    ("twilio-failed-to-connect-call", _NOT_PLACED),
    ("vonage-failed-to-connect-call", _NOT_PLACED),
    ("vonage-rejected", _NOT_PLACED),
    ("*sip-outbound-call-failed-to-connect", _NOT_PLACED),
    ("*-outbound-sip-*", _NOT_PLACED),
    ("manually-canceled", _STOPPED),
    ("call-deleted", _STOPPED),
    ("scheduled-call-deleted", _STOPPED),
    ("pipeline-error-*", _BROKE),
    ("call.in-progress.error-*", _BROKE),
    ("worker-shutdown", _BROKE),
    ("phone-call-provider-closed-websocket", _BROKE),
)
"""By pattern; the first that fits."""


def outcome_of(call: Mapping[str, Any]) -> Outcome | CarrierUnavailable | AccountAtFault:
    """How a call ended, by its `endedReason`. An exception: nobody was rung. Pure."""
    word = text(call.get("endedReason"), 200) or text(call.get("status"), 100) or "nothing"
    began, ended = moment(call.get("startedAt")), moment(call.get("endedAt"))
    lasted = max((ended - began).total_seconds(), 0) if began and ended else 0
    known = next((end for pattern, end in _ENDS if fnmatchcase(word, pattern)), None)
    if word == _OVER_LIMIT or (fnmatchcase(word, "*worker-not-available") and not lasted):
        return CarrierUnavailable(f"Vapi has no free line ({word})", whole_account=True)
    is_at_fault = any(fnmatchcase(word, pattern) for pattern in (_NOT_STARTED if lasted else _AT_FAULT))
    if known is None and is_at_fault:
        return AccountAtFault(
            f"Vapi: no call can be placed from this account as it is ({word}). Correct it, then resume."
        )
    unknown: End = (TaskStatus.COMPLETED if lasted else TaskStatus.FAILED, True, "Vapi gives another reason")
    status, permanent, why = known or unknown
    return Outcome(
        status,
        why and f"{why} ({word})",
        duration_seconds=lasted or None,
        answered_by="machine" if status is TaskStatus.VOICEMAIL else None,
        permanent=permanent,
        backend_status=word,
        cost=usd(call.get("cost")),
        summary=text(inside(call, "analysis.summary")),
    )


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

    def __init__(self, config: CarrierConfig, **parts: Any) -> None:
        super().__init__(config, **parts)
        self._waiting: set[str] = set()  # accepted without a free line
        self._ended: set[str] = set()  # by us, and Vapi took it

    async def numbers(self) -> Sequence[CallerNumber]:
        """Those that can be called from now; a SIP address is no number."""
        found = rows(await self.read(HttpCall("GET", "/phone-number", query={"limit": 1000})))[0]
        return [
            CallerNumber(from_number=number, name=text(row.get("name")), number_id=number_id)
            for row in found
            if (number := text(row.get("number"))) and (number_id := text(row.get("id")))
            if text(row.get("status")) in {None, "active"}
        ]

    async def agents(self) -> Sequence[Agent]:
        """Its assistants."""
        found = rows(await self.read(HttpCall("GET", "/assistant", query={"limit": 1000})))[0]
        return [Agent(agent_id=one, name=text(row.get("name"))) for row in found if (one := text(row.get("id")))]

    def account_problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:
        """Vapi calls by the id of a number, and with an assistant."""
        if attempt.agent_id is None:
            return "Vapi needs an agent for each call. Name one in agent_id; get_backend lists them."
        if account.numbers is None:
            return "The caller numbers of the Vapi account cannot be read, and Vapi calls by their ids."
        return super().account_problem(account, attempt)

    def create_call(self, attempt: Attempt, account: CarrierAccount) -> HttpCall:
        """Neither a batch nor a plan of Vapi's own, and never a webhook: that would replace the assistant's."""
        wanted = comparable(attempt.from_number)
        overrides = given(
            variableValues=unpacked(attempt.dynamic_variables) or None,
            metadata={"attempt_id": attempt.attempt_id},
            maxDurationSeconds=int(self.longest_call_seconds),
        )
        ids = (one.number_id for one in account.numbers or () if comparable(one.from_number) == wanted)
        body = given(
            assistantId=attempt.agent_id,
            phoneNumberId=next(ids, None),
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
        if "concurrency" in no.said.lower():
            raise CarrierUnavailable(f"Vapi has no free line.{no.said}", retry_after=LATER_S, whole_account=True)
        if no.status == _BAD and not _OF_THE_PERSON.search(no.said):
            raise AccountAtFault(f"Vapi cannot place this batch call.{no.said} Correct it, then resume.")
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
        call = await self.read(HttpCall("GET", "/call/{id}").at(id=call_id))
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
            if waited:
                return CarrierUnavailable("Vapi had no free line for it", whole_account=True)
            return replace(seen, status=TaskStatus.INTERRUPTED, error="the call was ended before it was answered")
        return seen

    async def hang_up(self, call_id: str) -> None:
        """By the address of its live control, which needs no key. An assistant can have it switched off."""
        await self._end(call_id, await self.read(HttpCall("GET", "/call/{id}").at(id=call_id)))

    async def details(self, call_id: str) -> CallDetails:
        """The transcript, the recording and the summary."""
        call = await self.read(HttpCall("GET", "/call/{id}").at(id=call_id))
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

    def named(self, body: bytes) -> Sequence[str]:
        """The call of a server message."""
        call_id = text(inside(unpacked(body), "message.call.id"))
        return [call_id] if call_id else []

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
