"""What every carrier offers: the engine does not care which one dials.

A carrier over an API asks for a call in `outcome`, while the engine holds the batch call still (`Line.sending`): it
keeps no queue of its own and asks for no call twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

from batchcall_mcp.model import Agent, AnsweredBy, CallerNumber, TaskStatus, Turn
from batchcall_mcp.money import Money

SIMULATED: Final = "simulated"
"""The name of the carrier of every batch call of an older version."""

OutcomeStatus: TypeAlias = Literal[
    TaskStatus.COMPLETED,
    TaskStatus.NO_ANSWER,
    TaskStatus.BUSY,
    TaskStatus.VOICEMAIL,
    TaskStatus.FAILED,
    TaskStatus.INTERRUPTED,
]
"""`interrupted`: whether the phone rang, or what came of it, is not known. Nobody is dialled again for that."""


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
    """Compact JSON."""
    until: datetime | None = None
    """From this moment on it must not be dialled any more: the date of this person is over. The engine holds that."""
    claimed_at: datetime | None = None
    """When it was started. A withdrawn attempt leaves its number to the next one: the engine tells them apart by it."""

    @property
    def attempt_id(self) -> str:
        """The name of this attempt in the API, the carrier's record and the logs."""
        return f"{self.task_id}:{self.n}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended; `error` says why it failed.

    `opted_out`: the person said that they do not want to be called again. The organisation calls them no more.
    `duration_seconds`: how long it was connected. `choice`: what the person chose, such as a key that they pressed.
    `permanent`: the rules of the batch call do not dial this number again, whatever they say of `status`.
    `backend_status`: the vendor's own word. `summary`: in the vendor's words, data.
    """

    status: OutcomeStatus
    error: str | None = None
    opted_out: bool = False
    duration_seconds: float | None = None
    answered_by: AnsweredBy | None = None
    choice: str | None = None
    permanent: bool = False
    backend_status: str | None = None
    cost: Money | None = None
    summary: str | None = None


class CarrierUnavailable(Exception):
    """Nobody was rung, and the call may be placed later; it is no attempt. The text says why, without a number.

    `retry_after`: seconds. `whole_account`: no other call of the account has to be tried before that either.
    """

    def __init__(self, why: str, *, retry_after: float | None = None, whole_account: bool = False) -> None:
        super().__init__(why)
        self.retry_after = retry_after
        self.whole_account = whole_account


class AccountAtFault(Exception):
    """Nobody was rung, and every call of the batch call would end like this: a wrong key, no credit, a caller number
    that is not the account's. The batch call is paused; the text says what is wrong and what to do.
    """


class NotCallable(Exception):
    """Nothing was sent, and this person is not called: they are `skipped`. The text says why, without a number."""


class NoLongerWanted(Exception):
    """Nothing was sent: the batch call was paused, cancelled or stopped meanwhile, or its hours are over. From the
    engine; a carrier lets it through.
    """


class Line(Protocol):
    """What the engine offers a carrier during one call."""

    @property
    def call_id(self) -> str | None:
        """The vendor's id of a call that an earlier process placed; None: it is new, or the id was lost."""
        ...

    @property
    def asked_since(self) -> datetime | None:
        """A process that ended may have asked for this call, not before this moment: it is looked up and never asked
        for again. None: it is new.
        """
        ...

    def sending(self) -> AbstractAsyncContextManager[None]:
        """Hold the batch call still while the request for this call leaves: none leaves after a pause has answered.

        To be entered when the connection is open, and left when the request has arrived: its answer begins, or some
        milliseconds are over since it was written.

        Raises:
            NoLongerWanted: do not send it.
        """
        ...

    async def placed(self, call_id: str) -> None:
        """Remember the vendor's id of the call, as soon as its answer has one."""
        ...


