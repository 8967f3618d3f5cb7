"""Zudu as its documents describe it (docs.zudu.ai, batch-calls pages), in three of the shapes that they show.

Where the documents leave something open, this simulator takes the reading that dials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.vendors.serving import Recording, Simulated

KEY, SECRET = "sk_first", "s3cr3t_first"
OTHER_KEY, OTHER_SECRET = "sk_second", "s3cr3t_second"
NUMBER = "+14155550100"
AGENT = "agent_11111111-1111-4111-8111-111111111111"
MOST_TASKS = 1000


@dataclass(frozen=True)
class Generation:
    """One of the ways in which the documents write answers. `reads` is the unit of a request's trigger_timestamp."""

    name: str
    upper_case: bool
    enveloped: bool
    """Whether the answer to a create has the envelope."""
    iso_times: bool
    seconds: bool

    def __str__(self) -> str:
        return self.name


HAND_WRITTEN = Generation("hand-written", upper_case=True, enveloped=True, iso_times=True, seconds=True)
GENERATED = Generation("generated", upper_case=False, enveloped=True, iso_times=False, seconds=False)
NEWEST = Generation("newest", upper_case=False, enveloped=False, iso_times=False, seconds=False)
GENERATIONS = (HAND_WRITTEN, GENERATED, NEWEST)


@dataclass
class Task:
    """One number of a batch call. Its variables never come back."""

    task_id: str
    to_number: str
    dynamic_variables: Mapping[str, Any]
    status: str = "PENDING"


@dataclass
class Batch:
    """A stored batch call; `trigger` is in milliseconds."""

    batch_call_id: str
    organization_id: str
    created: datetime
    body: dict[str, Any]
    status: str = "DRAFT"
    trigger: int | None = None
    tasks: list[Task] = field(default_factory=list)


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, message: str, error: str) -> None:
        super().__init__(error)
        self.response = JSONResponse({"message": message, "status": "error", "error": error}, status)


