"""Completions: what a person may be about to type for an argument of a prompt or of a resource, by the caller's key."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import anyio
from mcp.server import MCPServer
from mcp.types import Completion, CompletionArgument

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls import read
from batchcall_mcp.calling_hours import timezones
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.model import NOT_REACHED, ListQuery
from batchcall_mcp.recipients.files.allowed_folders import list_files
from batchcall_mcp.server.request_mode import current_headers
from batchcall_mcp.server.service import Service

logger = logging.getLogger(__name__)

MOST: Final = 100
"""Values of one answer: the protocol's limit."""
_LONGEST_WAIT_S: Final = 2.0
"""For the backend: who types does not wait longer."""
_MOST_READ: Final = 50
"""Batch calls: the newest."""
_LONGEST_TYPED: Final = 200


def add_completions(server: MCPServer[Any], service: Service) -> None:
    """Give a server its completions. What cannot be read is completed by nothing: it is not the person's mistake."""

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # the SDK's has no types
    async def complete(_ref: object, argument: CompletionArgument, _context: object) -> Completion:
        if len(argument.value) > _LONGEST_TYPED:
            return Completion(values=[])
        try:
            values = await _values(service, argument.name, argument.value, current_headers())
        except BatchCallError as error:
            logger.info("Nothing completes %s: %s", argument.name, error.code)
            values = []
        return Completion(values=values[:MOST], total=len(values), has_more=len(values) > MOST)


async def _values(service: Service, argument: str, typed: str, headers: Mapping[str, str] | None) -> list[str]:
    if argument == "batch_call_id":
        return await _ids(service, typed, headers)
    if argument == "tasks_file":
        return _beginning(typed, await _files(service, headers))
    if argument == "timezone":
        return _beginning(typed.replace(" ", "_"), sorted(timezones()))
    if argument == "task_status":
        missed = [str(status) for status in service.capabilities.outcomes if status in NOT_REACHED]
        return _beginning(typed, ["not_reached", *missed])
    return []


async def _ids(service: Service, typed: str, headers: Mapping[str, str] | None) -> list[str]:
    """Ids that hold what was typed, or whose batch call's name does; newest first."""
    if Operation.LIST not in service.capabilities.operations:
        return []
    context = await service.reading_context(headers, "list_batch_calls")  # opens the dialer: not cut short
    page = None
    with anyio.move_on_after(_LONGEST_WAIT_S):
        page = await read.list_page(context, ListQuery(limit=_MOST_READ))
    wanted, read_in_time = typed.casefold(), () if page is None else page.batch_calls
    return [
        one.batch_call_id
        for one in read_in_time
        if wanted in one.batch_call_id.casefold() or wanted in (one.name or "").casefold()
    ]


async def _files(service: Service, headers: Mapping[str, str] | None) -> list[str]:
    """Lists that tasks_file may name: of the operator's folders over stdio, over HTTP what this caller has uploaded."""
    if service.local:
        listed = anyio.to_thread.run_sync(
            lambda: list_files(service.settings.files, service.settings.never_lists, limit=MOST)
        )
        return [file.name for file in await listed]
    context = await service.reading_context(headers, "get_backend")
    mine = () if context.files is None else await context.files.listed()
    return [file.name for file in mine if file.kind == "list"]


def _beginning(typed: str, values: Iterable[str]) -> list[str]:
    """Those that hold what was typed, first those that begin with it."""
    wanted = typed.casefold()
    holding = [value for value in values if wanted in value.casefold()]
    return sorted(holding, key=lambda value: not value.casefold().startswith(wanted))
