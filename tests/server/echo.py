"""A small server that tells what reached it. `python -m tests.server.echo` serves it over stdio."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.types import (
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    ToolAnnotations,
)
from pydantic import BaseModel, Field

from batchcall_mcp.errors import NotFound
from batchcall_mcp.server.credentials import caller_credentials, caller_id, request_state_security
from batchcall_mcp.server.tools.strict_tools import StrictServer, strict_tool
from batchcall_mcp.settings import Settings

READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
SEALING_KEY = secrets.token_bytes(32)
FORM: dict[str, Any] = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}


class Reported(BaseModel):
    """What reached the tool."""

    caller: str
    word: str
    opened: int


@dataclass
class Opened:
    """The lifespan's state: how often it was opened in this process."""

    log: Path | None
    count: int = 0
    closed: int = 0
    running: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, what: str) -> None:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(what + "\n")


def echo_server(settings: Settings, opened: Opened | None = None, *, needs_secret: bool = True) -> StrictServer:
    """The server; `opened` lets a test look into its lifespan."""
    state = opened or Opened(None)

    @asynccontextmanager
    async def lifespan(_server: Any) -> AsyncIterator[Opened]:
        state.count += 1
        try:
            yield state
        finally:
            state.closed += 1
            state.note("closed")

    async def who_am_i(word: Annotated[str, Field(max_length=100)], ctx: Context[Opened, Any]) -> Reported:
        for _ in range(3):
            await asyncio.sleep(0)  # let the other callers' requests come in between
        caller = caller_id(caller_credentials(ctx.headers, settings, needs_secret=needs_secret))
        return Reported(caller=caller, word=word, opened=state.count)

    async def print_loudly() -> CallToolResult:
        print("this is no protocol")  # noqa: T201
        os.write(1, b"neither is this\n")
        return CallToolResult(content=[])

    async def wait_for_ever() -> CallToolResult:
        state.running.set()
        state.note("waiting")
        try:
            await asyncio.Event().wait()
        finally:
            state.note("cancelled")
        return CallToolResult(content=[])

    async def ask(ctx: Context[Opened, Any]) -> Reported | InputRequiredResult:
        if ctx.request_state is None:
            form = ElicitRequest(params=ElicitRequestFormParams(message="Go?", requested_schema=FORM))
            return InputRequiredResult(input_requests={"go": form}, request_state="asked")
        return Reported(caller="", word=ctx.request_state, opened=state.count)

    async def find(number: str) -> CallToolResult:
        raise NotFound(f"No batch call has the number {number}. Nothing was changed.")

    tools = (who_am_i, print_loudly, wait_for_ever, ask, find)
    return StrictServer(
        "echo",
        version="1",
        tools=[
            strict_tool(tool, name=tool.__name__, title="Echo", description="Tells what came.", annotations=READS)
            for tool in tools
        ],
        lifespan=lifespan,
        needs_secret=needs_secret,
        request_state_security=request_state_security(settings, lambda: SEALING_KEY, needs_secret=needs_secret),
    )


def main() -> None:
    """Serve over stdio; ECHO_LOG names the file that the state's notes go to."""
    from batchcall_mcp.server import log
    from batchcall_mcp.server.transports.stdio import run_stdio

    settings = Settings.load()
    log.configure(settings)
    name = os.environ.get("ECHO_LOG")
    run_stdio(echo_server(settings, Opened(Path(name) if name else None)))


if __name__ == "__main__":
    main()
