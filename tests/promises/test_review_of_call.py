"""Attempts to make `batchcall-mcp call` ring twice, ring by a read, or lie with its exit code; and to misuse notices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.promises.test_what_was_approved import draft
from tests.promises.test_what_was_approved import ledger as shared_ledger
from tests.vendors import magpipe
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.walks.stage import NEW_YORK, number, playing

PEOPLE = [number(NEW_YORK, line) for line in range(2)]
UNATTENDED: dict[str, Any] = {
    "backend": "magpipe",
    "api_key": magpipe.KEY,
    "calling_hours": "00:00-24:00",
    "confirm": "off",
    "max_calls_per_launch": "10",
    "undo_seconds": "0",
    "accept_no_stop": "true",
}
ledger = shared_ledger


# --- The same job twice at once ------------------------------------------------------------------------------------


class Overlap:
    """A vendor whose answer to the second of two jobs is under way while the first one's start begins and ends."""

    def __init__(self, vendor: Magpipe) -> None:
        self._vendor = vendor
        self._of_first: set[object] = set()
        self.started, self.looked, self.first_is_over = anyio.Event(), anyio.Event(), anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold the start until the other has been read, and that answer until the start is over."""
        if scope["type"] != "http":
            await self._vendor.recording(scope, receive, send)
            return
        message = await receive()
        action = json.loads(message.get("body") or b"{}").get("action")
        if not self.started.is_set():
            self._of_first.add(scope["client"])
            if action == "start":
                self.started.set()
                await self.looked.wait()
        of_second = scope["client"] not in self._of_first
        answer: list[Message] = []

        async def again() -> Message:
            return message

        async def keep(part: Message) -> None:
            answer.append(part)

        await self._vendor.recording(scope, again, keep)
        if of_second and action == "get" and not self.looked.is_set():
            self.looked.set()
            await self.first_is_over.wait()
        for part in answer:
            await send(part)


async def test_a_job_that_looks_while_another_one_starts_the_same_starts_nothing(ledger: dict[str, str]) -> None:
    """What it has read may be older than the start, although the start was recorded before it read."""
    vendor = Magpipe()
    overlap = Overlap(vendor)
    async with (
        listening(overlap) as url,
        playing("auto", None, url=url, **UNATTENDED | ledger) as first,
        playing("auto", None, url=url, **UNATTENDED | ledger) as second,
    ):
        start = await draft(first, PEOPLE)

        async def one_job() -> None:
            await first.call("start_batch_call", **start)
            overlap.first_is_over.set()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as jobs:
                jobs.start_soon(one_job)
                await overlap.started.wait()
                replayed = await second.call("start_batch_call", **start)
    assert len(vendor.actions("start")) == 1
    assert replayed["replayed"] is True
