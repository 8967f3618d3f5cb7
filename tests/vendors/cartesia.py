"""Cartesia's call batches, as its API reference of version 2026-08-14 describes them (docs.cartesia.ai).

Where the reference leaves something open, this simulator takes the reading that is worse for a careless client: a
second retry dials people again who are being called, why a call ended stays with a recipient who waits for the next
one, and words that no document lists are not used.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.vendors.serving import Recording, Simulated

KEY = "sk_car_0123456789abcdefghijkl"
VERSION = "2026-08-14"
NUMBER, NUMBER_ID = "+14155550100", "ap_Q8PRh7lXyZsawXJmN2KcT5"
OTHER_NUMBER, OTHER_NUMBER_ID = "+14155550199", "ap_other7lXyZsawXJmN2KcT5"
AGENT, OTHER_AGENT = "agent_Fo7pKNBUwLZxrTd6jvhpaE", "agent_Sales7BUwLZxrTd6jvhpaE"
ORGANIZATION_LIMIT = 40
MOST_RECIPIENTS = 5_000
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_CALLING = frozenset({"created", "started"})
_OVER = frozenset({"completed", "failed"})
_REASONS = {"completed": "client_hangup", "no_answer": "dial_no_answer", "busy": "dial_busy", "failed": "dial_failed"}


class Recipient(BaseModel):
    """AgentOutboundCallItem. `metadata` was its name in an older version, and is no member of this one."""

    model_config = ConfigDict(extra="forbid")

    to_number: Annotated[StrictStr, Field(pattern=r"^\+[1-9]\d{6,14}$")]
    dynamic_variables: dict[str, StrictStr | StrictInt | StrictFloat | StrictBool] | None = None


class Create(BaseModel):
    """AgentCallBatchRequest."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[StrictStr, Field(min_length=1)]
    agent_id: StrictStr
    from_number_id: StrictStr
    recipients: Annotated[list[Recipient], Field(min_length=1, max_length=MOST_RECIPIENTS)]
    target_concurrency_limit: Annotated[StrictInt, Field(ge=1, le=ORGANIZATION_LIMIT)] = ORGANIZATION_LIMIT // 2
    ringing_timeout_seconds: Annotated[StrictInt, Field(ge=5, le=80)] = 60
    max_call_duration_minutes: Annotated[StrictInt, Field(ge=1, le=480)] = 480
    scheduled_at: StrictStr | None = None
    region: Literal["US", "EU", "APAC"] | None = None


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = JSONResponse({"title": message, "message": message, "status_code": status}, status)


@dataclass
class Task:
    """A recipient."""

    id: str
    asked: Recipient
    created: datetime
    status: str = "queued"
    call_id: str | None = None
    ended: str | None = None
    error: str | None = None


