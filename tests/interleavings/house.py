"""Our dialer as a backend with a URL, two server processes on one ledger, and three callers of one organisation."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import anyio
import httpx2
import sqlalchemy as sa
from anyio.to_thread import run_sync
from mcp import Client
from mcp.client import ClientRequestContext
from mcp.types import CallToolResult, ElicitRequest, ElicitRequestParams, ElicitResult, InputRequiredResult, TextContent
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchcall_mcp import database
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.storage.tables import attempts, batch_calls, tasks
from batchcall_mcp.guard.ledger import tables as ledger_tables
from tests.guard.test_replicas import serving
from tests.interleavings.conductor import Conductor
from tests.interleavings.judging import Call, Dial, Question, Said, violations
from tests.interleavings.scripts import CALLERS, MAX_CALLS_PER_DAY, MAX_CALLS_PER_LAUNCH, People, Script, State, Step
from tests.postgresql import postgresql_url
from tests.server.transports import Way, client_of
from tests.vendors.serving import listening

Database: TypeAlias = Literal["sqlite", "postgresql"]
DATABASES: Final[tuple[Database, ...]] = ("sqlite", "postgresql")
FROM: Final = "+14155550199"
SPEED: Final = 1000
LONGEST_S: Final = 60
_A_WEEK: Final = timedelta(days=7)
_POLL_S: Final = 0.01
_NO: Final = 0.08


class Road:
    """Between the servers and the dialer: each request of a caller may be held; ETags may not come through."""

    def __init__(self, app: ASGIApp, conductor: Conductor) -> None:
        self._app = app
        self._conductor = conductor
        self.callers: dict[str, str] = {}
        """API key -> caller."""
        self.etags = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value for name, value in scope["headers"] if self.etags or name != b"if-match"}
        scope["headers"] = list(headers.items())
        await self._conductor.hold(self.callers.get(headers.get(b"x-api-key", b"").decode(), ""))

        async def on(message: Message) -> None:
            if message["type"] == "http.response.start" and not self.etags:
                message["headers"] = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"etag"]
            await send(message)

        await self._app(scope, receive, on)


@dataclass
class Caller:
    """A key pair, clients of both processes in both eras, and the person behind them."""

    name: str
    conductor: Conductor
    until_nothing_dials: Callable[[], Awaitable[None]] | None = None
    clients: dict[tuple[int, str], Client] = field(default_factory=dict)
    chance: random.Random = field(default_factory=random.Random)
    agrees: bool = True
    """Whether the person says yes to whatever calls nobody twice; else now and then no for no reason."""
    ponders: bool = False
    call: Call | None = None

    async def asked(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        """A question in the middle of a call."""
        assert self.call is not None
        return await self.think(self.call, params.message)

    async def think(self, call: Call, text: str) -> ElicitResult:
        """What the person says, after a while."""
        question = Question(text, datetime.now(UTC))
        call.questions.append(question)
        assert question.tag
        said = self._says(question)
        await self.conductor.hold(self.name)
        if self.ponders and self.until_nothing_dials is not None:
            with self.conductor.absence(self.name):
                await self.until_nothing_dials()
        question.said, question.answered = said, datetime.now(UTC)
        if said == "yes":
            return ElicitResult(action="accept", content={"confirm": True})
        return ElicitResult(action="decline" if said == "no" else "cancel")

    def _says(self, question: Question) -> Said:
        if question.warns:
            return "no"
        if self.agrees or self.chance.random() >= _NO:
            return "yes"
        return self.chance.choice(["no", "dismissed"])

    async def do(self, step: Step, tool: str, arguments: Mapping[str, Any]) -> Call:
        """One tool call, to its end."""
        began = datetime.now(UTC)
        self.ponders = step.ponders
        added = next((one["name"].split()[0] for one in arguments.get("add_tasks", ())), None)
        what = f"{self.name}'s {step}"
        call = self.call = Call(self.name, what, tool, arguments.get("batch_call_id"), began, added=added)
        client = self.clients[step.server, step.era]
        if step.era == "legacy":
            call.results.append(_told(await client.call_tool(tool, dict(arguments))))
        else:
            await self._in_rounds(step, call, arguments)
        call.ended = datetime.now(UTC)
        return call

    async def _in_rounds(self, step: Step, call: Call, arguments: Mapping[str, Any]) -> None:
        """As 2026-07-28 has it: the answer is brought along, to this process or the other one, or to both."""
        server = step.server
        answer: dict[str, Any] = {}
        while True:
            result = await self._send(call, arguments, server, answer)
            if not isinstance(result, InputRequiredResult):
                call.results.append(_told(result))
                return
            (asked,) = (result.input_requests or {}).values()
            assert isinstance(asked, ElicitRequest)
            given = await self.think(call, asked.params.message)
            answer = {"input_responses": {"confirm": given}, "request_state": result.request_state}
            server = 1 - server if step.roams else server
            if step.twice:
                async with anyio.create_task_group() as group:
                    for at in (0, 1):
                        group.start_soon(self._once_more, call, arguments, at, answer)
                return

    async def _once_more(self, call: Call, arguments: Mapping[str, Any], server: int, answer: dict[str, Any]) -> None:
        result = await self._send(call, arguments, server, answer)
        if isinstance(result, CallToolResult):  # else the person is asked again, and does not answer
            call.results.append(_told(result))

    async def _send(
        self, call: Call, arguments: Mapping[str, Any], server: int, answer: dict[str, Any]
    ) -> CallToolResult | InputRequiredResult:
        session = self.clients[server, "auto"].session
        result = await session.call_tool(call.tool, dict(arguments), allow_input_required=True, **answer)
        assert isinstance(result, CallToolResult | InputRequiredResult)
        return result


def _told(result: CallToolResult) -> Mapping[str, Any]:
    if not result.is_error:
        return result.structured_content or {}
    text = "".join(block.text for block in result.content if isinstance(block, TextContent))
    return {"error": text[1:].partition("]")[0], "text": text}


@dataclass
class Played:
    """What came of one example."""

    calls: list[Call]
    dials: list[Dial]
    violations: list[str]


class House:
    """All that is needed for one example after the other: each has people and batch calls of its own."""

    def __init__(
        self,
        *,
        dialer: EmbeddedDialer,
        road: Road,
        conductor: Conductor,
        callers: Mapping[str, Caller],
        ledger: sa.Engine,
        record: Path,
    ) -> None:
        self._store = dialer.store()
        self._road = road
        self._conductor = conductor
        self._callers = callers
        self._ledger = ledger
        self._record = record
        self._read = 0
        self._rest = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(dialer.app),
            base_url="http://dialer",
            headers={"X-API-KEY": dialer.credentials.api_key, "X-API-SECRET": dialer.credentials.api_secret},
        )
        self._calls: list[Call] = []
        self._ids: list[str] = []
        for caller in callers.values():
            caller.until_nothing_dials = self._until_nothing_dials

    async def play(self, script: Script) -> Played:
        """One example from its opening to the last dial."""
        began = datetime.now(UTC)
        chance = random.Random(f"{script.seed} {script.number} played")
        self._calls, self._ids = [], []
        self._road.etags = script.etags
        await self._open(script)
        for caller in self._callers.values():
            caller.chance, caller.agrees = random.Random(chance.random()), False
        self._conductor.begin(CALLERS, script.held, chance)
        with anyio.fail_after(LONGEST_S):
            async with anyio.create_task_group() as group:
                for name, steps in zip(CALLERS, script.steps, strict=True):
                    group.start_soon(self._go, self._callers[name], script, steps)
            await self._until_nothing_dials()
        dials = await run_sync(self._dials)
        days = (datetime.now(UTC).date() - began.date()).days + 1
        found = violations(self._calls, dials, script.people, days=days)
        await self._clear()
        return Played(self._calls, dials, found)

    async def aclose(self) -> None:
        """Let go of what it holds."""
        await self._rest.aclose()
        self._ledger.dispose()

    async def _open(self, script: Script) -> None:
        """The batch calls that are there at the beginning, made by the first caller as every other one is."""
        self._conductor.begin((), 0, random.Random(0))
        caller = self._callers[CALLERS[0]]
        caller.agrees = True
        for at, (people, state) in enumerate(script.opening):
            await self._step(caller, script, Step(kind="create", people=people))
            for kind in _TO[state]:
                await self._step(caller, script, Step(kind=kind, batch=at))
            if state == "finished":
                with anyio.fail_after(LONGEST_S):
                    await self._until_nothing_dials()

    async def _go(self, caller: Caller, script: Script, steps: tuple[Step, ...]) -> None:
        for step in steps:
            await self._conductor.hold(caller.name)
            await self._step(caller, script, step)
        self._conductor.leave(caller.name)

    async def _step(self, caller: Caller, script: Script, step: Step) -> None:
        tool, arguments = self._tool_call(script, step)
        call = await caller.do(step, tool, arguments)
        self._calls.append(call)
        if step.kind == "create":
            self._ids.append(call.results[0]["batch_call"]["batch_call_id"])

    def _tool_call(self, script: Script, step: Step) -> tuple[str, dict[str, Any]]:
        people = _tasks(script.people[step.people])
        if step.kind == "create":
            made = {"from_number": FROM, "tasks": people, "max_concurrency": 1, "name": f"Made {len(self._calls)}"}
            return "create_batch_call", made
        of: dict[str, Any] = {"batch_call_id": self._ids[step.batch]}
        tool, more = _CALLS[step.kind]
        if step.kind in {"replace", "replace and send"}:
            of |= {"tasks": people}
        elif step.kind == "add":
            of |= {"add_tasks": people}
        return tool, of | more()

    async def _until_nothing_dials(self) -> None:
        while await run_sync(self._dials_still):  # noqa: ASYNC110 - the dialer is another process
            await anyio.sleep(_POLL_S)

    def _dials_still(self) -> bool:
        soon = datetime.now(UTC) + timedelta(minutes=1)
        due = (batch_calls.c.status == "scheduled") & (batch_calls.c.scheduled_at < soon.timestamp() * 1000)
        live = sa.select(batch_calls.c.batch_call_id).where((batch_calls.c.status == "sent") | due).limit(1)
        calling = sa.select(attempts.c.task_id).where(attempts.c.outcome.is_(None)).limit(1)
        with self._store.reading() as tx:
            return any(tx.execute(query).first() is not None for query in (live, calling))

    def _dials(self) -> list[Dial]:
        """What the carrier was asked to dial since this was asked last, with the batch call that asked."""
        if not self._record.exists():
            return []
        with self._record.open(encoding="utf-8") as record:
            record.seek(self._read)
            lines = [json.loads(line) for line in record]
            self._read = record.tell()
        of_attempt = sa.select(attempts.c.task_id, attempts.c.batch_call_id)
        named = sa.select(tasks.c.task_id, tasks.c.name)
        with self._store.reading() as tx:
            batch_of: dict[str, str] = dict(tx.execute(of_attempt).tuples().all())
            name_of: dict[str, str] = dict(tx.execute(named).tuples().all())
        found = []
        for line in lines:
            task_id = line["attempt_id"].partition(":")[0]
            tag = name_of[task_id].split()[0] if task_id in name_of else None
            at = datetime.fromisoformat(line["at"])
            found.append(Dial(at, batch_of[task_id], line["to_number"], tag))
        return found

    async def _clear(self) -> None:
        """The next example begins a week later, as far as limits go, and without these batch calls."""
        while True:
            page = (await self._rest.get("/batch-call/list", params={"limit": 100})).raise_for_status().json()["data"]
            if not page["batch_calls"]:
                break
            for one in page["batch_calls"]:
                path = f"/batch-call/{one['batch_call_id']}"
                if one["status"] in {"scheduled", "paused"}:
                    (await self._rest.post(f"{path}/cancel")).raise_for_status()
                (await self._rest.delete(path)).raise_for_status()
        await run_sync(self._age)

    def _age(self) -> None:
        week = round(_A_WEEK.total_seconds() * 1000)
        writes, dialled = ledger_tables.writes, ledger_tables.dialled
        with self._ledger.begin() as tx:
            older = {name: writes.c[name] - week for name in ("at", "sent_at", "starts_at", "settled_at")}
            tx.execute(writes.update().values(older))
            tx.execute(dialled.update().values(at=dialled.c.at - week))


_TO: Final[Mapping[State, tuple[Any, ...]]] = {
    "draft": (),
    "scheduled": ("start tomorrow",),
    "paused": ("start now", "pause"),
    "finished": ("start now",),
}


def _soon() -> str:
    return (datetime.now(UTC) + timedelta(seconds=0.7)).isoformat()


def _tomorrow() -> str:
    return (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="minutes")


_CALLS: Final[Mapping[str, tuple[str, Callable[[], dict[str, Any]]]]] = {
    "replace": ("update_batch_call", dict),
    "replace and send": ("update_batch_call", lambda: {"send_now": True}),
    "add": ("update_batch_call", dict),
    "rename": ("update_batch_call", lambda: {"name": f"Renamed {random.random()}"}),
    "start now": ("start_batch_call", lambda: {"trigger_timestamp": "now"}),
    "start soon": ("start_batch_call", lambda: {"trigger_timestamp": _soon()}),
    "start tomorrow": ("start_batch_call", lambda: {"trigger_timestamp": _tomorrow()}),
    "send now": ("update_batch_call", lambda: {"send_now": True}),
    "move to tomorrow": ("update_batch_call", lambda: {"trigger_timestamp": _tomorrow()}),
    "make a draft again": ("update_batch_call", lambda: {"status": "draft"}),
    "pause": ("pause_batch_call", dict),
    "resume": ("resume_batch_call", dict),
    "cancel": ("cancel_batch_call", dict),
    "retry": ("retry_batch_call", dict),
}


def _tasks(people: People) -> list[dict[str, str]]:
    return [{"to_number": number, "name": f"{people.tag} Person"} for number in people.numbers]


@asynccontextmanager
async def opened(folder: Path, on: Database) -> AsyncIterator[House]:
    """A house on SQLite files or on PostgreSQL, for the dialer and the ledger alike."""
    shared = folder / "servers"
    at = postgresql_url() if on == "postgresql" else None
    dialer = EmbeddedDialer(
        folder / "dialer",
        simulated_speed=SPEED,
        database=postgresql_url() if on == "postgresql" else None,
        calling_hours="00:00-24:00",
    )
    conductor = Conductor()
    road = Road(dialer.app, conductor)
    pairs = {name: api_keys.new_pair() for name in CALLERS}
    for name, pair in pairs.items():
        await run_sync(api_keys.add, dialer.store(), pair, api_keys.LOCAL)
        road.callers[pair.api_key] = name
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(listening(road))
        variables = {
            "backend": "batchcall",
            "url": backend,
            "calling_hours": "00:00-24:00",
            "max_calls_per_launch": str(MAX_CALLS_PER_LAUNCH),
            "max_calls_per_day": str(MAX_CALLS_PER_DAY),
        } | ({"database_url": at} if at else {})
        places = (folder / "one", folder / "two") if at else (shared, shared)
        urls = [await stack.enter_async_context(serving(place, sessions=True, **variables)) for place in places]
        callers = {name: Caller(name, conductor) for name in CALLERS}
        for name, pair in pairs.items():
            headers = {"X-API-KEY": pair.api_key, "X-API-SECRET": pair.api_secret}
            for server, url in enumerate(urls):
                for era in ("auto", "legacy"):
                    way = Way("http", era)
                    client = client_of(url, way, headers=headers, elicitation_callback=callers[name].asked)
                    callers[name].clients[server, era] = await stack.enter_async_context(client)
        ledger = database.open_postgresql(at) if at else database.open_sqlite(shared / "ledger.db")
        house = House(
            dialer=dialer,
            road=road,
            conductor=conductor,
            callers=callers,
            ledger=ledger,
            record=folder / "dialer" / "carrier.jsonl",
        )
        try:
            yield house
        finally:
            await house.aclose()
