"""retry_batch_call: call again exactly those who were not reached, and nobody else.

Where the backend re-dials the tasks that are named, in the same batch call. Where it can only re-dial everybody who was
not reached, see `whole_retry`. Elsewhere in a new batch call of them: a draft, or one that dials at its time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from batchcall_mcp.backends.base import ReadTasks
from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.later_calls import BEING_CALLED, called_by_itself, later_calls, waits_for_redial
from batchcall_mcp.batch_calls.next_call import RETRIED
from batchcall_mcp.batch_calls.recipient_source import ListSource, as_new, fit_fields, read_source, skipped_rows_words
from batchcall_mcp.batch_calls.timestamps import When
from batchcall_mcp.batch_calls.writes import whole_retry
from batchcall_mcp.batch_calls.writes.results import Result, ResultWord, created_as, replayed, status_words
from batchcall_mcp.batch_calls.writes.whole_retry import not_listed, state_words
from batchcall_mcp.batch_calls.writes.write import Judged, People, Write
from batchcall_mcp.errors import InvalidInput, NotSupported, UnexpectedResponse
from batchcall_mcp.guard.delivery.write_sender import WriteOutcome
from batchcall_mcp.guard.fingerprints import fingerprint
from batchcall_mcp.guard.preflight.dates import check_promises
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, CallTask, Counts, TaskStatus
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.recipients.validation import Recipients, SkippedRow, SkipReason

DEFAULT_STATUSES = RETRIED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unreached:
    """Whom a retry is about. `alone` and `notes` are sentences: who else was not reached, and what is not known."""

    wanted: Sequence[CallTask]
    skipped_rows: Sequence[SkippedRow]
    notes: Sequence[str]
    alone: Sequence[str]


async def retry(
    context: CallContext,
    batch_call_id: str,
    statuses: frozenset[TaskStatus] | None,
    source: ListSource,
    idempotency_key: str | None = None,
    when: When | None = None,
) -> Result:
    """Dial them again where the backend re-dials exactly the tasks named; elsewhere make a new batch call of them.

    `statuses` None: those that are called again by default. `when`: of a new batch call, where creating it dials.

    Raises:
        InvalidInput: a state of people who were reached or are being called, nobody is left to call, or the list is
            needed again because the backend does not return its variables; nothing was sent.
    """
    capabilities = context.backend.capabilities
    _check_states(statuses or frozenset())
    operation = Operation.RETRY if Operation.RETRY in capabilities.operations else Operation.CREATE
    context.require(operation)
    if when is None and operation is Operation.CREATE and capabilities.drafts == "none":
        raise InvalidInput(
            f"trigger_timestamp: is missing; {context.backend.name} keeps no drafts, so a batch call of the people not "
            'reached dials at its time. Nothing was sent. Give "now" or a time.'
        )
    if capabilities.tasks_reported == "none":
        raise NotSupported(
            f"{context.backend.name} does not list the people of a batch call: who was not reached is not known. "
            "Nothing was sent. create_batch_call with the people concerned makes a new one."
        )
    current, read, seen = await context.look(batch_call_id)
    if current.test_of is not None:
        raise InvalidInput(
            f"{batch_call_id} is a test call, which no retry belongs to. Nothing was sent. start_batch_call with "
            f"batch_call_id={current.test_of} and test_number calls the test number again."
        )
    if operation is Operation.RETRY and capabilities.retry in {"all_unreached", "child_draft"}:
        return await whole_retry.retry_everybody(context, current, read, seen, statuses, idempotency_key)
    statuses = statuses or DEFAULT_STATUSES
    known_as: str | None = None
    if idempotency_key:  # the same key is the same retry, although other people may be unreached by now
        asked = BatchCallRequest(retry_of=batch_call_id)
        known_as = fingerprint(operation, replace(asked, name=",".join(sorted(statuses))), batch_call_id)
        on = current if operation is Operation.RETRY else None
        write = Write(context, operation, asked, on, seen=seen, key=idempotency_key, known_as=known_as)
        earlier = await write.earlier()
        if isinstance(earlier, WriteOutcome):
            did = _dialled_again if operation is Operation.RETRY else _made
            return replayed(earlier, did, context.next_of(earlier.batch_call))
    found = await _unreached(context, current, read, statuses, in_place=operation is Operation.RETRY)
    if not found.wanted:
        nobody = f"No task of {batch_call_id} has the status {state_words(statuses)} any more."
        return Result(
            result="nothing_to_do",
            summary=" ".join([nobody, *_since(found.skipped_rows), *found.alone, "Nothing was sent."]),
            batch_call=current,
            skipped_rows=found.skipped_rows,
            notes=found.notes,
        )
    if operation is Operation.RETRY:
        write = Write(
            context, operation, current=current, seen=seen, key=idempotency_key, again=found.wanted, known_as=known_as
        )
        return await _dial_again(context, current, found, write)
    return await _new_one_of(context, current, found, source, when or When(), idempotency_key, known_as)


def dials_again(capabilities: Capabilities) -> bool:
    """Whether a retry makes phones ring, now or at its time, and so is confirmed. Pure."""
    if Operation.RETRY in capabilities.operations:
        return capabilities.retry != "child_draft"
    return capabilities.drafts == "none"


def _check_states(statuses: frozenset[TaskStatus]) -> None:
    placed, reached = TaskStatus.PLACED in statuses, statuses & BEING_CALLED
    if reached:
        why = "how these calls went is not reported" if placed else "nobody is called twice by a retry"
        raise InvalidInput(
            f"task_status: {state_words(reached)} is not a state of people who were not reached, and {why}. Nothing "
            "was sent. create_batch_call with their numbers makes a new batch call."
        )


async def _unreached(
    context: CallContext, current: BatchCall, read: ReadTasks, statuses: frozenset[TaskStatus], *, in_place: bool
) -> _Unreached:
    """`in_place`: the batch call itself dials them again, and knows of its own redials."""
    everybody = [task async for task in context.every_task(current, read=read)]
    called_later, notes = await later_calls(context, current, everybody)
    called_later |= called_by_itself(everybody)
    redialled = () if in_place else (task for task in everybody if waits_for_redial(task, current))
    called_later |= {comparable(task.to_number): "dialled again by this same batch call" for task in redialled}
    wanted: list[CallTask] = []
    skipped_rows: list[SkippedRow] = []
    for line, task in enumerate((task for task in everybody if task.status in statuses), 1):
        reason = called_later.get(comparable(task.to_number))
        if reason is None:
            wanted.append(task)
        else:
            kind = SkipReason.LATER_BATCH_CALL
            skipped_rows.append(SkippedRow(line=line, kind=kind, reason=reason, to_number=task.to_number))
    alone = (*left_alone(current, statuses, context.backend.capabilities), *not_listed(context, current, everybody))
    return _Unreached(wanted=wanted, skipped_rows=skipped_rows, notes=notes, alone=alone)


def _dialled_again(found: BatchCall) -> tuple[ResultWord, str]:
    return "retried", f"retried tasks of {found.batch_call_id}; this call dials nobody"


def _made(found: BatchCall) -> tuple[ResultWord, str]:
    return created_as(found.status), f"made {found.batch_call_id}"


async def _dial_again(context: CallContext, current: BatchCall, found: _Unreached, write: Write) -> Result:
    wanted = found.wanted
    checked = await read_source(context, ListSource(tasks=tuple(wanted)), current.from_number)
    dialled = {comparable(task.to_number) for task in checked.tasks}
    first_of = {number: task for task in reversed(wanted) if (number := comparable(task.to_number)) in dialled}
    ids = tuple(task.task_id for task in wanted if task.task_id and first_of.get(comparable(task.to_number)) is task)
    if len(ids) < len(dialled):
        raise UnexpectedResponse(
            f"{len(dialled) - len(ids)} of the tasks to be dialled again have no id at the backend: it is not clear "
            "which are meant. Nothing was sent. create_batch_call with their numbers makes a new batch call."
        )

    async def people() -> People:
        return People(
            tasks=checked.tasks,
            skipped_rows=[*found.skipped_rows, *checked.skipped_rows],
            rows_read=len(wanted),
            warnings=found.notes,
            notes=found.alone,
        )

    async def report(retried: BatchCall, judged: Judged) -> Result:
        took = f"The backend took the retry of {len(ids)} tasks of {retried.batch_call_id}"
        return Result(
            result="retried",
            summary=" ".join(
                [
                    f"{took}; its {status_words(retried.status, retried.backend_status)}",
                    *_since(judged.skipped_rows),
                    *found.alone,
                ]
            ),
            next=context.next_of(retried),
            batch_call=retried,
            preflight=judged.preflight,
            notes=found.notes,
        )

    return await write.run(
        people=people,
        send=lambda _judged, ticket: context.backend.retry(current, ids, ticket.backend_key),
        report=report,
        did=_dialled_again,
    )


async def _new_one_of(
    context: CallContext,
    current: BatchCall,
    found: _Unreached,
    source: ListSource,
    when: When,
    key: str | None,
    known_as: str | None,
) -> Result:
    wanted = found.wanted
    capabilities = context.backend.capabilities
    dials = capabilities.drafts == "none"
    if source.given:
        recipients = _only(await read_source(context, source, current.from_number), wanted)
    elif capabilities.dynamic_variables and not capabilities.returns_variables:
        raise InvalidInput(
            f"{context.backend.name} does not return the variables of {current.batch_call_id}; without them the "
            "agent would read blanks. Nothing was sent. Pass the first list again as tasks_file (or tasks): only its "
            f"rows for the {len(wanted)} unreached numbers are used."
        )
    else:
        plain = tuple(map(as_new, wanted))
        recipients = await read_source(context, ListSource(tasks=plain), current.from_number)
    if not recipients.tasks:
        raise InvalidInput(
            " ".join(
                [
                    f"The list has none of the {len(wanted)} unreached numbers of {current.batch_call_id}.",
                    *recipients.remarks,
                    "Nothing was sent. Pass the list that the batch call was made from.",
                ]
            )
        )
    tasks, dropped = fit_fields(recipients.tasks, capabilities, from_file=True)
    request = BatchCallRequest(
        from_number=current.from_number,
        tasks=tasks,
        name=current.name,
        agent_id=current.agent_id if capabilities.agent == "per_batch" else None,
        timezone=current.timezone if capabilities.drafts == "full" or "timezone" in capabilities.required else None,
        window=current.window if capabilities.windows != "none" else None,
        max_concurrency=current.max_concurrency if capabilities.max_concurrency else None,
        retry=current.retry if capabilities.retry_policy else None,
        retry_of=current.batch_call_id,
        trigger_at=when.at if dials else None,
        trigger_on=when.on if dials else None,
        send_now=True if dials and when.now else None,
    )
    context.require_complete(request, of=current.batch_call_id)
    context.require_fields(request)
    check_promises(request, None, capabilities, context.limits.calling_hours)
    notes = (*found.notes, *dropped, *_lost(context, current))

    async def people() -> People:
        rows = [*found.skipped_rows, *recipients.skipped_rows]
        return People(tasks=tasks, skipped_rows=rows, rows_read=len(wanted), warnings=notes)

    async def report(made: BatchCall, judged: Judged) -> Result:
        missing = len(wanted) - len(recipients.tasks) - len(recipients.skipped_rows)
        absent = f" {missing} unreached numbers are not in the list given." if missing > 0 else ""
        what = "draft" if made.status is BatchStatus.DRAFT else "batch call"
        state = "" if made.status is BatchStatus.DRAFT else f" Its {status_words(made.status, made.backend_status)}"
        sent = len(judged.request.tasks or ())
        summary = (
            f"New {what} {made.batch_call_id} of {sent} people not reached by {current.batch_call_id}; nobody "
            f"else is in it.{skipped_rows_words(recipients)}{absent}{state}"
        )
        return Result(
            result=created_as(made.status),
            summary=" ".join([summary, *_since(judged.skipped_rows), *found.alone]),
            next=context.next_of(made),
            batch_call=replace(made, retry_of=made.retry_of or current.batch_call_id),
            preflight=judged.preflight,
            notes=notes,
        )

    return await Write(context, Operation.CREATE, request, key=key, known_as=known_as).run(
        people=people,
        send=lambda judged, ticket: context.backend.create(ticket.named(judged.request), ticket.backend_key),
        report=report,
        did=_made,
    )


def left_alone(current: BatchCall, statuses: frozenset[TaskStatus], capabilities: Capabilities) -> tuple[str, ...]:
    """Who was not reached either and is not called again, because the call names other states; what is counted."""
    counts = current.counts
    numbers = {
        (TaskStatus.VOICEMAIL,): (counts.voicemail, "voicemail", "voicemails"),
        (TaskStatus.NO_ANSWER,): (counts.no_answer, "person who did not answer", "people who did not answer"),
        (TaskStatus.BUSY,): (counts.busy, "busy line", "busy lines"),
        (TaskStatus.FAILED,): (counts.failed, "failed call", "failed calls"),
        (TaskStatus.EXPIRED, TaskStatus.INTERRUPTED): (
            _expired_or_interrupted(counts),
            "expired or interrupted call",
            "expired or interrupted calls",
        ),
    }
    found = []
    for states, (number, one, many) in numbers.items():
        if number and statuses.isdisjoint(states):
            named = json.dumps([str(state) for state in states if state in capabilities.outcomes])
            how = "" if named == "[]" else f" (task_status={named} calls them)"
            found.append(f"{counted(number, one, many)} {'is' if number == 1 else 'are'} not called again{how}.")
    if counts.skipped and TaskStatus.SKIPPED not in statuses:
        people = counted(counts.skipped, "person was", "people were")
        found.append(f"{people} skipped by the backend and {'is' if counts.skipped == 1 else 'are'} not called.")
    return tuple(found)


def _expired_or_interrupted(counts: Counts) -> int:
    parts = (counts.no_answer, counts.busy, counts.voicemail, counts.failed)
    if counts.not_reached is None or None in parts:
        return 0
    return counts.not_reached - sum(part for part in parts if part)


def _since(skipped_rows: Sequence[SkippedRow]) -> tuple[str, ...]:
    later = sum(row.kind is SkipReason.LATER_BATCH_CALL for row in skipped_rows)
    return (f"{counted(later, 'person is', 'people are')} skipped: a later batch call has them.",) if later else ()


def _lost(context: CallContext, current: BatchCall) -> list[str]:
    """What the first batch call may have had and the new one has not, because the backend does not report it."""
    capabilities = context.backend.capabilities
    lost = [
        words
        for words, held, reported in (
            ("calling hours (window)", capabilities.windows != "none", current.window),
            ("automatic redials (retry)", capabilities.retry_policy, current.retry),
        )
        if held and reported is None
    ]
    if not lost or capabilities.returns_variables:
        return []
    unknown = f"{context.backend.name} does not report the {' and '.join(lost)} of {current.batch_call_id}"
    if capabilities.drafts == "none":
        return [f"{unknown}: the new one has none."]
    return [f"{unknown}: the new draft has none. update_batch_call sets them."]


def _only(recipients: Recipients, wanted: Sequence[CallTask]) -> Recipients:
    numbers = {comparable(task.to_number) for task in wanted}
    return replace(
        recipients,
        tasks=tuple(task for task in recipients.tasks if comparable(task.to_number) in numbers),
        skipped_rows=tuple(
            row for row in recipients.skipped_rows if row.to_number and comparable(row.to_number) in numbers
        ),
    )
