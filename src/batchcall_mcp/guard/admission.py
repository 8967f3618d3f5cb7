"""May this request be sent? Mode, blocking facts, and the one confirmation that a launch needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio.to_thread

from batchcall_mcp.backends.base import Dials, Never
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.errors import ConfigurationError, InvalidInput, NotConfirmed, PermissionDenied
from batchcall_mcp.guard import unattended
from batchcall_mcp.guard.approval import Approval, Shown, samples_of
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.guard.confirmation import Answer, Asker, QuestionPending, Reach, recall
from batchcall_mcp.guard.fingerprints import Bound, bound
from batchcall_mcp.guard.preflight.preflight import Preflight
from batchcall_mcp.guard.preflight.question import question, skipped_words
from batchcall_mcp.guard.write_record import Token
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallTask
from batchcall_mcp.recipients.validation import SkippedRow
from batchcall_mcp.settings import Confirm, Mode

if TYPE_CHECKING:
    from batchcall_mcp.guard.ledger.codes import Codes

READS = frozenset({Operation.ACCOUNT, Operation.GET, Operation.GET_CALL, Operation.LIST})
_ALWAYS_DIALS = frozenset({Operation.START, Operation.RESUME})
_WIDEST_FIRST: tuple[Mode, ...] = ("full", "draft", "read-only")
_MOST_TRIES = 5
_CHANGED = "The list or the batch call has changed since the last question. "


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One request, ready to be sent, with what it would do.

    `caller` is hashed; `backend` is its name, `backend_address` its name and URL. `called` are the people who would be
    called, as far as their list could be read; `concerns`, of each kind, whom or what the question warns of.
    """

    caller: str
    backend: str
    backend_address: str
    tool: str
    operation: Operation
    arguments: Mapping[str, Any]
    request: BatchCallRequest
    current: BatchCall | None
    called: Sequence[CallTask]
    skipped_rows: Sequence[SkippedRow]
    dials: Dials
    preflight: Preflight
    concerns: Mapping[str, frozenset[str]] = field(default_factory=dict)
    list_entry: int = 0
    """The ledger entry that last sent the list: not every backend gives back what was in it."""
    changes: Sequence[str] = ()
    """What an update changes, in the words of its question."""
    question: str | None = None
    """What a person has to say yes to although it does not dial: what loses results."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """It may be sent now. `token`: its confirmation, to be used up when it is recorded."""

    token: Token | None = None


@dataclass(frozen=True, slots=True)
class CodeNeeded:
    """The launch waits: show `question` to the person, then repeat the call with `code`."""

    question: str
    code: str


@dataclass(frozen=True, slots=True)
class PersonNeeded:
    """The launch waits for a person's answer outside the client; the same call again goes by that answer."""

    question: str
    reach: Reach
    until: datetime


Needed: TypeAlias = CodeNeeded | PersonNeeded


def allowed_in(mode: Mode, operation: Operation) -> bool:
    """Whether a mode lets this kind of operation through at all. Pure."""
    return operation in READS or mode == "full" or (mode == "draft" and operation not in _ALWAYS_DIALS)


