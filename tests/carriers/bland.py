"""Bland as its documents describe single calls: docs.bland.ai (api-v1) and src/libs/BlandAI of tryAGI/BlandAI.

Where the documents leave something open, this fake takes the reading that is worse for a careless client: `completed`
is ahead of every other member, a number without `+` is taken for one in the US, and whoever stops all calls, asks for
redials or for a time, or names no caller is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.carriers.far_end import Answer, FarEnd, Refused

KEY = "org_" + "0123456789abcdef" * 4
SECRET = "whsec_" + "fedcba9876543210" * 4
NUMBER, OTHER_NUMBER = "+14155550100", "+14155550111"
PATHWAY, OTHER_PATHWAY = "a0f0d4ed-f5f5-4f16-b3f9-22166594d7a7", "b1f0d4ed-f5f5-4f16-b3f9-22166594d7a8"
PERSONA = "c2f0d4ed-f5f5-4f16-b3f9-22166594d7a9"
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("phone_number", "task", "pathway_id", "persona_id", "from", "voice", "first_sentence"), str),
    **dict.fromkeys(("model", "language", "timezone", "transfer_phone_number", "webhook", "summary_prompt"), str),
    **dict.fromkeys(("wait_for_greeting", "noise_cancellation", "block_interruptions", "record"), bool),
    **dict.fromkeys(("answered_by_enabled", "ignore_button_press"), bool),
    **dict.fromkeys(("pathway_version", "interruption_threshold", "max_duration"), int),
    **dict.fromkeys(("request_data", "metadata", "voicemail", "transfer_list"), dict),
    **dict.fromkeys(("tools", "keywords", "webhook_events", "dispositions", "dynamic_data"), list),
}
"""What POST /v1/calls takes, without `retry` and `start_time`, which nobody here may send."""
_ENDS: Mapping[Answer, tuple[str, str | None, float]] = {
    "answered": ("completed", "human", 42),
    "short": ("completed", "human", 3),
    "voicemail": ("completed", "voicemail", 9),
    "no_answer": ("no-answer", "no-answer", 0),
    "busy": ("busy", None, 0),
    "failed": ("failed", None, 0),
}
"""Of a call by what comes of it: its status, who answered, and seconds."""


@dataclass
class Call:
    """A call; `seen` counts the looks at it."""

    id: str
    asked: dict[str, Any]
    answer: Answer
    created: datetime
    seen: int = 0
    stopped: bool = False


class Bland(FarEnd):
    """One organization.

    Attributes:
        refusal: what the next creates say in a success that is none; nobody is rung.
        queued: calls stay in the queue for ever.
        breaks: why calls are not dispatched from the queue; they are never completed.
        without_plus: its list knows numbers without `+`.
        lag: looks at the list before a call is in it.
        settles_after: looks at a call that is completed before anything else of it says so.
        missing: paths that this version of the API does not have.
    """

    key = KEY

    def __init__(self) -> None:
        self.refusal: str | None = None
        self.queued = self.without_plus = False
        self.lag = 0
        self.settles_after = 0
        self.breaks: str | None = None
        self.missing: set[str] = set()
        self.calls: dict[str, Call] = {}
        self.stopped: list[str] = []
        super().__init__(
            [
                Route("/v1/calls", self._create, methods=["POST"]),
                Route("/v1/calls", self._list, methods=["GET"]),
                Route("/v1/calls/active/stop", self._stop_all, methods=["POST"]),
                Route("/v1/calls/{id}/stop", self._stop, methods=["POST"]),
                Route("/v1/calls/{id}", self._one, methods=["GET"]),
                Route("/v1/inbound", self._inbound, methods=["GET"]),
                Route("/v1/outbound", self._outbound, methods=["GET"]),
                Route("/v1/pathway", self._pathways, methods=["GET"]),
                Route("/v1/personas", self._personas, methods=["GET"]),
            ],
            lambda one: (one.method, one.path) == ("POST", "/v1/calls"),
        )

    async def _create(self, request: Request) -> Response:
        self._authenticate(request)
        asked = await request.json()
        wrong = [
            name
            for name, value in asked.items()
            if not isinstance(value, _TYPES.get(name, ())) or (isinstance(value, bool) and _TYPES.get(name) is not bool)
        ]
        if wrong:
            raise _no(400, f"not known, or of another type: {sorted(wrong)}")
        if not re.fullmatch(r"\+[1-9]\d{6,14}", str(asked.get("phone_number"))):
            raise _no(400, "phone_number: E.164 is required")
        agents = [name for name in ("task", "pathway_id", "persona_id") if name in asked]
        known = {"pathway_id": {PATHWAY, OTHER_PATHWAY}, "persona_id": {PERSONA}}
        if len(agents) != 1 or asked[agents[0]] not in known.get(agents[0], set()):
            raise _no(400, "Exactly one of pathway_id and persona_id is required, and has to exist.")
        if asked.get("from") not in {NUMBER, OTHER_NUMBER}:
            raise _no(400, "from is not one of your numbers.")
        self.fault(lambda: self._ring(asked))
        if self.refusal is not None:
            return JSONResponse({"status": "error", "message": self.refusal})
        call = self._ring(asked)
        said = "Call successfully queued."
        return JSONResponse({"status": "success", "message": said, "call_id": call.id, "batch_id": None})

    def _ring(self, asked: dict[str, Any]) -> Call:
        one = str(uuid.uuid4())
        self.calls[one] = Call(one, asked, self.ring(asked["phone_number"]), self.clock())
        return self.calls[one]

    async def _list(self, request: Request) -> Response:
        """The rows as the document has them: without metadata."""
        self._authenticate(request)
        query = request.query_params
        known = {"from_number", "to_number", "from", "to", "limit", "ascending", "sort_by", "start_date", "end_date"}
        if set(query) - known - {"completed", "batch_id", "answered_by", "inbound", "campaign_id"}:
            raise _no(400, "not known")
        if self.lag:
            self.lag -= 1
            return JSONResponse({"total_count": 0, "count": 0, "calls": []})
        wanted = query.get("to_number")
        found = [
            {name: read[name] for name in _ROW}
            for one in reversed(self.calls.values())
            if (read := self._read(one)) and wanted in {None, self._as_listed(one.asked["phone_number"])}
        ]
        page = found[: int(query.get("limit", 1000))]
        return JSONResponse({"total_count": len(found), "count": len(page), "calls": page})

    def _as_listed(self, number: str) -> str:
        return number.lstrip("+") if self.without_plus else number

    async def _one(self, request: Request) -> Response:
        call = self._call(request)
        call.seen += 1
        return JSONResponse(self._read(call))

    async def _stop(self, request: Request) -> Response:
        call = self._call(request)
        if self._read(call)["completed"]:
            return JSONResponse({"status": "error", "message": "SID not found for the given c_id."})
        call.stopped = True
        self.stopped.append(call.id)
        return JSONResponse({"status": "success", "message": "Call ended successfully."})

    async def _stop_all(self, request: Request) -> Response:
        raise AssertionError(f"{request.url.path} ends everybody's calls")

    def _read(self, one: Call) -> dict[str, Any]:
        """CallDetails."""
        asked = one.asked
        is_over = one.stopped or (one.seen >= self.looks and not self.queued)
        status, answered_by, seconds = ("canceled", None, 0.0) if one.stopped else _ENDS[one.answer]
        if is_over and not one.stopped and one.seen < self.looks + self.settles_after:
            status, answered_by, seconds = "unknown", None, 0.0
        is_spoken = is_over and answered_by == "human"
        queue = "queued" if one.seen < 2 or self.queued else "started"
        if self.breaks is not None:
            is_over, is_spoken, queue = False, False, "error"
        return {
            "call_id": one.id,
            "c_id": one.id,
            "call_length": seconds / 60 if is_over else None,
            "corrected_duration": str(int(seconds)) if is_over else None,
            "batch_id": None,
            "to": self._as_listed(asked["phone_number"]),
            "from": asked["from"],
            "request_data": {"phone_number": asked["phone_number"], **asked.get("request_data", {})},
            "completed": is_over,
            "inbound": False,
            "created_at": one.created.astimezone(UTC).isoformat(timespec="milliseconds"),
            "started_at": one.created.isoformat() if is_spoken else None,
            "end_at": None,
            "status": status if is_over else "unknown",
            "queue_status": queue,
            "max_duration": asked.get("max_duration", 30),
            "error_message": "The number is not in service." if is_over and status == "failed" else self.breaks,
            "variables": asked.get("request_data", {}),
            "answered_by": answered_by if is_over and asked.get("answered_by_enabled") else None,
            "record": asked.get("record", False),
            "recording_url": "https://recordings.example/one.mp3" if is_spoken else None,
            "metadata": asked.get("metadata", {}),
            "summary": "She confirmed." if is_spoken else None,
            "price": (0.068 if is_spoken else 0.015) if is_over else None,
            "call_ended_by": "USER" if is_spoken else None,
            "pathway_id": asked.get("pathway_id"),
            "concatenated_transcript": "",
            "transcripts": [
                {"id": 1, "user": "assistant", "text": "Hi, this is the clinic.", "created_at": _later(one, 0)},
                {"id": 2, "user": "user", "text": "I will be there.", "created_at": _later(one, 4)},
                {"id": 3, "user": "agent-action", "text": "Ended call", "created_at": _later(one, 6)},
            ]
            if is_spoken
            else [],
        }

    async def _inbound(self, request: Request) -> Response:
        return self._part(request, {"inbound_numbers": [{"phone_number": NUMBER, "prompt": "Hello", "webhook": None}]})

    async def _outbound(self, request: Request) -> Response:
        return self._part(request, {"outbound_numbers": [{"phone_number": OTHER_NUMBER, "last_initiated": None}]})

    async def _pathways(self, request: Request) -> Response:
        """A bare array."""
        known = ((PATHWAY, "Reminder"), (OTHER_PATHWAY, "Sales"))
        return self._part(request, [{"id": one, "name": name, "nodes": [], "edges": []} for one, name in known])

    async def _personas(self, request: Request) -> Response:
        return self._part(request, {"data": [{"id": PERSONA, "name": "Ann", "deleted_at": None}], "errors": None})

    def _part(self, request: Request, body: Any) -> Response:
        self._authenticate(request)
        if request.url.path in self.missing:
            raise _no(404, "Not found")
        return JSONResponse(body)

    def _call(self, request: Request) -> Call:
        self._authenticate(request)
        call = self.calls.get(request.path_params["id"])
        if call is None:
            raise _no(404, "Call not found.")
        return call

    def _authenticate(self, request: Request) -> None:
        """With or without Bearer; x-api-key is not read."""
        if request.headers.get("authorization") not in {self.key, f"Bearer {self.key}"}:
            raise _no(401, "Invalid API key")

    def ended(self, call_id: str) -> tuple[dict[str, str], bytes]:
        """The webhook after a call: its headers and its body."""
        body = json.dumps(self._read(self.calls[call_id])).encode()
        return signed(body), body


_ROW = (
    *("call_id", "created_at", "call_length", "to", "from", "completed", "queue_status", "error_message"),
    *("answered_by", "batch_id"),
)
"""CallSummary."""


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The header of a webhook."""
    return {"x-webhook-signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def _no(status: int, message: str) -> Refused:
    return Refused(status, {"status": "error", "message": message, "errors": [message]})


def _later(one: Call, seconds: int) -> str:
    return datetime.fromtimestamp(one.created.timestamp() + seconds, UTC).isoformat()
