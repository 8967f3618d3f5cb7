"""A carrier over a wire that is a file: what a vendor of calls does, for tests of the engine that dials through it.

Every request for a call is one line of the file, written when it leaves. The file is the vendor: it outlives processes,
finds calls by attempt id, and knows how each ended (`carriers.simulated.simulate`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from batchcall_mcp.clock import Clock, utc_now
from batchcall_mcp.dialer.carriers.base import Attempt, Line, Outcome
from batchcall_mcp.dialer.carriers.simulated import simulate
from batchcall_mcp.model import TaskStatus


class NewLine:
    """A line of nobody: everything may be sent."""

    call_id: str | None = None
    asked_since: datetime | None = None

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        yield

    async def placed(self, call_id: str) -> None:
        """Nobody has to know."""


async def no_trouble(attempt: Attempt) -> None:
    """Nothing goes wrong."""


class Wire:
    """Real phones, as far as the engine can tell. `trouble` is awaited before a request leaves, and may raise."""

    name = "wire"
    title = "the wire"
    places_real_calls = True
    calls_outlive_us = True

    def __init__(
        self,
        folder: Path,
        *,
        capacity: int = 10,
        calls_per_second: float | None = 50.0,
        speed: float = 1_000.0,
        clock: Clock = utc_now,
        trouble: Callable[[Attempt], Awaitable[None]] = no_trouble,
    ) -> None:
        self.capacity = capacity
        self.calls_per_second = calls_per_second
        self.record = folder / "vendor.jsonl"
        self.trouble = trouble
        self.looked_up: list[str] = []
        self._speed = speed
        self._clock = clock

    def dial(self, attempt: Attempt) -> None:
        """It asks for the call later."""

    async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
        call_id = line.call_id
        if call_id is None and line.asked_since is not None:
            self.looked_up.append(attempt.attempt_id)
            call_id = next((call["call_id"] for call in self.calls() if call["attempt_id"] == attempt.attempt_id), None)
            if call_id is None:
                return Outcome(TaskStatus.INTERRUPTED, "the vendor knows no such call")
        if call_id is None:
            await self.trouble(attempt)
            async with line.sending():
                call_id = self._ask(attempt)
            await line.placed(call_id)
        outcome, seconds = simulate(attempt.to_number, attempt.n)
        await asyncio.sleep(seconds / self._speed)
        return outcome

    def _ask(self, attempt: Attempt) -> str:
        call_id = f"call-{attempt.attempt_id}"
        line = {"at": self._clock().isoformat(), "attempt_id": attempt.attempt_id, "to_number": attempt.to_number}
        descriptor = os.open(self.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{json.dumps(line | {'call_id': call_id})}\n".encode())
        finally:
            os.close(descriptor)
        return call_id

    def calls(self) -> list[dict[str, str]]:
        """What it was asked for, in order."""
        if not self.record.exists():
            return []
        return [json.loads(line) for line in self.record.read_text().splitlines() if line.endswith("}")]
