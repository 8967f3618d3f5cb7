"""Changes in a JSON text that leave every other character as it is: order, spacing and, where allowed, comments.

Reading with `json` and writing again would lose comments and rewrite numbers and spacing in somebody's file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from batchcall_mcp.cli.setup.problems import FileProblem

_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_SCALAR: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.])|(?:true|false|null)(?!\w)")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_COMMENT: Final = re.compile(r"//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_DEEPEST: Final = 100
MASK: Final = "…"

Path = Sequence[str]


@dataclass(slots=True)
class Node:
    """A value and where it is written: `text[start:end]`."""

    start: int
    value: Any
    end: int = 0
    children: list[Child] = field(default_factory=list)
    """Of an object or an array, in the order of the text."""


@dataclass(slots=True)
class Child:
    start: int
    """Of its key, in an object; else of its value."""
    key: str | None
    node: Node
    comma: int | None = None
    """Where the comma after it is."""


class JsonText:
    """A JSON document that is changed by replacing parts of its text.

    `comments`: whether `//`, `/* */` and a comma after the last member are allowed, as in VS Code's files.

    Raises:
        FileProblem: it is not JSON; the line is named, and nothing of the text is repeated.
    """

    def __init__(self, text: str, *, comments: bool = False, like: JsonText | None = None, indent: str = "") -> None:
        self._comments_allowed = comments
        self._outer = indent
        self._read(text)
        if like is None:
            self._newline = "\r\n" if "\r\n" in text else "\n"
            self._unit = self._indentation_unit()
        else:
            self._newline, self._unit = like._newline, like._unit  # noqa: SLF001 - of the same class

    @property
    def value(self) -> Any:
        return self.root.value

    def set(self, path: Path, value: Any) -> None:
        """Make `path` hold `value`; what is missing on the way there is made."""
        node, rest = self._found(path)
        if not rest:
            self._edit([(node.start, node.end, self._written(value, self._indent_at(node.start)))])
            return
        for name in reversed(rest[1:]):
            value = {name: value}
        self._insert(node, rest[0], value)

    def part(self, path: Path) -> JsonText:
        """The value at `path` as a text of its own: several changes of it do not read a large file each time."""
        node, _ = self._found(path)
        return JsonText(
            self.text[node.start : node.end],
            comments=self._comments_allowed,
            like=self,
            indent=self._indent_at(node.start),
        )

    def put(self, path: Path, part: JsonText) -> None:
        """The opposite of `part`."""
        node, _ = self._found(path)
        if self.text[node.start : node.end] != part.text:
            self._edit([(node.start, node.end, part.text)])

    def append(self, path: Path, value: Any) -> None:
        """Add one item to the end of the array at `path`."""
        node, _ = self._found(path)
        self._insert(node, None, value)

    def remove(self, path: Path, where: Callable[[Any], bool] = lambda _: True) -> None:
        """Remove the member at `path`; or of the array there each item for which `where` is true."""
        node, rest = self._found(path)
        if rest:
            return
        if isinstance(node.value, list):
            for at in reversed([at for at, item in enumerate(node.value) if where(item)]):
                self._cut(self._found(path)[0], at)
            return
        parent, _ = self._found(path[:-1])
        self._cut(parent, next(at for at, child in enumerate(parent.children) if child.key == path[-1]))

    def masked(self, known: frozenset[str]) -> str:
        """The text as it may be shown: no string but keys and `known` ones, and no comment."""
        spans = list(self._hidden(self.root, known))
        for start, end in self._comments:
            spans.append((start, end, f"// {MASK}" if self.text.startswith("//", start) else f"/* {MASK} */"))
        return _replaced(self.text, spans)

    def _hidden(self, node: Node, known: frozenset[str]) -> Iterator[tuple[int, int, str]]:
        if isinstance(node.value, str) and node.value not in known:
            yield node.start, node.end, f'"{MASK}"'
        for child in node.children:
            yield from self._hidden(child.node, known)

    def _found(self, path: Path) -> tuple[Node, Path]:
        """The last node on the path that exists, and the keys that do not."""
        node = self.root
        for at, name in enumerate(path):
            if not isinstance(node.value, dict):
                where = ".".join(path[:at]) or "the whole file"
                raise FileProblem(f"{where} is not a JSON object", "Correct that by hand, or remove it")
            named = [child.node for child in node.children if child.key == name]
            if len(named) > 1:
                raise FileProblem(f'the key "{name}" is there twice', "Remove one of them")
            if not named:
                return node, path[at:]
            node = named[0]
        return node, ()

    def _insert(self, node: Node, key: str | None, value: Any) -> None:
        if not isinstance(node.value, list if key is None else dict):
            raise FileProblem("a part of it has another form than documented", "Correct that by hand")
        close = node.end - 1
        before = self.text[node.start + 1 : close].rstrip(" \t\r\n")
        tail = node.start + 1 + len(before)
        prefix = "" if key is None else f"{json.dumps(key, ensure_ascii=False)}: "
        last = node.children[-1] if node.children else None
        if last is not None and not self._on_own_line(last) and tail == last.node.end:
            self._edit([(tail, tail, f", {prefix}{json.dumps(value, ensure_ascii=False)}")])
            return
        outer = self._indent_at(node.start)
        inner = self._indent_at(last.start) if last is not None and self._on_own_line(last) else outer + self._unit
        written = f"{self._newline}{inner}{prefix}{self._written(value, inner)}"
        edits = [(tail, close, f"{written}{self._newline}{outer}")]
        if last is not None and last.comma is None and last.node.end == tail:
            edits = [(tail, close, f",{written}{self._newline}{outer}")]
        elif last is not None and last.comma is None:  # a comment is in between
            edits.append((last.node.end, last.node.end, ","))
        self._edit(edits)

    def _cut(self, parent: Node, at: int) -> None:
        child = parent.children[at]
        start, end = child.start, child.node.end if child.comma is None else child.comma + 1
        if self._on_own_line(child) and not self.text[end:].partition("\n")[0].strip():
            start = len(self.text[:start].rstrip(" \t"))  # the whole line; else a comment before would go on
            start -= 2 if self.text[:start].endswith("\r\n") else 1
        edits = [(start, end, "")]
        if child.comma is None and at:
            comma = parent.children[at - 1].comma
            if comma is not None:
                edits.insert(0, (comma, comma + 1, ""))
        self._edit(edits)

    def _written(self, value: Any, indent: str) -> str:
        """An object over several lines, everything else on one, as people write these files."""
        if not isinstance(value, dict) or not value:
            return json.dumps(value, ensure_ascii=False)
        inner = indent + self._unit
        members = (f"{inner}{json.dumps(key)}: {self._written(each, inner)}" for key, each in value.items())
        return f"{{{self._newline}{f',{self._newline}'.join(members)}{self._newline}{indent}}}"

    def _indentation_unit(self) -> str:
        first = next((child for child in self.root.children if self._on_own_line(child)), None)
        return (self._indent_at(first.start) if first is not None else "") or "  "

    def _line_before(self, at: int) -> str:
        return self.text[self.text.rfind("\n", 0, at) + 1 : at]

    def _on_own_line(self, child: Child) -> bool:
        return "\n" in self.text[: child.start] and not self._line_before(child.start).strip(" \t")

    def _indent_at(self, at: int) -> str:
        line = self._line_before(at)
        if len(line) == at:  # in the first line
            line = self._outer
        return line[: len(line) - len(line.lstrip(" \t"))]

    def _edit(self, edits: list[tuple[int, int, str]]) -> None:
        self._read(_replaced(self.text, edits))

    # Reading.

    def _read(self, text: str) -> None:
        self.text = text
        self._comments: list[tuple[int, int]] = []
        at = self._skip(0)
        self.root = self._node(at, 0)
        at = self._skip(self.root.end)
        if at != len(text):
            raise self._problem(at)

    def _node(self, at: int, depth: int) -> Node:
        if depth > _DEEPEST:
            raise FileProblem("it is nested too deeply", "Correct that by hand")
        opened = self.text[at : at + 1]
        if opened in {"{", "["}:
            return self._container(at, depth, is_object=opened == "{")
        found = _STRING.match(self.text, at) or _SCALAR.match(self.text, at)
        if found is None:
            raise self._problem(at)
        return Node(at, json.loads(found[0]), found.end())

    def _container(self, at: int, depth: int, *, is_object: bool) -> Node:
        node = Node(at, {} if is_object else [])
        close = "}" if is_object else "]"
        at = self._skip(at + 1)
        while self.text[at : at + 1] != close:
            if node.children and node.children[-1].comma is None:
                raise self._problem(at)
            child = self._child(at, depth, is_object=is_object)
            node.children.append(child)
            if is_object:
                node.value[child.key] = child.node.value
            else:
                node.value.append(child.node.value)
            at = self._skip(child.node.end)
            if self.text[at : at + 1] == ",":
                child.comma = at
                at = self._skip(at + 1)
        if node.children and node.children[-1].comma is not None and not self._comments_allowed:
            raise self._problem(at)
        node.end = at + 1
        return node

    def _child(self, at: int, depth: int, *, is_object: bool) -> Child:
        if not is_object:
            return Child(at, None, self._node(at, depth + 1))
        found = _STRING.match(self.text, at)
        colon = self._skip(found.end()) if found is not None else at
        if found is None or self.text[colon : colon + 1] != ":":
            raise self._problem(colon)
        return Child(at, json.loads(found[0]), self._node(self._skip(colon + 1), depth + 1))

    def _skip(self, at: int) -> int:
        """Past white space and comments."""
        while True:
            found = _SPACE.match(self.text, at)
            at = at if found is None else found.end()
            comment = _COMMENT.match(self.text, at)
            if comment is None:
                return at
            if not self._comments_allowed:
                raise FileProblem(
                    f"line {self._line(at)} has a comment, which this client's format does not have",
                    "Remove the comments",
                )
            self._comments.append(comment.span())
            at = comment.end()

    def _problem(self, at: int) -> FileProblem:
        return FileProblem(f"it is not valid JSON (line {self._line(at)})", "Correct that line")

    def _line(self, at: int) -> int:
        return self.text.count("\n", 0, at) + 1


def _replaced(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    parts, at = [], 0
    for start, end, new in sorted(edits):
        parts += [text[at:start], new]
        at = end
    return "".join([*parts, text[at:]])