class Zudu(Simulated):
    """`dialled` is what it would call, in order. Nothing happens by itself: `tick` moves time, `finish` ends calls."""

    key, secret, from_number, agent_id = KEY, SECRET, NUMBER, AGENT

    def __init__(self, generation: Generation = GENERATED) -> None:
        self.generation = generation
        self.now = datetime.now(UTC)
        self.batches: dict[str, Batch] = {}
        self.dialled: list[str] = []
        self.revoked: set[str] = set()
        one, more = ["GET"], ["GET", "PUT", "PATCH", "DELETE"]
        self.recording = Recording(
            Starlette(
                routes=[
                    Route("/batch-call", self._create, methods=["POST"]),
                    Route("/batch-call/list", self._list, methods=one),
                    Route("/batch-call/{id}/execute", self._execute, methods=["POST"]),
                    Route("/batch-call/{id}/tasks", self._tasks, methods=one),
                    Route("/batch-call/{id}", self._one, methods=more),
                    Route("/api/phone-numbers/list", self._numbers, methods=["POST"]),
                    Route("/api/agents", self._agents, methods=one),
                ],
                exception_handlers={Refused: _answer_refusal},
            ),
            lambda one: one.method != "GET" and not one.path.endswith("/list"),
        )

    def tick(self, now: datetime) -> None:
        """Move its time; what is due is dialled."""
        self.now = now
        for batch in self.batches.values():
            if batch.status == "SCHEDULED" and batch.trigger is not None and batch.trigger <= _ms(now):
                self._dial(batch)

    def finish(self, batch_call_id: str, outcomes: Mapping[str, str], otherwise: str = "completed") -> None:
        """End every call in progress; a batch call that has begun is over."""
        batch = self.batches[batch_call_id]
        for task in batch.tasks:
            if task.status == "CALLING":
                outcome = outcomes.get(task.to_number, otherwise)
                task.status = "COMPLETED" if outcome == "completed" else "FAILED"
        if batch.status == "SENT":
            batch.status = "COMPLETED"

    def batch_ids(self) -> list[str]:
        """The ids of its batch calls, the oldest first."""
        return list(self.batches)

    def say_status(self, batch_call_id: str, word: str) -> None:
        """Report this word as the status of that batch call."""
        self.batches[batch_call_id].status = word

    def say_task_status(self, batch_call_id: str, number: str, word: str) -> None:
        """Report this word as the status of that task."""
        for task in self.batches[batch_call_id].tasks:
            if task.to_number == number:
                task.status = word

    def _dial(self, batch: Batch) -> None:
        batch.status = "SENT"
        for task in batch.tasks:
            if task.status == "PENDING":
                task.status = "CALLING"
                self.dialled.append(task.to_number)

    def _decide(self, batch: Batch, body: Mapping[str, Any], *, whole: bool) -> None:
        """What the words about time come to. `whole`: POST or PUT, where nothing said means now."""
        given = body.get("trigger_timestamp")
        if given is not None:
            batch.trigger = int(given) * 1000 if self.generation.seconds else int(given)
            if batch.trigger <= _ms(self.now) and self.generation is HAND_WRITTEN:
                raise Refused(400, "Validation error", "trigger_timestamp must be in the future")
        status = str(body.get("status") or "").lower()
        if body.get("send_now") or status == "sent":
            self._dial(batch)
        elif status == "draft":
            batch.status = "DRAFT"
        elif given is not None or (status == "scheduled" and batch.trigger is not None):
            batch.status = "SCHEDULED"
            self.tick(self.now)
        elif whole or status == "scheduled":
            self._dial(batch)

    async def _create(self, request: Request) -> Response:
        organization_id = self._organization(request)
        body = await request.json()
        number = len(self.batches) + 1
        batch = Batch(f"batch_call_{number:032x}", organization_id, self.now + timedelta(seconds=number), dict(body))
        batch.tasks = self._task_list(body)
        self._decide(batch, body, whole=True)
        self.batches[batch.batch_call_id] = batch
        if self.generation.iso_times:
            told = ("batch_call_id", "name", "status", "total_task_count", "created_at")
            return self._success("Batch call created successfully", self._shown(batch, told))
        if not self.generation.enveloped:
            return JSONResponse(self._shown(batch), 201)
        return self._success("Batch call created successfully", self._shown(batch), 201)

    def _task_list(self, body: Mapping[str, Any]) -> list[Task]:
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not 1 <= len(tasks) <= MOST_TASKS:
            raise Refused(400, "Validation error", "tasks must hold 1 to 1000 elements")
        return [
            Task(f"task_{at}", one["to_number"], one.get("dynamic_variables") or {}) for at, one in enumerate(tasks)
        ]

    async def _list(self, request: Request) -> Response:
        organization_id = self._organization(request)
        page, limit = int(request.query_params.get("page", 0)), int(request.query_params.get("limit", 20))
        own = [batch for batch in self.batches.values() if batch.organization_id == organization_id]
        own.sort(key=lambda batch: batch.created, reverse=True)
        shown = own[page * limit : (page + 1) * limit]
        data = {
            "organization_id": organization_id,
            "batch_calls": [self._shown(batch) for batch in shown],
            "pagination": {"page": page, "limit": limit, "total_count": len(own)},
        }
        return self._success("Batch calls retrieved successfully", data)

    async def _one(self, request: Request) -> Response:
        batch = self._batch(request)
        if request.method == "GET":
            return self._success("Batch call retrieved successfully", self._shown(batch))
        if request.method == "DELETE":
            if batch.status in {"SENT", "SCHEDULED"}:
                raise Refused(400, "Validation error", f"Cannot delete batch call with status {batch.status}")
            del self.batches[batch.batch_call_id]
            return self._success("Batch call deleted successfully", None)
        body = await request.json()
        if batch.status in {"COMPLETED", "FAILED"}:
            raise Refused(400, "Validation error", f"Batch calls with status {batch.status} cannot be modified")
        if request.method == "PUT":
            batch.tasks = self._task_list(body)
            batch.body, batch.trigger = dict(body), None
        else:
            known = {"name", "trigger_timestamp", "status", "send_now", "timezone", "agent_id"}
            batch.body |= {name: value for name, value in body.items() if name in known}
        self._decide(batch, body, whole=request.method == "PUT")
        return self._success("Batch call updated successfully", self._shown(batch))

    async def _execute(self, request: Request) -> Response:
        batch = self._batch(request)
        if batch.status not in {"DRAFT", "SCHEDULED"}:
            raise Refused(400, "Validation error", f"Cannot execute batch call with status {batch.status}")
        self._dial(batch)
        data = {"batch_call_id": batch.batch_call_id, "status": "SENT", "execution_started_at": self.now.isoformat()}
        return self._success("Batch call execution started", data)

    async def _tasks(self, request: Request) -> Response:
        batch = self._batch(request)
        page, limit = int(request.query_params.get("page", 0)), int(request.query_params.get("limit", 50))
        shown = batch.tasks[page * limit : (page + 1) * limit]
        tasks = [
            {
                "task_id": task.task_id,
                "to_number": task.to_number,
                "status": task.status,
                "call_id": None,
                "error_message": None,
                "created_at": batch.created.isoformat(),
            }
            for task in shown
        ]
        told = {"page": page, "limit": limit, "total_count": len(batch.tasks)}
        return self._success("Tasks retrieved successfully", {"tasks": tasks, "pagination": told})

    async def _numbers(self, request: Request) -> Response:
        self._organization(request)
        number = {"phone_number": NUMBER, "nickname": "Main line", "outbound_agent_id": AGENT}
        return self._success("Phone numbers retrieved successfully", {"phone_numbers": [number]})

    async def _agents(self, request: Request) -> Response:
        self._organization(request)
        agent = {
            "agent_id": AGENT,
            "agent_name": "Reminder",
            "begin_message": "Hi {{name}}, this is the clinic.",
            "begin_message_variables": ["name"],
        }
        return self._success("Agents retrieved successfully", {"agents": [agent]})

    def _organization(self, request: Request) -> str:
        pair = request.headers.get("x-api-key"), request.headers.get("x-api-secret")
        known = {(KEY, SECRET): "org_first", (OTHER_KEY, OTHER_SECRET): "org_second"}
        if pair not in known or pair[0] in self.revoked:
            raise Refused(401, "Unauthorized", "Missing or invalid API key/secret")
        return known[pair[0] or "", pair[1] or ""]

    def _batch(self, request: Request) -> Batch:
        organization_id = self._organization(request)
        batch = self.batches.get(request.path_params["id"])
        if batch is None or batch.organization_id != organization_id:
            raise Refused(404, "Not Found", "Batch call does not exist")
        return batch

    def _shown(self, batch: Batch, told: tuple[str, ...] | None = None) -> dict[str, Any]:
        done = sum(task.status == "COMPLETED" for task in batch.tasks)
        trigger = batch.trigger
        shown: dict[str, Any] = {
            "batch_call_id": batch.batch_call_id,
            "name": batch.body.get("name"),
            "from_number": batch.body["from_number"],
            "agent_id": batch.body.get("agent_id"),
            "organization_id": batch.organization_id,
            "status": batch.status if self.generation.upper_case else batch.status.lower(),
            "timezone": batch.body.get("timezone"),
            "total_task_count": len(batch.tasks),
            "scheduled_timestamp": trigger // 1000 if trigger is not None and self.generation.seconds else trigger,
        }
        if self.generation.iso_times:
            shown |= {"created_at": batch.created.isoformat(), "updated_at": batch.created.isoformat()}
        else:
            shown |= {
                "created_timestamp": _ms(batch.created),
                "last_sent_timestamp": None,
                "total": len(batch.tasks),
                "sent": sum(task.status != "PENDING" for task in batch.tasks),
                "picked_up": done,
                "completed": done,
                "tasks_url": "https://storage.azure.com/tasks.json",
            }
        return shown if told is None else {name: shown[name] for name in told}

    def _success(self, message: str, data: Any, status: int = 200) -> Response:
        envelope = {"message": message, "status": "success", "data": data}
        return JSONResponse(envelope if self.generation.iso_times else envelope | {"error": None}, status)


async def _answer_refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
