"""The entry of this server in Codex's `config.toml`, changed line by line: everything else stays as it is written.

The lines are found by their form, and what comes out is read again by `tomllib`: where a file is written in another
form than expected, the two do not agree, and the file is left alone. So no TOML writer is needed.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Any, Final

from batchcall_mcp.cli.setup.json_text import MASK
from batchcall_mcp.cli.setup.problems import FileProblem

TABLE: Final = "mcp_servers"
_ANY_HEADER: Final = re.compile(r"[ \t]*\[.*\][ \t]*(#.*)?$")
_SHOWN_LINE: Final = re.compile(r"""[ \t]*[\w.-]+[ \t]*=(?![^\n]*('''|""\")).*$""")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"' + r"|'([^']*)'")


def read(text: str) -> dict[str, Any]:
    """The document.

    Raises:
        FileProblem: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        where = re.search(r"line \d+", str(error))
        raise FileProblem(f"it is not valid TOML{f' ({where[0]})' if where else ''}", "Correct that line") from None


def entry_in(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The entry of one server; empty where there is none."""
    servers = document.get(TABLE)
    entry = servers.get(name) if isinstance(servers, dict) else None
    return entry if isinstance(entry, dict) else {}


class TomlServer:
    """One `[mcp_servers.NAME]` with its sub-tables, in the text of the whole file."""

    def __init__(self, text: str, name: str) -> None:
        self._lines = text.splitlines(keepends=True)
        self._newline = "\r\n" if "\r\n" in text else "\n"
        quoted = rf"(?:{re.escape(name)}|\"{re.escape(name)}\"|'{re.escape(name)}')"
        begin = rf"[ \t]*\[[ \t]*{TABLE}[ \t]*\.[ \t]*{quoted}[ \t]*"
        self._name = name
        self._own = re.compile(begin + r"\][ \t]*(#.*)?$")
        self._env = re.compile(begin + r"\.[ \t]*env[ \t]*\][ \t]*(#.*)?$")
        self._any_of_it = re.compile(begin + r"(\.[^\]]*)?\][ \t]*(#.*)?$")

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def set(self, values: Mapping[str, Any], env: Mapping[str, str], without: Collection[str]) -> None:
        """Give it `values`, and in its environment `env` but none of the variables `without`."""
        if self._section(self._own) is None:
            self._append_table()
        for key, value in values.items():
            self._set_key(self._own, key, _written(value))
        if self._section(self._env) is not None:
            for key in without:
                self._remove_key(self._env, key)
            for key, value in env.items():
                self._set_key(self._env, key, _written(value))
            return
        there = entry_in(read(self.text), self._name).get("env", {})
        kept = {key: value for key, value in there.items() if key not in without} if isinstance(there, dict) else {}
        self._set_key(self._own, "env", _written({**kept, **env}))

    def remove(self) -> None:
        """Remove its tables. Comments right above the next table stay."""
        while (section := self._section(self._any_of_it)) is not None:
            start, end = section
            del self._lines[start:end]
        if self._lines and not "".join(self._lines).strip():
            self._lines = []

    def _section(self, header: re.Pattern[str]) -> tuple[int, int] | None:
        """The first line of a table and the line after its last one."""
        start = next((at for at, line in enumerate(self._lines) if header.match(line.rstrip("\r\n"))), None)
        if start is None:
            return None
        end = start + 1
        last = end
        while end < len(self._lines) and not _ANY_HEADER.match(self._lines[end].rstrip("\r\n")):
            end += 1
            if self._lines[end - 1].strip() and not self._lines[end - 1].lstrip().startswith("#"):
                last = end
        return start, last

    def _key_lines(self, section: tuple[int, int], key: str) -> tuple[int, int] | None:
        """Where a key of a table and its value are: the fewest lines that are TOML by themselves."""
        wanted = re.compile(rf"[ \t]*(?:{re.escape(key)}|\"{re.escape(key)}\")[ \t]*=")
        for start in range(section[0] + 1, section[1]):
            if not wanted.match(self._lines[start]):
                continue
            for end in range(start + 1, section[1] + 1):
                try:
                    tomllib.loads("".join(self._lines[start:end]))
                except tomllib.TOMLDecodeError:
                    continue
                return start, end
        return None

    def _set_key(self, header: re.Pattern[str], key: str, written: str) -> None:
        section = self._section(header) or (len(self._lines), len(self._lines))
        found = self._key_lines(section, key)
        line = f"{key} = {written}{self._newline}"
        if found is None:
            self._end_last_line(section[1])
            self._lines.insert(section[1], line)
        elif tomllib.loads("".join(self._lines[found[0] : found[1]])) != tomllib.loads(line):
            self._lines[found[0] : found[1]] = [line]

    def _remove_key(self, header: re.Pattern[str], key: str) -> None:
        section = self._section(header)
        found = None if section is None else self._key_lines(section, key)
        if found is not None:
            del self._lines[found[0] : found[1]]

    def _append_table(self) -> None:
        self._end_last_line(len(self._lines))
        if self._lines and self._lines[-1].strip():
            self._lines.append(self._newline)
        self._lines.append(f"[{TABLE}.{self._name}]{self._newline}")

    def _end_last_line(self, before: int) -> None:
        if before and not self._lines[before - 1].endswith("\n"):
            self._lines[before - 1] += self._newline


def masked(text: str, known: frozenset[str]) -> str:
    """The text as it may be shown, line by line: names of tables and keys, and of the strings those in `known`."""
    return "".join(_masked_line(line, known) for line in text.splitlines(keepends=True))


def _masked_line(line: str, known: frozenset[str]) -> str:
    body = line.rstrip("\r\n")
    end = line[len(body) :]
    if not body.strip() or _ANY_HEADER.match(body):
        return body.partition("#")[0].rstrip() + end
    if not _SHOWN_LINE.match(body):
        return MASK + end
    name, _, value = body.partition("=")
    shown = _QUOTED.sub(lambda found: found[0] if _unquoted(found[0]) in known else f'"{MASK}"', value)
    rest = _QUOTED.sub("", value)
    return (f"{name}={shown}" if "#" not in rest else f"{name}= {MASK}") + end


def _unquoted(written: str) -> str:
    try:
        return str(tomllib.loads(f"x = {written}")["x"])
    except tomllib.TOMLDecodeError:
        return MASK


def _written(value: Any) -> str:
    """A string, a list of strings or a table of strings, on one line. A JSON string is a TOML one but for DEL."""
    if isinstance(value, Mapping):
        members = ", ".join(f"{_written_key(key)} = {_written(each)}" for key, each in value.items())
        return f"{{ {members} }}" if members else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _written_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _written(key)
