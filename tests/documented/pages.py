"""A page of the documentation as the steps that a reader would take. Pure; `tests/documented/reader.py` takes them.

Every Markdown page that a user reads is taken from top to bottom by `test_pages.py`, so every code block on it is run,
or judged by what reads it in reality. To add a block, choose its language; nothing has to be registered:

- `json` with `{"tool": "start_batch_call", "arguments": {…}}`: a tool call. A text with "…" in it, such as
  `"batch_call_id": "…"`, stands for the newest value of that name in an answer; so does `"confirmation_code": "…"`.
- `json` with `{"env": {"BATCHCALL_…": "…"}}`: the server's settings from here on. `/path/to` is the list folder.
- `json` with `{"mcpServers": {…}}`: what a client's file has; a client starts the command, or connects to the address.
- `json` with `{"type": …, "timestamp": …, "data": {…}}`: the whole body that a launch of two people posts.
- `json` with anything else: a part of the newest answer; a text with "…" matches any words there.
- `sh`: run by bash in the list folder. What a block exports, and the folder it changes to, hold for the next one.
  `http://127.0.0.1:8000` is the served MCP server (over=http), `http://127.0.0.1:8080` or `http://localhost:8080` a
  dialer of its own (backend=batchcall), `$BATCHCALL_API_KEY` and `$BATCHCALL_API_SECRET` a good pair,
  `$BATCH_CALL_ID` the newest id. Lines that cannot run are in the table of `not_run.py`, each with its reason and with
  what checks it instead.
- `console`: the same, line by line: after `$ ` a command, under it the lines that it prints. "…" matches any words, and
  a line of nothing else any lines. A command with no line under it is only run. In a command, a word with "…" stands
  for the newest word like it that was printed.
- `text`, and after a tool call also `> quoted lines`: words of the answer, of the error, of the shell's output or of
  the question that a person was asked in the step before; "…" matches any words. A call is an error exactly if a
  text after it begins with its code, as `[invalid_input]`.
- any language and a file name, as in `csv customers.csv`: a file in the list folder. `csv leads.xlsx#December` is a
  sheet of a workbook; `_` in its name is a blank.
- `python`, `toml`, `yaml`, `nginx`, `sql`, `crontab`: see `judges.py`. Another language needs a judge there.
- `<!-- run: over=http backend=zudu person=no today=2026-11-26 BATCHCALL_MODE=draft -->`: what a reader need not see.
  `over` is stdio (default) or http; `backend` is dialer (default), batchcall (a dialer that is served on its own),
  zudu, magpipe or talking (it has transcripts, and its calls end as they begin); `person` says yes (default) or no, or
  is none: a client that cannot ask. `today` moves every date of the page by the days between that day and today. The
  calling hours never end if the page does not set them.

What has to be there before a page begins, and is not part of it, is in `test_pages.BEFORE`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from tests.documented.markdown import Block, Mark, Quote, parts_of
from tests.server.transports import ROOT

GAP = "…"
_DATE = re.compile(r"(?<!\d)20\d\d-\d\d-\d\d(?!\d)")
JUDGED = ("python", "toml", "yaml", "nginx", "sql", "crontab")
"""Languages of which `judges.py` has a judge for each."""


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
class Console:
    """Commands, each with the lines that it prints."""

    commands: tuple[tuple[str, str], ...]


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


@dataclass(frozen=True, slots=True)
class Entry:
    """What a client's file has: a server's name, and how it is started or reached."""

    servers: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Posted:
    """The body that the product posts to an operator's own service."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """A block that is judged by what reads its language."""

    language: str
    text: str


Step: TypeAlias = Call | Shell | Console | Words | Part | File | Setting | Entry | Posted | Judged


class NobodyJudges(ValueError):
    """A block that is none of those above."""


def pages() -> list[Path]:
    """Every Markdown page that a user, an operator or a contributor reads."""
    folders = ("docs", "skills", "plugins", "examples")
    found = {*ROOT.glob("*.md"), *(page for folder in folders for page in (ROOT / folder).rglob("*.md"))}
    # The plug-in's skills are copies, byte for byte: tests/release/test_manifests.py.
    return sorted(page for page in found if not page.is_relative_to(ROOT / "plugins" / "batchcall" / "skills"))