@dataclass
class Batch:
    """A batch; `said` is the status that it reports whatever it is."""

    id: str
    asked: Create
    created: datetime
    updated: datetime
    scheduled: datetime | None
    tasks: list[Task]
    admitted: datetime | None = None
    cancelled: bool = False
    retries: int = 0
    said: str | None = None
    said_of: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Derived from dispatch progress when it is read."""
        if self.said is not None or self.cancelled:
            return self.said or "cancelled"
        waiting = sum(task.status == "queued" for task in self.tasks)
        if waiting:
            return "pending" if waiting == len(self.tasks) else "in_progress"
        return "failed" if all(task.error is not None for task in self.tasks) else "completed"


class Cartesia(Simulated):
    """`dialled` is what it would call, in order. Nothing happens by itself: `tick` moves time, `finish` ends calls.

    `unreachable`: numbers for which no call can be placed. `lists_agents_only`: as in an older version, agents and
    numbers come from `GET /agents` alone.
    """

    key: str = KEY
    secret: str | None = None
    from_number: str = NUMBER
    agent_id: str = AGENT

    def __init__(self, *, lists_agents_only: bool = False) -> None:
        self.now = datetime.now(UTC)
        self.batches: dict[str, Batch] = {}
        self.calls: dict[str, dict[str, Any]] = {}
        self.dialled: list[str] = []
        self.unreachable: set[str] = set()
        at = "/agents/calls/batches"
        routes = [
            Route(at, self._create, methods=["POST"]),
            Route(at, self._list, methods=["GET"]),
            Route(at + "/{id}/cancel", self._cancel, methods=["POST"]),
            Route(at + "/{id}/retry", self._retry, methods=["POST"]),
            Route(at + "/{id}", self._one, methods=["GET"]),
            Route("/agents/calls/{id}", self._call, methods=["GET"]),
        ]
        if lists_agents_only:
            routes += [Route("/agents", self._summaries, methods=["GET"])]
        else:
            routes += [Route("/agents/phone-numbers", self._numbers, methods=["GET"])]
            routes += [Route("/v1/agents", self._agents, methods=["GET"])]
        self.recording = Recording(
            Starlette(routes=routes, exception_handlers={Refused: _answer_refusal}), lambda one: one.method != "GET"
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
        while ringing := [task for task in batch.tasks if task.status in _CALLING]:
            for task in ringing:
                self._end(batch, task, (outcomes or {}).get(task.asked.to_number, otherwise))
            self._work(batch)

    def say_status(self, batch_id: str, word: str) -> None:
        """From now on it reports this word as the status of the batch."""
        self.batches[batch_id].said = word

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """From now on it reports this word as the status of a recipient."""
        self.batches[batch_id].said_of[number] = word

    def _work(self, batch: Batch) -> None:
        """The dispatcher: as many calls at once as were asked for."""
        if batch.cancelled or (batch.scheduled is not None and batch.scheduled > self.now):
            return
        batch.admitted = batch.admitted or self.now
        for task in batch.tasks:
            live = sum(one.status in _CALLING for one in batch.tasks)
            if task.status == "queued" and task.asked.to_number in self.unreachable:
                task.status, task.error = "failed", "The number cannot be called."
            elif task.status == "queued" and live < batch.asked.target_concurrency_limit:
                task.status, task.ended = "started", None
                task.call_id = f"ac_{uuid.uuid4().hex[:22]}"
                self.calls[task.call_id] = self._shown_call(batch, task)
                self.dialled.append(task.asked.to_number)

    def _end(self, batch: Batch, task: Task, outcome: str) -> None:
        call_id = task.call_id or ""
        task.status = "completed" if outcome in {"completed", "voicemail"} else "failed"
        task.ended = _REASONS.get(outcome, "client_hangup" if task.status == "completed" else "error")
        self.calls[call_id] = self._shown_call(batch, task)

    async def _create(self, request: Request) -> Response:
        self._authenticate(request)
        try:
            asked = Create.model_validate_json(await request.body())
        except ValidationError as wrong:
            first = wrong.errors()[0]
            raise Refused(400, f"{'.'.join(str(one) for one in first['loc'])}: {first['msg']}") from None
        for task in asked.recipients:
            for name in task.dynamic_variables or {}:
                if not _VARIABLE.fullmatch(name) or name.startswith(("system__", "secret__")):
                    raise Refused(400, f"Invalid dynamic variable name: {name}")
            if len(str(task.dynamic_variables).encode()) > 16 * 1024 + 100:
                raise Refused(400, "dynamic_variables must not exceed 16 KiB.")
        if asked.agent_id not in {AGENT, OTHER_AGENT}:
            raise Refused(404, "Agent not found.")
        if asked.from_number_id not in {NUMBER_ID, OTHER_NUMBER_ID}:
            raise Refused(404, "Phone number not found.")
        if asked.region is not None:
            raise Refused(400, "region is only valid for SIP trunk numbers.")
        batch = Batch(
            id=f"acb_{uuid.uuid4().hex[:22]}",
            asked=asked,
            created=self.now + timedelta(milliseconds=len(self.batches)),
            updated=self.now,
            scheduled=self._scheduled(asked.scheduled_at),
            tasks=[Task(f"acbr_{uuid.uuid4().hex[:20]}", one, self.now) for one in asked.recipients],
        )
        self.batches[batch.id] = batch
        answer = self._row(batch)  # as it was accepted: all of its calls are queued
        self._work(batch)
        return JSONResponse(answer, 201)

    def _scheduled(self, said: str | None) -> datetime | None:
        if said is None:
            return None
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", said):
            raise Refused(400, "scheduled_at must be an RFC 3339 timestamp with a timezone offset.")
        at = datetime.fromisoformat(said)
        if not self.now < at <= self.now + timedelta(days=30):
            raise Refused(400, "scheduled_at must be in the future and within 30 days.")
        return at.astimezone(UTC)

    async def _list(self, request: Request) -> Response:
        """Newest first, without recipients."""
        self._authenticate(request)
        agent_id = request.query_params.get("agent_id")
        found = [one for one in reversed(self.batches.values()) if agent_id in {None, one.asked.agent_id}]
        answer = _page(request, [self._row(batch) for batch in found])
        last = answer["data"][-1]["id"] if answer["has_more"] else None
        return JSONResponse({**answer, "next_page": last})

    async def _one(self, request: Request) -> Response:
        batch = self._batch(request)
        return JSONResponse({**self._row(batch), "recipients": [_task(batch, task) for task in batch.tasks]})

    async def _cancel(self, request: Request) -> Response:
        """Idempotent. Calls in flight are left to finish; a batch that is dispatched as a whole stays what it is."""
        batch = self._batch(request)
        if any(task.status == "queued" for task in batch.tasks):
            batch.cancelled, batch.updated = True, self.now
            for task in batch.tasks:
                task.status = "cancelled" if task.status == "queued" else task.status
        return JSONResponse(self._row(batch))

    async def _retry(self, request: Request) -> Response:
        """Whoever failed, and whoever has not answered yet: nothing keeps somebody from being called twice at once."""
        batch = self._batch(request)
        if batch.cancelled:
            raise Refused(409, "A cancelled batch cannot be retried.")
        batch.retries += 1
        batch.updated = self.now
        for task in batch.tasks:
            if task.status in {"failed", *_CALLING}:
                task.status, task.error = "queued", None
        answer = self._row(batch)
        self._work(batch)
        return JSONResponse(answer)

    async def _numbers(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse(_page(request, [_number(*one) for one in NUMBERS]))

    async def _agents(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse(_page(request, [_agent(*one) for one in AGENTS]))

    async def _summaries(self, request: Request) -> Response:
        """GetAgentsResponse: each agent with its number."""
        self._authenticate(request)
        numbers = [{"id": number_id, "number": number} for number, number_id, _ in NUMBERS]
        found = [{**_agent(*one), "phone_numbers": [number]} for one, number in zip(AGENTS[:2], numbers, strict=True)]
        return JSONResponse({"summaries": found})

    async def _call(self, request: Request) -> Response:
        self._authenticate(request)
        found = self.calls.get(request.path_params["id"])
        if found is None:
            raise Refused(404, "Call not found.")
        expands = request.query_params.get("expand") == "transcript"
        return JSONResponse(found if expands else {**found, "transcript": None})

    def _batch(self, request: Request) -> Batch:
        self._authenticate(request)
        batch = self.batches.get(request.path_params["id"])
        if batch is None:
            raise Refused(404, "Batch not found.")
        return batch

    def _authenticate(self, request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise Refused(401, "Invalid API key.")
        if request.headers.get("cartesia-version") != VERSION:
            raise Refused(400, "Cartesia-Version: this version is not known here.")

    def _row(self, batch: Batch) -> dict[str, Any]:
        """AgentCallBatch; what is optional is left away where it has no value."""
        more = {"scheduled_at": batch.scheduled, "admitted_at": batch.admitted}
        return {
            "id": batch.id,
            "name": batch.asked.name,
            "agent_id": batch.asked.agent_id,
            "from_number_id": batch.asked.from_number_id,
            "region": "US",
            "target_concurrency_limit": batch.asked.target_concurrency_limit,
            "status": batch.status,
            "total_calls_scheduled": len(batch.tasks),
            "total_calls_dispatched": sum(task.status in {*_CALLING, *_OVER} for task in batch.tasks),
            "total_calls_finished": sum(task.status in _OVER for task in batch.tasks),
            "retry_count": batch.retries,
            "created_at": _utc(batch.created),
            "last_updated_at": _utc(batch.updated),
            **{name: _utc(at) for name, at in more.items() if at is not None},
        }

    def _shown_call(self, batch: Batch, task: Task) -> dict[str, Any]:
        """AgentCall."""
        spoken = task.status == "completed"
        turns = [
            ("system", None, 0.0),
            ("assistant", "Hi, this is the clinic.", 1.0),
            ("user", "Yes, I will be there.", 4.5),
        ]
        return {
            "id": task.call_id,
            "agent_id": batch.asked.agent_id,
            "agent_name": "Reminder",
            "status": task.status,
            "start_time": _utc(self.now),
            "end_time": _utc(self.now + timedelta(seconds=42)) if spoken else None,
            "transcript": [
                {"role": role, "text": said, "start_timestamp": at, "end_timestamp": at + 1.5, "text_chunks": []}
                for role, said, at in (turns if spoken else [])
            ],
            "telephony_params": {
                "to": task.asked.to_number,
                "from": NUMBER,
                "call_sid": "CA1",
                "direction": "outbound",
            },
            "summary": "She confirmed the appointment." if spoken else None,
            "error_message": None,
            "end_reason": task.ended,
            "deployment_id": None,
            "dynamic_variables": task.asked.dynamic_variables or {},
        }


def _task(batch: Batch, task: Task) -> dict[str, Any]:
    """AgentCallBatchRecipient; what is optional is left away where it has no value."""
    more = {
        "agent_call_id": task.call_id,
        "end_reason": task.ended,
        "error_message": task.error,
        "dynamic_variables": task.asked.dynamic_variables,
    }
    return {
        "id": task.id,
        "to_number": task.asked.to_number,
        "status": batch.said_of.get(task.asked.to_number, task.status),
        "created_at": _utc(task.created),
        **{name: value for name, value in more.items() if value is not None},
    }


def _page(request: Request, found: list[dict[str, Any]]) -> dict[str, Any]:
    limit = request.query_params.get("limit", "10")
    if not limit.isdecimal() or not 1 <= int(limit) <= 100:
        raise Refused(400, "limit must be between 1 and 100.")
    after = request.query_params.get("starting_after")
    begin = next((at + 1 for at, one in enumerate(found) if one["id"] == after), 0)
    return {"data": found[begin : begin + int(limit)], "has_more": begin + int(limit) < len(found)}


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


NUMBERS = ((NUMBER, NUMBER_ID, "Main line"), (OTHER_NUMBER, OTHER_NUMBER_ID, None))
AGENTS = ((AGENT, "Reminder", None), (OTHER_AGENT, "Sales", None), ("agent_gone", "Gone", "2026-01-01T00:00:00Z"))


def _number(number: str, number_id: str, label: str | None) -> dict[str, Any]:
    """PhoneNumberResponse."""
    return {
        "id": number_id,
        "number": number,
        "label": label,
        "agent": {"id": AGENT, "name": "Reminder"},
        "created_at": "2026-03-01T00:00:00Z",
        "updated_at": "2026-03-01T00:00:00Z",
        "provider": {"id": "pr_1", "account_sid": "AC1", "api_key_sid": "SK***1", "region": "us1"},
    }


def _agent(agent_id: str, name: str, deleted_at: str | None) -> dict[str, Any]:
    """AgentSummary."""
    return {
        "id": agent_id,
        "name": name,
        "description": None,
        "created_at": "2026-03-01T00:00:00Z",
        "updated_at": "2026-03-01T00:00:00Z",
        "deleted_at": deleted_at,
        "tts_language": "en",
        "deployment_count": 1,
    }


async def _answer_refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
