"""What a person or a model reads uses the field's words: the glossary in CONTRIBUTING.md, held by a few banned ones."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "batchcall_mcp"
REMAINING: tuple[str, ...] = ()
"""Of the source, what still has old words. Their text also stands in generated parts of documents."""

BANNED = {
    "told": r"\btold\b",
    "anew": r"\banew\b",
    "beside": r"\bbeside\b",
    "is no": r"(?<!there )\bis no\b(?! longer)",
    "takes back": r"\btakes back\b",
    "the way of": r"\bthe way of\b",
    "left out": r"\bleft out\b",
}
_ANY = re.compile("|".join(BANNED.values()), re.IGNORECASE)
_GENERATED = re.compile(r"<!-- (?:[^>]*: begin|tools: generated[^>]*) -->.*?<!-- (?:[^>]*: end|/tools) -->", re.DOTALL)
_GENERATED_PAGES = ("docs/conformance.md",)
DOCUMENTS = [
    page.relative_to(ROOT).as_posix()
    for page in sorted(
        [
            *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
            ROOT / "plugins/batchcall/README.md",
            *ROOT.glob("docs/**/*.md"),
            *ROOT.glob("skills/*/SKILL.md"),
        ]
    )
]
MODULES = [module.relative_to(SOURCE).as_posix() for module in sorted(SOURCE.rglob("*.py"))]


def banned_in(text: str) -> list[str]:
    """Each place with a banned word, and a few words around it."""
    flat = " ".join(text.split())
    return [flat[max(0, found.start() - 30) : found.end() + 30] for found in _ANY.finditer(flat)]


def page(name: str) -> str:
    """The part of a document that is written by hand and is about this version."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name == "CHANGELOG.md":
        return "## ".join(text.split("\n## ")[:2])
    if name == "CONTRIBUTING.md":
        text = text.partition("<!-- avoided: begin -->")[0] + text.partition("<!-- avoided: end -->")[2]
    return _GENERATED.sub("", text) if REMAINING else text


def texts(module: Path) -> Iterator[str]:
    """The string literals of a module, f-strings with `{}` for what is filled in; no docstrings."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    not_read = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    not_read |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in not_read:
            yield node.value


def test_no_document_uses_a_banned_word() -> None:
    names = [name for name in DOCUMENTS if not (REMAINING and name in _GENERATED_PAGES)]
    assert len(names) > 50
    assert {name: found for name in names if (found := banned_in(page(name)))} == {}


def test_no_text_of_the_source_uses_a_banned_word() -> None:
    names = [name for name in MODULES if name.split("/")[0] not in REMAINING]
    assert len(names) > 300
    found = {name: [found for text in texts(SOURCE / name) for found in banned_in(text)] for name in names}
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize("name", REMAINING)
def test_what_remains_is_there(name: str) -> None:
    """So that a room which moves or is rewritten leaves the list."""
    assert (SOURCE / name).exists()


def test_the_words_are_found_and_plain_english_is_not() -> None:
    assert [bool(banned_in(f"one {word} two")) for word in BANNED] == [True] * len(BANNED)
    assert banned_in("There is no entry 3. It is no longer live. Besides, nothing is left. retold") == []
