"""One-shot confirmations, each bound to exactly one launch.

A confirmation says "equal to the preview, once". It is bound to the caller, the operation, the normalised request, the
numbers in order with their variables, the rows left out and the state of the batch call; to nothing that moves with
the clock. It lives in this process, for ten minutes.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from batchcall_mcp.backends.base import Operation
from batchcall_mcp.errors import NotConfirmed
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallTask
from batchcall_mcp.recipients import LeftOut

LIFETIME_S = 600
_MOST_PENDING = 1000
_MOST_CHARACTERS = 32 * 1024 * 1024
"""Of all arguments that are remembered: each may be as large as a request."""
_CODE_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # nothing that a person misreads over the telephone


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a question. `seconds` is how long the answer took, where that can be known."""

    outcome: Literal["accepted", "declined", "cancelled", "unanswered", "cannot_ask"]
    seconds: float | None = None
    nonce: str | None = None
    """Identifies the question that was answered, where an answer could be sent twice."""


class Asker(Protocol):
    """Puts a question to the person behind the client.

    An asker may end the tool call by raising, to be called again with the answer when the client repeats the call (the
    2026-07-28 protocol works so). An answer given to another `binding` counts as not given: it asks anew.
    """

    async def ask(self, question: str, binding: str) -> Answer:
        """Ask, and wait for the answer, at most as long as the asker's own limit."""
        ...


@dataclass(frozen=True, slots=True)
class PendingLaunch:
    """A launch that waits for its code. `arguments` are the tool call's, so that they need not be repeated."""

    caller: str
    tool: str
    binding: str
    arguments: Mapping[str, Any]
    expires: float
    characters: int


class Confirmations:
    """The codes and nonces of this process. Bounded; the oldest go first. Of one launch only the last code counts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pending: OrderedDict[str, PendingLaunch] = OrderedDict()
        self._used: OrderedDict[str, float] = OrderedDict()

    def issue(self, caller: str, tool: str, binding: str, arguments: Mapping[str, Any]) -> str:
        """Make a code for this launch; one that was made for it before is worth nothing any more."""
        now = self._clock()
        for old, one in list(self._pending.items()):
            if one.expires < now or (one.caller == caller and one.binding == binding):
                del self._pending[old]
        code = "".join(secrets.choice(_CODE_ALPHABET) for _ in range(8))
        size = len(repr(arguments))
        self._pending[code] = PendingLaunch(caller, tool, binding, dict(arguments), now + LIFETIME_S, size)
        held = sum(one.characters for one in self._pending.values())
        while len(self._pending) > _MOST_PENDING or (held > _MOST_CHARACTERS and len(self._pending) > 1):
            held -= self._pending.popitem(last=False)[1].characters
        return code

    def recall(self, caller: str, tool: str, code: str, given: Mapping[str, Any]) -> PendingLaunch:
        """Find the launch of a code, without using it up.

        Raises:
            NotConfirmed: the code is unknown, expired or used, belongs to another caller or tool, or an argument
                that was given differs from the one that the code stands for.
        """
        pending = self._pending.get(code.strip().upper())
        if pending is None or pending.expires < self._clock() or pending.caller != caller or pending.tool != tool:
            raise NotConfirmed(
                "This confirmation code is not valid here: it is unknown, older than ten minutes, already used, or for "
                f"another tool. Nothing was sent. Call {tool} without a code to get the question and a new code."
            )
        differing = [name for name, value in given.items() if pending.arguments.get(name) != value]
        if differing:
            raise NotConfirmed(
                f"The code confirms another request: {', '.join(sorted(differing))} differ from what was shown. "
                "Nothing was sent. Leave them out, or call without the code to be asked about the new request."
            )
        return pending

    def use_code(self, code: str) -> None:
        """Use a code up. To be called right before sending, with no wait between.

        Raises:
            NotConfirmed: if somebody was faster.
        """
        if self._pending.pop(code.strip().upper(), None) is None:
            raise NotConfirmed("This confirmation code was used a moment ago. Nothing was sent by this call.")

    def use_nonce(self, nonce: str) -> None:
        """Use up the answer to one question.

        Raises:
            NotConfirmed: if this answer has launched something already.
        """
        now = self._clock()
        while self._used and next(iter(self._used.values())) < now - 2 * LIFETIME_S:
            self._used.popitem(last=False)
        if nonce in self._used:
            raise NotConfirmed(
                "This answer was used already; one answer launches once. Nothing was sent by this call. "
                "Look at the batch call with get_batch_call before launching again."
            )
        self._used[nonce] = now


def binding(
    *,
    caller: str,
    backend: str,
    operation: Operation,
    request: BatchCallRequest | None,
    current: BatchCall | None,
    tasks: Iterable[CallTask],
    left_out: Iterable[LeftOut],
) -> str:
    """Digest of everything that a confirmation stands for, and of nothing that moves with the clock."""
    digest = hashlib.sha256()

    def add(value: object) -> None:
        digest.update(json.dumps(value, sort_keys=True, default=_plain, ensure_ascii=True).encode())
        digest.update(b"\n")

    add([caller, backend, operation])
    if request is not None:
        names = (name for name in BatchCallRequest.__dataclass_fields__ if name != "tasks")
        add({name: getattr(request, name) for name in names})
    if current is not None:
        add([current.batch_call_id, current.status, current.scheduled_at, current.from_number, current.counts.total])
        add([current.name, current.agent_id, current.timezone, current.max_concurrency])
        add([current.window, current.retry])
    for task in tasks:
        add([task.to_number, task.name, dict(task.dynamic_variables), task.max_retries, task.timezone])
        if operation is Operation.RETRY:  # two people who each confirmed it would have everybody dialled twice
            add(task.attempts)
    for row in left_out:
        add([row.line, row.kind, row.to_number])
    return digest.hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is None:
        raise TypeError(f"{type(value).__name__} has no place in a confirmation")
    return {name: getattr(value, name) for name in fields}
