"""Bland's batches v2 as its documents describe them (docs.bland.ai, api-v2 batches, api-v1 calls); no OpenAPI document
is public.

Where the documents leave something open, this simulator takes the reading that is worse for a careless client: a batch
that was stopped says so nowhere, a member that no page names is refused, and a call is listed only once it was dialled.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.vendors.serving import Recording, Simulated, listening

KEY = "org_" + "0123456789abcdef" * 4
ORG = "64602f94-d670-43d2-8474-bcdcb9522c4f"
NUMBER, INBOUND, POOL = "+14155550100", "+14155550111", "+14155550123"
PATHWAY, OTHER_PATHWAY = "a0f0d4ed-f5f5-4f16-b3f9-22166594d7a7", "b1f0d4ed-f5f5-4f16-b3f9-22166594d7a8"
LONGEST_DESCRIPTION = 60
PREVIEW = 2
"""Entries of call_objects in a list or a get, which the documents call a preview."""
_MOST_CALLS = 1000

_CALL = frozenset(
    {
        *("task", "pathway_id", "pathway_version", "start_node_id", "persona_id", "voice", "background_track"),
        *("first_sentence", "wait_for_greeting", "block_interruptions", "interruption_threshold", "model", "tools"),
        *("temperature", "keywords", "pronunciation_guide", "transfer_phone_number", "transfer_list", "language"),
        *("local_dialing", "voicemail_sms", "dispatch_hours", "sensitive_voicemail_detection", "noise_cancellation"),
        *("ignore_button_press", "language_detection_period", "language_detection_options", "timezone", "dynamic_data"),
        *("request_data", "start_time", "voicemail_message", "voicemail_action", "voicemail", "retry", "max_duration"),
        *("record", "from", "webhook", "webhook_events", "metadata", "summary_prompt", "analysis_preset"),
        *("analysis_prompt", "analysis_schema", "answered_by_enabled", "amd", "b_cid"),
    }
)
"""What POST /v1/calls takes besides phone_number."""
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("task", "pathway_id", "from", "start_time", "timezone", "voice", "webhook"), str),
    **dict.fromkeys(("record", "answered_by_enabled", "wait_for_greeting"), bool),
    **dict.fromkeys(("request_data", "metadata", "retry"), dict),
}
_START = re.compile(r"(?P<time>\d{4}-\d\d-\d\d \d{1,2}:\d\d:\d\d) ?(?P<offset>[+-]\d\d:\d\d)?")
_OUTCOMES: Mapping[str, tuple[str, str, str | None]] = {
    "completed": ("completed", "complete", "human"),
    "voicemail": ("completed", "complete", "voicemail"),
    "no_answer": ("no-answer", "complete", "no-answer"),
    "busy": ("busy", "complete", None),
    "failed": ("failed", "call_error", None),
    "cancelled": ("canceled", "complete", None),
}
"""Of a call by the outcome: its status, its queue_status and who answered it."""


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.response = JSONResponse({"data": None, "errors": [{"error": error, "message": message}]}, status)


@dataclass
class Entry:
    """An entry of call_objects with the global properties under it; `call` is there once it was dialled."""

    asked: dict[str, Any]
    starts: datetime | None
    call: dict[str, Any] | None = None
    said: str | None = None


@dataclass
class Batch:
    """A batch; `logs` from the oldest to the newest."""

    id: str
    body: dict[str, Any]
    created: datetime
    entries: list[Entry]
    logs: list[dict[str, Any]] = field(default_factory=list)
    is_stopped: bool = False
    is_complete: bool = False


class Bland(Simulated):
    """`dialled` is what it would call, in order. Nothing happens by itself: `tick` moves time, `finish` ends calls."""

    key: str = KEY
    secret: str | None = None
    from_number: str = NUMBER
    agent_id: str = PATHWAY

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.batches: dict[str, Batch] = {}
        self.calls: dict[str, dict[str, Any]] = {}
        self.dialled: list[str] = []
        self.recording = Recording(
            Starlette(
                routes=[
                    Route("/v2/batches/create", self._create, methods=["POST"]),
                    Route("/v2/batches/list", self._list, methods=["GET"]),
                    Route("/v2/batches/{id}/logs", self._logs, methods=["GET"]),
                    Route("/v2/batches/{id}/stop", self._stop, methods=["POST"]),
                    Route("/v2/batches/{id}", self._get, methods=["GET"]),
                    Route("/v1/calls", self._calls, methods=["GET"]),
                    Route("/v1/calls/{id}", self._call, methods=["GET"]),
                    Route("/v1/outbound", self._outbound, methods=["GET"]),
                    Route("/v1/inbound", self._inbound, methods=["GET"]),
                    Route("/v1/pathway", self._pathways, methods=["GET"]),
                ],
                exception_handlers={Refused: _answer_refusal},
            ),
            lambda one: one.method != "GET",
        )

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Its origin."""
        async with listening(self.recording) as url:
            yield url

    def batch_ids(self) -> list[str]:
        """In the order in which they were made."""
        return list(self.batches)

    def tick(self, now: datetime) -> None:
        """Move its time: what is due by then is dialled."""
        self.now = now
        for batch in self.batches.values():
            self._work(batch)

    def finish(self, batch_id: str, outcomes: Mapping[str, str] | None = None, otherwise: str = "completed") -> None:
        """End every call in progress; a batch without anybody to dial is over."""
        batch = self.batches[batch_id]
        for entry in batch.entries:
            if entry.call is not None and not entry.call["completed"]:
                self._end(entry, (outcomes or {}).get(entry.asked["phone_number"], otherwise))
        self._work(batch)

    def say_status(self, batch_id: str, word: str) -> None:
        """From now on its newest log has this word."""
        batch = self.batches[batch_id]
        batch.is_complete = True  # nothing is logged after this
        self._log(batch, "lifecycle", {"message": "Said.", "state_change": word})

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """From now on it reports this word as the status of a call."""
        for entry in self.batches[batch_id].entries:
            if entry.asked["phone_number"] == number:
                entry.said = word
                if entry.call is not None:
                    entry.call |= {"status": word, "queue_status": word}

    def _work(self, batch: Batch) -> None:
        """The dispatcher: a call without a time, or with one in the past, is sent immediately."""
        if batch.is_stopped or batch.is_complete:
            return
        due = [one for one in batch.entries if one.call is None and (one.starts is None or one.starts <= self.now)]
        for entry in due:
            self._dial(batch, entry)
        sent = sum(one.call is not None for one in batch.entries)
        if due:
            self._phase(batch, "in_progress")
        if all(one.call is not None and one.call["completed"] for one in batch.entries):
            batch.is_complete = True
            failed = sum(one.call is not None and one.call["status"] == "failed" for one in batch.entries)
            counts = {"calls_total": sent, "calls_failed": failed, "calls_successful": sent - failed}
            self._log(batch, "complete", counts)
        elif sent < len(batch.entries) and (
            not sent or all(one.call["completed"] for one in batch.entries if one.call)
        ):
            self._phase(batch, "waiting_for_scheduled_calls")

    def _phase(self, batch: Batch, word: str) -> None:
        if batch.logs[-1]["payload"].get("state_change") != word:
            sent, total = sum(one.call is not None for one in batch.entries), len(batch.entries)
            message = f"Requested: {total}. Validated: {total}. Dispatched: {sent}. CPS: 1.12."
            self._log(batch, "lifecycle", {"message": message, "state_change": word})

    def _log(self, batch: Batch, event: str, payload: Mapping[str, Any]) -> None:
        at = self.now + timedelta(milliseconds=len(batch.logs))
        row = {"id": str(uuid.uuid4()), "batch_id": batch.id, "org_id": ORG, "event_type": event}
        batch.logs.append({**row, "timestamp": _iso(at), "payload": payload})

    def _dial(self, batch: Batch, entry: Entry) -> None:
        asked, call_id = entry.asked, str(uuid.uuid4())
        status = entry.said or "started"
        entry.call = {
            "call_id": call_id,
            "c_id": call_id,
            "call_length": None,
            "corrected_duration": None,
            "batch_id": batch.id,
            "to": asked["phone_number"],
            "from": asked.get("from", POOL),
            "request_data": {"phone_number": asked["phone_number"], **asked.get("request_data", {})},
            "completed": False,
            "created_at": _iso(self.now + timedelta(milliseconds=len(self.calls))),
            "started_at": None,
            "end_at": None,
            "inbound": False,
            "status": status,
            "queue_status": status,
            "max_duration": 30,
            "error_message": None,
            "variables": asked.get("request_data", {}),
            "answered_by": None,
            "record": asked.get("record", False),
            "recording_url": None,
            "metadata": asked.get("metadata", {}),
            "summary": None,
            "price": None,
            "call_ended_by": None,
            "pathway_id": asked.get("pathway_id"),
            "analysis": None,
            "concatenated_transcript": "",
            "transcripts": [],
        }
        self.calls[call_id] = entry.call
        self.dialled.append(asked["phone_number"])

    def _end(self, entry: Entry, outcome: str) -> None:
        assert entry.call is not None
        status, queue_status, answered_by = _OUTCOMES[outcome]
        is_spoken = answered_by == "human"
        entry.call |= {
            "completed": True,
            "status": entry.said or status,
            "queue_status": entry.said or queue_status,
            "answered_by": answered_by if entry.asked.get("answered_by_enabled") else None,
            "call_length": 0.75 if is_spoken else 0.0,
            "corrected_duration": "45" if is_spoken else "0",
            "error_message": "The number is not in service." if status == "failed" else None,
            "price": 0.068 if is_spoken else 0.015,
            "started_at": _iso(self.now) if is_spoken else None,
        }
        if not is_spoken:
            return
        entry.call |= {
            "summary": "She confirmed the appointment.",
            "call_ended_by": "USER",
            "recording_url": "https://recordings.example/one.mp3" if entry.asked.get("record") else None,
            "transcripts": [
                {"id": 1, "user": "assistant", "text": "Hi, this is the clinic.", "created_at": _iso(self.now)},
                {
                    "id": 2,
                    "user": "user",
                    "text": "I will be there.",
                    "created_at": _iso(self.now + timedelta(seconds=4)),
                },
                {"id": 3, "user": "agent-action", "text": "Ended call", "created_at": _iso(self.now)},
            ],
        }

    async def _create(self, request: Request) -> Response:
        self._authenticate(request)
        body = _checked(await request.json())
        shared = body["global"]
        entries = []
        for one in body["call_objects"]:
            asked = {**shared, **one}
            if asked.get("from") not in {None, NUMBER, INBOUND}:
                raise Refused(400, "INVALID_FROM", "from is not one of your numbers.")
            entries.append(Entry(asked, _moment(asked.get("start_time"))))
        batch = Batch(str(uuid.uuid4()), body, self.now + timedelta(seconds=len(self.batches)), entries)
        self.batches[batch.id] = batch
        self._log(batch, "lifecycle", {"message": "Validating.", "state_change": "validating"})
        self._work(batch)
        return JSONResponse({"data": {"batch_id": batch.id}, "errors": None})

    async def _list(self, request: Request) -> Response:
        self._authenticate(request)
        newest = list(reversed(self.batches.values()))
        return JSONResponse({"data": [_row(one) for one in _page(request, newest)], "errors": None})

    async def _get(self, request: Request) -> Response:
        return JSONResponse({"data": _row(self._batch(request)), "errors": None})

    async def _logs(self, request: Request) -> Response:
        direction = request.query_params.get("direction", "desc")
        if direction not in {"asc", "desc"}:
            raise Refused(400, "VALIDATION_ERROR", "direction: asc or desc")
        logs = self._batch(request).logs
        found = logs if direction == "asc" else list(reversed(logs))
        return JSONResponse({"data": _page(request, found), "errors": None})

    async def _stop(self, request: Request) -> Response:
        self._batch(request).is_stopped = True
        return JSONResponse({"data": None, "errors": None})

    async def _calls(self, request: Request) -> Response:
        """The rows as of one call, without what was said in it."""
        self._authenticate(request)
        query = request.query_params
        found = [
            {name: value for name, value in call.items() if name not in {"transcripts", "concatenated_transcript"}}
            for call in self.calls.values()
            if query.get("batch_id") in {None, call["batch_id"]} and query.get("to_number") in {None, call["to"]}
        ]
        if query.get("ascending", "false") != "true":
            found.reverse()
        begin, limit = _whole(request, "from", 0), min(_whole(request, "limit", _MOST_CALLS), _MOST_CALLS)
        page = found[begin : min(begin + limit, _whole(request, "to", len(found)))]
        return JSONResponse({"total_count": len(found), "count": len(page), "calls": page})

    async def _call(self, request: Request) -> Response:
        self._authenticate(request)
        call = self.calls.get(request.path_params["id"])
        if call is None:
            raise Refused(404, "CALL_NOT_FOUND", "Call not found.")
        return JSONResponse(call)

    async def _outbound(self, request: Request) -> Response:
        self._authenticate(request)
        number = {"phone_number": NUMBER, "created_at": "2023-11-27T17:21:38.333Z", "last_initiated": None}
        return JSONResponse({"outbound_numbers": [number]})

    async def _inbound(self, request: Request) -> Response:
        self._authenticate(request)
        number = {"phone_number": INBOUND, "created_at": "2023-11-27T17:21:38.333Z", "prompt": "Hello", "webhook": None}
        return JSONResponse({"inbound_numbers": [number]})

    async def _pathways(self, request: Request) -> Response:
        self._authenticate(request)
        known = ((PATHWAY, "Reminder"), (OTHER_PATHWAY, "Sales"))
        return JSONResponse(
            [{"id": one, "name": name, "description": None, "nodes": [], "edges": []} for one, name in known]
        )

    def _batch(self, request: Request) -> Batch:
        self._authenticate(request)
        batch = self.batches.get(request.path_params["id"])
        if batch is None:
            raise Refused(404, "BATCH_NOT_FOUND", "Batch not found.")
        return batch

    def _authenticate(self, request: Request) -> None:
        """The key itself, without Bearer."""
        if request.headers.get("authorization") != KEY:
            raise Refused(401, "AUTH_FAILURE", "Authorization header is missing or invalid")


