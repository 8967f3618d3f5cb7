"""Twilio's calls, one by one, as its OpenAPI document and its pages describe them; SignalWire's by another base.

Sources: twilio/twilio-oai spec/json/twilio_api_v2010.json @d50069b, twilio.com/docs/{voice/api/call-resource,
iam/test-credentials,errors}. Where the documents leave something open, this simulator takes the reading that dials.
Parameters that no document names are refused. A call takes one step each time it is read, so no test waits for time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element, ParseError, fromstring

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.vendors.serving import Recorded, Recording, Simulated

KEY: Final = "AC0123456789abcdef0123456789abcdef"
SECRET: Final = "0123456789abcdef0123456789abcdef"
NUMBER: Final = "+14155550100"
SMS_NUMBER: Final = "+14155550101"
CALLER_ID: Final = "+14155550102"
"""Verified, not bought."""
FORM: Final = "application/x-www-form-urlencoded"

Fields: TypeAlias = Mapping[str, Sequence[str]]
Check: TypeAlias = Callable[[str], bool]


def _any(value: str) -> bool:
    return bool(value)


def _one_of(*values: str) -> Check:
    return lambda value: value in values


def _whole(least: int, most: int) -> Check:
    return lambda value: value.isascii() and value.isdigit() and least <= int(value) <= most


def _url(value: str) -> bool:
    return value.startswith(("http://", "https://"))


_METHOD = _one_of("GET", "POST")
_CREATE: Mapping[str, Check] = {
    **dict.fromkeys(("To", "From", "Twiml", "ApplicationSid", "SendDigits", "Byoc", "CallReason", "CallerId"), _any),
    **dict.fromkeys(("CallToken", "SipAuthUsername", "SipAuthPassword", "RecordingChannels", "Trim"), _any),
    **dict.fromkeys(
        ("Url", "FallbackUrl", "StatusCallback", "AsyncAmdStatusCallback", "RecordingStatusCallback"), _url
    ),
    **dict.fromkeys(("Method", "FallbackMethod", "StatusCallbackMethod", "AsyncAmdStatusCallbackMethod"), _METHOD),
    "StatusCallbackEvent": _one_of("initiated", "ringing", "answered", "completed"),
    "Timeout": _whole(1, 600),
    "TimeLimit": _whole(1, 86400),
    "MachineDetection": _one_of("Enable", "DetectMessageEnd"),
    "MachineDetectionTimeout": _whole(3, 59),
    "AsyncAmd": _one_of("true", "false"),
    "Record": _one_of("true", "false"),
}
_UPDATE: Mapping[str, Check] = {
    **dict.fromkeys(("Url", "FallbackUrl", "StatusCallback"), _url),
    **dict.fromkeys(("Method", "FallbackMethod", "StatusCallbackMethod"), _METHOD),
    "Status": _one_of("canceled", "completed"),
    "Twiml": _any,
    "TimeLimit": _whole(1, 86400),
}
_PAGE: Mapping[str, Check] = {"PageSize": _whole(1, 1000), "Page": _whole(0, 1_000_000), "PageToken": _any}
_STATUSES = ("queued", "ringing", "in-progress", "canceled", "completed", "failed", "busy", "no-answer")
_LIST: Mapping[str, Check] = {
    **_PAGE,
    **dict.fromkeys(("To", "From", "ParentCallSid"), _any),
    **dict.fromkeys(("StartTime", "StartTime<", "StartTime>", "EndTime", "EndTime<", "EndTime>"), _any),
    "Status": _one_of(*_STATUSES),
}
_NUMBERS: Mapping[str, Check] = {**_PAGE, **dict.fromkeys(("FriendlyName", "PhoneNumber", "Origin", "Beta"), _any)}
_REPEATED = frozenset({"StatusCallbackEvent"})
_VERBS: Mapping[str, frozenset[str]] = {
    "Response": frozenset({"Say", "Play", "Pause", "Gather", "Dial", "Connect", "Hangup"}),
    "Gather": frozenset({"Say", "Play", "Pause"}),
    "Dial": frozenset({"Sip", "Number"}),
    "Connect": frozenset({"Stream"}),
    "Stream": frozenset({"Parameter"}),
}
"""By the name of an element: what can be in it."""
_BY_TEST_NUMBER: Mapping[str, int] = {
    "+15005550001": 21217,
    "+15005550002": 21214,
    "+15005550003": 21215,
    "+15005550004": 21216,
}
_ENDED = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
_ON_THE_WAY = ("queued", "ringing", "in-progress")


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        body = {
            "code": code,
            "message": message,
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": status,
        }
        self.response = JSONResponse(body, status, headers=dict(headers or {}))


@dataclass
class Call:
    """One leg. `path`: the states that it still goes through, the last one stays."""

    sid: str
    to: str
    from_: str
    created: datetime
    path: list[str]
    fields: Fields = field(default_factory=dict)
    parent: str | None = None
    answered_by: str | None = None
    duration: int = 0
    price: str | None = None
    error_code: str | None = None
    unseen: int = 0

    @property
    def status(self) -> str:
        """As it is now."""
        return self.path[0]

    @property
    def document(self) -> Element:
        """What the phone hears."""
        return fromstring(self.fields["Twiml"][0])

    def step(self) -> None:
        """What happens until the next read."""
        if len(self.path) > 1:
            self.path.pop(0)


@dataclass
class Fault:
    """What the next create is answered with. `performed`: the call is placed nevertheless."""

    status: int
    code: int
    headers: Mapping[str, str]
    performed: bool


class Twilio(Simulated):
    """`rung`: whose phone rang, and when. Phones by their last digit: 0-3 and 5 answered, 4 short, 6 no answer the
    first time, 7 busy, 8 a machine, 9 failed, with `error_code`.

    `agent`: how the leg to a SIP agent ends; None: there is none. `lag`: in so many lists a new call is not seen yet.
    `is_quick`: a call is over at its first read. `reads_…`: the HTTP status of such a list. `written`: how a moment is.
    `prefix`, `key`: SignalWire has others.
    """

    def __init__(
        self,
        *,
        key: str = KEY,
        secret: str = SECRET,
        prefix: str = "",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_id: Callable[[], str] = lambda: f"CA{uuid.uuid4().hex}",
    ) -> None:
        self.key, self.secret, self.prefix = key, secret, prefix
        self.clock = clock
        self.new_id = new_id
        self.number = NUMBER
        self.calls: dict[str, Call] = {}
        self.rung: list[tuple[str, datetime]] = []
        self.agent: str | None = "completed"
        self.error_code: str | None = None
        self.lag = 0
        self.is_quick = False
        self.reads_numbers = 200
        self.reads_caller_ids = 200
        self.reads_notifications = 200
        self.price: str | None = "-0.0140"
        self.faults: list[Fault] = []
        self.bought = [(NUMBER, "Main line", True), (SMS_NUMBER, "Texts", False)]
        self.url = ""
        self.written: Callable[[datetime], str | None] = format_datetime
        account = f"{prefix}/2010-04-01/Accounts/{{account}}"
        self.recording = Recording(
            Starlette(
                routes=[
                    Route(f"{account}/Calls.json", self._create, methods=["POST"]),
                    Route(f"{account}/Calls.json", self._list, methods=["GET"]),
                    Route(f"{account}/Calls/{{sid}}.json", self._update, methods=["POST"]),
                    Route(f"{account}/Calls/{{sid}}.json", self._read, methods=["GET"]),
                    Route(f"{account}/Calls/{{sid}}/Notifications.json", self._notifications, methods=["GET"]),
                    Route(f"{account}/Calls/{{sid}}/Recordings.json", self._recordings, methods=["GET"]),
                    Route(f"{account}/IncomingPhoneNumbers.json", self._numbers, methods=["GET"]),
                    Route(f"{account}/OutgoingCallerIds.json", self._caller_ids, methods=["GET"]),
                    Route(f"{account}.json", self._account, methods=["GET"]),
                ],
                exception_handlers={Refused: _answer_refusal},
            ),
            lambda one: one.method == "POST",
        )

    @property
    def creates(self) -> list[Recorded]:
        """Every request for a call, also a refused one."""
        return [one for one in self.requests if one.method == "POST" and one.path.endswith("/Calls.json")]

    def fault(
        self, status: int, code: int = 20500, *, retry_after: int | None = None, performed: bool = False, times: int = 1
    ) -> None:
        """Answer the next creates like this."""
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        self.faults += [Fault(status, code, headers, performed)] * times

    def drop_create_answer(self) -> None:
        """The next call is placed, and its answer breaks off."""
        self.recording.swallow_next_write = True

    def signature(self, url: str, fields: Mapping[str, str]) -> str:
        """Of a webhook with these POST parameters."""
        signed = url + "".join(f"{name}{fields[name]}" for name in sorted(fields))
        return base64.b64encode(hmac.new(self.secret.encode(), signed.encode(), hashlib.sha1).digest()).decode()

    def place(self, to: str, from_: str = NUMBER, fields: Fields | None = None) -> Call:
        """A call, as a create places it."""
        rung_before = sum(number == to for number, _ in self.rung)
        word, answered_by, duration = _phone(to, rung_before)
        has_detection = "MachineDetection" in (fields or {})
        call = Call(
            sid=self.new_id(),
            to=to,
            from_=from_,
            created=self.clock(),
            path=[*(_ON_THE_WAY if word == "completed" else _ON_THE_WAY[:2]), word],
            fields=fields or {},
            answered_by=answered_by if has_detection else None,
            duration=duration,
            price=self.price if word == "completed" else None,
            error_code=self.error_code if word == "failed" else None,
            unseen=self.lag,
        )
        if self.is_quick:
            call.path = ["queued", word]
        self.calls[call.sid] = call
        self.rung.append((to, call.created))
        if word == "completed" and self.agent is not None and "Twiml" in call.fields:
            for sip in call.document.iter("Sip"):
                leg = Call(self.new_id(), sip.text or "", from_, call.created, [self.agent], parent=call.sid)
                self.calls[leg.sid] = leg
        return call

    async def _create(self, request: Request) -> Response:
        self._authenticate(request)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and not fault.performed:
            raise Refused(fault.status, fault.code, "A fault", fault.headers)
        fields = await _form(request, _CREATE)
        to, from_ = (fields.get(name, [""])[0] for name in ("To", "From"))
        if not to or not from_:
            raise Refused(400, 21201 if not to else 21213, "No 'To' or 'From' number is specified")
        if not _is_e164(to):
            raise Refused(400, 21211, f"The phone number you are attempting to call, {to}, is not valid.")
        if to in _BY_TEST_NUMBER:
            raise Refused(400, _BY_TEST_NUMBER[to], f"{to} cannot be called.")
        if from_ not in {NUMBER, CALLER_ID}:
            raise Refused(
                400, 21210, f"The source phone number provided, {from_}, is not yet verified for your account."
            )
        if sum(name in fields for name in ("Twiml", "Url", "ApplicationSid")) != 1:
            raise Refused(400, 21205, "Url parameter is required.")
        _check_twiml(fields["Twiml"][0])
        call = self.place(to, from_, fields)
        if fault is not None:
            raise Refused(fault.status, fault.code, "A fault", fault.headers)
        return JSONResponse(self._shown(call), 201)

    async def _list(self, request: Request) -> Response:
        self._authenticate(request)
        query = _checked(request.query_params.multi_items(), _LIST)
        wanted = {"To": "to", "From": "from_", "ParentCallSid": "parent", "Status": "status"}
        found = [
            call
            for call in reversed(self.calls.values())
            if all(getattr(call, wanted[name]) == value[0] for name, value in query.items() if name in wanted)
        ]
        seen = [call for call in found if not call.unseen]
        for call in found:
            call.unseen = max(call.unseen - 1, 0)
        return self._page("calls", [self._shown(call) for call in seen], query, request.url.path)

    async def _read(self, request: Request) -> Response:
        call = self._call(request)
        _checked(request.query_params.multi_items(), {})
        call.step()
        return JSONResponse(self._shown(call))

    async def _update(self, request: Request) -> Response:
        call = self._call(request)
        fields = await _form(request, _UPDATE)
        asked = fields.get("Status", [None])[0]
        if call.status in _ENDED:
            raise Refused(400, 21220, "Call is not in-progress. Cannot redirect.")
        if asked == "canceled" and call.status not in {"queued", "ringing"}:
            raise Refused(400, 21220, "Call is in-progress. Cannot cancel.")
        if asked is not None:
            call.path = [asked]
        return JSONResponse(self._shown(call))

    async def _notifications(self, request: Request) -> Response:
        call = self._call(request)
        if self.reads_notifications != 200:
            raise Refused(self.reads_notifications, 20404, "The requested resource was not found")
        query = _checked(request.query_params.multi_items(), {**_PAGE, "Log": _one_of("0", "1")})
        found = [
            {
                "sid": f"NO{uuid.uuid4().hex}",
                "call_sid": call.sid,
                "error_code": code,
                "log": "0",
                "message_date": format_datetime(call.created),
                "message_text": f"ErrorCode={code}&LogLevel=ERROR&Msg=Dial%3A+Invalid+phone+number",
                "more_info": f"https://www.twilio.com/docs/errors/{code}",
                "request_url": "",
            }
            for code in filter(None, [call.error_code])
        ]
        return self._page("notifications", found, query, request.url.path)

    async def _recordings(self, request: Request) -> Response:
        call = self._call(request)
        query = _checked(request.query_params.multi_items(), _PAGE)
        return self._page("recordings", [{"sid": f"RE{'0' * 32}", "call_sid": call.sid}], query, request.url.path)

    async def _numbers(self, request: Request) -> Response:
        self._authenticate(request)
        if self.reads_numbers != 200:
            raise Refused(self.reads_numbers, 20008, "Resource not accessible with Test Account Credentials")
        query = _checked(request.query_params.multi_items(), _NUMBERS)
        found = [
            {"phone_number": number, "friendly_name": name, "capabilities": {"voice": voice, "sms": True, "mms": False}}
            for number, name, voice in self.bought
        ]
        return self._page("incoming_phone_numbers", found, query, request.url.path)

    async def _caller_ids(self, request: Request) -> Response:
        self._authenticate(request)
        if self.reads_caller_ids != 200:
            raise Refused(self.reads_caller_ids, 20404, "The requested resource was not found")
        query = _checked(request.query_params.multi_items(), {**_PAGE, "FriendlyName": _any, "PhoneNumber": _any})
        found = [{"phone_number": CALLER_ID, "friendly_name": "(415) 555-0102"}]
        return self._page("outgoing_caller_ids", found, query, request.url.path)

    async def _account(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse({"sid": self.key, "friendly_name": "Clinic", "status": "active", "type": "Full"})

    def _page(self, name: str, found: list[dict[str, Any]], query: Fields, path: str) -> Response:
        size = int(query.get("PageSize", ["50"])[0])
        page = int(query.get("Page", ["0"])[0])
        if page and "PageToken" not in query:
            raise Refused(400, 20001, "Page without PageToken")
        more = (page + 1) * size < len(found)
        following = f"{path}?PageSize={size}&Page={page + 1}&PageToken=PA{page + 1}"
        answer = {
            name: found[page * size : (page + 1) * size],
            "page": page,
            "page_size": size,
            "next_page_uri": following if more else None,
            "previous_page_uri": None,
            "uri": path,
        }
        return JSONResponse(answer)

    def _call(self, request: Request) -> Call:
        self._authenticate(request)
        found = self.calls.get(request.path_params["sid"])
        if found is None:
            raise Refused(404, 20404, f"The requested resource {request.url.path} was not found")
        return found

    def _authenticate(self, request: Request) -> None:
        basic = base64.b64encode(f"{self.key}:{self.secret}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {basic}":
            raise Refused(401, 20003, "Authenticate")
        if request.path_params["account"] != self.key:
            raise Refused(404, 20404, f"The requested resource {request.url.path} was not found")

    def _shown(self, call: Call) -> dict[str, Any]:
        is_over = call.status in _ENDED
        was_answered = call.status in {"in-progress", "completed"}
        return {
            "sid": call.sid,
            "account_sid": self.key,
            "to": call.to,
            "from": call.from_,
            "parent_call_sid": call.parent,
            "direction": "outbound-api" if call.parent is None else "outbound-dial",
            "status": call.status,
            "answered_by": call.answered_by if was_answered else None,
            "duration": str(call.duration if call.status == "completed" else 0) if is_over else None,
            "price": call.price if is_over else None,
            "price_unit": "USD",
            "queue_time": "0",
            "date_created": self.written(call.created),
            "date_updated": format_datetime(call.created),
            "start_time": None if call.status == "queued" else format_datetime(call.created),
            "end_time": format_datetime(call.created) if is_over else None,
            "api_version": "2010-04-01",
        }


def _phone(number: str, rung_before: int) -> tuple[str, str, int]:
    """The last status of a call, who answers if somebody looks, and its length in seconds."""
    if number[-1] == "6":
        return ("completed" if rung_before else "no-answer"), "human", 20
    return {
        "4": ("completed", "human", 3),
        "5": ("completed", "unknown", 100),
        "7": ("busy", "human", 0),
        "8": ("completed", "machine_start", 8),
        "9": ("failed", "human", 0),
    }.get(number[-1], ("completed", "human", 20))


async def _form(request: Request, known: Mapping[str, Check]) -> Fields:
    """A form: JSON and multipart are not read."""
    if request.headers.get("content-type", "").partition(";")[0] != FORM:
        raise Refused(415, 20415, "Unsupported media type")
    body = (await request.body()).decode("ascii")
    return _checked(parse_qsl(body, keep_blank_values=True, strict_parsing=True) if body else [], known)


def _checked(pairs: Sequence[tuple[str, str]], known: Mapping[str, Check]) -> Fields:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in known or not known[name](value) or (name in found and name not in _REPEATED):
            raise Refused(400, 20001, f"{name} is not valid")
        found.setdefault(name, []).append(value)
    return found


def _check_twiml(text: str) -> None:
    if len(text) > 4000:
        raise Refused(400, 32018, "Twiml size exceeded maximum allowed value of 4000 characters")
    try:
        document = fromstring(text)
    except ParseError as error:
        raise Refused(400, 12100, "Document parse failure") from error
    for element in document.iter():
        if any(child.tag not in _VERBS.get(element.tag, ()) for child in element):
            raise Refused(400, 12200, "Schema validation warning")
    if document.tag != "Response" or any(not one.get("action") for one in document.iter("Gather")):
        raise Refused(400, 12200, "Schema validation warning")


def _is_e164(number: str) -> bool:
    return number[:1] == "+" and number[1:].isascii() and number[1:].isdigit() and 7 <= len(number) - 1 <= 15


async def _answer_refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
