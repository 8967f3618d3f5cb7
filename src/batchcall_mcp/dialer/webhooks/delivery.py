"""Sending what is in the outbox: at least once, by any number of processes, again after a time where it failed.

A message is claimed by moving its due time past the longest try. A process that dies while it sends therefore leaves a
message that comes due again by itself, with the same `webhook-id`; no two send one at the same time.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import ssl
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import anyio
import sqlalchemy as sa

from batchcall_mcp.clock import span_ms
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import webhook_outbox, webhooks
from batchcall_mcp.signed_http.post import Message, Post, Result
from batchcall_mcp.signed_http.retries import next_try
from batchcall_mcp.signed_http.url_policy import WebhookAddresses, shown

LOG = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=60)
"""How long a claimed message is its sender's: longer than any try."""
KEPT: Final = timedelta(days=7)
"""What is delivered or given up is removed when it is so old."""
CONCURRENCY: Final = 20
"""Tries at once in one process."""
TO_ONE: Final = 5
"""Of these, tries to one webhook, so that one that does not answer leaves room for the others."""
POLL_SECONDS: Final = 1.0
PRUNE_SECONDS: Final = 600.0
PRUNED_AT_ONCE: Final = 2_000
"""So that the transaction stays short."""
SAID_EVERY: Final = timedelta(minutes=1)
"""How often the log says of one webhook that its messages are not delivered."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this process sends now; `tries` counts this one too."""

    message: Message
    webhook_id: str
    tries: int


@dataclass
class _Failures:
    """What the log has not said yet of one webhook whose messages are not delivered; moments are milliseconds."""

    said_at: int | None = None
    tries: int = 0
    given_up: int = 0

    def add(self, *, given_up: bool) -> None:
        self.tries += 1
        self.given_up += given_up

    def say(self, claimed: Claimed, error: str, now: int) -> None:
        """One line, unless there was one a moment ago."""
        if self.said_at is not None and abs(now - self.said_at) < span_ms(SAID_EVERY):
            return
        LOG.warning(
            "Webhook %s to %s: %s. %d tries failed since this was last said, %d messages are given up; the others are "
            "tried again.",
            claimed.webhook_id,
            shown(claimed.message.url),
            error,
            self.tries,
            self.given_up,
        )
        self.said_at, self.tries, self.given_up = now, 0, 0


def lanes(due: Sequence[str], busy: Mapping[str, int], room: int) -> dict[str, int]:
    """How many tries more each webhook gets: always the one next that has the fewest, in the order of `due`."""
    queue = [(busy.get(webhook_id, 0), place, webhook_id) for place, webhook_id in enumerate(due)]
    heapq.heapify(queue)
    given: Counter[str] = Counter()
    for _ in range(room):
        if not queue or queue[0][0] >= TO_ONE:
            break
        used, place, webhook_id = heapq.heappop(queue)
        given[webhook_id] += 1
        heapq.heappush(queue, (used + 1, place, webhook_id))
    return dict(given)


