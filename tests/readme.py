"""What a person who reads README.md aloud says. Pure."""

from __future__ import annotations

import re

from tests.server.transports import ROOT

README = ROOT / "README.md"
_REFERENCE = "\n[Tools](docs/tools.md) ·"
_NOT_READ = (
    re.compile(r"^```.*?^```\n", re.MULTILINE | re.DOTALL),
    re.compile(r"^\|.*\n", re.MULTILINE),
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"^\[?!\[.*\n", re.MULTILINE),
    re.compile(r"^> ?", re.MULTILINE),
    re.compile(r"(?<=\])\([^)]*\)"),
)


def spoken() -> str:
    """All before the reference links, without code blocks, tables, pictures and addresses. Commands in it count."""
    text, reference, _ = README.read_text(encoding="utf-8").partition(_REFERENCE)
    if not reference:
        raise ValueError("README.md has no reference links at its end")
    for not_read in _NOT_READ:
        text = not_read.sub("", text)
    return text.strip()
