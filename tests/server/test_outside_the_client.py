"""Where a client cannot ask, a person answers on a page in their browser: the model gets no code and no address."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.types import CallToolResult

from batchcall_mcp.guard.audit import Audit
from batchcall_mcp.server.app import BatchCallServer, build_server
from batchcall_mcp.server.approvals import elicitation
from batchcall_mcp.server.approvals.desk import MOST_TABS, ApprovalDesk
from tests.browser import browsing
from tests.operator.processes import of_zudu, serving
from tests.operator.test_approve import PEOPLE, draft
from tests.server.person import LONGEST_S, browser_script, first_line, presses
from tests.server.transports import ROOT, spawned
from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Era, Model, every_era, settings_of


@dataclass
class Browser:
    """Opens what it is given, or cannot; `then` is what the person does with each page."""

    works: bool = True
    then: Callable[[str], Awaitable[object]] | None = None
    opened: list[str] = field(default_factory=list)

    async def __call__(self, address: str) -> bool:
        if not self.works:
            return False
        self.opened.append(address)
        if self.then is not None:
            await self.then(address)
        return True


@dataclass
class Scene:
    """A model at a client without any capability, on a Zudu whose phones would ring."""

    model: Model
    client: Client
    server: BatchCallServer
    vendor: Zudu
    reported: list[str] = field(default_factory=list)
    """The texts of all progress."""

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        async def progress(progress: float, total: float | None, message: str | None) -> None:
            self.reported.append(message or "")

        result: CallToolResult = await self.client.call_tool(tool, arguments, progress_callback=progress)
        return result

    async def result(self, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = await self.call(tool, **arguments)
        assert not answer.is_error, answer.content
        return answer.structured_content or {}


@asynccontextmanager
async def scene(era: Era, folder: Path, browser: Browser, **variables: str) -> AsyncIterator[Scene]:
    vendor = Zudu()
    async with vendor.served() as url:
        settings = settings_of(
            {
                "BACKEND": "zudu",
                "URL": url,
                "API_KEY": zudu.KEY,
                "API_SECRET": zudu.SECRET,
                "DATA_DIR": str(folder),
                "APPROVAL_PAGE": "auto",
                **{name.upper(): value for name, value in variables.items()},
            }
        )
        server = build_server(settings, transport="stdio")
        service = server.service
        service.desk = ApprovalDesk(
            service.ledger, Audit(folder), enabled=settings.approval_page != "off", open_browser=browser
        )
        async with Client(server, mode=era) as client:
            yield Scene(Model(client), client, server, vendor)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool call that gives up at once."""
    monkeypatch.setattr(elicitation, "PATIENCE_S", 0.0)


