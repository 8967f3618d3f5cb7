"""How a call at Bland ended, by members of which `completed` is ahead of every other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from batchcall_mcp.dialer.carriers.base import Outcome, OutcomeStatus
from batchcall_mcp.model import AnsweredBy, TaskStatus
from batchcall_mcp.vendor_http.json_values import seconds, text, usd

WAITS: Final = frozenset({"new", "queued", "allocated"})
"""Of `queue_status`: Bland has not begun to dial."""
NOT_OVER: Final = WAITS | {"started"}
BROKEN: Final = frozenset({"error", "call_error", "queue_error", "pre_queue_error"})
_UNREACHED: Final = frozenset({"busy", "no-answer", "failed", "canceled"})
_ANSWERED: Final[Mapping[str, AnsweredBy]] = {"human": "human", "voicemail": "machine"}
_ENDS: Final[Mapping[str, OutcomeStatus]] = {
    **dict.fromkeys(("completed", "complete"), TaskStatus.COMPLETED),
    **dict.fromkeys(("failed", "canceled", "unknown", *BROKEN), TaskStatus.FAILED),
    "busy": TaskStatus.BUSY,
    "no-answer": TaskStatus.NO_ANSWER,
}


def outcome_of(call: Mapping[str, Any]) -> Outcome | None:
    """How a call ended; None: it goes on. Pure. `completed` is ahead of every other member."""
    word, queue, answered_by = (word_of(call, name) for name in ("status", "queue_status", "answered_by"))
    if call.get("completed") is not True and not (word in _UNREACHED or queue in BROKEN):
        return None
    if word is None or word in NOT_OVER or (word == "unknown" and queue in BROKEN):
        word = queue
    known, talked = _ENDS.get(word or ""), _seconds_of(call)
    status = known or (TaskStatus.COMPLETED if talked else TaskStatus.FAILED)
    if answered_by == "voicemail":
        status = TaskStatus.VOICEMAIL
    elif answered_by == "no-answer" and status is not TaskStatus.BUSY:
        status = TaskStatus.NO_ANSWER
    error = None
    if status is TaskStatus.FAILED:
        error = text(call.get("error_message")) or f"Bland calls this call {word or 'completed, and nothing else'}"
        error = f"answered, then: {error}" if talked else error
    elif known is None and status is TaskStatus.COMPLETED:
        error = f"Bland calls this call {word}"
    return Outcome(
        status,
        error,
        duration_seconds=None if status in {TaskStatus.BUSY, TaskStatus.NO_ANSWER} else talked,
        answered_by=_ANSWERED.get(answered_by or ""),
        permanent=(status is TaskStatus.FAILED and talked is not None) or (known is None and error is not None),
        backend_status=word,
        cost=usd(call.get("price")),
        summary=text(call.get("summary")),
    )


def word_of(call: Mapping[str, Any], name: str) -> str | None:
    """A member that is a word, in lower case."""
    word = text(call.get(name), 100)
    return word and word.lower()


def _seconds_of(call: Mapping[str, Any]) -> float | None:
    """How long it was connected: seconds as text, or minutes; None: not at all."""
    exact = text(call.get("corrected_duration"), 20) or ""
    if exact.replace(".", "", 1).isdecimal():
        return seconds(float(exact)) or None
    minutes = seconds(call.get("call_length"))
    return seconds((minutes or 0) * 60) or None
