"""Speechify's batch calls as its OpenAPI document describes them (src/libs/Speechify of tryAGI/Speechify).

Where the document leaves something open, this simulator takes the reading that is worse for a careless client: members
that it does not know are ignored (`dynamic_vars` is one), recipients come in the order of ids that say nothing, and a
recipient is completed as soon as its dial succeeded, whoever answered.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.vendors.serving import Recording, Simulated

KEY = "sk_0123456789abcdef0123456789abcdef"
_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"


def identifier(kind: str, number: int | None = None) -> str:
    """A prefixed id: 26 characters of Crockford's base 32."""
    left = uuid.uuid4().int if number is None else number
    digits = ""
    for _ in range(26):
        left, digit = divmod(left, 32)
        digits = _BASE32[digit] + digits
    return f"{kind}_{digits}"


NUMBER, NUMBER_ID = "+14155550100", identifier("phone", 100)
BOUND_NUMBER, BOUND_NUMBER_ID = "+14155550199", identifier("phone", 199)
INBOUND, INBOUND_ID = "+14155550111", identifier("phone", 111)
AGENT, OTHER_AGENT = identifier("agent", 1), identifier("agent", 2)
MOST_RECIPIENTS = 1000
MOST_ROWS = 200
KEPT = timedelta(hours=24)

_ENDINGS: Mapping[str, tuple[str, str, str]] = {
    "voicemail": ("completed", "completed", "voicemail_hangup"),
    "no_answer": ("failed", "failed", "dial_no_answer"),
    "busy": ("failed", "failed", "dial_busy"),
    "failed": ("failed", "failed", "dial_failed"),
    "cancelled": ("cancelled", "failed", "dial_rejected"),
}
"""By the words of our TaskStatus: those of the recipient and of the conversation, and the end reason."""
_TALKED = ("completed", "completed", "caller_hangup")
_OVER = frozenset({"completed", "failed", "cancelled"})


class Refused(Exception):
    """An error answer: a code, a sentence, and what is wrong with which field."""

    def __init__(self, status: int, code: str, message: str, **fields: str) -> None:
        super().__init__(message)
        error = {"code": code, "message": message} | ({"fields": fields} if fields else {})
        self.response = JSONResponse({"error": error}, status)


def _invalid(name: str, message: str) -> Refused:
    return Refused(400, "validation_failed", "The request is invalid.", **{name: message})


@dataclass
class Recipient:
    """A recipient; `asked` is its entry in the request."""

    id: str
    asked: Mapping[str, Any]
    status: str = "pending"
    conversation_id: str | None = None
    error: str | None = None
    attempted: datetime | None = None
    ended: datetime | None = None


@dataclass
class Batch:
    """A batch call; `said` is the status that it reports whatever it is."""

    id: str
    asked: Mapping[str, Any]
    created: datetime
    scheduled: datetime | None
    recipients: list[Recipient]
    status: str = "pending"
    error: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    said: str | None = None
    said_of: dict[str, str] = field(default_factory=dict)


