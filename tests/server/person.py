"""A person outside the MCP client: their browser opens a page, and they press a button on it."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import httpx2

LONGEST_S = 30


def browser_script(folder: Path) -> tuple[Path, Path]:
    """A program for BROWSER that writes down each address it is to open, and the file that it writes to."""
    script, opened = folder / "browser.sh", folder / "opened.txt"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" >> "{opened}"\n', encoding="utf-8")
    script.chmod(0o755)
    return script, opened


async def first_line(file: Path) -> str:
    """The first whole line of a file, once it is there."""
    with anyio.fail_after(LONGEST_S):
        while not (file.exists() and file.read_text(encoding="utf-8").endswith("\n")):  # noqa: ASYNC110, ASYNC240
            await anyio.sleep(0.05)
    return file.read_text(encoding="utf-8").splitlines()[0]  # noqa: ASYNC240


async def presses(address: str, button: str) -> str:
    """Open a page as a browser does, and press a button; the heading of the page that follows."""
    origin = re.match(r"http://[^/]+", address)
    assert origin is not None
    async with httpx2.AsyncClient(trust_env=False) as browser:
        page = await browser.get(address)
        token = re.search(r'name="token" value="([^"]+)"', page.text)
        assert token is not None, page.text
        form = {"token": token[1], "answer": button}
        answered = await browser.post(address, data=form, headers={"origin": origin[0]})
    heading = re.search(r"<h1>(.*?)</h1>", answered.text)
    assert heading is not None
    return heading[1]
