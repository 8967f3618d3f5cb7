"""ElevenLabs Agents: one conversation over one of the account's numbers.

Sources: the vendor's OpenAPI document (August 2026), its SDK 2.78, elevenlabs.io/docs/eleven-agents. What a call looks
like that was busy or not answered is in none of them, except for the webhook `call_initiation_failure`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from json import dumps
from typing import Any, Final, Literal

from batchcall_mcp.dialer.carriers.base import AccountAtFault, Attempt, CallDetails, CarrierAccount, Outcome
from batchcall_mcp.dialer.carriers.hooks.lists import agents_in, every_row, numbers_in, those_that
from batchcall_mcp.dialer.carriers.hooks.refusals import RefusalWords
from batchcall_mcp.dialer.carriers.hooks.signatures import is_signed
from batchcall_mcp.dialer.carriers.http_carrier import GRACE_S, CarrierConfig, HttpCarrier, Progress, Seen
from batchcall_mcp.dialer.carriers.vendor_api import Refused
from batchcall_mcp.dialer.carriers.vendors.elevenlabs.call_outcomes import failure_of, outcome_of
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.http_errors import backend_words
from batchcall_mcp.vendor_http.json_values import inside, rows, seconds, text, unpacked
from batchcall_mcp.vendor_http.transcripts import turns

_PAGE: Final = "/v1/convai"
_PATHS: Final[Mapping[str, str]] = {"twilio": "twilio", "sip_trunk": "sip-trunk", "exotel": "exotel"}
"""By the provider of the caller number."""
_SETTLED_S: Final = 60.0
"""A call is over while it is `processing`; its summary and cost are waited for so long."""
_TOLD_S: Final = 15.0
"""After a call failed, the webhook that says why is waited for so long."""
_WEBHOOK_S: Final = 30 * 60
_RESERVED: Final = "system__"
_SPEAKERS: Final[Mapping[str, Literal["agent", "person"]]] = {"agent": "agent", "user": "person"}
_REFUSALS: Final = RefusalWords(
    title="ElevenLabs",
    later=re.compile(r"concurren|too.many|rate.?limit|capacity|\b(20429|10004|22005)\b"),
    at_fault=re.compile(
        r"quota|credit|balance|payment|subscription|authenticat|\b(20003|21210|21212|21213)\b|source phone"
    ),
    check="the account's plan, credit and phone provider",
    permanent=re.compile(r"\b(21211|21214|21215|21216|21217|21219)\b|not a valid phone|invalid (phone|to)|unverified"),
)


class ElevenLabsCarrier(HttpCarrier):
    """The agents of a workspace. A call cannot be ended there: it ends by itself."""

    name = "elevenlabs"
    title = "ElevenLabs"
    default_url = "https://api.elevenlabs.io"
    default_concurrency = 5
    longest_call_seconds = 3600.0  # the agent's own limit counts
    needs_agent = True
    one_call = HttpCall("GET", _PAGE + "/conversations/{call_id}")
    call_in_webhook = "data.conversation_id"

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
        return numbers_in(found, "phone_number", "label", "phone_number_id")

    async def agents(self) -> Sequence[Agent]:
        call = HttpCall("GET", _PAGE + "/agents", query={"page_size": 100})
        return agents_in(await every_row(self.read, call, "agents", "next_cursor"), "agent_id")

    def account_problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:
        """A caller number goes as its id, on the path of its provider."""
        problem = super().account_problem(account, attempt)
        if (
            problem is None
            and account.numbers is not None
            and (found := self._providers.get(self.number_id(account, attempt), "an unknown provider")) not in _PATHS
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
        number_id = self.number_id(account, attempt)
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
        return HttpCall("POST", f"{_PAGE}/{_PATHS[self._providers[number_id]]}/outbound-call", json=body)

    def created(self, body: object, attempt: Attempt) -> str | Outcome | None:
        """A success may be none, and may have no id."""
        if inside(body, "success") is False:
            message = text(inside(body, "message")) or "nothing"
            return _REFUSALS.judged(message, self.said(message, attempt))
        return text(inside(body, "conversation_id"), 200)

    def refused(self, no: Refused, attempt: Attempt) -> Outcome:
        if no.status not in {400, 422}:
            return super().refused(no, attempt)
        wrong = {text(inside(row, "loc.1")) for row in rows(inside(no.body, "detail"))[0]}
        if "to_number" in wrong:
            return Outcome(TaskStatus.FAILED, f"ElevenLabs does not take the number.{no.said}", permanent=True)
        if wrong & {"agent_id", "agent_phone_number_id"}:
            raise AccountAtFault(f"ElevenLabs does not take the agent or the caller number.{no.said}")
        return _REFUSALS.judged(f"{text(inside(no.body, 'detail.status'))}: {backend_words(no.body)}", no.said)

    async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]:
        """By the attempt's id, as that of the user; a conversation that names another user is not it."""
        query: dict[str, str | int] = {"user_id": attempt.attempt_id, "page_size": 100}
        answer = await self.read(HttpCall("GET", _PAGE + "/conversations", query=query))
        begun = int(since.timestamp())
        listed = (
            text(row.get("conversation_id"), 200)
            for row in rows(inside(answer, "conversations"))[0]
            if (seconds(row.get("start_time_unix_secs")) or begun) >= begun
        )

        def is_own(read: object) -> bool:
            user = text(inside(read, "user_id|conversation_initiation_client_data.user_id"))
            return user in {None, attempt.attempt_id}

        return await those_that(is_own, listed, self.record)

    async def look(self, call_id: str, attempt: Attempt) -> Seen:  # noqa: ARG002 - the id is enough
        read = await self.record(call_id)
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
        read = await self.record(call_id)
        audio = f"{(self.config.url or self.default_url).rstrip('/')}{self.one_call.at(call_id=call_id).path}/audio"
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
        if not re.fullmatch("[0-9]{1,12}", at) or abs(self._now().timestamp() - int(at)) > _WEBHOOK_S:
            return False
        return is_signed(self.config.secret, at.encode() + b"." + body, given_digest)

    def told(self, call_id: str, body: bytes) -> Outcome | None:
        """Of a call that could not begin, nothing else says how it ended."""
        message = unpacked(body)
        if inside(message, "type") != "call_initiation_failure" or call_id not in self.named(body):
            return None
        return failure_of(inside(message, "data"))


def _variables(attempt: Attempt) -> dict[str, str | int | float]:
    """Those of the person: text, numbers, yes and no; what is more is given as JSON."""
    found = unpacked(attempt.dynamic_variables)
    return {
        name: value if isinstance(value, str | int | float) else dumps(value)
        for name, value in (found if isinstance(found, dict) else {}).items()
        if value is not None
    }


def _is_unexplained(outcome: Outcome) -> bool:
    """Whether a webhook may still say that it was busy or not answered."""
    return outcome.status is TaskStatus.FAILED and not outcome.permanent