async def test_the_whole_way_from_a_process_over_stdio_to_a_real_browser(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    vendor = Zudu()
    reported: list[str | None] = []
    script, opened = browser_script(tmp_path)

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        reported.append(message)

    async with vendor.served() as url:
        there = of_zudu(url, tmp_path / "data", approval_page="auto", log_level="DEBUG") | {"BROWSER": str(script)}
        async with spawned(("-m", "batchcall_mcp"), there) as client, browsing() as window:
            launch = await draft(Model(client))
            results: list[CallToolResult] = []

            async def start() -> None:
                results.append(await client.call_tool("start_batch_call", launch, progress_callback=progress))

            async with anyio.create_task_group() as group:
                group.start_soon(start)
                address = await first_line(opened)
                page = await window.new_page()
                await page.goto(address)
                text = await page.inner_text("main")
                assert "Call 3 people" in text
                assert "+1 … 100" in text
                assert vendor.dialled == []
                await page.get_by_role("button", name="Approve").click()
                assert await page.inner_text("h1") == "Approved"
            assert vendor.dialled == PEOPLE
    (result,) = results
    assert (result.structured_content or {})["result"] == "started"
    assert reported[0] == "Waiting for a person to answer on the approval page"
    said = capfd.readouterr().err + str(results) + str(reported)
    secret = address.rpartition("/")[2]
    assert secret not in said
    assert address.partition("/approve")[0] not in said
    assert opened.read_text(encoding="utf-8").splitlines() == [address]


@every_era
async def test_a_no_on_the_page_ends_the_waiting_call_and_the_next_one_asks_again(era: Era, tmp_path: Path) -> None:
    browser = Browser(then=lambda address: presses(address, "decline"))
    async with scene(era, tmp_path, browser) as on:
        launch = await draft(on.model)
        text = await on.model.refused("start_batch_call", "not_confirmed", **launch)
        assert "the answer was no. Nothing was sent." in text
        browser.then = lambda address: presses(address, "approve")
        assert (await on.result("start_batch_call", **launch))["result"] == "started"
    assert on.vendor.dialled == PEOPLE
    assert len(set(browser.opened)) == 2, "another question has another page"


@every_era
async def test_a_call_that_waited_long_enough_says_so_and_the_same_call_launches_once_it_is_approved(
    era: Era, tmp_path: Path, impatient: None
) -> None:
    browser = Browser()
    async with scene(era, tmp_path, browser) as on:
        launch = await draft(on.model)
        for _ in range(3):
            waiting = await on.result("start_batch_call", **launch)
            assert waiting["result"] == "waiting_for_person"
            assert "next" not in waiting
            assert "on the approval page in the person's browser" in waiting["notes"][0]
            assert "127.0.0.1" not in str(waiting)
        assert len(browser.opened) == 1, "asking again opens no second tab"
        assert on.vendor.dialled == []
        assert await presses(browser.opened[0], "approve") == "Approved"
        assert on.vendor.dialled == [], "the page sends nothing by itself"
        assert (await on.result("start_batch_call", **launch))["result"] == "started"
        assert (await on.result("start_batch_call", **launch))["replayed"] is True
    assert on.vendor.dialled == PEOPLE


@every_era
@pytest.mark.parametrize("page", ["auto", "off"])
async def test_without_a_browser_or_without_the_page_the_call_ends_at_once_and_names_the_terminal(
    page: str, era: Era, tmp_path: Path
) -> None:
    browser = Browser(works=page == "off")
    async with scene(era, tmp_path, browser, approval_page=page) as on:
        launch = await draft(on.model)
        waiting = await on.result("start_batch_call", **launch)
        assert waiting["result"] == "waiting_for_person"
        assert "`batchcall-mcp approve` in a terminal on the machine of this server" in waiting["notes"][0]
        assert "browser" not in str(waiting["notes"])
        assert on.reported == []
        assert on.server.service.desk._listener is None
    assert browser.opened == []


async def test_a_browser_that_fails_once_closes_no_page_of_another_question(tmp_path: Path, impatient: None) -> None:
    browser = Browser()
    async with scene("auto", tmp_path, browser) as on:
        launches = [await draft(on.model, PEOPLE[:count]) for count in (1, 2, 3)]
        for launch, works in zip(launches, (True, False, True), strict=True):
            browser.works = works
            await on.result("start_batch_call", **launch)
        assert [await presses(address, "approve") for address in browser.opened] == ["Approved", "Approved"]
        assert (await on.result("start_batch_call", **launches[0]))["result"] == "started"
        assert (await on.result("start_batch_call", **launches[1]))["result"] == "waiting_for_person"
    assert on.vendor.dialled == PEOPLE[:1]


async def test_a_list_that_changes_while_the_person_reads_is_asked_about_again(tmp_path: Path) -> None:
    browser, others = Browser(), [{"to_number": one} for one in PEOPLE[:1]]
    async with scene("auto", tmp_path, browser) as on:
        launch = await draft(on.model)

        async def changes_then_approves(address: str) -> None:
            if len(browser.opened) == 1:
                name = launch["batch_call_id"]
                await on.model.call(
                    "update_batch_call", batch_call_id=name, from_number=zudu.NUMBER, tasks=others, agent_id=zudu.AGENT
                )
            assert await presses(address, "approve") == "Approved"

        browser.then = changes_then_approves
        assert (await on.result("start_batch_call", **launch))["result"] == "started"
    assert len(browser.opened) == 2
    assert on.vendor.dialled == PEOPLE[:1]


async def test_the_wait_holds_up_neither_another_launch_nor_a_stop(tmp_path: Path) -> None:
    browser, waiting = Browser(), anyio.Event()
    async with scene("auto", tmp_path, browser) as on:
        first, second = await draft(on.model), await draft(on.model, PEOPLE[:1])
        later = {**first, "trigger_timestamp": "2100-01-01T00:00Z"}

        async def shown(_address: str) -> None:
            waiting.set()

        browser.then = shown
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: on.call("start_batch_call", **first))
            with anyio.fail_after(LONGEST_S):
                await waiting.wait()
            browser.then = lambda address: presses(address, "approve")
            assert (await on.result("start_batch_call", **second))["result"] == "started"
            assert (await on.result("start_batch_call", **later))["result"] == "scheduled"
            cancelled = await on.result("cancel_batch_call", batch_call_id=first["batch_call_id"])
            assert cancelled["result"] == "cancelled"
            group.cancel_scope.cancel()
    assert on.vendor.dialled == PEOPLE[:1]


