"""A store with batch calls of a carrier over a wire, and engines that dial them, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from batchcall_mcp.clock import utc_now
from batchcall_mcp.dialer.carriers.base import Carrier
from batchcall_mcp.dialer.carriers.gate import Gate
from batchcall_mcp.dialer.domain.records import BatchCallRecord, NewTask
from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from batchcall_mcp.dialer.engine.supervisor import EngineOptions, Supervisor
from batchcall_mcp.dialer.storage import commands, queries
from batchcall_mcp.dialer.storage.store import Store
from tests.dialer.conftest import ALWAYS, CALLER

FAST: Final[dict[str, Any]] = {
    "daily_cap": 3,
    "retry_delay": timedelta(minutes=5),
    "poll_seconds": 0.02,
    "beat_seconds": 0.1,
}


NOON = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)
"""In Los Angeles, on a Monday."""


class Moving:
    """The time as it goes by, from noon on; a test moves it."""

    def __init__(self) -> None:
        self.off = NOON - utc_now()

    def __call__(self) -> datetime:
        return utc_now() + self.off

    def set(self, at: datetime) -> None:
        self.off = at - utc_now()


class Standing(Moving):
    """The time of one moment, for what happens shortly before another one: a test alone moves it."""

    def __init__(self) -> None:
        self.set(NOON)

    def __call__(self) -> datetime:
        return self._at

    def set(self, at: datetime) -> None:
        self._at = at


class Desk:
    """A store with batch calls of the wire, and engines that dial them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def running(self, to_numbers: list[str], *, carrier: str = "wire", **given: object) -> str:
        columns = {
            "from_number": CALLER,
            "status": State.SENT,
            "max_concurrency": 10,
            "window": {**ALWAYS, "days": list(range(7)), "timezone": "recipient"},
            "carrier": carrier,
            **given,
        }
        with self.store.writing() as tx:
            tasks = [NewTask(to_number=number) for number in to_numbers]
            return commands.create(tx, "local", columns, tasks, self.store.now()).batch_call_id

    def move(self, batch_call_id: str, action: Action) -> None:
        with self.store.writing() as tx:
            commands.move(tx, queries.get(tx, "local", batch_call_id, lock=True), action, self.store.now())

    def record(self, batch_call_id: str) -> BatchCallRecord:
        with self.store.reading() as tx:
            return queries.get(tx, "local", batch_call_id)

    def statuses(self, batch_call_id: str) -> dict[str, int]:
        with self.store.reading() as tx:
            counts = queries.counts(tx, [batch_call_id])[batch_call_id]
        return {status.value: count for status, count in counts.by_status.items() if count}

    @asynccontextmanager
    async def engine(
        self,
        carrier: Carrier,
        *,
        store: Store | None = None,
        dispatch: type[Dispatch] = Dispatch,
        gate: Gate | None = None,
        **given: Any,
    ) -> AsyncIterator[Supervisor]:
        """One of this process; `store`: another way to the same database."""
        store = store or self.store
        own = store.for_dialling()
        options = EngineOptions(**{**FAST, **given})
        host = Supervisor(own, carrier, options, before_claims=lambda: None, dispatch=dispatch, gate=gate)
        closing, launched = asyncio.Event(), asyncio.Event()
        run = asyncio.create_task(host.run(closing, launched.set))
        await launched.wait()
        try:
            yield host
        finally:
            closing.set()
            await run
            if own is not store:
                own.close()
