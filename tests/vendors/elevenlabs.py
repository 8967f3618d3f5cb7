"""ElevenLabs' batch calling as its own OpenAPI document describes it (src/libs/ElevenLabs of tryAGI/ElevenLabs).

Where the document leaves something open, this simulator takes the reading that is worse for a careless client: ids of
recipients are its own, a second retry dials people again who are being called, and a cancel marks everybody, those too
who were reached.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.vendors.serving import Recording, Simulated, listening

KEY = "sk_" + "0123456789abcdef" * 3
NUMBER, NUMBER_ID = "+14155550100", "phnum_5401k2main"
OTHER_NUMBER, OTHER_NUMBER_ID = "+14155550199", "phnum_5401k2other"
INBOUND, INBOUND_ID = "+14155550111", "phnum_5401k2inbound"
AGENT, OTHER_AGENT = "agent_3701k3reminder", "agent_3701k3sales"
MOST_RECIPIENTS = 10_000
_PAGE = "/v1/convai"
_MILLISECONDS = 10**11

Outcome: TypeAlias = Literal["completed", "voicemail", "failed", "no_answer", "busy", "cancelled"]
_OVER = frozenset({"completed", "failed", "cancelled", "voicemail"})
_IN_PROGRESS = frozenset({"dispatched", "initiated", "in_progress"})
_WORDS: Mapping[str, str] = {"no_answer": "failed", "busy": "failed"}
_RESULTS = {"completed": "answered"}


class CallConfig(BaseModel):
    """TelephonyCallConfig."""

    ringing_timeout_secs: Annotated[StrictInt, Field(ge=1, le=999)] = 60
    twilio_call_recording_enabled: StrictBool = False


class ClientData(BaseModel):
    """ConversationInitiationClientDataRequest-Input."""

    conversation_config_override: dict[str, Any] = {}
    custom_llm_extra_body: dict[str, Any] = {}
    user_id: StrictStr | None = None
    source_info: dict[str, Any] = {}
    branch_id: StrictStr | None = None
    environment: StrictStr | None = None
    starting_workflow_node_id: StrictStr | None = None
    procedure_ids: list[StrictStr] | None = None
    dynamic_variables: dict[str, Any] = {}


class Recipient(BaseModel):
    """OutboundCallRecipient."""

    id: StrictStr | None = None
    phone_number: StrictStr | None = None
    whatsapp_user_id: StrictStr | None = None
    conversation_initiation_client_data: ClientData | None = None


class WhatsApp(BaseModel):
    """BatchCallWhatsAppParams."""

    whatsapp_phone_number_id: StrictStr | None = None
    whatsapp_call_permission_request_template_name: StrictStr
    whatsapp_call_permission_request_template_language_code: StrictStr


class Submit(BaseModel):
    """The body of a submit. Unknown members are ignored, as FastAPI ignores them."""

    call_name: StrictStr
    agent_id: StrictStr
    recipients: Annotated[list[Recipient], Field(max_length=MOST_RECIPIENTS)]
    scheduled_time_unix: StrictInt | None = None
    agent_phone_number_id: StrictStr | None = None
    whatsapp_params: WhatsApp | None = None
    timezone: StrictStr | None = None
    branch_id: StrictStr | None = None
    environment: StrictStr | None = None
    telephony_call_config: CallConfig = CallConfig()
    target_concurrency_limit: Annotated[StrictInt, Field(ge=1)] | None = None


class Refused(Exception):
    """An error answer: `detail` is an object, or a list of what is wrong with the request."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(detail)
        self.response = JSONResponse({"detail": detail}, status)


def _no(status: int, name: str, message: str) -> Refused:
    return Refused(status, {"status": name, "message": message})


@dataclass
class Task:
    """A recipient. `updated` and the times of a batch are epoch seconds."""

    id: str
    asked: Recipient
    created: int
    updated: int
    status: str = "pending"
    conversation_id: str | None = None
    outcome: str | None = None


@dataclass
class Batch:
    """A batch call; `said` is the status that it reports whatever it is."""

    id: str
    asked: Submit
    created: int
    scheduled: int
    updated: int
    tasks: list[Task]
    status: str = "pending"
    dispatched: int = 0
    finished: int = 0
    retries: int = 0
    said: str | None = None
    said_of: dict[str, str] = field(default_factory=dict)