@every_era
async def test_a_tool_call_that_is_cancelled_ends_its_wait(
    era: Era, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, waiting, ended = Browser(), anyio.Event(), anyio.Event()
    waits = ApprovalDesk.answered

    async def answered(desk: ApprovalDesk, *given: Any) -> bool:
        try:
            return await waits(desk, *given)
        finally:
            ended.set()

    async def shown(_address: str) -> None:
        waiting.set()

    monkeypatch.setattr(ApprovalDesk, "answered", answered)
    browser.then = shown
    async with scene(era, tmp_path, browser) as on:
        launch = await draft(on.model)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: on.call("start_batch_call", **launch))
            with anyio.fail_after(LONGEST_S):
                await waiting.wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(LONGEST_S):
            await ended.wait()
        browser.then = None
        await presses(browser.opened[0], "approve")
        shows = await on.result("get_batch_call", batch_call_id=launch["batch_call_id"])
        assert (shows["batch_call"]["status"], on.vendor.dialled) == ("draft", []), "nobody waits for the answer"


async def test_the_listener_lives_only_while_a_question_waits(
    tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, looks = Browser(), anyio.Semaphore(0)
    one_waits = ApprovalDesk._one_waits

    async def look(desk: ApprovalDesk) -> bool:
        found = await one_waits(desk)
        looks.release()
        return found

    monkeypatch.setattr(ApprovalDesk, "_one_waits", look)
    async with scene("auto", tmp_path, browser) as on:
        desk = on.server.service.desk
        desk._lingers_s = 0.01
        launch = await draft(on.model)
        assert desk._listener is None
        await on.call("start_batch_call", **launch)
        assert desk._listener is not None
        with anyio.fail_after(LONGEST_S):
            for _ in range(5):  # each later by as much as the pages stay after the last answer
                await looks.acquire()
        assert desk._listener is not None, "a question waits"
        await presses(browser.opened[0], "approve")
        with anyio.fail_after(LONGEST_S):
            while desk._listener is not None:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        async with httpx2.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx2.ConnectError):
                await client.get(browser.opened[0])
        assert (await on.result("start_batch_call", **launch))["result"] == "started"


async def test_two_equal_calls_at_once_open_one_page_and_launch_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, both = Browser(), anyio.Event()
    asks, opens = list[str](), ApprovalDesk.open

    async def asked(desk: ApprovalDesk, approval_id: str) -> bool:
        asks.append(approval_id)
        if len(asks) > 1:
            both.set()
        return await opens(desk, approval_id)

    monkeypatch.setattr(ApprovalDesk, "open", asked)
    async with scene("auto", tmp_path, browser) as on:
        launch = await draft(on.model)
        results: list[dict[str, Any]] = []

        async def start() -> None:
            results.append(await on.result("start_batch_call", **launch))

        async def slowly(_address: str) -> None:
            await both.wait()  # a browser takes its time, in which the other call comes

        browser.then = slowly
        async with anyio.create_task_group() as group:
            group.start_soon(start)
            group.start_soon(start)
            with anyio.fail_after(LONGEST_S):
                await both.wait()
            await presses(browser.opened[0], "approve")
    assert len(browser.opened) == 1
    assert sorted(one.get("replayed", False) for one in results) == [False, True]
    assert on.vendor.dialled == PEOPLE


