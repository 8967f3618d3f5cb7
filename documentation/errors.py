"""docs/errors.md: every error code, from the docstrings of errors.py and from what the fault matrix promises."""

from __future__ import annotations

import inspect
import re

from mcp.types import Tool

from batchcall_mcp import errors
from documentation.markdown import marked, table
from tests.faults.matrix import STATUSES

READS, WRITES, LAUNCHES = "every tool", "tools that write", "tools that launch"
_ALWAYS = frozenset({errors.ConfigurationError.code, errors.UnexpectedResponse.code})
_KINDS = tuple(
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.BatchCallError) and kind is not errors.BatchCallError
)
"""The tree of errors.py itself: what the dialer's REST API adds to it, a tool never returns."""
_HUNDREDS = {300: "any 3xx", 400: "any other 4xx", 500: "any 5xx"}
_PARTS = re.compile(r"(?P<means>.+?)\n\nSent: (?P<sent>.+?)\nNext: (?P<next>.+)", re.DOTALL)


def render() -> str:
    """Every code, in the order of errors.py."""
    kinds = sorted(_KINDS, key=lambda kind: inspect.getsourcelines(kind)[1])
    overview = [(f"[`{kind.code}`](#{kind.code})", described(kind)["means"], returned_by(kind.code)) for kind in kinds]
    parts = [table(("code", "means", "returned by"), overview)]
    for kind in kinds:
        said = described(kind)
        statuses = f" A backend's HTTP status: {found}." if (found := _statuses(kind.code)) else ""
        parts.append(
            f"## {kind.code}\n\n{said['means']}{statuses}\n\n"
            f"- **Was something sent?** {_sentence(said['sent'])}\n- **Next:** {_sentence(said['next'])}\n"
        )
    return "\n".join(parts)


def described(kind: type[errors.BatchCallError]) -> dict[str, str]:
    """What the docstring says: `means`, `sent` and `next`.

    Raises:
        ValueError: it does not say all three.
    """
    found = _PARTS.fullmatch(inspect.getdoc(kind) or "")
    if found is None:
        raise ValueError(f"The docstring of {kind.__name__} needs a first line, `Sent: …` and `Next: …`")
    return {name: marked(" ".join(text.split())) for name, text in found.groupdict().items()}


def returned_by(name: str) -> str:
    """Which tools return it."""
    reads, writes = _of_reads(), _of_writes()
    return READS if name in reads else WRITES if name in writes else LAUNCHES


def codes_of(tool: Tool) -> list[str]:
    """What a tool returns in addition to what every tool may."""
    groups = [READS]
    if tool.annotations is None or not tool.annotations.read_only_hint:
        groups.append(WRITES)
    if "confirmation_code" in tool.input_schema["properties"]:
        groups.append(LAUNCHES)
    return [kind.code for kind in _KINDS if returned_by(kind.code) in groups[1:]]


def _of_reads() -> frozenset[str]:
    return _ALWAYS | {read.code for read, _ in STATUSES.values()}


def _of_writes() -> frozenset[str]:
    return frozenset(write.code for _, write in STATUSES.values())


def _statuses(name: str) -> str:
    found = []
    for status, (read, write) in sorted(STATUSES.items()):
        if name in {read.code, write.code}:
            to = "" if read.code == write.code else " to a read" if read.code == name else " to a write"
            found.append(_HUNDREDS.get(status, str(status)) + to)
    return ", ".join(found)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
