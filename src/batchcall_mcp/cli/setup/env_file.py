"""The file of settings that the entries name (BATCHCALL_ENV_FILE): changed line by line, with every other line kept."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from batchcall_mcp.cli.setup.json_text import MASK
from batchcall_mcp.cli.setup.problems import FileProblem
from batchcall_mcp.settings import PREFIX, Settings

HEADER: Final = (
    "# Settings of batchcall-mcp, for every MCP client that `batchcall-mcp init` has set up. It holds keys.\n"
)
SECRETS: Final = frozenset(
    PREFIX + name.upper()
    for name, described in Settings.model_fields.items()
    if "SecretStr" in str(described.annotation) or name in {"notify_url", "predial_url"}
)
"""Variables whose value is not shown; a URL that is called may hold a token."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+=:,./~-]+")


def values_in(text: str) -> dict[str, str]:
    """The variables as a server reads them.

    Raises:
        FileProblem: a line is not a setting.
    """
    wrong = next((one.original.line for one in _bindings(text) if one.error), None)
    if wrong is not None:
        raise FileProblem(f"line {wrong} is not NAME=value", "Correct that line")
    found = dotenv_values(stream=io.StringIO(text))
    return {name.upper(): value for name, value in found.items() if value is not None}


def changed(text: str, values: Mapping[str, str], without: Collection[str]) -> str:
    """The text with these values, and none of the variables `without`.

    Raises:
        FileProblem: a value cannot be written so that it is read again as it is.
    """
    there = values_in(text)
    lines = [_changed(one, there, values, without) for one in _bindings(text)]
    new = "".join(lines) or HEADER
    if new and not new.endswith("\n"):
        new += "\n"
    new += "".join(_line(name, value) for name, value in values.items() if name not in there)
    wanted = {name: value for name, value in there.items() if name not in without} | dict(values)
    if values_in(new) != wanted:
        raise FileProblem("a value cannot be kept in it", "Write it into the file by hand")
    return new


def masked(text: str, before: Mapping[str, str] | None = None) -> str:
    """The text as it may be shown. `before`: what it held, so a new secret is said to be one."""
    return "".join(_masked(one, before) for one in _bindings(text))


def _changed(one: Binding, there: Mapping[str, str], values: Mapping[str, str], without: Collection[str]) -> str:
    written, name = one.original.string, (one.key or "").upper()
    if name in values:
        return written if there.get(name) == values[name] else _leading(written) + _line(name, values[name])
    return _leading(written) if name in without else written


def _leading(written: str) -> str:
    """Blank lines before a setting, which are read as a part of it."""
    return written[: len(written) - len(written.lstrip("\r\n"))]


def _line(name: str, value: str) -> str:
    if not _PLAIN.fullmatch(value):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        value = f"'{escaped}'"
    return f"{name}={value}\n"


def _masked(one: Binding, before: Mapping[str, str] | None) -> str:
    written, name = one.original.string, (one.key or "").upper()
    if not name:
        return re.sub(r"#[^\n]*", lambda found: found[0] if f"{found[0]}\n" == HEADER else f"# {MASK}", written)
    if name not in SECRETS and name.startswith(PREFIX) and "\n" not in written.strip() and "#" not in written:
        return written
    is_new = before is not None and before.get(name) != one.value
    return f"{_leading(written)}{name}={MASK}{' (new)' if is_new else ''}\n"


def _bindings(text: str) -> Iterator[Binding]:
    return parse_stream(io.StringIO(text))
