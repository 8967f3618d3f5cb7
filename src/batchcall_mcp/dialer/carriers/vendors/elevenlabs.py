"""ElevenLabs Agents: one conversation over one of the account's numbers.

Sources: the vendor's OpenAPI document (August 2026), its SDK 2.78, elevenlabs.io/docs/eleven-agents. What a call looks
like that was busy or not answered is in none of them, except for the webhook `call_initiation_failure`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from json import dumps
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
from batchcall_mcp.dialer.carriers.http_carrier import GRACE_S, CarrierConfig, HttpCarrier, Progress, Seen
from batchcall_mcp.dialer.carriers.vendor_api import LATER_S, Refused
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.http_errors import backend_words
from batchcall_mcp.vendor_http.json_values import inside, rows, seconds, text, unpacked, usd, whole
from batchcall_mcp.vendor_http.transcripts import turns

_PAGE: Final = "/v1/convai"
_ONE: Final = HttpCall("GET", _PAGE + "/conversations/{call_id}")
_PATHS: Final[Mapping[str, str]] = {"twilio": "twilio", "sip_trunk": "sip-trunk", "exotel": "exotel"}
"""By the provider of the caller number."""
_MOST_PAGES: Final = 20
_MOST_LOOKED_UP: Final = 20
_SETTLED_S: Final = 60.0
"""A call is over while it is `processing`; its summary and cost are waited for so long."""
_TOLD_S: Final = 15.0
"""After a call failed, the webhook that says why is waited for so long."""
_WEBHOOK_S: Final = 30 * 60
_RESERVED: Final = "system__"
_SPEAKERS: Final[Mapping[str, Literal["agent", "person"]]] = {"agent": "agent", "user": "person"}
_GOES_ON: Final = frozenset({"initiated", "in-progress", "processing"})
_LATER: Final = re.compile(r"concurren|too.many|rate.?limit|capacity|\b(20429|10004|22005)\b")
_AT_FAULT: Final = re.compile(
    r"quota|credit|balance|payment|subscription|authenticat|\b(20003|21210|21212|21213)\b|source phone"
)
_PERMANENT: Final = re.compile(
    r"\b(21211|21214|21215|21216|21217|21219)\b|not a valid phone|invalid (phone|to)|unverified"
)
_UNREACHED: Final[tuple[tuple[re.Pattern[str], OutcomeStatus], ...]] = (
    (re.compile(r"\bbusy\b"), TaskStatus.BUSY),
    (re.compile(r"\bno[-_ ]answer\b"), TaskStatus.NO_ANSWER),
)
_SIP: Final[Mapping[Any, OutcomeStatus]] = {
    **dict.fromkeys((486, 600), TaskStatus.BUSY),
    **dict.fromkeys((408, 480), TaskStatus.NO_ANSWER),
}


class ElevenLabsCarrier(HttpCarrier):
    """The agents of a workspace. A call cannot be ended there: it ends by itself."""

    name = "elevenlabs"
    title = "ElevenLabs"
    default_url = "https://api.elevenlabs.io"
    default_concurrency = 5
    longest_call_seconds = 3600.0  # the agent's own limit counts

    def __init__(self, config: CarrierConfig, **parts: Any) -> None:
        super().__init__(config, **parts)
        self._providers: Mapping[str, str] = {}  # of the account's numbers, by their ids
        self._stays: dict[str, tuple[str | None, float]] = {}  # since when a call has had its word

    def auth(self) -> Mapping[str, str]:
        return {"xi-api-key": self.config.key.get_secret_value()}

    async def numbers(self) -> Sequence[CallerNumber] | None:
        answer = await self.read(HttpCall("GET", _PAGE + "/phone-numbers"))
        if not isinstance(answer, list):
            return None
        found = [
            row
            for row in rows(answer)[0]
            if row.get("supports_outbound") is not False and text(row.get("phone_number"))
        ]
        self._providers = {str(row.get("phone_number_id")): str(row.get("provider") or "twilio") for row in found}
        return [
            CallerNumber(
                from_number=str(row["phone_number"]),
                name=text(row.get("label")),
                number_id=text(row.get("phone_number_id")),
            )
            for row in found
        ]

    async def agents(self) -> Sequence[Agent]:
        found: list[Agent] = []
        cursor = None
        for _ in range(_MOST_PAGES):
            query = given(page_size=100, cursor=cursor)
            page = await self.read(HttpCall("GET", _PAGE + "/agents", query=query))
            found += [
                Agent(agent_id=one, name=text(row.get("name")))
                for row in rows(inside(page, "agents"))[0]
                if (one := text(row.get("agent_id"), 200))
            ]
            cursor = text(inside(page, "next_cursor"), 4000) if inside(page, "has_more") is True else None
            if cursor is None:
                break
        return found

    def account_problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:
        """A caller number goes as its id, on the path of its provider."""
        if attempt.agent_id is None:
            return "The agent is missing: ElevenLabs calls with one. get_backend lists the agents."
        problem = super().account_problem(account, attempt)
        if (
            problem is None
            and account.numbers is not None
            and (found := self._caller(account, attempt)[1]) not in _PATHS
        ):
            problem = f"ElevenLabs places no single calls over {found}. Use another number."
        return problem

    def person_problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:
        """Variables of their own, which begin with `system__`, cannot be given."""
        reserved = sorted(name for name in _variables(attempt) if name.startswith(_RESERVED))
        if reserved:
            return f"The variable {reserved[0]} cannot be given: ElevenLabs sets those that begin with {_RESERVED}."
        return super().person_problem(account, attempt)

    def create_call(self, attempt: Attempt, account: CarrierAccount) -> HttpCall:
        number_id, provider = self._caller(account, attempt)
        if number_id is None:
            raise AccountAtFault(
                "ElevenLabs wants the id of the caller number, and its list of numbers cannot be read."
            )
        body = {
            "agent_id": attempt.agent_id,
            "agent_phone_number_id": number_id,
            "to_number": attempt.to_number,
            "conversation_initiation_client_data": {
                "user_id": attempt.attempt_id,
                "dynamic_variables": _variables(attempt),
            },
            "telephony_call_config": {"ringing_timeout_secs": int(self.ring_seconds)},
        }
        return HttpCall("POST", f"{_PAGE}/{_PATHS[provider]}/outbound-call", json=body)

    def created(self, body: object, attempt: Attempt) -> str | Outcome | None:
        """A success may be none, and may have no id."""
        if inside(body, "success") is False:
            message = text(inside(body, "message")) or "nothing"
            said = re.sub(rf"\+?{attempt.to_number.lstrip('+')}", "the number", self.words(message))
            return self._judged(message, f' ElevenLabs said: "{said}"')
        return text(inside(body, "conversation_id"), 200)

    def refused(self, no: Refused, attempt: Attempt) -> Outcome:
        if no.status not in {400, 422}:
            return super().refused(no, attempt)
        wrong = {text(inside(row, "loc.1")) for row in rows(inside(no.body, "detail"))[0]}
        if "to_number" in wrong:
            return Outcome(TaskStatus.FAILED, f"ElevenLabs does not take the number.{no.said}", permanent=True)
        if wrong & {"agent_id", "agent_phone_number_id"}:
            raise AccountAtFault(f"ElevenLabs does not take the agent or the caller number.{no.said}")
        return self._judged(f"{text(inside(no.body, 'detail.status'))}: {backend_words(no.body)}", no.said)

    def _judged(self, words: str, said: str) -> Outcome:
        """What the words of a no mean."""
        words = words.lower()
        if _LATER.search(words):
            why = f"ElevenLabs takes no more calls for the moment.{said}"
            raise CarrierUnavailable(why, retry_after=LATER_S, whole_account=True)
        if _AT_FAULT.search(words):
            raise AccountAtFault(
                f"ElevenLabs places no calls: check the account's plan, credit and phone provider.{said}"
            )
        return Outcome(TaskStatus.FAILED, f"ElevenLabs did not call.{said}", permanent=bool(_PERMANENT.search(words)))

    async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]:
        """By the attempt's id, as that of the user; a conversation that names another user is not it."""
        query: dict[str, str | int] = {"user_id": attempt.attempt_id, "page_size": 100}
        answer = await self.read(HttpCall("GET", _PAGE + "/conversations", query=query))
        listed = rows(inside(answer, "conversations"))[0]
        found = []
        for row in listed[:_MOST_LOOKED_UP]:
            call_id, started = text(row.get("conversation_id"), 200), seconds(row.get("start_time_unix_secs"))
            if call_id is None or (started and started < int(since.timestamp())):
                continue
            read = await self.read(_ONE.at(call_id=call_id))
            user = text(inside(read, "user_id|conversation_initiation_client_data.user_id"))
            if user in {None, attempt.attempt_id}:
                found.append(call_id)
        return found

    async def look(self, call_id: str, attempt: Attempt) -> Seen:  # noqa: ARG002 - the id is enough
        read = await self._conversation(call_id)
        word = text(read.get("status"), 100)
        known, since = self._stays.get(call_id, (None, 0.0))
        if known != word:
            self._stays[call_id] = word, (since := self._clock())
        waited = self._clock() - since
        found = outcome_of({**read, "status": "done"} if word == "processing" and waited > _SETTLED_S else read)
        if word == "initiated" and waited > self.ring_seconds + GRACE_S:
            why = "ElevenLabs never said more of this call than that it was initiated"
            found = Outcome(TaskStatus.FAILED, why, backend_status=word)
        is_told = self.config.public_url is not None and self.config.secret is not None
        if found is None or (is_told and waited < _TOLD_S and _is_unexplained(found)):
            return Progress.GOING
        self._stays.pop(call_id, None)
        return found

    async def details(self, call_id: str) -> CallDetails:
        """Its audio can be had with the key alone."""
        read = await self._conversation(call_id)
        audio = f"{(self.config.url or self.default_url).rstrip('/')}{_ONE.at(call_id=call_id).path}/audio"
        return CallDetails(
            transcript=turns(read.get("transcript"), _SPEAKERS, at="time_in_call_secs"),
            recording_url=audio if read.get("has_audio") is True else None,
            summary=text(inside(read, "analysis.transcript_summary")),
            ended_reason=text(inside(read, "metadata.termination_reason")),
        )

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:  # noqa: ARG002 - the body is signed
        """`t=<epoch seconds>,v0=<hex>` over the two, of the last 30 minutes."""
        parts = dict(part.split("=", 1) for part in headers.get("elevenlabs-signature", "").split(",") if "=" in part)
        at, given_digest = parts.get("t", ""), parts.get("v0", "")
        if self.config.secret is None or not re.fullmatch("[0-9]{1,12}", at):
            return False
        key = self.config.secret.get_secret_value().encode()
        digest = hmac.new(key, at.encode() + b"." + body, "sha256").hexdigest()
        is_recent = abs(self._now().timestamp() - int(at)) <= _WEBHOOK_S
        return hmac.compare_digest(digest.encode(), given_digest.encode()) and is_recent

    def named(self, body: bytes) -> Sequence[str]:
        call_id = text(inside(unpacked(body), "data.conversation_id"), 200)
        return () if call_id is None else (call_id,)

    def told(self, call_id: str, body: bytes) -> Outcome | None:
        """Of a call that could not begin, nothing else says how it ended."""
        message = unpacked(body)
        if inside(message, "type") != "call_initiation_failure" or call_id not in self.named(body):
            return None
        return failure_of(inside(message, "data"))

    async def _conversation(self, call_id: str) -> Mapping[str, Any]:
        read = await self.read(_ONE.at(call_id=call_id))
        if not isinstance(read, dict):
            raise CarrierUnavailable("ElevenLabs answered without a conversation")
        return read

    def _caller(self, account: CarrierAccount, attempt: Attempt) -> tuple[str | None, str]:
        """The id and the provider of the caller number."""
        own = comparable(attempt.from_number)
        found = next((one for one in account.numbers or () if comparable(one.from_number) == own), None)
        number_id = found.number_id if found else None
        return number_id, self._providers.get(number_id or "", "an unknown provider")


