"""The report in a real Chromium: nothing in it runs or is loaded, everybody can read it, it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Page

from batchcall_mcp.model import BatchStatus
from tests.batch_calls.report.scenes import HOSTILE, everything, finished, hostile, little, page_of
from tests.browser import axe_findings, browsing, in_one_browser

SCENES = {
    "everything": lambda: page_of(everything(), finished(), agent_name="Maya"),
    "sixty": lambda: page_of(everything(60), finished(), agent_name="Maya"),  # in every state
    "little": lambda: page_of(little(), finished(status=BatchStatus.RUNNING, name=None, simulated=True)),
    "hostile": lambda: page_of(
        hostile(),
        finished(name=HOSTILE[0], from_number=HOSTILE[1], agent_id=HOSTILE[2], batch_call_id=HOSTILE[3]),
        agent_name=HOSTILE[1],
    ),
}


async def opened(page: Page, scene: str, folder: Path) -> list[str]:
    """The addresses that the page asks for, its own among them."""
    file = folder / "report.html"
    file.write_text(SCENES[scene](), encoding="utf-8")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(file.as_uri())
    return asked


@in_one_browser
@pytest.mark.parametrize(
    ("scene", "colours"), [("sixty", ("light", "dark")), ("little", ("dark",)), ("hostile", ("light",))]
)
async def test_axe_finds_nothing(scene: str, colours: tuple[Literal["light", "dark"], ...], tmp_path: Path) -> None:
    async with browsing(width=360) as browser:
        page = await browser.new_page()
        await opened(page, scene, tmp_path)
        await page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        for chosen in colours:
            await page.emulate_media(color_scheme=chosen)
            assert await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (chosen == "dark")
            assert [(one["id"], one["nodes"]) for one in await axe_findings(page)] == []
        assert await page.evaluate("document.documentElement.scrollWidth") == 360


@in_one_browser
async def test_hostile_text_is_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    async with browsing() as browser:
        page = await browser.new_page()
        said: list[str] = []
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("console", lambda message: said.append(message.text))
        asked = await opened(page, "hostile", tmp_path)
        await page.wait_for_load_state("networkidle")
        assert asked == [(tmp_path / "report.html").as_uri()]
        assert said == []
        assert (await page.title()).startswith("</title></style></script><script>")
        assert await page.locator("script, img, iframe, link, a, form, object, embed, [onload], [style]").count() == 0
        text = await page.inner_text("main")
        for one in HOSTILE[:5]:
            assert one in text
        # The rows of an attack are cut, and are as many as the people.
        assert await page.locator(".people tbody tr").count() == len(HOSTILE)
        assert max(map(len, await page.locator("bdi").all_inner_texts())) <= 200


@in_one_browser
async def test_what_is_put_into_the_file_afterwards_does_not_run_either(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    evil = '<script>document.title="owned"</script><img src="https://example.invalid/x" onerror="document.title=1">'
    file.write_text(SCENES["little"]().replace("<main>", f"<main>{evil}"), encoding="utf-8")
    async with browsing() as browser:
        page = await browser.new_page()
        asked: list[str] = []
        page.on("requestfinished", lambda request: asked.append(request.url))
        await page.goto(file.as_uri())
        assert "So far" in await page.title()
        assert asked == [file.as_uri()]


@in_one_browser
async def test_it_is_read_by_keyboard_and_aloud(tmp_path: Path) -> None:
    async with browsing(scripts=False) as browser:
        page = await browser.new_page()
        await opened(page, "everything", tmp_path)
        assert await page.get_by_role("heading", level=1).all_inner_texts() == ["184 of 240 people were reached"]
        headings = await page.get_by_role("heading", level=2).all_inner_texts()
        assert headings[:3] == ["Outcomes", "What people chose", "Calls over time"]
        table = page.get_by_role("table", name="Outcomes")
        assert (await table.get_by_role("row").nth(1).inner_text()).split() == ["Reached", "184", "77", "%"]
        assert await page.get_by_role("img").count() == 1
        label = await page.get_by_role("img").get_attribute("aria-label")
        assert label is not None
        assert label.startswith("Column chart: 234 calls from Thu 26 Nov 2026, 09:00 on")
        assert await page.get_by_role("table", name="Calls over time").count() == 0
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert await page.get_by_role("table", name="Calls over time").is_visible()


@in_one_browser
async def test_it_prints_dark_on_white_without_what_only_a_screen_needs(tmp_path: Path) -> None:
    async with browsing(colours="dark") as browser:
        page = await browser.new_page()
        await opened(page, "everything", tmp_path)
        await page.emulate_media(media="print", color_scheme="dark")
        assert await page.locator("summary").is_hidden()
        assert await page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(22, 25, 31)"
        for paper in ("A4", "Letter"):
            printed = await page.pdf(format=paper)
            assert 2 <= printed.count(b"/Type /Page\n") <= 6
