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
from batchcall_mcp.wording import harmless_cell

_COLUMNS = ("batch_call_id", "to_number", "name", "reached", "status")


class PeopleFile:
    """`stopped-<time>.csv` in the data folder, readable by its owner only; made when the first person is added."""

    def __init__(self, data_dir: Path) -> None:
        self.path: Path | None = None
        self._data_dir = data_dir
        self._file: TextIO | None = None
        self._counts: Counter[Reached] = Counter()

    def add(self, batch_call_id: str, task: CallTask) -> None:
        """Write down one person.

        Raises:
            OSError: the file cannot be written.
        """
        if self._file is None:
            self.path = self._data_dir / f"stopped-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.csv"
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(handle, "w", encoding="utf-8", newline="")
            csv.writer(self._file).writerow(_COLUMNS)
        where = reached(task)
        self._counts[where] += 1
        cells = (batch_call_id, task.to_number, task.name or "", where, task.status or "")
        csv.writer(self._file).writerow([harmless_cell(str(cell)) for cell in cells])

    def counted(self) -> str:
        """The counts, in one sentence."""
        known: tuple[Reached, ...] = ("called", "in a call", "never called")
        told = [f"{self._counts[where]} {where}" for where in known]
        if self._counts["not known"]:
            told.append(f"{self._counts['not known']} not known")
        return f"People: {', '.join(told)}."

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()
