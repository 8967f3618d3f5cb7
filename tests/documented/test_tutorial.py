"""docs/tutorial.md is typed at a terminal, in its order, and every answer is compared with what the page shows.

A block `sh` holds what is typed, a block `text` under it what the last of these commands prints: "…" stands for any
words of a line, alone in its line for any lines. A word with "…" that is typed is the newest printed word like it; an
answer to a question of `approve` is in the shown line, and "…" there is the number that the question names. A command
with `dialer` runs in a second terminal, to the end of the page.

Two commands are not typed: `git clone` and `make demo`, which need a network; what stands for them is checked instead.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import forked
from tests.server.transports import ROOT

PAGE = ROOT / "docs" / "tutorial.md"
_DEMO = ROOT / "src" / "batchcall_mcp" / "cli" / "demo.py"
_BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ASKS = "To decline: no: "
_READY = "=ready="
_LONGEST_S = 60


def blocks() -> list[tuple[str, str]]:
    """The language and the text of each block."""
    found = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(found) == PAGE.read_text(encoding="utf-8").count("\n```") / 2, "a block that nobody types or compares"
    return found


def steps() -> Iterator[tuple[str, str]]:
    """Each command, and what is shown under it."""
    typed: list[str] = []
    for language, text in blocks():
        if language == "sh":
            yield from ((one, "") for one in typed)
            typed = list(_commands(text))
        else:
            assert typed, f"nothing is typed before {text}"
            yield from ((one, "") for one in typed[:-1])
            yield typed[-1], text
            typed = []
    yield from ((one, "") for one in typed)


def _commands(text: str) -> Iterator[str]:
    lines = iter(text.splitlines())
    for line in lines:
        command = [line]
        if "<<'END'" in line:
            for more in lines:
                command.append(more)
                if more == "END":
                    break
        yield "\n".join(command)


_WAIT = "- … wait until … their time."
"""Who waits depends on the hour: for each time at which some may be called, there is such a line."""


def matches(said: str, shown: str) -> bool:
    """Whether these lines are all that was said, each "…" aside."""
    pattern = "".join(_pattern(line.rstrip()) for line in shown.rstrip("\n").splitlines())
    return re.fullmatch(pattern, said.strip("\n") + "\n") is not None


def _pattern(line: str) -> str:
    if line == "…":
        return r"(?:.*\n)*"
    if line == _WAIT:
        return r"(?:- \d+ of them waits? until .* their time\.\n)+"
    return ".*".join(map(re.escape, line.split("…"))) + r"[ \t]*\n"


@pytest.mark.parametrize(
    "said",
    [
        "- 3 of them wait until Sat 28 Nov, 8:00 their time.",  # at night in New York
        "- 1 of them waits until Sun 29 Nov, 8:00 their time.",  # and in Sydney
        "- 2 of them wait until Sat 28 Nov, 8:00 their time.\n- 1 of them waits until Sun 29 Nov, 8:00 their time.",
    ],
)
def test_who_waits_may_be_said_in_several_lines_but_not_in_none(said: str) -> None:
    assert matches(f"a\n{said}\nb", f"a\n{_WAIT}\nb")
    assert not matches("a\nb", f"a\n{_WAIT}\nb")


class Terminal:
    """A shell at a terminal of its own, wide enough for every line."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        # What a session's first process opens becomes its terminal, so that Ctrl-C is one.
        self._shell = subprocess.Popen(
            ["sh", "-c", 'exec bash --norc --noprofile -i <"$0" >"$0" 2>&1', os.ttyname(slave)],
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=variables | {"PS1": _READY, "PS2": "", "TERM": "dumb"},
            start_new_session=True,
        )
        self._buffer = ""
        self.until(_READY)
        os.close(slave)
        self.type("stty -echo cols 1000; bind 'set enable-bracketed-paste off' 2>/dev/null")
        self.until(_READY)

    def type(self, text: str) -> None:
        """A line, or several."""
        os.write(self._master, f"{text}\n".encode())

    def until(self, *ends: str) -> tuple[str, str]:
        """What is printed up to one of these, and which it was."""
        longest = time.monotonic() + _LONGEST_S
        while True:
            for end in ends:
                before, found, after = self._buffer.partition(end)
                if found:
                    self._buffer = after
                    return before, end
            left = longest - time.monotonic()
            assert left > 0, f"{ends} does not come after:\n{self._buffer}"
            if select.select([self._master], [], [], left)[0]:
                self._buffer += os.read(self._master, 65536).decode().replace("\r\n", "\n")

    def interrupt(self) -> None:
        """Ctrl-C, and what runs ends."""
        os.write(self._master, b"\x03")
        self.until(_READY)

    def close(self) -> None:
        """Close the window: what runs there hangs up."""
        os.close(self._master)
        try:
            self._shell.wait(5)
        except subprocess.TimeoutExpired:
            self._shell.kill()
            self._shell.wait()


