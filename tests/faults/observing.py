"""Every fault, seen as a model sees it: through the tools of a real server, on each HTTP backend."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias
from unittest import mock

import anyio
import anyio.lowlevel
import pytest
from mcp.types import TextContent
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from batchcall_mcp.backends.rest_api.zudu import ZuduBackend
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.model import BatchCallRequest, CallTask
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import BUDGET_S, TRIES, BackendHttp, Credentials, open_client
from tests.faults.matrix import ANSWER, FOUND, READS, SECRETS, WRITES, Expected, Fault, status_fault
from tests.faults.server import LIMIT_S, Asked, Front, RawServer, answer, fronted, raw_server
from tests.server.said import check_same
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Model, Person, number, playing

Backend: TypeAlias = Literal["zudu", "batchcall", "magpipe"]
BACKENDS: tuple[Backend, ...] = ("zudu", "batchcall", "magpipe")
DRAFT, SCHEDULED = "batch_draft_1", "batch_scheduled_2"
PEOPLE = [number(NEW_YORK, 0), number(NEW_YORK, 1)]
LARGEST_ERROR, LARGEST_ANSWER = 2_000, 60_000
LOST_WORDS = "The backend's answer was lost; "
NEXT_STEP = re.compile(
    r"[a-z]+_batch_calls?\b|get_backend|BATCHCALL_[A-Z]+|[Tt]ry again|Use a key|Check the account|Send fewer tasks"
    r"|repeating this same call looks again"
)


@dataclass(frozen=True)
class Observed:
    """One cell: what came of one tool call on one backend while its request went wrong."""

    backend: Backend
    tool: str
    expected: Expected
    text: str


@dataclass(frozen=True)
class Vendor:
    """A simulator with a draft and a scheduled batch call among its `batches`; `dialled` is what it called."""

    backend: Backend
    app: ASGIApp
    batches: Mapping[str, object]
    dialled: Sequence[str]
    request_of: Callable[[str], Callable[[Asked], bool]]
    variables: dict[str, str]


class Extended(Zudu):
    """The batch-call REST API with the one extension of ours that is used here."""

    def __init__(self) -> None:
        super().__init__()
        routes = self.recording.app.router.routes  # type: ignore[attr-defined]  # it is a Starlette
        routes.insert(0, Route("/batch-call/{id}/cancel", self._cancel, methods=["POST"]))

    async def _cancel(self, request: Request) -> Response:
        batch = self._batch(request)
        batch.status = "CANCELLED"
        return self._success("Batch call cancelled", self._shown(batch))


def vendor_of(backend: Backend) -> Vendor:
    """A fresh one."""
    if backend == "magpipe":
        return _magpipe()
    simulator = Extended() if backend == "batchcall" else Zudu()
    for batch_id, person, status in ((DRAFT, PEOPLE[0], "DRAFT"), (SCHEDULED, PEOPLE[1], "SCHEDULED")):
        trigger = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp() * 1000) if status == "SCHEDULED" else None
        tasks = [zudu.Task("task_0", person, {})]
        body = {"from_number": FROM}
        simulator.batches[batch_id] = zudu.Batch(batch_id, "org_first", simulator.now, body, status, trigger, tasks)
    requests = {
        "get_batch_call": ("GET", f"/batch-call/{DRAFT}"),
        "list_batch_calls": ("GET", "/batch-call/list"),
        "create_batch_call": ("POST", "/batch-call"),
        "start_batch_call": ("POST", f"/batch-call/{DRAFT}/execute"),
        "cancel_batch_call": ("PATCH", f"/batch-call/{SCHEDULED}")
        if backend == "zudu"
        else ("POST", f"/batch-call/{SCHEDULED}/cancel"),
    }
    variables = {"backend": backend, "api_key": zudu.KEY, "api_secret": zudu.SECRET}

    def request_of(tool: str) -> Callable[[Asked], bool]:
        return lambda asked: (asked.method, asked.path) == requests[tool]

    return Vendor(backend, simulator.recording, simulator.batches, simulator.dialled, request_of, variables)


def _magpipe() -> Vendor:
    simulator = Magpipe()
    for batch_id, person, status in ((DRAFT, PEOPLE[0], "draft"), (SCHEDULED, PEOPLE[1], "scheduled")):
        batch = simulator._stored({"name": "Reminders", "caller_id": FROM}, [person], status)
        rows = simulator.recipients.pop(batch["id"])
        simulator.recipients[batch_id] = [{**row, "batch_id": batch_id} for row in rows]
        del simulator.batches[batch["id"]]
        simulator.batches[batch_id] = {**batch, "id": batch_id, "scheduled_at": None}

    def request_of(tool: str) -> Callable[[Asked], bool]:
        action = tool.partition("_")[0]
        return lambda asked: asked.path == "/batch-calls" and asked.json.get("action") == action

    variables = {"backend": "magpipe", "api_key": magpipe.KEY}
    return Vendor("magpipe", simulator.recording, simulator.batches, simulator.dialled, request_of, variables)


@dataclass(frozen=True)
class Stage:
    """A model at a server whose backend goes wrong on demand."""

    vendor: Vendor
    front: Front
    elsewhere: RawServer
    model: Model

    async def observe(self, fault: Fault, tool: str) -> Observed:
        """Call a tool whose own request (none of those before and after it) goes wrong.

        Fails if the answer comes too late, tells what it must not, or lacks what it must have, if it is about another
        batch call than the one that was made, if more than one was made, or if anything went to the other origin.
        """
        self.front.aim, self.front.hit = self.vendor.request_of(tool), 0
        self.front.fault, self.front.done, self.front.stays = fault.make, fault.done, fault.stays
        before = set(self.vendor.batches)
        with anyio.fail_after(TRIES * LIMIT_S + BUDGET_S):
            result = await self.model.client.call_tool(tool, _arguments(tool))
        self.front.aim, self.front.stays = lambda _asked: False, False
        text = "".join(block.text for block in result.content if isinstance(block, TextContent))
        _check(text, tool, is_error=bool(result.is_error))
        if not result.is_error:
            check_same(text, result.structured_content or {})
        made = set(self.vendor.batches) - before
        assert len(made) == (tool == "create_batch_call" and fault.done and self.front.hit > 0)
        assert result.is_error or all(f'"batch_call_id":"{one}"' in text for one in made)
        assert self.elsewhere.requests == [], "credentials went to another origin"
        assert len(self.vendor.dialled) == len(set(self.vendor.dialled)), "somebody was called twice"
        code = text[1 : text.index("]")] if result.is_error else FOUND if LOST_WORDS in text else ANSWER
        return Observed(self.vendor.backend, tool, Expected(code, self.front.hit), text)


@asynccontextmanager
async def staged(backend: Backend, *, reachable: bool = True, **variables: str) -> AsyncIterator[Stage]:
    """A server in this process, its backend behind a door, and a person who says yes."""
    vendor = vendor_of(backend)
    async with AsyncExitStack() as stack:
        elsewhere = await stack.enter_async_context(raw_server(answer(200, "{}")))
        if reachable:
            front = await stack.enter_async_context(fronted(vendor.app, elsewhere.url))
        else:
            async with fronted(vendor.app, elsewhere.url) as front:
                pass
        given = {**vendor.variables, "url": front.url, "request_timeout_s": str(LIMIT_S), **variables}
        model = await stack.enter_async_context(playing("auto", Person("yes"), **given))
        if reachable:
            # What happens once in a process (connecting, first imports) is over before a time limit is waited for.
            await model.call("list_batch_calls")
        yield Stage(vendor, front, elsewhere, model)


@contextmanager
def impatient() -> Iterator[None]:
    """Nothing waits between two tries: how long is tests/backends/test_http.py's business, with a clock of its own."""
    at_once = {"sleep": lambda _seconds: anyio.lowlevel.checkpoint()}
    with mock.patch.dict(BackendHttp.__init__.__kwdefaults__ or {}, at_once):
        yield


