"""Services whose answer about a batch call has all its people too, and which show them nowhere else."""

from __future__ import annotations

from typing import ClassVar

from batchcall_mcp.backends.base import ReadTasks
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.rest_backend import RestBackend
from batchcall_mcp.model import BatchCall, TaskPage, TaskQuery
from batchcall_mcp.vendor_http.paging import InlinePages


class InlineTasks(RestBackend):
    """A `RestBackend` that reads a batch call and its tasks in one request where both are wanted."""

    tasks_at: ClassVar[str] = "recipients"
    """Of the adapter: the member of the answer to GET with all its people; the service filters nothing."""

    def task_pages(self, batch_call_id: str, query: TaskQuery) -> InlinePages:  # noqa: ARG002 - it filters nothing
        """A page is cut out of all of them."""
        return InlinePages(self.call(Operation.GET, batch_call_id), self.tasks_at, self.is_about(batch_call_id))

    async def get_with_tasks(self, batch_call_id: str) -> tuple[BatchCall, ReadTasks]:
        """One request; what reads the tasks raises what `tasks` does."""
        answer = await self._http.read(
            self.doing(Operation.GET, batch_call_id), self.call(Operation.GET, batch_call_id)
        )

        async def read(query: TaskQuery) -> TaskPage:
            doing, keep = self.keeps_tasks(batch_call_id, query)
            pages = self.task_pages(batch_call_id, query)
            scanned = pages.scan_in(answer, doing, keep, cursor=query.cursor, limit=query.limit)
            return TaskPage(scanned.found, scanned.next_cursor, scanned.notes("tasks"))

        return await self.found_in(answer, batch_call_id), read
