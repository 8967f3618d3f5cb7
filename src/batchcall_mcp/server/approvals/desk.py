"""The approval pages of one process: a listener on 127.0.0.1 that lives only while a question waits for its answer."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread

from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.guard.approval import Approval
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.server.approvals.browser import open_in_browser
from batchcall_mcp.sockets import bound_socket

if TYPE_CHECKING:
    from batchcall_mcp.guard.ledger.ledger import Ledger
    from batchcall_mcp.server.approvals.page import Place

logger = logging.getLogger(__name__)

LINGERS_S: Final = 30.0
"""How long the pages stay after the last answer: a second tab should find out that the question is answered."""
LOOKS_EVERY_S: Final = 0.25
_WATCHES_EVERY_S: Final = 1.0
_MOST_PLACES: Final = 100
MOST_TABS: Final = 3
"""Of one caller that wait. What it asks beyond is linked from their pages: a model can make any number of calls."""
_KEEP_ALIVE_S: Final = 5
_MOST_CONNECTIONS: Final = 500
_SILENT_S: Final = 5.0
"""How long a connection may stay open without a whole request."""


class ApprovalDesk:
    """Shows questions of the ledger to a person outside the client, and waits for answers.

    Args:
        ledger: Opens the ledger, where every question and answer is kept.
        audit: Notes the answers given on a page.
        enabled: Whether the operator allows the page (BATCHCALL_APPROVAL_PAGE).
        open_browser: Opens an address, and says whether that worked.
    """

    def __init__(
        self,
        ledger: Callable[[], Awaitable[Ledger]],
        audit: Audit,
        *,
        enabled: bool,
        open_browser: Callable[[str], Awaitable[bool]] = open_in_browser,
    ) -> None:
        self._ledger = ledger
        self._audit = audit
        self.enabled = enabled
        self._open_browser = open_browser
        self._places: dict[str, Place] = {}
        self._listener: _Listener | None = None
        self._watch: asyncio.Task[None] | None = None
        self._starting = anyio.Lock()
        self._showing = anyio.Lock()
        self._opened: set[str] = set()
        self._tabs: list[str] = []
        self._lingers_s = LINGERS_S
        self.waiting = 0
        """Tool calls that wait for a person now."""

    @contextmanager
    def one_waits(self) -> Iterator[None]:
        """Count a tool call that waits for a person, as long as it does."""
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def read(self, approval_id: str) -> Approval | None:
        """The question as it stands now; None if it was replaced or has been forgotten."""
        ledger = await self._ledger()
        return await anyio.to_thread.run_sync(ledger.codes.approvals.find, approval_id)

    async def answer(self, approval_id: str, *, yes: bool, after_a_yes: bool = False) -> bool:
        """Write a person's answer down; False if the question no longer waits for one.

        `after_a_yes`: a no ends a yes too that has not launched yet.
        """
        approvals = (await self._ledger()).codes.approvals
        decline = partial(approvals.decline, after_a_yes=after_a_yes)
        counted = await anyio.to_thread.run_sync(approvals.approve if yes else decline, approval_id)
        found = await anyio.to_thread.run_sync(approvals.find, approval_id)
        if found is not None:
            outcome = ("approved" if yes else "declined") if counted else "too_late"
            self._audit.note(Event(event="approved", caller=found.caller, tool=found.tool, outcome=outcome))
        return counted

    def is_open(self, approval_id: str) -> bool:
        """Whether a browser, or a client, was given the address of this question already."""
        return self._listener is not None and approval_id in self._opened

    def was_opened(self, approval_id: str) -> None:
        """Remember that the person has the page: nobody opens it a second time."""
        self._opened.add(approval_id)

    async def others(self, approval_id: str) -> list[str]:
        """The paths of the same caller's other questions that wait and have a page."""
        this = await self.read(approval_id)
        found = {path: await self.read(place.approval_id) for path, place in list(self._places.items())}
        return [
            path
            for path, one in found.items()
            if this is not None and one is not None and one.approval_id != approval_id
            if one.caller == this.caller and one.state == "waiting"
        ]

    async def _has_tabs(self, approval_id: str) -> bool:
        """Whether the caller of a question has as many tabs that wait as one may have."""
        this = await self.read(approval_id)
        found = [(tab, await self.read(tab)) for tab in self._tabs]
        waiting = [(tab, one) for tab, one in found if one is not None and one.state == "waiting"]
        self._tabs = [tab for tab, _ in waiting]
        return this is not None and sum(one.caller == this.caller for _, one in waiting) >= MOST_TABS

    async def open(self, approval_id: str) -> bool:
        """Open the page of a question in the person's browser, once; False if that is not possible here.

        Where the caller has tabs enough that wait, their pages lead to it instead.
        """
        if not self.enabled:
            return False
        async with self._showing:
            if self.is_open(approval_id):
                return True
            address = await self.address(approval_id)
            if await self._has_tabs(approval_id):
                self.was_opened(approval_id)
                return True
            if await self._open_browser(address):
                self.was_opened(approval_id)
                self._tabs.append(approval_id)
                return True
            for path in [path for path, place in self._places.items() if place.approval_id == approval_id]:
                del self._places[path]
            if not self._places:
                await self.aclose()
            return False

    async def address(self, approval_id: str) -> str:
        """Where the page of a question is. Anyone who has it can answer: only for a browser, or elicitation by URL."""
        async with self._starting:
            if self._listener is None:
                self._listener = await _Listener.start(self, self._places.get)
                self._watch = asyncio.create_task(self._close_when_none_waits())
            for place in self._places.values():
                if place.approval_id == approval_id:
                    return self._listener.url + place.path
            from batchcall_mcp.server.approvals.page import Place  # heavy; the listener has imported it

            place = Place(approval_id)
            self._places[place.path] = place
            while len(self._places) > _MOST_PLACES:
                del self._places[next(iter(self._places))]
            return self._listener.url + place.path

    async def answered(self, approval_id: str, until: float, report: Callable[[], Awaitable[None]]) -> bool:
        """Wait for an answer until a moment of the event loop's clock; False if the question still waits then.

        `report` is called at every look.
        """
        while True:
            found = await self.read(approval_id)
            if found is None or found.state != "waiting":
                return True
            if anyio.current_time() >= until:
                return False
            await report()
            await anyio.sleep(LOOKS_EVERY_S)

    async def aclose(self) -> None:
        listener, self._listener = self._listener, None
        watch, self._watch = self._watch, None
        self._places.clear()
        self._opened.clear()
        self._tabs.clear()
        if watch is not None and watch is not asyncio.current_task():
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        if listener is not None:
            await listener.stop()

    async def _close_when_none_waits(self) -> None:
        idle_since: float | None = None
        while True:
            await anyio.sleep(min(_WATCHES_EVERY_S, self._lingers_s))
            if self._listener is not None:
                self._listener.drop_silent()
            if await self._one_waits():
                idle_since = None
                continue
            now = anyio.current_time()
            idle_since = now if idle_since is None else idle_since
            if now - idle_since >= self._lingers_s:
                async with self._starting:
                    if not await self._one_waits():
                        await self.aclose()
                        return

    async def _one_waits(self) -> bool:
        for place in list(self._places.values()):
            try:
                found = await self.read(place.approval_id)
            except BatchCallError:
                return True  # the database is away for a moment
            if found is not None and found.state == "waiting":
                return True
        return False


