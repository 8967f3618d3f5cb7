"""Twilio, and SignalWire at another address: each call is one form with our TwiML in it.

Sources: twilio/twilio-oai spec/json/twilio_api_v2010.json @d50069b, twilio.com/docs/{voice/api/call-resource,errors,
usage/webhooks/webhooks-security}. A call has no field for an id of ours: a lost one is found by its numbers and time.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from batchcall_mcp.dialer.carriers.agents import PhoneAgent, read_agents
from batchcall_mcp.dialer.carriers.base import (
    DO_NOT_CALL,
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
from batchcall_mcp.dialer.carriers.vendors.twilio.call_outcomes import (
    ENDED,
    Reason,
    answered_by_of,
    code_of,
    outcome_of,
    reason_of,
    refusal,
    too_many_calls,
    word_of,
)
from batchcall_mcp.dialer.carriers.vendors.twilio.webhooks import call_id_of, is_signed, key_press_of
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.model import Agent, CallerNumber
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.json_values import inside, moment, rows, text, unpacked, variables

_ACCOUNT: Final = "/2010-04-01/Accounts/{account}"
_CALLS: Final = f"{_ACCOUNT}/Calls.json"
_CALL: Final = f"{_ACCOUNT}/Calls/{{call}}.json"
_REASONS: Final = f"{_ACCOUNT}/Calls/{{call}}/Notifications.json"
_MOST_PAGES: Final = 10
_LONG_SID: Final = 20
"""Characters: of a shorter one six would show too much."""
_NO_LIST: Final = frozenset({403, 404, 405, 501})
"""HTTP statuses of a list that this key may not read (test credentials), or that is not there (SignalWire)."""
_SID: Final = re.compile(r"[A-Za-z0-9-]{8,100}", re.ASCII)
"""SignalWire's are UUIDs."""

_OVER_ALREADY: Final = 21220
_DETECTION: Final[Mapping[str, str]] = {"hang_up": "Enable", "leave_message": "DetectMessageEnd"}

