"""A vendor's words for states: what a second member adds, and what it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from batchcall_mcp.model import TaskStatus
from batchcall_mcp.vendor_http.status_map import StatusMap

WORDS = StatusMap(
    {"ended": TaskStatus.COMPLETED, "pending": TaskStatus.PENDING},
    TaskStatus.UNKNOWN,
    refine=("reason", {"busy": TaskStatus.BUSY}),
)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"status": "pending"}, (TaskStatus.PENDING, None)),
        ({"status": "Ended"}, (TaskStatus.COMPLETED, "Ended")),
        ({"status": "ended", "reason": "Busy"}, (TaskStatus.BUSY, "ended: Busy")),
        ({"status": "ended", "reason": "hung up"}, (TaskStatus.COMPLETED, "ended: hung up")),
        ({"status": "teleported", "reason": "busy"}, (TaskStatus.UNKNOWN, "teleported: busy")),
        ({"reason": "busy"}, (TaskStatus.UNKNOWN, "busy")),
        ({}, (TaskStatus.UNKNOWN, None)),
    ],
)
def test_a_second_member_says_more_of_a_known_word_and_nothing_of_an_unknown_one(
    row: dict[str, Any], expected: tuple[TaskStatus, str | None]
) -> None:
    assert WORDS.read(row) == expected
