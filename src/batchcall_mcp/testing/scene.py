"""One backend in front of a fresh fake, with the few things that every check does: create, launch, read, wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
from pydantic import SecretStr

from batchcall_mcp.backends.base import Backend
from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallTask, TaskQuery
from batchcall_mcp.testing.fake import Case, Fake
from batchcall_mcp.testing.wire import Wire, origin_of
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MOST_PAGES = 100
"""More than any list of a check has."""
LONGEST_S = 60
"""No check waits for anything; one that is not over by then never is."""


class Broken(AssertionError):
    """The contract does not hold."""


def expect(holds: object, wrong: str, cure: str) -> None:
    """Fail with what is wrong and what an adapter's author can do about it, unless it holds."""
    if not holds:
        raise Broken(f"{wrong}\nWhat to do: {cure}")


@dataclass
class Scene:
    """`now` is the fake's time; `can` what the backend says that it can do."""

    case: Case
    fake: Fake
    wire: Wire
    backend: Backend
    now: datetime
    again: Callable[[], AbstractAsyncContextManager[Scene]]
    """Another one of the same backend, with a fresh fake."""

    @property
    def can(self) -> Capabilities:
        """Its capabilities."""
        return self.case.backend.capabilities

    @property
    def name(self) -> str:
        """Its name, for messages."""
        return self.case.backend.name

    def offers(self, *operations: Operation) -> bool:
        """Whether it can do all of these."""
        return self.can.operations.issuperset(operations)

    def people(self, count: int) -> tuple[CallTask, ...]:
        """Tasks with what the backend has fields for."""
        one = CallTask(
            to_number="",
            name="Ann" if self.can.task_names else None,
            dynamic_variables={"first_name": "Ann"} if self.can.dynamic_variables else {},
        )
        return tuple(replace(one, to_number=f"+1213{2_000_000 + number}") for number in range(count))

    def request(self, count: int = 2, **changes: Any) -> BatchCallRequest:
        """A request for so many people, without a word about when."""
        return BatchCallRequest(
            **{
                "from_number": self.fake.from_number,
                "agent_id": self.fake.agent_id if self.can.agent == "per_batch" else None,
                "name": "Contract",
                "tasks": self.people(count),
                **self.case.given,
                **changes,
            }
        )

    def soon(self) -> datetime:
        """A time that can be scheduled: at least an hour ahead, where the vendor rounds on a multiple of that."""
        step = self.can.limits.rounding or MINUTE
        ahead = self.now + max(HOUR, 2 * (self.can.limits.lead or MINUTE))
        steps = -(-ahead.timestamp() // step.total_seconds())
        return datetime.fromtimestamp(steps * step.total_seconds(), UTC)

    def pass_time(self, span: timedelta) -> None:
        """Move the fake's time on."""
        self.now += span
        self.fake.tick(self.now)

    def until_it_dials(self) -> None:
        """As long as a launch may take with this vendor."""
        limits = self.can.limits
        self.pass_time((limits.lead or MINUTE) + (limits.rounding or MINUTE) + MINUTE)

    async def created(self, count: int = 2, **changes: Any) -> BatchCall:
        """A new batch call."""
        return await self.backend.create(self.request(count, **changes))

    async def scheduled(self, at: datetime, count: int = 2) -> BatchCall:
        """A new batch call that waits for its time; where none can wait, one that was launched."""
        if self.can.drafts == "now_only":
            return await self.launched(count)
        return await self.created(count, trigger_at=at)

    async def launched(self, count: int = 2, **changes: Any) -> BatchCall:
        """A batch call that has begun to dial, as it was read then."""
        if self.can.drafts == "none":
            made = await self.created(count, send_now=True, **changes)
        else:
            draft = await self.created(count, **changes)
            made = await self.backend.start(draft, None)
        self.until_it_dials()
        return await self.read(made)

    async def finished(self, count: int = 2, **outcomes: str) -> BatchCall:
        """A batch call that is over. `outcomes`: "p0" for the first person, and so on; the others completed."""
        running = await self.launched(count)
        people = self.people(count)
        by_number = {people[int(one[1:])].to_number: word for one, word in outcomes.items()}
        self.fake.finish(self.vendors_id(running), by_number, "completed")
        self.pass_time(MINUTE)
        return await self.read(running)

    async def read(self, known: BatchCall) -> BatchCall:
        """The batch call as it stands; as it was known, where the backend cannot be asked."""
        return await self.backend.get(known.batch_call_id) if self.offers(Operation.GET) else known

    async def tasks(self, known: BatchCall, limit: int = 100) -> list[CallTask]:
        """Everybody on its list, page after page."""
        found: list[CallTask] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = await self.backend.tasks(known.batch_call_id, TaskQuery(limit=limit, cursor=cursor))
            expect(
                len(page.tasks) <= limit,
                f"A page of {limit} tasks was asked for, and tasks() gave {len(page.tasks)}.",
                "Cut the page at query.limit and give a cursor that goes on behind it.",
            )
            found += page.tasks
            cursor = page.next_cursor
            if cursor is None:
                return found
        raise Broken(
            "The pages of tasks do not end.\nWhat to do: give next_cursor=None with the last page, and let a cursor "
            "stand for a place in the vendor's list, not for a number of pages that were read."
        )

    def vendors_id(self, known: BatchCall) -> str:
        """The fake's id of a batch call."""
        ids = self.fake.batch_ids()
        expect(
            known.batch_call_id,
            "create() gave a batch call without an id.",
            "Read the id from the vendor's answer; without one raise OutcomeUnknown.",
        )
        named = [one for one in ids if one == known.batch_call_id] or [one for one in ids if one in known.batch_call_id]
        expect(
            named,
            f"The batch call {known.batch_call_id!r} is not one of the fake's: {list(ids)}.",
            "Take the id from the vendor's answer as it is.",
        )
        return named[-1]

    def check_credentials(self) -> None:
        """Every request to the vendor's origin had the key (and secret), every other one had neither."""
        vendor = origin_of(self.case.url)
        secrets = [self.fake.key, *([self.fake.secret] if self.fake.secret else [])]
        for sent in self.wire.sent:
            for secret in secrets:
                if sent.origin == vendor:
                    expect(
                        sent.holds(secret),
                        f"{sent} went to the vendor without the key or secret.",
                        "Send every request to the vendor through the CallerHttp that holds the credentials.",
                    )
                else:
                    expect(
                        not sent.holds(secret),
                        f"{sent} carried the key or secret to another origin than {vendor}.",
                        "Follow no address of an answer with credentials; upload with the call that sends none.",
                    )


def backend_of(case: Case, wire: Wire, key: str, secret: str | None) -> tuple[Backend, Any]:
    """The adapter on that wire with these credentials, and the client to close."""
    client = open_client(wire)
    http = BackendHttp(client, case.url, 5, sleep=_at_once, jitter=lambda: 0.0)
    return case.backend(http, Credentials(SecretStr(key), SecretStr(secret) if secret else None)), client


async def _at_once(_seconds: float) -> None:
    await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def opened(case: Case) -> AsyncIterator[Scene]:
    """A scene; when it is left, where the credentials went is checked."""
    fake = case.fake()
    try:
        wire = Wire(case.app(fake), fake)
        backend, client = backend_of(case, wire, fake.key, fake.secret)
        now = datetime.now(UTC).replace(microsecond=0)
        scene = Scene(case, fake, wire, backend, now, partial(opened, case))
        fake.tick(now)
        async with client:
            yield scene
        scene.check_credentials()
    finally:
        close = getattr(fake, "close", None)
        if close is not None:
            close()


async def refusal_of(doing: Awaitable[object]) -> BatchCallError | None:
    """The error of ours that this raises, or None."""
    try:
        await doing
    except BatchCallError as error:
        return error
    return None
