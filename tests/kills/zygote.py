"""Makes tool calls in processes of their own, and kills them at a chosen line of code.

Run as `python -m tests.kills.zygote`, itself forked from a process that has imported everything (`tests/forked.py`). It
forks for every job, so that hundreds of processes cost seconds. A job is a line of JSON on stdin; its child's pid, and
then what became of it, goes to stdout.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import httpx2
import sqlalchemy.engine.base
from mcp import Client
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult, TextContent

import batchcall_mcp
from batchcall_mcp.calling_hours import zones_of
from batchcall_mcp.guard.delivery.write_sender import Sender
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.write_record import WriteState
from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings

OURS = Path(batchcall_mcp.__file__).parent
COUNTED = (
    str(OURS / "guard"),
    str(OURS / "backends"),
    str(OURS / "batch_calls"),
    str(OURS / "dialer" / "rest" / "service.py"),
    str(OURS / "dialer" / "storage" / "store.py"),
    str(OURS / "vendor_http"),
    str(Path(httpx2.__file__).parent),
    str(sqlalchemy.engine.base.__file__),
)
"""Where a line counts as a point at which the process may die."""


class Killer:
    """Counts lines from the moment a write is about to be recorded; kills the process at one of them."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.passed = 0
        self.counts = False
        self._counted: dict[str, bool] = {}

    def install(self) -> None:
        """Watch every thread of this process."""
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        send = Sender.send

        async def counted(*args: Any, **options: Any) -> Any:
            self.counts = True
            self._watch_the_lines_of(sys._getframe())
            return await send(*args, **options)

        Sender.send = counted  # type: ignore[method-assign]  # only in a child that is about to die

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        filename = frame.f_code.co_filename
        if filename not in self._counted:
            self._counted[filename] = filename.startswith(COUNTED)
        if not self._counted[filename]:
            return None
        frame.f_trace_lines = self.counts  # a line that does not count costs as much as one that does
        return self._line

    def _watch_the_lines_of(self, frame: FrameType | None) -> None:
        """And of those that it returns to."""
        while frame is not None:
            frame.f_trace_lines = True
            frame = frame.f_back

    def _line(self, _frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        if self.counts and event == "line":
            self.passed += 1
            if self.passed == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._line


async def yes(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """The person agrees to everything."""
    return ElicitResult(action="accept", content={"confirm": True})


async def call(job: dict[str, Any], killer: Killer) -> dict[str, Any]:
    """One tool call, as a client at a fresh server makes it; after it, perhaps another that waits."""
    with anyio.fail_after(60):
        async with Client(
            build_server(Settings.load(), transport="stdio"), mode=job["mode"], elicitation_callback=yes
        ) as client:
            result = await client.call_tool(job["tool"], job["arguments"])
            killer.counts = False
            if "then" in job:
                await client.call_tool(*job["then"])
    text = "".join(block.text for block in result.content if isinstance(block, TextContent))
    return {"error": bool(result.is_error), "text": text, "answer": result.structured_content or {}}


def settle(outcome: str) -> dict[str, Any]:
    """What a person does with `batchcall-mcp ledger resolve`, for the only entry that is open."""
    ledger = Ledger.open(Settings.load())
    (entry,) = ledger.history.unsettled()
    assert not ledger.writes.is_in_hand(entry)
    ledger.writes.finish(entry.write_id, WriteState.DONE if outcome == "made" else WriteState.REFUSED)
    ledger.close()
    return {"error": False, "text": "", "answer": {}}


def child(job: dict[str, Any], report: int) -> None:
    """Never returns."""
    os.environ.update(job["environment"])
    killer = Killer(job.get("kill_at"))
    try:
        if "settle" in job:
            told = settle(job["settle"])
        else:
            if "kill_at" in job:  # watching every line makes a call several times slower
                killer.install()
            told = anyio.run(call, job, killer)
        told["steps"] = killer.passed
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test has to see it
        told = {"error": True, "text": f"crash: {error!r}", "answer": {}, "steps": killer.passed}
    os.write(report, json.dumps(told).encode())
    os._exit(0)


def say(message: dict[str, Any]) -> None:
    """A line for the test."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fork for each line."""
    zones_of("+12125550100")
    say({"ready": True})
    for line in sys.stdin:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            child(json.loads(line), write)
        os.close(write)
        say({"pid": pid})
        told = b""
        while part := os.read(read, 65536):
            told += part
        os.close(read)
        _, status = os.waitpid(pid, 0)
        say({"killed": os.WIFSIGNALED(status), "told": json.loads(told) if told else None})


if __name__ == "__main__":
    main()
