"""Vapi's campaigns (v2) as its OpenAPI document and its guide describe them.

Sources: VapiAI/docs, `fern/apis/api/openapi.json` and `fern/campaigns/{overview,advanced}.mdx`; vapi_server_sdk 3.0.0.
Where they leave something open, this simulator takes the reading that dials.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.vendors.serving import Recording, Simulated

KEY = "5a0c1d7e-0000-4000-8000-0000000000aa"
NUMBER = "+14155550100"
NUMBER_ID = "c0ffee00-0000-4000-8000-000000000001"
FREE_NUMBER_ID = "c0ffee00-0000-4000-8000-000000000002"
ASSISTANT = "a5515700-0000-4000-8000-000000000001"
OTHER_ASSISTANT = "a5515700-0000-4000-8000-000000000002"
ORG = "0e600000-0000-4000-8000-000000000001"
MOST_CUSTOMERS = 10_000
MOST_AT_ONCE = 500
ORG_AT_ONCE = 50
"""The concurrency limit of this organization."""

Check: TypeAlias = Callable[[Any], bool]
Outcomes: TypeAlias = Mapping[str, str]

_ENDINGS = {
    "completed": ("contact.completed", "customer-ended-call"),
    "no_answer": ("contact.completed", "customer-did-not-answer"),
    "busy": ("contact.completed", "customer-busy"),
    "voicemail": ("contact.completed", "voicemail"),
    "failed": ("contact.failed", "twilio-failed-to-connect-call"),
    "skipped": ("contact.skipped", None),
}
"""By the words of our TaskStatus. A call that nobody answered has ended: its contact is completed."""
_COUNTED = {
    "contact.pending": "pending",
    "contact.dispatched": "dispatched",
    "contact.completed": "completed",
    "contact.failed": "failed",
    "contact.skipped": "skipped",
    "contact.predial-failed": "predialFailed",
}
_STATUSES = ("scheduled", "in-progress", "ended", "cancelled", "archived")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _count(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1


_CREATE: Mapping[str, Check] = {
    "name": lambda value: _text(value) and bool(value),
    "assistantId": _text,
    "workflowId": _text,
    "squadId": _text,
    "phoneNumberId": _text,
    "dialPlan": lambda value: isinstance(value, list),
    "schedulePlan": _object,
    "customers": lambda value: isinstance(value, list) and 1 <= len(value) <= MOST_CUSTOMERS,
    "maxConcurrency": lambda value: _count(value) and value <= MOST_AT_ONCE,
    "assistantOverrides": _object,
    "squadOverrides": _object,
    "server": _object,
    "serverMessages": lambda value: isinstance(value, list),
    "predialPlan": _object,
    "duplicateFromCampaignId": _text,
}
_CUSTOMER: Mapping[str, Check] = {
    "numberE164CheckEnabled": lambda value: isinstance(value, bool),
    "extension": lambda value: _text(value) and len(value) <= 10,
    "assistantOverrides": _object,
    "squadOverrides": _object,
    "number": lambda value: _text(value) and re.fullmatch(r"\+[1-9][0-9]{6,14}", value) is not None,
    "sipUri": _text,
    "name": lambda value: _text(value) and len(value) <= 40,
    "email": lambda value: _text(value) and len(value) <= 40,
    "externalId": lambda value: _text(value) and len(value) <= 40,
}
_LIST: Mapping[str, Check] = {
    "id": _text,
    "status": lambda value: value in _STATUSES,
    "includeCounters": lambda value: value in {"true", "false"},
    "page": lambda value: value.isdigit() and int(value) >= 1,
    "sortOrder": lambda value: value in {"ASC", "DESC"},
    "sortBy": lambda value: value in {"createdAt", "duration", "cost"},
    "limit": lambda value: value.isdigit() and int(value) <= 1000,
    **{
        f"{name}{bound}": lambda value: _moment(value) is not None
        for name in ("createdAt", "updatedAt")
        for bound in ("Gt", "Lt", "Ge", "Le")
    },
}
_CONTACTS: Mapping[str, Check] = {
    "status": lambda value: value in _COUNTED,
    "limit": lambda value: value.isdigit() and 1 <= int(value) <= 1000,
    "sortBy": lambda value: value in {"position", "status"},
    "page": lambda value: value.isdigit() and int(value) >= 1,
}


class Refused(Exception):
    """An error answer, as NestJS writes it."""

    def __init__(self, status: int, message: str | list[str], error: str) -> None:
        super().__init__(str(message))
        self.response = JSONResponse({"message": message, "error": error, "statusCode": status}, status)


def _bad(*messages: str) -> Refused:
    return Refused(400, list(messages), "Bad Request")


@dataclass
class Contact:
    """Somebody of a campaign. Overrides are dialled with, and never come back."""

    id: str
    customer: Mapping[str, Any]
    status: str = "contact.pending"
    call_id: str | None = None
    dispatched: datetime | None = None
    ended_reason: str | None = None


@dataclass
class Campaign:
    """A campaign as it is stored. `word` is a status that it is made to report."""

    id: str
    body: Mapping[str, Any]
    created: datetime
    updated: datetime
    status: str = "scheduled"
    ended_reason: str | None = None
    contacts: list[Contact] = field(default_factory=list)
    archived: bool = False
    word: str | None = None


class Vapi(Simulated):
    """`dialled` is whom it would call, in order. Nothing happens by itself: `tick` moves time, `finish` ends calls."""

    key = KEY
    secret: str | None = None
    from_number = NUMBER
    agent_id = ASSISTANT

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.campaigns: dict[str, Campaign] = {}
        self.calls: dict[str, dict[str, Any]] = {}
        self.dialled: list[str] = []
        self.has_campaigns = True
        """Whether the organization was given campaigns of the second version."""
        self.recording = Recording(
            Starlette(
                routes=[
                    Route("/v2/campaign", self._create, methods=["POST"]),
                    Route("/v2/campaign", self._list, methods=["GET"]),
                    Route("/v2/campaign/{id}", self._get, methods=["GET"]),
                    Route("/v2/campaign/{id}", self._update, methods=["PATCH"]),
                    Route("/v2/campaign/{id}", self._delete, methods=["DELETE"]),
                    Route("/v2/campaign/{id}/contacts", self._contacts, methods=["GET"]),
                    Route("/phone-number", self._numbers, methods=["GET"]),
                    Route("/assistant", self._assistants, methods=["GET"]),
                    Route("/call/{id}", self._call, methods=["GET"]),
                ],
                exception_handlers={Refused: _answer_refusal},
            ),
            lambda one: one.method != "GET",
        )

    def batch_ids(self) -> list[str]:
        """Every campaign, the oldest first."""
        return list(self.campaigns)

    def tick(self, now: datetime) -> None:
        """Move its time; the dispatcher runs once."""
        self.now = now
        for campaign in self.campaigns.values():
            self._dispatch(campaign)

    def finish(self, batch_id: str, outcomes: Outcomes | None = None, otherwise: str = "completed") -> None:
        """End every call, and those that follow as lines become free; then the campaign is over."""
        campaign = self.campaigns[batch_id]
        while live := [one for one in campaign.contacts if one.status == "contact.dispatched"]:
            for contact in live:
                self._end(campaign, contact, (outcomes or {}).get(contact.customer["number"], otherwise))
            self._dispatch(campaign)

    def say_status(self, batch_id: str, word: str) -> None:
        """From now on it reports this status, whatever the campaign does."""
        self.campaigns[batch_id].word = word

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """From now on this contact has this status."""
        for contact in self.campaigns[batch_id].contacts:
            if contact.customer["number"] == number:
                contact.status = word

    def _end(self, campaign: Campaign, contact: Contact, outcome: str) -> None:
        contact.status, contact.ended_reason = _ENDINGS[outcome]
        talked = outcome in {"completed", "voicemail"}
        began = contact.dispatched or self.now
        messages = [
            {"role": "system", "message": "You remind people.", "time": 0, "endTime": 0, "secondsFromStart": 0},
            {"role": "bot", "message": "Hello, this is a reminder.", "time": 1, "endTime": 2, "secondsFromStart": 0.5},
            {"role": "user", "message": "Thank you.", "time": 3, "endTime": 4, "secondsFromStart": 2.25},
        ]
        self.calls[str(contact.call_id)] = {
            "id": contact.call_id,
            "orgId": ORG,
            "type": "outboundPhoneCall",
            "campaignId": campaign.id,
            "assistantId": campaign.body.get("assistantId"),
            "phoneNumberId": campaign.body.get("phoneNumberId"),
            "customer": dict(contact.customer),
            "status": "ended",
            "endedReason": contact.ended_reason,
            "createdAt": _iso(began),
            "updatedAt": _iso(began + timedelta(seconds=95)),
            "startedAt": _iso(began + timedelta(seconds=5)) if talked else None,
            "endedAt": _iso(began + timedelta(seconds=95)),
            "cost": 0.1234 if talked else 0,
            "costs": [],
            "analysis": {"summary": "They were reminded.", "structuredData": {"reached": True}} if talked else {},
            "artifact": {
                "messages": messages if talked else [],
                "transcript": "AI: Hello, this is a reminder.\nUser: Thank you.\n" if talked else "",
                **({"recordingUrl": "https://storage.vapi.ai/recording.wav"} if talked else {}),
            },
        }

    def _dispatch(self, campaign: Campaign) -> None:
        """Keep up to maxConcurrency calls alive, from earliestAt on and until latestAt; end what is all called."""
        plan = campaign.body.get("schedulePlan") or {}
        earliest, latest = _moment(plan.get("earliestAt")), _moment(plan.get("latestAt"))
        if campaign.status not in {"scheduled", "in-progress"} or (earliest is not None and earliest > self.now):
            return
        campaign.status = "in-progress"
        over = latest is not None and self.now > latest
        live = sum(one.status == "contact.dispatched" for one in campaign.contacts)
        for contact in campaign.contacts:
            if not over and contact.status == "contact.pending" and live < campaign.body["maxConcurrency"]:
                contact.status, contact.dispatched, contact.call_id = "contact.dispatched", self.now, str(uuid.uuid4())
                self.dialled.append(contact.customer["number"])
                live += 1
        if not live and (over or all(one.status != "contact.pending" for one in campaign.contacts)):
            campaign.status, campaign.ended_reason = "ended", "campaign.ended.success"
            campaign.updated = self.now

    async def _create(self, request: Request) -> Response:
        self._authenticate(request)
        body = await _json(request)
        _check(body, _CREATE)
        missing = [one for one in ("name", "phoneNumberId", "customers", "maxConcurrency") if one not in body]
        if "duplicateFromCampaignId" in body:
            missing = [one for one in missing if one == "name"]
        if missing:
            raise _bad(*(f"{one} should not be null or undefined" for one in missing))
        if sum(one in body for one in ("assistantId", "squadId", "workflowId")) != 1:
            raise _bad("exactly one of assistantId, squadId or workflowId must be provided")
        if body.get("assistantId") not in {None, ASSISTANT, OTHER_ASSISTANT}:
            raise Refused(400, f"Couldn't find assistant {body['assistantId']}.", "Bad Request")
        if body["phoneNumberId"] == FREE_NUMBER_ID:
            raise Refused(400, "Vapi numbers cannot be used for campaigns.", "Bad Request")
        if body["phoneNumberId"] != NUMBER_ID:
            raise Refused(400, f"Couldn't find phone number {body['phoneNumberId']}.", "Bad Request")
        if body["maxConcurrency"] > ORG_AT_ONCE:
            raise _bad(f"maxConcurrency must not be greater than your concurrency limit of {ORG_AT_ONCE}")
        _check_plan(body.get("schedulePlan"))
        for at, customer in enumerate(body["customers"]):
            _check_customer(customer, f"customers.{at}.")
        created = self.now + timedelta(milliseconds=len(self.campaigns))
        campaign = Campaign(str(uuid.uuid4()), body, created, created)
        campaign.contacts = [Contact(str(uuid.uuid4()), customer) for customer in body["customers"]]
        self.campaigns[campaign.id] = campaign
        answer = _campaign(campaign)  # it is still `scheduled`: about to start dialling
        self._dispatch(campaign)
        return JSONResponse(answer, 201)

    async def _list(self, request: Request) -> Response:
        self._authenticate(request)
        query = request.query_params
        _check(query, _LIST)
        after = _moment(query.get("createdAtGt"))
        found = [
            one
            for one in self.campaigns.values()
            if not one.archived
            and query.get("status") in {None, one.word or one.status}
            and query.get("id") in {None, one.id}
            and (after is None or one.created > after)
        ]
        if query.get("sortOrder", "DESC") == "DESC":
            found.reverse()
        rows = [_summary(one, counted=query.get("includeCounters") == "true") for one in found]
        return JSONResponse(_page(rows, query, 100))

    async def _get(self, request: Request) -> Response:
        campaign = self._campaign(request)
        _check(request.query_params, {"includeCounters": _LIST["includeCounters"]})
        return JSONResponse(_summary(campaign, counted=request.query_params.get("includeCounters") == "true"))

    async def _update(self, request: Request) -> Response:
        campaign = self._campaign(request)
        body = await _json(request)
        if set(body) != {"status"}:
            raise _bad("Campaigns are immutable after creation; only status can be updated")
        if body["status"] not in {"cancelled", "ended"}:
            raise _bad("status must be one of the following values: ended, cancelled")
        if campaign.status not in {"scheduled", "in-progress"}:
            raise Refused(400, f"Campaign is already {campaign.status}.", "Bad Request")
        self._cancel(campaign)
        return JSONResponse(_campaign(campaign))

    async def _delete(self, request: Request) -> Response:
        campaign = self._campaign(request)
        if campaign.status in {"scheduled", "in-progress"}:
            self._cancel(campaign)
        campaign.archived, campaign.updated = True, self.now
        return JSONResponse({**_campaign(campaign), "status": "archived"})

    def _cancel(self, campaign: Campaign) -> None:
        """Contacts that were not dialled stay as they are: no document says that their status changes."""
        campaign.ended_reason = f"campaign.{campaign.status}.ended-by-user"
        campaign.status, campaign.updated = "cancelled", self.now

    async def _contacts(self, request: Request) -> Response:
        campaign = self._campaign(request)
        query = request.query_params
        _check(query, {name: check for name, check in _CONTACTS.items() if name != "status"}, also={"status"})
        wanted = query.getlist("status")
        if not all(_CONTACTS["status"](one) for one in wanted):
            raise _bad(f"each value in status must be one of the following values: {', '.join(_COUNTED)}")
        rows = [_contact(one) for one in campaign.contacts if not wanted or one.status in wanted]
        return JSONResponse(_page(rows, query, 50))

    async def _numbers(self, request: Request) -> Response:
        self._authenticate(request)
        _check(request.query_params, {name: _LIST[name] for name in ("limit", "createdAtLt", "createdAtGt")})
        common = {"orgId": ORG, "createdAt": _iso(self.now), "updatedAt": _iso(self.now), "status": "active"}
        own = {"id": NUMBER_ID, "provider": "twilio", "number": NUMBER, "name": "Main line", "twilioAccountSid": "AC1"}
        free = {"id": FREE_NUMBER_ID, "provider": "vapi", "number": "+14155550199", "name": "Free"}
        sip = {"id": "c0ffee00-0000-4000-8000-000000000003", "provider": "vapi", "sipUri": "sip:a@sip.vapi.ai"}
        return JSONResponse([{**own, **common}, {**free, **common}, {**sip, **common}])

    async def _assistants(self, request: Request) -> Response:
        self._authenticate(request)
        _check(request.query_params, {name: _LIST[name] for name in ("limit", "createdAtLt", "createdAtGt")})
        common = {"orgId": ORG, "createdAt": _iso(self.now), "updatedAt": _iso(self.now)}
        first = {"id": ASSISTANT, "name": "Reminder", "firstMessage": "Hello {{name}}."}
        return JSONResponse([{**first, **common}, {"id": OTHER_ASSISTANT, **common}])

    async def _call(self, request: Request) -> Response:
        self._authenticate(request)
        call = self.calls.get(_uuid(request))
        if call is None:
            raise Refused(404, "Couldn't find call.", "Not Found")
        return JSONResponse({name: value for name, value in call.items() if value is not None})

    def _campaign(self, request: Request) -> Campaign:
        self._authenticate(request)
        campaign = self.campaigns.get(_uuid(request))
        if campaign is None or campaign.archived:
            raise Refused(404, "Campaign not found.", "Not Found")
        return campaign

    def _authenticate(self, request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise Refused(401, "Invalid Key.", "Unauthorized")
        if not self.has_campaigns and "campaign" in request.url.path:
            raise Refused(403, "Campaigns V2 is not enabled for your organization", "Forbidden")


async def _json(request: Request) -> dict[str, Any]:
    body = await request.json()
    if not isinstance(body, dict):
        raise _bad("body must be an object")
    return body


def _check(
    given: Mapping[str, Any],
    known: Mapping[str, Check],
    prefix: str = "",
    also: frozenset[str] | set[str] = frozenset(),
) -> None:
    unknown = [name for name in given if name not in known and name not in also]
    if unknown:
        raise _bad(*(f"{prefix}property {name} should not exist" for name in unknown))
    wrong = [name for name, value in given.items() if name in known and not known[name](value)]
    if wrong:
        raise _bad(*(f"{prefix}{name} is not valid" for name in wrong))


def _check_plan(plan: Mapping[str, Any] | None) -> None:
    if plan is None:
        return
    times: Mapping[str, Check] = {name: lambda value: _moment(value) is not None for name in ("earliestAt", "latestAt")}
    _check(plan, times, "schedulePlan.")
    earliest, latest = _moment(plan.get("earliestAt")), _moment(plan.get("latestAt"))
    if earliest is None:
        raise _bad("schedulePlan.earliestAt should not be null or undefined")
    if latest is not None and latest <= earliest:
        raise _bad("schedulePlan.latestAt must be after schedulePlan.earliestAt")


def _check_customer(customer: Any, prefix: str) -> None:
    if not isinstance(customer, dict) or "number" not in customer:
        raise _bad(f"{prefix}number should not be null or undefined")
    _check(customer, _CUSTOMER, prefix)
    overrides = customer.get("assistantOverrides", {})
    if not isinstance(overrides.get("variableValues", {}), dict):
        raise _bad(f"{prefix}assistantOverrides.variableValues must be an object")


def _campaign(campaign: Campaign) -> dict[str, Any]:
    """The entity that writes answer: it has the customers, and the fields of the first version, empty."""
    counters = ("Scheduled", "Queued", "InProgress", "EndedVoicemail", "Ended")
    return {
        **{name: value for name, value in campaign.body.items() if name != "duplicateFromCampaignId"},
        **_common(campaign),
        "calls": {},
        **{f"callsCounter{name}": 0 for name in counters},
    }


def _summary(campaign: Campaign, *, counted: bool) -> dict[str, Any]:
    """What reads answer: no customers and no numbers; counters only on request."""
    hidden = {"customers", "dialPlan", "workflowId", "duplicateFromCampaignId"}
    row = {**{name: value for name, value in campaign.body.items() if name not in hidden}, **_common(campaign)}
    if counted:
        statuses = [one.status for one in campaign.contacts]
        row["contactCounters"] = {name: statuses.count(status) for status, name in _COUNTED.items()}
        dialled = [one for one in campaign.contacts if one.call_id is not None]
        connected = sum(one.ended_reason == "customer-ended-call" for one in dialled)
        row["callMetrics"] = {"dialed": len(dialled), "connected": connected}
    return row


def _common(campaign: Campaign) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": campaign.id,
        "orgId": ORG,
        "status": campaign.word or campaign.status,
        "createdAt": _iso(campaign.created),
        "updatedAt": _iso(campaign.updated),
    }
    return row if campaign.ended_reason is None else {**row, "endedReason": campaign.ended_reason}


def _contact(contact: Contact) -> dict[str, Any]:
    """An externalId and overrides are not in it."""
    row = {
        "id": contact.id,
        "number": contact.customer["number"],
        "name": contact.customer.get("name"),
        "status": contact.status,
        "callId": contact.call_id,
        "dispatchedAt": None if contact.dispatched is None else _iso(contact.dispatched),
        "endedReason": contact.ended_reason,
    }
    return {name: value for name, value in row.items() if value is not None}


def _page(rows: list[dict[str, Any]], query: Mapping[str, str], otherwise: int) -> dict[str, Any]:
    size, page = int(query.get("limit", otherwise)), int(query.get("page", 1))
    pages = max(-(-len(rows) // size), 1) if size else 1
    metadata = {
        "itemsPerPage": size,
        "totalItems": len(rows),
        "currentPage": page,
        "totalPages": pages,
        "hasNextPage": page < pages,
        "sortOrder": query.get("sortOrder", "DESC"),
    }
    return {"results": rows[(page - 1) * size : page * size], "metadata": metadata}


def _uuid(request: Request) -> str:
    try:
        return str(uuid.UUID(request.path_params["id"]))
    except ValueError:
        raise _bad("id must be a UUID") from None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(value: Any) -> datetime | None:
    """ISO 8601 with `Z` or an offset."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else None


async def _answer_refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
