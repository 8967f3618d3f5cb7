"""What is asked of which backend while the process dies, and what the backend itself does badly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
import httpx2
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchcall_mcp.dialer.app import EmbeddedDialer
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, dials, number

PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 2)]
TASKS = [{"to_number": one} for one in PEOPLE]
NOW = {"trigger_timestamp": "now"}

Trouble: TypeAlias = Literal["none", "never carried out", "carried out", "half answered", "carried out later"]
"""What becomes of a write whose arrival kills the process that sent it. `none`: a line of our own code is the end."""


@dataclass
class Front:
    """Stands before a backend, and does what the trouble says to the first write that it is aimed at."""

    app: ASGIApp
    is_write: Callable[[str, str, Any], bool]
    kill: Callable[[], None]
    trouble: Trouble = "none"
    late: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = await Request(scope, receive).body()

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def unheard(_message: Message) -> None:
            return

        trouble = self.trouble
        if trouble == "none" or not self.is_write(scope["method"], scope["path"], json.loads(body) if body else None):
            await self.app(scope, again, send)
            return
        self.trouble = "none"
        if trouble == "half answered":
            await self.app(scope, again, unheard)
            headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"data":', "more_body": True})
        self.kill()
        if trouble == "carried out":
            await self.app(scope, again, unheard)
        elif trouble == "carried out later":
            self.late.append(lambda: self.app(scope, again, unheard))
        await Response(status_code=503)(scope, again, unheard)

    async def catch_up(self) -> None:
        """What was to be carried out later is carried out now, although nobody waits for it any more."""
        while self.late:
            await self.late.pop()()


@dataclass
class Scene:
    """One tool call, on a backend of its own.

    `effects` is how often it was done at the backend: for a draft the number of drafts, else the dials of each person.
    """

    name: str
    environment: dict[str, str]
    tool: str
    arguments: dict[str, Any]
    effects: Callable[[], Awaitable[int]]
    front: Front
    keeps_keys: bool = False
    lag: Callable[[bool], None] | None = None
    """Makes the backend's answers lag behind what it did, or catch up."""


def most_dials(dialled: Iterable[str]) -> int:
    """How often the three people were called, all of them alike."""
    counted = Counter(dialled)
    counts = {counted[one] for one in PEOPLE}
    assert len(counts) == 1, f"some were called oftener than others: {counted}"
    return counts.pop()


class LaggingZudu(Zudu):
    """Zudu whose answers may be as old as when it was told to lag."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, str] | None = None

    def lag(self, on: bool) -> None:
        self.known = {name: batch.status for name, batch in self.batches.items()} if on else None

    def _shown(self, batch: zudu.Batch, told: tuple[str, ...] | None = None) -> dict[str, Any]:
        if self.known is None:
            return super()._shown(batch, told)
        now, batch.status = batch.status, self.known.get(batch.batch_call_id, batch.status)
        shown = super()._shown(batch, told)
        batch.status = now
        return shown

    async def _list(self, request: Request) -> Response:
        if self.known is None:
            return await super()._list(request)
        everything, self.batches = self.batches, {n: b for n, b in self.batches.items() if n in (self.known or {})}
        try:
            return await super()._list(request)
        finally:
            self.batches = everything


def zudu_environment(url: str, home: Path, backend: str = "zudu") -> dict[str, str]:
    return common(home) | {
        "BATCHCALL_BACKEND": backend,
        "BATCHCALL_URL": url,
        "BATCHCALL_API_KEY": zudu.KEY,
        "BATCHCALL_API_SECRET": zudu.SECRET,
    }


def common(home: Path) -> dict[str, str]:
    return {"BATCHCALL_DATA_DIR": str(home), "BATCHCALL_LOG_LEVEL": "ERROR", "BATCHCALL_SIMULATED_SPEED": "2000"}


@asynccontextmanager
async def zudu_start(home: Path, kill: Callable[[], None]) -> AsyncIterator[Scene]:
    """The backend has no keys: only what it shows can say that it dials."""
    vendor = LaggingZudu()
    tasks = [zudu.Task(f"task_{at}", one, {}) for at, one in enumerate(PEOPLE)]
    vendor.batches["bc_1"] = zudu.Batch("bc_1", "org_first", vendor.now, {"from_number": FROM}, "DRAFT", None, tasks)
    front = Front(vendor.recording, lambda method, path, _json: method == "POST" and path.endswith("/execute"), kill)

    async def dialled() -> int:
        return most_dials(vendor.dialled)

    async with listening(front) as url:
        yield Scene(
            "zudu: start_batch_call",
            zudu_environment(url, home),
            "start_batch_call",
            {"batch_call_id": "bc_1", **NOW},
            dialled,
            front,
            lag=vendor.lag,
        )


@asynccontextmanager
async def zudu_draft(home: Path, kill: Callable[[], None]) -> AsyncIterator[Scene]:
    """A draft dials nobody, but two of them may be started both."""
    vendor = LaggingZudu()
    front = Front(vendor.recording, lambda method, path, _json: (method, path) == ("POST", "/batch-call"), kill)

    async def drafts() -> int:
        return len(vendor.batches)

    async with listening(front) as url:
        yield Scene(
            "zudu: create_batch_call, a draft",
            zudu_environment(url, home),
            "create_batch_call",
            {"from_number": FROM, "tasks": TASKS},
            drafts,
            front,
            lag=vendor.lag,
        )


def _magpipe_writes(action: str) -> Callable[[str, str, Any], bool]:
    return lambda _method, path, body: path == "/batch-calls" and body["action"] == action


@asynccontextmanager
async def magpipe_create(home: Path, kill: Callable[[], None]) -> AsyncIterator[Scene]:
    """A create that dials: absent is not the same as not made."""
    vendor = Magpipe()
    front = Front(vendor.recording, _magpipe_writes("create"), kill)

    async def dialled() -> int:
        return most_dials(vendor.dialled)

    async with listening(front) as url:
        yield Scene(
            "magpipe: create_batch_call that dials",
            common(home) | {"BATCHCALL_BACKEND": "magpipe", "BATCHCALL_URL": url, "BATCHCALL_API_KEY": magpipe.KEY},
            "create_batch_call",
            {"from_number": FROM, "tasks": TASKS, **NOW},
            dialled,
            front,
        )


@asynccontextmanager
async def magpipe_start(home: Path, kill: Callable[[], None]) -> AsyncIterator[Scene]:
    """The backend's own second start would call everybody again."""
    vendor = Magpipe()
    batch = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "draft")
    front = Front(vendor.recording, _magpipe_writes("start"), kill)

    async def dialled() -> int:
        return most_dials(vendor.dialled)

    async with listening(front) as url:
        yield Scene(
            "magpipe: start_batch_call",
            common(home) | {"BATCHCALL_BACKEND": "magpipe", "BATCHCALL_URL": url, "BATCHCALL_API_KEY": magpipe.KEY},
            "start_batch_call",
            {"batch_call_id": batch["id"], **NOW},
            dialled,
            front,
        )


