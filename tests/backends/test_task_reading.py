"""A backend whose pages have no end cannot hold a read for ever, nor fill the memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from batchcall_mcp.backends.rest_api.batchcall import BatchCallBackend
from batchcall_mcp.backends.rest_api.zudu import ZuduBackend
from batchcall_mcp.backends.task_reading import FOR_A_FILE, Bounds, NoEnd, every_task
from batchcall_mcp.errors import IllegalTransition
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client
from tests.server.transports import spawned
from tests.vendors.serving import listening

PAGE = 100
FROM = "+14155550100"


class Pages:
    """A server of the batch-call REST API with a draft. `page(number)`: the rows of a page, and whether more follow."""

    def __init__(self, page: Callable[[int], tuple[list[int], bool]], total: int | None) -> None:
        self.page = page
        self.total = total
        self.asked = 0
        self.writes: list[str] = []
        self.app = Starlette(
            routes=[
                Route("/batch-call/{id}", self._one, methods=["GET"]),
                Route("/batch-call/{id}/tasks", self._tasks, methods=["GET"]),
                Route("/batch-call/list", self._list, methods=["GET"]),
                Route("/{rest:path}", self._write, methods=["POST", "PUT", "PATCH", "DELETE"]),
            ]
        )

    async def _one(self, _request: Request) -> JSONResponse:
        counts = {} if self.total is None else {"total": self.total}
        draft = {"batch_call_id": "batch_1", "status": "draft", "from_number": FROM, "counts": counts}
        return JSONResponse({"data": draft})

    async def _tasks(self, request: Request) -> JSONResponse:
        self.asked += 1
        assert self.asked < 5_000, "it reads for ever"
        rows, more = self.page(int(request.query_params["page"]))
        tasks = [{"task_id": f"t{row}", "to_number": f"+1212{2_000_000 + row}", "status": "pending"} for row in rows]
        return JSONResponse({"data": {"tasks": tasks, "pagination": {"has_next_page": more}}})

    async def _list(self, _request: Request) -> JSONResponse:
        return JSONResponse({"data": {"batch_calls": []}})

    async def _write(self, request: Request) -> JSONResponse:
        self.writes.append(request.url.path)
        return JSONResponse({"error": "no"}, 400)


def growing(number: int) -> tuple[list[int], bool]:
    return list(range(number * PAGE, (number + 1) * PAGE)), True


def cycling(number: int) -> tuple[list[int], bool]:
    return growing(number % 3)[0], True


def last_page_again_and_again(number: int) -> tuple[list[int], bool]:
    return growing(min(number, 2))[0], True


async def read(pages: Pages, backend: Any = BatchCallBackend, **options: Any) -> list[str]:
    statuses = options.pop("statuses", None)
    async with listening(pages.app) as url, open_client() as client:
        asked = backend(BackendHttp(client, url, 5), Credentials(SecretStr("k"), SecretStr("s")))
        with anyio.fail_after(60):
            batch_call = await asked.get("batch_1")
            return [task.to_number async for task in every_task(asked, batch_call, statuses, **options)]


async def test_a_list_is_read_to_its_end() -> None:
    pages = Pages(lambda number: (growing(number)[0], number < 3), total=4 * PAGE)
    assert len(await read(pages)) == 4 * PAGE
    assert pages.asked == 4


async def test_a_list_that_grows_while_it_is_read_ends_where_it_passes_what_the_backend_counts() -> None:
    pages = Pages(growing, total=250)
    with pytest.raises(NoEnd, match=r"counts 250 tasks and gave at least 300\. Nothing was sent\."):
        await read(pages)
    assert pages.asked == 3


async def test_a_list_that_was_changed_while_it_was_read_says_so() -> None:
    def replaced(_number: int) -> tuple[list[int], bool]:
        pages.total = 3
        return [0, 1, 2], False

    pages = Pages(replaced, total=2)
    with pytest.raises(IllegalTransition, match=r"was changed while it was read: it has 3 tasks now and had 2 before"):
        await read(pages)


async def test_a_list_ends_where_it_passes_what_the_backend_takes() -> None:
    pages = Pages(growing, total=None)
    with pytest.raises(NoEnd, match=r"takes 1,000 tasks and gave at least 1,100\. Nothing was sent\."):
        await read(pages, ZuduBackend)
    assert pages.asked == 11


@pytest.mark.parametrize("bounds", [Bounds(seconds=None, tasks=1_000), replace(FOR_A_FILE, tasks=1_000)])
async def test_a_list_that_nobody_counts_ends_too(bounds: Bounds) -> None:
    pages = Pages(growing, total=None)
    with pytest.raises(NoEnd, match=r"gave at least 1,100 tasks, and says that more follow\. Nothing was sent\."):
        await read(pages, bounds=bounds)


@pytest.mark.parametrize("page", [cycling, last_page_again_and_again])
@pytest.mark.parametrize("total", [None, 100_000])
async def test_a_page_that_brings_nothing_new_ends_the_read(
    page: Callable[[int], tuple[list[int], bool]], total: int | None
) -> None:
    pages = Pages(page, total)
    with pytest.raises(NoEnd, match=r"brought nothing new after 300 tasks.*Nothing was sent\."):
        await read(pages, bounds=FOR_A_FILE)


async def test_a_backend_that_gives_its_last_page_again_and_again_is_read_completely_and_once() -> None:
    pages = Pages(last_page_again_and_again, total=3 * PAGE)
    assert len(await read(pages)) == 3 * PAGE


async def test_a_filter_that_few_tasks_pass_does_not_end_a_read() -> None:
    """Pages may be empty then, although more follow."""
    pages = Pages(lambda number: (growing(number)[0], number < 9), total=10 * PAGE)
    assert await read(pages, ZuduBackend, statuses=frozenset({TaskStatus.BUSY}), bounds=FOR_A_FILE) == []


async def test_pages_without_an_end_of_which_a_filter_leaves_nothing_end_too() -> None:
    pages = Pages(growing, total=None)
    with pytest.raises(NoEnd, match=r"brought nothing new after 0 tasks.*Nothing was sent\."):
        await read(pages, ZuduBackend, statuses=frozenset({TaskStatus.BUSY}), bounds=FOR_A_FILE)
    assert pages.asked <= 21 * 20


async def test_before_a_write_somebody_waits_30_seconds_and_no_longer() -> None:
    passed = iter(range(0, 10_000, 7))
    pages = Pages(growing, total=100_000)
    with pytest.raises(NoEnd, match=r"30 s passed, and 400 of 100,000 tasks were read\. Nothing was sent\."):
        await read(pages, clock=lambda: float(next(passed)))


async def test_a_file_may_take_longer() -> None:
    passed = iter(range(0, 10_000, 7))
    pages = Pages(lambda number: (growing(number)[0], number < 9), total=1_000)
    assert len(await read(pages, bounds=FOR_A_FILE, clock=lambda: float(next(passed)))) == 1_000


def one_twice(number: int) -> tuple[list[int], bool]:
    """As where somebody was added while the pages were read: one person on two pages, another one on none."""
    rows = growing(number)[0]
    return ([PAGE - 1, *rows[1:]] if number == 1 else rows), number < 2


async def test_who_is_on_two_pages_counts_once_so_that_somebody_is_missed(tmp_path: Path) -> None:
    pages = Pages(one_twice, total=3 * PAGE)
    with anyio.fail_after(30):
        async with desk_of(tmp_path, pages) as (desk, _):
            answer = await desk.call_tool("check_batch_call", {"batch_call_id": "batch_1"})
    assert "has 300 tasks, but its list shows 299." in str(answer.structured_content)


@asynccontextmanager
async def desk_of(tmp_path: Path, pages: Pages) -> AsyncIterator[tuple[Client, Pages]]:
    async with listening(pages.app) as url:
        environment = {
            "BATCHCALL_BACKEND": "batchcall",
            "BATCHCALL_URL": url,
            "BATCHCALL_API_KEY": "k",
            "BATCHCALL_API_SECRET": "s",
            "BATCHCALL_CONFIRM": "code",
            "BATCHCALL_FILES": str(tmp_path),
        }
        async with spawned(("-m", "batchcall_mcp"), environment) as client:
            yield client, pages


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("start_batch_call", {"trigger_timestamp": "now"}),
        ("check_batch_call", {}),
        ("export_batch_call", {}),
        ("retry_batch_call", {}),
    ],
)
async def test_a_tool_that_meets_a_list_without_an_end_says_so_and_sends_and_writes_nothing(
    tmp_path: Path, tool: str, arguments: dict[str, Any]
) -> None:
    with anyio.fail_after(30):
        async with desk_of(tmp_path, Pages(growing, total=250)) as (desk, pages):
            answer = await desk.call_tool(tool, {"batch_call_id": "batch_1", **arguments})
    assert answer.is_error
    text = str(answer.content[0])
    assert "counts 250 tasks and gave at least 300" in text
    assert "Nothing was sent" in text
    assert pages.writes == []
    assert [one async for one in anyio.Path(tmp_path).iterdir()] == []
