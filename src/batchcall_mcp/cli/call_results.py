"""What `batchcall-mcp call` shows on a terminal: the result in words. A program gets the JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_IN_WORDS: Final = frozenset(
    {"summary", "next", "skipped_rows", "skipped_rows_total", "tasks", "batch_calls", "folder", "files", "notes"}
    | {"limitations"}
)
"""What has lines of its own."""
_IN_THE_SUMMARY: Final = frozenset(
    {"result", "replayed", "batch_call", "preflight", "columns", "sample", "backend", "now", "organization_id"}
    | {"outcomes_reported", "confirmation", "mode", "stop", "calling_hours", "max_concurrency", "rows", "format"}
    | {"file", "changed"}
)
"""What the summary says, or nobody needs to read at each call."""


def in_lines(structured: Mapping[str, Any]) -> Iterator[str]:
    """The summary, people and rows, notes, and the command of the call that comes next."""
    yield str(structured["summary"])
    if "folder" in structured:
        names = ", ".join(file["name"] for file in structured.get("files", [])) or "no file"
        yield f"Folder for lists: {structured['folder']} ({names})"
    yield from _table(structured.get("batch_calls", []), "batch_call_id", "status", "name")
    yield from _table(structured.get("tasks", []), "to_number", "status", "name", "choice", "error")
    rows = structured.get("skipped_rows", [])
    yield from (f"  line {row['line']}: {row['reason']}" for row in rows)
    more = structured.get("skipped_rows_total", len(rows)) - len(rows)
    if more > 0:
        yield f"  and {more:,} more"
    preflight = structured.get("preflight", {})
    said = [*structured.get("limitations", []), *preflight.get("warnings", [])]
    said += [*preflight.get("notes", []), *structured.get("notes", [])]
    yield from (f"- {note}" for note in dict.fromkeys(said) if not _said_in_full(note, said))
    for name in structured.keys() - _IN_WORDS - _IN_THE_SUMMARY:
        yield f"{name}: {json.dumps(structured[name], ensure_ascii=False)}"
    following = structured.get("next", {})
    call = following if "tool" in following else following.get("then")
    if call is not None:
        if not call.get("arguments") and "ask_person" in following:
            yield f"- {following['ask_person']}"  # the command alone lacks what the answer has to add
        yield f"Next: {_command(call)}"


def _table(rows: Sequence[Mapping[str, Any]], *columns: str) -> Iterator[str]:
    cells = [[str(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)).rstrip()


def _said_in_full(note: str, said: Sequence[str]) -> bool:
    """Whether a longer sentence says the same and more, as the dialer's limitations do of its carrier."""
    return any(other != note and other.startswith(note.rstrip(".")) for other in said)


def _command(call: Mapping[str, Any]) -> str:
    pairs = (
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in (call.get("arguments") or {}).items()
    )
    return shlex.join(["batchcall-mcp", "call", call["tool"], *pairs])
