"""The carrier that needs nothing and rings no phone. The last digit of the number chooses what happens."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from batchcall_mcp.clock import Clock, utc_now
from batchcall_mcp.dialer.carriers.base import SIMULATED, Attempt, CarrierUnavailable, Line, Outcome
from batchcall_mcp.held_files import HeldFile
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.recipients.phone.spellings import FORGOTTEN

RINGING: Final = 2.0
TALK: Final = 20.0
SHORT_TALK: Final = 3.0
NO_ANSWER: Final = 20.0
VOICEMAIL: Final = 8.0
BUSY: Final = 0.5
FAILED: Final = 0.2
CARRIER_RECORD: Final = "carrier.jsonl"
"""Its record, in the data folder."""
_LINE: Final = re.compile(rb'"at": "([^"\n]*)".*"to_number": "([^"\n]*)')
OPTS_OUT: Final = "44"
"""The last two digits of a person who does not want to be called again."""


def simulate(to_number: str, n: int) -> tuple[Outcome, float]:
    """What attempt `n` at a number comes to, and after how many seconds at speed 1.

    Last digit 0-3: answered. 4: answered, and the far end hangs up early. 5: answered, five times as long. 6: no answer
    the first time, answered after. 7: busy. 8: voicemail. 9: failed. Last two digits 44: they opt out during the call.
    Whoever answers with 0 or 1 presses the key 1, with 2 or 3 the key 2.
    """
    if to_number.endswith(OPTS_OUT):
        return _OPTED_OUT
    if to_number.endswith("6") and n > 1:
        return _ANSWERED
    return _BY_DIGIT.get(to_number[-1], _ANSWERED)


def _talked(seconds: float, choice: str | None = None, *, opted_out: bool = False) -> tuple[Outcome, float]:
    outcome = Outcome(
        TaskStatus.COMPLETED,
        opted_out=opted_out,
        duration_seconds=seconds,
        answered_by="human",
        choice=choice,
    )
    return outcome, RINGING + seconds


_ANSWERED: Final = _talked(TALK)
_OPTED_OUT: Final = _talked(SHORT_TALK, opted_out=True)
_BY_DIGIT: Final = {
    **{digit: _talked(TALK, "1") for digit in "01"},
    **{digit: _talked(TALK, "2") for digit in "23"},
    "4": _talked(SHORT_TALK),
    "5": _talked(5 * TALK),
    "6": (Outcome(TaskStatus.NO_ANSWER), NO_ANSWER),
    "7": (Outcome(TaskStatus.BUSY), BUSY),
    "8": (Outcome(TaskStatus.VOICEMAIL, duration_seconds=VOICEMAIL - RINGING, answered_by="machine"), VOICEMAIL),
    "9": (Outcome(TaskStatus.FAILED, "the simulated carrier could not place the call"), FAILED),
}


def in_record(path: Path, is_theirs: Callable[[str, str], bool], *, change: bool) -> int:
    """In how many lines of a record is the number, by itself and the line's time, somebody's; `change`: overwrite it.

    Processes keep the file open, and only ever append to it: what stands in it is overwritten where it stands.

    Raises:
        OSError: it cannot be read or written.
    """
    found, at = 0, 0
    try:
        file = path.open("r+b" if change else "rb")
    except FileNotFoundError:
        return 0
    with file:
        for line in iter(file.readline, b""):
            read = _LINE.search(line)
            if read is not None and is_theirs(read[2].decode(errors="replace"), read[1].decode(errors="replace")):
                found += 1
                if change:
                    there, length = file.tell(), len(read[2])
                    file.seek(at + read.start(2))
                    file.write(FORGOTTEN.encode().ljust(length, b"-")[:length])
                    file.seek(there)
            at += len(line)
        if change and found:
            file.flush()
            os.fsync(file.fileno())
    return found


class SimulatedCarrier:
    """Deterministic. Every dial is one JSON line in `record`, written with one append when it is placed."""

    name = SIMULATED
    title = "the simulated carrier"
    places_real_calls = False
    calls_per_second: float | None = None
    calls_outlive_us = False

    def __init__(self, record: Path, *, speed: float, capacity: int = 50, clock: Clock = utc_now) -> None:
        self.capacity = capacity
        self._speed = speed
        self._clock = clock
        self._record = record
        self._opened: int | None = None
        self._held: HeldFile | None = None
        self._cut_short = False

    def dial(self, attempt: Attempt) -> None:
        line = {
            "at": self._clock().isoformat(),
            "attempt_id": attempt.attempt_id,
            "to_number": attempt.to_number,
        }
        try:
            if self._opened is None:
                self._record.parent.mkdir(parents=True, exist_ok=True)
                self._opened = os.open(self._record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                self._held = HeldFile.opened(self._record, self._opened)
            # A line that a full disk cut short does not count as a dial; the next one begins on a new line.
            start = "\n" if self._cut_short else ""
            written = f"{start}{json.dumps(line)}\n".encode()
            self._cut_short = os.write(self._opened, written) < len(written)
        except OSError as error:
            raise CarrierUnavailable(f"its record cannot be written ({error.strerror})") from error
        if self._cut_short:
            raise CarrierUnavailable("its record cannot be written (the disk is full)")

    def held_file(self) -> HeldFile | None:
        """Its record, once it has dialled."""
        return self._held

    async def outcome(self, attempt: Attempt, line: Line) -> Outcome:  # noqa: ARG002 - `dial` was all
        outcome, seconds = simulate(attempt.to_number, attempt.n)
        await asyncio.sleep(seconds / self._speed)
        return outcome

    def close(self) -> None:
        """Close the record."""
        if self._opened is not None:
            os.close(self._opened)
            self._opened = self._held = None
