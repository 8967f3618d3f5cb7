"""Keeps what happens, and sends it from a thread of its own: nobody who tells of something waits for it.

What was kept and not delivered is sent by the next process that runs with the same data folder or database.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

import anyio

from batchcall_mcp.clock import Clock, utc_now
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.notifications.events import Notice, most_of
from batchcall_mcp.settings import Settings
from batchcall_mcp.signed_http.url_policy import WebhookAddresses, shown

if TYPE_CHECKING:
    from batchcall_mcp.notifications.store import Claimed, NotificationStore
    from batchcall_mcp.signed_http.post import Post

LOG = logging.getLogger(__name__)

CLOSES_WITHIN_S: Final = 12.0
"""How long a process that ends waits for what is being sent: a little longer than one try."""
_LOOKS_EVERY_S: Final = 15.0
_AT_ONCE: Final = 5
_MOST_HELD: Final = 1_000
"""In memory, until they are kept."""


class Notifier:
    """Where one process reports what happens. Every method may be called from any thread, and `tell` never waits.

    Args:
        settings: name the address, the secret and the data folder.
        clock: says what time it is.
        tls: whom to trust; the machine's authorities if it is not given.
        looks_every_s: how often it is looked whether something is due again.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = utc_now,
        tls: ssl.SSLContext | None = None,
        looks_every_s: float = _LOOKS_EVERY_S,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._tls = tls
        self._looks_every_s = looks_every_s
        self._held: deque[Notice] = deque()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._closing = False

    @classmethod
    def of(cls, settings: Settings) -> Notifier | None:
        """As the operator's settings have it; None: nobody is notified."""
        return None if settings.notify_url is None or settings.notify_secret is None else cls(settings)

    def start(self) -> None:
        """Begin to send what an earlier process has kept; again, if a defect has ended that."""
        with self._guard:
            if self._closing or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._run, name="batchcall-notifications", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # the machine has no thread left: what was told of is done all the same
                self._thread = None
                LOG.warning("Notifications wait: %s", error)

    def tell(self, notice: Notice) -> None:
        """Report an event."""
        if self._closing or len(self._held) >= most_of(notice.event, _MOST_HELD):
            LOG.warning("A notification (%s) is dropped: too many wait, or this process ends", notice.event)
            return
        self._held.append(notice)
        self.start()
        self._wake_up()

    def close(self, wait_s: float = CLOSES_WITHIN_S) -> None:
        """Keep everything, try once what is due, and end; what takes longer than `wait_s` is left to the next process.

        Blocks.
        """
        with self._guard:
            self._closing = True
            thread = self._thread
        if thread is not None:
            self._wake_up()
            thread.join(wait_s)
            if thread.is_alive():
                LOG.warning("Notifications are still being sent; the next process on this data folder goes on")
                return
        if self._held:
            LOG.warning("%d notifications could not be kept, and are lost", len(self._held))

    def _wake_up(self) -> None:
        with self._guard:
            if self._loop is not None and self._wake is not None:
                self._loop.call_soon_threadsafe(self._wake.set)

    def _run(self) -> None:
        try:
            anyio.run(self._deliver)
        except Exception:  # a thread's failure would be nobody's
            LOG.exception("Notifications end with a defect")

    async def _deliver(self) -> None:
        # Heavy, and only here: a server whose operator wants no notifications never imports them.
        from batchcall_mcp.signed_http.post import Post

        private = self._settings.webhooks_to_private_addresses or self._settings.notify_on_this_machine
        post = Post(WebhookAddresses(allow_private=private), self._tls)
        with self._guard:
            self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        store, said, sending = None, False, 0
        wake = self._wake

        async def send(store: NotificationStore, claimed: Claimed) -> None:
            nonlocal sending
            try:
                await self._send(store, post, claimed)
            finally:
                sending -= 1
                wake.set()

        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    wake.clear()
                    last = self._closing
                    try:
                        store = store or self._opened()
                        for claimed in self._keep_and_claim(store, _AT_ONCE - sending):
                            sending += 1
                            tasks.start_soon(send, store, claimed)
                        said = False
                    except ConfigurationError as error:
                        if not said:
                            LOG.warning("Notifications wait: %s", error)
                        said = True
                    if last and not sending:
                        return
                    with anyio.move_on_after(self._looks_every_s):
                        await wake.wait()
        finally:
            with self._guard:  # before the loop is closed, which nobody may wake up then
                self._loop = self._wake = None
            if store is not None:
                store.close()

    def _opened(self) -> NotificationStore:
        from batchcall_mcp.notifications.store import NotificationStore

        return NotificationStore.open(self._settings, self._clock)

    def _keep_and_claim(self, store: NotificationStore, room: int) -> list[Claimed]:
        held = list(self._held)
        if held:
            dropped = store.add(held)
            for _ in held:
                self._held.popleft()
            if dropped:
                LOG.warning("%d notifications are dropped: too many wait for the receiver", dropped)
        return store.claim(room)

    async def _send(self, store: NotificationStore, post: Post, claimed: Claimed) -> None:
        from batchcall_mcp.signed_http.post import Message

        url = self._settings.notify_url or ""
        secret = self._settings.notify_secret
        message = Message(claimed.message_id, claimed.payload, url, secret.get_secret_value() if secret else "")
        result = await post.send(message, self._clock())
        try:
            again = store.record(claimed, result)
        except ConfigurationError as error:
            LOG.warning("What came of a notification could not be recorded, and it may be sent again: %s", error)
            return
        if result.error is not None:
            then = "given up" if again is None else f"tried again in {again.total_seconds():.0f} s"
            LOG.warning(
                "The notification %s to %s (try %d): %s; it is %s",
                claimed.event,
                shown(url),
                claimed.tries,
                result.error,
                then,
            )
