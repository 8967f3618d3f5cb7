"""A real browser for what a person does on a page: Chromium, headless, with its own profile and no other traffic.

To start one takes a second of two cores: the tests of a module that are marked `in_one_browser` share it, each in a
window with a profile of its own.
"""

from __future__ import annotations

import shutil
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_LONGEST_MS = 20_000


_SHARED: WeakKeyDictionary[AbstractEventLoop, SharedBrowser] = WeakKeyDictionary()

_Test = TypeVar("_Test", bound=Callable[..., Any])


class SharedBrowser:
    """The browser of one event loop, started when it is first needed."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._browser: Browser | None = None

    async def browser(self) -> Browser:
        if self._browser is None:
            self._browser = await self._stack.enter_async_context(_started())
        return self._browser


@asynccontextmanager
async def shared_browser() -> AsyncIterator[None]:
    """Until this is left, `browsing` opens a window of one browser in this event loop."""
    loop = get_running_loop()
    async with AsyncExitStack() as stack:
        _SHARED[loop] = SharedBrowser(stack)
        try:
            yield
        finally:
            del _SHARED[loop]


def in_one_browser(test: _Test) -> _Test:
    """A test that shares its browser with those of its module."""
    shared: _Test = pytest.mark.usefixtures("one_browser")(pytest.mark.asyncio(loop_scope="module")(test))
    return shared


@asynccontextmanager
async def browsing(
    *, scripts: bool = True, colours: Literal["light", "dark"] = "light", width: int = 800
) -> AsyncIterator[BrowserContext]:
    """A browser whose pages are tabs of one window. `scripts` False: JavaScript is off."""
    async with AsyncExitStack() as stack:
        shared = _SHARED.get(get_running_loop())
        browser = await (shared.browser() if shared else stack.enter_async_context(_started()))
        context = await browser.new_context(
            java_script_enabled=scripts, color_scheme=colours, viewport={"width": width, "height": 700}
        )
        stack.push_async_callback(context.close)
        context.set_default_timeout(_LONGEST_MS)
        yield context


@asynccontextmanager
async def _started() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium is not None, "The tests need Chromium: `make test` installs it (Debian: apt-get install chromium)."
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, headless=True, args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


async def axe_findings(page: Page) -> list[dict[str, Any]]:
    """What axe-core finds wrong with a page."""
    if await page.evaluate("typeof axe === 'undefined'"):
        source = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
        await page.evaluate(source)
    # Of what it finds right, only that it is: thousands of elements otherwise.
    found: dict[str, Any] = await page.evaluate(
        "axe.run({resultTypes: ['violations']}).then(({violations, passes}) => ({violations, passed: passes.length}))"
    )
    assert found["passed"] > 10
    violations: list[dict[str, Any]] = found["violations"]
    return violations
