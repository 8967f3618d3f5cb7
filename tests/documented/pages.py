"""A page of docs/how-to as the steps that a reader would take. Pure; `tests/documented/test_how_to.py` takes them.

What a page is made of, in order. A fenced block is named by its language here:

- json with `{"tool": "start_batch_call", "arguments": {…}}`: a tool call. A text with "…" in it, such as
  `"batch_call_id": "…"`, stands for the newest value of that name in an answer; so does `"confirmation_code": "…"`.
- json with `{"env": {"BATCHCALL_…": "…"}}`: the server's settings from here on. `/path/to` is the list folder.
- json with anything else: a part of the newest answer; a text with "…" matches any words there.
- sh: run by bash in the list folder. `http://127.0.0.1:8000` is the served MCP server (over=http),
  `http://localhost:8080` a dialer of its own (backend=batchcall), `$BATCHCALL_API_KEY` and `$BATCHCALL_API_SECRET` a
  good pair, `$BATCH_CALL_ID` the newest id. `batchcall-mcp serve …` and `batchcall-mcp dialer …` with options are
  not run: the server is there.
- text, and `> quoted lines`: words of the answer, of the error, of the shell's output or of the question that a person
  was asked in the step before; "…" matches any words. A call is an error exactly if a text after it begins with its
  code, as `[invalid_input]`.
- any language and a file name, as in `csv customers.csv`: a file in the list folder. `csv leads.xlsx#December` is a
  sheet of a workbook; `_` in its name is a blank.
- `<!-- run: over=http backend=zudu person=no today=2026-11-26 BATCHCALL_MODE=draft -->`: what a reader need not see.
  `over` is stdio (default) or http; `backend` is dialer (default), batchcall (a dialer that is served on its own),
  zudu, magpipe or talking (it has transcripts, and its calls end as they begin); `person` says yes (default) or no, or
  is none: a client that cannot ask. `today` moves every date of the page by the days between that day and today. The
  calling hours never end if the page does not set them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, TypeAlias

GAP = "…"
_FENCE = re.compile(r"^(`{3,})(\S*)[ \t]*(\S*)[ \t]*\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_RUN = re.compile(r"<!--\s*run:\s*(.*?)\s*-->", re.DOTALL)
_QUOTE = re.compile(r"(?:^>.*\n?)+", re.MULTILINE)
_DATE = re.compile(r"(?<!\d)20\d\d-\d\d-\d\d(?!\d)")


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shell:
    """Lines for bash."""

    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """What the answer or the question says."""

    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the answer's JSON."""

    value: Any


@dataclass(frozen=True, slots=True)
class File:
    """A file in the list folder."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Setting:
    """Variables of the server, and what the runner is."""

    values: Mapping[str, str]


Step: TypeAlias = Call | Shell | Words | Part | File | Setting


def steps_of(page: str, today: date) -> list[Step]:
    """The steps of a page, its dates moved as if it had been written today.

    Raises:
        ValueError: for a block that is not one of those above; a page has nothing that nobody runs.
    """
    named = re.search(r"<!--\s*run:[^>]*\btoday=(\S+)", page)
    if named:
        days = (today - date.fromisoformat(named[1])).days
        page = _DATE.sub(lambda found: str(date.fromisoformat(found[0]) + timedelta(days)), page)
    return list(_steps(page))


def _steps(page: str) -> Iterator[Step]:
    at = 0
    for fence in _FENCE.finditer(page):
        yield from _outside(page[at : fence.start()])
        yield _block(fence[2], fence[3], fence[4])
        at = fence.end()
    yield from _outside(page[at:])


def _outside(text: str) -> Iterator[Step]:
    found = [*_RUN.finditer(text), *_QUOTE.finditer(text)]
    for one in sorted(found, key=lambda one: one.start()):
        if one.re is _RUN:
            yield Setting(dict(word.split("=", 1) for word in one[1].split()))
        else:
            yield Words("\n".join(line.removeprefix(">").strip() for line in one[0].splitlines()))


def _block(language: str, name: str, text: str) -> Step:
    if name:
        return File(name, text)
    if language == "sh":
        return Shell(text)
    if language == "text":
        return Words(text)
    if language == "json":
        value = json.loads(text)
        if isinstance(value, dict) and "tool" in value:
            if value.keys() - {"tool", "arguments"}:
                raise ValueError(f"a call has a tool and arguments: {text}")
            return Call(value["tool"], value.get("arguments", {}))
        if isinstance(value, dict) and value.keys() == {"env"}:
            return Setting(value["env"])
        return Part(value)
    raise ValueError(f"nobody runs a block of {language or 'no language'}: {text}")


def holds(said: str, words: str) -> bool:
    """Whether a text has these words in this order; white space counts as one blank, "…" as any text."""
    parts = [re.escape(" ".join(part.split())) for part in words.split(GAP)]
    return re.search(".*?".join(parts), " ".join(said.split()), re.DOTALL) is not None


def is_part_of(part: Any, whole: Any) -> bool:
    """Whether every key of an object, and every entry of a list, is found in the whole."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            name in whole and is_part_of(value, whole[name]) for name, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(is_part_of(one, other) for other in whole) for one in part)
    if isinstance(part, str) and GAP in part:
        return isinstance(whole, str) and holds(whole, part)
    return bool(part == whole)


def filled(value: Any, known: Mapping[str, Any], name: str = "") -> Any:
    """Arguments with each "…" replaced by the newest value of that name."""
    if isinstance(value, dict):
        return {key: filled(inner, known, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, known, name) for inner in value]
    if isinstance(value, str) and GAP in value:
        return known[name]
    return value


def values_in(answer: Any) -> Iterator[tuple[str, Any]]:
    """Every named text or number of an answer, the innermost first."""
    if isinstance(answer, list):
        for one in reversed(answer):
            yield from values_in(one)
    elif isinstance(answer, dict):
        for inner in answer.values():
            yield from values_in(inner)
        yield from ((name, value) for name, value in answer.items() if isinstance(value, str | int))
