"""Twilio, and SignalWire at another address: each call is one form with our TwiML in it.

Sources: twilio/twilio-oai spec/json/twilio_api_v2010.json @d50069b, twilio.com/docs/{voice/api/call-resource,errors,
usage/webhooks/webhooks-security}. A call has no field for an id of ours: a lost one is found by its numbers and time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlsplit

from batchcall_mcp.dialer.carriers.agents import PhoneAgent, read_agents
from batchcall_mcp.dialer.carriers.base import (
    DO_NOT_CALL,
    AccountAtFault,
    Attempt,
    CallDetails,
    CarrierAccount,
    CarrierUnavailable,
    KeyPress,
    Outcome,
)
from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, HttpCarrier, Progress, Seen
from batchcall_mcp.dialer.carriers.twiml import problem, twiml
from batchcall_mcp.dialer.carriers.vendor_api import LATER_S, Refused
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.model import Agent, AnsweredBy, CallerNumber, TaskStatus
from batchcall_mcp.money import Money
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.json_values import inside, money, moment, rows, text, unpacked, variables, whole

_ACCOUNT: Final = "/2010-04-01/Accounts/{account}"
_CALLS: Final = f"{_ACCOUNT}/Calls.json"
_CALL: Final = f"{_ACCOUNT}/Calls/{{call}}.json"
_REASONS: Final = f"{_ACCOUNT}/Calls/{{call}}/Notifications.json"
_MOST_PAGES: Final = 10
_SID: Final = re.compile(r"[A-Za-z0-9-]{8,100}", re.ASCII)
"""SignalWire's are UUIDs."""

