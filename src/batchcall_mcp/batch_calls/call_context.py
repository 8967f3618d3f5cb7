"""What every use case works with: one caller's view of the backend, with the guard before it."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from batchcall_mcp.backends.base import Backend, Never, ReadTasks, read_with_tasks
from batchcall_mcp.backends.capabilities import Operation, unsupported
from batchcall_mcp.backends.limits import missing_fields, over_limits
from batchcall_mcp.backends.task_reading import BEFORE_A_WRITE, Bounds, NoEnd, every_task
from batchcall_mcp.batch_calls.next_call import Next, Offer, of_state
from batchcall_mcp.calling_hours import parse_calling_hours
from batchcall_mcp.clock import Clock, utc_now
from batchcall_mcp.errors import BatchCallError, ConfigurationError, InvalidInput, NotSupported
from batchcall_mcp.guard.admission import Guard
from batchcall_mcp.guard.confirmation import Asker
from batchcall_mcp.guard.delivery.write_sender import Sender
from batchcall_mcp.guard.preflight.cost import CostLimits
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.guard.preflight.preflight import Limits
from batchcall_mcp.guard.write_record import STOP_WAITS_S
from batchcall_mcp.kept_files.caller_files import CallerFiles
from batchcall_mcp.model import FINISHED, BatchCall, BatchCallRequest, CallTask, TaskStatus
from batchcall_mcp.notifications.events import Notice, Tell
from batchcall_mcp.recipients.do_not_call import DoNotCall, read_do_not_call_lists
from batchcall_mcp.settings import Settings

if TYPE_CHECKING:
    from batchcall_mcp.guard.ledger.ledger import Ledger

logger = logging.getLogger(__name__)

_LONGEST_TRIES_S = 20
"""How long the tries of one request may go on in addition to its own time-out (`vendor_http.client.BUDGET_S`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """One tool call's way to the backend. `arguments` are the tool call's own, for a confirmation to remember.

    `caller` names the key pair, the same in every process; it is hashed again before the ledger holds it.
    `backend_address` is the backend's name and address: the same batch call id means another batch call elsewhere.
    """

    backend: Backend
    backend_address: str
    guard: Guard
    settings: Settings
    caller: str
    asker: Asker
    tool: str
    open_ledger: Callable[[], Awaitable[Ledger]]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    confirmation_code: str | None = None
    local_files: bool = True
    """Whether the caller shares this machine's disk (stdio). Over HTTP no file of it is named, read or written."""
    tell: Tell | None = None
    """Where the operator is notified of what happens, if they want that."""
    files: CallerFiles | None = None
    """What the caller has uploaded, and where exports are kept for it: over HTTP."""
    tools: frozenset[str] = frozenset()
    """The names of the tools that this caller is offered: no other one is advised."""
    clock: Clock = utc_now
    monotonic: Callable[[], float] = time.monotonic
    """For what may take so many seconds."""

    @property
    def limits(self) -> Limits:
        """What the operator allows."""
        return Limits(
            max_calls_per_launch=self.settings.max_calls_per_launch,
            max_calls_per_day=self.settings.max_calls_per_day,
            calling_hours=parse_calling_hours(self.settings.calling_hours),
            cost=CostLimits(
                per_minute=self.settings.cost_per_minute,
                per_launch=self.settings.max_cost_per_launch,
                per_day=self.settings.max_cost_per_day,
            ),
        )

    @property
    def offer(self) -> Offer:
        """What this caller can be advised to do next."""
        return Offer(tools=self.tools, capabilities=self.backend.capabilities, mode=self.guard.mode)

    def next_of(self, current: BatchCall) -> Next:
        """What follows from the state of a batch call."""
        return of_state(current, self.offer, self.clock())

    def require(self, operation: Operation) -> None:
        """Refuse what the backend cannot do, and what the operator's mode forbids, before anything is read.

        Raises:
            NotSupported: nothing was sent.
            PermissionDenied: nothing was sent.
        """
        if operation not in self.backend.capabilities.operations:
            raise NotSupported(f"{self.backend.name} has no {operation} for batch calls. Nothing was sent.")
        self.guard.check_mode(operation, Never())

    def require_fields(self, request: BatchCallRequest) -> None:
        """Refuse an argument that the backend has no field for, or that is more than it takes.

        Raises:
            NotSupported: naming each; nothing was sent.
        """
        capabilities = self.backend.capabilities
        problems = [*unsupported(request, capabilities), *over_limits(request, capabilities, self.clock())]
        if problems:
            raise NotSupported(f"{self.backend.name} cannot hold this: {'; '.join(problems)}. Nothing was sent.")

    def require_complete(self, request: BatchCallRequest, of: str | None = None) -> None:
        """Refuse a new batch call that lacks what the backend needs. `of`: the one whose settings it takes over.

        Raises:
            InvalidInput: naming each; nothing was sent.
        """
        missing = missing_fields(request, self.backend.capabilities)
        if missing:
            why = f"{self.backend.name} needs {'it' if len(missing) == 1 else 'them'} to make a batch call"
            known = "" if of is None else f", and does not report {'it' if len(missing) == 1 else 'them'} of {of}"
            instead = "get_backend lists the account's." if of is None else "create_batch_call takes it."
            are = "is" if len(missing) == 1 else "are"
            raise InvalidInput(f"{', '.join(missing)}: {are} missing; {why}{known}. Nothing was sent. {instead}")

    async def sender(self) -> Sender:
        """The way of a write.

        Raises:
            ConfigurationError: the ledger cannot be opened; nothing was sent.
        """
        return Sender(
            await self.open_ledger(),
            self.backend,
            self.guard.audit,
            request_timeout_s=self.settings.request_timeout_s,
            patience_s=_LONGEST_TRIES_S + 2 * self.settings.request_timeout_s,
            max_calls_per_day=self.settings.max_calls_per_day,
            max_cost_per_day=self.settings.max_cost_per_day,
        )

    async def ledger_in_time(self) -> bool:
        """Whether the ledger is open, or can be opened, soon enough for a stop."""
        with anyio.move_on_after(STOP_WAITS_S + 1):
            try:
                await self.open_ledger()
            except ConfigurationError as error:
                logger.warning("A stop goes on without the ledger: %s", error)
                return False
            return True
        return False

    async def note_over(self, found: BatchCall, read_at: datetime) -> None:
        """Remember what is over, so that an emergency stop need not ask for it, and notify the operator of it once.

        Nothing else depends on it. The dialer in this process says by itself what is over.
        """
        if found.status in FINISHED and not self.backend.capabilities.in_process:
            try:
                ledger = await self.open_ledger()
                newly_over = await anyio.to_thread.run_sync(
                    ledger.history.note_over,
                    self.backend_address,
                    ledger.hashed(self.caller),
                    [found.batch_call_id],
                    read_at,
                    abandon_on_cancel=True,
                )
                if newly_over and self.tell is not None:
                    self.tell(
                        Notice(
                            event="finished",
                            batch_call_id=found.batch_call_id,
                            backend=self.backend.name,
                            status=str(found.status),
                            calls=found.counts.total,
                            at=found.completed_at,
                        )
                    )
            except ConfigurationError as error:
                logger.info("That %s is over was not recorded: %s", found.status, error)

    async def look(self, batch_call_id: str) -> tuple[BatchCall, ReadTasks, int]:
        """A batch call that is about to be changed, what reads its tasks, and the newest ledger entry about it.

        The entry is read first.
        """
        seen = await (await self.sender()).seen(self.backend_address, batch_call_id)
        return *await read_with_tasks(self.backend, batch_call_id), seen

    async def do_not_call(self) -> DoNotCall:
        """The operator's lists, and who was forgotten, read for every call: a number added a minute ago is not called.

        Raises:
            BatchCallError: one of them cannot be read.
        """
        forgotten = (await self.open_ledger()).forgotten
        read = partial(read_do_not_call_lists, self.settings.do_not_call, self.settings.default_region)
        listed = await anyio.to_thread.run_sync(read)
        known = await anyio.to_thread.run_sync(forgotten.known)
        return replace(listed, forgotten=known, hashed=forgotten.hashed)

    def every_task(
        self,
        batch_call: BatchCall,
        statuses: frozenset[TaskStatus] | None = None,
        *,
        read: ReadTasks | None = None,
        bounds: Bounds = BEFORE_A_WRITE,
        whole: bool = False,
    ) -> AsyncIterator[CallTask]:
        """All tasks of a batch call that was read, as of `backends.task_reading`.

        Raises:
            NoEnd: the pages do not end.
            BatchCallError: a page cannot be read.
        """
        if self.backend.capabilities.tasks_reported == "none":
            return _nobody()
        clock = self.monotonic
        return every_task(self.backend, batch_call, statuses, read=read, bounds=bounds, clock=clock, whole=whole)

    def unlisted(self, batch_call: BatchCall, listed: int) -> str:
        """A sentence about people of a batch call whom the backend does not list, of which it showed `listed` tasks;
        empty where it lists everybody, or has listed them all.
        """
        reported, total = self.backend.capabilities.tasks_reported, batch_call.counts.total
        if reported == "all" or (total is not None and total <= listed):
            return ""
        if reported == "none":
            return f"{self.backend.name} does not list the people of a batch call."
        if total is None:
            return f"{self.backend.name} lists people only once they are dialled."
        people = counted(total - listed, "person of it was", "people of it were")
        return f"{people} not dialled, so {self.backend.name} does not list them."

    async def tasks_or_none(self, batch_call: BatchCall, read: ReadTasks) -> list[CallTask] | None:
        """All tasks, for the preflight; None if they cannot be read: an extra read that fails is a warning.

        Raises:
            NoEnd: the pages do not end. Who would be called is not known then, so nothing is launched.
        """
        try:
            return [task async for task in self.every_task(batch_call, read=read)]
        except NoEnd:
            raise
        except BatchCallError:
            return None


async def _nobody() -> AsyncIterator[CallTask]:
    """The tasks of a batch call whose backend shows none."""
    nobody: tuple[CallTask, ...] = ()
    for task in nobody:
        yield task
