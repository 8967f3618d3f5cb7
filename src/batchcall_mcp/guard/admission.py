"""May this request be sent? Mode, blocking facts, and the one confirmation that a launch needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import anyio.to_thread

from batchcall_mcp.backends.base import Dials, Never, Operation
from batchcall_mcp.errors import ConfigurationError, InvalidInput, NotConfirmed, PermissionDenied
from batchcall_mcp.guard import unattended
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.guard.binding import Bound, bound
from batchcall_mcp.guard.confirmation import LIFETIME_S, Answer, Asker, QuestionPending, issue, recall, used_already
from batchcall_mcp.guard.entries import Token
from batchcall_mcp.guard.preflight import Preflight
from batchcall_mcp.guard.question import question
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallTask
from batchcall_mcp.recipients import LeftOut
from batchcall_mcp.settings import Confirm, Mode

if TYPE_CHECKING:
    from batchcall_mcp.guard.ledger.codes import Codes

READS = frozenset({Operation.ACCOUNT, Operation.GET, Operation.LIST})
_ALWAYS_DIALS = frozenset({Operation.START, Operation.RESUME})
_CHANGED = "The list or the batch call has changed since the last question. "


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One request, ready to be sent, with what it would do.

    `caller` is hashed; `backend` is its name, `service` its name and URL. `called` are the people who would be called,
    as far as their list could be read; `concerns`, of each kind, whom or what the question warns of.
    """

    caller: str
    backend: str
    service: str
    tool: str
    operation: Operation
    arguments: Mapping[str, Any]
    request: BatchCallRequest
    current: BatchCall | None
    called: Sequence[CallTask]
    left_out: Sequence[LeftOut]
    dials: Dials
    preflight: Preflight
    concerns: Mapping[str, frozenset[str]] = field(default_factory=dict)
    asks: bool = False
    """Whether a person has to say yes although it does not dial: to what loses results."""
    question: str | None = None
    """What to ask, where it is not about calls."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """It may be sent now. `token`: its confirmation, to be used up when it is recorded."""

    token: Token | None = None


@dataclass(frozen=True, slots=True)
class CodeNeeded:
    """The launch waits: show `question` to the person, then repeat the call with `code`."""

    question: str
    code: str
    lifetime_s: int = LIFETIME_S


class Guard:
    """The operator's rules, applied to every write of this process."""

    def __init__(self, mode: Mode, confirm: Confirm, audit: Audit, *, accept_no_stop: bool = False) -> None:
        self.mode = mode
        self.confirm = confirm
        self.accept_no_stop = accept_no_stop
        self.audit = audit

    @classmethod
    def of(
        cls,
        mode: Mode,
        confirm: Confirm,
        max_calls_per_launch: int | None,
        audit: Audit,
        *,
        accept_no_stop: bool = False,
    ) -> Guard:
        """Make the guard of a process.

        Raises:
            ConfigurationError: BATCHCALL_CONFIRM=off without a limit of calls.
        """
        if confirm == "off" and max_calls_per_launch is None:
            raise ConfigurationError(
                "BATCHCALL_CONFIRM=off needs BATCHCALL_MAX_CALLS_PER_LAUNCH: without a person, a limit has to stop a "
                "wrong list. Set it, or choose auto, person or code. Nothing was sent."
            )
        return cls(mode, confirm, audit, accept_no_stop=accept_no_stop)

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

    async def admit(self, launch: Launch, asker: Asker, code: str | None, codes: Codes) -> Admitted | CodeNeeded:
        """Let a launch pass, or say which code it waits for.

        Raises:
            InvalidInput: something blocks it, so that no confirmation helps.
            PermissionDenied: the mode forbids it.
            NotConfirmed: the person said no or did not answer, the code is not valid, or nobody can be asked.
        """
        self.check_mode(launch.operation, launch.dials)
        if isinstance(launch.dials, Never) and not launch.asks:
            return Admitted()
        if launch.preflight.blocks:
            self._note("refused", launch, "blocked")
            raise InvalidInput(
                "This cannot be launched, and a confirmation would not help. Nothing was sent.",
                launch.preflight.blocks,
            )
        if self.confirm == "off":
            self._check_unattended(launch)
            return Admitted()
        binding = await anyio.to_thread.run_sync(_bound, launch)
        await anyio.to_thread.run_sync(codes.remember, binding)
        asked = launch.question or question(launch.preflight, launch.request, launch.current, launch.backend)
        if self.confirm == "person":
            return await self._by_a_person(launch, asker, codes, binding, asked)
        if code is not None:
            token = await self._token_of(launch, code, codes, binding)
            if token is not None:
                return Admitted(token)
            asked = _CHANGED + asked
        elif self.confirm != "code":
            answer = await self._asked(launch, asker, codes, asked, binding)
            if answer.outcome == "accepted":
                return Admitted(codes.answer(answer.nonce) if answer.nonce else None)
            if answer.outcome != "cannot_ask":
                raise NotConfirmed(f"{_happened(answer)} {_NOBODY_SAW_IT}")
        new = await issue(
            codes,
            caller=launch.caller,
            tool=launch.tool,
            binding=binding.text,
            kind="code",
            arguments=launch.arguments,
            question=asked,
        )
        self._note("question", launch, "code")
        return CodeNeeded(asked, new)

    async def _token_of(self, launch: Launch, code: str, codes: Codes, binding: Bound) -> Token | None:
        """The confirmation that a code is; None if it was given for something else, which makes it worthless."""
        pending = await recall(codes, launch.caller, launch.tool, code, {})
        if pending.is_used:
            raise used_already()
        if await anyio.to_thread.run_sync(codes.covers, pending.binding, binding):
            self._note("answer", launch, "code")
            return pending.token
        await anyio.to_thread.run_sync(codes.discard, pending.token)
        return None

    async def _by_a_person(self, launch: Launch, asker: Asker, codes: Codes, binding: Bound, asked: str) -> Admitted:
        """An elicited answer, or an approval in a terminal; no code that a tool would take."""
        approval = await anyio.to_thread.run_sync(codes.approved, launch.caller, binding)
        if approval is not None:
            self._note("answer", launch, "approved")
            return Admitted(approval)
        answer = await self._asked(launch, asker, codes, asked, binding)
        if answer.outcome == "accepted":
            return Admitted(codes.answer(answer.nonce) if answer.nonce else None)
        new = await issue(
            codes,
            caller=launch.caller,
            tool=launch.tool,
            binding=binding.text,
            kind="approval",
            arguments={},
            question=asked,
        )
        self._note("question", launch, "approval")
        happened = "This client cannot show a question." if answer.outcome == "cannot_ask" else _happened(answer)
        raise NotConfirmed(
            f"{happened} Nothing was sent. BATCHCALL_CONFIRM=person: only a person's own answer launches. If no person "
            f"was asked, tell the person to run `batchcall-mcp approve {new}` in a terminal on the server's machine "
            f"(within {LIFETIME_S // 60} minutes), and only then repeat this same call. The question is: {asked}"
        )

    async def _asked(self, launch: Launch, asker: Asker, codes: Codes, asked: str, binding: Bound) -> Answer:
        try:
            answer = await asker.ask(asked, binding.text, partial(_covers, codes, binding))
        except QuestionPending:
            self._note("question", launch, "asked")
            raise
        if answer.outcome != "cannot_ask":
            self._note("answer", launch, answer.outcome, answer.seconds)
        if answer.outcome != "accepted" and answer.nonce is not None:
            # A no ends the question: the same one cannot be answered again with a yes.
            await anyio.to_thread.run_sync(codes.discard, codes.answer(answer.nonce))
        return answer

    def _check_unattended(self, launch: Launch) -> None:
        """Nobody is asked: what a person would have judged blocks."""
        if launch.asks and isinstance(launch.dials, Never):
            self._note("refused", launch, "warnings")
            raise NotConfirmed(
                f"BATCHCALL_CONFIRM=off: nobody is asked, so this is refused. {launch.question or ''} Nothing was "
                "sent. Have a person do it with another BATCHCALL_CONFIRM."
            )
        refused = unattended.refusals(launch.preflight.concerns, accept_no_stop=self.accept_no_stop)
        if refused:
            self._note("refused", launch, "warnings")
            raise NotConfirmed(
                "BATCHCALL_CONFIRM=off: nobody is asked, so what a person would have to judge refuses this launch: "
                + " ".join(refused)
                + " Nothing was sent. Change the request, or have a person launch it with another BATCHCALL_CONFIRM."
            )

    def _note(
        self,
        event: Literal["question", "answer", "refused"],
        launch: Launch,
        outcome: str,
        seconds: float | None = None,
    ) -> None:
        self.audit.note(
            Event(
                event=event,
                caller=launch.caller,
                tool=launch.tool,
                operation=str(launch.operation),
                backend=launch.backend,
                batch_call_id=launch.current.batch_call_id if launch.current else None,
                calls=launch.preflight.calls,
                max_dials=launch.preflight.max_dials,
                outcome=outcome,
                seconds=seconds,
            )
        )


async def _covers(codes: Codes, now: Bound, shown: str) -> bool:
    return await anyio.to_thread.run_sync(codes.covers, shown, now)


def _bound(launch: Launch) -> Bound:
    return bound(
        caller=launch.caller,
        backend=launch.service,
        tool=launch.tool,
        operation=launch.operation,
        request=launch.request,
        current=launch.current,
        called=launch.called,
        left_out=launch.left_out,
        concerns=launch.concerns,
    )


def _happened(answer: Answer) -> str:
    after = "" if answer.seconds is None else f" after {answer.seconds:.1f} s"
    return {
        "declined": f"The client answered no{after}.",
        "cancelled": f"The question was dismissed{after}.",
        "unanswered": f"Nobody answered the question{after}.",
    }[answer.outcome]


_NOBODY_SAW_IT = (
    "Nothing was sent. If no person saw a question, this client cannot show one: the operator can set "
    "BATCHCALL_CONFIRM=code, or person and approve in a terminal. Do not try again unless the person asks for it."
)