_GOING: Final = frozenset({"initiated", "ringing", "in-progress"})
_ENDED: Final = frozenset({"completed", "busy", "no-answer", "failed", "canceled"})
_OVER_ALREADY: Final = 21220
_NEVER_THIS_NUMBER: Final[Mapping[int, str]] = {
    21211: "the number is not valid",
    21214: "the number cannot be reached",
    21215: "the account may not call this country; the console has geo permissions for that",
    21216: "Twilio blocks calls to this number",
    21217: "the number is not valid",
    21219: "a trial account calls only numbers that are verified in the console",
    13224: "the number is not valid, or Twilio does not call it",
}
_LATER: Final = frozenset({20429, 10004, 22005})
_AT_FAULT: Final[Mapping[int, str]] = {
    20003: "The account SID or the auth token is not accepted. Check BATCHCALL_CARRIER_KEY and BATCHCALL_CARRIER_SECRET",
    **dict.fromkeys(
        (10001, 10005, 20005, 90010), "The account cannot make calls. Check its status and its balance in the console"
    ),
    **dict.fromkeys(
        (21210, 21212, 21213),
        "The caller number is not accepted. Use one that the account has bought, or verified in the console",
    ),
    **dict.fromkeys((21205, 21209, 21218), "A setting of the calls is not accepted. Check BATCHCALL_PUBLIC_URL"),
}
"""By Twilio's code: what is wrong, and what to do."""
_DETECTION: Final[Mapping[str, str]] = {"hang_up": "Enable", "leave_message": "DetectMessageEnd"}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a call failed, as Twilio notes it."""

    code: int | None
    words: str | None


class TwilioCarrier(HttpCarrier):
    """Calls with the agents of BATCHCALL_AGENTS. Keys that people press come by `key_press` alone."""

    name = "twilio"
    title = "Twilio"
    default_url = "https://api.twilio.com"

    def __init__(self, config: CarrierConfig, **given: Any) -> None:
        """As `HttpCarrier`.

        Raises:
            ConfigurationError: the secret or the agents file is missing, or the file cannot be used.
        """
        if config.secret is None:
            raise _not_set("SECRET", "the auth token of the account (SignalWire: the API token)")
        if config.agents is None:
            raise ConfigurationError(
                "BATCHCALL_AGENTS is not set. Nothing was started. Set it to the path of a file with the agents; "
                "docs/carriers/twilio.md shows one."
            )
        super().__init__(config, **given)
        self._secret = config.secret
        self._agents = read_agents(config.agents)
        own = None if config.public_url is None else f"{config.public_url.rstrip('/')}/carriers/{self.name}"
        self._webhook = own
        for agent in self._agents.values():
            if agent.keys and own is None:
                raise ConfigurationError(
                    f"BATCHCALL_AGENTS: [{agent.agent_id}] keys: Twilio reports pressed keys only to an address, and "
                    "BATCHCALL_PUBLIC_URL is not set. Nothing was started. Set it for batchcall-mcp dialer, or remove "
                    "the keys."
                )

    @property
    def payer(self) -> str:
        """The account by the two ends of its SID; not Twilio's, if it is elsewhere."""
        key = self.config.key.get_secret_value()
        shown = f"{key[:2]}…{key[-4:]}" if len(key) > 20 else "of BATCHCALL_CARRIER_KEY"  # noqa: PLR2004 - less shows too much
        host = urlsplit(self.config.url or self.default_url).hostname or ""
        is_twilio = host == "twilio.com" or host.endswith(".twilio.com")
        return f"the Twilio account {shown}" if is_twilio else f"the account {shown} at {host}"

    def auth(self) -> Mapping[str, str]:
        """Basic, with the SID and the token."""
        secret = self.config.secret.get_secret_value() if self.config.secret else ""
        pair = f"{self.config.key.get_secret_value()}:{secret}"
        return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"}

    # The account.

    async def numbers(self) -> Sequence[CallerNumber] | None:
        """Those that the account has bought for voice, and verified ones, where there is a list of these."""
        bought = await self._rows("IncomingPhoneNumbers", "incoming_phone_numbers")
        if bought is None:
            return None
        verified = await self._rows("OutgoingCallerIds", "outgoing_caller_ids") or []
        usable = [row for row in bought if inside(row, "capabilities.voice|capabilities.Voice") is not False]
        named = {text(row.get("phone_number"), 20): text(row.get("friendly_name"), 100) for row in [*verified, *usable]}
        return [CallerNumber(from_number=number, name=name) for number, name in named.items() if number is not None]

    async def agents(self) -> Sequence[Agent] | None:
        """Those of the file."""
        return [
            Agent(
                agent_id=agent.agent_id,
                name=agent.name,
                variables=agent.placeholders if agent.kind in {"say", "play"} else None,
                begins=agent.content if agent.kind == "say" else None,
            )
            for agent in self._agents.values()
        ]

    def account_problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:
        """An agent of the file has to be named."""
        if attempt.agent_id not in self._agents:
            which = "An agent is needed" if attempt.agent_id is None else "The agent is not in the agents file"
            return f"{which}. get_backend lists them."
        return super().account_problem(account, attempt)

    def person_problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:  # noqa: ARG002 - the file says it
        """What the agent says has to have all its variables, and to fit into a call."""
        return problem(self._agents[attempt.agent_id or ""], _variables(attempt), self._webhook)

    async def _rows(self, resource: str, name: str) -> list[Mapping[str, Any]] | None:
        """A list of the account, page by page; None: it may not be read, or there is none."""
        query: dict[str, str] = {"PageSize": "1000"}
        found: list[Mapping[str, Any]] = []
        for _ in range(_MOST_PAGES):
            try:
                page = await self._read("GET", f"{_ACCOUNT}/{resource}.json", query=query)
            except Refused as no:
                if no.status == 401 or _code(no.body) in _AT_FAULT:  # noqa: PLR2004 - HTTP
                    raise
                return None
            found += rows(page.get(name))[0]
            query = dict(parse_qsl(urlsplit(text(page.get("next_page_uri")) or "").query))
            if not query:
                break
        return found

    # One call.

    def create_call(self, attempt: Attempt, account: CarrierAccount) -> HttpCall:  # noqa: ARG002 - see the numbers
        """The form."""
        agent = self._agents[attempt.agent_id or ""]
        form: dict[str, str | list[str]] = {
            "To": attempt.to_number,
            "From": attempt.from_number,
            "Twiml": twiml(agent, _variables(attempt), self._webhook),
            "Timeout": f"{self.ring_seconds:.0f}",
            "TimeLimit": f"{self.longest_call_seconds:.0f}",
        }
        if agent.machine in _DETECTION:
            form["MachineDetection"] = _DETECTION[agent.machine]
        if self._webhook is not None:
            form["StatusCallback"] = self._webhook
        return HttpCall("POST", _CALLS, urlencoded=form).at(account=self._account_sid)

    def created(self, body: object, attempt: Attempt) -> str | None:  # noqa: ARG002 - the body says it
        """Its id."""
        return _sid(body)

    def refused(self, no: Refused, attempt: Attempt) -> Outcome:
        """By Twilio's code; its HTTP status says less."""
        code = _code(no.body)
        if code in _LATER:
            why = f"Twilio takes no more calls for the moment ({code}).{no.said}"
            raise CarrierUnavailable(why, retry_after=max(no.retry_after or 0.0, LATER_S), whole_account=True)
        if code in _AT_FAULT:
            raise AccountAtFault(f"{_AT_FAULT[code]} (Twilio's {code}).{no.said}")
        if code in _NEVER_THIS_NUMBER:
            why = f"{_NEVER_THIS_NUMBER[code]} ({code}).{no.said}"
            return Outcome(TaskStatus.FAILED, why, permanent=True, backend_status=str(code))
        return super().refused(no, attempt)

    async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]:
        """Calls between the two numbers from `since` on; a queued one may have no date yet.

        Not by StartTime: a queued call has none.
        """
        query = {"To": attempt.to_number, "From": attempt.from_number, "PageSize": "50"}
        found = rows((await self._read("GET", _CALLS, query=query)).get("calls"))[0]
        return [
            sid
            for row in found
            if (sid := _sid(row)) is not None
            and (row.get("to"), row.get("from")) == (attempt.to_number, attempt.from_number)
            and ((created := _moment(row.get("date_created"))) is None or created >= since)
        ]

    async def look(self, call_id: str, attempt: Attempt) -> Seen:
        """How it is; one that a machine answers is ended here, where the agent wants that: TwiML cannot ask for it."""
        call = await self._read("GET", _CALL, call=call_id)
        word = _word(call)
        agent = self._agents.get(attempt.agent_id or "")
        if word not in _ENDED and not call.get("end_time"):
            if agent is not None and agent.machine == "hang_up" and _answered_by(call) == "machine":
                await self._end(call_id, "completed")
            return Progress.QUEUED if word == "queued" else Progress.GOING
        legs = await self._legs(call_id, agent) if word == "completed" and _answered_by(call) != "machine" else None
        if legs is not None and not all(_word(leg) in _ENDED for leg in legs):
            return Progress.GOING
        return outcome_of(call, legs, await self._reason(call_id) if word == "failed" else None)

    async def _legs(self, call_id: str, agent: PhoneAgent | None) -> Sequence[Mapping[str, Any]] | None:
        """The calls to a SIP agent; None: it has no such agent. Of an agent that the file has no more, they tell."""
        if agent is not None and agent.kind != "sip":
            return None
        page = await self._read("GET", _CALLS, query={"ParentCallSid": call_id, "PageSize": "50"})
        legs = [row for row in rows(page.get("calls"))[0] if row.get("parent_call_sid") in {None, call_id}]
        return None if agent is None and not legs else legs

    async def _reason(self, call_id: str) -> Reason | None:
        """Why it failed, if that can be read now."""
        try:
            page = await self._read("GET", _REASONS, query={"PageSize": "50"}, call=call_id)
        except (CarrierUnavailable, Refused):
            return None
        noted = rows(page.get("notifications"))[0]
        reasons = [Reason(whole(row.get("error_code")), _words(row.get("message_text"))) for row in noted]
        return next((one for one in reasons if one.code in _NEVER_THIS_NUMBER), reasons[0] if reasons else None)

    async def hang_up(self, call_id: str) -> None:
        """End it. `canceled` first: what only waits or rings must not look like a call that was answered."""
        if not await self._end(call_id, "canceled"):
            await self._end(call_id, "completed")

    async def _end(self, call_id: str, word: str) -> bool:
        """Whether it is over then."""
        try:
            call = await self._read("POST", _CALL, urlencoded={"Status": word}, call=call_id)
        except Refused as no:
            if _code(no.body) != _OVER_ALREADY:
                raise
            return False
        return _word(call) in _ENDED

    async def details(self, call_id: str) -> CallDetails:
        """Only how it ended: Twilio keeps no words, and our calls are not recorded."""
        try:
            word = _word(await self._read("GET", _CALL, call=call_id))
        except Refused as no:
            raise CarrierUnavailable(f"Twilio does not show this call (HTTP {no.status}).{no.said}") from no
        reason = await self._reason(call_id) if word == "failed" else None
        return CallDetails(ended_reason=reason.words if reason and reason.words else word)

    async def _read(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        urlencoded: Mapping[str, str | list[str]] | None = None,
        **ids: str,
    ) -> Mapping[str, Any]:
        call = HttpCall(method, path, query=query, urlencoded=urlencoded).at(account=self._account_sid, **ids)
        body = await self.read(call)
        if not isinstance(body, dict):
            raise CarrierUnavailable("Twilio answered with something else than its documents show")
        return body

    @property
    def _account_sid(self) -> str:
        return self.config.key.get_secret_value()

    # What Twilio reports by itself.

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:
        """By the address and all fields. Twilio's own libraries take the address with and without its port."""
        given = headers.get("x-twilio-signature", "").encode()
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        signed = "".join(f"{name}{value}" for name in sorted(fields) for value in sorted(set(fields[name])))
        token = self._secret.get_secret_value().encode()
        own = [hmac.new(token, (one + signed).encode(), hashlib.sha1).digest() for one in _with_and_without_port(url)]
        return any([hmac.compare_digest(base64.b64encode(one), given) for one in own])

    def named(self, body: bytes) -> Sequence[str]:
        """The one call that it is about."""
        sid = _field(body, "CallSid")
        return [] if sid is None else [sid]

    def key_press(self, body: bytes) -> KeyPress | None:
        """Of an outgoing call, the person is at `To`."""
        call_id, keys = _field(body, "CallSid"), _field(body, "Digits")
        if call_id is None or keys is None:
            return None
        numbers = {"from_number": _field(body, "From") or "", "to_number": _field(body, "To") or ""}
        return KeyPress(call_id=call_id, keys=keys, **numbers)

    def meaning(self, agent_id: str | None, keys: str) -> str | None:
        """The word of the agents file; see `HearsKeys`."""
        agent = self._agents.get(agent_id or "")
        if agent is not None:
            return agent.keys.get(keys)
        anybody = any(one.keys.get(keys) == DO_NOT_CALL for one in self._agents.values())
        return DO_NOT_CALL if anybody else None

    def reply(self, agent_id: str | None, keys: str) -> str:  # noqa: ARG002 - nothing more is said
        """The call ends."""
        return "<Response><Hangup /></Response>"


