"""A backend that works as no landed vendor does: creating dials, a retry means everybody, nobody is listed, no list.

`Varied` is a service that works as its test says; `VariedBackend` is its adapter, whose capabilities `able` changes for
one test. It speaks the same REST API as `talking`, whose service it is, and gives back the metadata of a create.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchcall_mcp.backends import registry
from batchcall_mcp.backends.base import Dials, Never, Now
from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.backends.rest_api import mapping as words
from batchcall_mcp.backends.rest_api.batchcall import path_of
from batchcall_mcp.errors import NotFound
from batchcall_mcp.model import BatchCall, BatchCallRequest
from batchcall_mcp.vendor_http.http_call import HttpCall
from tests.vendors import talking
from tests.vendors.talking import Refused, Talking, TalkingBackend, _ms, _page

NAME: Final = "varied"
_UNREACHED: Final = frozenset({"no_answer", "busy", "voicemail", "failed"})

Shows = Literal["all", "dialled_only", "none"]


class Varied(Talking):
    """`shows`: whose tasks it gives; `counts`: whether it says how many there are; `word`: the state in which it
    answers to a launch, whatever it does; `can_list` and `can_cancel`: otherwise these are not there (404).
    """

    def __init__(
        self,
        *,
        creates_dial: bool = False,
        shows: Shows = "all",
        counts: bool = True,
        retries: Literal["all_unreached", "child_draft"] = "all_unreached",
        word: str | None = None,
        can_list: bool = True,
        can_cancel: bool = True,
    ) -> None:
        super().__init__()
        self.creates_dial = creates_dial
        self.shows = shows
        self.counts = counts
        self.retries = retries
        self.word = word
        self.can_list = can_list
        self.can_cancel = can_cancel
        self.moves_up = timedelta()
        """How much later than asked for a scheduled one starts."""
        self.references: dict[str, str] = {}
        self.forgets_next_create = False
        """The next create has no effect, whatever is answered."""
        router = self.recording.app.router  # type: ignore[attr-defined]  # a Starlette app
        router.routes.insert(0, Route("/batch-call/{id}/retry", self._retry, methods=["POST"]))
        router.routes.insert(0, Route("/batch-call/by-reference/{reference}", self._by_reference))

    async def _create(self, request: Request) -> Response:
        self._authenticate(request)
        body = await request.json()
        if self.creates_dial and not (body.get("send_now") or body.get("trigger_timestamp")):
            raise Refused(400, "trigger_timestamp is required: there are no drafts")
        if self.forgets_next_create:
            self.forgets_next_create = False
            raise Refused(503, "Not now")
        answer = await super()._create(request)
        made = next(reversed(self.batches))
        if reference := request.headers.get("idempotency-key"):
            self.references[reference] = made
        return self._worded(made) if body.get("send_now") and self.word else answer

    def _decide(self, batch_call_id: str, body: Mapping[str, Any]) -> None:
        at = body.get("trigger_timestamp")
        super()._decide(batch_call_id, {**body, "trigger_timestamp": at + _ms_of(self.moves_up)} if at else body)

    async def _execute(self, request: Request) -> Response:
        answer = await super()._execute(request)
        return self._worded(request.path_params["id"]) if self.word else answer

    def _worded(self, batch_call_id: str) -> Response:
        return JSONResponse({**self._shown(batch_call_id), "status": self.word})

    async def _by_reference(self, request: Request) -> Response:
        self._authenticate(request)
        found = self.references.get(request.path_params["reference"])
        if found is None:
            raise Refused(404, "The batch call was not found")
        return JSONResponse(self._shown(found))

    async def _retry(self, request: Request) -> Response:
        batch_call_id = self._known(request)
        missed = [task for task in self.tasks[batch_call_id] if task["status"] in _UNREACHED]
        if self.retries == "child_draft":
            return self._child_of(batch_call_id, missed)
        for task in missed:
            task["status"] = "pending"
        self._dial(batch_call_id)
        return JSONResponse(self._shown(batch_call_id))

    def _child_of(self, batch_call_id: str, missed: list[dict[str, Any]]) -> Response:
        parent, child = self.batches[batch_call_id], f"talk_{len(self.batches) + 1}"
        kept: dict[str, Any] = {name: parent[name] for name in ("from_number", "agent_id", "window") if name in parent}
        self.batches[child] = {
            **kept,
            "batch_call_id": child,
            "name": f"{parent.get('name', 'Campaign')} - Redial",
            "created_timestamp": _ms(self.now) + len(self.batches) * 1000,
            "status": "draft",
            "retry_of": batch_call_id,
        }
        self._keep_tasks(child, {"tasks": [{"to_number": task["to_number"]} for task in missed]})
        return JSONResponse(self._shown(child), 201)

    async def _list(self, request: Request) -> Response:
        if not self.can_list:
            raise Refused(404, "Not found")
        return await super()._list(request)

    async def _move(self, request: Request) -> Response:
        if not self.can_cancel and request.url.path.endswith("/cancel"):
            raise Refused(404, "Not found")
        return await super()._move(request)

    async def _tasks(self, request: Request) -> Response:
        if request.method == "POST" or self.shows == "all":
            return await super()._tasks(request)
        batch_call_id = self._known(request)
        if self.shows == "none":
            raise Refused(404, "There are no tasks to read")
        asked = request.query_params
        shown = [task for task in self.tasks[batch_call_id] if task["attempts"]]
        wanted = [task for task in shown if task["status"] in (asked.getlist("status") or [task["status"]])]
        return _page(request, "tasks", wanted)

    def _shown(self, batch_call_id: str) -> dict[str, Any]:
        shown = super()._shown(batch_call_id)
        if not self.counts:
            del shown["counts"]
        return shown


def _ms_of(length: timedelta) -> int:
    return int(length.total_seconds() * 1000)


class VariedBackend(TalkingBackend):
    """Its adapter."""

    name: ClassVar[str] = NAME
    capabilities: ClassVar[Capabilities] = replace(
        TalkingBackend.capabilities,
        operations=TalkingBackend.capabilities.operations | {Operation.RETRY},
        retry="all_unreached",
    )

    def dials(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> Dials:
        """Creating dials, or a retry makes a draft, where that is so."""
        can = self.capabilities
        if operation is Operation.RETRY and can.retry == "child_draft":
            return Never()
        found = super().dials(operation, request, current)
        if operation is Operation.CREATE and can.drafts == "none" and isinstance(found, Never):
            return Now()
        return found

    async def retry(
        self, current: BatchCall, task_ids: tuple[str, ...], idempotency_key: str | None = None
    ) -> BatchCall:
        """POST /retry, without ids: everybody."""
        if self.capabilities.retry != "child_draft":
            return await super().retry(current, (), idempotency_key)
        call = HttpCall("POST", f"{path_of(current.batch_call_id)}/retry")
        answer = await self._http.write(f"retry batch call {current.batch_call_id}", call)
        return words.batch_call(words.payload(answer), None, extended=True)


class EchoingBackend(VariedBackend):
    """The same, and what became of a create is found by its metadata."""

    def _key(self, idempotency_key: str | None) -> str | None:
        return idempotency_key

    async def find_created(self, idempotency_key: str) -> BatchCall | None:
        """GET /by-reference."""
        try:
            call = HttpCall("GET", f"/batch-call/by-reference/{idempotency_key}")
            answer = await self._http.read("find the batch call", call)
        except NotFound:
            return None
        return words.batch_call(words.payload(answer), None, extended=True)


def able(
    monkeypatch: pytest.MonkeyPatch, backend: type[VariedBackend] = VariedBackend, *, without: str = "", **changes: Any
) -> None:
    """BATCHCALL_BACKEND=varied is this backend, with these capabilities; `without`: operations that it has not."""
    lacking = frozenset(map(Operation, without.split()))
    can = replace(VariedBackend.capabilities, **changes)
    monkeypatch.setattr(VariedBackend, "capabilities", replace(can, operations=can.operations - lacking))
    monkeypatch.setitem(registry._BUILT_IN, NAME, (__name__, backend.__name__))


def account(url: str) -> Mapping[str, str]:
    """The settings of a server of ours in front of it."""
    return {"backend": NAME, "url": url, "api_key": talking.KEY, "api_secret": talking.SECRET}
