"""Bland: one call by a pathway or a persona, from a number of the account.

Sources: docs.bland.ai, the pages of calls (api-v1), personas and billing. Bland would dial again by itself (`retry`),
wait (`start_time`), choose a caller of its own (no `from`) and end everybody's calls (`/v1/calls/active/stop`): none of
that is ever asked for.
"""

from __future__ import annotations

import hmac
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
    OutcomeStatus,
)
from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, HttpCarrier, Progress, Seen
from batchcall_mcp.dialer.carriers.vendor_api import LATER_S, Refused
from batchcall_mcp.model import Agent, AnsweredBy, CallerNumber, TaskStatus
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.http_errors import backend_words
from batchcall_mcp.vendor_http.json_values import inside, moment, rows, seconds, text, unpacked, usd
from batchcall_mcp.vendor_http.transcripts import turns

_CALLS: Final = "/v1/calls"
_ONE: Final = HttpCall("GET", _CALLS + "/{call_id}")
_STOP: Final = HttpCall("POST", _CALLS + "/{call_id}/stop")
_MOST_LOOKED_UP: Final = 20
_UNSETTLED_LOOKS: Final = 3
"""So often a call that is over, but not yet said to have ended in any way, is looked at again."""
_LONG_WAIT_S: Final = 600.0
_SPEAKERS: Final[Mapping[str, Literal["agent", "person"]]] = {
    **dict.fromkeys(("assistant", "agent", "robot"), "agent"),
    "user": "person",
}
_SLOW: Final = re.compile(r"\b(hour|hourly|day|daily)\b")
_LATER: Final = re.compile(r"concurren|rate.?limit|too.many|limit (reached|exceeded)|limit has been|" + _SLOW.pattern)
_NO_CREDIT: Final = re.compile(r"balance|credit|payment|billing|\bfunds\b")
_AT_FAULT: Final = re.compile(
    _NO_CREDIT.pattern + r"|unauthorized|pathway|persona|caller|(^|\W)from(\W+is|\W+number|\W+must|:|'|\")"
)
_PERMANENT: Final = re.compile(r"phone[ _]?number|country|blocked|do not call|\bdnc\b")
_WAITS: Final = frozenset({"new", "queued", "allocated"})
_NOT_OVER: Final = _WAITS | {"started"}
_UNSETTLED: Final = _NOT_OVER | {None, "unknown"}
_BROKEN: Final = frozenset({"error", "call_error", "queue_error", "pre_queue_error"})
_UNREACHED: Final = frozenset({"busy", "no-answer", "failed", "canceled"})
_ANSWERED: Final[Mapping[str, AnsweredBy]] = {"human": "human", "voicemail": "machine"}
_ENDS: Final[Mapping[str, OutcomeStatus]] = {
    **dict.fromkeys(("completed", "complete"), TaskStatus.COMPLETED),
    **dict.fromkeys(("failed", "canceled", "unknown", *_BROKEN), TaskStatus.FAILED),
    "busy": TaskStatus.BUSY,
    "no-answer": TaskStatus.NO_ANSWER,
}


