"""What every kind of list comes down to before it is judged: one entry a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from batchcall_mcp.model import CallTask
from batchcall_mcp.recipients.files.columns import Columns


class Candidate(NamedTuple):
    """A row as it is written. `given` is the task that a caller passed, for what a row does not have."""

    line: int
    to_number: str
    variables: Mapping[str, str]
    name: str | None = None
    timezone: str | None = None
    max_retries: str | int | None = None
    given: CallTask | None = None


class Broken(NamedTuple):
    """A row that cannot be read, and why."""

    line: int
    reason: str


Entry: TypeAlias = Candidate | Broken


@dataclass(frozen=True, slots=True)
class OpenedList:
    """A file being read. `columns` is complete once `entries` is exhausted: JSON objects may bring keys late."""

    entries: Iterator[Entry]
    columns: Callable[[], Columns]
    notes: list[str] = field(default_factory=list)
