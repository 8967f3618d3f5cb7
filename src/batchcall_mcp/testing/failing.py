"""When something goes wrong: errors of our tree, no write twice, limits before anything is sent, keys at home."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import cycle
from typing import Any

from batchcall_mcp.backends.base import unread
from batchcall_mcp.backends.capabilities import Operation, unsupported
from batchcall_mcp.backends.limits import over_limits
from batchcall_mcp.errors import (
    AuthenticationFailed,
    BackendUnavailable,
    BatchCallError,
    IllegalTransition,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
)
from batchcall_mcp.model import BatchCall, BatchCallRequest, ListQuery, TaskQuery
from batchcall_mcp.testing.check import Check, always
from batchcall_mcp.testing.scene import DAY, HOUR, MINUTE, Scene, backend_of, expect, refusal_of
from batchcall_mcp.testing.wire import LOSSES, link_elsewhere, lose, redirect, refuse, unchanged

WORDS = "purple elephants are asleep"
MOST_SENT = 1000
"""Tasks of a request that a test sends."""
SHAPES: tuple[Callable[[str], Any], ...] = (
    lambda words: {"error": words},
    lambda words: {"message": words},
    lambda words: {"detail": words},
    lambda words: {"detail": [{"loc": ["body", "name"], "msg": words, "type": "value_error"}]},
    lambda words: {"detail": {"status": "odd", "message": words}},
    lambda words: {"error": {"code": "odd", "message": words}},
    lambda words: {"message": [words], "error": "Bad Request", "statusCode": 400},
    lambda words: {"data": None, "errors": [words]},
)
"""Error bodies as vendors write them."""
MEANING: dict[int, tuple[type[BatchCallError], type[BatchCallError]]] = {
    400: (InvalidInput, InvalidInput),
    401: (AuthenticationFailed, AuthenticationFailed),
    402: (QuotaExceeded, QuotaExceeded),
    403: (PermissionDenied, PermissionDenied),
    404: (NotFound, NotFound),
    409: (IllegalTransition, IllegalTransition),
    422: (InvalidInput, InvalidInput),
    429: (RateLimited, RateLimited),
    500: (BackendUnavailable, OutcomeUnknown),
    503: (BackendUnavailable, OutcomeUnknown),
}
"""What a status means for a read and for a write."""
LEAVE_ERRORS = "Let the errors of CallerHttp pass; `recognise` names only those that the vendor's words say otherwise."


async def errors_map(scene: Scene) -> None:
    """Every status is an error of our tree, with the vendor's words, and without the key that it may echo."""
    known = await _made(scene)
    for at, (status, (of_read, of_write)) in enumerate(MEANING.items()):
        body = SHAPES[at % len(SHAPES)](f"{WORDS} {scene.fake.key}")
        scene.wire.change = refuse(status, body)
        if scene.offers(Operation.GET):
            _check_error(scene, status, of_read, await refusal_of(scene.backend.get(known.batch_call_id)))
        scene.wire.change = refuse(status, body, writes_only=True)
        _check_error(scene, status, of_write, await refusal_of(_made(scene)))


def _check_error(scene: Scene, status: int, wanted: type[BatchCallError], found: BatchCallError | None) -> None:
    expect(type(found) is wanted, f"HTTP {status} is {found!r}, and means {wanted.__name__}.", LEAVE_ERRORS)
    message = "" if found is None else found.message
    expect(WORDS in message, f"HTTP {status}: the vendor's words are not in {message!r}.", LEAVE_ERRORS)
    expect(scene.fake.key not in message, f"HTTP {status}: the key is in {message!r}.", LEAVE_ERRORS)


async def _made(scene: Scene) -> BatchCall:
    """As little as can be made: a draft, or what waits for its time."""
    return await (scene.scheduled(scene.soon()) if scene.can.drafts == "none" else scene.created())


async def wrong_key_is_named(scene: Scene) -> None:
    """The vendor's own answer to a wrong key is an authentication error, which does not repeat the key."""
    wrong = scene.fake.key[:-1] + ("x" if scene.fake.key[-1] != "x" else "y")
    secret = None if scene.fake.secret is None else scene.fake.secret[:-1] + "_"
    known = await _made(scene)
    before = len(scene.wire.sent)
    stranger, client = backend_of(scene.case, scene.wire, wrong, secret)
    async with client:
        asked: dict[Operation, Callable[[], Awaitable[object]]] = {
            Operation.ACCOUNT: stranger.account,
            Operation.GET: lambda: stranger.get(known.batch_call_id),
            Operation.LIST: lambda: stranger.list(ListQuery()),
            Operation.CREATE: lambda: stranger.create(_timed(scene)),
        }
        for operation, ask in asked.items():
            if not scene.offers(operation):
                continue
            refused = await refusal_of(ask())
            expect(
                isinstance(refused, AuthenticationFailed),
                f"{operation} with a wrong key answers {refused!r}.",
                "Let 401 pass, and recognise the vendor's words where it answers a wrong key otherwise.",
            )
            expect(wrong not in str(refused), f"{operation} with a wrong key repeats it: {refused}.", LEAVE_ERRORS)
    del scene.wire.sent[before:]  # a stranger's: they have no key of the fake's


