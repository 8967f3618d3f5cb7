"""A write as the ledger knows it: what is meant before it is sent, and what is recorded of it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.money import Money

STOPS = frozenset({Operation.PAUSE, Operation.CANCEL})
"""What only ever makes fewer phones ring: no lock, limit or broken ledger may hold it up."""


ARRIVES_WITHIN_S = 30.0
"""How long after its time-out a request may still take effect: it may wait somewhere on its way."""

STOP_WAITS_S = 2.0
"""How long a stop waits for its place in the ledger; then it goes on without."""


class WriteState(StrEnum):
    """What is known of a write. `unknown`: it was sent, or may have been, and nobody knows what came of it."""

    SENDING = "sending"
    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """By what a later look at the backend can tell that a write took effect. Moments are milliseconds since 1970.

    `total` is the number of tasks that were sent. `name` is one that we made up; one that was given is hashed, as is
    `from_number`.
    """

    name: str | None = None
    given_name: str | None = None
    named_there: bool = False
    """The backend itself makes it, and names it as it likes: it is known by the batch call that it is made of."""
    retry_of: str | None = None
    tasks_from: str | None = None
    """Whose people, by what came of their calls, are its list; no evidence, kept for later lists of those people."""
    test_of: str | None = None
    from_number: str | None = None
    total: int | None = None
    people: str | None = None
    """A digest of the numbers, in any order."""
    status_before: str | None = None
    total_before: int | None = None
    trigger_at: int | None = None
    trigger_on: str | None = None
    """A date, as text."""
    ends_at: int | None = None
    ends_on: str | None = None
    """A date, as text."""
    first: int | None = None
    """For how many people a launch is."""
    launches: bool = False
    """Whether it asks for dialling at once."""
    skipped: dict[str, int] | None = None
    """Rows by reason that were skipped when the list was made; no evidence, kept for the question of the launch."""
    dials_each: int | None = None
    """How often a person of the list is dialled at most; for the launch, because not every backend gives that back."""
    variables: tuple[str, ...] | None = None
    """Those that every task of the list had, hashed; for the launch, because not every backend gives them back."""

    countries: dict[str, int] | None = None
    zones: dict[str, int] | None = None
    """Where its people are, as `preflight.listing.Places` has it; for the launch, where nobody can read them again."""

    def as_json(self) -> dict[str, Any]:
        """For the database."""
        return {name: value for name, value in asdict(self).items() if value not in (None, False)}


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest entry of a ledger at a moment, in milliseconds since 1970: what is recorded or sent later is newer."""

    write_id: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One write, before it is sent. `caller` is hashed; `key` is the caller's own idempotency key.

    `seen` is the newest entry about this batch call when it was read: a newer one means that it was read too early.
    `since` is the newest entry of all when the people of this launch were compared with those of others.
    """

    caller: str
    backend: str
    tool: str
    operation: Operation
    fingerprint: str
    batch_call_id: str | None = None
    key: str | None = None
    seen: int = 0
    evidence: Evidence = Evidence()
    dials: bool = False
    starts_at: datetime | None = None
    calls: int | None = None
    max_dials: int | None = None
    dial_cost: Money | None = None
    """What one dial costs, about; None: not known, or nothing because it is simulated."""
    renames: bool = False
    """It changes the name alone, which no launch depends on."""
    numbers: Sequence[tuple[str, int]] = ()
    """Whom it may dial, as numbers are compared, and how often at most; never (0): who is in a list that it sends, and
    that nobody can read again."""
    list_entries: tuple[int, ...] = ()
    """The entries that sent such a list, whose people this launch may dial; `list_dials` times each."""
    list_dials: int = 1
    named: frozenset[str] = frozenset()
    """Those of them who are known, and were said, to be called by another launch too."""
    since: Newest = field(default_factory=lambda: Newest(0, 0))
    simulated: bool = False
    """No real phone can ring: it counts only for other launches of which this is so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A confirmation that is used up in the transaction that records the launch, so that it cannot be used twice."""

    kind: Literal["code", "answer", "approval"]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of the ledger. Moments are milliseconds since 1970.

    `at` is when it was first recorded, `sent_at` when it was last sent; `status` is the batch call's after it, as the
    backend answered; `absent_at` when a complete look at the backend first did not show it.
    """

    write_id: int
    at: int
    sent_at: int
    caller: str
    backend: str
    tool: str
    operation: Operation
    batch_call_id: str | None
    key_hash: str | None
    fingerprint: str
    dials: bool
    calls: int | None
    starts_at: int | None
    state: WriteState
    owner: str
    backend_key: str
    evidence: Evidence
    status: str | None
    absent_at: int | None
    settled_at: int | None
    simulated: bool = False
    over_at: int | None = None
    """When the backend was seen to say that what this launch started is over."""
    max_dials: int | None = None
    dial_cost: int | None = None
    """Of one dial, in millionths of the currency, as it was estimated; None: no price was known."""
    currency: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether nobody knows yet what came of it."""
        return self.state in {WriteState.SENDING, WriteState.UNKNOWN}

    def is_equal(self, intent: Intent) -> bool:
        """Whether it asks for the same."""
        return (self.caller, self.backend, self.operation, self.fingerprint, self.batch_call_id or "") == (
            intent.caller,
            intent.backend,
            intent.operation,
            intent.fingerprint,
            intent.batch_call_id or self.batch_call_id or "",
        )


@dataclass(frozen=True, slots=True)
class Overtaken:
    """Nothing was recorded: this entry was there first."""

    by: Entry


@dataclass(frozen=True, slots=True)
class Shared:
    """Nothing was recorded: while this launch was judged, another one was recorded that calls some of its people."""

    by: Entry
    people: int
