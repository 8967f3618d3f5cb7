"""How a call at Vapi ended, word by word: each row of the table of outcomes, and words of its own list."""

from __future__ import annotations

import re

import pytest

from batchcall_mcp.dialer.carriers.base import AccountAtFault, CarrierUnavailable, Outcome
from batchcall_mcp.dialer.carriers.vendors.vapi.call_outcomes import outcome_of
from batchcall_mcp.model import TaskStatus

TALKED = (
    *("customer-ended-call", "customer-ended-call-before-warm-transfer", "customer-ended-call-during-transfer"),
    *("customer-ended-call-after-warm-transfer-attempt", "assistant-ended-call", "assistant-said-end-call-phrase"),
    *("assistant-ended-call-with-hangup-task", "assistant-ended-call-after-message-spoken"),
    *("assistant-forwarded-call", "silence-timed-out", "exceeded-max-duration", "vonage-completed"),
    *("call.in-progress.twilio-completed-call", "call.in-progress.sip-completed-call"),
    *("call.ending.hook-executed-say", "call.ending.hook-executed-transfer"),
    *("call.forwarding.operator-busy", "call.forwarding.no-answer"),
)
NOT_PLACED = (
    *("twilio-failed-to-connect-call", "vonage-failed-to-connect-call", "vonage-rejected"),
    "call.in-progress.error-sip-outbound-call-failed-to-connect",
    "call.in-progress.error-providerfault-outbound-sip-403-forbidden",
    "call.in-progress.error-providerfault-outbound-sip-407-proxy-authentication-required",
    "call.in-progress.error-providerfault-outbound-sip-503-service-unavailable",
)
BROKE = (
    "pipeline-error-openai-llm-failed",
    "call.in-progress.error-vapifault-worker-died",
    "call.in-progress.error-assistant-did-not-receive-customer-audio",
    "call.in-progress.error-providerfault-transport-never-connected",
    *("worker-shutdown", "phone-call-provider-closed-websocket"),
)
ROWS = [
    *((word, TaskStatus.COMPLETED, False) for word in TALKED),
    ("voicemail", TaskStatus.VOICEMAIL, False),
    ("customer-busy", TaskStatus.BUSY, False),
    ("customer-did-not-answer", TaskStatus.NO_ANSWER, False),
    ("call.in-progress.error-providerfault-outbound-sip-480-temporarily-unavailable", TaskStatus.NO_ANSWER, False),
    ("call.in-progress.error-providerfault-outbound-sip-408-request-timeout", TaskStatus.NO_ANSWER, False),
    ("twilio-reported-customer-misdialed", TaskStatus.FAILED, True),
    ("call.start.error-vapi-number-international", TaskStatus.FAILED, True),
    *((word, TaskStatus.FAILED, False) for word in NOT_PLACED),
    *((word, TaskStatus.FAILED, True) for word in BROKE),
    ("manually-canceled", TaskStatus.INTERRUPTED, False),
    ("call-deleted", TaskStatus.INTERRUPTED, False),
    ("scheduled-call-deleted", TaskStatus.INTERRUPTED, False),
]
AT_FAULT = (
    "call.start.error-vapi-number-outbound-daily-limit",
    "call.start.error-subscription-frozen",
    "call.start.error-subscription-insufficient-credits",
    "call.start.error-subscription-wallet-does-not-exist",
    "call.start.error-fraud-check-failed",
    *("call.start.error-get-assistant", "call.start.error-get-phone-number", "call.start.error-get-transport"),
    "call.start.assistant-version-error-validation",
    "call-start-error-neither-assistant-nor-server-set",
    *("assistant-not-found", "assistant-not-valid", "assistant-request-failed", "assistant-request-returned-error"),
)


def ended(call: dict[str, object]) -> Outcome:
    seen = outcome_of(call)
    assert isinstance(seen, Outcome)
    return seen


@pytest.mark.parametrize(("word", "status", "permanent"), ROWS)
def test_each_word_has_its_outcome(word: str, status: TaskStatus, permanent: bool) -> None:
    """The word itself is kept, and why it failed names it."""
    found = ended({"status": "ended", "endedReason": word})

    assert (found.status, found.permanent, found.backend_status) == (status, permanent, word)
    assert (found.error is None) == (status not in {TaskStatus.FAILED, TaskStatus.INTERRUPTED})
    assert found.error is None or word in found.error
    assert found.answered_by == ("machine" if status is TaskStatus.VOICEMAIL else None)


@pytest.mark.parametrize(
    "word",
    [
        "call.start.error-subscription-concurrency-limit-reached",
        "call.in-progress.error-vapifault-worker-not-available",
    ],
)
def test_without_a_free_line_nobody_was_rung(word: str) -> None:
    """It is withdrawn and placed later, not failed."""
    seen = outcome_of({"status": "ended", "endedReason": word})
    assert isinstance(seen, CarrierUnavailable)
    assert word in str(seen)
    assert seen.whole_account


@pytest.mark.parametrize("word", AT_FAULT)
def test_what_every_call_would_end_like_is_the_accounts_fault(word: str) -> None:
    """The text says the word and what to do."""
    seen = outcome_of({"status": "ended", "endedReason": word})
    assert isinstance(seen, AccountAtFault)
    assert re.search(f"\\({word}\\).*resume", str(seen))


def test_whoever_was_talked_to_is_not_placed_again() -> None:
    """A worker that was gone after 31 seconds of talk: withdrawn, it would ring them a second time."""
    talked = {"startedAt": "2026-08-20T10:00:00.000Z", "endedAt": "2026-08-20T10:00:31.000Z"}
    found = ended({"endedReason": "call.in-progress.error-vapifault-worker-not-available", **talked})

    assert (found.status, found.permanent, found.duration_seconds) == (TaskStatus.FAILED, True, 31)


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ({"startedAt": "2026-08-20T10:00:00Z", "endedAt": "2026-08-20T10:00:31Z"}, TaskStatus.COMPLETED),
        ({"startedAt": "2026-08-20T10:00:31Z", "endedAt": "2026-08-20T10:00:00Z"}, TaskStatus.FAILED),
        ({"endedAt": "2026-08-20T10:00:00Z"}, TaskStatus.FAILED),
        ({"startedAt": [], "endedAt": {}, "cost": "much", "analysis": []}, TaskStatus.FAILED),
    ],
)
@pytest.mark.parametrize("word", ["reason-of-next-year", "vonage-disconnected", "assistant-join-timed-out"])
def test_an_unknown_word_is_an_answer_if_somebody_talked(word: str, row: dict[str, object], status: TaskStatus) -> None:
    """Nobody is dialled again for it, and the word stands in the error."""
    found = ended({"status": "ended", "endedReason": word, **row})

    assert (found.status, found.permanent, found.backend_status) == (status, True, word)
    assert word in str(found.error)


def test_what_was_measured_comes_along() -> None:
    """Seconds between the start and the end, dollars, and the summary."""
    row = {"startedAt": "2026-08-20T10:00:00.000Z", "endedAt": "2026-08-20T10:00:20.500Z", "cost": 0.1234}
    found = ended({"endedReason": "customer-ended-call", **row, "analysis": {"summary": "They come."}})

    assert (found.duration_seconds, str(found.cost), found.summary) == (20.5, "0.1234 USD", "They come.")
