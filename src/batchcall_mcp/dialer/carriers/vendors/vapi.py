"""Vapi (https://docs.vapi.ai/calls/outbound-calling): one call by the id of a number, found again by its name.

Sources: VapiAI/docs `fern/apis/api/openapi.json` and `fern/calls/`, vapi_server_sdk 3.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

from batchcall_mcp.dialer.carriers.base import AccountAtFault, CarrierUnavailable, Outcome, OutcomeStatus
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.vendor_http.json_values import inside, moment, text, usd

End: TypeAlias = tuple[OutcomeStatus, bool, str | None]
"""A status, whether the number is never dialled again, and why."""
_OVER_LIMIT: Final = "call.start.error-subscription-concurrency-limit-reached"
_AT_FAULT: Final = ("call.start.*", "call-start-error-*", "assistant-not-*", "assistant-request-*")
_BROKE: Final[End] = (TaskStatus.FAILED, True, "answered, then the call broke")
_NOT_PLACED: Final[End] = (TaskStatus.FAILED, False, "the call could not be placed")
_WRONG_NUMBER: Final[End] = (TaskStatus.FAILED, True, "this number cannot be called from here")
_TALKED: Final[End] = (TaskStatus.COMPLETED, False, None)
_NO_ANSWER: Final[End] = (TaskStatus.NO_ANSWER, False, None)
_STOPPED: Final[End] = (TaskStatus.INTERRUPTED, False, "the call was stopped at Vapi")
_ENDS: Final[tuple[tuple[str, End], ...]] = (
    ("voicemail", (TaskStatus.VOICEMAIL, False, None)),
    ("customer-busy", (TaskStatus.BUSY, False, None)),
    ("customer-did-not-answer", _NO_ANSWER),
    ("*-outbound-sip-480-*", _NO_ANSWER),
    ("*-outbound-sip-408-*", _NO_ANSWER),
    ("twilio-reported-customer-misdialed", _WRONG_NUMBER),
    ("*-vapi-number-international", _WRONG_NUMBER),
    ("customer-ended-call*", _TALKED),
    ("assistant-ended-*", _TALKED),
    ("assistant-said-end-call-phrase", _TALKED),
    ("assistant-forwarded-call", _TALKED),
    ("silence-timed-out", _TALKED),
    ("exceeded-max-duration", _TALKED),
    ("*-completed-call", _TALKED),
    ("vonage-completed", _TALKED),
    ("call.ending.*", _TALKED),
    ("call.forwarding.*", _TALKED),
    ("twilio-failed-to-connect-call", _NOT_PLACED),
    ("vonage-failed-to-connect-call", _NOT_PLACED),
    ("vonage-rejected", _NOT_PLACED),
    ("*sip-outbound-call-failed-to-connect", _NOT_PLACED),
    ("*-outbound-sip-*", _NOT_PLACED),
    ("manually-canceled", _STOPPED),
    ("call-deleted", _STOPPED),
    ("scheduled-call-deleted", _STOPPED),
    ("pipeline-error-*", _BROKE),
    ("call.in-progress.error-*", _BROKE),
    ("worker-shutdown", _BROKE),
    ("phone-call-provider-closed-websocket", _BROKE),
)
"""By pattern; the first that fits."""


def outcome_of(call: Mapping[str, Any]) -> Outcome:
    """How a call ended, by its `endedReason`. Pure.

    Raises:
        CarrierUnavailable: no line was free; nobody was rung.
        AccountAtFault: nothing could be called from this account as it is; nobody was rung.
    """
    word = text(call.get("endedReason"), 200) or text(call.get("status"), 100) or "nothing"
    began, ended = moment(call.get("startedAt")), moment(call.get("endedAt"))
    lasted = max((ended - began).total_seconds(), 0) if began and ended else 0
    known = next((end for pattern, end in _ENDS if fnmatchcase(word, pattern)), None)
    if word == _OVER_LIMIT or (fnmatchcase(word, "*worker-not-available") and not lasted):
        raise CarrierUnavailable(f"Vapi has no free line ({word})", whole_account=True)
    if known is None and any(fnmatchcase(word, pattern) for pattern in _AT_FAULT):
        raise AccountAtFault(
            f"Vapi: no call can be placed from this account as it is ({word}). Correct it, then resume."
        )
    unknown = (TaskStatus.COMPLETED if lasted else TaskStatus.FAILED, True, "Vapi gives another reason")
    status, permanent, why = known or unknown
    return Outcome(
        status,
        why and f"{why} ({word})",
        duration_seconds=lasted or None,
        answered_by="machine" if status is TaskStatus.VOICEMAIL else None,
        permanent=permanent,
        backend_status=word,
        cost=usd(call.get("cost")),
        summary=text(inside(call, "analysis.summary")),
    )
