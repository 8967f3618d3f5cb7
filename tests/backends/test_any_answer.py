"""Whatever a vendor answers, to whatever it is asked, an adapter reads it or says what is wrong; and its pages end."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall_mcp.backends.base import Backend
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.registry import BUILT_IN, EMBEDDED, backend_class
from batchcall_mcp.backends.rest_api import mapping
from batchcall_mcp.backends.rest_api.batchcall import BatchCallBackend
from batchcall_mcp.backends.rest_api.dialer import DialerBackend
from batchcall_mcp.backends.rest_api.zudu import ZuduBackend
from batchcall_mcp.backends.vendors.magpipe import MagpipeBackend
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallTask,
    ListQuery,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.vendor_http.client import BackendHttp, open_client
from tests.backends.recorder import CREDENTIALS
from tests.backends.test_words import JSON, OBJECTS
from tests.vendors.talking import TalkingBackend

ADAPTERS: tuple[type[Backend], ...] = (
    *(backend_class(name) for name in BUILT_IN if name != EMBEDDED),
    TalkingBackend,
)
A_FEW = settings(max_examples=settings().max_examples // 3)
"""Of what is tried with every adapter, in every operation."""
AT = datetime(2030, 1, 1, tzinfo=UTC)
REQUEST = BatchCallRequest(
    from_number="+14155550199", tasks=(CallTask(to_number="+14155550100"),), name="N", agent_id="a1", send_now=True
)
SEEN = TaskQuery(statuses=frozenset({TaskStatus.PENDING, TaskStatus.UNKNOWN}))
OPERATIONS: dict[str, Callable[[Backend, BatchCall], Awaitable[object]]] = {
    "account": lambda backend, _: backend.account(),
    "create": lambda backend, _: backend.create(REQUEST, "k1"),
    "create with an agent": lambda backend, _: backend.create(replace(REQUEST, agent_id="a1"), "k3"),
    "update name": lambda backend, current: backend.update(current, BatchCallRequest(name="other")),
    "update caller": lambda backend, current: backend.update(current, BatchCallRequest(from_number="+14155550198")),
    "append": lambda backend, current: backend.append(current, (CallTask(to_number="+14155550101"),), "k2"),
    "get": lambda backend, _: backend.get("b1"),
    "get tasks": lambda backend, _: backend.tasks("b1", TaskQuery(limit=200)),
    "get filtered": lambda backend, _: backend.tasks("b1", SEEN),
    "get_call": lambda backend, _: backend.get_call("b1", "c1"),
    "list": lambda backend, _: backend.list(ListQuery()),
    "list filtered": lambda backend, _: backend.list(ListQuery(status=BatchStatus.DRAFT, created_after=AT)),
    "start": lambda backend, current: backend.start(current, None),
    "start later": lambda backend, current: backend.start(current, AT),
    "pause": lambda backend, current: backend.pause(current),
    "resume": lambda backend, current: backend.resume(replace(current, status=BatchStatus.PAUSED)),
    "cancel": lambda backend, current: backend.cancel(replace(current, status=BatchStatus.SCHEDULED)),
    "retry": lambda backend, current: backend.retry(current, ("t1",)),
    "delete": lambda backend, current: backend.delete(current),
}
LISTS = st.sampled_from(["batches", "batch_calls", "tasks", "calls", "data", "results", "agents", "numbers"])
BODIES = (
    OBJECTS
    | st.builds(lambda data: {"status": "success", "data": data}, OBJECTS | st.lists(JSON, max_size=4))
    | st.builds(lambda member, rows: {member: rows}, LISTS, JSON | st.lists(OBJECTS, max_size=3))
    | st.builds(lambda batch, rows: {"batch": batch, "recipients": rows}, OBJECTS, st.lists(OBJECTS, max_size=3))
    | JSON
)
STATUSES = st.sampled_from(list(BatchStatus))


def http(reply: Callable[[httpx2.Request], Any]) -> httpx2.AsyncClient:
    """A client of a vendor that answers 200 with what `reply` gives."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=json.dumps(reply(request)).encode())

    return open_client(httpx2.MockTransport(handle))


def seen_by(client: httpx2.AsyncClient, adapter: type[Backend]) -> Backend:
    async def at_once(_seconds: float) -> None:
        await anyio.lowlevel.checkpoint()

    return adapter(BackendHttp(client, "http://vendor", 5, sleep=at_once, jitter=lambda: 0.0), CREDENTIALS)


def test_every_operation_is_among_those_asked() -> None:
    asked = {name.partition(" ")[0] for name in OPERATIONS}
    assert asked == {str(operation) for operation in Operation}


@pytest.mark.sweep
@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
@A_FEW
@given(bodies=st.lists(BODIES, min_size=1, max_size=4), status=STATUSES)
async def test_any_json_is_read_or_is_an_error_of_ours_in_every_operation(
    adapter: type[Backend], bodies: list[Any], status: BatchStatus
) -> None:
    turn = itertools.cycle(bodies)
    current = BatchCall(batch_call_id="b1", status=status, from_number="+14155550199", name="N")
    async with http(lambda _request: next(turn)) as client:
        backend = seen_by(client, adapter)
        for operation in OPERATIONS.values():
            with anyio.fail_after(60), contextlib.suppress(BatchCallError):
                await operation(backend, current)


@given(word=st.sampled_from([*BatchStatus, "sent", "canceled"]) | st.text(max_size=30), upper=st.booleans())
def test_a_status_of_any_case_is_known_or_is_unknown_with_the_vendors_word(word: str, *, upper: bool) -> None:
    written = word.upper() if upper else word
    task = mapping.call_task({"status": written})
    for status, theirs in (mapping.batch_status(written), (task.status, task.backend_status)):
        assert status is not None
        assert status.value == "unknown" or theirs is None or theirs.lower() != status.value
        if status.value == "unknown" and written.strip().isprintable() and written.strip().lower() != "unknown":
            assert theirs == (written.strip() or None)


