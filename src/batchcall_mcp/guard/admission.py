"""May this request be sent? Mode, blocking facts, and the one confirmation that a launch needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchcall_mcp.backends.base import Dials, Never, Operation
from batchcall_mcp.errors import ConfigurationError, InvalidInput, NotConfirmed, PermissionDenied
from batchcall_mcp.guard.confirmation import LIFETIME_S, Asker, Confirmations, binding
from batchcall_mcp.guard.preflight import Preflight, question
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallTask
from batchcall_mcp.recipients import LeftOut
from batchcall_mcp.settings import Confirm, Mode

READS = frozenset({Operation.ACCOUNT, Operation.GET, Operation.LIST})
_ALWAYS_DIALS = frozenset({Operation.START, Operation.RESUME})


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One request, ready to be sent, with what it would do. `tasks`: the whole list; None if it could not be read."""

    caller: str
    backend: str
    tool: str
    operation: Operation
    arguments: Mapping[str, Any]
    request: BatchCallRequest
    current: BatchCall | None
    tasks: Sequence[CallTask] | None
    left_out: Sequence[LeftOut]
    dials: Dials
    preflight: Preflight


@dataclass(frozen=True, slots=True)
class CodeNeeded:
    """The launch waits: show `question` to the person, then repeat the call with `code`."""

    question: str
    code: str
    lifetime_s: int = LIFETIME_S


class Guard:
    """The operator's rules, applied to every write of this process."""

    def __init__(self, mode: Mode, confirm: Confirm, confirmations: Confirmations) -> None:
        self.mode = mode
        self.confirm = confirm
        self.confirmations = confirmations

    @classmethod
    def of(cls, mode: Mode, confirm: Confirm, max_calls_per_launch: int | None) -> Guard:
        """Make the guard of a process.

        Raises:
            ConfigurationError: BATCHCALL_CONFIRM=off without a limit of calls.
        """
        if confirm == "off" and max_calls_per_launch is None:
            raise ConfigurationError(
                "BATCHCALL_CONFIRM=off needs BATCHCALL_MAX_CALLS_PER_LAUNCH: without a person, a limit has to stop a "
                "wrong list. Set it, or choose auto, person or code. Nothing was sent."
            )
        return cls(mode, confirm, Confirmations())

    def allows(self, operation: Operation) -> bool:
        """Whether the mode lets this kind of operation through at all."""
        if operation in READS or self.mode == "full":
            return True
        return self.mode == "draft" and operation not in _ALWAYS_DIALS

    def check_mode(self, operation: Operation, dials: Dials) -> None:
        """Refuse what the mode forbids.

        Raises:
            PermissionDenied: read-only and a write, or draft and something that dials.
        """
        if not self.allows(operation) or (self.mode == "draft" and not isinstance(dials, Never)):
            forbidden = "nothing may be changed" if self.mode == "read-only" else "nothing that dials is allowed"
            raise PermissionDenied(
                f"This server runs with BATCHCALL_MODE={self.mode}: {forbidden}. Nothing was sent. "
                "Only the operator can change the mode."
            )

    async def admit(self, launch: Launch, asker: Asker, code: str | None) -> CodeNeeded | None:
        """Let a launch pass (None: send it now, with no wait between) or say which code it waits for.

        Raises:
            InvalidInput: something blocks it, so that no confirmation helps.
            PermissionDenied: the mode forbids it.
            NotConfirmed: the person said no or did not answer, the code is not valid, or nobody can be asked.
        """
        self.check_mode(launch.operation, launch.dials)
        if isinstance(launch.dials, Never):
            return None
        if launch.preflight.blocks:
            raise InvalidInput(
                "This cannot be launched, and a confirmation would not help. Nothing was sent.",
                launch.preflight.blocks,
            )
        if self.confirm == "off":
            _check_unattended(launch.preflight)
            return None
        bound = binding(
            caller=launch.caller,
            backend=launch.backend,
            operation=launch.operation,
            request=launch.request,
            current=launch.current,
            tasks=launch.tasks or (),
            left_out=launch.left_out,
        )
        asked = question(launch.preflight, launch.request, launch.current, launch.backend)
        if code is not None and self.confirm != "person":
            pending = self.confirmations.recall(launch.caller, launch.tool, code, {})
            self.confirmations.use_code(code)
            if pending.binding == bound:
                return None
            asked = "The list or the batch call has changed since the last question. " + asked
        elif self.confirm != "code" and await self._answered(asker, asked, bound):
            return None
        if self.confirm == "person":
            raise NotConfirmed(
                "BATCHCALL_CONFIRM=person: only a person's own answer launches, and this client cannot show a "
                "question. Nothing was sent. Use a client that supports elicitation, or ask the operator. The "
                f"question was: {asked}"
            )
        return CodeNeeded(asked, self.confirmations.issue(launch.caller, launch.tool, bound, launch.arguments))

    async def _answered(self, asker: Asker, asked: str, bound: str) -> bool:
        """Whether the person said yes; False if this client cannot ask."""
        answer = await asker.ask(asked, bound)
        if answer.outcome == "cannot_ask":
            return False
        if answer.outcome != "accepted":
            raise NotConfirmed(_refusal(answer.outcome, answer.seconds))
        if answer.nonce is not None:
            self.confirmations.use_nonce(answer.nonce)
        return True


def _check_unattended(preflight: Preflight) -> None:
    """Nobody is asked: what a person would have judged blocks."""
    if preflight.warnings:
        raise NotConfirmed(
            "BATCHCALL_CONFIRM=off: nobody is asked, so that what a person would have judged blocks: "
            + " ".join(preflight.warnings)
            + " Nothing was sent."
        )


def _refusal(outcome: str, seconds: float | None) -> str:
    after = "" if seconds is None else f" after {seconds:.1f} s"
    happened = {
        "declined": f"The client answered no{after}.",
        "cancelled": f"The question was dismissed{after}.",
        "unanswered": f"Nobody answered the question{after}.",
    }[outcome]
    return (
        f"{happened} Nothing was sent. If no person saw a question, this client cannot show one: "
        "the operator can set BATCHCALL_CONFIRM=code. Do not try again unless the person asks for it."
    )
