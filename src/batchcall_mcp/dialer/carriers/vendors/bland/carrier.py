"""Bland: one call by a pathway or a persona, from a number of the account.

Sources: docs.bland.ai, the pages of calls (api-v1), personas and billing. Bland would dial again by itself (`retry`),
wait (`start_time`), choose a caller of its own (no `from`) and end everybody's calls (`/v1/calls/active/stop`): none of
that is ever asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CallDetails,
    CarrierAccount,
    CarrierUnavailable,
    Outcome,
)
from batchcall_mcp.dialer.carriers.hooks.lists import agents_in, those_that
from batchcall_mcp.dialer.carriers.hooks.refusals import RefusalWords
from batchcall_mcp.dialer.carriers.hooks.signatures import is_signed
from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, HttpCarrier, Progress, Seen
from batchcall_mcp.dialer.carriers.vendor_api import Refused
from batchcall_mcp.dialer.carriers.vendors.bland.call_outcomes import BROKEN, NOT_OVER, WAITS, outcome_of, word_of
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.http_errors import backend_words
from batchcall_mcp.vendor_http.json_values import inside, moment, rows, text, unpacked
from batchcall_mcp.vendor_http.transcripts import turns

_CALLS: Final = "/v1/calls"
_STOP: Final = HttpCall("POST", _CALLS + "/{call_id}/stop")
_UNSETTLED_LOOKS: Final = 3
"""So often a call that is over, but not yet said to have ended in any way, is looked at again."""
_SPEAKERS: Final[Mapping[str, Literal["agent", "person"]]] = {
    **dict.fromkeys(("assistant", "agent", "robot"), "agent"),
    "user": "person",
}
_SLOW: Final = re.compile(r"\b(hour|hourly|day|daily)\b")
_NO_CREDIT: Final = re.compile(r"balance|credit|payment|billing|\bfunds\b")
_REFUSALS: Final = RefusalWords(
    title="Bland",
    later=re.compile(r"concurren|rate.?limit|too.many|limit (reached|exceeded)|limit has been"),
    slow=_SLOW,
    at_fault=re.compile(
        _NO_CREDIT.pattern + r"|unauthorized|pathway|persona|caller|(^|\W)from(\W+is|\W+number|\W+must|:|'|\")"
    ),
    check="the balance, the caller number and the agent",
    permanent=re.compile(r"phone[ _]?number|country|blocked|do not call|\bdnc\b"),
)
_UNSETTLED: Final = NOT_OVER | {None, "unknown"}


class BlandCarrier(HttpCarrier):
    """The pathways and personas of an organization."""

    name = "bland"
    title = "Bland"
    default_url = "https://api.bland.ai"
    default_concurrency = 8
    ring_seconds = 60.0  # it cannot be given
    needs_agent = True
    one_call = HttpCall("GET", _CALLS + "/{call_id}")
    call_in_webhook = "call_id|c_id"

    def __init__(self, config: CarrierConfig, **parts: Any) -> None:
        super().__init__(config, **parts)
        self._personas: frozenset[str] = frozenset()
        self._unsettled: dict[str, int] = {}

    def auth(self) -> Mapping[str, str]:
        """The key itself."""
        return {"authorization": self.config.key.get_secret_value()}

    async def numbers(self) -> Sequence[CallerNumber] | None:
        """Whoever owns a number may call from it: those for inbound calls, and those for outbound calls only."""
        inbound = await self._listed("/v1/inbound", "inbound_numbers|data")
        outbound = await self._listed("/v1/outbound", "outbound_numbers|data")
        if inbound is None and outbound is None:
            return None
        found = [text(row.get("phone_number")) for row in (*(inbound or ()), *(outbound or ()))]
        return [CallerNumber(from_number=number) for number in dict.fromkeys(found) if number]

    async def agents(self) -> Sequence[Agent] | None:
        pathways = await self._listed("/v1/pathway", "pathways|data")
        personas = await self._listed("/v1/personas", "personas|data")
        spoken = agents_in(personas or (), "id|persona_id")
        self._personas = frozenset(one.agent_id for one in spoken)
        if pathways is None and personas is None:
            return None
        return [*agents_in(pathways or (), "id|pathway_id"), *spoken]

    async def _listed(self, path: str, member: str) -> Sequence[Mapping[str, Any]] | None:
        """The rows of a list; None: there is none, or not for this key."""
        try:
            answer = await self.read(HttpCall("GET", path))
        except Refused as no:
            if no.status in {401, 429}:
                raise
            return None
        found = answer if isinstance(answer, list) else inside(answer, member)
        return rows(found)[0] if isinstance(found, list) else None

    def account_problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:
        """Without a caller Bland takes a number of its own; without an agent it has nothing to say."""
        if not attempt.from_number:
            return "The caller number is missing: Bland would choose one of its own. get_backend lists the numbers."
        return super().account_problem(account, attempt)

    def create_call(self, attempt: Attempt, account: CarrierAccount) -> HttpCall:  # noqa: ARG002 - the lists were read
        """An agent is a pathway, unless it is in the list of personas."""
        is_persona = attempt.agent_id in self._personas
        ours, has_secret = self.config.public_url, self.config.secret is not None
        body = given(
            phone_number=attempt.to_number,
            persona_id=attempt.agent_id if is_persona else None,
            pathway_id=None if is_persona else attempt.agent_id,
            request_data=unpacked(attempt.dynamic_variables),
            metadata={"attempt_id": attempt.attempt_id},
            max_duration=int(self.longest_call_seconds / 60),
            answered_by_enabled=True,
            webhook=f"{ours.rstrip('/')}/carriers/{self.name}" if ours and has_secret else None,
        )
        return HttpCall("POST", _CALLS, json={**body, "from": attempt.from_number})

    def created(self, body: object, attempt: Attempt) -> str | Outcome | None:
        """A success may be an error."""
        call_id = text(inside(body, "call_id"), 200)
        if inside(body, "status") != "error" and not (call_id is None and inside(body, "errors")):
            return call_id
        words = backend_words(body)
        return _REFUSALS.judged(words, self.said(words, attempt))

    def refused(self, no: Refused, attempt: Attempt) -> Outcome:
        words = backend_words(no.body)
        if no.status in {400, 422} or (no.status == 429 and _SLOW.search(words.lower())):  # noqa: PLR2004 - HTTP
            return _REFUSALS.judged(words, no.said, no.retry_after)
        return super().refused(no, attempt)

    async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]:
        """The list has no metadata: each call to the number is read. In which form it knows numbers, and of which zone
        its days are, nobody says.
        """
        day, digits = (since - timedelta(days=1)).date().isoformat(), attempt.to_number.lstrip("+")
        listed: list[str | None] = []
        for form in (attempt.to_number, digits):
            query: dict[str, str | int] = {"to_number": form, "start_date": day, "limit": 100}
            answer = rows(inside(await self.read(HttpCall("GET", _CALLS, query=query)), "calls"))[0]
            listed += [
                text(row.get("call_id"), 200) for row in answer if re.sub(r"\D", "", str(row.get("to"))) == digits
            ]
            if listed:
                break

        def is_own(read: object) -> bool:
            return text(inside(read, "metadata.attempt_id")) == attempt.attempt_id

        return await those_that(is_own, listed, self.record)

    async def look(self, call_id: str, attempt: Attempt) -> Seen:
        call = await self.record(call_id)
        found = outcome_of(call)
        if found is None:
            return Progress.QUEUED if word_of(call, "queue_status") in WAITS else Progress.GOING
        has_talked = found.duration_seconds is not None  # then somebody was rung, whatever it says of money
        is_unpaid = not has_talked and _NO_CREDIT.search((found.error or "").lower()) is not None
        if is_unpaid and found.status is TaskStatus.FAILED and word_of(call, "queue_status") in BROKEN:  # never dialled
            return AccountAtFault(f"Bland places no calls: check the balance.{self.said(found.error, attempt)}")
        looks = self._unsettled.pop(call_id, 0)
        if looks < _UNSETTLED_LOOKS and found.backend_status in _UNSETTLED:
            self._unsettled[call_id] = looks + 1
            return Progress.GOING
        return found

    async def hang_up(self, call_id: str) -> None:
        await self.read(_STOP.at(call_id=call_id))

    async def details(self, call_id: str) -> CallDetails:
        call = await self.record(call_id)
        begin = moment(call.get("started_at"))
        return CallDetails(
            transcript=turns(call.get("transcripts"), _SPEAKERS, by="user", said="text", at="created_at", begin=begin),
            recording_url=text(call.get("recording_url")),
            summary=text(call.get("summary")),
            ended_reason=text(inside(call, "call_ended_by|error_message")),
        )

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:  # noqa: ARG002 - the body is signed
        """A hex digest of the body. It has no time: what comes again only makes a call be read again."""
        return is_signed(self.config.secret, body, headers.get("x-webhook-signature", ""))

    async def record(self, call_id: str) -> Mapping[str, Any]:
        """A success may be an error here too."""
        call = await super().record(call_id)
        if call.get("status") == "error" and call.get("call_id") is None:
            raise CarrierUnavailable("Bland answered without a call")
        return call