def _variables(attempt: Attempt) -> dict[str, str | int | float]:
    """Those of the person: text, numbers, yes and no; what is more is given as JSON."""
    found = unpacked(attempt.dynamic_variables)
    return {
        name: value if isinstance(value, str | int | float) else dumps(value)
        for name, value in (found if isinstance(found, dict) else {}).items()
        if value is not None
    }


def outcome_of(conversation: Mapping[str, Any]) -> Outcome | None:
    """How a conversation ended; None: it goes on. Pure."""
    word, data = text(conversation.get("status"), 100), conversation.get("metadata")
    if word is None or word in _GOES_ON:
        return None
    talked = seconds(inside(data, "call_duration_secs")) or None
    result = text(inside(data, "phone_call.call_result"), 100)  # of newer documents
    said = "; ".join(filter(None, (text(inside(data, path)) for path in ("error.reason", "termination_reason"))))
    ended = Outcome(
        TaskStatus.COMPLETED,
        duration_seconds=talked,
        backend_status=word,
        cost=usd(inside(data, "cost_fiat")),
        summary=text(inside(conversation, "analysis.transcript_summary")),
    )
    if unreached := _unreached(result) or (_unreached(said) if word == "failed" and not talked else None):
        return replace(ended, status=unreached, duration_seconds=None)
    if inside(data, "features_usage.voicemail_detection.used") is True or result == "voicemail":
        return replace(ended, status=TaskStatus.VOICEMAIL, answered_by="machine")
    if word == "done":
        is_watched = inside(data, "features_usage.voicemail_detection.enabled") is True
        return replace(ended, answered_by="human" if is_watched else None)
    return _not_done(ended, word, said)


