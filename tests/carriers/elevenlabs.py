"""ElevenLabs as its own OpenAPI document describes single calls (src/libs/ElevenLabs of tryAGI/ElevenLabs).

Where the document leaves something open, this fake takes the reading that is worse for a careless client: a line that
is busy or does not answer says nothing about it, unless the webhook is there to.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.carriers.far_end import Answer, FarEnd, Refused

KEY = "sk_" + "0123456789abcdef" * 3
SECRET = "wsec_" + "fedcba9876543210" * 4
TWILIO, SIP, EXOTEL = "+14155550100", "+14155550101", "+14155550102"
AGENT, OTHER_AGENT = "agent_3701k3reminder", "agent_3701k3sales"
NUMBERS = {
    TWILIO: ("phnum_5401k2twilio", "twilio"),
    SIP: ("phnum_5401k2sip", "sip_trunk"),
    EXOTEL: ("phnum_5401k2exotel", "exotel"),
}
_PAGE = "/v1/convai"
_PATHS = {"twilio": "twilio", "sip-trunk": "sip_trunk", "exotel": "exotel"}
_WORDS = {"busy": "busy", "no_answer": "no-answer", "failed": "unknown"}
_TWILIO = {"busy": "busy", "no_answer": "no-answer"}
_SIP = {"busy": 486, "no_answer": 480, "failed": 503}


class _Strict(BaseModel):
    """Nothing that the document does not name."""

    model_config = ConfigDict(extra="forbid")


class TelephonyCallConfig(_Strict):
    """TelephonyCallConfig."""

    ringing_timeout_secs: Annotated[StrictInt, Field(ge=1, le=999)] = 60
    twilio_call_recording_enabled: StrictBool = False


class ClientData(_Strict):
    """ConversationInitiationClientDataRequest-Input."""

    conversation_config_override: dict[str, Any] = {}
    custom_llm_extra_body: dict[str, Any] = {}
    user_id: StrictStr | None = None
    source_info: dict[str, Any] = {}
    branch_id: StrictStr | None = None
    environment: StrictStr | None = None
    starting_workflow_node_id: StrictStr | None = None
    procedure_ids: list[StrictStr] | None = None
    dynamic_variables: dict[str, StrictStr | StrictBool | StrictInt | StrictFloat] = {}


class Outbound(_Strict):
    """Body_Handle_an_outbound_call_via_SIP_trunk, and of Exotel."""

    agent_id: StrictStr
    agent_phone_number_id: StrictStr
    to_number: Annotated[StrictStr, Field(pattern=r"^\+[1-9]\d{6,14}$")]
    conversation_initiation_client_data: ClientData | None = None
    telephony_call_config: TelephonyCallConfig = TelephonyCallConfig()


class OutboundByTwilio(Outbound):
    """Body_Handle_an_outbound_call_via_Twilio."""

    call_recording_enabled: StrictBool | None = None


def _no(status: int, name: str, message: str) -> Refused:
    return Refused(status, {"detail": {"status": name, "message": message}})


@dataclass
class Conversation:
    """A call; `seen` counts the looks at it."""

    id: str
    asked: Outbound
    provider: str
    answer: Answer
    started: int
    seen: int = 0


class ElevenLabs(FarEnd):
    """One workspace.

    Attributes:
        refusal: what the next creates say in a success that is none; nobody is rung.
        names_no_conversation: a create rings, and its answer has no id.
        stuck: conversations that were not answered stay `initiated` for ever.
        analysing: conversations that were answered stay `processing` for ever.
        filters_nothing: its list is of everybody.
        lag: looks at the list before a conversation is in it.
    """

    key = KEY

    def __init__(self) -> None:
        self.refusal: str | None = None
        self.names_no_conversation = False
        self.stuck = self.analysing = self.filters_nothing = False
        self.lag = 0
        self.lists_agents = self.lists_numbers = True
        self.conversations: dict[str, Conversation] = {}
        super().__init__(
            [
                Route(_PAGE + "/{path}/outbound-call", self._create, methods=["POST"]),
                Route(f"{_PAGE}/conversations", self._list, methods=["GET"]),
                Route(_PAGE + "/conversations/{id}", self._one, methods=["GET"]),
                Route(f"{_PAGE}/phone-numbers", self._numbers, methods=["GET"]),
                Route(f"{_PAGE}/agents", self._agents, methods=["GET"]),
            ],
            lambda one: one.path.endswith("/outbound-call"),
        )

    async def _create(self, request: Request) -> Response:
        self._authenticate(request)
        provider = _PATHS.get(request.path_params["path"])
        if provider is None:
            raise Refused(404, {"detail": "Not Found"})
        model = OutboundByTwilio if provider == "twilio" else Outbound
        try:
            asked = model.model_validate(await request.json(), strict=True)
        except ValidationError as error:
            raise Refused(422, {"detail": json.loads(error.json(include_url=False, include_context=False))}) from None
        if asked.agent_id not in {AGENT, OTHER_AGENT}:
            raise _no(404, "agent_not_found", f"Agent {asked.agent_id} does not exist.")
        if (asked.agent_phone_number_id, provider) not in NUMBERS.values():
            raise _no(404, "phone_number_not_found", "Document with id of this phone number not found.")
        data = asked.conversation_initiation_client_data
        reserved = [name for name in (data.dynamic_variables if data else {}) if name.startswith("system__")]
        if reserved:
            raise Refused(422, {"detail": [{"loc": ["body", *reserved], "msg": "reserved", "type": "value_error"}]})
        self.fault(lambda: self._ring(asked, provider))
        sid = "sip_call_id" if provider == "sip_trunk" else "callSid"
        if self.refusal is not None:
            body = {"success": False, "message": self.refusal, "conversation_id": None, sid: None}
            return JSONResponse(body)
        conversation = self._ring(asked, provider)
        named = None if self.names_no_conversation else conversation.id
        return JSONResponse({"success": True, "message": "Success", "conversation_id": named, sid: "CA1"})

    def _ring(self, asked: Outbound, provider: str) -> Conversation:
        answer = self.ring(asked.to_number)
        one = f"conv_{uuid.uuid4().hex[:24]}"
        self.conversations[one] = Conversation(one, asked, provider, answer, int(self.clock().timestamp()))
        return self.conversations[one]

    async def _list(self, request: Request) -> Response:
        self._authenticate(request)
        query = request.query_params
        known = {"cursor", "agent_id", "user_id", "page_size", "call_start_after_unix", "call_start_before_unix"}
        size = query.get("page_size", "30")
        if set(query) - known or not size.isdecimal() or not 1 <= int(size) <= 100:
            raise Refused(422, {"detail": [{"loc": ["query"], "msg": "invalid", "type": "value_error"}]})
        if self.lag:
            self.lag -= 1
            return JSONResponse({"conversations": [], "next_cursor": None, "has_more": False})
        after = int(query.get("call_start_after_unix", 0))
        found = [
            _row(one, self._read(one))
            for one in reversed(self.conversations.values())
            if (self.filters_nothing or query.get("user_id") in {None, _user_id(one)}) and one.started >= after
        ]
        page = found[: int(size)]
        return JSONResponse({"conversations": page, "next_cursor": None, "has_more": len(found) > len(page)})

    async def _one(self, request: Request) -> Response:
        self._authenticate(request)
        found = self.conversations.get(request.path_params["id"])
        if found is None:
            raise _no(404, "document_not_found", "Conversation not found.")
        found.seen += 1
        return JSONResponse(self._read(found))

    def _read(self, one: Conversation) -> dict[str, Any]:
        """GetConversationResponseModel, with all that it requires."""
        spoken = one.answer in {"answered", "short", "voicemail"}
        status = "initiated" if one.seen < 2 or (self.stuck and not spoken) else "in-progress"
        if one.seen >= self.looks and status == "in-progress":
            status = "done" if spoken else "failed"
        over = status == "done"
        if over and self.analysing:
            status = "processing"
        asked = one.asked
        data = asked.conversation_initiation_client_data or ClientData()
        return {
            "agent_id": asked.agent_id,
            "agent_name": "Reminder",
            "status": status,
            "user_id": data.user_id,
            "conversation_id": one.id,
            "has_audio": over,
            "has_user_audio": over,
            "has_response_audio": over,
            "has_auxiliary_audio": False,
            "conversation_initiation_client_data": data.model_dump(),
            "metadata": {
                "start_time_unix_secs": one.started,
                "accepted_time_unix_secs": one.started + 3 if spoken and one.seen >= 2 else None,
                "call_duration_secs": ({"answered": 42, "short": 3, "voicemail": 9}[one.answer] if over else 0),
                "cost": 310 if over else None,
                "cost_fiat": 0.0625 if over else None,
                "termination_reason": "Client ended call" if over else "",
                "error": None,
                "phone_call": {
                    "type": "sip_trunking" if one.provider == "sip_trunk" else one.provider,
                    "direction": "outbound",
                    "phone_number_id": asked.agent_phone_number_id,
                    "agent_number": TWILIO,
                    "external_number": asked.to_number,
                    "stream_sid": "MZ1",
                    "call_sid": "CA1",
                },
                "features_usage": {
                    "voicemail_detection": {"enabled": True, "used": over and one.answer == "voicemail"}
                },
            },
            "analysis": {"call_successful": "success", "transcript_summary": "She confirmed.", "scoped": []}
            if over
            else None,
            "transcript": [
                {"role": "agent", "message": "Hi, this is the clinic.", "time_in_call_secs": 1},
                {"role": "user", "message": "Yes, I will be there.", "time_in_call_secs": 4},
                {"role": "agent", "message": None, "time_in_call_secs": 6},
            ]
            if over
            else [],
        }

    async def _numbers(self, request: Request) -> Response:
        """A bare array; what is deprecated is not there."""
        self._authenticate(request)
        if not self.lists_numbers:
            raise Refused(404, {"detail": "Not Found"})
        return JSONResponse(
            [
                {"phone_number": number, "label": provider, "phone_number_id": one, "provider": provider}
                for number, (one, provider) in NUMBERS.items()
            ]
        )

    async def _agents(self, request: Request) -> Response:
        """Two pages, however many were asked for."""
        self._authenticate(request)
        if not self.lists_agents:
            raise Refused(404, {"detail": "Not Found"})
        is_second = request.query_params.get("cursor") == "second"
        agent, name = (OTHER_AGENT, "Sales") if is_second else (AGENT, "Reminder")
        row = {"agent_id": agent, "name": name, "tags": [], "created_at_unix_secs": 1, "access_info": {}}
        return JSONResponse(
            {"agents": [row], "next_cursor": None if is_second else "second", "has_more": not is_second}
        )

    def _authenticate(self, request: Request) -> None:
        if request.headers.get("xi-api-key") != self.key:
            raise _no(401, "invalid_api_key", "Invalid API key")

    def initiation_failure(self, conversation_id: str) -> tuple[dict[str, str], bytes]:
        """The webhook about a call that was not answered: its headers and its body."""
        one = self.conversations[conversation_id]
        sip = {"sip_status_code": _SIP.get(one.answer, 500), "error_reason": one.answer}
        twilio = {"CallSid": "CA1", "CallStatus": _TWILIO.get(one.answer, "failed"), "To": one.asked.to_number}
        is_sip = one.provider == "sip_trunk"
        data = {
            "agent_id": one.asked.agent_id,
            "conversation_id": one.id,
            "failure_reason": _WORDS.get(one.answer, "unknown"),
            "metadata": {"type": "sip", "body": sip} if is_sip else {"type": "twilio", "body": twilio},
        }
        at = int(self.clock().timestamp())
        body = json.dumps({"type": "call_initiation_failure", "event_timestamp": at, "data": data}).encode()
        return signed(body, at), body


def signed(body: bytes, at: int, secret: str = SECRET) -> dict[str, str]:
    """The header of a webhook; `at` in epoch seconds."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"elevenlabs-signature": f"t={at},v0={digest}"}


def _user_id(one: Conversation) -> str | None:
    data = one.asked.conversation_initiation_client_data
    return data.user_id if data else None


def _row(one: Conversation, read: dict[str, Any]) -> dict[str, Any]:
    """ConversationSummaryResponseModel: without a number, and without a user."""
    return {
        "agent_id": one.asked.agent_id,
        "conversation_id": one.id,
        "start_time_unix_secs": one.started,
        "call_duration_secs": read["metadata"]["call_duration_secs"],
        "message_count": len(read["transcript"]),
        "status": read["status"],
        "call_successful": "unknown",
        "direction": "outbound",
    }
