"""Acme Calls as its documents describe it, in this process. It knows nothing of the adapter."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

NUMBER_ID = "num_1"
OUTCOMES = {"completed": "answered", "no_answer": "missed", "busy": "engaged"}
KNOWN = {"title", "agent", "number_id", "contacts", "lines", "start_at", "hold"}
PAGE = 3


class Refused(Exception):
    """An error answer, in Acme's form."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = JSONResponse({"error": {"message": message}}, status)


class AcmeFake:
    """`dialled` is what it would call, in order; `writes` are the requests that change something."""

    key, secret, from_number, agent_id = "acme-key-0123456789", None, "+14155550100", "agent_7"

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.dialled: list[str] = []
        self.writes: list[str] = []
        self.campaigns: dict[str, dict[str, Any]] = {}
        self.contacts: dict[str, list[dict[str, Any]]] = {}
        one = "/v1/campaigns/{id}"
        self.app = Starlette(
            routes=[
                Route("/v1/numbers", self._numbers),
                Route("/v1/agents", self._agents),
                Route("/v1/campaigns", self._create, methods=["POST"]),
                Route("/v1/campaigns", self._list),
                Route(f"{one}/contacts", self._contacts),
                Route(f"{one}/start", self._start, methods=["POST"]),
                Route(f"{one}/stop", self._stop, methods=["POST"]),
                Route(one, self._one, methods=["GET", "DELETE"]),
            ],
            exception_handlers={Refused: _answer},
        )

    # --- what moves it on

    def tick(self, now: datetime) -> None:
        """Move its time; what is due is dialled."""
        self.now = now
        for campaign_id, campaign in self.campaigns.items():
            if campaign["status"] == "planned" and campaign["start_at"] <= now.timestamp():
                self._dial(campaign_id)

    def finish(self, batch_id: str, outcomes: Mapping[str, str], otherwise: str = "completed") -> None:
        """End every call in progress."""
        for contact in self.contacts[batch_id]:
            if contact["status"] == "dialing":
                contact["status"] = OUTCOMES.get(outcomes.get(contact["phone"], otherwise), "error")
        if self.campaigns[batch_id]["status"] == "live":
            self.campaigns[batch_id]["status"] = "done"

    def batch_ids(self) -> list[str]:
        """Its campaigns, the oldest first."""
        return list(self.campaigns)

    def say_status(self, batch_id: str, word: str) -> None:
        """Report this word as the status of a campaign."""
        self.campaigns[batch_id]["status"] = word

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """Report this word as the status of a contact."""
        for contact in self.contacts[batch_id]:
            if contact["phone"] == number:
                contact["status"] = word

    def _dial(self, campaign_id: str) -> None:
        self.campaigns[campaign_id]["status"] = "live"
        for contact in self.contacts[campaign_id]:
            if contact["status"] == "waiting":
                contact |= {"status": "dialing", "dialed": self.now.isoformat()}
                self.dialled.append(contact["phone"])

    # --- what it answers

    async def _create(self, request: Request) -> Response:
        self._changes(request)
        body = await request.json()
        if set(body) - KNOWN or not {"title", "agent", "number_id", "contacts"} <= set(body):
            raise Refused(422, "unknown or missing fields")
        if len(body["title"]) > 80 or not 1 <= len(body["contacts"]) <= 200 or body["number_id"] != NUMBER_ID:
            raise Refused(422, "title, contacts or number_id cannot be used")
        start = body.get("start_at")
        if start is not None and (not isinstance(start, int) or not 0 < start - self.now.timestamp() < 31 * 86_400):
            raise Refused(422, "start_at: seconds since 1970, in the next 30 days")
        campaign_id = f"cmp_{len(self.campaigns) + 1:08}"
        self.campaigns[campaign_id] = {
            "id": campaign_id,
            "title": body["title"],
            "agent": body["agent"],
            "from": {"id": NUMBER_ID, "phone": self.from_number},
            "lines": body.get("lines", 1),
            "start_at": start,
            "created": (self.now + timedelta(seconds=len(self.campaigns))).isoformat(),
            "size": len(body["contacts"]),
            "status": "new",
        }
        self.contacts[campaign_id] = [
            {"id": f"{campaign_id}-{at}", "status": "waiting", "error": None, "dialed": None, **contact}
            for at, contact in enumerate(body["contacts"])
        ]
        self._begin(campaign_id, start, held=bool(body.get("hold")))
        return JSONResponse(self.campaigns[campaign_id], 201)

    def _begin(self, campaign_id: str, start: int | None, *, held: bool) -> None:
        if start is not None:
            self.campaigns[campaign_id] |= {"status": "planned", "start_at": start}
        elif not held:
            self._dial(campaign_id)

    async def _list(self, request: Request) -> Response:
        self._check_key(request)
        rows = list(reversed(self.campaigns.values()))
        at = int(request.query_params.get("after", 0))
        more = at + PAGE < len(rows)
        return JSONResponse({"campaigns": rows[at : at + PAGE], "next_after": str(at + PAGE) if more else None})

    async def _one(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse(self._known(request))
        self._changes(request)
        campaign = self._known(request)
        if campaign["status"] in {"planned", "live"}:
            raise Refused(400, f"The campaign is {campaign['status']}")
        del self.campaigns[campaign["id"]]
        return Response(status_code=204)

    async def _start(self, request: Request) -> Response:
        self._changes(request)
        campaign = self._known(request)
        if campaign["status"] not in {"new", "planned"}:
            raise Refused(400, f"The campaign is {campaign['status']}")
        body = await request.body()
        self._begin(campaign["id"], (await request.json())["start_at"] if body else None, held=False)
        return Response(status_code=202)

    async def _stop(self, request: Request) -> Response:
        self._changes(request)
        campaign = self._known(request)
        if campaign["status"] not in {"planned", "live"}:
            raise Refused(400, f"The campaign is {campaign['status']}")
        campaign["status"] = "stopped"
        for contact in self.contacts[campaign["id"]]:
            contact["status"] = "dropped" if contact["status"] == "waiting" else contact["status"]
        return Response(status_code=202)

    async def _contacts(self, request: Request) -> Response:
        campaign = self._known(request)
        page, size = int(request.query_params["page"]), min(int(request.query_params["per_page"]), 50)
        rows = self.contacts[campaign["id"]]
        return JSONResponse({"contacts": rows[(page - 1) * size : page * size], "page": page, "total": len(rows)})

    async def _numbers(self, request: Request) -> Response:
        self._check_key(request)
        return JSONResponse({"numbers": [{"id": NUMBER_ID, "phone": self.from_number, "label": "Main line"}]})

    async def _agents(self, request: Request) -> Response:
        self._check_key(request)
        return JSONResponse([{"id": self.agent_id, "name": "Reminder"}])

    def _changes(self, request: Request) -> None:
        self.writes.append(f"{request.method} {request.url.path}")
        self._check_key(request)

    def _known(self, request: Request) -> dict[str, Any]:
        self._check_key(request)
        campaign = self.campaigns.get(request.path_params["id"])
        if campaign is None:
            raise Refused(404, "No such campaign")
        return campaign

    def _check_key(self, request: Request) -> None:
        if request.headers.get("x-acme-key") != self.key:
            raise Refused(401, "Unknown key")


async def _answer(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
