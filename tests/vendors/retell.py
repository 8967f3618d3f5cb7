"""Retell's batch calls as its OpenAPI document, its pages and its newest SDK describe them.

Sources: docs.retellai.com/api-references/{create-batch-call,list-calls,get-call,list-agents}, retell-sdk 6.2.13,
tryAGI/RetellAI `openapi.yaml`. A batch call can be created, and its calls can be listed: it has no get, list, cancel,
pause or delete. Where the documents leave something open, this simulator takes the reading that dials.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.vendors.serving import Recording, Simulated

KEY = "key_0123456789abcdef0123456789ab"
NUMBER = "+14155550100"
UNBOUND_NUMBER = "+14155550101"
AGENT = "agent_1ffdb9717444d0e77346838911"
OTHER_AGENT = "agent_2ffdb9717444d0e77346838911"

Check: TypeAlias = Callable[[Any], bool]
Outcomes: TypeAlias = Mapping[str, str]

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ENDINGS = {
    "completed": ("ended", "user_hangup"),
    "voicemail": ("ended", "voicemail_reached"),
    "no_answer": ("not_connected", "dial_no_answer"),
    "busy": ("not_connected", "dial_busy"),
    "failed": ("error", "error_retell"),
}
"""By the words of our TaskStatus."""
_STRING_OPS: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda one, other: one == other,
    "ne": lambda one, other: one != other,
    "sw": lambda one, other: one.startswith(other),
    "ew": lambda one, other: one.endswith(other),
    "co": lambda one, other: other in one,
}


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _strings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _size(value: Any) -> bool:
    return _whole(value) and 1 <= value <= 1000


_CREATE: Mapping[str, Check] = {
    "name": _text,
    "trigger_timestamp": _number,
    "from_number": lambda value: _text(value) and bool(value),
    "reserved_concurrency": _whole,
    "tasks": lambda value: isinstance(value, list) and bool(value),
    "call_time_window": _object,
}
_TASK: Mapping[str, Check] = {
    "to_number": _text,
    "ignore_e164_validation": _flag,
    "override_agent_id": _text,
    "override_agent_version": lambda value: _text(value) or _whole(value),
    "agent_override": _object,
    "retell_llm_dynamic_variables": _strings,
    "metadata": _object,
    "custom_sip_headers": _strings,
}
_WINDOW: Mapping[str, Check] = {
    "windows": lambda value: isinstance(value, list) and bool(value) and all(_is_window(one) for one in value),
    "timezone": lambda value: value in available_timezones(),
    "day": lambda value: isinstance(value, list) and all(one in DAYS for one in value),
}
_CALLS: Mapping[str, Check] = {
    "filter_criteria": _object,
    "sort_order": lambda value: value in {"ascending", "descending"},
    "limit": _size,
    "skip": _whole,
    "pagination_key": _text,
    "include_total": _flag,
}
_STATUSES = ("registered", "not_connected", "ongoing", "ended", "error")


def _is_window(one: Any) -> bool:
    """[start, end) in minutes since midnight; never over midnight; 1440 is valid."""
    if not isinstance(one, dict) or set(one) != {"start", "end"} or not all(_number(value) for value in one.values()):
        return False
    return bool(0 <= one["start"] < one["end"] <= 1440)


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = JSONResponse({"status": "error", "message": message}, status)


def _bad(message: str) -> Refused:
    return Refused(400, f"Invalid request format, please check API reference. {message}")


@dataclass
class Call:
    """One call, which exists from the moment at which it is dialled."""

    id: str
    task: Mapping[str, Any]
    started: datetime
    status: str = "ongoing"
    reason: str | None = None
    word: str | None = None


@dataclass
class Batch:
    """A batch call. Its tasks are seen only as calls."""

    id: str
    body: Mapping[str, Any]
    trigger: datetime
    waiting: list[Mapping[str, Any]]
    calls: list[Call] = field(default_factory=list)


class Retell(Simulated):
    """`dialled` is whom it would call, in order. Nothing happens by itself: `tick` moves time, `finish` ends calls."""

    key = KEY
    secret: str | None = None
    from_number = NUMBER
    agent_id = AGENT

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.batches: dict[str, Batch] = {}
        self.dialled: list[str] = []
        self.recording = Recording(
            Starlette(
                routes=[
                    Route("/create-batch-call", self._create, methods=["POST"]),
                    Route("/v3/list-calls", self._list_calls, methods=["POST"]),
                    Route("/v2/get-call/{call_id}", self._get_call, methods=["GET"]),
                    Route("/v2/list-phone-numbers", self._numbers, methods=["GET"]),
                    Route("/v2/list-agents", self._agents, methods=["POST"]),
                ],
                exception_handlers={Refused: _answer_refusal},
            ),
            lambda one: one.method != "GET" and "list" not in one.path,
        )

    def batch_ids(self) -> list[str]:
        """Every batch call, the oldest first; only we can see them."""
        return list(self.batches)

    def tick(self, now: datetime) -> None:
        """Move its time; what is due is dialled, within its window."""
        self.now = now
        for batch in self.batches.values():
            self._dial(batch)

    def finish(self, batch_id: str, outcomes: Outcomes | None = None, otherwise: str = "completed") -> None:
        """End every call in progress."""
        for call in self.batches[batch_id].calls:
            if call.status == "ongoing":
                call.status, call.reason = _ENDINGS[(outcomes or {}).get(call.task["to_number"], otherwise)]

    def say_status(self, batch_id: str, word: str) -> None:
        """Nothing changes: Retell reports no status of a batch call."""
        assert batch_id in self.batches, word

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """From now on the calls of this number have this call_status."""
        for call in self.batches[batch_id].calls:
            if call.task["to_number"] == number:
                call.word = word

    def _dial(self, batch: Batch) -> None:
        if self.now < batch.trigger or not _is_inside(batch.body.get("call_time_window"), self.now):
            return
        for task in batch.waiting:
            batch.calls.append(Call(f"call_{uuid.uuid4().hex[:27]}", task, self.now))
            self.dialled.append(task["to_number"])
        batch.waiting = []

    async def _create(self, request: Request) -> Response:
        self._authenticate(request)
        body = await _json(request)
        _check(body, _CREATE)
        for name in ("from_number", "tasks"):
            if name not in body:
                raise _bad(f"{name} is required")
        number = self._number(body["from_number"])
        for task in body["tasks"]:
            _check_task(task, number)
        window = body.get("call_time_window")
        if window is not None:
            _check(window, _WINDOW)
            if "windows" not in window:
                raise _bad("call_time_window.windows is required")
        # Milliseconds. Seconds are a moment in January 1970, and what is due is dialled.
        trigger = self.now
        if "trigger_timestamp" in body:
            trigger = datetime.fromtimestamp(body["trigger_timestamp"] / 1000, UTC)
        batch = Batch(f"batch_call_{uuid.uuid4().hex[:20]}", body, trigger, list(body["tasks"]))
        self.batches[batch.id] = batch
        self._dial(batch)
        answer = {
            "batch_call_id": batch.id,
            "name": body.get("name") or "Batch call",
            "from_number": body["from_number"],
            "scheduled_timestamp": int(trigger.timestamp()),  # seconds, as in the example of the documents
            "total_task_count": len(body["tasks"]),
        }
        if window is not None:
            answer["call_time_window"] = {"timezone": "America/Los_Angeles", **window}
        return JSONResponse(answer, 201)

    async def _list_calls(self, request: Request) -> Response:
        self._authenticate(request)
        body = await _json(request)
        _check(body, _CALLS)
        if "skip" in body and "pagination_key" in body:
            raise _bad("skip and pagination_key exclude each other")
        criteria = body.get("filter_criteria", {})
        found = [
            (batch, call) for batch in self.batches.values() for call in batch.calls if _matches(criteria, batch, call)
        ]
        if body.get("sort_order", "descending") == "descending":
            found.reverse()
        begin = _position(body["pagination_key"]) if "pagination_key" in body else body.get("skip", 0)
        end = begin + body.get("limit", 50)
        answer: dict[str, Any] = {
            "items": [_call(batch, call) for batch, call in found[begin:end]],
            "has_more": end < len(found),
        }
        if end < len(found):
            answer["pagination_key"] = f"page_{end}"
        if body.get("include_total"):
            answer["total"] = len(found)
        return JSONResponse(answer)

    async def _get_call(self, request: Request) -> Response:
        self._authenticate(request)
        for batch in self.batches.values():
            for call in batch.calls:
                if call.id == request.path_params["call_id"]:
                    return JSONResponse({**_call(batch, call), **_spoken(call)})
        raise Refused(422, "Cannot find requested asset under given api key.")

    async def _numbers(self, request: Request) -> Response:
        self._authenticate(request)
        query = request.query_params
        _check(query, {"limit": _digits, "sort_order": _CALLS["sort_order"], "pagination_key": _text})
        return JSONResponse({"items": _OWN_NUMBERS, "has_more": False})

    async def _agents(self, request: Request) -> Response:
        """A POST: the pages are asked for in the query, the filters in the body."""
        self._authenticate(request)
        _check(request.query_params, {"limit": _digits, "sort_order": _CALLS["sort_order"], "pagination_key": _text})
        _check(await _json(request) if await request.body() else {}, {"filter_criteria": _object})
        common = {"channel": "voice", "is_suspended": False, "tags": {}, "user_modified_timestamp": 1703413636133}
        agents = [{"agent_id": AGENT, "agent_name": "Reminder"}, {"agent_id": OTHER_AGENT, "agent_name": "Sales"}]
        return JSONResponse({"items": [{**one, **common} for one in agents], "has_more": False})

    def _number(self, number: str) -> Mapping[str, Any]:
        for one in _OWN_NUMBERS:
            if one["phone_number"] == number:
                return one
        raise Refused(422, "Cannot find requested asset under given api key.")

    def _authenticate(self, request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise Refused(401, "API key is missing or invalid.")


_OWN_NUMBERS: list[dict[str, Any]] = [
    {
        "phone_number": NUMBER,
        "phone_number_type": "retell-twilio",
        "phone_number_pretty": "+1 (415) 555-0100",
        "nickname": "Main line",
        "inbound_agents": [],
        "outbound_agents": [{"agent_id": AGENT, "weight": 1}],
        "last_modification_timestamp": 1703413636133,
    },
    {
        "phone_number": UNBOUND_NUMBER,
        "phone_number_type": "custom",
        "outbound_agents": [],
        "last_modification_timestamp": 1703413636133,
    },
]


def _matches(criteria: Mapping[str, Any], batch: Batch, call: Call) -> bool:
    fields = {
        "batch_call_id": batch.id,
        "call_id": call.id,
        "to_number": call.task["to_number"],
        "from_number": batch.body["from_number"],
    }
    for name, asked in criteria.items():
        if name == "call_status" and _is_filter(asked, "enum", {"in"}):
            if not set(asked["value"]) <= set(_STATUSES[1:]):
                raise _bad("filter_criteria.call_status.value is not valid")
            if (call.word or call.status) not in asked["value"]:
                return False
        elif name in fields and _is_filter(asked, "string", set(_STRING_OPS)):
            if not _STRING_OPS[asked["op"]](fields[name], asked["value"]):
                return False
        else:
            raise _bad(f"filter_criteria.{name} is not valid")
    return True


def _is_filter(asked: Any, kind: str, ops: set[str]) -> bool:
    return (
        isinstance(asked, dict)
        and set(asked) == {"type", "op", "value"}
        and asked["type"] == kind
        and asked["op"] in ops
    )


def _call(batch: Batch, call: Call) -> dict[str, Any]:
    """A call as the list shows it: neither the id of its batch call, nor what was said, nor the recording."""
    agent = call.task.get("override_agent_id") or AGENT
    row: dict[str, Any] = {
        "call_id": call.id,
        "call_type": "phone_call",
        "agent_id": agent,
        "agent_name": "Reminder",
        "agent_version": 1,
        "call_status": call.word or call.status,
        "direction": "outbound",
        "from_number": batch.body["from_number"],
        "to_number": call.task["to_number"],
        "start_timestamp": _ms(call.started),
        "data_storage_setting": "everything",
    }
    row |= {name: call.task[name] for name in ("metadata", "retell_llm_dynamic_variables") if name in call.task}
    if call.reason is None:
        return row
    talked = call.status == "ended"
    length = timedelta(seconds=90 if talked else 0)
    row |= {
        "disconnection_reason": call.reason,
        "end_timestamp": _ms(call.started + length),
        "duration_ms": int(length.total_seconds() * 1000),
        "call_cost": {
            "combined_cost": 12.34 if talked else 0,
            "product_costs": [],
            "total_duration_seconds": length.total_seconds(),
            "total_duration_unit_price": 0.13,
        },
    }
    if talked:
        row["call_analysis"] = {
            "call_summary": "They were reminded.",
            "in_voicemail": call.reason == "voicemail_reached",
            "call_successful": call.reason == "user_hangup",
            "user_sentiment": "Neutral",
            "custom_analysis_data": {"will_come": True},
        }
    return row


def _spoken(call: Call) -> dict[str, Any]:
    if call.status != "ended":
        return {}
    words = [{"word": "Hello", "start": 0.5, "end": 0.9}]
    return {
        "transcript": "Agent: Hello, this is a reminder.\nUser: Thank you.\n",
        "transcript_object": [
            {"role": "agent", "content": "Hello, this is a reminder.", "words": words},
            {"role": "user", "content": "Thank you.", "words": [{"word": "Thank", "start": 2.25, "end": 2.5}]},
        ],
        "recording_url": "https://dxc03zgurdly9.cloudfront.net/recording.wav",
    }


def _is_inside(window: Mapping[str, Any] | None, now: datetime) -> bool:
    if window is None:
        return True
    local = now.astimezone(ZoneInfo(window.get("timezone", "America/Los_Angeles")))
    minute = local.hour * 60 + local.minute
    days = window.get("day") or DAYS
    return DAYS[local.weekday()] in days and any(one["start"] <= minute < one["end"] for one in window["windows"])


async def _json(request: Request) -> dict[str, Any]:
    body = await request.json()
    if not isinstance(body, dict):
        raise _bad("the body is an object")
    return body


def _check(given: Mapping[str, Any], known: Mapping[str, Check]) -> None:
    for name, value in given.items():
        if name not in known:
            raise _bad(f"{name} is not known")
        if not known[name](value):
            raise _bad(f"{name} is not valid")


def _check_task(task: Any, number: Mapping[str, Any]) -> None:
    if not isinstance(task, dict) or "to_number" not in task:
        raise _bad("to_number is required")
    _check(task, _TASK)
    if not re.fullmatch(r"\+[1-9][0-9]{6,14}", task["to_number"]) and not task.get("ignore_e164_validation"):
        raise _bad(f"to_number {task['to_number']} is not in E.164 format")
    if task.get("override_agent_id") not in {None, AGENT, OTHER_AGENT}:
        raise Refused(422, "Cannot find requested asset under given api key.")
    if "override_agent_id" not in task and not number["outbound_agents"]:
        raise _bad("No outbound agent is set up for this phone number")


def _digits(value: Any) -> bool:
    return str(value).isdigit() and 1 <= int(value) <= 1000


def _position(key: str) -> int:
    found = re.fullmatch(r"page_([0-9]+)", key)
    if found is None:
        raise _bad("pagination_key is not valid")
    return int(found[1])


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


async def _answer_refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
