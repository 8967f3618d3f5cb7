"""Every fault, seen as a model sees it: through the tools of a real server, on each HTTP backend."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import anyio.lowlevel
import pytest
from mcp.types import TextContent
from pydantic import SecretStr

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.rest_api.zudu import ZuduBackend
from batchcall_mcp.clock import utc_now
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.model import BatchCallRequest, CallTask
from batchcall_mcp.settings import Settings
from batchcall_mcp.testing import Case, Fake
from batchcall_mcp.testing.scene import backend_of
from batchcall_mcp.testing.wire import Wire
from batchcall_mcp.vendor_http.client import BUDGET_S, TRIES, BackendHttp, Credentials, open_client
from tests.backends.test_contract import CASES
from tests.faults.matrix import ANSWER, FOUND, READS, WRITES, Expected, Fault, status_fault
from tests.faults.server import LIMIT_S, Asked, Front, RawServer, answer, fronted, raw_server
from tests.server.said import check_same
from tests.vendors import zudu
from tests.walks.stage import NEW_YORK, Model, Person, number, playing, tomorrow_at

HTTP = {case.backend.name: case for case in CASES if not case.backend.capabilities.in_process}
"""Those that are asked over HTTP, with their fakes: a line of tests/backends/test_contract.py each."""
BACKENDS = tuple(HTTP)
EVERY_FAULT = ("zudu",)
"""On these each fault is tried; on the others one of each kind, because the same client meets them."""
PEOPLE = [number(NEW_YORK, 0), number(NEW_YORK, 1)]
LARGEST_ERROR, LARGEST_ANSWER = 2_000, 60_000
LOST_WORDS = "The backend's answer was lost; "
NEXT_STEP = re.compile(
    r"[a-z]+_batch_calls?\b|get_backend|BATCHCALL_[A-Z]+|[Tt]ry again|Use a key|Check the account|Send fewer tasks"
    r"|repeating this same call looks again|batchcall-mcp ledger resolve"
)


@dataclass(frozen=True)
class Observed:
    """One cell: what came of one tool call on one backend while its request went wrong."""

    backend: str
    tool: str
    expected: Expected
    text: str
    usual: int = 1
    """How often the same request is sent where nothing goes wrong."""


@dataclass(frozen=True)
class Vendor:
    """A fake with a draft and with a batch call that waits for its time, where there are such; ids by tool."""

    case: Case
    fake: Fake
    ids: dict[str, str]

    @property
    def backend(self) -> str:
        """Its name."""
        return self.case.backend.name

    @property
    def tools(self) -> list[str]:
        """Those of the matrix that this backend offers."""
        can = self.case.backend.capabilities
        offered = {
            "list_batch_calls": Operation.LIST in can.operations,
            "start_batch_call": can.drafts != "none",
            "cancel_batch_call": Operation.CANCEL in can.operations and can.stop != "never",
        }
        return [tool for tool in (*READS, *WRITES) if offered.get(tool, True)]

    def kind_of(self, asked: Asked) -> Kind:
        """A request, whatever batch call it is about."""
        path = asked.path
        for batch_id in {*self.ids.values(), *self.fake.batch_ids()}:
            path = path.replace(batch_id, "*")
        said = asked.json if asked.is_json else None
        return asked.method, path, said.get("action") if isinstance(said, dict) else None

    def is_kind(self, kind: Kind, asked: Asked) -> bool:
        """Whether a request is of this kind."""
        return self.kind_of(asked) == kind

    def arguments(self, tool: str) -> dict[str, Any]:
        """What a model says."""
        can = self.case.backend.capabilities
        made: dict[str, Any] = {"from_number": self.fake.from_number, "tasks": [{"to_number": number(NEW_YORK, 2)}]}
        if can.agent == "per_batch":
            made["agent_id"] = self.fake.agent_id
        if can.drafts == "none":
            made["trigger_timestamp"] = tomorrow_at(9).isoformat()
        others: dict[str, dict[str, Any]] = {
            "list_batch_calls": {},
            "create_batch_call": made,
            "start_batch_call": {"trigger_timestamp": "now"},
        }
        named = {"batch_call_id": self.ids[tool]} if tool in self.ids else {}
        return named | others.get(tool, {})


Kind = tuple[str, str, Any]
"""Method, path without ids, action."""
Usual = dict[str, tuple[Kind, int]]
"""By tool: the request that is its own, and how often it is sent."""
_LEARNT: dict[str, Usual] = {}


async def vendor_of(backend: str) -> Vendor:
    """A fresh one."""
    case = HTTP[backend]
    fake = case.fake()
    adapter, client = backend_of(case, Wire(case.app(fake), fake), fake.key, fake.secret)
    can = case.backend.capabilities
    request = BatchCallRequest(
        **{
            "from_number": fake.from_number,
            "agent_id": fake.agent_id if can.agent == "per_batch" else None,
            "name": "Reminders",
            **case.given,
        }
    )
    tasks = [(CallTask(to_number=one),) for one in PEOPLE]
    async with client:
        later = utc_now().replace(microsecond=0) + timedelta(days=2)
        made = []
        if can.drafts != "none":
            made.append(await adapter.create(replace(request, tasks=tasks[0])))
        if can.drafts != "now_only":
            made.append(await adapter.create(replace(request, tasks=tasks[1], trigger_at=later)))
    first, waiting = made[0], made[-1]
    ids = {"get_batch_call": first.batch_call_id, "cancel_batch_call": waiting.batch_call_id}
    return Vendor(case, fake, ids | {"start_batch_call": first.batch_call_id})


@dataclass(frozen=True)
class Stage:
    """A model at a server whose backend goes wrong on demand. `usual`: what each tool asks where nothing does."""

    vendor: Vendor
    front: Front
    elsewhere: RawServer
    model: Model
    usual: Usual

    async def observe(self, fault: Fault, tool: str) -> Observed:
        """Call a tool whose own request (none of those before and after it) goes wrong.

        Fails if the answer comes too late, tells what it must not, or lacks what it must have, if it is about another
        batch call than the one that was made, if more than one was made, or if anything went to the other origin.
        """
        kind, usual = self.usual[tool]
        self.front.aim, self.front.hit = partial(self.vendor.is_kind, kind), 0
        self.front.fault, self.front.done, self.front.stays = fault.make, fault.done, fault.stays
        before, fake = set(self.vendor.fake.batch_ids()), self.vendor.fake
        with anyio.fail_after(TRIES * LIMIT_S + BUDGET_S):
            result = await self.model.client.call_tool(tool, self.vendor.arguments(tool))
        self.front.aim, self.front.stays = lambda _asked: False, False
        text = "".join(block.text for block in result.content if isinstance(block, TextContent))
        _check(text, self.vendor.arguments(tool), fake, is_error=bool(result.is_error))
        if not result.is_error:
            check_same(text, result.structured_content or {})
        made = set(fake.batch_ids()) - before
        assert len(made) == (tool == "create_batch_call" and fault.done and self.front.hit > 0)
        assert result.is_error or all(f'"batch_call_id":"{one}"' in text for one in made)
        assert self.elsewhere.requests == [], "credentials went to another origin"
        assert len(fake.dialled) == len(set(fake.dialled)), "somebody was called twice"
        code = text[1 : text.index("]")] if result.is_error else FOUND if LOST_WORDS in text else ANSWER
        return Observed(self.vendor.backend, tool, Expected(code, self.front.hit), text, usual)


@asynccontextmanager
async def staged(backend: str, *, reachable: bool = True, **variables: str) -> AsyncIterator[Stage]:
    """A server in this process, its backend behind a door, and a person who says yes."""
    if backend not in _LEARNT:
        with tempfile.TemporaryDirectory() as folder:
            async with _raised(backend, {}, data_dir=folder) as stage:
                _LEARNT[backend] = await _usual(stage)
    async with _raised(backend, _LEARNT[backend], reachable=reachable, **variables) as stage:
        yield stage


@asynccontextmanager
async def _raised(backend: str, usual: Usual, *, reachable: bool = True, **variables: str) -> AsyncIterator[Stage]:
    vendor = await vendor_of(backend)
    fake = vendor.fake
    async with AsyncExitStack() as stack:
        if hasattr(fake, "close"):
            stack.callback(fake.close)
        elsewhere = await stack.enter_async_context(raw_server(answer(200, "{}")))
        app = vendor.case.app(fake)
        if reachable:
            front = await stack.enter_async_context(fronted(app, elsewhere.url))
        else:
            async with fronted(app, elsewhere.url) as front:
                pass
        second = await stack.enter_async_context(fronted(app, elsewhere.url))
        front.second = second.url
        front.effect = lambda: (len(fake.writes), len(fake.batch_ids()))
        path = vendor.case.url.partition("://")[2].partition("/")[2]
        given = {"backend": backend, "api_key": fake.key, "url": f"{front.url}/{path}".rstrip("/")}
        given |= {"api_secret": fake.secret} if fake.secret else {}
        given |= {"request_timeout_s": str(LIMIT_S), **variables}
        model = await stack.enter_async_context(playing("auto", Person("yes"), **given))
        if reachable:
            # What happens once in a process (connecting, first imports) is over before a time limit is waited for.
            await model.call("get_batch_call", batch_call_id=vendor.ids["get_batch_call"])
        yield Stage(vendor, front, elsewhere, model, usual)
        assert not any(fake.key.encode() in asked.head for asked, _ in second.log), "a key went to another origin"


async def _usual(stage: Stage) -> Usual:
    """What each tool asks where nothing goes wrong: of a read its first request, of a write what takes effect."""
    usual: Usual = {}
    for tool in stage.vendor.tools:
        stage.front.log.clear()
        await stage.model.call(tool, **stage.vendor.arguments(tool))
        log = [(stage.vendor.kind_of(asked), effect) for asked, effect in stage.front.log]
        made = [kind for kind, (_, batches) in log if batches] or [kind for kind, (writes, _) in log if writes]
        own = made[0] if tool in WRITES else log[0][0]
        usual[tool] = own, sum(kind == own for kind, _ in log)
    return usual


@contextmanager
def impatient() -> Iterator[None]:
    """Nothing waits between two tries: how long is tests/backends/test_http.py's business, with a clock of its own."""
    at_once = {"sleep": lambda _seconds: anyio.lowlevel.checkpoint()}
    with mock.patch.dict(BackendHttp.__init__.__kwdefaults__ or {}, at_once):
        yield


