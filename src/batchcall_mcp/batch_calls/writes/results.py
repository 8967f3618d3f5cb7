"""What a write did, in words that claim nothing beyond what the backend answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.batch_calls.next_call import Next
from batchcall_mcp.guard.admission import CodeNeeded, Needed, PersonNeeded
from batchcall_mcp.guard.confirmation import LIFETIME_S
from batchcall_mcp.guard.delivery.write_sender import WriteOutcome
from batchcall_mcp.guard.preflight.preflight import Preflight
from batchcall_mcp.model import BatchCall, BatchStatus
from batchcall_mcp.recipients.validation import SkippedRow
from batchcall_mcp.text import quoted

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


def created_as(status: BatchStatus) -> ResultWord:
    """What a create did: it says more than that only where the backend does."""
    if status is BatchStatus.SCHEDULED:
        return "scheduled"
    return "started" if status is BatchStatus.RUNNING else "created"


def status_words(status: BatchStatus, word: str | None) -> str:
    """`status is running.`, after a write; with the backend's own `word` where ours says less."""
    said = word if status is BatchStatus.UNKNOWN else None
    return f"status is {status}" + (f": the backend says {quoted(said)}." if said else ".")


def replayed(earlier: WriteOutcome, did: Did, following: Next) -> Result:
    """An equal call did it before; this one sent nothing."""
    found = earlier.batch_call
    result, what = did(found)
    return Result(
        result=result,
        summary=f"Nothing was sent by this call: an equal call at {earlier.at:%Y-%m-%d %H:%M:%S UTC} {what}. "
        f"{earlier.note + ' ' if earlier.note else ''}Its {status_words(found.status, found.backend_status)}",
        next=following,
        batch_call=found,
        notes=("To do it again on purpose, repeat the call with a new idempotency_key, if the tool has one.",),
        replayed=True,
    )


def _required(tool: str, capabilities: Capabilities) -> str:
    """What a tool's schema asks for in addition to the code."""
    is_timed = capabilities.drafts == "none"
    if tool == "create_batch_call":
        needed = [*sorted(capabilities.required - {"tasks"}), *(["trigger_timestamp"] if is_timed else [])]
        return f"the same {' and '.join(filter(None, (', '.join(needed[:-1]), *needed[-1:])))}"
    if tool == "start_batch_call":
        return "the same batch_call_id (and trigger_timestamp, if it was given)"
    if tool == "retry_batch_call" and is_timed and Operation.RETRY not in capabilities.operations:
        return "the same batch_call_id and trigger_timestamp"
    return "the same batch_call_id"


def waiting(
    needed: Needed,
    preflight: Preflight | None,
    tool: str,
    batch_call: BatchCall | None,
    skipped_rows: Sequence[SkippedRow],
    capabilities: Capabilities,
) -> Result:
    """Nothing was sent: a person has to see the question first.

    `next` stays empty: nothing that a model does next may stand for a yes that nobody has given.
    """
    result = _with_code(needed, tool, capabilities) if isinstance(needed, CodeNeeded) else _at_the_person(needed, tool)
    return replace(result, batch_call=batch_call, preflight=preflight, skipped_rows=skipped_rows)


def _with_code(needed: CodeNeeded, tool: str, capabilities: Capabilities) -> Result:
    repeat = _required(tool, capabilities)
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
