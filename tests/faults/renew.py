"""Writes the tables of docs/guarantees.md anew from what is observed; `git diff` then shows which promise changed."""

from __future__ import annotations

import tempfile
from unittest import mock

import anyio

from tests.faults.matrix import FAULTS
from tests.faults.observing import observe, sweep
from tests.faults.page import (
    FAULTS_BEGIN,
    FAULTS_HEADER,
    PAGE,
    STATUSES_BEGIN,
    STATUSES_HEADER,
    ranges,
    renewed,
    row,
)


async def tables() -> tuple[list[str], list[str]]:
    """The rows of both."""
    faults = [row(fault.name, await observe(fault)) for fault in FAULTS]
    statuses = {status: row(str(status), cells) for status, cells in (await sweep(range(300, 600))).items()}
    return faults, ranges(statuses)


def main() -> None:
    """Observe everything once more."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict("os.environ", {"BATCHCALL_DATA_DIR": folder}):
        faults, statuses = anyio.run(tables)
    page = PAGE.read_text(encoding="utf-8")
    page = renewed(page, FAULTS_BEGIN, FAULTS_HEADER, faults)
    page = renewed(page, STATUSES_BEGIN, STATUSES_HEADER, statuses)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
