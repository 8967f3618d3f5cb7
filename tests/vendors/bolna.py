"""Bolna's batches as its OpenAPI document (bolna-ai/skills, references/openapi.yml) and its pages describe them.

Where these two differ, the pages are followed, which are newer: POST /batches answers 201, a `scheduled_at` with "Z" is
an error of the server's own, and a start is at least two minutes ahead and moves up to the next ten-minute mark.
"""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.vendors.serving import Recording, Simulated

KEY = "bn-" + "0123456789abcdef" * 2
NUMBER = "+14155550100"
OTHER_NUMBER = "+14155550101"
AGENT = "11111111-1111-4111-8111-111111111111"
OTHER_AGENT = "22222222-2222-4222-8222-222222222222"

MARK = timedelta(minutes=10)
LEAD = timedelta(minutes=2)
_WAITING = frozenset({"scheduled", "queued", "rescheduled", "prepared"})
_ON_THE_LINE = frozenset({"initiated", "ringing", "in-progress", "call-disconnected"})
_RETRIED = frozenset({"no-answer", "busy", "failed", "error"})
_RETRY_FIELDS = frozenset(
    {"enabled", "max_retries", "retry_on_statuses", "retry_on_voicemail", "retry_intervals_minutes"}
)
_NO_RETRY: Mapping[str, Any] = {
    "enabled": False,
    "max_retries": 3,
    "retry_on_statuses": ["no-answer", "busy", "failed"],
    "retry_on_voicemail": False,
    "retry_intervals_minutes": [30, 60, 120],
}
_ENDED = {
    "completed": "completed",
    "voicemail": "completed",
    "no_answer": "no-answer",
    "busy": "busy",
    "failed": "failed",
    "cancelled": "canceled",
}