def _is_unexplained(outcome: Outcome) -> bool:
    """Whether a webhook may still say that it was busy or not answered."""
    return outcome.status is TaskStatus.FAILED and not outcome.permanent


def _not_done(ended: Outcome, word: str, said: str) -> Outcome:
    """It failed, or has a word that no document has. Who answered is not rung again."""
    has_talked = ended.duration_seconds is not None
    if word == "failed":
        why = said or "ElevenLabs does not say why"
        error = f"answered, then: {why}" if has_talked else why
        return replace(ended, status=TaskStatus.FAILED, error=error, permanent=has_talked)
    status: OutcomeStatus = TaskStatus.COMPLETED if has_talked else TaskStatus.FAILED
    return replace(ended, status=status, error=f"ElevenLabs calls this call {word}", permanent=True)


def failure_of(data: Mapping[str, Any]) -> Outcome:
    """How a call ended that never began: `data` of the webhook `call_initiation_failure`. Pure."""
    reason, body = text(data.get("failure_reason"), 100), inside(data, "metadata.body")
    by_phone = text(inside(body, "CallStatus"), 100)
    status = _unreached(reason) or _unreached(by_phone) or _SIP.get(whole(inside(body, "sip_status_code")))
    why = ", ".join(filter(None, (reason, by_phone, text(inside(body, "error_reason"), 200))))
    if status is not None:
        return Outcome(status, backend_status=reason)
    return Outcome(TaskStatus.FAILED, f"the call could not begin ({why or 'unknown'})", backend_status=reason)


def _unreached(words: str | None) -> OutcomeStatus | None:
    found = (status for pattern, status in _UNREACHED if pattern.search((words or "").lower()))
    return next(found, None)
