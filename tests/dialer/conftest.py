"""A dialer of its own for each test, spoken to over its REST face."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import httpx2
import pytest
from fastapi import FastAPI

from batchcall_mcp.dialer import app
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier
from batchcall_mcp.dialer.engine import engine
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import installation, metadata
from tests.postgresql import emptied, postgresql_url

ALWAYS = {"start": "00:00", "end": "24:00"}
CALLER = "+14157774444"


class Clock:
    """A clock that stands still until a test moves it; it starts on a Monday, noon in Los Angeles."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


def numbers(count: int, last_digit: int = 0) -> list[str]:
    """Valid numbers in Los Angeles that end in `last_digit`."""
    return [f"+12132{index:05d}{last_digit}" for index in range(count)]


def body(to_numbers: list[str], **fields: Any) -> dict[str, Any]:
    """A batch call that may be dialled at any hour."""
    return {
        "from_number": CALLER,
        "tasks": [{"to_number": to_number} for to_number in to_numbers],
        "window": ALWAYS,
        **fields,
    }


def client_of(app: FastAPI, key: str, secret: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app),
        base_url="http://dialer",
        headers={"X-API-KEY": key, "X-API-SECRET": secret},
    )


@dataclass
class Caller:
    """A dialer, and one organisation's way to speak to it."""

    dialer: EmbeddedDialer
    http: httpx2.AsyncClient
    clock: Clock
    data_dir: Path

    async def ask(self, method: str, path: str, content: Any = None, status: int = 200, **options: Any) -> Any:
        """The `data` of a success, the whole envelope of an expected error."""
        answer = await self.http.request(method, path, json=content, **options)
        assert answer.status_code == status, answer.text
        envelope = answer.json()
        assert envelope["status"] == ("success" if status == 200 else "error")
        return envelope["data"] if status == 200 else envelope

    async def create(self, to_numbers: list[str], **fields: Any) -> str:
        data = await self.ask("POST", "/batch-call", body(to_numbers, **fields))
        return str(data["batch_call_id"])

    async def get(self, batch_call_id: str) -> dict[str, Any]:
        data: dict[str, Any] = await self.ask("GET", f"/batch-call/{batch_call_id}")
        assert sum(data["counts"].values()) == data["total"] == data["total_task_count"]
        assert data["completed"] <= data["picked_up"] <= data["sent"] <= data["total"]
        return data

    async def tasks(self, batch_call_id: str) -> list[dict[str, Any]]:
        data = await self.ask("GET", f"/batch-call/{batch_call_id}/tasks?limit=1000")
        return list(data["tasks"])

    async def until(
        self, batch_call_id: str, reached: Callable[[Mapping[str, Any]], bool], seconds: float = 60
    ) -> dict[str, Any]:
        """The batch call, as soon as it is so. Less often with time: each look costs as much as some calls."""
        pause = 0.02
        with anyio.fail_after(seconds):
            while True:
                if reached(data := await self.get(batch_call_id)):
                    return data
                await anyio.sleep(pause)
                pause = min(pause * 1.2, 0.1)

    async def until_status(self, batch_call_id: str, status: str) -> dict[str, Any]:
        return await self.until(batch_call_id, lambda data: data["status"] == status)

    def dialled(self) -> list[dict[str, str]]:
        """What the carrier was asked to dial, in order: the judge."""
        return dialled(self.data_dir)


async def eventually(reached: Callable[[], bool]) -> None:
    """Wait for what another thread or process does."""
    with anyio.fail_after(60):
        while True:
            if reached():
                return
            await anyio.sleep(0.01)


def dialled(data_dir: Path) -> list[dict[str, str]]:
    record = data_dir / "carrier.jsonl"
    return [json.loads(line) for line in whole_lines(record)] if record.exists() else []


def whole_lines(record: Path) -> list[str]:
    """Without one that is being written, or that a full disk cut short: that is no dial."""
    return [line for line in record.read_text().splitlines() if line.endswith("}")]


NewCaller: TypeAlias = Callable[..., AbstractAsyncContextManager[Caller]]


@pytest.fixture(autouse=True)
def _tries_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dialer of this process that waits for its file or its database, or that failed: not only after a second."""
    monkeypatch.setattr(app, "LOCK_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.02)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def new_caller(tmp_path: Path, clock: Clock) -> NewCaller:
    """Makes dialers; `start=False` is a process that only serves."""

    @asynccontextmanager
    async def make(*, start: bool = True, folder: Path = tmp_path, **given: Any) -> AsyncIterator[Caller]:
        options: dict[str, Any] = {"simulated_speed": 10_000.0, "clock": clock, "poll_seconds": 0.1}
        # The clocks of tests jump by hours while a dialer runs: that is no dialer that was away.
        options = options | {"late_after": None} | given
        dialer = EmbeddedDialer(folder, **options)
        if start:
            await dialer.start()
        try:
            async with client_of(dialer.app, *dialer.credentials) as http:
                yield Caller(dialer, http, clock, folder)
        finally:
            await dialer.aclose()

    return make


@pytest.fixture
async def caller(new_caller: NewCaller) -> AsyncIterator[Caller]:
    async with new_caller() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
async def desk(new_caller: NewCaller, request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    """A dialer whose engine is not running: nothing changes unless the test asks for it."""
    database = emptied_postgresql() if request.param == "postgresql" else None
    async with new_caller(start=False, database=database) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
async def real(
    new_caller: NewCaller, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Caller]:
    """A dialer whose carrier says that phones ring."""
    monkeypatch.setattr(SimulatedCarrier, "places_real_calls", True)
    database = emptied_postgresql() if request.param == "postgresql" else None
    async with new_caller(database=database) as made:
        yield made


def on_sqlite(fixture: str) -> pytest.MarkDecorator:
    """For a test whose claim is decided above the storage: on PostgreSQL the same code would decide it again."""
    return pytest.mark.parametrize(fixture, ["sqlite"], indirect=True)


@cache
def _postgresql() -> str:
    url = postgresql_url()
    Store.open(url).close()
    return url


def emptied_postgresql() -> str:
    """One database for all tests of this process, empty: making one for each would take longer than the tests."""
    url = _postgresql()
    emptied(url, metadata, installation.insert().values(one=1))
    return url
