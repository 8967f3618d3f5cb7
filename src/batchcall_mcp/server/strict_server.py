"""An MCPServer whose failures are texts that a model can act on, and whose state is opened once for a process.

The SDK (mcp 2.3) answers wrong arguments with pydantic's raw text, prefixes every failure, and opens a server's
lifespan once for each SSE connection. All of it is put right through public API.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeAlias

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, InputRequiredResult
from pydantic import ValidationError

from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.server.credentials import AcceptedPairs
from batchcall_mcp.server.tools.validation_errors import describe_arguments, nearest, quoted, sentence
from batchcall_mcp.text import printable_lines

Opener: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]
"""Takes the server and opens (and later closes) its state."""


class StrictServer(MCPServer[Any]):
    """See above.

    `needs_secret` says whether callers have a secret in addition to their key (`Capabilities.needs_secret`), `accepted`
    which key pairs the backend accepts.
    """

    def __init__(
        self,
        name: str,
        *,
        tools: list[Tool],
        lifespan: Opener | None = None,
        needs_secret: bool = True,
        accepted: AcceptedPairs | None = None,
        **settings: Any,
    ) -> None:
        self.needs_secret = needs_secret
        self.accepted = accepted or AcceptedPairs()
        self._opener = lifespan or (lambda _server: nullcontext({}))
        self._held: list[Any] = []
        self._tools_by_name = {tool.name: tool for tool in tools}
        super().__init__(name, tools=tools, lifespan=self._connected, **settings)

    @asynccontextmanager
    async def held_open(self) -> AsyncIterator[None]:
        """Open the state now, and share it with every connection until this is left.

        Without it (stdio, in memory) each connection opens and closes its own, as the SDK means it.
        """
        async with self._opener(self) as state:
            self._held.append(state)
            try:
                yield
            finally:
                self._held.clear()

    @asynccontextmanager
    async def _connected(self, server: Any) -> AsyncIterator[Any]:
        """The state of one connection."""
        if self._held:
            yield self._held[0]
            return
        async with self._opener(server) as state:
            yield state

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool.

        Raises:
            ToolError: whose text begins with `[code]`.
            UnexpectedToolError: for a defect; its text withholds what happened, the server's log has it.
            MCPError: passed through.
        """
        tool = self._tools_by_name.get(name)
        if tool is None:
            problem = sentence(f"There is no tool {quoted(name)}{nearest(name, self._tools_by_name)}")
            raise ToolError(printable_lines(f"[invalid_input] {problem} Nothing was sent."))
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            expected = _expected(error)
            if expected is not None:
                raise ToolError(printable_lines(f"[{expected.code}] {expected}")) from expected
            raise UnexpectedToolError(_defect(tool)) from error.__cause__
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, ValidationError):
                raise ToolError(printable_lines(describe_arguments(cause, arguments, tool.parameters))) from cause
            raise ToolError(printable_lines(str(error).removeprefix(f"Error executing tool {name}: "))) from cause


def _expected(error: BaseException) -> BatchCallError | None:
    """The BatchCallError that a tool raised, also from inside a task group that held nothing else."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
        cause = cause.exceptions[0]
    return cause if isinstance(cause, BatchCallError) else None


def _defect(tool: Tool) -> str:
    if tool.annotations and tool.annotations.read_only_hint:
        known = "It only reads, so nothing was changed"
    else:
        known = "Nothing is known about what it did; look the batch call up before you call it again"
    return f"[internal_error] A defect in this server stopped {tool.name}. {known}. Details are in the server's log."