async def observe(
    fault: Fault, tools: Sequence[str] = (*READS, *WRITES), backends: Sequence[str] = EVERY_FAULT
) -> list[Observed]:
    """The cells of one fault, with a ledger that has seen nothing else: another backend may get the same port later.

    One backend after the other: a clock that is moved on is that of all.
    """
    cells: list[Observed] = []
    with impatient(), tempfile.TemporaryDirectory() as data_dir:
        Ledger.open(Settings(data_dir=Path(data_dir))).close()
        for backend in backends:
            async with staged(backend, reachable=fault.reachable, data_dir=data_dir) as stage:
                for tool in [one for one in stage.vendor.tools if one in tools]:
                    cells.append(await stage.observe(fault, tool))  # noqa: PERF401 - one after the other
    return cells


async def sweep(statuses: Iterable[int]) -> dict[int, list[Observed]]:
    """One read and one write for each status, at the level of an adapter: all 300 in a few seconds."""
    vendor = await vendor_of("zudu")
    request = BatchCallRequest(from_number=vendor.fake.from_number, tasks=(CallTask(to_number=PEOPLE[0]),))
    named = vendor.ids["get_batch_call"]
    own: dict[str, Kind] = {
        "get_batch_call": ("GET", "/batch-call/*", None),
        "create_batch_call": ("POST", "/batch-call", None),
    }
    cells: dict[int, list[Observed]] = {}
    async with (
        raw_server(answer(200, "{}")) as elsewhere,
        fronted(vendor.case.app(vendor.fake), elsewhere.url) as front,
    ):
        async with open_client() as client:
            with impatient():
                http = BackendHttp(client, front.url, LIMIT_S)
            zudu_ = ZuduBackend(http, Credentials(SecretStr(zudu.KEY), SecretStr(zudu.SECRET)))
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "get_batch_call": lambda: zudu_.get(named),
                "create_batch_call": lambda: zudu_.create(request),
            }
            for status in statuses:
                fault = status_fault(status)
                front.fault, front.done = fault.make, fault.done
                cells[status] = []
                for tool, call in calls.items():
                    front.aim, front.hit = partial(vendor.is_kind, own[tool]), 0
                    with anyio.fail_after(TRIES * LIMIT_S + BUDGET_S), pytest.raises(BatchCallError) as caught:
                        await call()
                    arguments = {"batch_call_id": named} if tool in READS else {}
                    _check(caught.value.message, arguments, vendor.fake, is_error=True)
                    observed = Expected(caught.value.code, front.hit)
                    cells[status].append(Observed("zudu", tool, observed, caught.value.message))
        assert elsewhere.requests == []
    return cells


def _check(text: str, arguments: dict[str, Any], fake: Fake, *, is_error: bool) -> None:
    secrets = (fake.key, *([fake.secret] if fake.secret else []))
    for unwanted in (*secrets, "Traceback", "/srv/app.py", "<", "\x1b", "\u202e"):
        assert unwanted not in text, f"{unwanted!r} in {text}"
    assert len(text.encode()) < (LARGEST_ERROR if is_error else LARGEST_ANSWER), text
    assert not is_error or NEXT_STEP.search(text), text
    named = arguments.get("batch_call_id", "")
    assert named in text, f"{named} is not named in: {text}"