def outcome_of(
    call: Mapping[str, Any], legs: Sequence[Mapping[str, Any]] | None = None, reason: Reason | None = None
) -> Outcome:
    """What a call that is over came to. `legs`: the calls to its SIP agent; None: it has none."""
    word, seconds, answered_by = _word(call), whole(call.get("duration")), _answered_by(call)
    connected: dict[str, Any] = {
        "duration_seconds": None if seconds is None else float(seconds),
        "answered_by": answered_by,
        "cost": _cost([call, *(legs or ())]),
        "backend_status": text(call.get("answered_by"), 50) if answered_by == "machine" else word,
    }
    if word == "completed" and answered_by == "machine":
        return Outcome(TaskStatus.VOICEMAIL, **connected)
    if word == "completed" and legs is not None and not any(_word(leg) == "completed" for leg in legs):
        words = ", ".join(_word(leg) for leg in legs) or "it was not called"
        # The phone was answered: nobody is rung again for what failed at our end.
        return Outcome(TaskStatus.FAILED, f"answered, then the agent was not there ({words})", permanent=True, **connected)
    if word == "completed":
        return Outcome(TaskStatus.COMPLETED, **connected)
    if word in {"busy", "no-answer"}:
        status = TaskStatus.BUSY if word == "busy" else TaskStatus.NO_ANSWER
        return Outcome(status, backend_status=word, cost=connected["cost"])
    if word == "canceled":
        return Outcome(TaskStatus.FAILED, "the call was cancelled at Twilio", permanent=True, backend_status=word)
    if word == "failed":
        return _failed(reason, connected["cost"])
    status = TaskStatus.COMPLETED if seconds else TaskStatus.FAILED
    return Outcome(status, f"Twilio says: {word}", permanent=True, **connected)


