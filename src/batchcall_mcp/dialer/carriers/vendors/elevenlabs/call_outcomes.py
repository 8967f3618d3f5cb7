"""How a conversation at ElevenLabs ended, or could not begin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from batchcall_mcp.dialer.carriers.base import Outcome, OutcomeStatus
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.vendor_http.json_values import inside, seconds, text, usd, whole

_GOES_ON: Final = frozenset({"initiated", "in-progress", "processing"})
_UNREACHED: Final[tuple[tuple[re.Pattern[str], OutcomeStatus], ...]] = (
    (re.compile(r"\bbusy\b"), TaskStatus.BUSY),
    (re.compile(r"\bno[-_ ]answer\b"), TaskStatus.NO_ANSWER),
)
_SIP: Final[Mapping[Any, OutcomeStatus]] = {
    **dict.fromkeys((486, 600), TaskStatus.BUSY),
    **dict.fromkeys((408, 480), TaskStatus.NO_ANSWER),
}


def outcome_of(conversation: Mapping[str, Any]) -> Outcome | None:
    """How a conversation ended; None: it goes on. Pure."""
    word, data = text(conversation.get("status"), 100), conversation.get("metadata")
    if word is None or word in _GOES_ON:
        return None
    talked = seconds(inside(data, "call_duration_secs")) or None
    result = text(inside(data, "phone_call.call_result"), 100)  # of newer documents
    said = "; ".join(filter(None, (text(inside(data, path)) for path in ("error.reason", "termination_reason"))))
    ended = Outcome(
        TaskStatus.COMPLETED,
        duration_seconds=talked,
        backend_status=word,
        cost=usd(inside(data, "cost_fiat")),
        summary=text(inside(conversation, "analysis.transcript_summary")),
    )
    if unreached := _unreached(result) or (_unreached(said) if word == "failed" and not talked else None):
        return replace(ended, status=unreached, duration_seconds=None)
    if inside(data, "features_usage.voicemail_detection.used") is True or result == "voicemail":
        return replace(ended, status=TaskStatus.VOICEMAIL, answered_by="machine")
    if word == "done":
        is_watched = inside(data, "features_usage.voicemail_detection.enabled") is True
        return replace(ended, answered_by="human" if is_watched else None)
    return _not_done(ended, word, said)


def _not_done(ended: Outcome, word: str, said: str) -> Outcome:
    """It failed, or has a word that no document has. Who answered is not rung again."""
    has_talked = ended.duration_seconds is not None
    if word == "failed":
        why = said or "ElevenLabs does not say why"
        error = f"answered, then: {why}" if has_talked else why
        return replace(ended, status=TaskStatus.FAILED, error=error, permanent=has_talked)
    status: OutcomeStatus = TaskStatus.COMPLETED if has_talked else TaskStatus.FAILED
    return replace(ended, status=status, error=f"ElevenLabs calls this call {word}", permanent=True)


def failure_of(data: Mapping[str, Any]) -> Outcome:
    """How a call ended that never began: `data` of the webhook `call_initiation_failure`. Pure."""
    reason, body = text(data.get("failure_reason"), 100), inside(data, "metadata.body")
    by_phone = text(inside(body, "CallStatus"), 100)
    status = _unreached(reason) or _unreached(by_phone) or _SIP.get(whole(inside(body, "sip_status_code")))
    why = ", ".join(filter(None, (reason, by_phone, text(inside(body, "error_reason"), 200))))
    if status is not None:
        return Outcome(status, backend_status=reason)
    return Outcome(TaskStatus.FAILED, f"the call could not begin ({why or 'unknown'})", backend_status=reason)


def _unreached(words: str | None) -> OutcomeStatus | None:
    found = (status for pattern, status in _UNREACHED if pattern.search((words or "").lower()))
    return next(found, None)
