"""Retell (https://docs.retellai.com/api-references/create-phone-call): one call by number, with an idempotency key.

Sources: the API reference, retell-sdk 6.2.13, tryAGI/RetellAI `openapi.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from batchcall_mcp.dialer.carriers.base import AccountAtFault, CarrierUnavailable, Outcome, OutcomeStatus
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.vendor_http.json_values import inside, text, usd, whole

End: TypeAlias = tuple[OutcomeStatus, bool, str | None]
"""A status, whether the number is never dialled again, and why."""
_OPTED_OUT: Final = "user_requested_dnc"
_NO_LINE: Final = ("concurrency_limit_reached", "no_concurrency_fallback")
_NO_MONEY: Final = ("no_valid_payment", "credit_exhausted", "budget_reached")
_BROKE: Final[End] = (TaskStatus.FAILED, True, "answered, then the call broke")
_TALKED: Final = (
    *("user_hangup", "agent_hangup", "call_transfer", "transfer_bridged", "transfer_cancelled", "inactivity"),
    *("max_duration_reached", "user_requested_callback", "call_take_over", "ivr_reached"),
)
_ENDS: Final[Mapping[str, End]] = {
    **dict.fromkeys(_TALKED, (TaskStatus.COMPLETED, False, None)),
    _OPTED_OUT: (TaskStatus.COMPLETED, True, None),
    "voicemail_reached": (TaskStatus.VOICEMAIL, False, None),
    "dial_no_answer": (TaskStatus.NO_ANSWER, False, None),
    "dial_busy": (TaskStatus.BUSY, False, None),
    "user_declined": (TaskStatus.NO_ANSWER, True, "the person declined the call"),
    "invalid_destination": (TaskStatus.FAILED, True, "this number cannot be called"),
    "manual_stopped": (TaskStatus.INTERRUPTED, False, "the call was stopped at Retell"),
    **dict.fromkeys(
        ("dial_failed", "sip_routing_error", "telephony_provider_unavailable", "registered_call_timeout"),
        (TaskStatus.FAILED, False, "the call could not be placed"),
    ),
    **dict.fromkeys(
        ("marked_as_spam", "network_blocked", "scam_detected", "telephony_provider_permission_denied"),
        (TaskStatus.FAILED, True, "calls from this caller number are blocked"),
    ),
}


def outcome_of(call: Mapping[str, Any]) -> Outcome:
    """How a call ended, by its `disconnection_reason`. Pure.

    Raises:
        CarrierUnavailable: no line was free; nobody was rung.
        AccountAtFault: the account cannot pay; nobody was rung.
    """
    word = text(call.get("disconnection_reason"), 100) or text(call.get("call_status"), 100) or "nothing"
    lasted = (whole(call.get("duration_ms")) or 0) / 1000
    if word in _NO_LINE and not lasted:
        raise CarrierUnavailable(f"Retell has no free line ({word})", whole_account=True)
    if word in _NO_MONEY and not lasted:
        raise AccountAtFault(f"Retell: the account cannot pay for calls ({word}). Look at its billing, then resume.")
    is_machine = inside(call, "call_analysis.in_voicemail")
    if word.startswith("error_") or word in _NO_LINE + _NO_MONEY:
        status, permanent, why = _BROKE
    else:
        unknown = (TaskStatus.COMPLETED if lasted else TaskStatus.FAILED, True, "Retell gives another reason")
        status, permanent, why = _ENDS.get(word, unknown)
    if word in _TALKED and is_machine is True:
        status = TaskStatus.VOICEMAIL
    is_person = status is TaskStatus.COMPLETED and is_machine is False
    return Outcome(
        status,
        why and f"{why} ({word})",
        opted_out=word == _OPTED_OUT,
        duration_seconds=lasted or None,
        answered_by="machine" if status is TaskStatus.VOICEMAIL else "human" if is_person else None,
        permanent=permanent,
        backend_status=word,
        cost=usd(inside(call, "call_cost.combined_cost"), 100),
        summary=text(inside(call, "call_analysis.call_summary")),
    )
