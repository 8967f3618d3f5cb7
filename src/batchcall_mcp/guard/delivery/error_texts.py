"""What is said of a write that was not sent, or whose outcome nobody knows. Pure."""

from __future__ import annotations

import math

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.clock import from_ms
from batchcall_mcp.errors import IllegalTransition, OutcomeUnknown
from batchcall_mcp.guard.delivery.reconciliation import Looked
from batchcall_mcp.guard.write_record import Entry, Intent


def in_words(milliseconds: int) -> str:
    """To the second."""
    return f"{from_ms(milliseconds):%Y-%m-%d %H:%M:%S UTC}"


def changed_meanwhile(entry: Entry) -> IllegalTransition:
    """The error for a write that was decided on an older look."""
    return IllegalTransition(
        f"Another call ({entry.tool}, {in_words(entry.at)}) changed {entry.batch_call_id or 'it'} meanwhile. Nothing "
        "was sent by this call. Read it with get_batch_call and decide again."
    )


def unknown(looked: Looked, intent: Intent, lost: OutcomeUnknown | None = None) -> OutcomeUnknown:
    """The error for an open write: of this very call (`lost`), or of one before it that stands in its way."""
    entry = looked.entry
    of = f" for {entry.batch_call_id}" if entry.batch_call_id else ""
    begin = (
        lost.happened
        if lost is not None
        else f"The outcome of {entry.tool}{of}, sent at {in_words(entry.sent_at)}, is not known. Nothing was sent by "
        "this call."
    )
    return OutcomeUnknown(f"{begin} {looked.words} {_next_step(looked, intent)} (Ledger entry {entry.write_id}.)")


def _next_step(looked: Looked, intent: Intent) -> str:
    entry = looked.entry
    by_a_person = (
        "A person who sees at the backend itself what happened settles it in a terminal: "
        f"`batchcall-mcp ledger resolve {entry.write_id} made` or `not-made`."
    )
    if not entry.is_equal(intent):
        if not entry.dials:
            return (
                f"It may still change {entry.batch_call_id}, so nothing launches it or adds to it yet. Repeat this "
                "same call in a minute: it then goes by what the backend shows."
            )
        return (
            f"Until that is known no other call can launch or change {entry.batch_call_id}; it can be stopped and "
            f"renamed. {by_a_person}"
        )
    if entry.dials or entry.operation is Operation.APPEND:
        then = "look at the backend's own page" if looked.is_nowhere else "repeating this same call looks again"
        return f"It may still take effect, so it is not sent again. Report what is there; {then}. {by_a_person}"
    if entry.operation is Operation.CREATE and not looked.is_nowhere:
        when = f"in {math.ceil(looked.again_in_s)} s" if looked.again_in_s else "now"
        return (
            f"A draft dials nobody. Repeat this same call {when}: it looks again, and makes the draft only if it is "
            "still absent. list_batch_calls shows what is there."
        )
    if entry.operation in {Operation.PAUSE, Operation.CANCEL}:
        return (
            "Its phones may still ring. Read it with get_batch_call, and try again, or stop it at the backend itself."
        )
    dials_nobody = "It dials nobody. Read it with get_batch_call, then repeat this same call if it is needed."
    its_page = f"A draft dials nobody. It is not sent again; the backend's own page shows whether it is. {by_a_person}"
    return its_page if looked.is_nowhere else dials_nobody