class ElevenLabs(Simulated):
    """`dialled` is what it would call, in order. Nothing happens by itself: `tick` moves time, `finish` ends calls.

    `agreed`: whether the workspace has accepted the terms of batch calling.
    """

    key: str = KEY
    secret: str | None = None
    from_number: str = NUMBER
    agent_id: str = AGENT

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.agreed = True
        self.batches: dict[str, Batch] = {}
        self.conversations: dict[str, dict[str, Any]] = {}
        self.dialled: list[str] = []
        batch = f"{_PAGE}/batch-calling"
        self.recording = Recording(
            Starlette(
                routes=[
                    Route(f"{batch}/submit", self._submit, methods=["POST"]),
                    Route(f"{batch}/workspace", self._list, methods=["GET"]),
                    Route(batch + "/{id}/cancel", self._cancel, methods=["POST"]),
                    Route(batch + "/{id}/retry", self._retry, methods=["POST"]),
                    Route(batch + "/{id}", self._one, methods=["GET", "DELETE"]),
                    Route(f"{_PAGE}/phone-numbers", self._numbers, methods=["GET"]),
                    Route(f"{_PAGE}/agents", self._agents, methods=["GET"]),
                    Route(_PAGE + "/conversations/{id}", self._conversation, methods=["GET"]),
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
        """End every call in progress, those too that begin as others end."""
        batch = self.batches[batch_id]
        while ringing := [task for task in batch.tasks if task.status in _IN_PROGRESS]:
            for task in ringing:
                self._end(batch, task, (outcomes or {}).get(task.asked.phone_number or "", otherwise))
            self._work(batch)

    def say_status(self, batch_id: str, word: str) -> None:
        """From now on it reports this word as the status of the batch call."""
        self.batches[batch_id].said = word

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """From now on it reports this word as the status of a recipient."""
        self.batches[batch_id].said_of[number] = word

    def _work(self, batch: Batch) -> None:
        """The dispatcher: as many calls at once as were asked for."""
        if batch.status not in {"pending", "in_progress"} or batch.scheduled > int(self.now.timestamp()):
            return
        batch.status = "in_progress"
        limit = batch.asked.target_concurrency_limit or MOST_RECIPIENTS
        for task in batch.tasks:
            if task.status == "pending" and sum(one.status in _IN_PROGRESS for one in batch.tasks) < limit:
                self._dial(batch, task)
        if all(task.status in _OVER for task in batch.tasks):
            batch.status = "completed"

    def _dial(self, batch: Batch, task: Task) -> None:
        task.status, task.updated = "initiated", int(self.now.timestamp())
        task.conversation_id = f"conv_{uuid.uuid4().hex[:24]}"
        batch.dispatched += 1
        self.conversations[task.conversation_id] = _conversation(batch, task)
        self.dialled.append(task.asked.phone_number or "")

    def _end(self, batch: Batch, task: Task, outcome: str) -> None:
        task.status, task.updated = _WORDS.get(outcome, outcome), int(self.now.timestamp())
        task.outcome = _RESULTS.get(outcome, outcome)
        batch.finished += 1
        self.conversations[task.conversation_id or ""] = _conversation(batch, task)

    async def _submit(self, request: Request) -> Response:
        self._authenticate(request)
        asked = await _body(request)
        if not self.agreed:
            raise _no(403, "batch_calling_agreement_required", "Accept the batch calling terms in the dashboard first.")
        if asked.agent_id not in {AGENT, OTHER_AGENT}:
            raise _no(404, "agent_not_found", f"Agent {asked.agent_id} does not exist.")
        numbers = {number["phone_number_id"]: number for number in _NUMBERS}
        if asked.whatsapp_params is None:
            number = numbers.get(asked.agent_phone_number_id or "")
            if number is None:
                raise _no(404, "phone_number_not_found", "Document with id of this phone number not found.")
            if number.get("supports_outbound") is False:
                raise _no(400, "phone_number_not_supported", "This phone number does not support outbound calls.")
        if not asked.recipients or not all(one.phone_number or one.whatsapp_user_id for one in asked.recipients):
            raise _no(400, "invalid_recipients", "Every recipient needs a phone number.")
        if (asked.scheduled_time_unix or 0) >= _MILLISECONDS:
            raise _no(400, "invalid_scheduled_time", "scheduled_time_unix is in seconds.")
        now = int(self.now.timestamp())
        batch = Batch(
            id=f"btcal_{uuid.uuid4().hex[:24]}",
            asked=asked,
            created=now + len(self.batches),
            scheduled=asked.scheduled_time_unix or now,
            updated=now,
            tasks=[Task(f"rcpt_{uuid.uuid4().hex[:20]}", one, now, now) for one in asked.recipients],
        )
        self.batches[batch.id] = batch
        answer = self._row(batch)  # as it was accepted: still pending
        self._work(batch)
        return JSONResponse(answer)

    async def _list(self, request: Request) -> Response:
        self._authenticate(request)
        limit = _whole(request, "limit", 100)
        agent_id, after = request.query_params.get("agent_id"), request.query_params.get("last_doc")
        found = [one for one in reversed(self.batches.values()) if agent_id in {None, one.asked.agent_id}]
        begin = next((at + 1 for at, one in enumerate(found) if one.id == after), 0)
        page = found[begin : begin + limit]
        more = begin + limit < len(found)
        rows = [self._row(batch) for batch in page]
        return JSONResponse({"batch_calls": rows, "next_doc": page[-1].id if more else None, "has_more": more})

    async def _one(self, request: Request) -> Response:
        batch = self._batch(request)
        if request.method == "DELETE":
            del self.batches[batch.id]
            return Response(status_code=204)
        return JSONResponse({**self._row(batch), "recipients": [_task(batch, task) for task in batch.tasks]})

    async def _cancel(self, request: Request) -> Response:
        """Its documents: cancel a running batch call and set all recipients to cancelled status. All of them."""
        batch = self._batch(request)
        if batch.status not in {"pending", "in_progress"}:
            raise _no(400, "batch_call_not_running", "Only pending or running batch calls can be cancelled.")
        batch.status, batch.updated = "cancelled", int(self.now.timestamp())
        for task in batch.tasks:
            task.status = "cancelled"
        return JSONResponse(self._row(batch))

    async def _retry(self, request: Request) -> Response:
        """Whoever failed, and whoever did not respond yet: nothing keeps somebody from being called twice at once."""
        batch = self._batch(request)
        batch.retries += 1
        batch.status, batch.updated = "pending", int(self.now.timestamp())
        for task in batch.tasks:
            if task.status in {"failed", *_IN_PROGRESS}:
                task.status = "pending"
        answer = self._row(batch)
        self._work(batch)
        return JSONResponse(answer)

    async def _numbers(self, request: Request) -> Response:
        """A bare array; supports_outbound is deprecated and true where it is absent."""
        self._authenticate(request)
        return JSONResponse(list(_NUMBERS))

    async def _agents(self, request: Request) -> Response:
        self._authenticate(request)
        size = _whole(request, "page_size", 30)
        if not 1 <= size <= 100:
            raise Refused(422, [{"loc": ["query", "page_size"], "msg": "1 to 100", "type": "less_than_equal"}])
        begin = int(request.query_params.get("cursor") or 0)
        page = [_agent(*one) for one in _AGENTS[begin : begin + size]]
        more = begin + size < len(_AGENTS)
        return JSONResponse({"agents": page, "next_cursor": str(begin + size) if more else None, "has_more": more})

    async def _conversation(self, request: Request) -> Response:
        self._authenticate(request)
        found = self.conversations.get(request.path_params["id"])
        if found is None:
            raise _no(404, "conversation_not_found", "Conversation not found.")
        return JSONResponse(found)

    def _batch(self, request: Request) -> Batch:
        self._authenticate(request)
        batch = self.batches.get(request.path_params["id"])
        if batch is None:
            raise _no(404, "batch_call_not_found", "Batch call not found.")
        return batch

    def _authenticate(self, request: Request) -> None:
        if request.headers.get("xi-api-key") != KEY:
            raise _no(401, "invalid_api_key", "Invalid API key")

    def _row(self, batch: Batch) -> dict[str, Any]:
        """BatchCallResponse: all its keys, always."""
        asked = batch.asked
        return {
            "id": batch.id,
            "phone_number_id": asked.agent_phone_number_id,
            "phone_provider": "twilio",
            "whatsapp_params": None,
            "name": asked.call_name,
            "agent_id": asked.agent_id,
            "branch_id": asked.branch_id,
            "environment": asked.environment,
            "created_at_unix": batch.created,
            "scheduled_time_unix": batch.scheduled,
            "timezone": asked.timezone,
            "total_calls_dispatched": batch.dispatched,
            "total_calls_scheduled": len(batch.tasks),
            "total_calls_finished": batch.finished,
            "last_updated_at_unix": batch.updated,
            "status": batch.said or batch.status,
            "retry_count": batch.retries,
            "telephony_call_config": asked.telephony_call_config.model_dump(),
            "target_concurrency_limit": asked.target_concurrency_limit,
            "agent_name": "Reminder",
            "branch_name": None,
        }


def _task(batch: Batch, task: Task) -> dict[str, Any]:
    """OutboundCallRecipientResponseModel."""
    data = task.asked.conversation_initiation_client_data
    return {
        "id": task.id,
        "phone_number": task.asked.phone_number,
        "whatsapp_user_id": task.asked.whatsapp_user_id,
        "status": batch.said_of.get(task.asked.phone_number or "", task.status),
        "created_at_unix": task.created,
        "updated_at_unix": task.updated,
        "conversation_id": task.conversation_id,
        "conversation_initiation_client_data": None if data is None else data.model_dump(),
    }


def _conversation(batch: Batch, task: Task) -> dict[str, Any]:
    """GetConversationResponseModel, of a call that rings or is over."""
    spoken = task.status == "completed"
    status = "initiated" if task.status in _IN_PROGRESS else "done" if spoken else "failed"
    turns = [("agent", "Hi, this is the clinic.", 1), ("user", "Yes, I will be there.", 4), ("agent", None, 6)]
    return {
        "agent_id": batch.asked.agent_id,
        "agent_name": "Reminder",
        "status": status,
        "conversation_id": task.conversation_id,
        "metadata": {
            "start_time_unix_secs": task.updated,
            "accepted_time_unix_secs": task.updated if spoken else None,
            "call_duration_secs": 42 if spoken else 0,
            "cost": 310 if spoken else 0,
            "cost_fiat": 0.0625 if spoken else None,
            "termination_reason": "Client ended call" if spoken else "No answer",
            "phone_call": {
                "type": "twilio",
                "direction": "outbound",
                "phone_number_id": batch.asked.agent_phone_number_id,
                "agent_number": NUMBER,
                "external_number": task.asked.phone_number,
                "call_result": task.outcome,
                "stream_sid": "MZ1",
                "call_sid": "CA1",
            },
            "batch_call": {"batch_call_id": batch.id, "batch_call_recipient_id": task.id},
        },
        "analysis": {
            "call_successful": "success",
            "transcript_summary": "She confirmed the appointment.",
            "data_collection_results": {
                "wants_callback": {"data_collection_id": "wants_callback", "value": "no", "rationale": "She said so."}
            },
        }
        if spoken
        else None,
        "has_audio": spoken,
        "has_user_audio": spoken,
        "has_response_audio": spoken,
        "has_auxiliary_audio": False,
        "transcript": [
            {"role": role, "message": said, "time_in_call_secs": at, "tool_calls": [], "tool_results": []}
            for role, said, at in (turns if spoken else [])
        ],
    }


def _number(number: str, number_id: str, **more: Any) -> dict[str, Any]:
    return {
        "phone_number": number,
        "label": "Main line",
        "phone_number_id": number_id,
        "assigned_agent": {"agent_id": AGENT, "agent_name": "Reminder", "environment": None, "branch_id": None},
        "provider": "twilio",
        **more,
    }


_NUMBERS = (
    _number(NUMBER, NUMBER_ID, supports_inbound=True, supports_outbound=True),
    _number(OTHER_NUMBER, OTHER_NUMBER_ID, assigned_agent=None),
    _number(
        INBOUND,
        INBOUND_ID,
        supports_inbound=True,
        supports_outbound=False,
        provider="sip_trunk",
        livekit_stack="standard",
    ),
)
_AGENTS = ((AGENT, "Reminder"), (OTHER_AGENT, "Sales"))


def _agent(agent_id: str, name: str) -> dict[str, Any]:
    """AgentSummaryResponseModel."""
    return {
        "agent_id": agent_id,
        "name": name,
        "tags": [],
        "created_at_unix_secs": 1716153600,
        "access_info": {"is_creator": True, "creator_name": "J", "creator_email": "j@example.com", "role": "admin"},
        "last_call_time_unix_secs": None,
        "archived": False,
    }


async def _body(request: Request) -> Submit:
    try:
        return Submit.model_validate_json(await request.body())
    except ValidationError as wrong:
        problems = [{"loc": ["body", *one["loc"]], "msg": one["msg"], "type": one["type"]} for one in wrong.errors()]
        raise Refused(422, problems) from None


def _whole(request: Request, name: str, default: int) -> int:
    given = request.query_params.get(name, str(default))
    if not given.isdecimal():
        raise Refused(422, [{"loc": ["query", name], "msg": "Input should be a valid integer", "type": "int_parsing"}])
    return int(given)


async def _answer_refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