async def lost_answer_is_never_sent_again(scene: Scene) -> None:
    """The answer to each write is lost after it took effect: it is an unknown outcome, and is not sent again."""
    turn = cycle(LOSSES)
    for operation, begin, write in _writes(scene):
        async with scene.again() as first:
            try:
                current = await begin(first)
                before = len(first.wire.writes)
                await write(first, current)
            except BatchCallError:
                continue  # its state does not allow it here
            number = len(first.wire.writes) - before
        for at in range(number):
            for how in LOSSES if operation == Operation.CREATE else (next(turn),):
                async with scene.again() as fresh:
                    await _lose_one(fresh, operation, await begin(fresh), write, at, how)


def _timed(scene: Scene, count: int = 2) -> BatchCallRequest:
    """A request with a time, where there are such."""
    return scene.request(count, trigger_at=None if scene.can.drafts == "now_only" else scene.soon())


Begin = Callable[[Scene], Awaitable[BatchCall]]
Send = Callable[[Scene, BatchCall], Awaitable[object]]


def _writes(scene: Scene) -> Iterator[tuple[str, Begin, Send]]:
    """The writes of this backend, each from a state that allows it."""

    async def nothing(_scene: Scene) -> BatchCall:
        return unread("none")

    async def draft(fresh: Scene) -> BatchCall:
        return await fresh.read(await fresh.created())

    async def waiting(fresh: Scene) -> BatchCall:
        return await fresh.read(await fresh.scheduled(fresh.soon()))

    async def over(fresh: Scene) -> BatchCall:
        return await fresh.finished(2, p0="failed")

    has_drafts = scene.can.drafts != "none"
    stored = draft if has_drafts else waiting

    async def paused(fresh: Scene) -> BatchCall:
        return await fresh.backend.pause(await waiting(fresh))

    async def retry(fresh: Scene, current: BatchCall) -> object:
        ids = tuple(one.task_id for one in await fresh.tasks(current) if one.task_id) if fresh.can.task_ids else ()
        return await fresh.backend.retry(current, ids[:1], "contract-key")

    yield "create", nothing, lambda fresh, _: fresh.backend.create(_timed(fresh), "key-1")
    if has_drafts:
        yield "create a draft", nothing, lambda fresh, _: fresh.backend.create(fresh.request(), "key-1")
    offered: dict[Operation, tuple[Begin, Send]] = {
        Operation.START: (stored, lambda fresh, current: fresh.backend.start(current, None, "key-1")),
        Operation.UPDATE: (stored, lambda fresh, now: fresh.backend.update(now, BatchCallRequest(name="Other"), "k")),
        Operation.APPEND: (stored, lambda fresh, current: fresh.backend.append(current, fresh.people(3)[2:], "key-1")),
        Operation.PAUSE: (waiting, lambda fresh, current: fresh.backend.pause(current)),
        Operation.RESUME: (paused, lambda fresh, current: fresh.backend.resume(current, "key-1")),
        Operation.CANCEL: (waiting, lambda fresh, current: fresh.backend.cancel(current)),
        Operation.RETRY: (over, retry),
        Operation.DELETE: (stored, lambda fresh, current: fresh.backend.delete(current)),
    }
    for operation, (begin, write) in offered.items():
        if scene.offers(operation):
            yield operation, begin, write


async def _lose_one(scene: Scene, operation: str, current: BatchCall, write: Send, at: int, how: str) -> None:
    before = len(scene.wire.writes)
    scene.wire.change = lose(at, how)
    answer: object = None
    try:
        answer = await write(scene, current)
        failed = None
    except BatchCallError as error:
        failed = error
    scene.wire.change = unchanged
    sent = scene.wire.writes[before:]
    lost, after = sent[at], sent[at + 1 :]
    what = f"{operation}: {how}, to {lost}"
    expect(
        not [one for one in after if one.is_like(lost)],
        f"{what}, and it was sent again.",
        "Send it with CallerHttp.write, which never repeats one, and do not catch OutcomeUnknown to try again.",
    )
    honest = isinstance(answer, BatchCall) and answer.batch_call_id in scene.fake.batch_ids()
    expect(
        isinstance(failed, OutcomeUnknown) or honest,
        f"{what}, and the adapter says {failed or answer!r}.",
        "Let OutcomeUnknown pass; or look the batch call up by what only it has, and give it if it is there.",
    )


