"""How a call at Retell ended, word by word: each row of the table of outcomes."""

from __future__ import annotations

import re

import pytest

from batchcall_mcp.dialer.carriers.base import AccountAtFault, CarrierUnavailable, Outcome
from batchcall_mcp.dialer.carriers.vendors.retell import outcome_of
from batchcall_mcp.model import TaskStatus

TALKED = (
    *("user_hangup", "agent_hangup", "call_transfer", "transfer_bridged", "transfer_cancelled", "inactivity"),
    *("max_duration_reached", "user_requested_callback", "call_take_over", "ivr_reached"),
)
BROKE = (
    *("error_llm_websocket_open", "error_llm_websocket_lost_connection", "error_llm_websocket_runtime"),
    *("error_llm_websocket_corrupt_payload", "error_no_audio_received", "error_asr", "error_retell", "error_unknown"),
    *("error_user_not_joined", "error_of_next_year"),
)
ROWS = [
    *((word, TaskStatus.COMPLETED, False) for word in TALKED),
    ("voicemail_reached", TaskStatus.VOICEMAIL, False),
    ("dial_no_answer", TaskStatus.NO_ANSWER, False),
    ("dial_busy", TaskStatus.BUSY, False),
    ("user_declined", TaskStatus.NO_ANSWER, True),
    ("invalid_destination", TaskStatus.FAILED, True),
    ("marked_as_spam", TaskStatus.FAILED, True),
    ("network_blocked", TaskStatus.FAILED, True),
    ("scam_detected", TaskStatus.FAILED, True),
    ("telephony_provider_permission_denied", TaskStatus.FAILED, True),
    ("dial_failed", TaskStatus.FAILED, False),
    ("sip_routing_error", TaskStatus.FAILED, False),
    ("telephony_provider_unavailable", TaskStatus.FAILED, False),
    ("registered_call_timeout", TaskStatus.FAILED, False),
    *((word, TaskStatus.FAILED, True) for word in BROKE),
    ("manual_stopped", TaskStatus.INTERRUPTED, False),
]


def ended(call: dict[str, object]) -> Outcome:
    seen = outcome_of(call)
    assert isinstance(seen, Outcome)
    return seen


@pytest.mark.parametrize(("word", "status", "permanent"), ROWS)
def test_each_word_has_its_outcome(word: str, status: TaskStatus, permanent: bool) -> None:
    """The word itself is kept, and why it failed names it."""
    found = ended({"call_status": "ended", "disconnection_reason": word})

    assert (found.status, found.permanent, found.backend_status) == (status, permanent, word)
    assert found.opted_out is False
    plain = {TaskStatus.COMPLETED, TaskStatus.VOICEMAIL, TaskStatus.BUSY}
    assert found.error is None or word in found.error
    assert (found.error is None) == (status in plain or word == "dial_no_answer")


def test_who_asks_not_to_be_called_again_has_opted_out() -> None:
    """Even where the analysis takes them for a machine."""
    row = {"call_status": "ended", "disconnection_reason": "user_requested_dnc", "duration_ms": 4000}

    for more in ({}, {"call_analysis": {"in_voicemail": True}}):
        found = ended({**row, **more})
        assert (found.status, found.opted_out, found.permanent) == (TaskStatus.COMPLETED, True, True)


@pytest.mark.parametrize("word", ["concurrency_limit_reached", "no_concurrency_fallback"])
def test_without_a_free_line_nobody_was_rung(word: str) -> None:
    """It is withdrawn and placed later, not failed."""
    seen = outcome_of({"call_status": "not_connected", "disconnection_reason": word, "duration_ms": 0})
    assert isinstance(seen, CarrierUnavailable)
    assert word in str(seen)
    assert seen.whole_account


@pytest.mark.parametrize("word", ["no_valid_payment", "credit_exhausted", "budget_reached"])
def test_without_credit_the_account_is_at_fault(word: str) -> None:
    """The text says what to do."""
    seen = outcome_of({"call_status": "error", "disconnection_reason": word})
    assert isinstance(seen, AccountAtFault)
    assert re.search(f"cannot pay for calls \\({word}\\).*resume", str(seen))


@pytest.mark.parametrize("word", ["credit_exhausted", "budget_reached", "no_valid_payment", "no_concurrency_fallback"])
def test_whoever_was_talked_to_is_not_placed_again(word: str) -> None:
    """The credit ended in the middle of the call: withdrawn, it would ring them a second time."""
    found = ended({"call_status": "ended", "disconnection_reason": word, "duration_ms": 31_000})

    assert (found.status, found.permanent, found.duration_seconds) == (TaskStatus.FAILED, True, 31)
    assert found.error == f"answered, then the call broke ({word})"


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ({"disconnection_reason": "of_next_year", "duration_ms": 1500}, TaskStatus.COMPLETED),
        ({"disconnection_reason": "of_next_year", "duration_ms": 0}, TaskStatus.FAILED),
        ({"disconnection_reason": "of_next_year"}, TaskStatus.FAILED),
        ({"duration_ms": 9}, TaskStatus.COMPLETED),
        ({"disconnection_reason": None}, TaskStatus.FAILED),
        ({"disconnection_reason": ["?"], "duration_ms": "?", "call_cost": 3, "call_analysis": [1]}, TaskStatus.FAILED),
    ],
)
def test_an_unknown_word_is_an_answer_if_somebody_talked(row: dict[str, object], status: TaskStatus) -> None:
    """Nobody is dialled again for it, and the word stands in the error."""
    found = ended({"call_status": "ended", **row})

    assert (found.status, found.permanent) == (status, True)
    assert str(found.backend_status) in str(found.error)


def test_what_was_measured_comes_along() -> None:
    """Milliseconds, cents, and what the analysis says of who answered."""
    analysis = {"call_summary": "They come.\n", "in_voicemail": False}
    row = {"call_status": "ended", "disconnection_reason": "agent_hangup", "duration_ms": 20_500}
    found = ended({**row, "call_cost": {"combined_cost": 12.34}, "call_analysis": analysis})

    assert (found.duration_seconds, found.answered_by, found.summary) == (20.5, "human", "They come.")
    assert str(found.cost) == "0.1234 USD"


def test_an_agent_that_talked_to_a_machine_reached_nobody() -> None:
    """The analysis hears it where the agent does not."""
    row = {"disconnection_reason": "agent_hangup", "duration_ms": 9000, "call_analysis": {"in_voicemail": True}}
    found = ended(row)

    assert (found.status, found.answered_by, found.permanent) == (TaskStatus.VOICEMAIL, "machine", False)