def _row(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "user_id": ORG,
        "base_prompt": json.dumps(batch.body["global"]),
        "created_at": _iso(batch.created),
        "call_objects": batch.body["call_objects"][:PREVIEW],
        "description": batch.body.get("description", "Untitled Batch"),
    }


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    unknown = set(body) - {"global", "call_objects", "description", "status_webhook"}
    shared, calls, description = body.get("global"), body.get("call_objects"), body.get("description", "")
    problems = [
        problem
        for wrong, problem in (
            (unknown, f"unknown: {sorted(unknown)}"),
            (not isinstance(shared, dict), "global: an object is required"),
            (not isinstance(calls, list) or not calls, "call_objects: at least one is required"),
            (not isinstance(description, str) or len(description) > LONGEST_DESCRIPTION, "description: 60 characters"),
        )
        if wrong
    ]
    if problems:
        raise Refused(400, "VALIDATION_ERROR", "; ".join(problems))
    if "phone_number" in body["global"] or not {"task", "pathway_id"} & set(body["global"]):
        raise Refused(400, "VALIDATION_ERROR", "global: task or pathway_id is required, phone_number is forbidden")
    _check_call(body["global"])
    for one in body["call_objects"]:
        if not isinstance(one, dict) or not re.fullmatch(r"\+[1-9]\d{6,14}", str(one.get("phone_number"))):
            raise Refused(400, "VALIDATION_ERROR", "phone_number: E.164 is required")
        _check_call({name: value for name, value in one.items() if name != "phone_number"})
    return body


def _check_call(asked: Mapping[str, Any]) -> None:
    wrong = [
        name for name, value in asked.items() if name not in _CALL or not isinstance(value, _TYPES.get(name, object))
    ]
    if wrong:
        raise Refused(400, "VALIDATION_ERROR", f"not known, or of another type: {wrong}")
    _moment(asked.get("start_time"))


def _moment(start: str | None) -> datetime | None:
    """`2026-01-01 12:00:00-05:00`; without an offset it is in UTC."""
    if start is None:
        return None
    found = _START.fullmatch(start)
    if found is None:
        raise Refused(400, "VALIDATION_ERROR", "start_time: YYYY-MM-DD HH:MM:SS-HH:MM")
    return datetime.strptime(found["time"] + (found["offset"] or "+00:00"), "%Y-%m-%d %H:%M:%S%z")


def _page(request: Request, rows: list[Any]) -> list[Any]:
    skip = _whole(request, "skip", 0)
    return rows[skip : skip + _whole(request, "take", len(rows))]


def _whole(request: Request, name: str, default: int) -> int:
    given = request.query_params.get(name, str(default))
    if not given.isdecimal():
        raise Refused(400, "VALIDATION_ERROR", f"{name}: a whole number")
    return int(given)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _answer_refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
