"""retry_batch_call where the backend takes no list of whom: it re-dials all not reached, or makes a draft of them.

Nobody of them can be kept out, so a call that means fewer people is refused, with who they are and what to do instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from batchcall_mcp.backends.base import ReadTasks
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.later_calls import called_by_itself, later_calls
from batchcall_mcp.batch_calls.recipient_source import ListSource, as_new, read_source
from batchcall_mcp.batch_calls.writes.preflight_context import different
from batchcall_mcp.batch_calls.writes.results import Did, Result, created_as, replayed, status_words
from batchcall_mcp.batch_calls.writes.write import Judged, People, Write
from batchcall_mcp.errors import IllegalTransition, InvalidInput
from batchcall_mcp.guard.delivery.write_sender import WriteOutcome
from batchcall_mcp.guard.fingerprints import fingerprint
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.model import (
    FINISHED,
    NOT_REACHED,
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallTask,
    TaskStatus,
)
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.recipients.validation import SkipReason

_MOST_NAMED: Final = 20
_NOT_CLEAR: Final = frozenset({TaskStatus.PENDING, TaskStatus.CALLING, TaskStatus.CANCELLED, TaskStatus.UNKNOWN, None})
"""Of a batch call that is over, these may be among those whom the backend counts as not reached."""


async def retry_everybody(
    context: CallContext,
    current: BatchCall,
    read: ReadTasks,
    seen: int,
    statuses: frozenset[TaskStatus] | None,
    key: str | None,
) -> Result:
    """Have the backend call everybody again whom it counts as not reached, or make a draft of them.

    Raises:
        InvalidInput: fewer people are meant, or some must not be called again; nothing was sent.
        IllegalTransition: it is not finished, and a second retry would call people twice; nothing was sent.
    """
    capabilities, batch_call_id = context.backend.capabilities, current.batch_call_id
    meant = NOT_REACHED & frozenset(capabilities.outcomes) or NOT_REACHED
    if capabilities.retry == "child_draft":
        meant &= frozenset(TaskStatus(outcome) for outcome in capabilities.retry_outcomes)
    _check_all_meant(context, statuses, meant)
    dials = capabilities.retry == "all_unreached"
    if key is not None and (done := await _done_before(context, _write(context, current, seen, key, ()))):
        return done  # the same key is the same retry, although other people may be unreached by now
    if dials and current.status not in FINISHED:
        raise IllegalTransition(
            f"{batch_call_id} is {current.status}: a retry now could call people twice. Nothing was sent. Wait until "
            "it is finished (watch_batch_call)."
        )
    everybody = [task async for task in context.every_task(current, read=read)]
    missed = tuple(task for task in everybody if task.status in meant)
    unclear = tuple(task for task in everybody if dials and task.status in _NOT_CLEAR) if missed else ()
    wanted = (*missed, *unclear)
    if not dials and (done := await _done_before(context, _write(context, current, seen, key, wanted))):
        return done  # before the people: they are in the draft that was made then
    notes = await _check_nobody_is_kept_out(context, current, everybody, wanted)
    notes += _not_clear(context, unclear)
    others = not_listed(context, current, everybody)
    if not wanted:
        nobody = f"No task of {batch_call_id} has the status {state_words(meant)} any more."
        summary = " ".join([nobody, *others, "Nothing was sent."])
        return Result(result="nothing_to_do", summary=summary, batch_call=current, notes=notes)

    async def people() -> People:
        listed = different(everybody) if dials else None
        return People(tasks=wanted, rows_read=len(wanted), listed=listed, warnings=notes)

    async def report(made: BatchCall, judged: Judged) -> Result:
        return Result(
            result="retried" if dials else created_as(made.status),
            summary=" ".join([_said(current, made, len(missed), dials=dials), *others]),
            next=context.next_of(made),
            batch_call=made if dials else replace(made, retry_of=made.retry_of or batch_call_id),
            preflight=judged.preflight,
            notes=notes,
        )

    ids = tuple(task.task_id for task in wanted if task.task_id)
    return await _write(context, current, seen, key, wanted).run(
        people=people,
        send=lambda _judged, ticket: context.backend.retry(current, ids, ticket.backend_key),
        report=report,
        did=_did(dials=dials),
    )


async def _done_before(context: CallContext, write: Write) -> Result | None:
    earlier = await write.earlier()
    if not isinstance(earlier, WriteOutcome):
        return None
    dials = context.backend.capabilities.retry == "all_unreached"
    return replayed(earlier, _did(dials=dials), context.next_of(earlier.batch_call))


def _write(context: CallContext, current: BatchCall, seen: int, key: str | None, wanted: tuple[CallTask, ...]) -> Write:
    """A draft that the backend makes is recorded as what it is: a new batch call."""
    whose = BatchCallRequest(retry_of=current.batch_call_id)
    known_as = None if key is None else fingerprint(Operation.RETRY, whose, current.batch_call_id)
    if context.backend.capabilities.retry == "all_unreached":
        return Write(context, Operation.RETRY, current=current, seen=seen, key=key, again=wanted, known_as=known_as)
    request = replace(whose, from_number=current.from_number, tasks=tuple(map(as_new, wanted)))
    return Write(context, Operation.CREATE, request, key=key, known_as=known_as, child_of=current)


def _did(*, dials: bool) -> Did:
    if dials:
        return lambda found: ("retried", f"retried {found.batch_call_id}; this call dials nobody")
    return lambda found: (created_as(found.status), f"made {found.batch_call_id}")


def _said(current: BatchCall, made: BatchCall, number: int, *, dials: bool) -> str:
    state = status_words(made.status, made.backend_status)
    whom = f"the {counted(number, 'person', 'people')} not reached"
    if dials:
        return f"The backend took the retry of {current.batch_call_id}, of {whom}. Its {state}"
    if made.status is BatchStatus.DRAFT:
        return f"New draft {made.batch_call_id} of {whom} by {current.batch_call_id}. No phone rings yet."
    return f"New batch call {made.batch_call_id} of {whom} by {current.batch_call_id}. Its {state}"


def _check_all_meant(
    context: CallContext, statuses: frozenset[TaskStatus] | None, meant: frozenset[TaskStatus]
) -> None:
    """Refuse a retry of some of them, or of others.

    Raises:
        InvalidInput: naming what to pass; nothing was sent.
    """
    if statuses is None or statuses & frozenset(context.backend.capabilities.outcomes) == meant:
        return
    name, states = context.backend.name, json.dumps(sorted(map(str, meant)))
    how = f"Leave task_status out, or give {states}"
    if others := statuses - NOT_REACHED:
        raise InvalidInput(
            f"task_status: {name} calls again who was not reached, and cannot be given people who are "
            f"{state_words(others)}. Nothing was sent. {how}."
        )
    left_out = state_words(meant - statuses)
    raise InvalidInput(
        f"task_status: {name} calls everybody again who was not reached, those who are {left_out} too; it cannot call "
        f"fewer. Nothing was sent. {how}; or make a batch call of some of them with create_batch_call."
    )


async def _check_nobody_is_kept_out(
    context: CallContext, current: BatchCall, everybody: Sequence[CallTask], wanted: Sequence[CallTask]
) -> tuple[str, ...]:
    """Refuse where somebody of them must not be called again; what is not known about that, one sentence each.

    Raises:
        InvalidInput: naming them; nothing was sent.
    """
    later, notes = await later_calls(context, current, everybody)
    # Of somebody whose only state is not known a person is asked; who is in the list twice may have been reached.
    twice = {comparable(task.to_number) for task in wanted if task.status not in _NOT_CLEAR}
    alone = {task.task_id for task in wanted if task.status in _NOT_CLEAR and comparable(task.to_number) not in twice}
    later |= called_by_itself(task for task in everybody if task.task_id is None or task.task_id not in alone)
    why = {task.to_number: later[number] for task in wanted if (number := comparable(task.to_number)) in later}
    if wanted:
        rows = (await read_source(context, ListSource(tasks=tuple(wanted)), current.from_number)).skipped_rows
        why |= {row.to_number: row.reason for row in rows if row.to_number and row.kind is not SkipReason.DUPLICATE}
    if not why:
        return notes
    named = [f"{number}: {reason}" for number, reason in list(why.items())[:_MOST_NAMED]]
    people = counted(len(why), "person", "people")
    raise InvalidInput(
        f"{people} of the {len(wanted):,} not reached must not be called again, and {context.backend.name} would call "
        f"them too: it takes no list of whom to call. Nothing was sent. "
        + (_instead(context, current) if len(why) < len(wanted) else "Nobody else is left."),
        named,
    )


def _not_clear(context: CallContext, unclear: Sequence[CallTask]) -> tuple[str, ...]:
    """A sentence about people of whom nobody knows whether the backend calls them again; they are counted."""
    if not unclear:
        return ()
    are, whom = ("is", "this person") if len(unclear) == 1 else ("are", "these people")
    known = f"{len(unclear):,} of them {are} neither reached nor missed, as far as is known here"
    return (f"{known}: {context.backend.name} may call {whom} again too.",)


def _instead(context: CallContext, current: BatchCall) -> str:
    if context.backend.capabilities.needs_list_again:
        return "Make a batch call of the others: create_batch_call with their rows of the first list."
    people = json.dumps({"batch_call_id": current.batch_call_id, "task_status": ["not_reached"]})
    return f"Make a batch call of the others: create_batch_call with tasks_from={people} skips these people."


def not_listed(context: CallContext, current: BatchCall, everybody: Sequence[CallTask]) -> tuple[str, ...]:
    """Who is in a batch call and is shown only once dialled, in a sentence."""
    sentence = context.unlisted(current, different(everybody))
    return (sentence,) if sentence else ()


def state_words(statuses: frozenset[TaskStatus]) -> str:
    """`busy or no answer`."""
    return " or ".join(sorted(status.replace("_", " ") for status in statuses))