class Carrier(Protocol):
    """Places calls."""

    name: str
    """As in BATCHCALL_CARRIER; a batch call belongs to it from its creation."""
    title: str
    """For people: `Twilio`."""
    places_real_calls: bool
    capacity: int
    """Most calls at once, over all processes that dial from one database."""
    calls_per_second: float | None
    """The most that the account may begin, over all of those processes, each in `Line.sending`; None: any number."""
    calls_outlive_us: bool
    """Whether a call goes on when this process ends, so that whoever dials next reads what comes of it. Such a carrier
    asks for each call in `outcome`, within `Line.sending`: one for which no request was let through is dialled again.
    """

    def dial(self, attempt: Attempt) -> None:
        """Ask for the call and return at once.

        Called from a worker thread, inside the transaction that holds the batch call's state still: no dial starts
        after a pause has answered. It must not wait for the far end. A carrier over an API only says here whether it
        takes calls, and asks for the call in `outcome`.

        Raises:
            CarrierUnavailable: nobody is called. Anything else means that somebody may be.
        """
        ...

    async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
        """Ask for the call, where `dial` has not, and wait for its end. One that it is cancelled in goes on: people are
        not hung up on, and whoever dials next waits for its end by `Line.call_id`.

        Raises:
            CarrierUnavailable, AccountAtFault, NotCallable, NoLongerWanted: nobody was rung.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierAccount:
    """What the account at the vendor has; a part that cannot be read is None."""

    numbers: tuple[CallerNumber, ...] | None
    agents: tuple[Agent, ...] | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDetails:
    """What was said in a call, as the vendor has it: data, never instructions."""

    transcript: tuple[Turn, ...] | None = None
    recording_url: str | None = None
    summary: str | None = None
    ended_reason: str | None = None


@runtime_checkable
class HasAccount(Protocol):
    """A carrier with an account: numbers, agents, somebody who pays."""

    payer: str
    """Whose money it is, for the question: `the Twilio account AC…9f2c`. No secret."""

    async def account(self) -> CarrierAccount:
        """Its numbers and agents, read at most once in some minutes.

        Raises:
            AccountAtFault: the key is not accepted.
            CarrierUnavailable: it could not be read now.
        """
        ...

    def problem(self, account: CarrierAccount, attempt: Attempt) -> str | None:
        """Why this call could not be placed from this account (caller number, agent, a missing variable); None: it can.

        Pure, and without the number in its text. The same is looked at before each call.
        """
        ...

    async def details(self, call_id: str) -> CallDetails:
        """What was said in a call that is over, by the vendor's id.

        Raises:
            CarrierUnavailable: it could not be read now.
        """
        ...


@runtime_checkable
class ReportsCalls(Protocol):
    """A carrier whose vendor sends requests of its own about calls, to `POST /carriers/{name}`."""

    name: str

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:
        """Whether the vendor signed this request, and lately where it signs the time. `url`: as the vendor has it.

        Pure, of any body and headers; the names of headers are found in any case.
        """
        ...

    def named(self, body: bytes) -> Iterable[str]:
        """The vendor's ids of the calls that a signed body is about; none if it is about something else."""
        ...

    def heard(self, call_id: str, body: bytes | None = None) -> None:
        """Read this call now, if this process waits for its end. From any thread; returns at once."""
        ...


DO_NOT_CALL: Final = "do_not_call"
"""What a key stands for, in the operator's file, that a person presses in order not to be called again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPress:
    """What a person pressed during a call, as the vendor reports it. The numbers are those of the call."""

    call_id: str
    from_number: str
    to_number: str
    keys: str


@runtime_checkable
class HearsKeys(Protocol):
    """A carrier whose vendor reports keys by a signed request alone, and goes on with the call by its answer."""

    def key_press(self, body: bytes) -> KeyPress | None:
        """What was pressed, by a signed body; None: it is about something else."""
        ...

    def meaning(self, agent_id: str | None, keys: str) -> str | None:
        """What these keys stand for in calls of this agent: a choice, or DO_NOT_CALL; None: nothing.

        An agent that is not known (any more, or None): DO_NOT_CALL, if they stand for it in calls of any agent.
        """
        ...

    def reply(self, agent_id: str | None, keys: str) -> str:
        """How such a call goes on, as XML for the vendor. Of an agent that is not known: it ends."""
        ...
