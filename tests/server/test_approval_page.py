"""The approval page in a real browser: it can be read, answered once, and by nobody but the person who has it open."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import anyio.to_thread
import httpx2
import pytest

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.approval import LONGEST_READ, Approval, Shown, State
from batchcall_mcp.server.approvals.page import ApprovalPages, Place
from tests.browser import axe_findings, browsing, in_one_browser
from tests.vendors.serving import listening

QUESTION = "Call 188 people (170 United States, 18 United Kingdom) now. First: Tara B., +44…106. You can stop it."
SHOWN = Shown(
    question=QUESTION,
    word="188",
    samples=("Tara B., +44…106", "Bob <script>alert(1)</script>, +14…111", "+14…112"),
    skipped=("5 invalid", "4 duplicate"),
    concerns=("It is past 21:00 for 3 people.",),
)
NOW = datetime(2026, 11, 27, 14, 0, tzinfo=UTC)


@dataclass
class Store:
    """One question, and the answers that counted."""

    approval: Approval | None = field(
        default_factory=lambda: Approval(
            approval_id="A" * 26,
            caller="c",
            tool="start_batch_call",
            bound="b",
            state="waiting",
            asked_at=NOW,
            expires_at=NOW + timedelta(minutes=10),
            shown=SHOWN,
        )
    )
    answers: list[bool] = field(default_factory=list)
    broken: bool = False
    waiting: list[str] = field(default_factory=list)

    async def read(self, approval_id: str) -> Approval | None:
        if self.broken:
            raise ConfigurationError("The ledger cannot be used.")
        assert approval_id == "A" * 26
        return self.approval

    async def others(self, approval_id: str) -> list[str]:
        assert approval_id == "A" * 26
        return self.waiting

    async def answer(self, approval_id: str, *, yes: bool, after_a_yes: bool = False) -> bool:
        found = await self.read(approval_id)
        open_states = {"waiting", "approved"} if after_a_yes else {"waiting"}
        if found is None or found.state not in open_states:
            return False
        self.answers.append(yes)
        self.becomes("approved" if yes else "declined")
        return True

    def shows(self, shown: Shown) -> None:
        assert self.approval is not None
        self.approval = replace(self.approval, shown=shown)

    def becomes(self, state: State) -> None:
        assert self.approval is not None
        self.approval = replace(self.approval, state=state)


@asynccontextmanager
async def served(store: Store, place: Place) -> AsyncIterator[str]:
    """The base URL of the page of one question."""
    pages = ApprovalPages(store, {place.path: place}.get, 0, clock=lambda: NOW)
    async with listening(pages) as url:
        port = url.rpartition(":")[2]
        pages._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
        yield url


@in_one_browser
@pytest.mark.parametrize(("button", "title"), [("Approve", "Approved"), ("Decline", "Declined")])
async def test_a_person_answers_once_without_scripts(button: str, title: str) -> None:
    store, place = Store(), Place("A" * 26)
    async with served(store, place) as url, browsing(scripts=False, width=320) as browser:
        page = await browser.new_page()
        await page.goto(url + place.path)
        text = await page.inner_text("main")
        for part in (QUESTION, "Tara B., +44…106", "5 invalid", "It is past 21:00 for 3 people.", "10 minutes left"):
            assert part in text
        await page.get_by_role("button", name=button, exact=True).click()
        assert await page.inner_text("h1") == title
        assert await page.get_by_role("button").all_inner_texts() == (["Withdraw"] if button == "Approve" else [])
        await page.goto(url + place.path)
        assert await page.inner_text("h1") == title
    assert store.answers == [button == "Approve"]


@in_one_browser
async def test_a_yes_can_be_withdrawn_until_it_has_launched() -> None:
    store, place = Store(), Place("A" * 26)
    async with served(store, place) as url, browsing(scripts=False) as browser:
        page = await browser.new_page()
        await page.goto(url + place.path)
        await page.get_by_role("button", name="Approve", exact=True).click()
        await page.get_by_role("button", name="Withdraw", exact=True).click()
        assert await page.inner_text("h1") == "Declined"
        assert await page.get_by_role("button").count() == 0
    assert store.answers == [True, False]


@in_one_browser
async def test_a_yes_that_has_launched_is_not_withdrawn_by_an_open_tab() -> None:
    store, place = Store(), Place("A" * 26)
    async with served(store, place) as url, browsing(scripts=False) as browser:
        page = await browser.new_page()
        await page.goto(url + place.path)
        await page.get_by_role("button", name="Approve", exact=True).click()
        store.becomes("used")
        await page.get_by_role("button", name="Withdraw", exact=True).click()
        assert await page.inner_text("h1") == "Answered: approved"
    assert store.answers == [True]


async def test_a_long_question_is_shown_to_its_end() -> None:
    store, place = Store(), Place("A" * 26)
    long = replace(
        SHOWN, question=f"{'Call them. ' * 900}The end.", concerns=tuple(f"{n} {'x' * 600}" for n in range(12))
    )
    store.shows(long)
    async with served(store, place) as url, httpx2.AsyncClient(trust_env=False) as http:
        text = (await http.get(url + place.path)).text
    assert "The end." in text
    assert f"11 {'x' * 600}</li>" in text
    assert "…" not in text.replace("+44…106", "").replace("+14…", "")
    assert 'value="approve"' in text


async def test_what_is_too_long_to_be_shown_completely_cannot_be_approved_here() -> None:
    store, place = Store(), Place("A" * 26)
    store.shows(replace(SHOWN, concerns=("x" * LONGEST_READ,)))
    async with served(store, place) as url, httpx2.AsyncClient(trust_env=False) as http:
        text = (await http.get(url + place.path)).text
        assert "<h1>This question is too long to be approved</h1>" in text
        assert 'value="approve"' not in text
        form = {"token": place.form_token, "answer": "approve"}
        assert (await http.post(url + place.path, data=form, headers={"origin": url})).status_code == 403
        assert store.answers == []
        form["answer"] = "decline"
        assert "Declined" in (await http.post(url + place.path, data=form, headers={"origin": url})).text
    assert store.answers == [False]


@in_one_browser
async def test_what_waits_without_a_tab_is_linked() -> None:
    store, place = Store(waiting=["/approve/one", "/approve/two"]), Place("A" * 26)
    async with served(store, place) as url, browsing(scripts=False, width=320) as browser:
        page = await browser.new_page()
        await page.goto(url + place.path)
        assert "2 more questions wait for your answer: Question 1 Question 2" in await page.inner_text("main")
        await page.get_by_role("button", name="Approve", exact=True).click()
        links = await page.get_by_role("link").all()
        assert [await link.get_attribute("href") for link in links] == store.waiting


@in_one_browser
async def test_the_page_is_answered_with_the_keyboard_and_fits_a_narrow_screen() -> None:
    store, place = Store(), Place("A" * 26)
    async with served(store, place) as url, browsing(width=320) as browser:
        page = await browser.new_page()
        await page.goto(url + place.path)
        assert await page.evaluate("document.documentElement.scrollWidth <= 320")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Approve"
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Decline"
        await page.keyboard.press("Enter")
        await page.wait_for_selector("text=Nothing was sent")
    assert store.answers == [False]


@in_one_browser
async def test_a_second_tab_of_an_answered_question_says_so_and_cannot_answer_again() -> None:
    store, place = Store(), Place("A" * 26)
    async with served(store, place) as url, browsing() as browser:
        first, second = await browser.new_page(), await browser.new_page()
        await first.goto(url + place.path)
        await second.goto(url + place.path)
        await first.get_by_role("button", name="Decline").click()
        assert await first.inner_text("h1") == "Declined"
        await second.get_by_role("button", name="Approve").click()
        assert await second.inner_text("h1") == "Declined"
    assert store.answers == [False]


ENDED: dict[State | Literal["forgotten"], str] = {
    "expired": "This question has expired",
    "used": "Answered: approved",
    "withdrawn": "This question is closed",
    "forgotten": "This question is closed",
}


@in_one_browser
async def test_a_question_that_ended_while_the_page_was_open_takes_no_answer() -> None:
    async with browsing() as browser:
        page = await browser.new_page()
        for state, title in ENDED.items():
            store, place = Store(), Place("A" * 26)
            async with served(store, place) as url:
                await page.goto(url + place.path)
                if state == "forgotten":
                    store.approval = None
                else:
                    store.becomes(state)
                await page.get_by_role("button", name="Approve").click()
                assert await page.inner_text("h1") == title, state
            assert store.answers == [], state


PAPER: dict[Literal["light", "dark"], str] = {"light": "rgb(255, 255, 255)", "dark": "rgb(23, 23, 27)"}


@in_one_browser
async def test_axe_finds_nothing() -> None:
    store, place = Store(), Place("A" * 26)
    async with served(store, place) as url, browsing(width=320) as browser:
        page = await browser.new_page()
        for state in ("waiting", "approved", "expired"):
            store.becomes(state)
            await page.goto(url + place.path)
            for colours, paper in PAPER.items():
                await page.emulate_media(color_scheme=colours)
                assert [(one["id"], one["nodes"]) for one in await axe_findings(page)] == [], (state, colours)
                assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == paper, state


@in_one_browser
async def test_the_browser_obeys_the_policy_of_the_page() -> None:
    """Names come from somebody's list: markup in them is text, and nothing is loaded, run or framed."""
    store, place = Store(), Place("A" * 26)
    async with served(store, place) as url, browsing() as browser:
        page = await browser.new_page()
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url))
        response = await page.goto(url + place.path)
        assert response is not None
        headers = await response.all_headers()
        assert "Bob <script>alert(1)</script>" in await page.inner_text("main")
        assert await page.locator("script").count() == 0
        assert [one for one in asked if not one.endswith("/favicon.ico")] == [url + place.path]
    policy = headers["content-security-policy"]
    for part in ("default-src 'none'", "style-src 'sha256-", "form-action 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert headers["x-content-type-options"] == "nosniff"


OWN: dict[str, str] = {"origin": "null", "sec-fetch-site": "same-origin"}


@pytest.mark.parametrize(
    ("headers", "form", "status"),
    [
        (OWN, {"token": None, "answer": "approve"}, 403),
        (OWN, {"token": "wrong", "answer": "approve"}, 403),
        (OWN, {"answer": "approve"}, 403),
        (OWN, {"token": "right"}, 403),
        (OWN, {"token": "right", "answer": "yes"}, 403),
        (OWN, {"token": "right", "answer": ["approve", "decline"]}, 403),
        (OWN, {"token": ["wrong", "right"], "answer": "approve"}, 403),
        (OWN, {"token": "right", "answer": "approve", "more": "x" * 3000}, 403),
        ({}, {"token": "right", "answer": "approve"}, 403),
        ({"origin": "null"}, {"token": "right", "answer": "approve"}, 403),
        ({"origin": "https://evil.example"}, {"token": "right", "answer": "approve"}, 403),
        ({"origin": "null", "sec-fetch-site": "cross-site"}, {"token": "right", "answer": "approve"}, 403),
        ({"origin": "null", "sec-fetch-site": "same-site"}, {"token": "right", "answer": "approve"}, 403),
        ({"origin": "own", "sec-fetch-site": "cross-site"}, {"token": "right", "answer": "approve"}, 403),
        (
            {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
            {"token": "right", "answer": "approve"},
            403,
        ),
        ({"host": "evil.example"}, {"token": "right", "answer": "approve"}, 421),
        ({"host": "127.0.0.1"}, {"token": "right", "answer": "approve"}, 421),
        ({"host": "127.0.0.1:1"}, {"token": "right", "answer": "approve"}, 421),
        ({"origin": "own"}, {"token": "right", "answer": "approve"}, 200),
        (OWN, {"token": "right", "answer": "approve"}, 200),
    ],
)
async def test_only_an_answer_from_the_pages_own_form_counts(
    headers: dict[str, str], form: dict[str, Any], status: int
) -> None:
    store, place = Store(), Place("A" * 26)
    tokens = {"right": place.form_token}

    def real(value: Any) -> Any:
        return [tokens.get(one, one) for one in value] if isinstance(value, list) else tokens.get(value, value)

    async with served(store, place) as url, httpx2.AsyncClient(trust_env=False) as client:
        sent = {name: url if value == "own" else value for name, value in headers.items()}
        data = {name: real(value) for name, value in form.items() if value is not None}
        answered = await client.post(url + place.path, data=data, headers=sent)
        assert answered.status_code == status
        assert place.form_token not in answered.text or status == 200
    assert store.answers == ([True] if status == 200 else [])


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[::1]", ""])
async def test_another_name_reads_nothing(host: str) -> None:
    """A web page that has its own name resolved to 127.0.0.1 (DNS rebinding) cannot read the question."""
    store, place = Store(), Place("A" * 26)
    async with served(store, place) as url:
        port = int(url.rpartition(":")[2])
        lines = [f"GET {place.path} HTTP/1.1", f"Host: {host}:{port}" if host else "Host:", "Connection: close", "", ""]
        answer = await anyio.to_thread.run_sync(_sent, port, "\r\n".join(lines).encode())
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b"188 people" not in answer


@in_one_browser
async def test_localhost_is_the_same_place() -> None:
    store, place = Store(), Place("A" * 26)
    async with served(store, place) as url, browsing() as browser:
        page = await browser.new_page()
        await page.goto(url.replace("127.0.0.1", "localhost") + place.path)
        await page.get_by_role("button", name="Approve").click()
        assert await page.inner_text("h1") == "Approved"
    assert store.answers == [True]


def _sent(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(4096):
            answer += part
        return answer


@pytest.mark.parametrize("path", ["/", "/approve", "/approve/", "/approve/guess", "/favicon.ico"])
async def test_other_paths_tell_nothing(path: str) -> None:
    store, place = Store(), Place("A" * 26)
    async with served(store, place) as url, httpx2.AsyncClient(trust_env=False) as client:
        answered = await client.get(url + path)
        assert answered.status_code == 404
        assert "188" not in answered.text
        assert (await client.put(url + place.path)).status_code == 405


async def test_a_database_that_is_away_is_said_and_nothing_is_answered() -> None:
    store, place = Store(broken=True), Place("A" * 26)
    async with served(store, place) as url, httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(url + place.path)).status_code == 503
        answered = await client.post(
            url + place.path, data={"token": place.form_token, "answer": "approve"}, headers=OWN
        )
        assert answered.status_code == 503
    assert store.answers == []


def test_a_place_cannot_be_guessed_nor_printed() -> None:
    places = [Place("A" * 26) for _ in range(100)]
    assert len({place.path_token for place in places} | {place.form_token for place in places}) == 200
    assert all(len(place.path_token) >= 43 for place in places)  # 256 bits
    assert places[0].path_token not in repr(places[0])
    assert places[0].form_token not in repr(places[0])
