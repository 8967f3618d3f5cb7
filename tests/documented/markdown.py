"""The parts of a Markdown page that a test looks at, with the line where each begins. Pure.

Read by a CommonMark parser, so that a block in a list, or one that is only indented, is found too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt

_RUN = re.compile(r"<!--\s*run:\s*(.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A code block. `language` is blank where the page does not say one."""

    line: int
    language: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Quote:
    """Lines that begin with `>`."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """`<!-- run: … -->`."""

    line: int
    words: tuple[str, ...]


def parts_of(page: str) -> Iterator[Block | Quote | Mark]:
    """In the order of the page."""
    lines = page.splitlines()
    for token in MarkdownIt("commonmark").parse(page):
        if token.map is None:
            continue
        first, end = token.map
        if token.type in ("fence", "code_block"):
            language, _, name = token.info.partition(" ")
            yield Block(first + 1, language, name.strip(), token.content)
        elif token.type == "blockquote_open":
            yield Quote(first + 1, "\n".join(line.strip().removeprefix(">").strip() for line in lines[first:end]))
        elif token.type in ("html_block", "inline"):
            for found in _RUN.finditer(token.content):
                yield Mark(first + 1, tuple(found[1].split()))


def inline_code(page: str) -> Iterator[tuple[int, str]]:
    """What stands between single backquotes, and the line where its paragraph begins."""
    for token in MarkdownIt("commonmark").enable("table").parse(page):
        for child in token.children or ():
            if child.type == "code_inline" and token.map is not None:
                yield token.map[0] + 1, child.content
