"""What Twilio says of a call that is over, or of one that it refused, as an outcome. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from batchcall_mcp.dialer.carriers.base import AccountAtFault, CarrierUnavailable, Outcome, OutcomeStatus
from batchcall_mcp.model import AnsweredBy, TaskStatus
from batchcall_mcp.money import Money
from batchcall_mcp.vendor_http.json_values import inside, money, rows, text, whole

ENDED: Final = frozenset({"completed", "busy", "no-answer", "failed", "canceled"})
_NEVER_THIS_NUMBER: Final[Mapping[int, str]] = {
    21211: "the number is not valid",
    21214: "the number cannot be reached",
    21215: "the account may not call this country; the console has geo permissions for that",
    21216: "Twilio blocks calls to this number",
    21217: "the number is not valid",
    **dict.fromkeys((21219, 573005), "a trial account calls only numbers that are verified in the console"),
    13224: "the number is not valid, or Twilio does not call it",
}
_LATER: Final = frozenset({20429, 10004, 22005})
_KEY: Final = "The account SID or its token is not accepted. Check BATCHCALL_CARRIER_KEY and BATCHCALL_CARRIER_SECRET"
_INACTIVE: Final = "The account cannot make calls. Check its status and its balance in the console"
_CALLER: Final = "The caller number is not accepted. Use one that the account has bought or verified in the console"
_ADDRESS: Final = "An address of ours is not accepted. Check BATCHCALL_PUBLIC_URL"
_AT_FAULT: Final[Mapping[int, str]] = {
    20003: _KEY,
    **dict.fromkeys((10001, 10005, 20005, 90010), _INACTIVE),
    **dict.fromkeys((21210, 21212, 21213), _CALLER),
    **dict.fromkeys((21205, 21209, 21218, 21609), _ADDRESS),
}
"""By Twilio's code: what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a call failed, as Twilio notes it."""

    code: int | None
    words: str | None


def refusal(body: Any, said: str, later_s: float) -> Outcome | None:
    """What a refused create means by its code; None: the code says nothing. `said`: its words as a sentence.

    Raises:
        CarrierUnavailable: not now. To be tried again after `later_s`.
        AccountAtFault: not from this account, or not from this caller number.
    """
    code = code_of(body) or 0
    if (too_many := too_many_calls(code, said, later_s)) is not None:
        raise too_many
    if code in _AT_FAULT:
        raise AccountAtFault(f"{_AT_FAULT[code]} (Twilio's {code}).{said}")
    if code not in _NEVER_THIS_NUMBER:
        return None
    why = f"{_NEVER_THIS_NUMBER[code]} ({code}).{said}"
    return Outcome(TaskStatus.FAILED, why, permanent=True, backend_status=str(code))


def too_many_calls(code: int | None, said: str, later_s: float) -> CarrierUnavailable | None:
    """Whether Twilio has turned a call away since there are too many; it may say so on a call that it took."""
    if code not in _LATER:
        return None
    why = f"Twilio takes no more calls for the moment ({code}).{said}"
    return CarrierUnavailable(why, retry_after=later_s, whole_account=True)


def outcome_of(
    call: Mapping[str, Any], legs: Sequence[Mapping[str, Any]] | None = None, reason: Reason | None = None
) -> Outcome:
    """What a call that is over came to. `legs`: the calls to its SIP agent; None: it has none."""
    word, seconds, answered_by = word_of(call), whole(call.get("duration")), answered_by_of(call)
    status, error, is_final = _meaning(word, answered_by, legs, reason, talked=bool(seconds))
    was_connected = word not in ENDED or word == "completed"
    return Outcome(
        status,
        error,
        duration_seconds=float(seconds) if was_connected and seconds is not None else None,
        answered_by=answered_by if was_connected else None,
        permanent=is_final,
        backend_status=text(call.get("answered_by"), 50) if status == TaskStatus.VOICEMAIL else word,
        cost=_cost([call, *(legs or ())]),
    )


def _meaning(
    word: str,
    answered_by: AnsweredBy | None,
    legs: Sequence[Mapping[str, Any]] | None,
    reason: Reason | None,
    *,
    talked: bool,
) -> tuple[OutcomeStatus, str | None, bool]:
    """The status, why it failed, and whether this number is never dialled again."""
    if word == "completed" and answered_by == "machine":
        return TaskStatus.VOICEMAIL, None, False
    if word == "completed" and legs is not None and not any(word_of(leg) == "completed" for leg in legs):
        words = ", ".join(map(word_of, legs)) or "not called"
        # Somebody picked up: they are not rung again for what failed at our end.
        return TaskStatus.FAILED, f"answered, then the voice agent was not there ({words})", True
    if word == "failed":
        known = reason is not None and reason.code in _NEVER_THIS_NUMBER
        return TaskStatus.FAILED, _why(reason), known
    if word in _PLAIN:
        return _PLAIN[word]
    # A word that no document has: it is kept, and nobody is called again for it.
    return (TaskStatus.COMPLETED if talked else TaskStatus.FAILED), f"Twilio says: {word}", True


_PLAIN: Final[Mapping[str, tuple[OutcomeStatus, str | None, bool]]] = {
    "completed": (TaskStatus.COMPLETED, None, False),
    "busy": (TaskStatus.BUSY, None, False),
    "no-answer": (TaskStatus.NO_ANSWER, None, False),
    "canceled": (TaskStatus.FAILED, "the call was cancelled at Twilio", True),
}


def _why(reason: Reason | None) -> str:
    if reason is None:
        return "Twilio could not connect the call"
    words = _NEVER_THIS_NUMBER.get(reason.code or 0) or reason.words or "Twilio could not connect the call"
    return words if reason.code is None else f"{words} ({reason.code})"


def reason_of(notifications: Any) -> Reason | None:
    """Of all that is noted about a call, what says most about its number."""
    noted = rows(notifications)[0]
    reasons = [Reason(whole(row.get("error_code")), _words(row.get("message_text"))) for row in noted]
    telling = _NEVER_THIS_NUMBER.keys() | _LATER
    return next((one for one in reasons if one.code in telling), reasons[0] if reasons else None)


def word_of(call: Mapping[str, Any]) -> str:
    """Its status, in Twilio's word."""
    return (text(call.get("status"), 50) or "unknown").lower()


def answered_by_of(call: Mapping[str, Any]) -> AnsweredBy | None:
    """Who answered, where somebody looked: without that nobody knows."""
    who = text(call.get("answered_by"), 50) or ""
    if who.startswith("machine") or who == "fax":
        return "machine"
    return "human" if who == "human" else None


def code_of(body: Any) -> int | None:
    """Of an error: Twilio's own."""
    return whole(inside(body, "code|errors.0.code"))


def _cost(legs: Sequence[Mapping[str, Any]]) -> Money | None:
    """Of all of them. Twilio writes it as a negative number, some minutes after the end."""
    written = [(text(one.get("price"), 20) or "", text(one.get("price_unit"), 3) or "") for one in legs]
    found = [money({"amount": price.removeprefix("-"), "currency": unit.upper()}) for price, unit in written]
    known = [one for one in found if one is not None]
    if len(known) < len(legs) or len({one.currency for one in known}) != 1:
        return None
    first, *others = known
    both = Money(sum((one.amount for one in others), start=first.amount), first.currency)
    return both if both.is_sound else None


def _words(message: Any) -> str | None:
    """Of a notification: `Msg` of a query, else all of it."""
    said = text(message)
    return None if said is None else text(" ".join(parse_qs(said).get("Msg", [])) or said)
