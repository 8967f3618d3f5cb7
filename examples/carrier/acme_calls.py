"""Acme's calls as its documents describe them, for tests: it refuses what Acme refuses, and rings when Acme would."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

FIELDS = {"to", "from", "reference", "values", "ring_seconds", "longest_seconds"}
ENDS = {"7": "busy", "8": "nobody", "9": "bad_number"}


class AcmeCalls:
    """`rung`: whose phone rang. The last digit of a number says how its call ends. `has_line`: one is free."""

    key = "acme-0123456789"
    number = "+14155550100"

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.calls: dict[str, dict[str, Any]] = {}
        self.has_line = True
        self.app = Starlette(
            routes=[
                Route("/numbers", self._numbers),
                Route("/calls", self._create, methods=["POST"]),
                Route("/calls", self._list),
                Route("/calls/{call_id}", self._read),
            ]
        )

    async def _create(self, request: Request) -> Response:
        body = await request.json()
        if not self._knows(request):
            return JSONResponse({"error": "key"}, 401)
        if set(body) != FIELDS or body["from"] != self.number:
            return JSONResponse({"error": "fields"}, 400)
        if not self.has_line:
            return JSONResponse({"error": "no free line"}, 409)
        end = ENDS.get(body["to"][-1], "hung_up")
        call = {"id": f"c{len(self.calls)}", "state": "over", "end": end, "seconds": 20 if end == "hung_up" else 0}
        self.calls[str(call["id"])] = {**call, "reference": body["reference"]}
        self.rung.append(body["to"])
        return JSONResponse({"id": call["id"]}, 201)

    async def _numbers(self, request: Request) -> Response:
        if not self._knows(request):
            return JSONResponse({"error": "key"}, 401)
        return JSONResponse({"numbers": [{"number": self.number}]})

    async def _list(self, request: Request) -> Response:
        wanted = request.query_params["reference"]
        return JSONResponse({"calls": [one for one in self.calls.values() if one["reference"] == wanted]})

    async def _read(self, request: Request) -> Response:
        return JSONResponse(self.calls[request.path_params["call_id"]])

    def _knows(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.key}"