class Speechify(Simulated):
    """`dialled` is what it would call, in order. Nothing happens by itself: `tick` moves time, `finish` ends calls.

    `lines`: calls at once.
    """

    key: str = KEY
    secret: str | None = None
    from_number: str = NUMBER
    agent_id: str = AGENT

    def __init__(self, lines: int = MOST_RECIPIENTS) -> None:
        self.now = datetime.now(UTC)
        self.lines = lines
        self.batches: dict[str, Batch] = {}
        self.conversations: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, tuple[datetime, Any, dict[str, Any]]] = {}
        self.dialled: list[str] = []
        batches, conversations = "/v1/agents/batch-calls", "/v1/agents/conversations"
        self.recording = Recording(
            Starlette(
                routes=[
                    Route(batches, self._create, methods=["POST"]),
                    Route(batches, self._list, methods=["GET"]),
                    Route(batches + "/{id}", self._get, methods=["GET"]),
                    Route(batches + "/{id}/recipients", self._recipients, methods=["GET"]),
                    Route(batches + "/{id}/cancel", self._cancel, methods=["POST"]),
                    Route("/v1/agents/phone-numbers", self._numbers, methods=["GET"]),
                    Route("/v1/agents", self._agents, methods=["GET"]),
                    Route(conversations + "/{id}", self._conversation, methods=["GET"]),
                    Route(conversations + "/{id}/messages", self._messages, methods=["GET"]),
                ],
                exception_handlers={Refused: lambda _, refused: refused.response},
            ),
            lambda one: one.method != "GET",
        )

    def batch_ids(self) -> list[str]:
        """In the order in which they were made."""
        return list(self.batches)

    def tick(self, now: datetime) -> None:
        """Move its time: what is due by then is dialled."""
        self.now = now
        for batch in self.batches.values():
            self._work(batch)

    def finish(self, batch_id: str, outcomes: Mapping[str, str] | None = None, otherwise: str = "completed") -> None:
        """End every call in progress, those too that begin as others end."""
        batch = self.batches[batch_id]
        while ringing := [one for one in batch.recipients if one.status == "dialing"]:
            for one in ringing:
                self._end(one, (outcomes or {}).get(one.asked["phone"], otherwise))
            self._work(batch)

    def fail(self, batch_id: str, error: str) -> None:
        """The batch call itself fails: nobody else is dialled."""
        batch = self.batches[batch_id]
        batch.status, batch.error, batch.ended = "failed", error, self.now

    def say_status(self, batch_id: str, word: str) -> None:
        """From now on it reports this word as the status of the batch call."""
        self.batches[batch_id].said = word

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """From now on it reports this word as the status of a recipient."""
        self.batches[batch_id].said_of[number] = word

    def _work(self, batch: Batch) -> None:
        """The dispatcher."""
        if batch.status in _OVER or (batch.scheduled is not None and batch.scheduled > self.now):
            return
        batch.status, batch.started = "running", batch.started or self.now
        for one in batch.recipients:
            if one.status == "pending" and sum(other.status == "dialing" for other in batch.recipients) < self.lines:
                self._dial(batch, one)
        if all(one.status in _OVER for one in batch.recipients):
            batch.status, batch.ended = "completed", self.now

    def _dial(self, batch: Batch, one: Recipient) -> None:
        one.status, one.attempted, one.conversation_id = "dialing", self.now, identifier("conv")
        self.dialled.append(one.asked["phone"])
        self.conversations[one.conversation_id] = {
            "id": one.conversation_id,
            "agent_id": batch.asked["agent_id"],
            "room_name": one.conversation_id,
            "room_sid": None,
            "status": "pending",
            "transport": "sip_outbound",
            "created_at": _stamp(self.now),
            "started_at": None,
            "ended_at": None,
            "duration_ms": None,
            "cost_cents": None,
            "recording_url": None,
            "recording_started_at": None,
            "end_reason": None,
            "metadata": {},
            "caller_identity": "",
            "from_number": NUMBER,
            "to_number": one.asked["phone"],
            "dynamic_variables": one.asked.get("dynamic_variables", {}),
            "message_count": 0,
        }

    def _end(self, one: Recipient, outcome: str) -> None:
        status, of_conversation, reason = _ENDINGS.get(outcome, _TALKED)
        one.status, one.ended = status, self.now
        one.error = reason if status == "failed" else None
        changes: dict[str, Any] = {"status": of_conversation, "end_reason": reason, "ended_at": _stamp(self.now)}
        if of_conversation == "completed":
            connected = self.now - timedelta(seconds=42)
            changes |= {
                "started_at": _stamp(connected),
                "duration_ms": 42_000,
                "cost_cents": 7,
                "recording_url": f"https://recordings.example/{one.conversation_id}.ogg",
            }
        self.conversations[one.conversation_id or ""] |= changes

    async def _create(self, request: Request) -> Response:
        self._authenticate(request)
        asked, key = await request.json(), request.headers.get("idempotency-key")
        if key is not None:
            at, body, answer = self.kept.get(key, (None, None, {}))
            if at is not None and self.now - at < KEPT:
                if body != asked:
                    raise Refused(409, "idempotency_conflict", "The key was used for another request.")
                return JSONResponse(answer, 202, headers={"Idempotent-Replayed": "true"})
            if len(key) > 255:
                raise _invalid("Idempotency-Key", "at most 255 characters")
        batch = Batch(identifier("batch"), asked, self.now, self._checked(asked), [])
        batch.recipients = [Recipient(uuid.uuid4().hex, one) for one in asked["recipients"]]
        self.batches[batch.id] = batch
        answer = self._row(batch)  # as it was accepted: still pending
        if key is not None:
            self.kept[key] = self.now, asked, answer
        self._work(batch)
        return JSONResponse(answer, 202)

    def _checked(self, asked: Any) -> datetime | None:
        """When it is to begin, if everything else is right."""
        if not isinstance(asked, dict):
            raise _invalid("body", "must be an object")
        for name in ("name", "agent_id"):
            if not isinstance(asked.get(name), str) or not asked[name]:
                raise _invalid(name, "is required")
        if asked["agent_id"] not in {AGENT, OTHER_AGENT}:
            raise _invalid("agent_id", "no such agent")
        number = asked.get("phone_number_id", BOUND_NUMBER_ID if asked["agent_id"] == AGENT else None)
        found = [one for one in _NUMBERS if one["id"] == number]
        if not found or "outbound" not in found[0]["capabilities"]:
            raise _invalid("phone_number_id", "no number that can call out")
        timeout = asked.get("ringing_timeout_ms", 30_000)
        if type(timeout) is not int or not 1000 <= timeout <= 80_000:
            raise _invalid("ringing_timeout_ms", "1000 to 80000")
        recipients = asked.get("recipients")
        if not isinstance(recipients, list) or not 1 <= len(recipients) <= MOST_RECIPIENTS:
            raise _invalid("recipients", "1 to 1000 recipients")
        for at, one in enumerate(recipients):
            _check_recipient(f"recipients[{at}]", one)
        return self._time(asked["scheduled_at"]) if "scheduled_at" in asked else None

    def _time(self, value: Any) -> datetime:
        """RFC 3339, in the future, 30 days ahead at most."""
        pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise _invalid("scheduled_at", "must be an RFC 3339 time")
        at = datetime.fromisoformat(value)
        if not self.now < at <= self.now + timedelta(days=30, minutes=1):
            raise _invalid("scheduled_at", "must be in the future, and within 30 days")
        return at

    async def _list(self, request: Request) -> Response:
        self._authenticate(request)
        return _page(request, "batches", [self._row(batch) for batch in reversed(self.batches.values())])

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._row(self._batch(request)))

    async def _recipients(self, request: Request) -> Response:
        batch = self._batch(request)
        rows = [_recipient(batch, one) for one in sorted(batch.recipients, key=lambda one: one.id)]
        return _page(request, "recipients", rows)

    async def _cancel(self, request: Request) -> Response:
        """Those who were not dialled are spared; what is over is answered unchanged."""
        batch = self._batch(request)
        if batch.status not in _OVER:
            batch.status, batch.ended = "cancelled", self.now
            for one in batch.recipients:
                if one.status == "pending":
                    one.status = "cancelled"
        return JSONResponse(self._row(batch))

    async def _numbers(self, request: Request) -> Response:
        self._authenticate(request)
        return _page(request, "numbers", _NUMBERS)

    async def _agents(self, request: Request) -> Response:
        self._authenticate(request)
        rows = [{"id": one, "name": name, "voice_id": "sabrina"} for one, name in _AGENTS]
        return _page(request, "agents", rows)

    async def _conversation(self, request: Request) -> Response:
        return JSONResponse(self._found(request))

    async def _messages(self, request: Request) -> Response:
        found = self._found(request)
        if found["started_at"] is None:
            return _page(request, "messages", [])
        began = datetime.fromisoformat(found["started_at"])
        rows = [
            {
                "id": str(uuid.uuid4()),
                "conversation_id": found["id"],
                "role": role,
                "content": content,
                "started_at": _stamp(began + timedelta(seconds=second)),
                "ended_at": None,
            }
            for role, content, second in _SAID
        ]
        return _page(request, "messages", rows)

    def _found(self, request: Request) -> dict[str, Any]:
        self._authenticate(request)
        found = self.conversations.get(request.path_params["id"])
        if found is None:
            raise Refused(404, "not_found", "Conversation not found.")
        return found

    def _batch(self, request: Request) -> Batch:
        self._authenticate(request)
        batch = self.batches.get(request.path_params["id"])
        if batch is None:
            raise Refused(404, "not_found", "Batch call not found.")
        return batch

    def _authenticate(self, request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise Refused(401, "unauthorized", "Authentication is missing or invalid.")
        version = request.headers.get("speechify-version", "")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", version) or version < "2026-06-28":
            raise Refused(400, "invalid_api_version", "This simulator serves the shapes since 2026-06-28 alone.")

    def _row(self, batch: Batch) -> dict[str, Any]:
        """BatchCall; `error` is there only if it failed."""
        asked = batch.asked
        row = {
            "id": batch.id,
            "agent_id": asked["agent_id"],
            "phone_number_id": asked.get("phone_number_id"),
            "name": asked["name"],
            "status": batch.said or batch.status,
            "total": len(batch.recipients),
            "completed": sum(one.status == "completed" for one in batch.recipients),
            "failed": sum(one.status == "failed" for one in batch.recipients),
            "created_at": _stamp(batch.created),
            "updated_at": _stamp(self.now),
            "started_at": _stamp(batch.started),
            "ended_at": _stamp(batch.ended),
            "scheduled_at": _stamp(batch.scheduled),
            "ringing_timeout_ms": asked.get("ringing_timeout_ms"),
        }
        return row | ({"error": batch.error} if batch.error else {})


def _check_recipient(where: str, one: Any) -> None:
    if not isinstance(one, dict) or not re.fullmatch(r"\+[1-9]\d{6,14}", str(one.get("phone"))):
        raise _invalid(f"{where}.phone", "must be E.164")
    if "custom_id" in one and not (isinstance(one["custom_id"], str) and len(one["custom_id"]) <= 256):
        raise _invalid(f"{where}.custom_id", "at most 256 characters")
    values = one.get("dynamic_variables", {})
    if not isinstance(values, dict) or any(name.startswith("system__") for name in values):
        raise _invalid(f"{where}.dynamic_variables", "an object without names that begin with system__")


def _recipient(batch: Batch, one: Recipient) -> dict[str, Any]:
    """BatchRecipient; without a custom_id where it was given none."""
    row = {
        "id": one.id,
        "batch_id": batch.id,
        "phone": one.asked["phone"],
        "dynamic_variables": one.asked.get("dynamic_variables", {}),
        "status": batch.said_of.get(one.asked["phone"], one.status),
        "conversation_id": one.conversation_id,
        "error": one.error or "",
        "attempted_at": _stamp(one.attempted),
        "ended_at": _stamp(one.ended),
    }
    return row | ({"custom_id": one.asked["custom_id"]} if "custom_id" in one.asked else {})


def _page(request: Request, name: str, rows: Sequence[Any]) -> Response:
    """A page of a list, by `limit` and an opaque `cursor`."""
    asked = request.query_params.get("limit", "50")
    if not asked.isdecimal() or not 1 <= int(asked) <= MOST_ROWS:
        raise _invalid("limit", "1 to 200")
    cursor = request.query_params.get("cursor", "after:0")
    if not re.fullmatch(r"after:\d{1,9}", cursor):
        raise _invalid("cursor", "is none of ours")
    begin = int(cursor.partition(":")[2])
    end = begin + int(asked)
    more = end < len(rows)
    answer = {name: list(rows[begin:end]), "next_cursor": f"after:{end}" if more else None, "has_more": more}
    return JSONResponse(answer)


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


_AGENTS = ((AGENT, "Reminder"), (OTHER_AGENT, "Without a number"))
_MADE = "2026-01-01T00:00:00Z"
_NUMBERS: tuple[dict[str, Any], ...] = tuple(
    {
        "id": number_id,
        "e164": number,
        "type": kind,
        "label": label,
        "agent_id": agent,
        "capabilities": capabilities,
        "created_at": _MADE,
        "updated_at": _MADE,
    }
    for number_id, number, kind, label, agent, capabilities in (
        (NUMBER_ID, NUMBER, "twilio", "Main", None, ["inbound", "outbound"]),
        (BOUND_NUMBER_ID, BOUND_NUMBER, "twilio_purchased", "Reminders", AGENT, ["inbound", "outbound"]),
        (INBOUND_ID, INBOUND, "livekit", "Inbound", AGENT, ["inbound"]),
    )
)
_SAID = (
    ("system", "The call begins.", 0),
    ("assistant", "Hi, this is the clinic.", 1),
    ("user", "Yes, I will be there.", 4),
)