class Refused(Exception):
    """An error answer, as the `Error` schema has it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = JSONResponse({"error": status, "message": message}, status)


class Bolna(Simulated):
    """`dialled` is what it would call, in order. Nothing happens by itself: `tick` moves time, `finish` ends calls."""

    key = KEY
    secret: str | None = None
    from_number = NUMBER
    agent_id = AGENT

    def __init__(self, concurrency: int = 10) -> None:
        self.now = datetime.now(UTC)
        self.concurrency = concurrency
        self.batches: dict[str, dict[str, Any]] = {}
        self.dialled: list[str] = []
        self.recording = Recording(
            Starlette(
                routes=[
                    Route("/batches", self._create, methods=["POST"]),
                    Route("/batches/{batch_id}", self._get, methods=["GET"]),
                    Route("/batches/{batch_id}", self._delete, methods=["DELETE"]),
                    Route("/batches/{agent_id}/all", self._list, methods=["GET"]),
                    Route("/batches/{batch_id}/executions", self._executions, methods=["GET"]),
                    Route("/batches/{batch_id}/schedule", self._schedule, methods=["POST"]),
                    Route("/batches/{batch_id}/stop", self._stop, methods=["POST"]),
                    Route("/executions/{execution_id}", self._execution, methods=["GET"]),
                    Route("/phone-numbers/all", self._numbers, methods=["GET"]),
                    Route("/v2/agent/all", self._agents, methods=["GET"]),
                    Route("/user/me", self._me, methods=["GET"]),
                ],
                exception_handlers={Refused: _answer_refusal},
            ),
            lambda one: one.method != "GET",
        )

    def batch_ids(self) -> list[str]:
        """Every batch, the oldest first."""
        return list(self.batches)

    def say_status(self, batch_id: str, word: str) -> None:
        """From now on this is the status of the batch."""
        self.batches[batch_id]["said"] = word

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """From now on this is the status of that person's execution."""
        for execution in self.batches[batch_id]["executions"]:
            if execution["telephony_data"]["to_number"] == number:
                execution["status"] = word

    def tick(self, now: datetime) -> None:
        """Move its time: what is due is placed, as far as there are lines."""
        self.now = now
        for batch in self.batches.values():
            if batch["status"] == "scheduled" and batch["begins"] <= now:
                batch["status"] = "queued"
                batch["executions"] = [self._prepared(batch, row) for row in batch["rows"] if _is_e164(row)]
            self._work(batch)

    def finish(self, batch_id: str, outcomes: Mapping[str, str] | None = None, otherwise: str = "completed") -> None:
        """End every call in progress; those that waited for a line are placed, and ended in the same way."""
        batch = self.batches[batch_id]
        while lines := [one for one in batch["executions"] if one["status"] in _ON_THE_LINE]:
            for execution in lines:
                self._end(batch, execution, (outcomes or {}).get(execution["telephony_data"]["to_number"], otherwise))
            self._work(batch)

    def _work(self, batch: dict[str, Any]) -> None:
        if batch["status"] not in {"queued", "executed"}:
            return
        for execution in batch["executions"]:
            busy = sum(one["status"] in _ON_THE_LINE for one in batch["executions"])
            due = execution["status"] in _WAITING and execution["due"] <= self.now
            if due and busy < self.concurrency:
                execution |= {"status": "initiated", "updated_at": _stamp(self.now)}
                self.dialled.append(execution["telephony_data"]["to_number"])
        if not any(one["status"] in _WAITING for one in batch["executions"]):
            batch["status"] = "executed"

    def _end(self, batch: Mapping[str, Any], execution: dict[str, Any], outcome: str) -> None:
        status, details, retry = _ENDED[outcome], execution["batch_run_details"], batch["retry"]
        machine = outcome == "voicemail"
        again = retry["retry_on_voicemail"] if machine else status in retry["retry_on_statuses"]
        if retry["enabled"] and again and details["retried"] < retry["max_retries"]:
            waits = retry["retry_intervals_minutes"]
            wait = timedelta(minutes=waits[min(details["retried"], len(waits) - 1)])
            details["retried"] += 1
            execution |= {"status": "scheduled", "due": self.now + wait}
            return
        spoken = status == "completed"
        execution |= {
            "status": status,
            "answered_by_voice_mail": machine,
            "conversation_duration": 42.0 if spoken else 0.0,
            "total_cost": 14.9 if spoken else 0.0,
            "transcript": "assistant: Hello, this is Alfred.\nuser: Yes, that works." if spoken else "",
            "error_message": "Call recipient number invalid" if status == "failed" else None,
            "extracted_data": {"user_interested": True, "address": "42 world lane"} if spoken else None,
            "updated_at": _stamp(self.now),
        }
        details |= {"status": status, "updated_at": _stamp(self.now)}
        execution["telephony_data"] |= {
            "duration": "42" if spoken else "0",
            "recording_url": "https://recordings.example/RE1" if spoken else None,
            "hangup_by": "Callee",
            "hangup_reason": "Call recipient hung up" if spoken else "Call unanswered",
        }

    def _prepared(self, batch: Mapping[str, Any], row: Mapping[str, str]) -> dict[str, Any]:
        """An execution before its call is placed."""
        numbers = batch["from_phone_numbers"] or [NUMBER]
        return {
            "id": str(uuid.uuid4()),
            "agent_id": batch["agent_id"],
            "batch_id": batch["batch_id"],
            "conversation_duration": 0.0,
            "total_cost": 0.0,
            "status": "prepared",
            "error_message": None,
            "answered_by_voice_mail": False,
            "transcript": None,
            "created_at": _stamp(self.now),
            "updated_at": _stamp(self.now),
            "cost_breakdown": {"llm": 0.0, "network": 0.0, "platform": 0.0, "synthesizer": 0.0, "transcriber": 0.0},
            "telephony_data": {
                "duration": "0",
                "to_number": row["contact_number"],
                "from_number": numbers[0],
                "recording_url": None,
                "hosted_telephony": True,
                "provider_call_id": None,
                "call_type": "outbound",
                "provider": "twilio",
                "hangup_by": None,
                "hangup_reason": None,
                "hangup_provider_code": None,
                "ring_duration": 0,
                "post_dial_delay": 0,
                "to_number_carrier": None,
            },
            "transfer_call_data": None,
            "batch_run_details": {
                "status": "prepared",
                "created_at": _stamp(self.now),
                "updated_at": _stamp(self.now),
                "retried": 0,
            },
            "extracted_data": None,
            "context_details": {"recipient_data": dict(row), "recipient_phone_number": row["contact_number"]},
            "due": self.now,
        }

    async def _create(self, request: Request) -> Response:
        form, content = await self._form(request)
        agent_id, file = form.get("agent_id"), form.get("file")
        if agent_id not in {AGENT, OTHER_AGENT}:
            raise Refused(400, "Agent not found")
        if not isinstance(file, UploadFile) or not (file.filename or "").endswith(".csv"):
            raise Refused(400, "file: a CSV file is required")
        table = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
        if len(table) < 2 or "contact_number" not in table[0]:
            raise Refused(400, "The CSV needs a contact_number column and at least one contact")
        if any(len(row) != len(table[0]) for row in table):
            raise Refused(400, "The CSV has rows of different lengths")
        batch_id = uuid.uuid4().hex
        rows = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
        self.batches[batch_id] = {
            "batch_id": batch_id,
            "agent_id": agent_id,
            "created_at": _stamp(self.now + timedelta(seconds=len(self.batches))),
            "updated_at": _stamp(self.now),
            "status": "created",
            "scheduled_at": None,
            "from_phone_numbers": [str(one) for one in form.getlist("from_phone_numbers")],
            "file_name": file.filename,
            "rows": rows,
            "retry": _retry(form.get("retry_config")),
            "executions": [],
        }
        return JSONResponse({"batch_id": batch_id, "state": "created"}, 201)

    async def _schedule(self, request: Request) -> Response:
        batch = self._batch(request)
        form, _ = await self._form(request)
        at = str(form.get("scheduled_at") or "")
        if at.upper().endswith("Z"):
            raise Refused(500, "Internal server error")
        if form.get("bypass_call_guardrails", "false") not in {"true", "false"}:
            raise Refused(400, "bypass_call_guardrails must be a boolean")
        try:
            moment = datetime.fromisoformat(at)
        except ValueError:
            raise Refused(400, "scheduled_at is not an ISO 8601 date and time") from None
        if moment.tzinfo is None:
            raise Refused(400, "scheduled_at needs a time zone")
        if moment < self.now + LEAD:
            raise Refused(400, "scheduled_at must be at least 2 minutes in the future")
        if batch["status"] != "created":
            raise Refused(400, f"Batch is already {batch['status']}")
        batch |= {"status": "scheduled", "scheduled_at": _stamp(moment), "begins": _next_mark(moment)}
        return JSONResponse({"message": "success", "state": f"scheduled at {moment.isoformat()}"})

    async def _stop(self, request: Request) -> Response:
        batch = self._batch(request)
        waiting = [one for one in batch["executions"] if one["status"] in _WAITING | _ON_THE_LINE]
        if batch["status"] != "queued" and not (batch["status"] == "executed" and waiting):
            return JSONResponse({"message": "Batch is not queued or running"}, 404)
        for execution in waiting:
            if execution["status"] in _WAITING:
                execution["status"] = "stopped"
        batch["status"] = "stopped"
        return JSONResponse({"message": "success", "state": "stopped"})

    async def _delete(self, request: Request) -> Response:
        del self.batches[self._batch(request)["batch_id"]]
        return JSONResponse({"message": "success", "state": "deleted"})

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._row(self._batch(request)))

    async def _list(self, request: Request) -> Response:
        self._authenticate(request)
        if request.path_params["agent_id"] not in {AGENT, OTHER_AGENT}:
            raise Refused(400, "Agent not found")
        own = [one for one in self.batches.values() if one["agent_id"] == request.path_params["agent_id"]]
        return JSONResponse([self._row(one) for one in reversed(own)])

    async def _executions(self, request: Request) -> Response:
        return JSONResponse([_shown(one) for one in self._batch(request)["executions"]])

    async def _execution(self, request: Request) -> Response:
        self._authenticate(request)
        for batch in self.batches.values():
            for execution in batch["executions"]:
                if execution["id"] == request.path_params["execution_id"]:
                    return JSONResponse(_shown(execution))
        raise Refused(400, "Execution not found")

    async def _numbers(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse(
            [
                {
                    "id": uuid.uuid5(uuid.NAMESPACE_URL, number).hex,
                    "humanized_created_at": "5 minutes ago",
                    "created_at": _stamp(self.now),
                    "humanized_updated_at": "5 minutes ago",
                    "updated_at": _stamp(self.now),
                    "renewal_at": "17th Dec, 2026",
                    "phone_number": number,
                    "agent_id": agent_id,
                    "price": "$5.0",
                    "telephony_provider": "twilio",
                    "rented": True,
                }
                for number, agent_id in ((NUMBER, AGENT), (OTHER_NUMBER, None))
            ]
        )

    async def _agents(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse(
            [
                {
                    "id": agent_id,
                    "agent_name": name,
                    "agent_type": "other",
                    "agent_status": "processed",
                    "created_at": _stamp(self.now),
                    "updated_at": _stamp(self.now),
                    "tasks": [],
                    "ingest_source_config": None,
                    "agent_prompts": {},
                }
                for agent_id, name in ((AGENT, "Alfred"), (OTHER_AGENT, "Sales"))
            ]
        )

    async def _me(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse(
            {
                "id": str(uuid.uuid4()),
                "name": "Bruce Wayne",
                "email": "bruce@example.com",
                "wallet": 42.42,
                "concurrency": {"max": self.concurrency, "current": 0},
            }
        )

    def _row(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """As the `Batch` schema has it: it does not say whose agent it is."""
        numbers = batch["from_phone_numbers"]
        return {
            "batch_id": batch["batch_id"],
            "humanized_created_at": "5 minutes ago",
            "created_at": batch["created_at"],
            "updated_at": batch["updated_at"],
            "status": batch.get("said", batch["status"]),
            "scheduled_at": batch["scheduled_at"],
            "from_phone_number": numbers[0] if numbers else None,
            "from_phone_numbers": numbers,
            "file_name": batch["file_name"],
            "valid_contacts": sum(_is_e164(row) for row in batch["rows"]),
            "total_contacts": len(batch["rows"]),
            "execution_status": dict(Counter(one["status"] for one in batch["executions"])),
        }

    async def _form(self, request: Request) -> tuple[FormData, bytes]:
        """A form, and what is in its file."""
        self._authenticate(request)
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Refused(400, "multipart/form-data is required")
        async with request.form() as form:
            file = form.get("file")
            return form, await file.read() if isinstance(file, UploadFile) else b""

    def _batch(self, request: Request) -> dict[str, Any]:
        self._authenticate(request)
        found = self.batches.get(request.path_params["batch_id"])
        if found is None:
            raise Refused(400, "Batch not found")
        return found

    def _authenticate(self, request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise Refused(401, "Access denied")


def _retry(given: Any) -> Mapping[str, Any]:
    """A `retry_config`, by the limits of the one in POST /call."""
    if given is None:
        return _NO_RETRY
    try:
        retry = json.loads(given)
    except (TypeError, ValueError):
        raise Refused(400, "retry_config is not JSON") from None
    if not isinstance(retry, dict) or not set(retry) <= _RETRY_FIELDS:
        raise Refused(400, "retry_config has unknown fields")
    retry = {**_NO_RETRY, **retry}
    intervals = retry["retry_intervals_minutes"]
    if retry["max_retries"] not in {1, 2, 3} or not set(retry["retry_on_statuses"]) <= _RETRIED:
        raise Refused(400, "retry_config is not valid")
    if not isinstance(intervals, list) or not all(type(one) is int and one > 0 for one in intervals) or not intervals:
        raise Refused(400, "retry_intervals_minutes must be whole numbers")
    return retry


def _is_e164(row: Mapping[str, str]) -> bool:
    return re.fullmatch(r"\+[0-9]{8,15}", row["contact_number"]) is not None


def _next_mark(moment: datetime) -> datetime:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    return start - (start - moment) // MARK * MARK


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _shown(execution: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in execution.items() if name != "due"}


async def _answer_refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
