"""A vendor that is played on a loopback socket, down to the bytes, and the carrier that stands on it.

Its API is nobody's: as small as the hooks of `HttpCarrier` allow. Each kind of request may go wrong by a script.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CallDetails,
    CarrierAccount,
    CarrierUnavailable,
    Outcome,
    OutcomeStatus,
)
from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, HttpCarrier, Progress, Seen
from batchcall_mcp.dialer.carriers.vendor_api import Refused
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from batchcall_mcp.vendor_http.http_call import HttpCall
from tests.faults.server import Answerer, Asked, answer, listening, read_request

KEY = "key_0123456789abcdef0123"
SECRET = "secret_fedcba9876543210"
FROM = "+12125550100"
BEGIN = datetime(2026, 3, 2, 15, tzinfo=UTC)


class Time:
    """Time that passes only when somebody sleeps, and at once."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.slept: list[float] = []
        self.at: Callable[[float], None] = lambda _elapsed: None
        """Called after each pause, with the time that has passed."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.slept.append(seconds)
        self.elapsed += seconds
        self.at(self.elapsed)

    def clock(self) -> float:
        return 1000.0 + self.elapsed

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.elapsed)


@dataclass
class Step:
    """One request that goes wrong: how, and whether it takes effect before."""

    fault: Answerer
    done: bool = False


@dataclass
class Placed:
    """A call at the vendor. `story`: what each further read shows; the last one stays."""

    call_id: str
    attempt: str
    to_number: str
    story: list[str]
    told: list[str] = field(default_factory=list)


class ScriptedVendor:
    """`story`: what reads of a call show, one after the other, for the calls placed from now on."""

    def __init__(self, *story: str) -> None:
        self.story = story or ("going", "completed")
        self.requests: list[Asked] = []
        self.calls: dict[str, Placed] = {}
        self.script: defaultdict[str, deque[Step]] = defaultdict(deque)
        self.always: dict[str, Step] = {}
        self.numbers: Any = [{"number": FROM}]
        self.agents: Any = [{"id": "agent_1", "needs": ["name"]}, {"id": "agent_2", "needs": []}]
        self.created: Callable[[Placed], Any] = lambda call: {"id": call.call_id, "status": "queued"}
        self.url = ""
        self.during: Callable[[str], None] = lambda _kind: None
        """Called as a request of a kind arrives."""
        self.knows_keys = False
        """The same attempt again is the same call."""

    def goes_wrong(self, kind: str, *faults: Answerer, done: bool = False) -> None:
        """The next requests of this kind; `kind`: create, look, find, stop, numbers, agents."""
        self.script[kind] += [Step(fault, done) for fault in faults]

    def asked(self, kind: str) -> list[Asked]:
        """The requests of this kind."""
        return [one for one in self.requests if _kind(one) == kind]

    @property
    def rung(self) -> list[str]:
        """Who was rung, in order."""
        return [call.to_number for call in self.calls.values()]

    @asynccontextmanager
    async def served(self) -> AsyncIterator[ScriptedVendor]:
        """On its socket, one connection for each request."""
        async with listening(self._serve) as self.url:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await read_request(reader)
        self.requests.append(asked)
        kind = _kind(asked)
        self.during(kind)
        step = self.script[kind].popleft() if self.script[kind] else self.always.get(kind)
        if step is None or step.done:
            right = self._answer(kind, asked)
        await (right if step is None else step.fault)(reader, writer)

    def _answer(self, kind: str, asked: Asked) -> Answerer:
        if dict(asked.headers).get(b"authorization") != f"Bearer {KEY}".encode():
            return answer(401, json.dumps({"message": f"wrong key: {asked.credentials}"}))
        if kind == "create":
            known = [one for one in self.calls.values() if one.attempt == asked.json["attempt"] and self.knows_keys]
            call = (
                known[0]
                if known
                else Placed(f"call_{len(self.calls) + 1}", asked.json["attempt"], asked.json["to"], list(self.story))
            )
            self.calls[call.call_id] = call
            return answer(201, json.dumps(self.created(call)))
        if kind == "find":
            wanted = parse_qs(urlsplit(asked.target).query)["attempt"][0]
            return answer(200, json.dumps([one.call_id for one in self.calls.values() if one.attempt == wanted]))
        if kind in {"numbers", "agents"}:
            return answer(200, json.dumps(getattr(self, kind)))
        call = self.calls[asked.path.split("/")[2]]
        if kind == "stop":
            call.story = [call.told[-1] + ":stopped" if call.told else "failed"]
            return answer(204)
        call.told.append(call.story.pop(0) if len(call.story) > 1 else call.story[0])
        return answer(200, json.dumps({"status": call.told[-1], "words": "as the vendor has it"}))


def _kind(asked: Asked) -> str:
    if asked.path in {"/numbers", "/agents"}:
        return asked.path[1:]
    if asked.path == "/calls":
        return "create" if asked.method == "POST" else "find"
    return "stop" if asked.path.endswith("/stop") else "look"


class ScriptedCarrier(HttpCarrier):
    """The hooks for that vendor."""

    name = "scripted"
    title = "Scripted"
    default_url = "https://api.scripted.example"
    default_concurrency = 7

    async def numbers(self) -> Sequence[CallerNumber] | None:
        return [CallerNumber(from_number=one["number"]) for one in await self.read(HttpCall("GET", "/numbers"))]

    async def agents(self) -> Sequence[Agent] | None:
        rows = await self.read(HttpCall("GET", "/agents"))
        return [Agent(agent_id=one["id"], variables=tuple(one["needs"])) for one in rows]

    def create_call(self, attempt: Attempt, account: CarrierAccount) -> HttpCall:
        body = {"to": attempt.to_number, "from": attempt.from_number, "attempt": attempt.attempt_id}
        return HttpCall("POST", "/calls", json=body)

    def created(self, body: Any, attempt: Attempt) -> str | Outcome | None:
        if body.get("later"):
            raise CarrierUnavailable("too many calls at once", retry_after=20)
        if body.get("refused"):
            return Outcome(TaskStatus.FAILED, self.words(body["refused"]))
        found: str | None = body.get("id")
        return found

    def refused(self, no: Refused, attempt: Attempt) -> Outcome:
        if no.status == 400 and "blocked" in no.said:
            return Outcome(TaskStatus.FAILED, f"Refused.{no.said}", permanent=True)
        return super().refused(no, attempt)

    async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]:
        call = HttpCall("GET", "/calls", query={"attempt": attempt.attempt_id, "since": since.isoformat()})
        found: list[str] = await self.read(call)
        return found

    async def look(self, call_id: str, attempt: Attempt) -> Seen:
        row = await self.read(HttpCall("GET", "/calls/{id}").at(id=call_id))
        status, _, _ = row["status"].partition(":")
        if status in {"queued", "going"}:
            if row["status"].endswith("stopped"):
                return Outcome(TaskStatus.FAILED, "canceled", backend_status="canceled")
            return Progress(status)
        if status == "later":
            return CarrierUnavailable("too many calls at once", retry_after=30)
        if status == "unpaid":
            return AccountAtFault("no credit")
        return Outcome(cast("OutcomeStatus", TaskStatus(status)), row["words"], backend_status=row["status"])

    async def hang_up(self, call_id: str) -> None:
        await self.read(HttpCall("POST", "/calls/{id}/stop").at(id=call_id))

    async def details(self, call_id: str) -> CallDetails:
        row = await self.read(HttpCall("GET", "/calls/{id}").at(id=call_id))
        return CallDetails(ended_reason=row["status"])

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:
        return headers.get("x-signed") == SECRET

    def named(self, body: bytes) -> Sequence[str]:
        return re.findall(r"call_[0-9]+", body.decode())

    def told(self, call_id: str, body: bytes) -> Outcome | None:
        return Outcome(TaskStatus.BUSY) if b"busy" in body else None


def config_for(url: str | None, **more: Any) -> CarrierConfig:
    """Settings with a key."""
    return CarrierConfig(**{"key": SecretStr(KEY), "secret": SecretStr(SECRET), "url": url} | more)


@dataclass
class ScriptedLine:
    """What the engine would offer, with everything that was done on it."""

    call_id: str | None = None
    asked_since: datetime | None = None
    did: list[str] = field(default_factory=list)
    refuses: Exception | None = None
    on_sending: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        if self.refuses is not None:
            raise self.refuses
        self.did.append("held")
        self.on_sending()
        try:
            yield
        finally:
            self.did.append("let go")

    async def placed(self, call_id: str) -> None:
        self.did.append(call_id)


def attempt_to(to_number: str = "+12125550123", n: int = 1, **more: Any) -> Attempt:
    """A call to somebody."""
    given: dict[str, Any] = {
        "task_id": "task_" + "0" * 32,
        "n": n,
        "batch_call_id": "b1",
        "from_number": FROM,
        "to_number": to_number,
        "agent_id": "agent_2",
    }
    return Attempt(**given | more)