class _Listener:
    """The socket. uvicorn's protocol without its server, which would log the address."""

    def __init__(self, server: asyncio.Server, state: Any, url: str) -> None:
        self._server = server
        self._state = state
        self._since: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self.url = url

    @classmethod
    async def start(cls, desk: ApprovalDesk, places: Callable[[str], Place | None]) -> _Listener:
        uvicorn, page = await anyio.to_thread.run_sync(_modules)
        listening = bound_socket("127.0.0.1", 0)
        port = listening.getsockname()[1]
        app = page.ApprovalPages(desk, places, port)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        config.load()
        state = uvicorn.server.ServerState()
        protocol = partial(config.http_protocol_class, config=config, server_state=state, app_state={})
        server = await asyncio.get_running_loop().create_server(protocol, sock=listening)
        return cls(server, state, f"http://127.0.0.1:{port}")

    def drop_silent(self) -> None:
        """Any program on this machine can connect; one that asks for nothing does not keep others out."""
        now = anyio.current_time()
        for connection in list(self._state.connections):
            opened = self._since.setdefault(connection, now)
            if connection.cycle is None and now - opened > _SILENT_S:
                connection.transport.abort()

    async def stop(self) -> None:
        """Answer what is in flight, then close."""
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        with anyio.move_on_after(1):
            while self._state.connections or self._state.tasks:  # noqa: ASYNC110 - uvicorn has no event for it
                await anyio.sleep(0.01)
        for connection in list(self._state.connections):
            connection.transport.abort()
        await self._server.wait_closed()


def _modules() -> tuple[Any, Any]:
    """Heavy, and needed only when a page is."""
    return importlib.import_module("uvicorn"), importlib.import_module("batchcall_mcp.server.approvals.page")
