"""Resources: what a host may show next to the conversation. Each is read with the reader's own credentials."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from batchcall_mcp.batch_calls import read
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.export import EXTENSIONS, Format, export_text
from batchcall_mcp.errors import BatchCallError, NotFound
from batchcall_mcp.model import TaskQuery
from batchcall_mcp.server.request_mode import current_headers
from batchcall_mcp.server.service import Service
from batchcall_mcp.server.tools.read_tools import in_words
from batchcall_mcp.server.tools.results import MIME_TYPES, BatchCallResult, text_of
from batchcall_mcp.text import printable_lines


def add_resources(server: MCPServer[Any], service: Service) -> None:

    @server.resource(
        "batchcall://batch-calls/{batch_call_id}",
        name="batch_call",
        title="A batch call",
        description="State and counts of one batch call",
        mime_type="application/json",
    )
    async def batch_call(batch_call_id: str, ctx: Context[Any, Any]) -> str:
        context = await service.call_context(ctx, "get_batch_call")
        return await _read(_counts(context, batch_call_id))

    def add_export(form: Format, title: str, mime_type: str) -> None:
        @server.resource(
            f"batchcall://batch-calls/{{batch_call_id}}/export.{EXTENSIONS[form]}",
            name=f"export_{form}",
            title=title,
            description="What came of it, for people" if form == "report" else "Every task with its result",
            mime_type=mime_type,
        )
        async def export(batch_call_id: str, ctx: Context[Any, Any]) -> str:
            context = await service.call_context(ctx, "export_batch_call")
            return await _read(_exported(context, batch_call_id, form))

    add_export("csv", "All tasks of a batch call, CSV", MIME_TYPES["csv"])
    add_export("jsonl", "All tasks of a batch call, JSON lines", MIME_TYPES["jsonl"])
    add_export("report", "The report of a batch call, HTML", MIME_TYPES["report"])

    @server.resource(
        "batchcall://backend",
        name="backend",
        title="The backend",
        description="What this server's backend can do; get_backend has the account",
        mime_type="application/json",
    )
    def backend() -> str:
        capabilities = service.capabilities
        facts = {
            "backend": service.backend_type.name,
            "operations": sorted(capabilities.operations),
            "drafts": capabilities.drafts,
            "max_tasks": capabilities.limits.tasks,
            "outcomes_reported": list(capabilities.outcomes),
            "stop": capabilities.cancel_effect,
            "mode": service.guard_of(current_headers()).mode,
            "limitations": list(capabilities.limitations),
        }
        return json.dumps(facts, indent=2)


async def _counts(context: CallContext, batch_call_id: str) -> str:
    batch_call, _ = await read.get(context, batch_call_id, TaskQuery(limit=0))
    return text_of(BatchCallResult(summary=in_words(batch_call), batch_call=batch_call))


async def _exported(context: CallContext, batch_call_id: str, form: Format) -> str:
    text, _ = await export_text(context, batch_call_id, form, None)
    with text:
        return text.read()


async def _read(reading: Awaitable[str]) -> str:
    try:
        return await reading
    except NotFound as error:
        raise ResourceNotFoundError(printable_lines(f"[{error.code}] {error}")) from error
    except BatchCallError as error:
        raise ResourceError(printable_lines(f"[{error.code}] {error}")) from error
