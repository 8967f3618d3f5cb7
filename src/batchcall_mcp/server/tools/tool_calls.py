"""How tool calls end, for whoever counts them: how many are under way, and the result and the time of each."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult

from batchcall_mcp.errors import BatchCallError

OK: Final = "ok"
ASKED: Final = "asked"
"""The answer is a question to the person; the call comes again with what they say."""
FAILED: Final = "error"
"""It failed without a code: a protocol error, or a client that went away."""
UNKNOWN_TOOL: Final = "unknown"
_CODE: Final = re.compile(r"\[([a-z_]{1,40})\]")

Done: TypeAlias = Callable[[str, str, float], None]
"""Hears of a tool call that has ended: its tool, its result, its seconds. No text of a caller is among them."""


def _kinds(kind: type[BatchCallError]) -> set[type[BatchCallError]]:
    return {kind, *(one for below in kind.__subclasses__() for one in _kinds(below))}


CODES: Final = tuple(sorted({kind.code for kind in _kinds(BatchCallError)}))
"""Of the error tree: with `OK`, `ASKED`, `FAILED` and `DEFECT`, every result of a call."""
DEFECT: Final = "internal_error"


class ToolCalls:
    """The tool calls of one server process."""

    def __init__(self) -> None:
        self.under_way = 0
        self.done: Done | None = None

    async def counted(
        self, tool: str, call: Awaitable[CallToolResult | InputRequiredResult]
    ) -> CallToolResult | InputRequiredResult:
        """Run a call, and note how it ended."""
        self.under_way += 1
        began, ended = time.perf_counter(), FAILED
        try:
            answer = await call
            ended = ASKED if isinstance(answer, InputRequiredResult) else OK
            return answer
        except ToolError as error:
            found = _CODE.match(str(error))
            ended = found[1] if found is not None and found[1] in {*CODES, DEFECT} else FAILED
            raise
        finally:
            self.under_way -= 1
            if self.done is not None:
                self.done(tool, ended, time.perf_counter() - began)
