"""Retell's single calls as its OpenAPI document (tryAGI/RetellAI) and its newest SDK (retell-sdk 6.2.13) describe them.

Unknown members are refused, and so is a variable that is not a string. An idempotency key gives the same call again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.carriers.phones import E164, Phone, Phones, Refused

KEY = "key_0123456789abcdef0123456789ab"
NUMBER = "+14155550100"
UNBOUND_NUMBER = "+14155550101"
AGENT = "agent_1ffdb9717444d0e77346838911"
OTHER_AGENT = "agent_2ffdb9717444d0e77346838911"
CREATE = "/v2/create-phone-call"
Check: TypeAlias = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _strings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _between(low: int, high: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


_AGENT: Mapping[str, Check] = {
    "ring_duration_ms": _between(5_000, 300_000),
    "max_call_duration_ms": _between(60_000, 7_200_000),
}
_CREATE: Mapping[str, Check] = {
    "from_number": _text,
    "to_number": _text,
    "override_agent_id": _text,
    "agent_override": lambda value: set(value) == {"agent"} and _fits(value["agent"], _AGENT),
    "metadata": lambda value: isinstance(value, dict),
    "retell_llm_dynamic_variables": _strings,
    "custom_sip_headers": _strings,
    "idempotency_key": _text,
    "honor_internal_dnc": lambda value: isinstance(value, bool),
}
_ENDS = {
    "answered": ("ended", "user_hangup"),
    "short": ("ended", "user_hangup"),
    "no_answer": ("not_connected", "dial_no_answer"),
    "busy": ("not_connected", "dial_busy"),
    "voicemail": ("ended", "voicemail_reached"),
    "failed": ("not_connected", "dial_failed"),
}
_NUMBERS: list[dict[str, Any]] = [
    {
        "phone_number": NUMBER,
        "phone_number_type": "retell-twilio",
        "nickname": "Main line",
        "outbound_agents": [{"agent_id": AGENT, "weight": 1}],
        "last_modification_timestamp": 1703413636133,
    },
    {"phone_number": UNBOUND_NUMBER, "phone_number_type": "custom", "last_modification_timestamp": 1703413636133},
]


class Retell(Phones):
    """Everybody of `NUMBER` speaks with `AGENT`, if the call says nothing else."""

    def __init__(self) -> None:
        routes = [
            Route(CREATE, self._create, methods=["POST"]),
            Route("/v2/get-call/{id}", self._get, methods=["GET"]),
            Route("/v2/stop-call/{id}", self._stop, methods=["POST"]),
            Route("/v3/list-calls", self._list, methods=["POST"]),
            Route("/v2/list-calls", self._old_list, methods=["POST"]),
            Route("/v2/list-phone-numbers", self._numbers, methods=["GET"]),
            Route("/v2/list-agents", self._agents, methods=["POST"]),
            Route("/list-agents", self._old_agents, methods=["GET"]),
        ]
        super().__init__(routes, KEY, CREATE)
        self.keys: dict[str, tuple[datetime, dict[str, Any], str]] = {}
        self.analysis_after = 0.0
        """Seconds after the end at which the analysis of a call is there."""

    def error(self, _status: int, message: str) -> Any:
        """As its OpenAPI document has it."""
        return {"status": "error", "message": message}

    async def _create(self, request: Request) -> Response:
        self.check_key(request)
        body = await self.json(request)
        self.take_fault()
        for name in ("from_number", "to_number"):
            if name not in body:
                raise self._bad(f"{name} is required")
        if not _fits(body, _CREATE):
            raise self._bad("Invalid request format, please check API reference.")
        number = next((one for one in _NUMBERS if one["phone_number"] == body["from_number"]), None)
        if number is None or body.get("override_agent_id", AGENT) not in {AGENT, OTHER_AGENT}:
            raise self._unknown()
        if not E164.fullmatch(body["to_number"]):
            raise self._bad("to_number is not in E.164 format")
        if "override_agent_id" not in body and not number.get("outbound_agents"):
            raise self._bad("No outbound agent id set up for phone number")
        same = self._asked_before(body)
        phone = self.phones[same] if same else self.place(f"call_{len(self.phones):027x}", body, body["to_number"])
        if "idempotency_key" in body and not same:
            self.keys[body["idempotency_key"]] = (self.now, body, phone.id)
        return JSONResponse(self._row(phone), 201)

    def _asked_before(self, body: dict[str, Any]) -> str | None:
        asked, first, call_id = self.keys.get(body.get("idempotency_key", ""), (None, None, None))
        if asked is None or self.now - asked > timedelta(hours=1):
            return None
        if first != body:
            raise self._bad("The idempotency key was used with another request")
        return call_id

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._row(self._phone(request)))

    async def _stop(self, request: Request) -> Response:
        phone = self._phone(request)
        if phone.over <= self.now:
            raise self._bad("The call is over")
        phone.stopped, phone.word = self.now, "manual_stopped"
        return Response(status_code=204)

    async def _list(self, request: Request) -> Response:
        self.check_key(request)
        body = await self.json(request)
        if not set(body) <= {"filter_criteria", "sort_order", "limit", "skip", "pagination_key", "include_total"}:
            raise self._bad("Invalid request format, please check API reference.")
        wanted = {}
        for one in body["filter_criteria"]["metadata"]:
            if set(one) != {"key", "type", "op", "value"} or (one["type"], one["op"]) != ("string", "eq"):
                raise self._bad("filter_criteria.metadata is not valid")
            wanted[one["key"]] = one["value"]
        rows = [
            self._row(one) for one in self.phones.values() if wanted.items() <= one.body.get("metadata", {}).items()
        ]
        return JSONResponse({"items": rows[: body.get("limit", 50)], "has_more": False})

    async def _old_list(self, request: Request) -> Response:
        """Filters are arrays, a member of the metadata is named with a dot, and the answer is a bare array."""
        self.check_key(request)
        body = await self.json(request)
        wanted = body["filter_criteria"]["metadata.attempt_id"]
        if set(body["filter_criteria"]) != {"metadata.attempt_id"} or not isinstance(wanted, list):
            raise self._bad("filter_criteria is not valid")
        found = [one for one in self.phones.values() if one.body.get("metadata", {}).get("attempt_id") in wanted]
        return JSONResponse([self._row(one) for one in found])

    async def _numbers(self, request: Request) -> Response:
        self.check_key(request)
        return JSONResponse({"items": _NUMBERS, "has_more": False})

    async def _agents(self, request: Request) -> Response:
        self.check_key(request)
        common = {"channel": "voice", "is_suspended": False, "tags": {}, "user_modified_timestamp": 1703413636133}
        rows = [{"agent_id": AGENT, "agent_name": "Reminder"}, {"agent_id": OTHER_AGENT, "agent_name": "Sales"}]
        return JSONResponse({"items": [{**one, **common} for one in rows], "has_more": False})

    async def _old_agents(self, request: Request) -> Response:
        self.check_key(request)
        rows = [{"agent_id": AGENT, "agent_name": "Reminder", "version": version} for version in (0, 1)]
        return JSONResponse([*rows, {"agent_id": OTHER_AGENT, "agent_name": "Sales", "version": 0}])

    def _phone(self, request: Request) -> Phone:
        self.check_key(request)
        found = self.phones.get(request.path_params["id"])
        if found is None:
            raise self._unknown()
        return found

    def _unknown(self) -> Refused:
        return Refused(422, self.error(422, "Cannot find requested asset under given api key."))

    def _bad(self, message: str) -> Refused:
        return Refused(400, self.error(400, message))

    def _row(self, phone: Phone) -> dict[str, Any]:
        row: dict[str, Any] = {
            "call_id": phone.id,
            "call_type": "phone_call",
            "agent_id": phone.body.get("override_agent_id", AGENT),
            "agent_version": 1,
            "call_status": "registered" if self.now < phone.answered else "ongoing",
            "direction": "outbound",
            "from_number": phone.body["from_number"],
            "to_number": phone.number,
            "data_storage_setting": "everything",
            "metadata": phone.body.get("metadata", {}),
        }
        if self.now >= phone.answered:
            row["start_timestamp"] = _ms(phone.answered)
        if self.now < phone.over:
            return row
        row["call_status"], row["disconnection_reason"] = _ENDS[phone.end]
        if phone.word is not None:
            row["disconnection_reason"] = phone.word
        row |= {"end_timestamp": _ms(phone.over), "duration_ms": int(phone.talked * 1000)}
        if not phone.talked:
            return row | phone.more
        if self.now >= phone.over + timedelta(seconds=self.analysis_after):
            row["call_analysis"] = {"call_summary": "They were reminded.", "in_voicemail": phone.end == "voicemail"}
        spoken = [
            {"role": "agent", "content": "Hello, this is a reminder.", "words": [{"word": "Hello", "start": 0.5}]},
            {"role": "user", "content": "Thank you.", "words": [{"word": "Thank", "start": 2.25}]},
        ]
        row |= {
            "call_cost": {"combined_cost": 12.34, "product_costs": [], "total_duration_seconds": phone.talked},
            "transcript": "Agent: Hello, this is a reminder.\nUser: Thank you.\n",
            "transcript_object": spoken,
            "recording_url": "https://dxc03zgurdly9.cloudfront.net/recording.wav",
        }
        return row | phone.more


def _fits(body: Any, known: Mapping[str, Check]) -> bool:
    return isinstance(body, dict) and all(name in known and known[name](value) for name, value in body.items())


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