def page_of(rows: list[Any], page: int, size: int, told: str) -> dict[str, Any]:
    """A page, and what this vendor tells of the rest."""
    pages = -(-len(rows) // size)
    tells = {"has_next_page": page + 1 < pages, "total_pages": pages, "total_count": len(rows)}
    pagination = {"limit": size, told: tells[told]} if told in tells else {}
    return {"rows": rows[page * size : (page + 1) * size], "pagination": pagination}


async def all_of(read: Callable[[str | None], Awaitable[tuple[list[Any], str | None]]], most_pages: int) -> list[Any]:
    """Everything, page after page, as long as there is a cursor."""
    found: list[Any] = []
    cursor: str | None = None
    for _ in range(most_pages):
        rows, cursor = await read(cursor)
        found += rows
        if cursor is None:
            return found
    pytest.fail("the pages do not end")


TOLD = st.sampled_from(["has_next_page", "total_pages", "total_count", "nothing"])


@pytest.mark.parametrize("adapter", [ZuduBackend], ids=lambda adapter: adapter.name)
@given(
    total=st.integers(0, 350), limit=st.integers(1, 200), largest=st.integers(1, 100), told=TOLD, filtered=st.booleans()
)
async def test_every_task_comes_once_in_order_whatever_the_page_sizes(
    adapter: type[Backend], total: int, limit: int, largest: int, told: str, *, filtered: bool
) -> None:
    """A server may give smaller pages than asked for; one that tells nothing gives what was asked for."""
    tasks = [{"task_id": f"t{n}", "to_number": "+1", "status": "failed" if n % 3 else "pending"} for n in range(total)]

    def reply(request: httpx2.Request) -> Any:
        if not request.url.path.endswith("/tasks"):
            return {"data": {"batch_call_id": "b1", "status": "draft"}}
        asked = request.url.params
        wanted = [task for task in tasks if task["status"] in asked.get_list("status")] if "status" in asked else tasks
        size = int(asked["limit"]) if told == "nothing" else min(int(asked["limit"]), largest)
        page = page_of(wanted, int(asked["page"]), size, told)
        return {"data": {"tasks": page["rows"], "pagination": page["pagination"]}}

    async with http(reply) as client:
        backend = seen_by(client, adapter)
        query = TaskQuery(statuses=frozenset({TaskStatus.FAILED}) if filtered else None, limit=limit)

        async def read(cursor: str | None) -> tuple[list[Any], str | None]:
            page = await backend.tasks("b1", replace(query, cursor=cursor))
            assert len(page.tasks) <= limit
            return [task.task_id for task in page.tasks], page.next_cursor

        found = await all_of(read, total + 2)
    assert found == [f"t{n}" for n in range(total) if not filtered or n % 3]


@given(shown=st.integers(20, 200), limit=st.integers(20, 200))
async def test_after_a_page_of_another_length_hardly_more_is_read_than_asked_for(shown: int, limit: int) -> None:
    """A page that is cut to 60 KB ends anywhere: its cursor falls between the numbered pages of most sizes."""
    sizes: list[int] = []

    def reply(request: httpx2.Request) -> Any:
        page, size = int(request.url.params["page"]), int(request.url.params["limit"])
        sizes.append(size)
        rows = [{"task_id": f"t{n}", "to_number": "+1"} for n in range(page * size, (page + 1) * size)]
        return {"data": {"tasks": rows, "pagination": {"limit": size, "has_next_page": True}}}

    async with http(reply) as client:
        page = await seen_by(client, DialerBackend).tasks("b1", TaskQuery(limit=limit, cursor=str(shown)))
    assert [task.task_id for task in page.tasks] == [f"t{n}" for n in range(shown, shown + limit)]
    assert page.next_cursor == str(shown + limit)
    assert sum(sizes) <= max(3 * limit, shown + limit)


@pytest.mark.parametrize("adapter", [BatchCallBackend, MagpipeBackend], ids=lambda adapter: adapter.name)
@given(
    total=st.integers(0, 250), limit=st.integers(1, 100), largest=st.integers(1, 100), told=TOLD, named=st.booleans()
)
async def test_every_batch_call_is_listed_once_whatever_the_page_sizes(
    adapter: type[Backend], total: int, limit: int, largest: int, told: str, *, named: bool
) -> None:
    rows = [{"id": f"b{n}", "name": f"n{n % 3}", "status": "draft"} for n in range(total)]

    def reply(request: httpx2.Request) -> Any:
        if request.method == "POST":  # Magpipe
            asked = json.loads(request.content)
            return {"batches": rows[asked["offset"] : asked["offset"] + asked["limit"]]}
        params = request.url.params
        size = int(params["limit"]) if told == "nothing" else min(int(params["limit"]), largest)
        page = page_of(rows, int(params["page"]), size, told)
        return {"data": {"batch_calls": page["rows"], "pagination": page["pagination"]}}

    async with http(reply) as client:
        backend = seen_by(client, adapter)

        async def read(cursor: str | None) -> tuple[list[Any], str | None]:
            page = await backend.list(ListQuery(limit=limit, cursor=cursor, name_contains="N1" if named else None))
            assert len(page.batch_calls) <= limit
            return [one.batch_call_id for one in page.batch_calls], page.next_cursor

        found = await all_of(read, total + 2)
    assert found == [f"b{n}" for n in range(total) if not named or n % 3 == 1]