class Deliveries:
    """Sends due messages while `run` runs. One in each process that dials."""

    def __init__(
        self,
        store: Store,
        addresses: WebhookAddresses,
        *,
        tls: ssl.SSLContext | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._store = store
        self._post = Post(addresses, tls)
        self._poll_seconds = poll_seconds
        self._busy: Counter[str] = Counter()
        self._failures: defaultdict[str, _Failures] = defaultdict(_Failures)
        self._done: list[tuple[Claimed, Result]] = []
        self._changed = asyncio.Event()
        self._stopping = False
        self._prune_at = 0.0

    async def run(self) -> None:
        """Send what is due until `stop`. What is being sent then comes due again, for the next process that runs."""
        async with anyio.create_task_group() as sending:
            while not self._stopping:
                try:
                    for claimed in await self._step():
                        sending.start_soon(self._send, claimed)
                except sa.exc.SQLAlchemyError as error:
                    # Not louder: the engine, which runs too, says when the database goes and when it is back.
                    LOG.debug("Webhooks wait: the database cannot be used (%s)", type(error).__name__)
                with anyio.move_on_after(self._poll_seconds):
                    await self._changed.wait()
                self._changed.clear()
            sending.cancel_scope.cancel()
        await self._finish()

    def stop(self) -> None:
        """Make `run` return. From the thread of its event loop."""
        self._stopping = True
        self._changed.set()

    async def _step(self) -> list[Claimed]:
        """Record what has been sent, and claim what is due, in one transaction."""
        done, self._done = self._done, []
        room = CONCURRENCY - self._busy.total()
        try:
            claimed = await anyio.to_thread.run_sync(self._record_and_claim, done, dict(self._busy), room)
            now = asyncio.get_running_loop().time()
            if now >= self._prune_at:
                await anyio.to_thread.run_sync(prune, self._store)
                self._prune_at = now + PRUNE_SECONDS
        except BaseException:
            self._done = [*done, *self._done]
            raise
        self._busy.update(one.webhook_id for one in claimed)
        return claimed

    async def _finish(self) -> None:
        """What was delivered is not to be sent again only because somebody stopped."""
        try:
            await anyio.to_thread.run_sync(self._record_and_claim, self._done, {}, 0)
        except sa.exc.SQLAlchemyError as error:
            LOG.warning("Some webhook messages will be sent again (%s)", type(error).__name__)

    async def _send(self, claimed: Claimed) -> None:
        try:
            result = await self._post.send(claimed.message, self._store.clock())
            self._done.append((claimed, result))
        finally:
            self._busy[claimed.webhook_id] -= 1
            self._changed.set()

    def _record_and_claim(
        self, done: Sequence[tuple[Claimed, Result]], busy: Mapping[str, int], room: int
    ) -> list[Claimed]:
        due = _due(self._store) if room else []
        if not done and not due:
            return []
        with self._store.writing() as tx:
            now = self._store.now()
            given_up = [_record(tx, claimed, result, now) for claimed, result in done]
            found = [
                claimed
                for webhook_id, wanted in lanes(due, busy, room).items()
                for claimed in _claim(tx, webhook_id, wanted, now)
            ]
        for (claimed, result), over in zip(done, given_up, strict=True):
            if result.error is not None:
                self._failures[claimed.webhook_id].add(given_up=over)
        for claimed, result in done:
            if result.error is not None:
                self._failures[claimed.webhook_id].say(claimed, result.error, now)
        return found


def prune(store: Store) -> None:
    """Remove what was delivered or given up and is older than KEPT. Blocks."""
    old = (
        sa.select(webhook_outbox.c.message_id)
        .where(
            webhook_outbox.c.webhook_id.in_(sa.select(webhooks.c.webhook_id)),
            webhook_outbox.c.created_at < store.now() - span_ms(KEPT),
            webhook_outbox.c.due_at.is_(None),
        )
        .limit(PRUNED_AT_ONCE)
    )
    while True:
        with store.reading() as tx:
            found = tx.scalars(old).all()
        if not found:
            return
        with store.writing() as tx:
            # Unless somebody had it sent again meanwhile.
            still = webhook_outbox.c.message_id.in_(found) & webhook_outbox.c.due_at.is_(None)
            tx.execute(webhook_outbox.delete().where(still))


_OLDEST = (
    sa.select(sa.func.min(webhook_outbox.c.due_at))
    .where(webhook_outbox.c.webhook_id == webhooks.c.webhook_id, webhook_outbox.c.due_at.is_not(None))
    .scalar_subquery()
    .label("oldest")
)
_OWED = sa.select(webhooks.c.webhook_id, _OLDEST).order_by(_OLDEST)


def _due(store: Store) -> list[str]:
    """Webhooks that are owed a message, those that have waited longest first; without taking a lock."""
    with store.reading() as tx:
        return [row.webhook_id for row in tx.execute(_OWED) if row.oldest is not None and row.oldest <= store.now()]


def _claim(tx: sa.Connection, webhook_id: str, wanted: int, now: int) -> list[Claimed]:
    rows = tx.execute(
        sa.select(webhook_outbox, webhooks.c.url, webhooks.c.secret)
        .join(webhooks, webhooks.c.webhook_id == webhook_outbox.c.webhook_id)
        .where(webhook_outbox.c.webhook_id == webhook_id, webhook_outbox.c.due_at <= now)
        .order_by(webhook_outbox.c.due_at)
        .limit(wanted)
        .with_for_update(of=webhook_outbox, skip_locked=True)
    ).all()
    mine = webhook_outbox.c.message_id.in_([row.message_id for row in rows])
    tx.execute(
        webhook_outbox.update().where(mine).values(due_at=now + span_ms(LEASE), tries=webhook_outbox.c.tries + 1)
    )
    return [
        Claimed(Message(row.message_id, row.payload, row.url, row.secret), row.webhook_id, row.tries + 1)
        for row in rows
    ]


def _record(tx: sa.Connection, claimed: Claimed, result: Result, now: int) -> bool:
    """Write down what came of a try; whether the message is given up with it."""
    this = webhook_outbox.c.message_id == claimed.message.message_id
    if result.error is None:
        values = {"due_at": None, "delivered_at": now, "last_error": None}
        tx.execute(webhook_outbox.update().where(this).values(values))
        return False
    again = next_try(claimed.tries, result)
    # Another try may have begun after this one's lease; then that one decides.
    mine = this & (webhook_outbox.c.tries == claimed.tries) & webhook_outbox.c.delivered_at.is_(None)
    due_at = None if again is None else now + span_ms(again)
    tx.execute(webhook_outbox.update().where(mine).values(due_at=due_at, last_error=result.error))
    return again is None
