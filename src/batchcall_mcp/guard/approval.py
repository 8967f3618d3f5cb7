"""A question that a person answers outside the MCP client: on the approval page, or in a terminal. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal, TypeAlias

from batchcall_mcp.guard.people import person
from batchcall_mcp.guard.write_record import Token
from batchcall_mcp.model import CallTask

SAMPLES: Final = 3
LONGEST_READ: Final = 20_000
"""Characters that a person is shown of a launch. What is longer cannot be approved: nobody says yes to a part."""

State: TypeAlias = Literal["waiting", "approved", "declined", "used", "expired", "withdrawn"]
"""approved: a person said yes, and the launch has not come yet. used: it has come. withdrawn: it was answered in
another way, such as in the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a person reads of a launch before they answer.

    `word` is what they type at a terminal to approve it: the number of people who would be called.
    """

    question: str
    word: str
    samples: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    concerns: tuple[str, ...] = ()
    batch_call_id: str | None = None
    """Not shown: by it a later call finds what its question named."""

    @property
    def is_readable(self) -> bool:
        """Whether a person can be shown all of it."""
        return sum(map(len, (self.question, *self.samples, *self.skipped, *self.concerns))) <= LONGEST_READ

    def as_json(self) -> dict[str, Any]:
        """For the database, where it is sealed."""
        return asdict(self)

    @classmethod
    def read(cls, held: Mapping[str, Any]) -> Shown:
        """The reverse of `as_json`."""
        lists = {name: tuple(held[name]) for name in ("samples", "skipped", "concerns")}
        return cls(question=held["question"], word=held["word"], batch_call_id=held.get("batch_call_id"), **lists)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One question as the ledger holds it. `caller` is a hash; `bound` is the binding that the question showed."""

    approval_id: str
    caller: str
    tool: str
    bound: str
    state: State
    asked_at: datetime
    expires_at: datetime
    shown: Shown
    is_reported: bool = False
    """Whether a tool call has reported the answer already."""

    @property
    def token(self) -> Token:
        """Its confirmation, once approved: to be used up when the launch is recorded."""
        return Token(kind="approval", digest=self.approval_id)

    @property
    def short_id(self) -> str:
        """By what a person names it at a terminal. Nothing but `batchcall-mcp approve` takes it."""
        return self.approval_id[:6]


def samples_of(tasks: Iterable[CallTask]) -> tuple[str, ...]:
    """The first people of a list, so that a person sees whose list it is: `Tara B., +44 … 106`."""
    return tuple(person(task) for task in islice(tasks, SAMPLES))


def meaning_of(line: str, word: str) -> Literal["approve", "decline", "neither"]:
    """What a line means that a person typed: the word (a number) approves, no declines.

    A typing mistake is neither: it approves nothing, and ends no question.
    """
    typed = line.strip().lower()
    if typed in {"", "n", "no"}:
        return "decline"
    return "approve" if typed.replace(",", "").replace(" ", "") == word else "neither"