def _failed(reason: Reason | None, cost: Money | None) -> Outcome:
    code = reason.code if reason is not None else None
    known = _NEVER_THIS_NUMBER.get(code or 0)
    words = known or (reason.words if reason is not None else None) or "Twilio could not connect the call"
    return Outcome(
        TaskStatus.FAILED,
        words if code is None else f"{words} ({code})",
        permanent=known is not None,
        backend_status="failed" if code is None else f"failed {code}",
        cost=cost,
    )


def _not_set(setting: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"BATCHCALL_CARRIER_{setting} is not set. Nothing was started. Set it to {what}.")


def _variables(attempt: Attempt) -> dict[str, str]:
    return variables(unpacked(attempt.dynamic_variables))


def _word(call: Mapping[str, Any]) -> str:
    return (text(call.get("status"), 50) or "unknown").lower()


def _answered_by(call: Mapping[str, Any]) -> AnsweredBy | None:
    """Only where somebody looked: without that nobody knows."""
    who = text(call.get("answered_by"), 50) or ""
    if who.startswith("machine") or who == "fax":
        return "machine"
    return "human" if who == "human" else None


def _cost(legs: Sequence[Mapping[str, Any]]) -> Money | None:
    """Of all of them; Twilio writes it as a negative number, some minutes after the end."""
    written = [(text(one.get("price"), 20) or "", text(one.get("price_unit"), 3) or "") for one in legs]
    found = [money({"amount": price.removeprefix("-"), "currency": unit.upper()}) for price, unit in written]
    known = [one for one in found if one is not None]
    if len(known) < len(legs) or len({one.currency for one in known}) != 1:
        return None
    return Money(sum((one.amount for one in known), start=known[0].amount * 0), known[0].currency)


def _moment(value: Any) -> datetime | None:
    """As RFC 2822 writes it."""
    try:
        return parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return moment(value)


def _words(message: Any) -> str | None:
    """Of a notification: `Msg` of a query, else all of it."""
    said = text(message)
    return None if said is None else text(" ".join(parse_qs(said).get("Msg", [])) or said)


def _code(body: Any) -> int | None:
    return whole(inside(body, "code|errors.0.code"))


def _sid(body: Any) -> str | None:
    sid = body.get("sid") if isinstance(body, dict) else None
    return sid if isinstance(sid, str) and _SID.fullmatch(sid) else None


def _field(body: bytes, name: str) -> str | None:
    """Of a form; None: it is not there, or empty."""
    return parse_qs(body.decode("utf-8", "replace")).get(name, [None])[0]


def _with_and_without_port(url: str) -> list[str]:
    parts = urlsplit(url)
    host = parts.netloc.removesuffix(f":{parts.port}") if parts.port else parts.netloc
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return [url, parts._replace(netloc=host).geturl(), parts._replace(netloc=f"{host}:{port}").geturl()]
