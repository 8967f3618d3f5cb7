"""Vapi's single calls as its OpenAPI document (VapiAI/docs) and its pages on live control and concurrency say it.

Unknown members are refused, names are at most 40 characters, ids are UUIDs. The control address of a call is another
path of this server, and a request there that carries the account's key is refused: it belongs to nobody else.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.carriers.phones import E164, Phone, Phones, Refused

KEY = "5a0c1d7e-0000-4000-8000-0000000000aa"
NUMBER = "+14155550100"
NUMBER_ID = "c0ffee00-0000-4000-8000-000000000001"
FREE_NUMBER = "+14155550199"
FREE_NUMBER_ID = "c0ffee00-0000-4000-8000-000000000002"
ASSISTANT = "a5515700-0000-4000-8000-000000000001"
OTHER_ASSISTANT = "a5515700-0000-4000-8000-000000000002"
ORG = "0e600000-0000-4000-8000-000000000001"
CREATE = "/call"
OVER_LIMIT = "call.start.error-subscription-concurrency-limit-reached"
Check: TypeAlias = Callable[[Any], bool]
Full = Literal["refused", "blocked", "ended"]


def _name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 40


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_moment(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


_CREATE: Mapping[str, Check] = {
    "name": _name,
    "assistantId": _text,
    "phoneNumberId": _text,
    "customer": _object,
    "assistantOverrides": _object,
}
_CUSTOMER: Mapping[str, Check] = {
    "number": lambda value: _text(value) and E164.fullmatch(value) is not None,
    "name": _name,
    "externalId": _name,
    "extension": lambda value: _text(value) and len(value) <= 10,
}
_OVERRIDES: Mapping[str, Check] = {
    "variableValues": _object,
    "metadata": _object,
    "maxDurationSeconds": lambda value: isinstance(value, (int, float)) and 10 <= value <= 43_200,
}
_LIST: Mapping[str, Check] = {
    "id": _text,
    "assistantId": _text,
    "phoneNumberId": _text,
    "limit": lambda value: value.isdigit() and int(value) <= 1000,
    **{f"createdAt{bound}": _is_moment for bound in ("Gt", "Lt", "Ge", "Le")},
}
_ENDS = {
    "answered": "customer-ended-call",
    "short": "customer-ended-call",
    "no_answer": "customer-did-not-answer",
    "busy": "customer-busy",
    "voicemail": "voicemail",
    "failed": "twilio-failed-to-connect-call",
}


class Vapi(Phones):
    """`when_full`: how it says that no line is free, for the next create. `controlled`: what its live control heard."""

    def __init__(self) -> None:
        routes = [
            Route(CREATE, self._create, methods=["POST"]),
            Route(CREATE, self._list, methods=["GET"]),
            Route("/call/{id}", self._get, methods=["GET"]),
            Route("/phone-number", self._numbers, methods=["GET"]),
            Route("/assistant", self._assistants, methods=["GET"]),
            Route("/live/{id}/control", self._control, methods=["POST"]),
        ]
        super().__init__(routes, KEY, CREATE)
        self.when_full: Full | None = None
        self.controlled: list[Any] = []
        self.word_of_control = "manually-canceled"
        """How a call ends that its live control ended: no document says it."""
        self.before_control: Callable[[], None] | None = None
        """What happens between the last read of a call and what its live control is asked."""
        self.control_url: str | None = None
        """Another address for live control; None: on this server."""

    def error(self, status: int, message: str | list[str]) -> Any:
        """As its framework writes them."""
        return {"message": message, "error": "Bad Request", "statusCode": status}

    def free_a_line(self) -> None:
        """Whoever waits is rung."""
        for phone in self.phones.values():
            if phone.waits and phone.stopped is None:
                phone.waits, phone.asked = False, self.now
                self.rung.append((phone.number, self.now))

    async def _create(self, request: Request) -> Response:
        self.check_key(request)
        body = await self.json(request)
        self.take_fault()
        self._check(body, _CREATE, "")
        for name in ("assistantId", "phoneNumberId", "customer"):
            if name not in body:
                raise self._bad([f"{name} should not be empty"])
        self._check(body["customer"], _CUSTOMER, "customer.")
        self._check(body.get("assistantOverrides", {}), _OVERRIDES, "assistantOverrides.")
        if body["assistantId"] not in {ASSISTANT, OTHER_ASSISTANT}:
            raise self._bad(f"Couldn't find assistant for assistantId {body['assistantId']}.")
        if body["phoneNumberId"] not in {NUMBER_ID, FREE_NUMBER_ID}:
            raise self._bad(f"Couldn't find phone number for phoneNumberId {body['phoneNumberId']}.")
        full, self.when_full = self.when_full, None
        if full == "refused":
            raise self._bad("Over Concurrency Limit")
        phone = self.place(str(uuid.uuid4()), body, body["customer"]["number"], waits=full is not None)
        if full == "ended":
            phone.stopped, phone.word = self.now, OVER_LIMIT
        phone.more["control"] = self.control_url or f"{request.base_url}live/{phone.id}/control"
        limits = {"concurrencyBlocked": full == "blocked", "concurrencyLimit": 10, "remainingConcurrentCalls": 9}
        return JSONResponse({**self._row(phone, created=True), "subscriptionLimits": limits}, 201)

    async def _list(self, request: Request) -> Response:
        self.check_key(request)
        query = request.query_params
        self._check(query, _LIST, "")
        after, before = query.get("createdAtGe"), query.get("createdAtLe")
        found = [
            self._row(one)
            for one in reversed(self.phones.values())
            if query.get("phoneNumberId") in {None, one.body["phoneNumberId"]}
            and query.get("assistantId") in {None, one.body["assistantId"]}
            and (after is None or one.asked >= datetime.fromisoformat(after))
            and (before is None or one.asked <= datetime.fromisoformat(before))
        ]
        return JSONResponse(found[: int(query.get("limit", 100))])

    async def _get(self, request: Request) -> Response:
        self.check_key(request)
        return JSONResponse(self._row(self._phone(request)))

    async def _control(self, request: Request) -> Response:
        if "authorization" in request.headers:
            raise Refused(400, self.error(400, "no key belongs here"))
        phone = self._phone(request)
        body = await self.json(request)
        self.controlled.append(body)
        if self.before_control is not None:
            self.before_control()
        is_over = phone.stopped is not None or (not phone.waits and self.now >= phone.over)
        if body != {"type": "end-call"} or is_over:
            raise self._bad("The call is not active")
        phone.stopped, phone.word = self.now, self.word_of_control
        return Response(status_code=200)

    async def _numbers(self, request: Request) -> Response:
        self.check_key(request)
        self._check(request.query_params, {"limit": _LIST["limit"]}, "")
        common = {"orgId": ORG, "createdAt": _iso(self.now), "updatedAt": _iso(self.now), "status": "active"}
        own = {"id": NUMBER_ID, "provider": "twilio", "number": NUMBER, "name": "Main line", "twilioAccountSid": "AC1"}
        free = {"id": FREE_NUMBER_ID, "provider": "vapi", "number": FREE_NUMBER, "name": "Free"}
        sip = {"id": "c0ffee00-0000-4000-8000-000000000003", "provider": "vapi", "sipUri": "sip:a@sip.vapi.ai"}
        return JSONResponse([{**own, **common}, {**free, **common}, {**sip, **common}])

    async def _assistants(self, request: Request) -> Response:
        self.check_key(request)
        self._check(request.query_params, {"limit": _LIST["limit"]}, "")
        common = {"orgId": ORG, "createdAt": _iso(self.now), "updatedAt": _iso(self.now)}
        first = {"id": ASSISTANT, "name": "Reminder", "firstMessage": "Hello {{name}}."}
        return JSONResponse([{**first, **common}, {"id": OTHER_ASSISTANT, **common}])

    def _phone(self, request: Request) -> Phone:
        found = self.phones.get(request.path_params["id"])
        if found is None:
            raise Refused(404, {"message": "Couldn't find call.", "error": "Not Found", "statusCode": 404})
        return found

    def _check(self, given: Mapping[str, Any], known: Mapping[str, Check], prefix: str) -> None:
        unknown = [name for name in given if name not in known]
        if unknown:
            raise self._bad([f"{prefix}property {name} should not exist" for name in unknown])
        wrong = [name for name, value in given.items() if not known[name](value)]
        if wrong:
            raise self._bad([f"{prefix}{name} is not valid" for name in wrong])

    def _bad(self, message: str | list[str]) -> Refused:
        return Refused(400, self.error(400, message))

    def _row(self, phone: Phone, *, created: bool = False) -> dict[str, Any]:
        more = dict(phone.more)
        control = more.pop("control", None)
        row: dict[str, Any] = {
            "id": phone.id,
            "orgId": ORG,
            "type": "outboundPhoneCall",
            "createdAt": _iso(phone.asked),
            "updatedAt": _iso(phone.asked),
            "status": "queued",
            **{name: phone.body[name] for name in _CREATE if name in phone.body},
            "monitor": {"listenUrl": "wss://live.example/listen", **({"controlUrl": control} if control else {})},
        }
        if created:
            return row
        if not phone.waits:
            row["phoneCallProviderId"] = f"CA{phone.id}"
        is_over = phone.stopped is not None or (not phone.waits and self.now >= phone.over)
        if not is_over:
            if not phone.waits and self.now > phone.asked:
                row["status"] = "ringing" if self.now < phone.answered else "in-progress"
            return row
        row |= {"status": "ended", "endedReason": phone.word or _ENDS[phone.end], "endedAt": _iso(phone.over)}
        if phone.waits or not phone.talked:
            return row | {"cost": 0} | more
        messages = [
            {"role": "system", "message": "You remind people.", "time": 0, "endTime": 0, "secondsFromStart": 0},
            {"role": "bot", "message": "Hello, this is a reminder.", "time": 1, "endTime": 2, "secondsFromStart": 0.5},
            {"role": "user", "message": "Thank you.", "time": 3, "endTime": 4, "secondsFromStart": 2.25},
        ]
        said = {"messages": messages, "transcript": "AI: Hello, this is a reminder.\nUser: Thank you.\n"}
        row |= {
            "startedAt": _iso(phone.answered),
            "cost": 0.1234,
            "analysis": {"summary": "They were reminded."},
            "artifact": {**said, "recordingUrl": "https://storage.vapi.ai/recording.wav"},
        }
        return row | more


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