class Guard:
    """The operator's rules, applied to every write of this process.

    Raises:
        ConfigurationError: BATCHCALL_CONFIRM=off without a limit of calls.
    """

    def __init__(
        self,
        mode: Mode,
        confirm: Confirm,
        max_calls_per_launch: int | None,
        audit: Audit,
        *,
        accept_no_stop: bool = False,
    ) -> None:
        if confirm == "off" and max_calls_per_launch is None:
            raise ConfigurationError(
                "BATCHCALL_CONFIRM=off needs BATCHCALL_MAX_CALLS_PER_LAUNCH: without a person, a limit has to stop a "
                "wrong list. Set it, or choose auto, person or code. Nothing was sent."
            )
        self.mode = mode
        self.confirm = confirm
        self.accept_no_stop = accept_no_stop
        self.audit = audit
        self.whose_mode = f"This server runs with BATCHCALL_MODE={mode}"
        self.who_can_change_it = "Only the operator can change the mode."

    def narrowed(self, mode: Mode | None, whose: str) -> Guard:
        """The same rules in a narrower mode that one request asks for; a wider one changes nothing.

        `whose` begins the sentence of a refusal: what asked for the mode.
        """
        if mode is None or _WIDEST_FIRST.index(mode) <= _WIDEST_FIRST.index(self.mode):
            return self
        narrower = copy(self)
        narrower.mode, narrower.whose_mode = mode, whose
        narrower.who_can_change_it = "Only the person who set up this client can change that."
        return narrower

    def forbidden(self, what: str) -> PermissionDenied:
        """The refusal of what the mode does not allow: `what` is that, as a clause."""
        return PermissionDenied(f"{self.whose_mode}: {what}. Nothing was sent. {self.who_can_change_it}")

    def check_mode(self, operation: Operation, dials: Dials) -> None:
        """Refuse what the mode forbids.

        Raises:
            PermissionDenied: read-only and a write, or draft and something that dials.
        """
        if not allowed_in(self.mode, operation) or (self.mode == "draft" and not isinstance(dials, Never)):
            changing = self.mode == "read-only"
            raise self.forbidden("nothing may be changed" if changing else "nothing that dials is allowed")

    def takes_codes(self, *, simulated: bool) -> bool:
        """Whether a code that the model passes on may confirm: never by default where a real phone could ring."""
        return self.confirm == "code" or (self.confirm == "auto" and simulated)

    async def admit(self, launch: Launch, asker: Asker, code: str | None, codes: Codes) -> Admitted | Needed:
        """Let a launch pass, or say what it waits for.

        A person is asked in the client, where it can ask; else outside of it. A code comes last, and only where codes
        are taken.

        Raises:
            InvalidInput: something blocks it, and no confirmation helps.
            PermissionDenied: the mode forbids it.
            NotConfirmed: the person said no or did not answer, or the code is not valid.
        """
        self.check_mode(launch.operation, launch.dials)
        if isinstance(launch.dials, Never) and launch.question is None:
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
        await anyio.to_thread.run_sync(codes.remember, binding, launch.caller)
        asked = launch.question or question(launch.preflight, launch.request, launch.current, launch.backend)
        takes_codes = self.takes_codes(simulated=bool(launch.preflight.simulated))
        if takes_codes and code is not None:
            token = await self._token_of(launch, code, codes, binding)
            if token is not None:
                return Admitted(token)
            asked = _CHANGED + asked
        elif self.confirm != "code":
            decided = await self._by_a_person(launch, asker, codes, binding, asked, only_here=takes_codes)
            if decided is not None:
                return decided
        make = partial(codes.issue, caller=launch.caller, tool=launch.tool, binding=binding.text)
        new = await anyio.to_thread.run_sync(partial(make, arguments=launch.arguments, question=asked))
        self._note("question", launch, "code")
        return CodeNeeded(asked, new)

    async def _token_of(self, launch: Launch, code: str, codes: Codes, binding: Bound) -> Token | None:
        """The confirmation that a code is; None if it was given for something else, which makes it worthless."""
        pending = await recall(codes, launch.caller, launch.tool, code, {})
        if pending.is_used:
            raise NotConfirmed(
                "This confirmation code was used already; one code launches once. Nothing was sent by this call. Look "
                "at the batch call with get_batch_call; to launch again, call without a code to be asked again."
            )
        if await _covers(codes, binding, pending.binding):
            self._note("answer", launch, "code")
            return pending.token
        await anyio.to_thread.run_sync(codes.discard, pending.token)
        return None

    async def _by_a_person(
        self, launch: Launch, asker: Asker, codes: Codes, binding: Bound, asked: str, *, only_here: bool
    ) -> Admitted | PersonNeeded | None:
        """A person's answer, in the client or outside of it. None if the client cannot ask, and `only_here`."""
        before = await self._answered_outside(launch, asker, codes, binding)
        if before is not None and before.state == "approved" and await _covers(codes, binding, before.bound):
            self._note("answer", launch, "approved")
            return Admitted(before.token)
        answer = await self._asked(launch, asker, codes, asked, binding)
        if answer.outcome != "cannot_ask":
            # Yes or no, it is the answer to this launch: what waits for another one, or has another, ends here.
            await anyio.to_thread.run_sync(codes.approvals.withdraw, launch.caller, binding.text)
        if answer.outcome == "accepted":
            return Admitted(codes.answer(answer.nonce) if answer.nonce else None)
        if answer.outcome != "cannot_ask":
            raise NotConfirmed(f"{_happened(answer)} {_NOBODY_SAW_IT}")
        if only_here:
            return None
        approval = await self._asked_outside(launch, asker, codes, binding, asked)
        reach = await asker.reach(approval)
        return PersonNeeded(approval.shown.question, reach, approval.expires_at)

    async def _answered_outside(self, launch: Launch, asker: Asker, codes: Codes, binding: Bound) -> Approval | None:
        """The question of this launch that a person was shown outside the client, if it can still let it pass.

        Raises:
            NotConfirmed: a person said no to it. That is reported to each call that waited, or else to the next one.
        """
        approvals = codes.approvals
        found = await anyio.to_thread.run_sync(approvals.of_launch, launch.caller, binding.text)
        said_no = found
        if found is None and asker.waited_for is not None:
            said_no = await anyio.to_thread.run_sync(approvals.find, asker.waited_for)
        if said_no is None or said_no.state not in {"declined", "withdrawn"}:
            return found
        if await anyio.to_thread.run_sync(approvals.report, said_no.approval_id):
            self._note("answer", launch, "declined")
        said = "the answer was no" if said_no.state == "declined" else "the question was closed by an answer elsewhere"
        raise NotConfirmed(
            f"A person was asked outside this client, and {said}. Nothing was sent. Do not ask again unless the person "
            "wants it."
        )

    async def _asked_outside(self, launch: Launch, asker: Asker, codes: Codes, binding: Bound, asked: str) -> Approval:
        """The question of this launch, for a person outside the client: one that waits already, or a new one."""
        for _ in range(_MOST_TRIES):
            found = await self._answered_outside(launch, asker, codes, binding)
            if found is not None and await _covers(codes, binding, found.bound):
                return found
            new = await anyio.to_thread.run_sync(
                partial(
                    codes.approvals.ask,
                    caller=launch.caller,
                    tool=launch.tool,
                    bound=binding.text,
                    shown=_shown(launch, asked if found is None else _CHANGED + asked),
                    in_place_of=None if found is None else found.approval_id,
                )
            )
            if new is not None:
                self._note("question", launch, "approval")
                return new
        raise NotConfirmed("Another call asks about the same launch at this moment. Nothing was sent. Try again.")

    async def _asked(self, launch: Launch, asker: Asker, codes: Codes, asked: str, binding: Bound) -> Answer:
        try:
            answer = await asker.ask(asked, binding.text, partial(_covers, codes, binding))
        except QuestionPending:
            self._note("question", launch, "asked")
            raise
        if answer.outcome != "cannot_ask":
            self._note("answer", launch, answer.outcome, answer.seconds)
        if answer.outcome == "accepted":
            closed = await anyio.to_thread.run_sync(codes.is_closed, launch.caller, binding, answer.seconds or 0)
            if closed:
                raise NotConfirmed(
                    "This question was closed after it was asked, by a no or by an emergency stop. Nothing was sent. "
                    "Do not ask again unless the person wants it."
                )
        elif answer.outcome != "cannot_ask":
            # A no ends the question, and every copy of it: none can be answered with a yes any more.
            await anyio.to_thread.run_sync(codes.close, launch.caller, binding)
            if answer.nonce is not None:
                await anyio.to_thread.run_sync(codes.discard, codes.answer(answer.nonce))
        return answer

    def _check_unattended(self, launch: Launch) -> None:
        """Nobody is asked: what a person would have judged blocks."""
        if launch.question is not None:
            self._note("refused", launch, "warnings")
            raise NotConfirmed(
                f"BATCHCALL_CONFIRM=off: nobody is asked, so this is refused. {launch.question} Nothing was "
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
        backend=launch.backend_address,
        tool=launch.tool,
        operation=launch.operation,
        request=launch.request,
        current=launch.current,
        called=launch.called,
        skipped_rows=launch.skipped_rows,
        concerns=launch.concerns,
        said=(
            launch.preflight.agent,
            launch.preflight.begins,
            bool(launch.preflight.simulated),
            launch.list_entry,
            launch.question,
            *launch.changes,
            *([f"in {launch.preflight.undo_seconds} s"] if launch.preflight.undo_seconds else []),
            *_price(launch.preflight),
            *([launch.preflight.payer] if launch.preflight.payer else []),
        ),
    )


