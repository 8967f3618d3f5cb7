"""Digests of a launch: what a confirmation is bound to, and by what the ledger knows a write again. Pure.

Neither holds anything that moves with the clock, or the same launch would be another one a minute later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, NamedTuple

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallTask
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.recipients.validation import SkippedRow

_NAME_DIGITS = 6
MEMBER_BYTES = 8
_DIGEST_DIGITS = 32
_SINCE_THE_FIRST_VERSION = frozenset(
    {
        *("from_number", "name", "agent_id", "trigger_at", "send_now", "status", "timezone", "window"),
        *("max_concurrency", "retry", "retry_of"),
    }
)
PEOPLE = "people"
"""The set of those who would be called; there is one more set for each kind of concern."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a confirmation stands for: one launch, exactly these people, and no concern that the question did not name.

    `launch` is a digest of the request and of the batch call as it stands. `sets` are the people and each kind of
    concern, as hashes of 8 bytes; where they come in another order, they are the same.
    """

    launch: str
    sets: Mapping[str, frozenset[bytes]]

    @property
    def text(self) -> str:
        """As it is stored, and sealed into a question: short for a list of any size."""
        digests = (_named(kind, members) for kind, members in sorted(self.sets.items()) if members)
        return " ".join([self.launch, *digests])


def bound(
    *,
    caller: str,
    backend: str,
    tool: str,
    operation: Operation,
    request: BatchCallRequest | None,
    current: BatchCall | None,
    called: Iterable[CallTask],
    skipped_rows: Iterable[SkippedRow],
    concerns: Mapping[str, Iterable[str]],
    said: Iterable[str | int | None] = (),
) -> Bound:
    """What a confirmation of this launch stands for.

    Args:
        caller: hashed.
        backend: its name and URL.
        tool: the tool call's.
        operation: what would be asked of the backend.
        request: what would be sent.
        current: the batch call as it stands.
        called: the people who would be called.
        skipped_rows: the rows of the list that would not be.
        concerns: of each kind, whom or what it is about.
        said: what the question says beyond all that, such as who speaks.
    """
    digest = _Digest(caller, backend, tool, operation)
    if request is not None:
        digest.add(_settings(request))
    if current is not None:
        digest.add([current.batch_call_id, current.status, current.scheduled_at, current.from_number])
        digest.add([current.counts.total, current.name, current.agent_id, current.timezone])
        digest.add([current.max_concurrency, current.window, current.retry, current.status_reason])
        dates = [current.scheduled_on, current.expires_on, current.expires_at]
        if any(dates):
            digest.add(dates)
        if current.first is not None:
            digest.add(["first", current.first])
    for row in skipped_rows:
        digest.add([row.line, row.kind, row.to_number])
    digest.add(list(said))
    # Two people who each confirmed a retry would have everybody dialled twice: there the attempts count too.
    again = operation is Operation.RETRY
    sets = {PEOPLE: _members([*_recipient(task), task.attempts if again else None] for task in called)}
    if current is None:  # only its people distinguish a new batch call from another one
        digest.add(_named(PEOPLE, sets[PEOPLE]))
    sets |= {kind: _members([one] for one in members) for kind, members in concerns.items()}
    return Bound(digest.hex(), sets)


def launch_of(text: str) -> str:
    """The digest of the launch, of the text of a `Bound`."""
    return text.partition(" ")[0]


def covers(shown: str, shown_sets: Mapping[str, frozenset[bytes]] | None, now: Bound) -> bool:
    """Whether a yes to what was shown is a yes to what would be done now.

    The same launch of the same people with the same concerns is. So is one of fewer: who was called meanwhile, or a
    concern that has gone, needs no new question. That can only be seen where the sets of the question are still known.

    Args:
        shown: the text of what was shown.
        shown_sets: its sets; None if they are not kept.
        now: what would be done now.
    """
    if launch_of(shown) != now.launch:
        return False
    same = set(shown.split(" "))
    kept = shown_sets or {}
    return all(
        _named(kind, members) in same or (kind in kept and members <= kept[kind])
        for kind, members in now.sets.items()
        if members
    )


def member(value: str) -> bytes:
    """What stands for one thing that a concern is about, in the sets of a `Bound`."""
    return next(iter(_members([[value]])))


def _members(values: Iterable[list[object]]) -> frozenset[bytes]:
    """A hash of each; of what comes several times, one for each time."""
    found: set[bytes] = set()
    times: dict[bytes, int] = {}
    for value in values:
        key = hashlib.sha256(ascii(value).encode()).digest()
        times[key] = nth = times.get(key, 0) + 1
        found.add(key[:MEMBER_BYTES] if nth == 1 else _nth(key, nth))
    return frozenset(found)


def _nth(key: bytes, position: int) -> bytes:
    return hashlib.sha256(key + str(position).encode()).digest()[:MEMBER_BYTES]


def _named(kind: str, members: frozenset[bytes]) -> str:
    return f"{kind}={hashlib.sha256(b''.join(sorted(members))).hexdigest()[:_DIGEST_DIGITS]}"


def fingerprint(
    operation: Operation, request: BatchCallRequest, batch_call_id: str | None = None, again: Iterable[CallTask] = ()
) -> str:
    """Digest of a write: equal ones ask for the same. `again`: the tasks that a retry dials, with their attempts."""
    digest = _Digest(operation, batch_call_id)
    digest.add(_settings(request))
    for task in request.tasks or ():
        digest.add(_recipient(task))
    for task in again:
        digest.add([task.task_id, task.to_number, task.attempts])
    return digest.hex()


def made_through(carrier: str, of: str) -> str:
    """The digest of a batch call that is made for a carrier with real phones: no rehearsal of the same list is it, nor
    one that was made for another carrier.
    """
    return _Digest("made through", carrier, of).hex()


def made_up_name(of: str, made_on: datetime, key: str | None = None) -> str:
    """A name for a batch call that was given none: by its last digits it is found again when an answer is lost."""
    digits = hashlib.sha256(f"{of} {key or ''}".encode()).hexdigest() if key else of
    return f"Batch call {made_on:%Y-%m-%d} {digits[:_NAME_DIGITS]}"


def people_digest(numbers: Iterable[str]) -> str:
    """Of a list of numbers as E.164, in any order: backends give tasks back in one of their own."""
    count = total = 0
    for number in numbers:
        count += 1
        total += int.from_bytes(hashlib.sha256(number.encode()).digest(), "big")
    return f"{count} {total % 2**256:064x}"


class SentList(NamedTuple):
    """A list that is sent, and what is recorded of it: worked out once, although a write is looked up three times."""

    tasks: Sequence[CallTask] | None
    people: str | None
    variables: tuple[str, ...] | None

    @classmethod
    def of(cls, tasks: Sequence[CallTask] | None, hashed: Callable[[str], str]) -> SentList:
        """Of a list, or of none."""
        if tasks is None:
            return cls(None, None, None)
        people = hashed(people_digest(comparable(task.to_number) for task in tasks))
        return cls(tasks, people, _had_by_all(tasks, hashed))


def _had_by_all(tasks: Sequence[CallTask] | None, hashed: Callable[[str], str]) -> tuple[str, ...] | None:
    """The variables that every task has, hashed; None if there are none of them."""
    if not tasks:
        return None
    found = {name for name, value in tasks[0].dynamic_variables.items() if value}
    for task in tasks:
        found = {name for name in found if task.dynamic_variables.get(name)}
        if not found:
            return None
    return tuple(sorted(hashed(f"variable {name}") for name in found))


class _Digest:
    def __init__(self, *values: object) -> None:
        self._hash = hashlib.sha256()
        self.add(values)

    def add(self, value: object) -> None:
        self._hash.update(_JSON.encode(value).encode())
        self._hash.update(b"\n")

    def hex(self) -> str:
        return self._hash.hexdigest()


def _settings(request: BatchCallRequest) -> dict[str, object]:
    """What a field that came later says only where it is given: an equal write of an older version stays equal."""
    given = {name: getattr(request, name) for name in BatchCallRequest.__dataclass_fields__ if name != "tasks"}
    return {name: value for name, value in given.items() if value is not None or name in _SINCE_THE_FIRST_VERSION}


def _recipient(task: CallTask) -> list[object]:
    promised = [] if task.not_before is None else [task.not_before.isoformat()]
    variables = dict(sorted(task.dynamic_variables.items()))
    return [task.to_number, task.name, variables, task.max_retries, task.timezone, *promised]


def _plain(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is None:
        raise TypeError(f"{type(value).__name__} has no place in a digest")
    return {name: getattr(value, name) for name in fields}


_JSON: Final = json.JSONEncoder(sort_keys=True, default=_plain, ensure_ascii=True)
