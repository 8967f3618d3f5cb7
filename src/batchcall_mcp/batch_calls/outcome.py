"""What a write did, said so that nothing is claimed beyond what the backend answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from batchcall_mcp.guard.admission import CodeNeeded
from batchcall_mcp.guard.preflight import Preflight
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
    left_out: Sequence[LeftOut] = ()
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()


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