class Reader:
    """Somebody with a fresh home, and a clone in which `make demo` has run."""

    def __init__(self, folder: Path) -> None:
        self._clone = folder / "batchcall-mcp"
        program = self._clone / ".venv" / "bin" / "batchcall-mcp"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.join(forked.program())} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        (folder / "home").mkdir()
        measured = {name: value for name, value in os.environ.items() if name.startswith("COV")}
        self._variables = measured | {
            "HOME": str(folder / "home"),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }
        self._first = Terminal(folder, self._variables)
        self._second: Terminal | None = None
        self._printed = ""

    def does(self, command: str, shown: str) -> None:
        """One command, and a look at what it says."""
        if "batchcall-mcp dialer" in command:
            self._second = Terminal(self._clone, self._variables)
            self._second.type(command)
            *lines, last = shown.splitlines()
            before, end = self._second.until(last.rstrip("…"))
            assert matches(f"{before}{end}", "\n".join([*lines, last]))
            return
        self._first.type(self._typed(command))
        said, end = self._first.until(_READY, _ASKS)
        if end == _ASKS:
            said += end + self._answered(said, shown)
        self._printed += said
        assert not shown or matches(said, shown), f"$ {command}\n{said}\n--- is not what the page shows:\n{shown}"

    def _answered(self, question: str, shown: str) -> str:
        answer = re.search(rf"{_ASKS}(.*)", shown)
        assert answer is not None, f"the page does not say what to answer to {question}"
        people = re.search(r"Call (\d+) people", question)
        assert people is not None
        typed = people[1] if answer[1] == "…" else answer[1]
        self._first.type(typed)
        return f"{typed}\n{self._first.until(_READY)[0]}"

    def _typed(self, command: str) -> str:
        word = re.search(r"[\w-]+…", command)
        if word is None:
            return command
        newest = re.findall(rf"{word[0].removesuffix('…')}\w+", self._printed)
        return command.replace(word[0], newest[-1])

    def goes(self) -> None:
        """Ctrl-C in the second terminal, as the page says, and both are closed."""
        if self._second is not None:
            self._second.interrupt()
            self._second.close()
        self._first.close()


def test_a_reader_who_types_the_page_sees_what_it_shows(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    try:
        for command, shown in steps():
            if not re.match(r"git clone|make demo", command):
                reader.does(command, shown)
    finally:
        reader.goes()


def test_what_is_not_typed_is_there() -> None:
    typed = dict(steps())
    (clone,) = [command for command in typed if command.startswith("git clone")]
    assert clone in (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^demo: ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    source = re.sub(r"\[[a-z/ ]*\]", "", _DEMO.read_text(encoding="utf-8"))
    for line in typed["make demo"].splitlines():
        assert line.removesuffix("…") in source, line


@pytest.mark.parametrize(
    ("said", "shown", "same"),
    [
        ("a b c\n", "a … c", True),
        ("a b c\nd\n", "a … c", False),
        ("a\nb\nc\n", "a\n…\nc", True),
        ("a\nc\n", "a\n…\nc", True),
        ("a\nb\n", "b\n…", False),
    ],
)
def test_a_shown_answer_is_the_whole_answer(said: str, shown: str, same: bool) -> None:
    assert matches(said, shown) is same