_SIGNALWIRE: Final = ".signalwire.com"
"""It signs with a key of the project (developer.signalwire.com/guides/webhook-security)."""


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
            raise _not_set("BATCHCALL_CARRIER_SECRET", "the auth token of the account (SignalWire: the API token)")
        if config.agents is None:
            raise _not_set("BATCHCALL_AGENTS", "the path of a file with agents; docs/carriers/twilio.md shows one")
        self._account_sid = config.key.get_secret_value()
        self._token = config.secret.get_secret_value()
        self._webhook = None if config.public_url is None else f"{config.public_url.rstrip('/')}/carriers/{self.name}"
        self._agents = read_agents(config.agents)
        with_keys = next((agent.agent_id for agent in self._agents.values() if agent.keys), None)
        if with_keys is not None and self._webhook is None:
            raise ConfigurationError(
                f"BATCHCALL_AGENTS: [{with_keys}] keys: Twilio reports pressed keys only to an address, and "
                "BATCHCALL_PUBLIC_URL is not set. Nothing was started. Set it and run batchcall-mcp dialer, or remove "
                "the keys."
            )
        self._host = urlsplit(config.url or self.default_url).hostname or ""
        if with_keys is not None and self._host.endswith(_SIGNALWIRE):
            raise ConfigurationError(
                f"BATCHCALL_AGENTS: [{with_keys}] keys: SignalWire signs what it reports with another key than the API "
                "token, so no pressed key could be believed. Nothing was started. Remove the keys."
            )
        super().__init__(config, **given)

    @property
    def payer(self) -> str:
        """The account by the two ends of its SID, and where it is, if that is not Twilio's own address."""
        sid = self._account_sid
        shown = f"{sid[:2]}…{sid[-4:]}" if len(sid) >= _LONG_SID else "of BATCHCALL_CARRIER_KEY"
        whose = "SignalWire" if self._host.endswith(_SIGNALWIRE) else self.title
        is_elsewhere = whose == self.title and not self._host.endswith(".twilio.com")
        return f"the {whose} account {shown}" + (f" at {self._host}" if is_elsewhere else "")

    def auth(self) -> Mapping[str, str]:
        """Basic, with the SID and the token."""
        pair = base64.b64encode(f"{self._account_sid}:{self._token}".encode())
        return {"authorization": f"Basic {pair.decode('ascii')}"}

    # The account.

    async def numbers(self) -> Sequence[CallerNumber] | None:
        """Those that the account has bought for voice, and verified ones, where there is a list of these."""
        bought = await self._rows("IncomingPhoneNumbers", "incoming_phone_numbers")
        if bought is None:
            return None
        verified = await self._rows("OutgoingCallerIds", "outgoing_caller_ids") or []
        usable = [row for row in bought if inside(row, "capabilities.voice|capabilities.Voice") is not False]
        named = {text(row.get("phone_number"), 20): text(row.get("friendly_name"), 100) for row in [*usable, *verified]}
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
                if no.status not in _NO_LIST:
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
        form = {
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
        """By Twilio's code, which says more than the HTTP status."""
        later_s = max(no.retry_after or 0.0, LATER_S)
        return refusal(no.body, no.said, later_s) or super().refused(no, attempt)

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
        word = word_of(call)
        agent = self._agents.get(attempt.agent_id or "")
        if word not in ENDED and not call.get("end_time"):
            if agent is not None and agent.machine == "hang_up" and answered_by_of(call) == "machine":
                await self._end(call_id, "completed")
            return Progress.QUEUED if word == "queued" else Progress.GOING
        legs = await self._legs(call_id, agent) if word == "completed" and answered_by_of(call) != "machine" else None
        if legs is not None and not all(word_of(leg) in ENDED for leg in legs):
            return Progress.GOING
        reason = await self._reason(call_id) if word == "failed" else None
        too_many = too_many_calls(reason.code, "", LATER_S) if reason is not None else None
        return too_many or outcome_of(call, legs, reason)

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
        except CarrierUnavailable:
            return None
        return reason_of(page.get("notifications"))

    async def hang_up(self, call_id: str) -> None:
        """End it. `canceled` first: what only waits or rings must not look like a call that was answered."""
        if not await self._end(call_id, "canceled"):
            await self._end(call_id, "completed")

    async def _end(self, call_id: str, word: str) -> bool:
        """Whether it is over then."""
        try:
            call = await self._read("POST", _CALL, urlencoded={"Status": word}, call=call_id)
        except Refused as no:
            if code_of(no.body) != _OVER_ALREADY:
                raise
            return False
        return word_of(call) in ENDED

    async def details(self, call_id: str) -> CallDetails:
        """Only how it ended: Twilio keeps no words, and our calls are not recorded."""
        word = word_of(await self._read("GET", _CALL, call=call_id))
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

    # What Twilio reports by itself.

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:
        """By X-Twilio-Signature."""
        return is_signed(headers.get("x-twilio-signature", ""), self._token, body, url)

    def named(self, body: bytes) -> Sequence[str]:
        """The one call that it is about."""
        call_id = call_id_of(body)
        return [] if call_id is None else [call_id]

    def key_press(self, body: bytes) -> KeyPress | None:
        """See `HearsKeys`."""
        return key_press_of(body)

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


def _not_set(name: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is not set. Nothing was started. Set it to {what}.")


def _variables(attempt: Attempt) -> dict[str, str]:
    return variables(unpacked(attempt.dynamic_variables))


def _moment(value: Any) -> datetime | None:
    """As RFC 2822 writes it, or ISO 8601."""
    try:
        found = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return moment(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _sid(body: Any) -> str | None:
    sid = body.get("sid") if isinstance(body, dict) else None
    return sid if isinstance(sid, str) and _SID.fullmatch(sid) else None