class BlandCarrier(HttpCarrier):
    """The pathways and personas of an organization."""

    name = "bland"
    title = "Bland"
    default_url = "https://api.bland.ai"
    default_concurrency = 8
    ring_seconds = 60.0  # it cannot be given

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
        self._personas = frozenset(one for row in personas or () if (one := _id(row)))
        if pathways is None and personas is None:
            return None
        return [
            Agent(agent_id=one, name=text(row.get("name")))
            for row in (*(pathways or ()), *(personas or ()))
            if (one := _id(row))
        ]

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
        if attempt.agent_id is None:
            return "The agent is missing: Bland calls with a pathway or a persona. get_backend lists them."
        return super().account_problem(account, attempt)

    def create_call(self, attempt: Attempt, account: CarrierAccount) -> HttpCall:  # noqa: ARG002 - the lists were read
        """An agent is a pathway, unless it is in the list of personas."""
        is_persona = attempt.agent_id in self._personas
        hooks, is_signed = self.config.public_url, self.config.secret is not None
        body = given(
            phone_number=attempt.to_number,
            persona_id=attempt.agent_id if is_persona else None,
            pathway_id=None if is_persona else attempt.agent_id,
            request_data=unpacked(attempt.dynamic_variables),
            metadata={"attempt_id": attempt.attempt_id},
            max_duration=int(self.longest_call_seconds / 60),
            answered_by_enabled=True,
            webhook=f"{hooks.rstrip('/')}/carriers/{self.name}" if hooks and is_signed else None,
        )
        return HttpCall("POST", _CALLS, json={**body, "from": attempt.from_number})

    def created(self, body: object, attempt: Attempt) -> str | Outcome | None:
        """A success may be an error."""
        call_id = text(inside(body, "call_id"), 200)
        if inside(body, "status") != "error" and not (call_id is None and inside(body, "errors")):
            return call_id
        words = backend_words(body)
        return self._judged(words, self._said(words, attempt), None)

    def refused(self, no: Refused, attempt: Attempt) -> Outcome:
        words = backend_words(no.body)
        if no.status in {400, 422} or (no.status == 429 and _SLOW.search(words.lower())):  # noqa: PLR2004 - HTTP
            return self._judged(words, no.said, no.retry_after)
        return super().refused(no, attempt)

    def _said(self, words: str | None, attempt: Attempt) -> str:
        """Its words as a sentence without the number."""
        shown = re.sub(rf"\+?{attempt.to_number.lstrip('+')}", "the number", self.words(words or ""))
        return f' Bland said: "{shown}"' if shown else ""

    def _judged(self, words: str, said: str, wait: float | None) -> Outcome:
        """What the words of a no mean."""
        words = words.lower()
        if _LATER.search(words):
            shortest = _LONG_WAIT_S if _SLOW.search(words) else LATER_S
            why = f"Bland takes no more calls for the moment.{said}"
            raise CarrierUnavailable(why, retry_after=max(wait or 0.0, shortest), whole_account=True)
        if _AT_FAULT.search(words):
            raise AccountAtFault(f"Bland places no calls: check the balance, the caller number and the agent.{said}")
        return Outcome(TaskStatus.FAILED, f"Bland did not call.{said}", permanent=bool(_PERMANENT.search(words)))

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
        found = []
        for call_id in filter(None, listed[:_MOST_LOOKED_UP]):
            read = await self.read(_ONE.at(call_id=call_id))
            found += [call_id] * (inside(read, "metadata.attempt_id") == attempt.attempt_id)
        return found

    async def look(self, call_id: str, attempt: Attempt) -> Seen:
        call = await self._call(call_id)
        found = outcome_of(call)
        if found is None:
            return Progress.QUEUED if _word(call, "queue_status") in _WAITS else Progress.GOING
        has_talked = found.duration_seconds is not None  # then somebody was rung, whatever it says of money
        is_unpaid = not has_talked and _NO_CREDIT.search((found.error or "").lower()) is not None
        if is_unpaid and found.status is TaskStatus.FAILED and _word(call, "queue_status") in _BROKEN:  # never dialled
            return AccountAtFault(f"Bland places no calls: check the balance.{self._said(found.error, attempt)}")
        looks = self._unsettled.pop(call_id, 0)
        if looks < _UNSETTLED_LOOKS and found.backend_status in _UNSETTLED:
            self._unsettled[call_id] = looks + 1
            return Progress.GOING
        return found

    async def hang_up(self, call_id: str) -> None:
        await self.read(_STOP.at(call_id=call_id))

    async def details(self, call_id: str) -> CallDetails:
        call = await self._call(call_id)
        begin = moment(call.get("started_at"))
        return CallDetails(
            transcript=turns(call.get("transcripts"), _SPEAKERS, by="user", said="text", at="created_at", begin=begin),
            recording_url=text(call.get("recording_url")),
            summary=text(call.get("summary")),
            ended_reason=text(inside(call, "call_ended_by|error_message")),
        )

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:  # noqa: ARG002 - the body is signed
        """A hex digest of the body. It has no time: what comes again only makes a call be read again."""
        if self.config.secret is None:
            return False
        digest = hmac.new(self.config.secret.get_secret_value().encode(), body, "sha256").hexdigest()
        return hmac.compare_digest(digest.encode(), headers.get("x-webhook-signature", "").encode())

    def named(self, body: bytes) -> Sequence[str]:
        call_id = text(inside(unpacked(body), "call_id|c_id"), 200)
        return () if call_id is None else (call_id,)

    async def _call(self, call_id: str) -> Mapping[str, Any]:
        call = await self.read(_ONE.at(call_id=call_id))
        if not isinstance(call, dict) or (call.get("status") == "error" and call.get("call_id") is None):
            raise CarrierUnavailable("Bland answered without a call")
        return call


def outcome_of(call: Mapping[str, Any]) -> Outcome | None:
    """How a call ended; None: it goes on. Pure. `completed` is ahead of every other member."""
    word, queue, answered_by = (_word(call, name) for name in ("status", "queue_status", "answered_by"))
    if call.get("completed") is not True and not (word in _UNREACHED or queue in _BROKEN):
        return None
    if word is None or word in _NOT_OVER or (word == "unknown" and queue in _BROKEN):
        word = queue
    known, talked = _ENDS.get(word or ""), _seconds_of(call)
    status = known or (TaskStatus.COMPLETED if talked else TaskStatus.FAILED)
    if answered_by == "voicemail":
        status = TaskStatus.VOICEMAIL
    elif answered_by == "no-answer" and status is not TaskStatus.BUSY:
        status = TaskStatus.NO_ANSWER
    error = None
    if status is TaskStatus.FAILED:
        error = text(call.get("error_message")) or f"Bland calls this call {word or 'completed, and nothing else'}"
        error = f"answered, then: {error}" if talked else error
    elif known is None and status is TaskStatus.COMPLETED:
        error = f"Bland calls this call {word}"
    return Outcome(
        status,
        error,
        duration_seconds=None if status in {TaskStatus.BUSY, TaskStatus.NO_ANSWER} else talked,
        answered_by=_ANSWERED.get(answered_by or ""),
        permanent=(status is TaskStatus.FAILED and talked is not None) or (known is None and error is not None),
        backend_status=word,
        cost=usd(call.get("price")),
        summary=text(call.get("summary")),
    )


def _id(row: Mapping[str, Any]) -> str | None:
    return text(inside(row, "id|pathway_id|persona_id"), 200)


def _word(call: Mapping[str, Any], name: str) -> str | None:
    word = text(call.get(name), 100)
    return word and word.lower()


def _seconds_of(call: Mapping[str, Any]) -> float | None:
    """How long it was connected: seconds as text, or minutes; None: not at all."""
    exact = text(call.get("corrected_duration"), 20) or ""
    if exact.replace(".", "", 1).isdecimal():
        return seconds(float(exact)) or None
    minutes = seconds(call.get("call_length"))
    return seconds((minutes or 0) * 60) or None
