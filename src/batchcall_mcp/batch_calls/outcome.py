"""What a write did, said so that nothing is claimed beyond what the backend answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from batchcall_mcp.guard.admission import CodeNeeded
from batchcall_mcp.guard.preflight import Preflight
from batchcall_mcp.guard.sending import Delivered
from batchcall_mcp.model import BatchCall
from batchcall_mcp.recipients import LeftOut

ResultWord: TypeAlias = Literal[
    "created",
    "updated",
    "scheduled",
    "started",
    "paused",
    "resumed",
    "cancelled",
    "retried",
    "deleted",
    "confirmation_required",
    "nothing_to_do",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one writing use case. `result` is what happened; the state is `batch_call.status`."""

    result: ResultWord
    summary: str
    next: str | None = None
    batch_call: BatchCall | None = None
    preflight: Preflight | None = None
    confirmation_code: str | None = None
    replayed: bool = False
    left_out: Sequence[LeftOut] = ()
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def replayed(earlier: Delivered, result: ResultWord, did: str) -> Outcome:
    """An equal call did it before; this one sent nothing. `did` completes "an equal call …"."""
    found = earlier.batch_call
    return Outcome(
        result=result,
        summary=f"Nothing was sent by this call: an equal call at {earlier.at:%Y-%m-%d %H:%M:%S UTC} {did}. "
        f"{earlier.note + ' ' if earlier.note else ''}Its status is {found.status}.",
        next=f"get_batch_call with batch_call_id={found.batch_call_id}. To mean it anew, repeat the call with a new "
        "idempotency_key, where the tool has one.",
        batch_call=found,
        replayed=True,
    )


def noted(*notes: str | None) -> tuple[str, ...]:
    """Those that there are."""
    return tuple(note for note in notes if note)


_REQUIRED: Mapping[str, str] = {
    "create_batch_call": "the same from_number",
    "start_batch_call": "the same batch_call_id and trigger_timestamp",
}
"""What a tool's schema asks for beside the code, where that is not batch_call_id alone."""


def waiting(
    needed: CodeNeeded, preflight: Preflight, tool: str, batch_call: BatchCall | None, left_out: Sequence[LeftOut] = ()
) -> Outcome:
    """Nothing was sent: a person has to see the question first."""
    repeat = _REQUIRED.get(tool, "the same batch_call_id")
    return Outcome(
        result="confirmation_required",
        summary=f"Nothing was sent yet. Question for the person: {needed.question}",
        next=(
            f"Show the question to the person. Only after a yes, call {tool} with {repeat} and "
            f"confirmation_code={needed.code} (valid {needed.lifetime_s // 60} minutes, once); nothing else need be "
            "repeated."
        ),
        batch_call=batch_call,
        preflight=preflight,
        confirmation_code=needed.code,
        left_out=left_out,
    )