@asynccontextmanager
async def dialect(home: Path, kill: Callable[[], None], *, draft: bool) -> AsyncIterator[Scene]:
    """A dialer as a server of its own, which keeps idempotency keys: what may not have arrived is sent again."""
    dialer = EmbeddedDialer(home / "dialer", simulated_speed=2000, poll_seconds=0.1)
    await dialer.start()
    key, secret = dialer.credentials
    headers = {"X-API-KEY": key, "X-API-SECRET": secret}
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(dialer.app), base_url="http://dialer", headers=headers
    ) as client:
        body = {"from_number": FROM, "tasks": TASKS, "window": {**ALWAYS, "days": list(range(7)), "timezone": "UTC"}}
        made = (await client.post("/batch-call", json=body)).json()["data"]["batch_call_id"]

        async def drafts() -> int:
            return len((await client.get("/batch-call/list")).json()["data"]["batch_calls"]) - 1

        async def dialled() -> int:
            with anyio.fail_after(30):
                while (await client.get(f"/batch-call/{made}")).json()["data"]["status"] == "sent":  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            return most_dials(dials(home / "dialer").elements())

        def writes(method: str, path: str, _json: Any) -> bool:
            return method == "POST" and (path == "/batch-call" if draft else path.endswith("/execute"))

        front = Front(dialer.app, writes, kill)
        async with listening(front) as url:
            pair = {"BATCHCALL_API_KEY": key, "BATCHCALL_API_SECRET": secret}
            yield Scene(
                f"batchcall: {'create_batch_call, a draft' if draft else 'start_batch_call'}",
                zudu_environment(url, home, "batchcall") | pair,
                "create_batch_call" if draft else "start_batch_call",
                {"from_number": FROM, "tasks": TASKS} if draft else {"batch_call_id": made, **NOW},
                drafts if draft else dialled,
                front,
                keeps_keys=True,
            )
    await dialer.aclose()


SCENES: Mapping[str, Callable[[Path, Callable[[], None]], AbstractAsyncContextManager[Scene]]] = {
    "zudu start": zudu_start,
    "zudu draft": zudu_draft,
    "magpipe create": magpipe_create,
    "magpipe start": magpipe_start,
    "dialect start": partial(dialect, draft=False),
    "dialect draft": partial(dialect, draft=True),
}
TROUBLES: tuple[Trouble, ...] = ("never carried out", "carried out", "half answered", "carried out later")