async def observe(fault: Fault, tools: Sequence[str] = (*READS, *WRITES)) -> list[Observed]:
    """All cells of one fault, with a ledger that has seen nothing else: another backend may get the same port later."""
    cells: list[Observed] = []

    async def on(backend: Backend) -> None:
        async with staged(backend, reachable=fault.reachable, data_dir=data_dir) as stage:
            for tool in tools:
                cells.append(await stage.observe(fault, tool))  # noqa: PERF401 - one after the other

    with impatient(), tempfile.TemporaryDirectory() as data_dir:
        Ledger.open(Settings(data_dir=Path(data_dir))).close()  # before three servers come to it at once
        if fault.waits:
            for backend in BACKENDS:  # one after the other: the clock that is moved on is that of all
                await on(backend)
            return cells
        async with anyio.create_task_group() as group:
            for backend in BACKENDS:
                group.start_soon(on, backend)
    return cells


async def sweep(statuses: Iterable[int]) -> dict[int, list[Observed]]:
    """One read and one write for each status, at the level of an adapter: all 300 in a few seconds."""
    vendor = vendor_of("zudu")
    request = BatchCallRequest(from_number=FROM, tasks=(CallTask(to_number=PEOPLE[0]),))
    cells: dict[int, list[Observed]] = {}
    async with raw_server(answer(200, "{}")) as elsewhere, fronted(vendor.app, elsewhere.url) as front:
        async with open_client() as client:
            with impatient():
                http = BackendHttp(client, front.url, LIMIT_S)
            zudu_ = ZuduBackend(http, Credentials(SecretStr(zudu.KEY), SecretStr(zudu.SECRET)))
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "get_batch_call": lambda: zudu_.get(DRAFT),
                "create_batch_call": lambda: zudu_.create(request),
            }
            for status in statuses:
                fault = status_fault(status)
                front.fault, front.done = fault.make, fault.done
                cells[status] = []
                for tool, call in calls.items():
                    front.aim, front.hit = vendor.request_of(tool), 0
                    with anyio.fail_after(TRIES * LIMIT_S + BUDGET_S), pytest.raises(BatchCallError) as caught:
                        await call()
                    _check(caught.value.message, tool, is_error=True)
                    observed = Expected(caught.value.code, front.hit)
                    cells[status].append(Observed("zudu", tool, observed, caught.value.message))
        assert elsewhere.requests == []
    return cells


def _arguments(tool: str) -> dict[str, Any]:
    arguments: dict[str, dict[str, Any]] = {
        "get_batch_call": {"batch_call_id": DRAFT},
        "list_batch_calls": {},
        "create_batch_call": {"from_number": FROM, "tasks": [{"to_number": number(NEW_YORK, 2)}]},
        "start_batch_call": {"batch_call_id": DRAFT, "trigger_timestamp": "now"},
        "cancel_batch_call": {"batch_call_id": SCHEDULED},
    }
    return arguments[tool]


def _check(text: str, tool: str, *, is_error: bool) -> None:
    for unwanted in (*SECRETS, "Traceback", "/srv/app.py", "<", "\x1b", "\u202e"):
        assert unwanted not in text, f"{unwanted!r} in {text}"
    assert len(text.encode()) < (LARGEST_ERROR if is_error else LARGEST_ANSWER), text
    assert not is_error or NEXT_STEP.search(text), text
    named = _arguments(tool).get("batch_call_id", "")
    assert named in text, f"{named} is not named in: {text}"
