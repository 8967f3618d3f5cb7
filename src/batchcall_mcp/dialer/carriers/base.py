"""What every carrier offers: the engine does not care which one dials."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from batchcall_mcp.model import AnsweredBy, TaskStatus

OutcomeStatus: TypeAlias = Literal[
    TaskStatus.COMPLETED, TaskStatus.NO_ANSWER, TaskStatus.BUSY, TaskStatus.VOICEMAIL, TaskStatus.FAILED
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One dial of a task; `n` counts from 1."""

    task_id: str
    n: int
    batch_call_id: str
    from_number: str
    to_number: str
    organization_id: str | None = None
    agent_id: str | None = None
    dynamic_variables: str | None = None
    until: datetime | None = None
    """From this moment on it must not be dialled any more: the date of this person is over. The engine holds that."""

    @property
    def attempt_id(self) -> str:
        """The name of this attempt in the API, the carrier's record and the logs."""
        return f"{self.task_id}:{self.n}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended; `error` says why it failed.

    `opted_out`: the person said that they do not want to be called again. The organisation calls them no more.
    `duration_seconds`: how long it was connected. `choice`: what the person chose, such as a key that they pressed.
    """

    status: OutcomeStatus
    error: str | None = None
    opted_out: bool = False
    duration_seconds: float | None = None
    answered_by: AnsweredBy | None = None
    choice: str | None = None


class CarrierUnavailable(Exception):
    """The call was not placed, and may be tried again later; the text says why, without a number."""


class Carrier(Protocol):
    """Places calls."""

    name: str
    places_real_calls: bool
    capacity: int
    """Most calls at once."""

    def dial(self, attempt: Attempt) -> None:
        """Ask for the call and return at once.

        Called from a worker thread, inside the transaction that holds the batch call's state still: no dial starts
        after a pause has answered. It must not wait for the far end.

        Raises:
            CarrierUnavailable: nobody is called. Anything else means that somebody may be.
        """
        ...

    async def outcome(self, attempt: Attempt) -> Outcome:
        """Wait for the end of a call that was placed."""
        ...

    def hang_up(self, attempt: Attempt) -> None:
        """End a call that was placed; nobody waits for its outcome any more."""
        ...