async def credentials_stay_at_home(scene: Scene) -> None:
    """A redirect is not followed, and no address of an answer gets the key."""
    scene.wire.change = link_elsewhere
    made = await _made(scene)
    await _read_everything(scene, made)
    scene.wire.change = redirect
    sent = len(scene.wire.sent)
    await refusal_of(_made(scene))
    await _read_everything(scene, made)
    followed = [str(one) for one in scene.wire.sent[sent:] if not str(one.url).startswith(scene.case.url)]
    expect(
        not followed,
        f"A redirect to another origin was followed: {followed}.",
        "Use the client that you are given; it follows none.",
    )


async def _read_everything(scene: Scene, made: BatchCall) -> None:
    await refusal_of(scene.backend.get(made.batch_call_id))
    await refusal_of(scene.backend.tasks(made.batch_call_id, TaskQuery()))
    await refusal_of(scene.backend.list(ListQuery()))
    await refusal_of(scene.backend.account())


async def limits_are_named_before_anything_is_sent(scene: Scene) -> None:
    """More than the limit is refused and the limit is named; exactly the limit is taken."""
    for what, limit, most, more in _limits(scene):
        if most is not None:
            refused = await refusal_of(scene.backend.create(most))
            expect(
                refused is None,
                f"{what}: the limits say that it takes {limit}, and exactly that is answered with {refused!r}.",
                "Declare what the vendor's documents say.",
            )
        written = len(scene.wire.writes)
        said = " ".join((*unsupported(more, scene.can), *over_limits(more, scene.can, scene.now)))
        said = said or await _refused(scene, more)
        cure = "Declare it in Capabilities.limits, which are checked before anything is sent."
        expect(said, f"{what}: it takes {limit}, and more than that was taken.", cure)
        expect(len(scene.wire.writes) == written, f"{what}: it takes {limit}, and more than that was sent first.", cure)
        expect(
            any(word in said for word in _spelled(limit)),
            f"{what}: it takes {limit}, and the refusal does not say so: {said!r}.",
            cure,
        )


async def _refused(scene: Scene, request: BatchCallRequest) -> str:
    try:
        scene.backend.check_state(Operation.CREATE, request, None)
    except BatchCallError as error:
        return error.message
    refused = await refusal_of(scene.backend.create(request))
    return "" if refused is None else refused.message


def _limits(scene: Scene) -> Iterator[tuple[str, int | timedelta, BatchCallRequest | None, BatchCallRequest]]:
    """Each limit, a request of exactly that (None: too large to be sent in a test), and one of more."""
    limits, plain = scene.can.limits, _timed(scene, 1)
    (one,) = scene.people(1)
    if limits.tasks is not None:
        most = replace(plain, tasks=scene.people(limits.tasks)) if limits.tasks <= MOST_SENT else None
        yield "tasks", limits.tasks, most, replace(plain, tasks=scene.people(limits.tasks + 1))
    if limits.name_length is not None:
        most, more = (replace(plain, name="x" * length) for length in (limits.name_length, limits.name_length + 1))
        yield "name", limits.name_length, most, more
    for what, size in (("variables", limits.variables_bytes), ("list", limits.list_bytes)):
        if size is not None and scene.can.dynamic_variables:
            yield what, size, None, replace(plain, tasks=(replace(one, dynamic_variables={"a": "x" * size}),))
    if limits.ahead is not None:
        most, more = (replace(plain, trigger_at=scene.soon() + days) for days in (limits.ahead - DAY, limits.ahead))
        yield "trigger_at", limits.ahead, most, more
    if limits.lead is not None:
        yield "trigger_at", limits.lead, None, replace(plain, trigger_at=scene.now + limits.lead / 2)


def _spelled(limit: int | timedelta) -> set[str]:
    """A limit as a refusal may write it."""
    if isinstance(limit, timedelta):
        return {f"{limit / unit:g}" for unit in (DAY, HOUR, MINUTE)}
    return {str(limit), f"{limit:,}", f"{limit / 1024:g} KiB", f"{limit / 1024**2:g} MiB"}


CHECKS: tuple[Check, ...] = (
    Check("errors map", errors_map, always),
    Check("a wrong key is named", wrong_key_is_named, always),
    Check("a lost answer is never sent again", lost_answer_is_never_sent_again, always),
    Check("credentials go to the vendor alone", credentials_stay_at_home, always),
    Check("limits are checked before sending", limits_are_named_before_anything_is_sent, always),
)
