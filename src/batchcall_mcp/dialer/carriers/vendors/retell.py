"""Retell (https://docs.retellai.com/api-references/create-phone-call): one call by number, with an idempotency key.

Sources: the API reference, retell-sdk 6.2.13, tryAGI/RetellAI `openapi.yaml`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from batchcall_mcp.clock import to_ms
from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CallDetails,
    CarrierAccount,
    CarrierUnavailable,
    Outcome,
)
from batchcall_mcp.dialer.carriers.hooks.endings import (
    BROKE,
    BUSY,
    NO_ANSWER,
    NOT_PLACED,
    TALKED,
    VOICEMAIL,
    End,
    of_unknown_word,
)
from batchcall_mcp.dialer.carriers.hooks.lists import agents_in, every_row
from batchcall_mcp.dialer.carriers.hooks.signatures import is_signed
from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, HttpCarrier, Progress, Seen
from batchcall_mcp.dialer.carriers.vendor_api import LATER_S, Refused
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.json_values import inside, rows, seconds, text, unpacked, usd, variables, whole
from batchcall_mcp.vendor_http.transcripts import turns, turns_in

_ALL: Final = {"limit": 1000}
_VOICE: Final = {"filter_criteria": {"channel": {"type": "string", "op": "eq", "value": "voice"}}}
_BAD, _NOT_OURS = 400, 422
_OF_THE_BATCH: Final = re.compile(r"(?i)from_number|agent|asset|dynamic|metadata|idempotency")
_OVER: Final = frozenset({"ended", "not_connected", "error"})
_ANALYSIS_S: Final = 6.0
_SIGNED_MS: Final = 300_000
_OPTED_OUT: Final = "user_requested_dnc"
_NO_LINE: Final = ("concurrency_limit_reached", "no_concurrency_fallback")
_NO_MONEY: Final = ("no_valid_payment", "credit_exhausted", "budget_reached")
_TALKED: Final = (
    *("user_hangup", "agent_hangup", "call_transfer", "transfer_bridged", "transfer_cancelled", "inactivity"),
    *("max_duration_reached", "user_requested_callback", "call_take_over", "ivr_reached"),
)
_ENDS: Final[Mapping[str, End]] = {
    **dict.fromkeys(_TALKED, TALKED),
    _OPTED_OUT: End(TaskStatus.COMPLETED, never_again=True),
    "voicemail_reached": VOICEMAIL,
    "dial_no_answer": NO_ANSWER,
    "dial_busy": BUSY,
    "user_declined": End(TaskStatus.NO_ANSWER, never_again=True, why="the person declined the call"),
    "invalid_destination": End(TaskStatus.FAILED, never_again=True, why="this number cannot be called"),
    "manual_stopped": End(TaskStatus.INTERRUPTED, why="the call was stopped at Retell"),
    **dict.fromkeys(
        ("dial_failed", "sip_routing_error", "telephony_provider_unavailable", "registered_call_timeout"), NOT_PLACED
    ),
    **dict.fromkeys(
        ("marked_as_spam", "network_blocked", "scam_detected", "telephony_provider_permission_denied"),
        End(TaskStatus.FAILED, never_again=True, why="calls from this caller number are blocked"),
    ),
}


def outcome_of(call: Mapping[str, Any]) -> Outcome | CarrierUnavailable | AccountAtFault:
    """How a call ended, by its `disconnection_reason`. An exception: nobody was rung. Pure."""
    word = text(call.get("disconnection_reason"), 100) or text(call.get("call_status"), 100) or "nothing"
    lasted = (seconds(call.get("duration_ms")) or 0) / 1000
    if word in _NO_LINE and not lasted:
        return CarrierUnavailable(f"Retell has no free line ({word})", whole_account=True)
    if word in _NO_MONEY and not lasted:
        return AccountAtFault(f"Retell: the account cannot pay for calls ({word}). Look at its billing, then resume.")
    is_machine = inside(call, "call_analysis.in_voicemail")
    end = _ENDS.get(word) or of_unknown_word("Retell", lasted)
    if word.startswith("error_") or word in _NO_LINE + _NO_MONEY:
        end = BROKE
    elif word in _TALKED and is_machine is True:
        end = VOICEMAIL
    return end.outcome(
        word,
        lasted,
        is_person=end.status is TaskStatus.COMPLETED and is_machine is False,
        opted_out=word == _OPTED_OUT,
        cost=usd(inside(call, "call_cost.combined_cost"), 100),
        summary=text(inside(call, "call_analysis.call_summary")),
    )


class RetellCarrier(HttpCarrier):
    """Retell's voice agents. An attempt whose call was refused is asked for with another key the next time."""

    name = "retell"
    title = "Retell"
    default_url = "https://api.retellai.com"
    has_idempotency_key = True
    no_such_call = frozenset({404, 410, 422})
    one_call = HttpCall("GET", "/v2/get-call/{call_id}")
    call_in_webhook = "call.call_id"

    def __init__(self, config: CarrierConfig, **parts: Any) -> None:
        super().__init__(config, **parts)
        self._refusals: Counter[str] = Counter()
        self._ended: dict[str, float] = {}

    async def numbers(self) -> Sequence[CallerNumber] | None:
        """Of several outbound agents of a number one is drawn for each call: then it has none of its own."""
        found = await self._all(
            HttpCall("GET", "/v2/list-phone-numbers", query=_ALL), HttpCall("GET", "/list-phone-numbers")
        )
        if found is None:
            return None
        return [
            CallerNumber(from_number=number, name=text(row.get("nickname")), agent_id=_only_agent(row))
            for row in found
            if (number := text(row.get("phone_number")))
        ]

    async def agents(self) -> Sequence[Agent] | None:
        """Its voice agents; the older list has each version of them."""
        newest = HttpCall("POST", "/v2/list-agents", json=_VOICE, query=_ALL)
        found = await self._all(newest, HttpCall("GET", "/list-agents"))
        if found is None:
            return None
        return agents_in(found, "agent_id", "agent_name")

    def create_call(self, attempt: Attempt, account: CarrierAccount) -> HttpCall:  # noqa: ARG002 - it needs no ids
        """Without an agent the number's own one speaks. Variables are strings only."""
        again = self._refusals[attempt.attempt_id]
        limits = {"ring_duration_ms": int(1000 * self.ring_seconds)}
        limits["max_call_duration_ms"] = int(1000 * self.longest_call_seconds)
        body = given(
            from_number=attempt.from_number,
            to_number=attempt.to_number,
            override_agent_id=attempt.agent_id,
            agent_override={"agent": limits},
            retell_llm_dynamic_variables=variables(unpacked(attempt.dynamic_variables)) or None,
            metadata={"attempt_id": attempt.attempt_id},
            idempotency_key=f"{attempt.attempt_id}:{again}" if again else attempt.attempt_id,
        )
        return HttpCall("POST", "/v2/create-phone-call", json=body)

    def created(self, body: Any, attempt: Attempt) -> str | None:  # noqa: ARG002 - it is in the body
        """The id of the call."""
        return text(inside(body, "call_id"))

    def refused(self, no: Refused, attempt: Attempt) -> Outcome:
        """422: the number or the agent is not the account's. 400 may be about this person, or about both of those."""
        self._refusals[attempt.attempt_id] += 1
        if "concurrency" in no.said.lower():
            raise CarrierUnavailable(f"Retell has no free line.{no.said}", retry_after=LATER_S, whole_account=True)
        if no.status == _NOT_OURS or (no.status == _BAD and _OF_THE_BATCH.search(no.said)):
            raise AccountAtFault(
                f"Retell cannot place this batch call.{no.said} Check the caller number and the agent."
            )
        return replace(super().refused(no, attempt), permanent=True)

    async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]:
        """By its metadata, whenever it began by Retell's clock; one that was refused is it only if it is as new."""
        wanted = {"key": "attempt_id", "type": "string", "op": "eq", "value": attempt.attempt_id}
        newest = HttpCall("POST", "/v3/list-calls", json={"filter_criteria": {"metadata": [wanted]}, "limit": 50})
        older = {"filter_criteria": {"metadata.attempt_id": [attempt.attempt_id]}, "limit": 50}
        found = await self._all(newest, HttpCall("POST", "/v2/list-calls", json=older))
        calls = [row for row in found or () if inside(row, "metadata.attempt_id") == attempt.attempt_id]
        rung = [row for row in calls if isinstance(outcome_of(row), Outcome)]
        refused = [row for row in calls if (whole(row.get("start_timestamp")) or to_ms(since)) >= to_ms(since)]
        return [call_id for row in rung or refused[:1] if (call_id := text(row.get("call_id")))]

    async def look(self, call_id: str, attempt: Attempt) -> Seen:
        """Its analysis is waited for, if only for moments: it hears the voicemail that the agent does not."""
        row = await self.record(call_id)
        state = text(row.get("call_status"))
        if state == "registered":
            return Progress.QUEUED
        if state not in _OVER and row.get("disconnection_reason") is None:
            return Progress.GOING
        seen = outcome_of(row)
        if isinstance(seen, Outcome):
            reason = row.get("disconnection_reason")  # may come after the end, and be an opt-out
            is_unsettled = reason is None or (reason in _TALKED and row.get("call_analysis") is None)
            ended = self._ended.setdefault(call_id, self._clock())
            if is_unsettled and self._clock() - ended < _ANALYSIS_S:
                return Progress.GOING
            del self._ended[call_id]
        else:
            self._refusals[attempt.attempt_id] += 1
        return seen

    async def hang_up(self, call_id: str) -> None:
        """The answer has no body."""
        await self.read(HttpCall("POST", "/v2/stop-call/{id}").at(id=call_id))

    async def details(self, call_id: str) -> CallDetails:
        """The transcript, the recording (for a short time) and the summary."""
        call = await self.record(call_id)
        said = turns(
            inside(call, "transcript_object"), {"agent": "agent", "user": "person"}, said="content", at="words.0.start"
        )
        return CallDetails(
            transcript=said or turns_in(inside(call, "transcript"), "agent") or said,
            recording_url=text(inside(call, "recording_url|scrubbed_recording_url"), 2000),
            summary=text(inside(call, "call_analysis.call_summary")),
            ended_reason=text(inside(call, "disconnection_reason")),
        )

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:  # noqa: ARG002 - it is not signed
        """`x-retell-signature: v=<milliseconds>,d=<HMAC of the body and that>`, by the API key, for 5 minutes."""
        found = re.fullmatch(r"v=([0-9]{1,15}),d=([0-9a-f]{64})", headers.get("x-retell-signature", ""))
        if found is None or abs(to_ms(self._now()) - int(found[1])) > _SIGNED_MS:
            return False
        return is_signed(self.config.key, body + found[1].encode(), found[2])

    async def _all(self, *ways: HttpCall) -> list[Mapping[str, Any]] | None:
        """All rows of a list, page by page, in the first of these ways that there is."""
        for way in ways:
            try:
                return await every_row(self.read, way, "items", "pagination_key" if way.query else "")
            except Refused as no:
                if no.status not in {404, 405, 501}:
                    raise
        return None


def _only_agent(number: Mapping[str, Any]) -> str | None:
    agents, _ = rows(number.get("outbound_agents"))
    return text(agents[0].get("agent_id")) if len(agents) == 1 else text(number.get("outbound_agent_id"))
