"""Whom a write calls: drafts dial nobody, times and windows are kept, and `dials()` says before what happens after."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from batchcall_mcp.backends.base import At, Dials, Never, Now, unread
from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.errors import BatchCallError, IllegalTransition, NotFound, NotSupported
from batchcall_mcp.model import (
    WEEKDAYS,
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallingWindow,
    CallTask,
    RetryPolicy,
    TaskStatus,
)
from batchcall_mcp.testing.check import Check, offers, reports_tasks
from batchcall_mcp.testing.scene import DAY, HOUR, MINUTE, Scene, expect, refusal_of

WALKS, STEPS = 8, 6
SAY_NOW = "dials() must answer Now() for every write of which it is not certain that nobody is called."


async def draft_never_dials(scene: Scene) -> None:
    """Nobody is called when it is made, nor a year later."""
    request = scene.request()
    said = scene.backend.dials(Operation.CREATE, request, None)
    expect(
        said == Never(),
        f"dials() says {said} for a create without a word about when, and drafts is {scene.can.drafts!r}.",
        'Answer Never() for it, or say drafts="none" if the vendor knows no drafts.',
    )
    made = await scene.backend.create(request)
    scene.pass_time(365 * DAY)
    expect(
        not scene.fake.dialled,
        f"A create without a word about when called {list(scene.fake.dialled)}.",
        "Say in so many words that the vendor is to wait: send its draft status, and never leave the time open.",
    )
    expect(
        made.status is BatchStatus.DRAFT,
        f"create() made a draft and says that it is {made.status} ({made.backend_status}).",
        "Map the vendor's word for a batch call that nobody has started to BatchStatus.DRAFT.",
    )


async def creating_dials_and_says_so(scene: Scene) -> None:
    """Where there are no drafts, every create may call, and is asked about."""
    for changes in ({}, {"send_now": True}):
        said = scene.backend.dials(Operation.CREATE, scene.request(**changes), None)
        expect(said == Now(), f'drafts is "none", and dials() says {said} for a create with {changes}.', SAY_NOW)
    at = scene.soon()
    said = scene.backend.dials(Operation.CREATE, scene.request(trigger_at=at), None)
    expect(
        isinstance(said, Now | At),
        f"dials() says {said} for a create with a time.",
        "Answer At(request.trigger_at), or Now().",
    )


async def launch_calls_everybody_once(scene: Scene) -> None:
    """Everybody on the list, nobody else, nobody twice."""
    await scene.launched(3)
    _expect_called(scene, scene.people(3), "A launch of three people")


async def time_is_kept(scene: Scene) -> None:
    """Nobody is called before the time that was given, and everybody after it."""
    at = scene.soon()
    request = scene.request(trigger_at=at)
    said = scene.backend.dials(Operation.CREATE, request, None)
    expect(
        (isinstance(said, At) and said.may_begin <= at) or said == Now(),
        f"dials() says {said} for a create with the time {at}.",
        "Answer At(request.trigger_at).",
    )
    made = await scene.backend.create(request)
    await _time_comes(scene, made, at, "create() with a time")


async def draft_is_scheduled(scene: Scene) -> None:
    """The same for a stored draft."""
    draft = await scene.created()
    at = scene.soon()
    said = scene.backend.dials(Operation.START, BatchCallRequest(trigger_at=at), draft)
    expect(said == At(at), f"dials() says {said} for a start at {at}.", "Answer At(request.trigger_at).")
    started = await scene.backend.start(draft, at)
    await _time_comes(scene, started, at, "start() with a time")


async def _time_comes(scene: Scene, made: BatchCall, at: datetime, what: str) -> None:
    cure = "Send the time in the vendor's unit and zone (seconds, milliseconds, ISO 8601) and read it back the same."
    found = await scene.read(made)
    for which, read in (("the answer", made), ("get()", found)):
        expect(
            read.scheduled_at is None or read.scheduled_at == at,
            f"{what}: {at} was asked for, and {which} says {read.scheduled_at}.",
            cure,
        )
    expect(
        BatchStatus.RUNNING not in {made.status, found.status},
        f"{what}: it waits for its time and is reported as running.",
        "Report scheduled, or unknown with the vendor's word, until somebody is called.",
    )
    scene.now = at - MINUTE - timedelta(seconds=1)
    scene.fake.tick(scene.now)
    expect(not scene.fake.dialled, f"{what}: somebody was called more than a minute before {at}.", cure)
    scene.pass_time(2 * MINUTE + timedelta(seconds=2))
    _expect_called(scene, scene.people(2), f"{what}, two seconds over a minute after it")


def _expect_called(scene: Scene, people: tuple[CallTask, ...], what: str) -> None:
    wanted = sorted(one.to_number for one in people)
    expect(
        sorted(scene.fake.dialled) == wanted,
        f"{what} called {sorted(scene.fake.dialled)}; it was for {wanted}.",
        "Send every task once, with its number as E.164, and start the batch call once.",
    )


async def window_is_kept(scene: Scene) -> None:
    """A launch while the window is closed calls nobody before it opens."""
    zone = "UTC" if scene.can.windows == "utc" else "America/New_York"
    local = scene.now.astimezone(ZoneInfo(zone))
    start = next(hour for hour in range(1, 23) if hour - local.hour not in {-1, 0, 1})
    window = CallingWindow(start=f"{start:02}:00", end=f"{start + 1:02}:00", timezone=zone)
    await scene.launched(window=window)
    expect(
        not scene.fake.dialled,
        f"The window {window.start}-{window.end} {zone} is closed at {local:%H:%M}, and a launch called somebody.",
        "Send the window in the vendor's form: its zone, its days, and its end as the vendor reads it.",
    )
    opens = local.replace(hour=start, minute=0, second=0) + DAY * (start < local.hour)
    scene.now = opens + 5 * MINUTE
    scene.fake.tick(scene.now)
    _expect_called(scene, scene.people(2), f"A launch with the window {window.start}-{window.end} {zone}, once open,")


async def settings_come_back(scene: Scene) -> None:
    """Name, number, concurrency, window and retries are read as they were asked for, or not at all."""
    can = scene.can
    asked = scene.request(
        window=_window(can) or scene.case.given.get("window"),
        max_concurrency=None if can.max_concurrency is None else min(3, can.max_concurrency),
        retry=RetryPolicy(max_retries=1, on=can.retry_outcomes[:1], after_minutes=30) if can.retry_policy else None,
        trigger_at=scene.soon() if can.drafts == "none" else None,
    )
    made = await scene.backend.create(asked)
    found = await scene.read(made)
    for field in ("name", "from_number", "max_concurrency", "window", "retry"):
        wanted = getattr(asked, field)
        for which, read in (("create()", made), ("get()", found)):
            said = getattr(read, field)
            expect(
                wanted is None or said is None or _same(wanted, said),
                f"{field}: {wanted} was asked for, and {which} says {said}.",
                "Write and read it in the vendor's unit (seconds or minutes, attempts or redials, Sunday or Monday as "
                "0, local time or UTC), or leave it None where the vendor does not report it.",
            )


def _window(can: Capabilities) -> CallingWindow | None:
    if can.windows == "none":
        return None
    zone = {"full": "recipient", "one_zone": "America/New_York", "utc": "UTC"}[can.windows]
    days = ("mon", "wed", "sun") if can.window_days else WEEKDAYS
    return CallingWindow(start="09:00", end="17:30", days=days, timezone=zone)


def _same(wanted: object, said: object) -> bool:
    if isinstance(wanted, CallingWindow) and isinstance(said, CallingWindow):
        return replace(wanted, days=tuple(sorted(wanted.days))) == replace(said, days=tuple(sorted(said.days)))
    if isinstance(wanted, RetryPolicy) and isinstance(said, RetryPolicy):
        minutes = said.after_minutes in {None, wanted.after_minutes}
        return minutes and said.max_retries == wanted.max_retries and set(said.on) >= set(wanted.on)
    return wanted == said


async def cancel_before_the_start(scene: Scene) -> None:
    """Nobody who waits for a time is called, and the answer says what was done."""
    at = scene.soon()
    current = await scene.read(await scene.scheduled(at))
    after = await scene.backend.cancel(current)
    scene.now = at + DAY
    scene.fake.tick(scene.now)
    expect(
        not scene.fake.dialled,
        f"A batch call that was cancelled before its start ({after.status}) called somebody.",
        "Send what makes the vendor forget its time, and read the state again if its answer does not show it.",
    )
    expect(
        after.status in {BatchStatus.CANCELLED, BatchStatus.DRAFT} or after.notes,
        f"cancel() took effect and says {after.status} without a note.",
        "Report cancelled or draft, or say in a note what the vendor answered.",
    )


async def cancel_while_it_dials(scene: Scene) -> None:
    """Nobody else is called; where calls cannot be stopped, that is said and nothing is sent."""
    expect(
        "call" in scene.can.cancel_effect.lower() and scene.can.cancel_effect.endswith("."),
        f"cancel_effect is {scene.can.cancel_effect!r}.",
        "Say in one sentence what cancel does to calls in progress, and what it cannot stop.",
    )
    running = await scene.launched(3)
    before, written = list(scene.fake.dialled), len(scene.wire.writes)
    refused = await refusal_of(scene.backend.cancel(running))
    if scene.can.stop in {"before_start", "never"}:
        expect(
            isinstance(refused, NotSupported | IllegalTransition) and len(scene.wire.writes) == written,
            f"stop is {scene.can.stop!r}, and cancel() of a running batch call answers {refused!r}.",
            "Raise NotSupported before anything is sent, and say that its calls go on.",
        )
    else:
        expect(refused is None, f"cancel() of a running batch call raises {refused!r}.", "Send the vendor's cancel.")
    scene.pass_time(DAY)
    expect(
        list(scene.fake.dialled) == before,
        "cancel() of a running batch call called somebody.",
        "Send nothing that dials.",
    )


async def retry_calls_who_it_says(scene: Scene) -> None:
    """As `Capabilities.retry` has it: the tasks named, everybody not reached, or nobody yet (a new draft)."""
    missed = TaskStatus.NO_ANSWER if TaskStatus.NO_ANSWER in scene.can.outcomes else TaskStatus.FAILED
    current = await scene.finished(3, p1=missed, p2=missed)
    tasks = {one.to_number: one for one in await scene.tasks(current)}
    named = tasks.get(scene.people(2)[1].to_number)
    before = list(scene.fake.dialled)
    said = scene.backend.dials(Operation.RETRY, BatchCallRequest(), current)
    after = await scene.backend.retry(current, (named.task_id,) if named and named.task_id else ())
    scene.until_it_dials()
    called = list(scene.fake.dialled)[len(before) :]
    wanted = {
        "named": [one.to_number for one in scene.people(3)[1:2]],
        "all_unreached": [one.to_number for one in scene.people(3)[1:]],
    }.get(scene.can.retry, [])
    expect(
        sorted(called) == sorted(wanted),
        f"retry is {scene.can.retry!r}: one of two unreached people was named, and {called} were called.",
        "Let `retry` say whom the vendor calls again, and name the tasks where the vendor can.",
    )
    expect(
        said == Now() if wanted else isinstance(said, Never | Now),
        f"dials() says {said} for a retry that calls {wanted}.",
        SAY_NOW,
    )
    if scene.can.retry == "child_draft":
        expect(
            after.batch_call_id != current.batch_call_id,
            'retry is "child_draft", and retry() gives the batch call itself.',
            "Give the new batch call that the vendor has made.",
        )


async def people_are_added(scene: Scene) -> None:
    """People who are added to a draft follow those who are on its list, and nobody is called."""
    draft = await scene.read(await scene.created(2))
    await scene.backend.append(draft, scene.people(4)[2:], "contract-append")
    found = [one.to_number for one in await scene.tasks(draft)]
    expect(
        found == [one.to_number for one in scene.people(4)],
        f"Two people were added to two, and its tasks are {found}.",
        "Add them after the last one, all or none.",
    )
    expect(not scene.fake.dialled, "append() to a draft called somebody.", SAY_NOW)


async def deleted_is_gone(scene: Scene) -> None:
    """A draft that was deleted calls nobody, and is not found."""
    made = await scene.read(await scene.created())
    await scene.backend.delete(made)
    scene.pass_time(DAY)
    expect(not scene.fake.dialled, "delete() of a draft called somebody.", "Send the vendor's delete.")
    refused = await refusal_of(scene.backend.get(made.batch_call_id))
    expect(
        isinstance(refused, NotFound) or not scene.offers(Operation.GET),
        f"get() of a batch call that was deleted answers {refused!r}.",
        "Map the vendor's answer for an id that it does not know to NotFound.",
    )


async def what_it_cannot_do_is_refused(scene: Scene) -> None:
    """Every operation that is not in `operations` raises NotSupported and calls nobody."""
    made = await scene.created(trigger_at=scene.soon()) if scene.can.drafts == "none" else await scene.created()
    current = replace(made, status=BatchStatus.COMPLETED)
    written = len(scene.wire.writes)
    for operation in sorted(set(DO) - scene.can.operations):
        refused = await refusal_of(DO[operation](scene, current))
        expect(
            isinstance(refused, NotSupported) and len(scene.wire.writes) == written,
            f"{operation} is not among the operations, and the method answers {refused!r}, after "
            f"{len(scene.wire.writes) - written} writes.",
            "Derive from RestBackend, which refuses what Capabilities do not name, or raise NotSupported yourself.",
        )
    expect(not scene.fake.dialled, "An operation that is refused called somebody.", "Send nothing that dials.")


DO: dict[Operation, Callable[[Scene, BatchCall], Awaitable[object]]] = {
    Operation.UPDATE: lambda scene, current: scene.backend.update(current, BatchCallRequest(name="Other")),
    Operation.APPEND: lambda scene, current: scene.backend.append(current, scene.people(3)[2:]),
    Operation.PAUSE: lambda scene, current: scene.backend.pause(current),
    Operation.RESUME: lambda scene, current: scene.backend.resume(current),
    Operation.CANCEL: lambda scene, current: scene.backend.cancel(current),
    Operation.RETRY: lambda scene, current: scene.backend.retry(current, ("1",)),
    Operation.DELETE: lambda scene, current: scene.backend.delete(current),
    Operation.GET_CALL: lambda scene, current: scene.backend.get_call(current.batch_call_id, "1"),
}


@dataclass(frozen=True)
class Step:
    """One write that a model may ask for. `request` is what `dials` and `check_state` are asked with."""

    operation: Operation
    request: Callable[[Scene], BatchCallRequest]
    say: str = ""

    def __str__(self) -> str:
        return f"{self.operation}{self.say}"

    async def send(self, scene: Scene, request: BatchCallRequest, current: BatchCall) -> BatchCall | None:
        """Do it; the batch call to go on with, if it made another one."""
        backend = scene.backend
        if self.operation is Operation.CREATE:
            return await backend.create(request)
        if self.operation is Operation.START:
            return await backend.start(current, request.trigger_at)
        if self.operation is Operation.UPDATE:
            return await backend.update(current, request)
        if self.operation is Operation.APPEND:
            return await backend.append(current, request.tasks or ())
        if self.operation is Operation.RETRY:
            ids = tuple(one.task_id for one in await scene.tasks(current) if one.task_id)
            return await backend.retry(current, ids[:1])
        await DO[self.operation](scene, current)
        return None


def _steps(can: Capabilities) -> list[Step]:
    """All that this backend offers, with every argument that may decide whether somebody is called."""
    none = BatchCallRequest()
    steps = [
        Step(Operation.CREATE, lambda scene: scene.request()),
        Step(Operation.CREATE, lambda scene: scene.request(send_now=True), " now"),
        Step(Operation.CREATE, lambda scene: scene.request(trigger_at=scene.soon()), " at a time"),
        Step(Operation.START, lambda _: BatchCallRequest(send_now=True), " now"),
        Step(Operation.START, lambda scene: BatchCallRequest(trigger_at=scene.soon()), " at a time"),
        Step(Operation.APPEND, lambda scene: BatchCallRequest(tasks=scene.people(3)[2:])),
        Step(Operation.RETRY, lambda _: none),
        *(Step(one, lambda _: none) for one in (Operation.PAUSE, Operation.RESUME, Operation.CANCEL)),
    ]
    changes: dict[str, Callable[[Scene], BatchCallRequest]] = {
        "name": lambda _: BatchCallRequest(name="Other"),
        "agent_id": lambda scene: BatchCallRequest(agent_id=scene.fake.agent_id),
        "from_number": lambda scene: BatchCallRequest(from_number=scene.fake.from_number),
        "trigger_at": lambda scene: BatchCallRequest(trigger_at=scene.soon()),
        "send_now": lambda _: BatchCallRequest(send_now=True),
        "status": lambda _: BatchCallRequest(status=BatchStatus.DRAFT),
        "tasks": lambda scene: BatchCallRequest(tasks=scene.people(1)),
    }
    steps += [
        Step(Operation.UPDATE, make, f" of {field}")
        for field, make in changes.items()
        if field in can.update_fields or (field == "send_now" and "status" in can.update_fields)
    ]
    return [one for one in steps if one.operation in can.operations]


async def dials_says_before_what_happens_after(scene: Scene) -> None:
    """Random walks, the same ones each time: whenever the fake calls somebody, dials() had said Now or At."""
    steps = _steps(scene.can)
    for seed in range(WALKS):
        chosen = random.Random(seed)  # noqa: S311 - the same ones each time is the point
        first = chosen.choice([one for one in steps if one.operation is Operation.CREATE])
        async with scene.again() as fresh:
            await _walk(fresh, [first, *(chosen.choice([*steps, None]) for _ in range(STEPS))])


async def _walk(scene: Scene, steps: list[Step | None]) -> None:
    """None of the steps: hours pass, and calls in progress end."""
    current: BatchCall | None = None
    done: list[str] = []
    said: list[Dials] = []
    for step in steps:
        before = len(scene.fake.dialled)
        answered: list[Dials] = []
        if step is None:
            scene.pass_time(3 * HOUR)
            done.append("hours pass")
            _judge(scene, before, said, done)
            for batch_id in scene.fake.batch_ids():
                scene.fake.finish(batch_id, {}, "failed")
            continue
        try:
            if current is not None and step.operation is not Operation.CREATE:
                current = await scene.read(current)
            done.append(f"{step}: refused")
            known = None if step.operation is Operation.CREATE else current
            request = step.request(scene)
            scene.backend.check_state(step.operation, request, known)
            answered = [scene.backend.dials(step.operation, request, known)]
            done[-1] = f"{step}: {answered[0]}"
            said += answered
            current = await step.send(scene, request, known or unread("none")) or current
        except BatchCallError as error:
            done[-1] += f" ({error.code})"
        _judge(scene, before, answered, done)


def _judge(scene: Scene, before: int, said: list[Dials], done: list[str]) -> None:
    called = list(scene.fake.dialled)[before:]
    due = [one for one in said if isinstance(one, Now) or (isinstance(one, At) and one.may_begin <= scene.now)]
    expect(
        not called or due,
        f"{called} were called, and dials() had not said so. What was done, and what it said: {'; '.join(done)}.",
        SAY_NOW,
    )


def _stops_early(can: Capabilities) -> bool:
    return Operation.CANCEL in can.operations and can.stop != "never"


def _retries(can: Capabilities) -> bool:
    return Operation.RETRY in can.operations and reports_tasks(can)


def _appends(can: Capabilities) -> bool:
    return Operation.APPEND in can.operations and can.drafts != "none" and can.tasks_reported == "all"


def _deletes(can: Capabilities) -> bool:
    return Operation.DELETE in can.operations and can.drafts != "none"


CHECKS: tuple[Check, ...] = (
    Check("a draft never dials", draft_never_dials, lambda can: can.drafts != "none"),
    Check("a create that dials says so", creating_dials_and_says_so, lambda can: can.drafts == "none"),
    Check("a launch calls everybody once", launch_calls_everybody_once, offers()),
    Check("a time is kept to the minute", time_is_kept, lambda can: can.drafts != "now_only"),
    Check("a draft is started at a time", draft_is_scheduled, lambda can: can.drafts == "full"),
    Check("nobody is called outside the window", window_is_kept, lambda can: can.windows != "none"),
    Check("settings come back in the same units", settings_come_back, offers()),
    Check("cancel before the start calls nobody", cancel_before_the_start, _stops_early),
    Check("cancel says what happens to live calls", cancel_while_it_dials, offers()),
    Check("retry calls whom it says", retry_calls_who_it_says, _retries),
    Check("people are added at the end", people_are_added, _appends),
    Check("what is deleted is gone", deleted_is_gone, _deletes),
    Check("what it cannot do is refused", what_it_cannot_do_is_refused, offers()),
    Check("dials() says before what happens after", dials_says_before_what_happens_after, offers()),
)
