"""The two calls that the product began with, byte for byte in meaning, over every transport and in both eras."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.server.transports import WAYS, Way, every_way
from tests.tools.desk import SOME_WAYS, Desk, Person, opened
from tests.vendors.serving import listening

HERE = Path(__file__).parent
PAIR = {"X-API-KEY": "key-of-a-caller", "X-API-SECRET": "secret-of-a-caller"}
BATCH_CALL_ID = "batch_call_a1b2c3d4e5f6789012345678901234567"


def documented(name: str) -> Any:
    """A request or an answer of the vendors' documents."""
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Sent:
    """One request as it reached the account."""

    method: str
    path: str
    headers: Mapping[str, str]
    json: Any


@dataclass
class Account:
    """Answers as the documents do, whatever is asked, and keeps every request."""

    requests: list[Sent] = field(default_factory=list)

    def app(self) -> Starlette:
        """The ASGI app."""
        return Starlette(
            routes=[
                Route(
                    "/batch-call/{batch_call_id}", self._answering("update_batch_call.answer"), methods=["GET", "PUT"]
                ),
                Route("/batch-calls", self._answering("get_batch.answer"), methods=["POST"]),
            ]
        )

    def _answering(self, name: str) -> Callable[[Request], Awaitable[JSONResponse]]:
        async def answer(request: Request) -> JSONResponse:
            body = await request.body()
            sent = Sent(request.method, request.url.path, dict(request.headers), json.loads(body) if body else None)
            self.requests.append(sent)
            return JSONResponse(documented(name))

        return answer


@contextmanager
def at_work(portal: BlockingPortal, way: Way, home: Path, backend: str) -> Iterator[tuple[Desk, list[Sent]]]:
    """A client of a server whose backend is an account as the documents show it, and the requests that reach it."""
    account = Account()
    with portal.wrap_async_context_manager(listening(account.app())) as url:
        settings = {
            "BATCHCALL_BACKEND": backend,
            "BATCHCALL_URL": url,
            "BATCHCALL_API_KEY": PAIR["X-API-KEY"],
            "BATCHCALL_API_SECRET": PAIR["X-API-SECRET"],
            "BATCHCALL_CONFIRM": "auto" if way.can_ask else "code",
        }
        with opened(portal, way, home, Person(), settings, PAIR) as desk:
            yield desk, account.requests


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("backend", "way"),
    [*(("batchcall", way) for way in WAYS), *(("zudu", way) for way in SOME_WAYS)],
    ids=str,
)
def test_the_documented_update_sends_exactly_the_documented_put_once(
    portal: BlockingPortal, way: Way, tmp_path: Path, backend: str
) -> None:
    body = documented("update_batch_call.request")
    with at_work(portal, way, tmp_path, backend) as (desk, requests):
        asked = desk.call("update_batch_call", batch_call_id=BATCH_CALL_ID, **body)
        if desk.is_asked:
            assert desk.person is not None
            (question,) = desk.person.questions
            updated = asked
        else:
            assert asked["result"] == "confirmation_required"
            assert [request.method for request in requests if request.method != "GET"] == []
            question = asked["summary"]
            code = asked["confirmation_code"]
            updated = desk.call("update_batch_call", batch_call_id=BATCH_CALL_ID, confirmation_code=code)

    assert "The time 2025-01-01 08:01 UTC is past, so this means now." in question
    (write,) = [request for request in requests if request.method != "GET"]
    assert (write.method, write.path) == ("PUT", f"/batch-call/{BATCH_CALL_ID}")
    assert write.json == body
    for request in requests:
        assert request.headers["x-api-key"] == PAIR["X-API-KEY"]
        assert request.headers["x-api-secret"] == PAIR["X-API-SECRET"]

    answer = documented("update_batch_call.answer")["data"]
    told = updated["batch_call"]
    assert updated["result"] == "updated"
    assert {name: told[name] for name in ("batch_call_id", "name", "from_number", "agent_id", "organization_id")} == {
        name: answer[name] for name in ("batch_call_id", "name", "from_number", "agent_id", "organization_id")
    }
    assert (told["status"], told["timezone"]) == ("scheduled", "UTC")
    assert told["scheduled_at"] == _iso(answer["scheduled_timestamp"])
    assert told["created_at"] == _iso(answer["created_timestamp"])
    assert {name: told["counts"][name] for name in ("total", "sent", "picked_up", "completed")} == {
        "total": 1,
        "sent": 0,
        "picked_up": 0,
        "completed": 0,
    }
    assert "last_sent_at" not in told, "what the backend left empty is left out"


@pytest.mark.sweep
@every_way
def test_the_documented_get_asks_magpipe_for_the_batch_and_shows_its_recipients(
    portal: BlockingPortal, way: Way, tmp_path: Path
) -> None:
    body = documented("get_batch.request")
    with at_work(portal, way, tmp_path, "magpipe") as (desk, requests):
        shown = desk.call("get_batch_call", batch_call_id=body["batch_id"])

    assert [request.json for request in requests] == [body] * len(requests)
    assert requests, "Magpipe was asked"
    for request in requests:
        assert (request.method, request.path) == ("POST", "/batch-calls")
        assert request.headers["authorization"] == f"Bearer {PAIR['X-API-KEY']}"
        assert PAIR["X-API-SECRET"] not in request.headers.values(), "Magpipe has no secret"

    answer = documented("get_batch.answer")
    told = shown["batch_call"]
    assert (told["name"], told["from_number"], told["status"]) == (
        "Appointment Reminders",
        answer["batch"]["caller_id"],
        "running",
    )
    assert told["window"] == {
        "start": "09:00",
        "end": "17:00",
        "days": ["mon", "tue", "wed", "thu", "fri"],
        "timezone": "UTC",
    }
    assert {name: told["counts"][name] for name in ("total", "completed", "failed")} == {
        "total": 3,
        "completed": 1,
        "failed": 0,
    }
    assert [(task["to_number"], task["name"], task["status"]) for task in shown["tasks"]] == [
        (one["phone_number"], one["name"], one["status"]) for one in answer["recipients"]
    ]


def _iso(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
