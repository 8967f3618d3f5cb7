"""The simulated carrier."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier, simulate
from batchcall_mcp.model import TaskStatus
from tests.dialer.conftest import CALLER, Clock
from tests.dialer.wire import NewLine


@pytest.mark.parametrize(
    ("digit", "n", "status", "seconds"),
    [
        *((digit, 1, "completed", 22) for digit in "0123"),
        ("4", 1, "completed", 5),
        ("5", 1, "completed", 102),
        ("6", 1, "no_answer", 20),
        ("6", 2, "completed", 22),
        ("7", 1, "busy", 0.5),
        ("7", 2, "busy", 0.5),
        ("8", 1, "voicemail", 8),
        ("9", 1, "failed", 0.2),
    ],
)
def test_the_last_digit_chooses(digit: str, n: int, status: str, seconds: float) -> None:
    """The outcome, and how long it takes at speed 1."""
    outcome, takes = simulate(f"+1213200000{digit}", n)
    assert (outcome.status.value, takes) == (status, seconds)
    assert (outcome.error is not None) == (status == "failed")


async def test_every_dial_is_one_line_written_when_it_is_placed(tmp_path: Path, clock: Clock) -> None:
    """Before its outcome is known, and added to what earlier processes wrote."""
    record = tmp_path / "carrier.jsonl"
    attempt = Attempt(task_id="task_a", n=2, batch_call_id="b", from_number=CALLER, to_number="+12132000000")
    for _ in range(2):
        carrier = SimulatedCarrier(record, speed=10_000, clock=clock)
        carrier.dial(attempt)
        carrier.close()
    line = {"at": "2026-11-23T20:00:00+00:00", "attempt_id": "task_a:2", "to_number": "+12132000000"}
    assert [json.loads(text) for text in record.read_text().splitlines()] == [line, line]
    assert (await carrier.outcome(attempt, NewLine())).status is TaskStatus.COMPLETED
