"""How a call ended, for vendors that say it in one word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from batchcall_mcp.dialer.carriers.base import Outcome, OutcomeStatus
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.money import Money


@dataclass(frozen=True, slots=True)
class End:
    """What a word means. `never_again`: the number is not dialled again, whatever the rules say; `why` it failed."""

    status: OutcomeStatus
    never_again: bool = False
    why: str | None = None

    def outcome(
        self,
        word: str,
        lasted: float,
        *,
        is_person: bool = False,
        opted_out: bool = False,
        cost: Money | None = None,
        summary: str | None = None,
    ) -> Outcome:
        """The same of one call that was connected for `lasted` seconds, with the vendor's own word."""
        is_machine = self.status is TaskStatus.VOICEMAIL
        return Outcome(
            self.status,
            self.why and f"{self.why} ({word})",
            opted_out=opted_out,
            duration_seconds=lasted or None,
            answered_by="machine" if is_machine else "human" if is_person else None,
            permanent=self.never_again,
            backend_status=word,
            cost=cost,
            summary=summary,
        )


TALKED: Final = End(TaskStatus.COMPLETED)
VOICEMAIL: Final = End(TaskStatus.VOICEMAIL)
BUSY: Final = End(TaskStatus.BUSY)
NO_ANSWER: Final = End(TaskStatus.NO_ANSWER)
NOT_PLACED: Final = End(TaskStatus.FAILED, why="the call could not be placed")
BROKE: Final = End(TaskStatus.FAILED, never_again=True, why="answered, then the call broke")
"""Whose phone rang is not rung again."""


def of_unknown_word(title: str, lasted: float) -> End:
    """What a word means that nobody knows."""
    status: OutcomeStatus = TaskStatus.COMPLETED if lasted else TaskStatus.FAILED
    return End(status, never_again=True, why=f"{title} gives another reason")