async def named(model: Model, name: str) -> dict[str, Any]:
    """A draft of its own, and the arguments that start it."""
    people = [{"to_number": number} for number in PEOPLE]
    made = await model.call("create_batch_call", from_number=FROM, tasks=people, name=name)
    return {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}


async def test_a_model_opens_only_so_many_tabs_and_the_person_finds_the_other_questions_from_them(
    tmp_path: Path, impatient: None
) -> None:
    browser = Browser()
    async with scene("auto", tmp_path, browser) as on:
        launches = [await named(on.model, f"List {number}") for number in range(MOST_TABS + 3)]
        for launch in launches:
            waits = await on.result("start_batch_call", **launch)
            assert waits["result"] == "waiting_for_person"
        assert len(browser.opened) == MOST_TABS
        origin = browser.opened[0].partition("/approve/")[0]
        async with httpx2.AsyncClient(trust_env=False) as client:
            page = (await client.get(browser.opened[0])).text
        assert f"{MOST_TABS + 2} more questions wait" in page
        links = re.findall(r'href="(/approve/[^"]+)"', page)
        assert len(links) == MOST_TABS + 2
        assert await presses(origin + links[-1], "approve") == "Approved"
        assert (await on.result("start_batch_call", **launches[-1]))["result"] == "started"
        assert await presses(browser.opened[0], "decline") == "Declined"
        await on.call("start_batch_call", **await named(on.model, "One more"))
        assert len(browser.opened) == MOST_TABS + 1
    assert on.vendor.dialled == PEOPLE


async def test_an_answer_in_one_process_is_known_in_another(tmp_path: Path) -> None:
    """A second server on the same ledger launches what was approved on the page of the first."""
    script, opened = browser_script(tmp_path)
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path / "data", approval_page="auto") | {"BROWSER": str(script)}
        async with serving(there) as one, serving(there | {"BATCHCALL_APPROVAL_PAGE": "off"}) as two:
            launch = await draft(one)
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: one.client.call_tool("start_batch_call", launch))
                address = await first_line(opened)
                assert (await two.call("start_batch_call", **launch))["result"] == "waiting_for_person"
                await presses(address, "approve")
            assert (await two.call("start_batch_call", **launch))["replayed"] is True
    assert vendor.dialled == PEOPLE


def test_what_a_page_needs_is_not_imported_before_one_is_needed() -> None:
    """A client waits for the start of its servers."""
    loaded = subprocess.run(
        [sys.executable, "-c", _LISTING], capture_output=True, text=True, timeout=30, check=True, cwd=ROOT
    ).stdout.split()
    assert "batchcall_mcp.server.approvals.desk" in loaded
    assert not {"batchcall_mcp.server.approvals.page", "webbrowser", "uvicorn.config"} & set(loaded)


_LISTING = """
import sys
import anyio
from batchcall_mcp.server import startup
from batchcall_mcp.settings import Settings

with startup._not_imported(startup._OPTIONAL):
    from batchcall_mcp.server.app import build_server
    anyio.run(build_server(Settings(backend="zudu"), transport="stdio").list_tools)
print(*sorted(sys.modules))
"""


async def test_nothing_of_the_address_is_logged(
    tmp_path: Path, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    browser = Browser()
    async with scene("auto", tmp_path, browser) as on:
        await on.call("start_batch_call", **await draft(on.model))
        await presses(browser.opened[0], "decline")
    own = [one.getMessage() for one in caplog.records if not one.name.startswith(("httpx2", "httpcore"))]
    assert browser.opened[0].rpartition("/")[2] not in " ".join(own)
