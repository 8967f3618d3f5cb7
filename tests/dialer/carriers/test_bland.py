"""Bland: what its words mean, and how calls are placed there. Against a strict fake; not tried live."""

from __future__ import annotations

from typing import Any

import pytest

from batchcall_mcp.dialer.carriers.base import Outcome
from batchcall_mcp.dialer.carriers.vendors.bland import outcome_of
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.money import parse_money


def call(status: str | None = None, **members: Any) -> dict[str, Any]:
    """A call that is over, unless `members` say otherwise."""
    return {
        "call_id": "c1",
        "completed": True,
        "status": status,
        "queue_status": "complete",
        "answered_by": None,
        "error_message": None,
        "call_length": 0.0,
        "corrected_duration": "0",
        "price": None,
        "summary": None,
        **members,
    }


@pytest.mark.parametrize(
    "read",
    [
        call(None, completed=False, queue_status="new"),
        call("unknown", completed=False, queue_status="queued"),
        call("unknown", completed=False, queue_status="started", answered_by="human"),
        call("completed", completed=False, call_length=1.0),
        {"status": "error", "message": "?"},
    ],
)
def test_a_call_goes_on_as_long_as_completed_says_so(read: dict[str, Any]) -> None:
    assert outcome_of(read) is None


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        *(
            pytest.param(
                call("completed", answered_by=by, corrected_duration="42", price=0.068, summary="Yes."),
                Outcome(
                    TaskStatus.COMPLETED,
                    duration_seconds=42,
                    answered_by="human" if by == "human" else None,
                    backend_status="completed",
                    cost=parse_money("0.068 USD"),
                    summary="Yes.",
                ),
                id=f"completed, answered by {by}: completed",
            )
            for by in ("human", "unknown", None)
        ),
        pytest.param(
            call(None, answered_by="human", call_length=0.5, corrected_duration=None),
            Outcome(TaskStatus.COMPLETED, duration_seconds=30, answered_by="human", backend_status="complete"),
            id="without a status, and with minutes alone: completed",
        ),
        pytest.param(
            call("completed", queue_status="started", answered_by="voicemail", corrected_duration="9"),
            Outcome(TaskStatus.VOICEMAIL, duration_seconds=9, answered_by="machine", backend_status="completed"),
            id="answered by voicemail, and completed is ahead of the queue: voicemail",
        ),
        pytest.param(
            call("no-answer"), Outcome(TaskStatus.NO_ANSWER, backend_status="no-answer"), id="no-answer: no_answer"
        ),
        pytest.param(
            call("completed", answered_by="no-answer", corrected_duration="20"),
            Outcome(TaskStatus.NO_ANSWER, backend_status="completed"),
            id="answered by no-answer: no_answer",
        ),
        pytest.param(call("busy"), Outcome(TaskStatus.BUSY, backend_status="busy"), id="busy: busy"),
        pytest.param(
            call("busy", answered_by="no-answer"),
            Outcome(TaskStatus.BUSY, backend_status="busy"),
            id="busy, and nobody answered: busy",
        ),
        pytest.param(
            call("failed", error_message="The number is not in service.", price=0.015),
            Outcome(
                TaskStatus.FAILED,
                "The number is not in service.",
                backend_status="failed",
                cost=parse_money("0.015 USD"),
            ),
            id="failed: failed",
        ),
        pytest.param(
            call("failed", completed=False, queue_status="started"),
            Outcome(TaskStatus.FAILED, "Bland calls this call failed", backend_status="failed"),
            id="failed, not completed: failed",
        ),
        pytest.param(
            call(None, completed=False, queue_status="error", error_message="No credit"),
            Outcome(TaskStatus.FAILED, "No credit", backend_status="error"),
            id="an error in the queue: failed",
        ),
        pytest.param(
            call("unknown", completed=False, queue_status="error"),
            Outcome(TaskStatus.FAILED, "Bland calls this call error", backend_status="error"),
            id="an error in the queue, status unknown: failed",
        ),
        pytest.param(
            call("unknown"),
            Outcome(TaskStatus.FAILED, "Bland calls this call unknown", backend_status="unknown"),
            id="unknown: failed",
        ),
        pytest.param(
            call("canceled"),
            Outcome(TaskStatus.FAILED, "Bland calls this call canceled", backend_status="canceled"),
            id="canceled, not by us: failed",
        ),
        pytest.param(
            call("failed", corrected_duration="7", answered_by="human", error_message="LLM error"),
            Outcome(
                TaskStatus.FAILED,
                "answered, then: LLM error",
                duration_seconds=7,
                answered_by="human",
                permanent=True,
                backend_status="failed",
            ),
            id="failed after it was answered: nobody is rung twice for that",
        ),
        pytest.param(
            call("transferred", corrected_duration="7"),
            Outcome(
                TaskStatus.COMPLETED,
                "Bland calls this call transferred",
                duration_seconds=7,
                permanent=True,
                backend_status="transferred",
            ),
            id="a word nobody knows, answered: completed",
        ),
        pytest.param(
            call("dropped"),
            Outcome(TaskStatus.FAILED, "Bland calls this call dropped", permanent=True, backend_status="dropped"),
            id="a word nobody knows, not answered: failed",
        ),
    ],
)
def test_a_word_of_theirs_as_ours(read: dict[str, Any], expected: Outcome) -> None:
    assert outcome_of(read) == expected
