"""What a write did, in words that claim nothing beyond what the backend answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls.next_call import Next
from batchcall_mcp.guard.admission import CodeNeeded, Needed, PersonNeeded
from batchcall_mcp.guard.confirmation import LIFETIME_S
from batchcall_mcp.guard.delivery.write_sender import WriteOutcome
from batchcall_mcp.guard.preflight.preflight import Preflight
from batchcall_mcp.model import BatchCall
from batchcall_mcp.recipients.validation import SkippedRow

ResultWord: TypeAlias = Literal[
    "created",
    "updated",
    "added",
    "scheduled",
    "started",
    "paused",
    "resumed",
    "cancelled",
    "retried",
    "deleted",
    "confirmation_required",
    "waiting_for_person",
    "nothing_to_do",
]
WAITS_FOR_PERSON: Final[frozenset[ResultWord]] = frozenset({"confirmation_required", "waiting_for_person"})
"""Nothing was sent, and nothing will be until a person has answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The end of one writing use case. `result` is what happened; the state is `batch_call.status`."""

    result: ResultWord
    summary: str
    next: Next = None
    batch_call: BatchCall | None = None
    preflight: Preflight | None = None
    confirmation_code: str | None = None
    replayed: bool = False
    skipped_rows: Sequence[SkippedRow] = ()
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()


Did: TypeAlias = Callable[[BatchCall], tuple[ResultWord, str]]
"""What an equal call did, as a result and in words that complete "an equal call …"."""
_DONE: Mapping[Operation, ResultWord] = {
    Operation.UPDATE: "updated",
    Operation.APPEND: "added",
    Operation.RESUME: "resumed",
    Operation.DELETE: "deleted",
}


def done(operation: Operation, found: BatchCall) -> tuple[ResultWord, str]:
    """What it did, where the operation alone says that."""
    return _DONE[operation], f"{_DONE[operation]} {found.batch_call_id}"


def replayed(earlier: WriteOutcome, did: Did, following: Next) -> Result:
    """An equal call did it before; this one sent nothing."""
    found = earlier.batch_call
    result, what = did(found)
    return Result(
        result=result,
        summary=f"Nothing was sent by this call: an equal call at {earlier.at:%Y-%m-%d %H:%M:%S UTC} {what}. "
        f"{earlier.note + ' ' if earlier.note else ''}Its status is {found.status}.",
        next=following,
        batch_call=found,
        notes=("To do it again on purpose, repeat the call with a new idempotency_key, if the tool has one.",),
        replayed=True,
    )


_REQUIRED: Mapping[str, str] = {
    "create_batch_call": "the same from_number",
    "start_batch_call": "the same batch_call_id (and trigger_timestamp, if it was given)",
}
"""What a tool's schema asks for in addition to the code, where that is not batch_call_id alone."""


def waiting(
    needed: Needed,
    preflight: Preflight | None,
    tool: str,
    batch_call: BatchCall | None,
    skipped_rows: Sequence[SkippedRow],
) -> Result:
    """Nothing was sent: a person has to see the question first.

    `next` stays empty: nothing that a model does next may stand for a yes that nobody has given.
    """
    result = _with_code(needed, tool) if isinstance(needed, CodeNeeded) else _at_the_person(needed, tool)
    return replace(result, batch_call=batch_call, preflight=preflight, skipped_rows=skipped_rows)


def _with_code(needed: CodeNeeded, tool: str) -> Result:
    repeat = _REQUIRED.get(tool, "the same batch_call_id")
    how = (
        f"Show the question to the person and wait. If they agree, call {tool} with {repeat} and the confirmation_code "
        "of this result; nothing else needs repeating."
    )
    return Result(
        result="confirmation_required",
        summary=f"Nothing was sent yet. Question for the person: {needed.question}",
        confirmation_code=needed.code,
        notes=(f"{how} The code is valid for {LIFETIME_S // 60} minutes, once.",),
    )


def _at_the_person(needed: PersonNeeded, tool: str) -> Result:
    terminal = "`batchcall-mcp approve` in a terminal on the machine of this server"
    where = (
        f"The question waits on the approval page in the person's browser. {terminal} shows it too."
        if needed.reach == "page"
        else f"A person answers it with {terminal} (with its BATCHCALL_DATA_DIR or BATCHCALL_DATABASE_URL, if set)."
    )
    return Result(
        result="waiting_for_person",
        summary=f"Nothing was sent yet: a person has to answer first. The question: {needed.question}",
        notes=(
            f"{where} It is open until {needed.until:%H:%M UTC}. Ask the person to answer it; only they can.",
            f"Then call {tool} again with the same arguments: it follows their answer, and sends nothing before.",
        ),
    )
