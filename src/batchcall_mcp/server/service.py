"""What one server process holds: settings, guard, one HTTP client, and the embedded dialer if it is the backend.

Nothing here belongs to a caller; a caller's credentials live in the `CallContext` of one tool call.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
import httpx2
from mcp.server.mcpserver import Context
from pydantic import SecretStr

from batchcall_mcp.backends.base import Backend
from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.backends.registry import EMBEDDED, base_url, serving_class
from batchcall_mcp.backends.rest_api.dialer import open_dialer_client
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.clock import utc_now
from batchcall_mcp.errors import AuthenticationFailed, BackendUnavailable, BatchCallError
from batchcall_mcp.guard.admission import Guard
from batchcall_mcp.guard.audit import Audit
from batchcall_mcp.guard.confirmation import Asker, Unasked
from batchcall_mcp.guard.ledger import at_rest
from batchcall_mcp.kept_files.caller_files import CallerFiles, files_url, remove_leftovers
from batchcall_mcp.kept_files.records import STORE_FILE
from batchcall_mcp.model import ListQuery
from batchcall_mcp.notifications.events import tell_nobody
from batchcall_mcp.notifications.notifier import Notifier
from batchcall_mcp.recipients.files.sample import make_first_folder
from batchcall_mcp.server.approvals.desk import ApprovalDesk
from batchcall_mcp.server.approvals.elicitation import ClientAsker
from batchcall_mcp.server.credentials import AcceptedPairs, caller_credentials, caller_identity
from batchcall_mcp.server.request_mode import asked_mode
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, Erred, open_client

if TYPE_CHECKING:
    from batchcall_mcp.dialer.app import EmbeddedDialer
    from batchcall_mcp.guard.ledger.ledger import Ledger
    from batchcall_mcp.kept_files.store import FileStore

logger = logging.getLogger(__name__)

_HEAD_START_S = 1.0
_LISTS_AT_ONCE = 2
"""Uploaded ones that are read at once, of all callers."""
_SWEEPS_EVERY_S = 600
_NOTIFIES_WITHIN_S = 2.0
"""A server over stdio ends within seconds of its client; the next process on the data folder goes on."""
_LEFT_FOR_S = 3600
"""A copy of a file is written and read in minutes: one that is older was left by a process that was killed."""


class Service:
    """One backend, for every caller of the process. Open it with `opened()`; opening is counted, so it may nest."""

    def __init__(self, settings: Settings, *, local: bool, dials: bool = True) -> None:
        self.settings = settings
        self.dials = dials
        """Whether the embedded dialer places calls here, or is only asked."""
        self.head_start_s = _HEAD_START_S
        """How long what is heavy waits for the handshake."""
        self.prepare: Callable[[], Coroutine[Any, Any, None]] | None = None
        """What runs next to a connection, as soon as the dialer runs if it is the backend; None: nothing."""
        self.notifies_within_s = _NOTIFIES_WITHIN_S
        """How long this process may wait at its end for a notification that is being sent."""
        self.local = local
        """Whether callers share this machine's disk (stdio)."""
        audit = Audit(settings.data_dir)
        self.guard = Guard(
            settings.mode,
            settings.confirm,
            settings.max_calls_per_launch,
            audit,
            accept_no_stop=settings.accept_no_stop,
        )
        self.backend_type = serving_class(settings)
        self._url = base_url(settings, self.backend_type)
        self._ledger: Ledger | None = None
        self._opening_ledger = threading.Lock()
        self._file_store: FileStore | None = None
        self._opening_files = threading.Lock()
        self._lists_at_once = anyio.CapacityLimiter(_LISTS_AT_ONCE)
        self._stack: AsyncExitStack | None = None
        self._opened = 0
        self._http: BackendHttp | None = None
        self._dialer: EmbeddedDialer | None = None
        self._opening = anyio.Lock()
        self.notifier = Notifier.of(settings)
        """Where the operator is notified of what happens; None: nowhere."""
        self.desk = ApprovalDesk(self.ledger, audit, enabled=settings.approval_page != "off")
        self.accepted = AcceptedPairs(self.accepts)
        self.backend_erred: Erred = lambda _code: None
        """Hears of each error of the backend; whoever counts them puts itself here."""
        self.turns: WeakValueDictionary[tuple[str, str], anyio.Lock] = WeakValueDictionary()
        """By caller and batch call, held from reading it to launching it: two launches at once would both see it
        waiting. Nothing that stops calls ever waits for one."""

    @property
    def capabilities(self) -> Capabilities:
        return self.backend_type.capabilities

    @property
    def embedded(self) -> bool:
        return self.backend_type.name == EMBEDDED

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Service]:
        """Hold the service open; the last one to leave closes the client and the dialer."""
        self._opened += 1
        try:
            async with anyio.create_task_group() as group:
                if self.embedded and self.dials:
                    group.start_soon(self._start_soon)
                elif self.prepare is not None:
                    group.start_soon(self.prepare)
                if self.settings.do_not_call and not self.embedded:  # the dialer reads its own
                    group.start_soon(self._read_do_not_call_soon)
                if self.notifier is not None:
                    self.notifier.start()
                if self.settings.retention_days is not None:
                    group.start_soon(self._keep_no_longer, timedelta(days=self.settings.retention_days))
                if self.local:
                    if self.dials:
                        await anyio.to_thread.run_sync(make_first_folder, self.settings.files)
                else:
                    group.start_soon(self._open_ledger_soon)
                    group.start_soon(self._remove_old_files)
                yield self
                group.cancel_scope.cancel()
        finally:
            self._opened -= 1
            if not self._opened:
                with anyio.CancelScope(shield=True):
                    await self._close()

    async def _close(self) -> None:
        """The backend first, the ledger last, each although another fails to close."""
        stack, self._stack, self._http, self._dialer = self._stack, None, None, None
        ledger, self._ledger = self._ledger, None
        files, self._file_store = self._file_store, None
        async with AsyncExitStack() as closing:
            if self.notifier is not None:  # last of all: the others may have something to say
                wait_s = self.notifies_within_s
                closing.push_async_callback(anyio.to_thread.run_sync, partial(self.notifier.close, wait_s))
            if files is not None:
                closing.push_async_callback(anyio.to_thread.run_sync, files.close)
            if ledger is not None:
                closing.push_async_callback(anyio.to_thread.run_sync, ledger.close)
            closing.push_async_callback(self.desk.aclose)
            if stack is not None:
                closing.push_async_callback(stack.aclose)
        self.notifier = Notifier.of(self.settings)

    async def _open_ledger_soon(self) -> None:
        """Its operator reads the log of a server over HTTP. A file that shows no fault waits for its first use."""
        try:
            if not await self._ledger_rests():
                await self.ledger()
        except BatchCallError as error:
            logger.warning("The ledger cannot be used, and every write will say why: %s", error)

    async def _read_do_not_call_soon(self) -> None:
        """Every launch reads it again; its operator reads the log when a server starts."""
        await anyio.sleep(self.head_start_s)
        module = await anyio.to_thread.run_sync(importlib.import_module, "batchcall_mcp.recipients.do_not_call")
        read = module.read_do_not_call_lists
        try:
            found = await anyio.to_thread.run_sync(read, self.settings.do_not_call, self.settings.default_region)
        except BatchCallError as error:
            logger.warning("Every launch will say why: %s", error)
            return
        for note in found.notes():
            logger.warning(note)

    async def ledger(self) -> Ledger:
        """The record of all writes, opened when it is first needed; its imports are heavy.

        Raises:
            ConfigurationError: it cannot be opened; nothing was sent.
        """
        if self._ledger is not None:
            return self._ledger
        return await anyio.to_thread.run_sync(self._opened_ledger, abandon_on_cancel=True)

    async def _ledger_rests(self) -> bool:
        """Whether the ledger is a file that nobody here has opened, and that shows no fault."""
        where = self.settings.database(at_rest.FILE)
        if self._ledger is not None or not isinstance(where, Path):
            return False
        return await anyio.to_thread.run_sync(at_rest.is_usable, where)

    async def check_ledger(self) -> None:
        """Look whether writes can be recorded now; the backend is not asked.

        Raises:
            ConfigurationError: they cannot.
        """
        if await self._ledger_rests():
            return
        ledger = await self.ledger()
        await anyio.to_thread.run_sync(ledger.database.check, abandon_on_cancel=True)

    def shared_key(self) -> bytes:
        """What seals questions, the same in every process on the ledger. Blocks.

        Raises:
            ConfigurationError: the ledger cannot be opened.
        """
        return self._opened_ledger().database.key("questions")

    def _opened_ledger(self) -> Ledger:
        with self._opening_ledger:
            ledger = self._ledger
            if ledger is None:
                module = importlib.import_module("batchcall_mcp.guard.ledger.ledger")
                ledger = self._ledger = module.Ledger.open(self.settings)
            return ledger

    def _opened_files(self) -> FileStore:
        with self._opening_files:
            store = self._file_store
            if store is None:
                module = importlib.import_module("batchcall_mcp.kept_files.store")
                store = self._file_store = module.FileStore.open(self.settings)
            return store

    async def _remove_old_files(self) -> None:
        """What was kept for long enough goes, also what another process has stored; a new server waits a moment."""
        await anyio.sleep(self.head_start_s)
        while True:
            try:
                await anyio.to_thread.run_sync(self._sweep)
            except BatchCallError as error:
                logger.warning("Old uploaded lists and exports could not be removed: %s", error)
            await anyio.sleep(_SWEEPS_EVERY_S)

    async def _keep_no_longer(self, kept_for: timedelta) -> None:
        """Exports and the like go when their time is over; the dialer itself erases what is in its database."""
        await anyio.sleep(_HEAD_START_S)
        while True:
            try:
                module = await anyio.to_thread.run_sync(importlib.import_module, "batchcall_mcp.erasure.retention")
                remove = partial(module.remove_old_files, self.settings, kept_for, utc_now())
                for path in await anyio.to_thread.run_sync(remove):
                    logger.info("Removed after BATCHCALL_RETENTION_DAYS: %s", path)
            except BatchCallError as error:
                logger.warning("Old exports could not be removed: %s", error)
            await anyio.sleep(_SWEEPS_EVERY_S)

    def _sweep(self) -> None:
        remove_leftovers(self.settings.data_dir, time.time() - _LEFT_FOR_S)
        where = self.settings.database(STORE_FILE)
        if self._file_store is None and isinstance(where, Path) and not where.exists():
            return  # what opens it is heavy
        store = importlib.import_module("batchcall_mcp.kept_files.store").FileStore
        if self._file_store is not None or store.is_there(self.settings):
            self._opened_files().sweep()

    def caller_files(self, credentials: Credentials, headers: Mapping[str, str]) -> CallerFiles:
        """What a caller over HTTP keeps here; the store is opened when it is first needed."""

        async def opened() -> tuple[FileStore, str]:
            ledger = await self.ledger()
            store = await anyio.to_thread.run_sync(self._opened_files, abandon_on_cancel=True)
            return store, ledger.hashed(caller_identity(credentials))

        return CallerFiles(
            opened=opened,
            data_dir=self.settings.data_dir,
            url=files_url(headers),
            needs_secret=self.capabilities.needs_secret,
            is_used=lambda: not isinstance(kept := self.settings.database(STORE_FILE), Path) or kept.exists(),
            reading=self._lists_at_once,
        )

    async def _start_soon(self) -> None:
        """A call that was scheduled yesterday is placed although nobody asks today; the handshake goes first."""
        await anyio.sleep(self.head_start_s)
        try:
            await self.http()
        except BatchCallError as error:
            logger.warning("The dialer does not run, and every tool call will say why: %s", error)
            return
        if self.prepare is not None:
            await self.prepare()

    async def http(self) -> BackendHttp:
        """The one way to the backend, opened when it is first needed."""
        async with self._opening:
            if self._http is None:
                self._stack = self._stack or AsyncExitStack()
                client = await self._open_dialer(self._stack) if self.embedded else open_client()
                await self._stack.enter_async_context(client)
                self._http = BackendHttp(
                    client,
                    self._url,
                    self.settings.request_timeout_s,
                    judged=self.accepted.judged,
                    erred=self.backend_erred,
                )
            return self._http

    async def _open_dialer(self, stack: AsyncExitStack) -> httpx2.AsyncClient:
        """Start the dialer; its imports are heavy, and run next to the protocol, not before it."""
        module = await anyio.to_thread.run_sync(importlib.import_module, "batchcall_mcp.dialer.app")
        tell = tell_nobody if self.notifier is None else self.notifier.tell
        dialer: EmbeddedDialer = module.EmbeddedDialer.of(self.settings, tell=tell)
        stack.push_async_callback(dialer.aclose)
        if self.dials:
            await dialer.start()
        self._dialer = dialer
        return open_dialer_client(dialer.app)

    async def begin_to_dial(self) -> None:
        """Place calls here from now on, where the embedded dialer was only asked until now.

        Raises:
            ConfigurationError: it cannot dial.
        """
        self.dials = True
        await self.http()
        if self._dialer is not None:
            await self._dialer.start()

    async def credentials(self, headers: Mapping[str, str] | None) -> Credentials:
        """Whose call it is; over stdio without an account, the embedded dialer's own pair.

        Raises:
            AuthenticationFailed: over HTTP, naming the header.
            ConfigurationError: over stdio, naming the variable.
        """
        if headers is None and self.embedded:
            await self.http()
            key, secret = self._dialer.credentials  # type: ignore[union-attr]  # http() set it
            return Credentials(SecretStr(key), SecretStr(secret))
        return caller_credentials(headers, self.settings, needs_secret=self.capabilities.needs_secret)

    async def verify(self, credentials: Credentials) -> bool:
        await self.http()
        secret = credentials.api_secret
        if self._dialer is None or secret is None:
            return False
        pair = credentials.api_key.get_secret_value(), secret.get_secret_value()
        return await anyio.to_thread.run_sync(self._dialer.verify, *pair) is not None

    async def accepts(self, credentials: Credentials) -> bool:
        """Whether the backend accepts this pair: one small read.

        Raises:
            BatchCallError: it gave no answer from which that can be learned.
        """
        backend = await self.backend(credentials)
        try:
            if Operation.LIST in self.capabilities.operations:
                await backend.list(ListQuery(limit=1))
            elif (unavailable := (await backend.account()).unavailable) is not None:
                raise BackendUnavailable(unavailable)
        except AuthenticationFailed:
            return False
        return True

    async def backend(self, credentials: Credentials) -> Backend:
        return self.backend_type(await self.http(), credentials)

    async def call_context(self, ctx: Context[Any, Any], tool: str) -> CallContext:
        """What one tool call works with, but for its arguments."""
        asker = ClientAsker(ctx, self.desk, local=self.local)
        return await self._call_context(ctx.headers, self.guard_of(ctx.headers), asker, tool)

    async def reading_context(self, headers: Mapping[str, str] | None, what: str) -> CallContext:
        """What a request works with that only reads, and asks nobody: a completion."""
        return await self._call_context(headers, self.guard_of(headers), Unasked(), what)

    def guard_of(self, headers: Mapping[str, str] | None) -> Guard:
        """The operator's rules for one request, in the narrower mode that it may ask for.

        Raises:
            InvalidInput: it asks for a mode that there is not.
        """
        return self.guard.narrowed(*asked_mode(headers))

    async def operator_context(self, command: str) -> CallContext:
        """What one command in a terminal works with: the operator's mode binds callers, not the operator."""
        guard = Guard("full", self.settings.confirm, self.settings.max_calls_per_launch, self.guard.audit)
        return await self._call_context(None, guard, Unasked(), command)

    async def _call_context(
        self, headers: Mapping[str, str] | None, guard: Guard, asker: Asker, tool: str
    ) -> CallContext:
        credentials = await self.credentials(headers)
        mine = headers is None and self.embedded  # that pair is another one in every process
        return CallContext(
            backend=await self.backend(credentials),
            backend_address=f"{self.backend_type.name} {self._url}",
            guard=guard,
            settings=self.settings,
            caller="local" if mine else caller_identity(credentials),
            asker=asker,
            tool=tool,
            open_ledger=self.ledger,
            tell=None if self.notifier is None else self.notifier.tell,
            local_files=self.local,
            files=None if headers is None else self.caller_files(credentials, headers),
        )
