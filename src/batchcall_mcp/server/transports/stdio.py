"""MCP over stdin and stdout: one process, one caller, whose credentials are the environment's."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import sleep
from typing import Any, Final, NamedTuple

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp.shared.message import SessionMessage
from mcp.types import SERVER_INFO_META_KEY, DiscoverResult, ErrorData, JSONRPCError, JSONRPCRequest, JSONRPCResponse
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from batchcall_mcp.server.transports.broken_answers import Instead, instead_of_line

logger = logging.getLogger(__name__)

_INTERRUPTED = 130
_UNREAD_S: Final = 1.0
"""How long nothing may be read of stdout, after stdin has ended, before nobody is taken to be there."""
_CLEANING_UP_S: Final = 3.0
_LOOKS_EVERY_S: Final = 0.1


class Wire(NamedTuple):
    """The client's ends of the pipes, where somebody took them off the standard descriptors before the server was made.

    What is written at once must leave at once: nothing flushes it.
    """

    reading: io.BufferedReader
    writing: io.FileIO


def run_stdio(server: MCPServer[Any], wire: Wire | None = None) -> None:
    """Serve until stdin ends; what is in flight then is cancelled and the lifespan's cleanup runs.

    Without a `wire` the client is at the standard descriptors.

    A client that went away without closing stdout ends it too: what nobody reads is not waited for.

    Ctrl+C ends the process at once with exit code 130: the SDK would wait for a line that nobody will send.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    try:
        anyio.run(serve, server, wire, _Left(wire))
    except* BrokenPipeError:
        logger.info("The MCP client closed the connection while an answer was being written")


async def serve(server: MCPServer[Any], wire: Wire | None = None, left: _Left | None = None) -> None:
    """One connection, to its end. `left` ends this process where the client is gone and nobody reads."""
    lowlevel = _lowlevel(server)
    passing, serving = anyio.CancelScope(), anyio.CancelScope()
    async with _streams(wire) as (read, write):
        requests_in, requests = anyio.create_memory_object_stream[SessionMessage | Exception]()
        answers, answers_out = anyio.create_memory_object_stream[SessionMessage]()

        async def answer_probes() -> None:
            async with requests_in:
                await _forward(lowlevel, read, requests_in, write)

        async def pass_answers() -> None:
            with passing:
                async for message in answers_out:
                    await write.send(message)
            async for _ in answers_out:  # nobody reads: but who answers must not wait for that
                pass

        def leave() -> None:
            passing.cancel()
            serving.cancel()

        async with write, answers_out, anyio.create_task_group() as tasks:
            tasks.start_soon(answer_probes)
            tasks.start_soon(pass_answers)
            with serving:
                if left is not None:
                    left.when_nobody_reads(asyncio.get_running_loop(), leave)
                await lowlevel.run(requests, answers, lowlevel.create_initialization_options())
            if left is not None:
                left.cleaned_up.set()
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _streams(wire: Wire | None) -> AsyncIterator[Any]:
    """The SDK's, which takes the standard descriptors, or reads and writes a wire in the same way."""
    if wire is None:
        async with stdio_server() as streams:
            yield streams
        return
    with (
        io.TextIOWrapper(wire.reading, encoding="utf-8", errors="replace") as reading,
        io.TextIOWrapper(wire.writing, encoding="utf-8") as writing,
    ):
        async with stdio_server(anyio.wrap_file(reading), anyio.wrap_file(writing)) as streams:
            yield streams


class _Left:
    """Whether the client is gone, by what the operating system says of its ends of the pipes.

    Needs `poll`, which Windows has not: there such a process stays until its client closes stdout.
    """

    def __init__(self, wire: Wire | None) -> None:
        # The SDK moves the standard descriptors, and puts others in their place.
        ends = (0, 1) if wire is None else (wire.reading.fileno(), wire.writing.fileno())
        self._ends = (os.dup(ends[0]), os.dup(ends[1])) if sys.platform != "win32" else None
        self.cleaned_up: Final = threading.Event()
        """Set when nothing but stdout is left to close."""

    def when_nobody_reads(self, loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
        """Call `leave` on the loop once stdin has ended and stdout is full, then end the process."""
        if self._ends is not None:
            threading.Thread(target=self._watch, args=(*self._ends, loop, leave), daemon=True).start()

    def _watch(self, stdin: int, stdout: int, loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
        hung_up, writable = select.poll(), select.poll()
        hung_up.register(stdin, 0)
        writable.register(stdout, select.POLLOUT)
        hung_up.poll()
        unread = 0.0
        while unread < _UNREAD_S:
            sleep(_LOOKS_EVERY_S)
            unread = 0.0 if writable.poll(0) else unread + _LOOKS_EVERY_S
        with contextlib.suppress(RuntimeError):  # the loop is closed: it ends by itself
            loop.call_soon_threadsafe(leave)
        self.cleaned_up.wait(_CLEANING_UP_S)
        logger.info("The MCP client is gone and reads no answer: the process ends")
        logging.shutdown()
        os._exit(0)  # a thread that writes what nobody reads cannot be cancelled


async def _forward(
    server: Server[Any],
    read: Any,
    onward: MemoryObjectSendStream[SessionMessage | Exception],
    write: Any,
) -> None:
    """Hand messages on, but answer `server/discover` here until another request shows which protocol is spoken.

    Clients that probe and then fall back to `initialize` exist (Copilot CLI, Claude Code with negotiation on); the
    SDK takes the probe for the choice and refuses the handshake after it.
    """
    decided = False
    async for item in read:
        instead = instead_of_line(item) if isinstance(item, Exception) else Instead()
        if instead.of_answer is not None:
            await onward.send(SessionMessage(instead.of_answer))
            continue
        if instead.to_request is not None:
            await write.send(SessionMessage(instead.to_request))
            continue
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCRequest) and not decided:
            if message.method == "server/discover":
                await write.send(SessionMessage(_discovered(server, message)))
                continue
            decided = True
        await onward.send(item)


def _discovered(server: Server[Any], request: JSONRPCRequest) -> JSONRPCResponse | JSONRPCError:
    """What the SDK answers to a probe."""
    route = classify_inbound_request({"method": request.method, "params": request.params})
    if isinstance(route, InboundLadderRejection):
        error = ErrorData(code=route.code, message=route.message, data=route.data)
        return JSONRPCError(jsonrpc="2.0", id=request.id, error=error)
    result = DiscoverResult(
        supported_versions=list(MODERN_PROTOCOL_VERSIONS),
        capabilities=server.get_capabilities(protocol_version=route.protocol_version),
        instructions=server.instructions,
        ttl_ms=0,
        cache_scope="private",
    )
    answer = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    answer["_meta"] = {SERVER_INFO_META_KEY: server.server_info_stamp}
    return JSONRPCResponse(jsonrpc="2.0", id=request.id, result=answer)


def _lowlevel(server: MCPServer[Any]) -> Server[Any]:
    """The protocol server inside an MCPServer, by the only public way to it."""
    server.streamable_http_app()
    return server.session_manager.app
