"""What a built site contains, read from its HTML as a browser would: ids, links, and what is loaded."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "img": ("src", "srcset"),
    "input": ("src",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "video": ("src", "poster"),
}
"""What a browser loads by itself, in addition to `link` of these kinds:"""
_LOADING = {"dns-prefetch", "icon", "manifest", "modulepreload", "preconnect", "prefetch", "preload", "stylesheet"}
NOT_FOUND = "404.html"
_NOT_READ = {"code", "nav", "pre", "script"}
_VOID = {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_IN_STYLE = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")


@dataclass
class Page(HTMLParser):
    """One page of the site."""

    html: str
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    paragraphs: list[str] = field(default_factory=list)
    """The texts in paragraphs, items and cells, without what is in code."""
    _inside: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag not in _VOID:
            self._inside.append(tag)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag in {"a", "area"} and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and _LOADING & set(given.get("rel", "").split()):
            self.loaded.append(given["href"])
        self.loaded += [given[name].split()[0] for name in _LOADED.get(tag, ()) if given.get(name)]
        self.loaded += style_addresses(given.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        while tag in self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._inside[-1:] == ["style"]:
            self.loaded += style_addresses(data)
        elif {"p", "li", "td"} & set(self._inside) and not _NOT_READ & set(self._inside) and data.strip():
            self.paragraphs.append(data)


def style_addresses(style: str) -> list[str]:
    """What a style sheet loads."""
    found = [one or other for one, other in _IN_STYLE.findall(style)]
    return [address for address in found if not address.startswith("data:")]


@dataclass(frozen=True)
class Site:
    """A built site."""

    folder: Path
    base: str
    """The path at which it will be served, of which the page for what is not found makes use."""
    pages: dict[str, Page]

    @classmethod
    def read(cls, folder: Path, base: str) -> Site:
        return cls(
            folder,
            base,
            {
                path.relative_to(folder).as_posix(): Page(path.read_text(encoding="utf-8"))
                for path in sorted(folder.rglob("*.html"))
            },
        )

    def broken(self) -> Iterator[str]:
        """Each link and each file that leads nowhere within the site, with its page."""
        for name, page in self.pages.items():
            yield from (f"{name}: {link}" for link in page.links if not self.leads_somewhere(name, link))
            yield from (f"{name}: {link}" for link in page.loaded if not self.leads_somewhere(name, link))

    def leads_somewhere(self, name: str, link: str) -> bool:
        """Addresses elsewhere are not asked."""
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return True
        path = unquote(parts.path)
        if path.startswith("/") and not (name == NOT_FOUND and path.startswith(self.base)):
            return False  # elsewhere a site may lie at another place of its host
        path = path.removeprefix(self.base) if path.startswith("/") else posixpath.join(posixpath.dirname(name), path)
        target = posixpath.normpath(path) if parts.path else name
        if (self.folder / target).is_dir():
            target = f"{target}/index.html"
        if not (self.folder / target).is_file():
            return False
        page = self.pages.get(target)
        return not parts.fragment or page is None or unquote(parts.fragment) in page.ids

    def loaded_from_elsewhere(self) -> Iterator[str]:
        """What a browser fetches from another host by itself: scripts, fonts, pictures, style sheets."""
        for name, page in self.pages.items():
            yield from (f"{name}: {address}" for address in page.loaded if urlsplit(address).netloc)
        for sheet in self.folder.rglob("*.css"):
            found = style_addresses(sheet.read_text(encoding="utf-8"))
            yield from (f"{sheet.name}: {address}" for address in found if urlsplit(address).netloc)
