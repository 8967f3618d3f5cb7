"""Whom an emergency stop leaves where: three counts, and a file that lists the people of each."""

from __future__ import annotations

import csv
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from batchcall_mcp.batch_calls.emergency import Reached, reached
from batchcall_mcp.model import CallTask
from batchcall_mcp.text import harmless_cell

_COLUMNS = ("batch_call_id", "to_number", "name", "reached", "status")


class PeopleFile:
    """`stopped-<time>.csv` in the data folder, readable by its owner only; made when the first person is added."""

    def __init__(self, data_dir: Path) -> None:
        self.path: Path | None = None
        self._data_dir = data_dir
        self._file: TextIO | None = None
        self._counts: Counter[Reached] = Counter()

    def add(self, batch_call_id: str, task: CallTask) -> None:
        if self._file is None:
            path = self._data_dir / f"stopped-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.csv"
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            # A backend may send half a character, which no file holds.
            self._file = os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="")
            self.path = path
            csv.writer(self._file).writerow(_COLUMNS)
        where = reached(task)
        cells = (batch_call_id, task.to_number, task.name or "", where, task.status or "")
        try:
            csv.writer(self._file).writerow([harmless_cell(str(cell)) for cell in cells])
        except OSError:
            self.path = None
            raise
        self._counts[where] += 1

    def counted(self) -> str:
        known: tuple[Reached, ...] = ("called", "in a call", "never called")
        counts = [f"{self._counts[where]} {where}" for where in known]
        if self._counts["not known"]:
            counts.append(f"{self._counts['not known']} not known")
        return f"People: {', '.join(counts)}."

    def finish(self) -> None:
        """Have all of it on the disk; a file that could not be written whole is not named."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError:
                self.path = None
                raise