def _price(found: Preflight) -> list[str]:
    """Not the amount: fewer people than were shown cost less."""
    return [f"{found.estimate.per_minute} a minute"] if found.estimate and found.estimate.per_minute else []


def _word(launch: Launch) -> str:
    """What a person types to approve it: a habit would approve 60,000 calls as easily as 3."""
    if isinstance(launch.dials, Never):
        return str(launch.operation)
    return "unknown" if launch.preflight.calls is None else str(launch.preflight.calls)


def _shown(launch: Launch, asked: str) -> Shown:
    found = launch.preflight
    return Shown(
        question=asked,
        word=_word(launch),
        samples=samples_of(launch.called),
        skipped=tuple(skipped_words(rows) for rows in (found.skipped_rows, found.skipped_before) if rows),
        concerns=(*found.warnings, *found.notes),
        batch_call_id=launch.current.batch_call_id if launch.current else None,
    )


def _happened(answer: Answer) -> str:
    after = "" if answer.seconds is None else f" after {answer.seconds:.1f} s"
    return {
        "declined": f"The client answered no{after}.",
        "cancelled": f"The question was dismissed{after}.",
        "malformed": f"The client's answer{after} could not be read.",
        "unanswered": f"Nobody answered the question{after}.",
    }[answer.outcome]


_NOBODY_SAW_IT = (
    "Nothing was sent. If no person saw a question, this client answers by itself: the operator has to use another "
    "client, or another way for people to answer. Do not try again unless the person asks for it."
)