def steps_of(page: str, today: date, before: str = "") -> list[tuple[int, Step]]:
    """The steps of a page and their lines, its dates moved as if it had been written today.

    `before` is what comes before the page, where the day on which it was written may be named too.

    Raises:
        NobodyJudges: for a block that is not one of those above; a page has nothing that nobody runs.
    """
    named = re.search(r"<!--\s*run:[^>]*\btoday=(\S+)", before + page)
    if named:
        days = (today - date.fromisoformat(named[1])).days
        page = _DATE.sub(lambda found: str(date.fromisoformat(found[0]) + timedelta(days)), page)
    steps: list[tuple[int, Step]] = []
    for part in parts_of(page):
        match part:
            case Mark(line, words):
                steps.append((line, Setting(dict(word.split("=", 1) for word in words))))
            case Quote(line, text):
                if any(isinstance(step, Call) for _, step in steps):
                    steps.append((line, Words(text)))
            case Block(line, language, name, text):
                try:
                    steps.append((line, _step(language, name, text)))
                except ValueError as error:
                    raise NobodyJudges(f"line {line}: {error}\n{text}") from error
    return steps


def _step(language: str, name: str, text: str) -> Step:
    if name:
        return File(name, text)
    match language:
        case "sh":
            return Shell(text)
        case "console":
            return Console(tuple(_commands(text)))
        case "text":
            return Words(text)
        case "json":
            return _of_json(json.loads(text))
        case "":
            raise ValueError(
                "this block has no language, so nobody judges it. Write ```sh, ```json, ```text … above it (an "
                "indented block has none either); tests/documented/pages.py says what each means."
            )
    if language in JUDGED:
        return Judged(language, text)
    raise ValueError(
        f"nobody judges a block of {language}. Use a language that tests/documented/pages.py lists, or add a judge "
        "for this one to tests/documented/judges.py."
    )


def _of_json(value: Any) -> Step:
    if isinstance(value, dict):
        if "tool" in value:
            if value.keys() - {"tool", "arguments"}:
                raise ValueError("a call has a tool and arguments")
            return Call(value["tool"], value.get("arguments", {}))
        if value.keys() == {"env"}:
            return Setting(value["env"])
        if value.keys() == {"mcpServers"}:
            for server in value["mcpServers"].values():
                check_entry(server)
            return Entry(value["mcpServers"])
        if value.keys() == {"type", "timestamp", "data"}:
            return Posted(value)
    return Part(value)


def check_entry(server: Mapping[str, Any]) -> None:
    """What clients read of an entry, and no more.

    Raises:
        ValueError: none reads it.
    """
    by_command = server.keys() <= {"command", "args", "env"} and {"command", "args"} <= server.keys()
    by_address = server.keys() <= {"type", "url", "headers"} and server.get("type") == "http"
    if not by_command and not by_address:
        raise ValueError(f"no client reads this entry: {dict(server)}")


def _commands(text: str) -> Iterator[tuple[str, str]]:
    first, *rest = re.split(r"^\$ ", text, flags=re.MULTILINE)
    if first.strip():
        raise ValueError("a console block begins with a command after `$ `")
    for one in rest:
        command, _, printed = one.partition("\n")
        while command.endswith("\\"):
            more, _, printed = printed.partition("\n")
            command = f"{command}\n{more.removeprefix('> ')}"
        yield command, printed


def holds(said: str, words: str) -> bool:
    """Whether a text has these words in this order; white space counts as one blank, "…" as any text."""
    parts = [re.escape(" ".join(part.split())) for part in words.split(GAP)]
    return re.search(".*?".join(parts), " ".join(said.split()), re.DOTALL) is not None


def prints(said: str, shown: str) -> bool:
    """Whether these lines are all that was said; "…" is any words of a line, and alone in its line any lines."""
    lines = [line.rstrip() for line in shown.rstrip().splitlines()]
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == GAP else ".*".join(map(re.escape, line.split(GAP))) + r"[ \t]*\n"
        for line in lines
    )
    return re.fullmatch(pattern, said.rstrip() + "\n") is not None


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


def typed(command: str, printed: str) -> str:
    """A command with each word that has a "…" replaced by the newest printed word like it."""

    def newest(found: re.Match[str]) -> str:
        like = re.compile(r"(?<!\S)" + r"[^\s\"',;]*[\w/]".join(map(re.escape, found[0].split(GAP))) + r"(?![\w/])")
        words = like.findall(printed)
        if not words:
            raise ValueError(f"nothing like {found[0]} was printed before `{command}`")
        return str(words[-1])

    return re.sub(rf"[^\s\"'=]*{GAP}[^\s\"']*", newest, command)


def values_in(answer: Any) -> Iterator[tuple[str, Any]]:
    """Every named text or number of an answer, the innermost first."""
    if isinstance(answer, list):
        for one in reversed(answer):
            yield from values_in(one)
    elif isinstance(answer, dict):
        for inner in answer.values():
            yield from values_in(inner)
        yield from ((name, value) for name, value in answer.items() if isinstance(value, str | int))
