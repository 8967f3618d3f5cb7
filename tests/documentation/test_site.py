"""The site as it is built: links lead somewhere, nothing comes from elsewhere, and a reader sees what was meant."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from filelock import FileLock
from playwright.async_api import Page as BrowserPage

from documentation.site import build, for_the_site
from release.facts import ROOT, facts
from tests.browser import browsing, in_one_browser
from tests.documentation.built import Page, Site

OF = facts()
BASE = "/" + OF.owner_and_repository.split("/")[1] + "/"
PHONE = 390


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the first of the workers that need it."""
    of_this_run = tmp_path_factory.getbasetemp()
    folder = (of_this_run.parent if "PYTEST_XDIST_WORKER" in os.environ else of_this_run) / "documentation"
    folder.mkdir(exist_ok=True)
    done = folder / "done"
    with FileLock(folder / "lock"):
        if not done.exists():
            build(folder)
            done.touch()
    return folder / "site"


@pytest.fixture(scope="module")
def site(folder: Path) -> Site:
    return Site.read(folder, BASE)


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    handler = partial(_Quiet, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


def test_every_link_anchor_and_picture_is_there(site: Site) -> None:
    assert list(site.broken()) == []
    assert sum(len(page.links) for page in site.pages.values()) > 1000


def test_nothing_is_loaded_from_elsewhere(site: Site) -> None:
    assert list(site.loaded_from_elsewhere()) == []
    assert all(page.loaded for page in site.pages.values())


def test_what_lies_outside_the_documents_is_linked_to_in_the_repository(site: Site) -> None:
    links = {link for page in site.pages.values() for link in page.links if link.startswith(f"{OF.home}/")}
    linked = [urlsplit(link).path.split("/", 5)[3:] for link in links if re.search("/(blob|tree)/", link)]
    assert len(linked) > 20
    assert [path for kind, _, path in linked if not _is(kind, ROOT / unquote(path))] == []


def _is(kind: str, path: Path) -> bool:
    return path.is_file() if kind == "blob" else path.is_dir()


def test_no_markdown_is_left_as_text(site: Site) -> None:
    unread = re.compile(r"```|\*\*|\]\(|\[[ x]\] |\n *(?:[-*] |\d+\. |\| |#+ )")
    assert [
        f"{name}: {text}" for name, page in site.pages.items() for text in page.paragraphs if unread.search(text)
    ] == []


@pytest.mark.parametrize(
    "html",
    [
        '<a href="gone.html">',
        '<a href="#gone">',
        '<a href="other.html#gone">',
        '<a href="/other.html">',
        '<img src="gone.svg">',
        '<link rel="stylesheet" href="gone.css">',
    ],
)
def test_a_link_that_leads_nowhere_is_found(html: str, tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text('<h1 id="here">', encoding="utf-8")
    (tmp_path / "index.html").write_text(
        f'<p id="top"><a href="other.html#here"><a href="#top">{html}', encoding="utf-8"
    )
    assert len(list(Site.read(tmp_path, BASE).broken())) == 1


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example.com/a.js">',
        '<link rel="preconnect" href="https://fonts.example.com">',
        '<img src="//example.com/pixel.gif">',
        "<style>@import 'https://example.com/a.css'; p {background: url(data:image/png;base64,AA)}</style>",
        '<p style="background: url(https://example.com/a.png)">',
    ],
)
def test_what_comes_from_elsewhere_is_found(html: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    assert len(list(Site.read(tmp_path, BASE).loaded_from_elsewhere())) == 1


def test_a_page_that_links_nowhere_is_not_built(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Start\n\n[gone](#nowhere)\n", encoding="utf-8")
    configuration = tmp_path / "zensical.toml"
    configuration.write_text('[project]\nsite_name = "a"\nsite_dir = "site"\n', encoding="utf-8")
    (tmp_path / "built").mkdir()
    with pytest.raises(subprocess.CalledProcessError):
        build(tmp_path / "built", docs, configuration)


def test_a_page_for_the_site_differs_where_the_two_read_markdown_differently() -> None:
    written = """\
- One [file](../src/a.py), [page](b.md#c), [folder](../tests/).
  More of it.

  ```sh nightly.sh
  [not](../a/link)
  ```

```json
  {"kept": "as it is"}
```
"""
    home = OF.home
    assert (
        for_the_site(written, "index.md", OF)
        == f"""\
- One [file]({home}/blob/main/src/a.py), [page](b.md#c), [folder]({home}/tree/main/tests).
    More of it.

    ```sh title="nightly.sh"
    [not](../a/link)
    ```

```json
  {{"kept": "as it is"}}
```
"""
    )


@in_one_browser
async def test_a_browser_asks_nobody_else_and_a_phone_shows_it(address: str) -> None:
    async with browsing(colours="dark", width=PHONE) as browser:
        page = await browser.new_page()
        asked = _asked_by(page)
        for name in ("index.html", "tools.html", "how-to/messy-lists.html", "carriers/index.html"):
            await page.goto(address + name)
            await page.wait_for_load_state("networkidle")
            assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE
        assert len(asked) > 10
        assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@in_one_browser
async def test_the_search_finds_a_setting_in_the_readers_own_browser(address: str) -> None:
    async with browsing(width=1200) as browser:
        page = await browser.new_page()
        asked = _asked_by(page)
        await page.goto(address + "index.html")
        await page.wait_for_load_state("networkidle")
        await page.keyboard.press("Control+k")
        await page.get_by_placeholder("Search").fill("UNDO_SECONDS")
        await page.locator("a[href*='settings.html?h=UNDO_SECONDS']").wait_for()
        assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def _asked_by(page: BrowserPage) -> list[str]:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    return asked


def test_the_texts_of_a_page_are_those_that_are_read() -> None:
    page = Page("<h2>1. no</h2><p>yes <code>**</code> <b>too</b></p><table><tr><td>and</td></tr></table>")
    assert [text.strip() for text in page.paragraphs] == ["yes", "too", "and"]
