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
from typing import TypeAlias

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


Trouble: TypeAlias = Callable[[Attempt], Awaitable[None]]


def call_id_of(attempt_id: str) -> str:
    """As the vendor names the call."""
    return f"call-{attempt_id}"


async def no_trouble(attempt: Attempt) -> None:
    """Nothing goes wrong."""


class Wire:
    """Real phones, as far as the engine can tell.

    `trouble` is awaited before a request leaves, `granted` when it may, and `answered` when it has; they may raise.
    """

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
        trouble: Trouble = no_trouble,
        granted: Trouble = no_trouble,
        answered: Trouble = no_trouble,
    ) -> None:
        self.capacity = capacity
        self.calls_per_second = calls_per_second
        self.record = folder / "vendor.jsonl"
        self.trouble, self.granted, self.answered = trouble, granted, answered
        self.looked_up: list[str] = []
        self._speed = speed
        self._clock = clock

    def dial(self, attempt: Attempt) -> None:
        """It asks for the call later."""

    async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
        call_id = line.call_id
        if call_id is None and line.asked_since is not None:
            call_id = self._found(attempt)
            if call_id is None:
                return Outcome(TaskStatus.INTERRUPTED, "the vendor knows no such call")
            await line.placed(call_id)
        if call_id is None:
            await self.trouble(attempt)
            async with line.sending():
                await self.granted(attempt)
                self._write(self._request(attempt))
                call_id = self._answer(attempt)
            await self.answered(attempt)
            await line.placed(call_id)
        outcome, seconds = simulate(attempt.to_number, attempt.n)
        await asyncio.sleep(seconds / self._speed)
        return outcome

    def _found(self, attempt: Attempt) -> str | None:
        self.looked_up.append(attempt.attempt_id)
        known = {call["attempt_id"]: call["call_id"] for call in self.calls()}
        return known.get(attempt.attempt_id)

    def _request(self, attempt: Attempt) -> bytes:
        line = {"at": self._clock().isoformat(), "attempt_id": attempt.attempt_id, "to_number": attempt.to_number}
        line["call_id"] = call_id_of(attempt.attempt_id)
        line["pid"] = str(os.getpid())
        return f"{json.dumps(line)}\n".encode()

    def _write(self, request: bytes) -> None:
        descriptor = os.open(self.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, request)
        finally:
            os.close(descriptor)

    def _answer(self, attempt: Attempt) -> str:
        call_id = call_id_of(attempt.attempt_id)
        assert self.count()
        return call_id

    def count(self) -> int:
        """How often it was asked for one."""
        return self.record.read_bytes().count(b"\n") if self.record.exists() else 0

    def calls(self) -> list[dict[str, str]]:
        """What it was asked for, in order."""
        if not self.record.exists():
            return []
        return [json.loads(line) for line in self.record.read_text().splitlines() if line.endswith("}")]
