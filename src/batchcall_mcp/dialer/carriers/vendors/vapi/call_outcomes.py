"""How a call at Vapi ended, by its `endedReason`: some 600 words, in patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from batchcall_mcp.dialer.carriers.base import AccountAtFault, CarrierUnavailable, Outcome
from batchcall_mcp.dialer.carriers.hooks.endings import (
    BROKE,
    BUSY,
    NO_ANSWER,
    NOT_PLACED,
    TALKED,
    VOICEMAIL,
    End,
    of_unknown_word,
)
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.vendor_http.json_values import inside, moment, text, usd

_OVER_LIMIT: Final = "call.start.error-subscription-concurrency-limit-reached"
_NOT_STARTED: Final = ("call.start.*", "call-start-error-*")
_AT_FAULT: Final = (*_NOT_STARTED, "assistant-not-*", "assistant-request-*")
"""Who has answered is not rung again for the last two."""
_WRONG_NUMBER: Final = End(TaskStatus.FAILED, never_again=True, why="this number cannot be called from here")
_STOPPED: Final = End(TaskStatus.INTERRUPTED, why="the call was stopped at Vapi")
_ENDS: Final[tuple[tuple[End, tuple[str, ...]], ...]] = (
    (VOICEMAIL, ("voicemail",)),
    (BUSY, ("customer-busy",)),
    (NO_ANSWER, ("customer-did-not-answer", "*-outbound-sip-480-*", "*-outbound-sip-408-*")),
    (_WRONG_NUMBER, ("twilio-reported-customer-misdialed", "*-vapi-number-international")),
    (TALKED, ("customer-ended-call*", "assistant-ended-*", "assistant-said-end-call-phrase")),
    (TALKED, ("assistant-forwarded-call", "silence-timed-out", "exceeded-max-duration", "*-completed-call")),
    (TALKED, ("vonage-completed", "call.ending.*", "call.forwarding.*")),
    (NOT_PLACED, ("twilio-failed-to-connect-call", "vonage-failed-to-connect-call", "vonage-rejected")),
    (NOT_PLACED, ("*sip-outbound-call-failed-to-connect", "*-outbound-sip-*")),
    (_STOPPED, ("manually-canceled", "call-deleted", "scheduled-call-deleted")),
    (BROKE, ("pipeline-error-*", "call.in-progress.error-*", "worker-shutdown")),
    (BROKE, ("phone-call-provider-closed-websocket",)),
)
"""By pattern; the first that fits."""


def outcome_of(call: Mapping[str, Any]) -> Outcome | CarrierUnavailable | AccountAtFault:
    """How a call ended, by its `endedReason`. An exception: nobody was rung. Pure."""
    word = text(call.get("endedReason"), 200) or text(call.get("status"), 100) or "nothing"
    began, ended = moment(call.get("startedAt")), moment(call.get("endedAt"))
    lasted = max((ended - began).total_seconds(), 0) if began and ended else 0
    known = next((end for end, patterns in _ENDS if _fits(word, patterns)), None)
    if word == _OVER_LIMIT or (fnmatchcase(word, "*worker-not-available") and not lasted):
        return CarrierUnavailable(f"Vapi has no free line ({word})", whole_account=True)
    if known is None and _fits(word, _NOT_STARTED if lasted else _AT_FAULT):
        return AccountAtFault(
            f"Vapi: no call can be placed from this account as it is ({word}). Correct it, then resume."
        )
    end = known or of_unknown_word("Vapi", lasted)
    return end.outcome(word, lasted, cost=usd(call.get("cost")), summary=text(inside(call, "analysis.summary")))


def _fits(word: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(word, pattern) for pattern in patterns)
