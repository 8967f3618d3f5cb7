"""Our dialer as a fake for the contract suite: the real REST face and database; its engine moves when it is moved."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from starlette.types import Message, Receive, Scope, Send

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.engine import scheduler
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from batchcall_mcp.dialer.engine.outcomes import Ended
from batchcall_mcp.dialer.storage.tables import batch_calls
from batchcall_mcp.model import TaskStatus

CAPACITY = 1000


class DialerFake:
    """After each request the engine's work is done at once, by the calls that the engine makes, in this thread."""

    from_number, agent_id = "+14157774444", "agent_1"

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.dialled: list[str] = []
        self.writes: list[str] = []
        self._folder = TemporaryDirectory()
        self._dialer = EmbeddedDialer(Path(self._folder.name), clock=lambda: self.now, late_after=None)
        self._store = self._dialer.store()
        self._dispatch = Dispatch(self._store, "contract", daily_cap=100, retry_delay=timedelta(minutes=5))
        self._calls: list[Attempt] = []
        self._said: dict[tuple[str, str], str] = {}
        self.key, self.secret = self._dialer.credentials

    def close(self) -> None:
        """Let its database go."""
        self._store.close()
        self._folder.cleanup()

    def batch_ids(self) -> list[str]:
        """The ids of its batch calls, the oldest first."""
        with self._store.reading() as look:
            query = sa.select(batch_calls.c.batch_call_id).order_by(batch_calls.c.created_at)
            return list(look.execute(query).scalars())

    def tick(self, now: datetime) -> None:
        """Move its time; what is due is dialled."""
        self.now = now
        self._work()

    def finish(self, batch_id: str, outcomes: Mapping[str, str], otherwise: str = "completed") -> None:
        """End every call in progress of one batch call."""
        over = [one for one in self._calls if one.batch_call_id == batch_id]
        self._calls = [one for one in self._calls if one.batch_call_id != batch_id]
        ended = [
            Ended(one.task_id, one.n, batch_id, TaskStatus(outcomes.get(one.to_number, otherwise))) for one in over
        ]
        self._dispatch.record_and_claim(ended, {})

    def say_status(self, batch_id: str, word: str) -> None:
        """It has no words of its own that it does not know: its answers are changed."""
        self._said["batch_call_id", batch_id] = word

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """The same."""
        self._said["to_number", number] = word

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, then work if there may be any."""
        writes = scope["method"] != "GET"
        if writes:
            self.writes.append(f"{scope['method']} {scope['path']}")
        await self._dialer.app(scope, receive, self._changing(send))
        if writes:
            self._work()

    def _work(self) -> None:
        for _ in range(3):  # a time that comes, people who are called, a batch call that is over
            work = scheduler.look(self._store, CAPACITY)
            if not work.moves and not work.open:
                break
            self._dispatch.start_arrived(work.moves)
            wanted = {one.batch_call_id: one.due for one in work.open}
            if wanted:
                started = self._dispatch.record_and_claim([], wanted).started
                self._dispatch.dial(started, self.now, lambda: True, self._dial)

    def _dial(self, attempt: Attempt) -> bool:
        self.dialled.append(attempt.to_number)
        self._calls.append(attempt)
        return True

    def _changing(self, send: Send) -> Callable[[Message], Awaitable[None]]:
        if not self._said:
            return send
        start: MutableMapping[str, Any] = {}
        parts = bytearray()

        async def change(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            parts.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            body = json.dumps(self._changed(json.loads(parts))).encode()
            headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": body})

        return change

    def _changed(self, said: Any) -> Any:
        if isinstance(said, list):
            return [self._changed(one) for one in said]
        if not isinstance(said, dict):
            return said
        words = [word for (name, value), word in self._said.items() if said.get(name) == value and "status" in said]
        return {name: self._changed(value) for name, value in said.items()} | ({"status": words[0]} if words else {})
