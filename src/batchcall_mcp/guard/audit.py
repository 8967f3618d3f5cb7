"""Who did what, when, to how many: one JSON line for each write, question and answer, in `audit.jsonl`.

Only ever appended to, and for people: nothing here is read to decide anything, that is the ledger's part. It holds no
names, variables or phone numbers, because an event has no field for them. Several processes may write to one file, and
it may be moved away at any time (logrotate without copytruncate), because it is opened for each line.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias

from batchcall_mcp.clock import Clock, utc_now
from batchcall_mcp.text import shortened

FILE_NAME: Final = "audit.jsonl"
Kind: TypeAlias = Literal["write", "question", "answer", "refused", "stop", "settled", "approved", "file", "forgotten"]

_CALLER_LENGTH = 12
_ID_LENGTH = 200
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)
LONGEST_LINE = 16 * 1024
"""Of which an event fills less than 4 KB: anything longer is not ours, and is not held in memory to find out."""
_BEGINNING = b'{"at":'
_OPENED = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
"""Not blocking, because opening a pipe that nobody reads would wait for ever. For a file it changes nothing."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the record. `tool`, `operation`, `backend` and `outcome` are single words of ours.

    What is no such word (it begins with a letter and has no space in it) is written as "?", so that no message, which
    might quote a row, gets in by mistake.
    """

    event: Kind
    caller: str
    """An opaque hash, of which 12 characters are written."""
    tool: str
    operation: str | None = None
    backend: str | None = None
    batch_call_id: str | None = None
    calls: int | None = None
    max_dials: int | None = None
    outcome: str | None = None
    """done, refused, unknown, replayed, accepted, declined, …, or an error's code."""
    seconds: float | None = None
    """How long an answer or a write took."""
    write_id: int | None = None
    """The ledger's entry."""


COLUMNS: Final = ("at", *(field.name for field in fields(Event)))
"""Every key that a line may have, in order."""


class Audit:
    """Appends to the record in the data folder. May be used from any thread; writes a line in well under 1 ms."""

    def __init__(self, data_dir: Path, clock: Clock = utc_now) -> None:
        self.path: Final = data_dir / FILE_NAME
        self._clock = clock

    def note(self, event: Event) -> None:
        """Write one line. If that fails, the log says so and nothing else happens.

        A phone that must be stopped is not held up by a full disk, and a write that was sent has been sent.
        """
        line = (json.dumps(_line(self._clock(), event)) + "\n").encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _append(self.path, line)
        except OSError as error:
            _logger.warning(
                "%s of %s (%s) is missing from the audit record: %s cannot be written: %s: %s",
                event.event,
                _word(event.tool),
                _word(event.outcome),
                self.path,
                type(error).__name__,
                error.strerror,
            )


def recorded_id(batch_call_id: str) -> str:
    """An id as the record has it: a backend chose it, so only what prints, and at most 200 characters of it."""
    return shortened(batch_call_id, _ID_LENGTH)


def _line(at: datetime, event: Event) -> dict[str, Any]:
    values = {
        "at": at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "event": event.event,
        "caller": event.caller[:_CALLER_LENGTH],
        "tool": _word(event.tool),
        "operation": _word(event.operation),
        "backend": _word(event.backend),
        "batch_call_id": None if event.batch_call_id is None else recorded_id(event.batch_call_id),
        "calls": event.calls,
        "max_dials": event.max_dials,
        "outcome": _word(event.outcome),
        "seconds": round(event.seconds, 3) if event.seconds is not None and math.isfinite(event.seconds) else None,
        "write_id": event.write_id,
    }
    return {name: value for name, value in values.items() if value is not None}


def _word(text: str | None) -> str | None:
    return text if text is None or _WORD.fullmatch(text) else "?"


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, _OPENED, 0o600)
    try:
        # In one write, which the kernel puts behind what another process has just written.
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, "only a part of the line was written")
    finally:
        os.close(descriptor)


class Reading(Iterator[dict[str, Any]]):
    """The events of one file, oldest first, one in memory at a time.

    Raises:
        OSError: while iterating: the file is not there or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.skipped = 0
        """Lines so far that are no events: torn by a full disk or a crash, or not ours."""
        self._events = self._of(path)

    def __next__(self) -> dict[str, Any]:
        return next(self._events)

    def _of(self, path: Path) -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            for line in _lines(file):
                event = event_in(line)
                self.skipped += (event is None) or line.rfind(_BEGINNING) > 0
                if event is not None:
                    yield event


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Each line, or no more than the beginning of one that is too long to be an event."""
    while line := file.readline(LONGEST_LINE):
        rest = line
        while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE)
        yield line


def event_in(line: bytes) -> dict[str, Any] | None:
    """The event that a line holds; None if it holds no whole one. Pure."""
    # Behind the torn beginning of a line stands the next whole one. No value can look like the beginning of an event,
    # because its quotation marks are escaped.
    whole = line[max(line.rfind(_BEGINNING), 0) :]
    try:
        found = json.loads(whole.decode())
        aware = datetime.fromisoformat(found["at"]).tzinfo is not None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if aware and "event" in found and all(map(_is_plain, found.values())) else None


def _is_plain(value: object) -> bool:
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, str | int)
