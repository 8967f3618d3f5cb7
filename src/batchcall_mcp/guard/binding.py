"""Digests of a launch: what a confirmation is bound to, and by what the ledger knows a write again. Pure.

Neither holds anything that moves with the clock, or the same launch would be another one a minute later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime

from batchcall_mcp.backends.base import Operation
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallTask
from batchcall_mcp.recipients import LeftOut

_NAME_DIGITS = 6


def binding(
    *,
    caller: str,
    backend: str,
    tool: str,
    operation: Operation,
    request: BatchCallRequest | None,
    current: BatchCall | None,
    tasks: Iterable[CallTask],
    left_out: Iterable[LeftOut],
) -> str:
    """Digest of everything that a confirmation stands for. `backend` is its name and URL."""
    digest = _Digest(caller, backend, tool, operation)
    if request is not None:
        digest.add(_settings(request))
    if current is not None:
        digest.add([current.batch_call_id, current.status, current.scheduled_at, current.from_number])
        digest.add([current.counts.total, current.name, current.agent_id, current.timezone])
        digest.add([current.max_concurrency, current.window, current.retry])
    for task in tasks:
        digest.add(_recipient(task))
        if operation is Operation.RETRY:  # two people who each confirmed it would have everybody dialled twice
            digest.add(task.attempts)
    for row in left_out:
        digest.add([row.line, row.kind, row.to_number])
    return digest.hex()


def with_concerns(digest: str, concerns: Sequence[int]) -> str:
    """A binding that knows what the question warned of: how many people of each kind of concern."""
    return " ".join([digest, *map(str, concerns)])


def digest_of(bound: str) -> str:
    """Of a binding, without its concerns."""
    return bound.partition(" ")[0]


def covers(shown: str, now: str) -> bool:
    """Whether a yes to what was shown is a yes to what would be done now: the same launch, and no new concern.

    Concerns that have gone (a call of another batch call was placed meanwhile) need no new question.
    """
    (digest, *warned), (latest, *found) = shown.split(" "), now.split(" ")
    return (
        digest == latest
        and len(warned) == len(found)
        and all(int(then) >= int(this) for then, this in zip(warned, found, strict=True))
    )


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


def made_up_name(of: str, made_on: datetime, key: str | None = None) -> str:
    """A name for a batch call that was given none: by its last digits it is found again when an answer is lost."""
    digits = hashlib.sha256(f"{of} {key or ''}".encode()).hexdigest() if key else of
    return f"Batch call {made_on:%Y-%m-%d} {digits[:_NAME_DIGITS]}"


class PeopleDigest:
    """Of a list of numbers, whatever their order: backends give tasks back in one of their own."""

    def __init__(self) -> None:
        self._sum = 0
        self._count = 0

    def add(self, numbers: Iterable[str]) -> None:
        """Numbers as E.164."""
        for number in numbers:
            self._count += 1
            self._sum = (self._sum + int.from_bytes(hashlib.sha256(number.encode()).digest(), "big")) % 2**256

    def hex(self) -> str:
        """The digest of all that were added."""
        return f"{self._count} {self._sum:064x}"


class _Digest:
    def __init__(self, *values: object) -> None:
        self._hash = hashlib.sha256()
        self.add(values)

    def add(self, value: object) -> None:
        self._hash.update(json.dumps(value, sort_keys=True, default=_plain, ensure_ascii=True).encode())
        self._hash.update(b"\n")

    def hex(self) -> str:
        return self._hash.hexdigest()


def _settings(request: BatchCallRequest) -> dict[str, object]:
    return {name: getattr(request, name) for name in BatchCallRequest.__dataclass_fields__ if name != "tasks"}


def _recipient(task: CallTask) -> list[object]:
    return [task.to_number, task.name, dict(task.dynamic_variables), task.max_retries, task.timezone]


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is None:
        raise TypeError(f"{type(value).__name__} has no place in a digest")
    return {name: getattr(value, name) for name in fields}
