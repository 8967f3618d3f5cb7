"""A real browser for what a person does on a page: Chromium, headless, with its own profile and no other traffic."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Literal

from playwright.async_api import BrowserContext, Page, async_playwright

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_LONGEST_MS = 20_000


@asynccontextmanager
async def browsing(
    *, scripts: bool = True, colours: Literal["light", "dark"] = "light", width: int = 800
) -> AsyncIterator[BrowserContext]:
    """A browser whose pages are tabs of one window. `scripts` False: JavaScript is off."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "The tests need Chromium: `make test` installs it (Debian: apt-get install chromium)."
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, headless=True, args=list(_FLAGS))
        try:
            context = await browser.new_context(
                java_script_enabled=scripts, color_scheme=colours, viewport={"width": width, "height": 700}
            )
            context.set_default_timeout(_LONGEST_MS)
            yield context
        finally:
            await browser.close()


async def axe_findings(page: Page) -> list[dict[str, Any]]:
    """What axe-core finds wrong with a page."""
    source = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    await page.evaluate(source)
    found: dict[str, Any] = await page.evaluate("axe.run()")
    violations: list[dict[str, Any]] = found["violations"]
    return violations
