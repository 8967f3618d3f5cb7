"""What every use case works with: one caller's view of the backend, and the guard before it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio.to_thread

from batchcall_mcp.backends.base import Backend, Never, Operation, unsupported
from batchcall_mcp.backends.paging import endless
from batchcall_mcp.calling_hours import parse_calling_hours
from batchcall_mcp.errors import BatchCallError, NotSupported, UnexpectedResponse
from batchcall_mcp.guard.admission import CodeNeeded, Guard, Launch
from batchcall_mcp.guard.confirmation import Asker
from batchcall_mcp.guard.preflight import Limits, Preflight, preflight
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallTask, TaskQuery, TaskStatus
from batchcall_mcp.recipients import LeftOut, load_do_not_call
from batchcall_mcp.settings import Settings


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """One tool call's way to the backend. `arguments` are the tool call's own, for a confirmation to remember."""

    backend: Backend
    guard: Guard
    settings: Settings
    caller: str
    asker: Asker
    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    confirmation_code: str | None = None
    local_files: bool = True
    """Whether the caller shares this machine's disk (stdio). Over HTTP no file of it is named, read or written."""
    clock: Callable[[], datetime] = _now

    @property
    def limits(self) -> Limits:
        """What the operator allows."""
        return Limits(
            max_calls_per_launch=self.settings.max_calls_per_launch,
            calling_hours=parse_calling_hours(self.settings.calling_hours),
        )

    def require(self, operation: Operation) -> None:
        """Refuse what the backend cannot do.

        Raises:
            NotSupported: nothing was sent.
        """
        if operation not in self.backend.capabilities.operations:
            raise NotSupported(f"{self.backend.name} has no {operation} for batch calls. Nothing was sent.")

    def require_fields(self, request: BatchCallRequest) -> None:
        """Refuse an argument that the backend has no field for.

        Raises:
            NotSupported: naming each; nothing was sent.
        """
        problems = unsupported(request, self.backend.capabilities)
        if problems:
            raise NotSupported(f"{self.backend.name} cannot hold this: {'; '.join(problems)}. Nothing was sent.")

    async def admit(
        self,
        operation: Operation,
        request: BatchCallRequest,
        current: BatchCall | None,
        tasks: Sequence[CallTask] | None,
        left_out: Sequence[LeftOut] = (),
        rows_read: int | None = None,
        warnings: Sequence[str] = (),
        to_call: Sequence[CallTask] | None = None,
    ) -> tuple[Preflight, CodeNeeded | None]:
        """Put one write before the guard; when the code is None, send it at once.

        `tasks` is the whole list, which the confirmation is bound to (None: it could not be read); `to_call` those of
        it that would be called, if not all.
        """
        dials = self.backend.dials(operation, request, current)
        called = tasks if to_call is None else to_call
        if called and not isinstance(dials, Never):
            warnings = [*warnings, *await anyio.to_thread.run_sync(self._never_to_be_called, called)]
        # In a thread: the places and hours of 100,000 numbers take seconds, in which others are served.
        judge = partial(
            preflight,
            request=request,
            current=current,
            tasks=called,
            left_out=left_out,
            rows_read=rows_read,
            dials=dials,
            capabilities=self.backend.capabilities,
            limits=self.limits,
            now=self.clock(),
            extra_warnings=warnings,
        )
        found = await anyio.to_thread.run_sync(judge)
        launch = Launch(
            caller=self.caller,
            backend=self.backend.name,
            tool=self.tool,
            operation=operation,
            arguments=self.arguments,
            request=request,
            current=current,
            tasks=tasks,
            left_out=left_out,
            dials=dials,
            preflight=found,
        )
        return found, await self.guard.admit(launch, self.asker, self.confirmation_code)

    def do_not_call(self) -> frozenset[str]:
        """The operator's list, read anew for every call, so that a number added a minute ago is not called. Blocks.

        Raises:
            BatchCallError: it cannot be read.
        """
        path = self.settings.do_not_call
        return frozenset() if path is None else load_do_not_call(path, self.settings.default_region)

    def _never_to_be_called(self, tasks: Sequence[CallTask]) -> list[str]:
        """A list that the backend keeps was not read against the do-not-call list of today."""
        never = self.do_not_call()
        found = sum(task.to_number in never for task in tasks)
        return [f"Now on the do-not-call list: {found} of them."] if found else []

    async def every_task(
        self, batch_call_id: str, statuses: frozenset[TaskStatus] | None = None
    ) -> AsyncIterator[CallTask]:
        """All tasks of a batch call, page after page.

        Raises:
            BatchCallError: if a page cannot be read.
        """
        cursor: str | None = None
        last: Sequence[CallTask] = ()
        while True:
            query = TaskQuery(statuses=statuses, limit=self.backend.capabilities.task_page_size, cursor=cursor)
            batch_call, page = await self.backend.get(batch_call_id, query)
            if page is None:
                raise UnexpectedResponse(
                    f"The tasks of {batch_call_id} could not be read. {' '.join(batch_call.notes)}"
                )
            if page.tasks and page.tasks == last:
                raise endless()
            last = page.tasks
            for task in page.tasks:
                yield task
            cursor = page.next_cursor
            if cursor is None:
                return

    async def tasks_or_none(self, batch_call_id: str) -> list[CallTask] | None:
        """All tasks, for the preflight; None if they cannot be read: an extra read that fails is a warning."""
        try:
            return [task async for task in self.every_task(batch_call_id)]
        except BatchCallError:
            return None
