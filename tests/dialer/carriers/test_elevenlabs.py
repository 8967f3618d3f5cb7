"""ElevenLabs: what its words mean, and how calls are placed there. Against a strict fake; not tried live."""

from __future__ import annotations

from typing import Any

import pytest

from batchcall_mcp.dialer.carriers.base import Outcome
from batchcall_mcp.dialer.carriers.vendors.elevenlabs import failure_of, outcome_of
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.money import parse_money


def conversation(status: str, **metadata: Any) -> dict[str, Any]:
    """A conversation with what its document requires."""
    required = {"start_time_unix_secs": 1_790_000_000, "call_duration_secs": 0, "cost": None, "cost_fiat": None}
    return {
        "agent_id": "agent_1",
        "status": status,
        "conversation_id": "conv_1",
        "metadata": {**required, "termination_reason": "", **metadata},
        "transcript": [],
        "analysis": None,
    }


def voicemail_detection(*, used: bool) -> dict[str, Any]:
    return {"voicemail_detection": {"enabled": True, "used": used}}


@pytest.mark.parametrize("status", ["initiated", "in-progress", "processing"])
def test_a_call_goes_on(status: str) -> None:
    assert outcome_of(conversation(status, call_duration_secs=12)) is None


def test_an_answer_without_a_status_says_nothing() -> None:
    assert outcome_of({"detail": "?"}) is None


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        pytest.param(
            conversation("done", call_duration_secs=42, cost=310, cost_fiat=0.0625),
            Outcome(TaskStatus.COMPLETED, duration_seconds=42, backend_status="done", cost=parse_money("0.0625 USD")),
            id="done: completed",
        ),
        pytest.param(
            conversation("done", call_duration_secs=42, features_usage=voicemail_detection(used=False)),
            Outcome(TaskStatus.COMPLETED, duration_seconds=42, answered_by="human", backend_status="done"),
            id="done, and voicemail would have been seen: completed by a person",
        ),
        pytest.param(
            conversation("done", call_duration_secs=9, features_usage=voicemail_detection(used=True)),
            Outcome(TaskStatus.VOICEMAIL, duration_seconds=9, answered_by="machine", backend_status="done"),
            id="done, voicemail was detected: voicemail",
        ),
        pytest.param(
            conversation("failed", call_duration_secs=9, features_usage=voicemail_detection(used=True)),
            Outcome(TaskStatus.VOICEMAIL, duration_seconds=9, answered_by="machine", backend_status="failed"),
            id="failed after voicemail was detected: voicemail",
        ),
        *(
            pytest.param(
                conversation("failed", **words),
                Outcome(expected, backend_status="failed"),
                id=f"failed, {words}: {expected}",
            )
            for words, expected in [
                ({"termination_reason": "Line busy"}, TaskStatus.BUSY),
                ({"error": {"code": 1, "reason": "busy"}}, TaskStatus.BUSY),
                ({"termination_reason": "no-answer"}, TaskStatus.NO_ANSWER),
                ({"error": {"code": 1, "reason": "No answer"}}, TaskStatus.NO_ANSWER),
                ({"phone_call": {"call_result": "no_answer"}}, TaskStatus.NO_ANSWER),
            ]
        ),
        pytest.param(
            conversation("failed"),
            Outcome(TaskStatus.FAILED, "ElevenLabs does not say why", backend_status="failed"),
            id="failed without words: failed, and no no_answer is invented",
        ),
        pytest.param(
            conversation("failed", termination_reason="Agent could not join", error={"code": 3000, "reason": "quota"}),
            Outcome(TaskStatus.FAILED, "quota; Agent could not join", backend_status="failed"),
            id="failed else: failed, with the words",
        ),
        pytest.param(
            conversation("failed", call_duration_secs=7, termination_reason="LLM error"),
            Outcome(
                TaskStatus.FAILED,
                "answered, then: LLM error",
                duration_seconds=7,
                permanent=True,
                backend_status="failed",
            ),
            id="failed after it was answered: nobody is rung twice for that",
        ),
        pytest.param(
            conversation("moved", call_duration_secs=5),
            Outcome(
                TaskStatus.COMPLETED,
                "ElevenLabs calls this call moved",
                duration_seconds=5,
                permanent=True,
                backend_status="moved",
            ),
            id="a word nobody knows, answered: completed",
        ),
        pytest.param(
            conversation("moved"),
            Outcome(TaskStatus.FAILED, "ElevenLabs calls this call moved", permanent=True, backend_status="moved"),
            id="a word nobody knows, not answered: failed",
        ),
    ],
)
def test_a_word_of_theirs_as_ours(read: dict[str, Any], expected: Outcome) -> None:
    assert outcome_of(read) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"failure_reason": "busy", "metadata": {"type": "twilio", "body": {}}}, TaskStatus.BUSY),
        ({"failure_reason": "no-answer", "metadata": {"type": "twilio", "body": {}}}, TaskStatus.NO_ANSWER),
        ({"failure_reason": "unknown", "metadata": {"body": {"CallStatus": "busy"}}}, TaskStatus.BUSY),
        ({"failure_reason": "unknown", "metadata": {"body": {"CallStatus": "no-answer"}}}, TaskStatus.NO_ANSWER),
        ({"failure_reason": "unknown", "metadata": {"body": {"sip_status_code": 486}}}, TaskStatus.BUSY),
        ({"failure_reason": "unknown", "metadata": {"body": {"sip_status_code": 480}}}, TaskStatus.NO_ANSWER),
        ({"failure_reason": "unknown", "metadata": {"body": {"sip_status_code": 503}}}, TaskStatus.FAILED),
        ({"failure_reason": "unknown", "metadata": {"body": {"CallStatus": "failed"}}}, TaskStatus.FAILED),
        ({}, TaskStatus.FAILED),
        ({"failure_reason": 7, "metadata": ["?"]}, TaskStatus.FAILED),
    ],
)
def test_a_call_that_could_not_begin_by_its_webhook(data: dict[str, Any], expected: TaskStatus) -> None:
    assert failure_of(data).status is expected
    assert not failure_of(data).permanent
