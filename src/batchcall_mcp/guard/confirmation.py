"""One-shot confirmations, each bound to exactly one launch.

A confirmation says "equal to the preview, once". It is bound to the caller, the backend, the tool, the normalised
request, the people with their variables, the skipped rows, every concern that the question named and the state of the
batch call; to nothing that moves with the clock (see `binding`). Codes live in the ledger's database for ten minutes,
so any process on it can take them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import anyio.to_thread

from batchcall_mcp.errors import NotConfirmed
from batchcall_mcp.guard.approval import Approval

if TYPE_CHECKING:
    from batchcall_mcp.guard.ledger.codes import Codes, Pending

LIFETIME_S = 600

Covers: TypeAlias = Callable[[str], Awaitable[bool]]
"""Whether a yes to the `Bound.text` that was shown is a yes to what would be sent now."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a question. `seconds` is how long the answer took, where that can be known."""

    outcome: Literal["accepted", "declined", "cancelled", "malformed", "unanswered", "cannot_ask"]
    seconds: float | None = None
    nonce: str | None = None
    """Identifies the question that was answered, where an answer could be sent twice."""


Reach: TypeAlias = Literal["page", "terminal"]
"""Where a person finds a question that the client does not show: in a browser (and a terminal), or a terminal alone."""


class QuestionPending(Exception):
    """The use case ends here, to begin again with the answer. An asker raises it with its own way to ask."""


class Asker(Protocol):
    """Puts a question to the person behind the client.

    An asker may end the tool call by raising QuestionPending, to be called again with the answer when the client
    repeats the call (the 2026-07-28 protocol works so). A yes to another `binding` that does not cover this one
    counts as not given: it asks again.
    """

    async def ask(self, question: str, binding: str, covers: Covers, /) -> Answer:
        """Ask in the client, and wait for the answer, at most as long as the asker's own limit."""
        ...

    async def reach(self, asked: Approval, /) -> Reach:
        """Bring a question of the ledger before a person outside the client, and wait for the answer for a while.

        May raise QuestionPending, to be called again when the question was answered or the while is over.
        """
        ...

    @property
    def waited_for(self) -> str | None:
        """The id of the question that this tool call has waited for."""
        ...

    @property
    def shown(self) -> str | None:
        """The `Bound.text` of the question that this tool call brings an answer to, or has waited for."""
        ...


class Unasked:
    """Where nobody can be asked."""

    async def ask(self, _question: str, _binding: str, _covers: Covers, /) -> Answer:
        """Say so."""
        return Answer("cannot_ask")

    async def reach(self, _asked: Approval, /) -> Reach:
        """A terminal is always there."""
        return "terminal"

    @property
    def waited_for(self) -> str | None:
        """Nothing."""
        return None

    @property
    def shown(self) -> str | None:
        """Nothing."""
        return None


async def recall(codes: Codes, caller: str, tool: str, code: str, given: Mapping[str, Any]) -> Pending:
    """Find the launch of a code, without using it up. One that was used is found too: what it launched can be reported.

    Raises:
        NotConfirmed: the code is unknown, expired, belongs to another caller or tool, or an argument that was given
            differs from the one that the code stands for.
    """
    pending = await anyio.to_thread.run_sync(codes.find, code)
    if pending is None or (pending.caller, pending.tool) != (caller, tool):
        raise NotConfirmed(
            "This confirmation code is not valid here: it is unknown, older than ten minutes, replaced by a later one, "
            f"withdrawn, or for another tool. Nothing was sent. Call {tool} without a code to have the question asked."
        )
    differing = [name for name, value in given.items() if pending.arguments.get(name) != value]
    if differing:
        raise NotConfirmed(
            f"The code confirms another request: {', '.join(sorted(differing))} differ from what was shown. "
            "Nothing was sent. Omit them, or call without the code to be asked about the new request."
        )
    return pending
