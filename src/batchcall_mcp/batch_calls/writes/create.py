"""create_batch_call: who is called and how. Where the backend keeps drafts, no phone rings."""

from __future__ import annotations

import json
from dataclasses import replace

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.recipient_source import ListSource, read_callable, skipped_rows_words
from batchcall_mcp.batch_calls.writes.results import Result, ResultWord, created_as, replayed
from batchcall_mcp.batch_calls.writes.tasks_from import TasksFrom, people_of
from batchcall_mcp.batch_calls.writes.write import Judged, People, Write
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.guard.delivery.write_sender import WriteOutcome
from batchcall_mcp.guard.fingerprints import fingerprint
from batchcall_mcp.guard.preflight.dates import check_promises
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus
from batchcall_mcp.recipients.phone.numbers import normalise_number
from batchcall_mcp.recipients.validation import SkipReason
from batchcall_mcp.text import quoted


async def create(
    context: CallContext,
    request: BatchCallRequest,
    source: ListSource,
    idempotency_key: str | None = None,
    wanted: TasksFrom | None = None,
) -> Result:
    """Make a batch call; a draft, unless `request` says when to dial. `wanted`: people of another one, for a list.

    Raises:
        InvalidInput: naming field and row; nothing was sent.
        NotSupported: the backend has no field for an argument; nothing was sent.
        OutcomeUnknown: it may or may not have been made.
    """
    context.require(Operation.CREATE)
    context.require_complete(request)
    if request.from_number is not None:
        request = replace(request, from_number=caller_number(context, request.from_number, source.default_region))
    context.require_fields(request)  # before the list: how it has to be cut depends on it
    origin: tuple[str, ...] = ()
    since: tuple[str, ...] = ()
    known_as: str | None = None
    if wanted is not None:
        chosen = await people_of(context, wanted, source)
        source, origin, since = chosen.source, (chosen.origin,), chosen.warnings
        request = replace(request, name=request.name or chosen.name)
        known_as = _known_as(request, source, wanted, has_key=idempotency_key is not None)
        write = Write(context, Operation.CREATE, request, key=idempotency_key, known_as=known_as)
        earlier = await write.earlier()
        if isinstance(earlier, WriteOutcome):
            return replayed(earlier, _made_before, context.next_of(earlier.batch_call))
    recipients, tasks, notes = await read_callable(context, source, request.from_number)
    notes = (*since, *notes)
    request = replace(request, tasks=tasks)
    context.require_fields(request)
    check_promises(request, None, context.backend.capabilities, context.limits.calling_hours)

    async def people() -> People:
        return People(
            tasks=tasks,
            skipped_rows=recipients.skipped_rows,
            rows_read=recipients.rows_read,
            warnings=notes,
            notes=(*origin, *recipients.remarks),
        )

    async def report(made: BatchCall, judged: Judged) -> Result:
        sent, read = len(judged.request.tasks or ()), recipients.rows_read
        how_many = f"{sent} tasks" if sent == read else f"{sent} of {read} rows"
        return Result(
            result=created_as(made.status),
            summary=f"{_made(made)} {made.batch_call_id}: {how_many}.{skipped_rows_words(recipients)}",
            next=context.next_of(made),
            batch_call=made,
            preflight=judged.preflight,
            notes=(*origin, *notes, *recipients.remarks),
        )

    taken_from = None if wanted is None else wanted.batch_call_id
    write = Write(context, Operation.CREATE, request, key=idempotency_key, known_as=known_as, tasks_from=taken_from)
    result = await write.run(
        people=people,
        send=lambda judged, ticket: context.backend.create(ticket.named(judged.request), ticket.backend_key),
        report=report,
        did=_made_before,
    )
    # There is no check of people of another batch call: who is skipped of them is seen here alone.
    return result if wanted is not None else _without_what_check_shows(result)


def _known_as(request: BatchCallRequest, source: ListSource, wanted: TasksFrom, *, has_key: bool) -> str:
    """What makes two calls with `tasks_from` the same.

    By all who are meant: those whom an equal call has put into a list are skipped from then on. With a key by what
    they are meant by: more people may have that result by now, and the same key is the same list.
    """
    meant = [wanted.batch_call_id, sorted(wanted.statuses or ()), wanted.choice, sorted(wanted.extracted.items())]
    read_as = json.dumps([request.name, source.rows, source.timezones, source.default_region, meant])
    return fingerprint(Operation.CREATE, replace(request, name=read_as, tasks=None if has_key else source.tasks))


def _made_before(made: BatchCall) -> tuple[ResultWord, str]:
    return created_as(made.status), f"made {made.batch_call_id}"


def _without_what_check_shows(result: Result) -> Result:
    """Rows that are skipped for what is in the list are counted here by reason, and shown by check_batch_call."""
    rows = [row for row in result.skipped_rows if row.kind is SkipReason.CONCERN]
    if len(rows) == len(result.skipped_rows):
        return result
    shown = "check_batch_call with the same list shows each row that is skipped."
    return replace(result, skipped_rows=rows, notes=(*result.notes, shown))


def caller_number(context: CallContext, from_number: str | None, default_region: str | None = None) -> str:
    """The number to call from, as E.164.

    Raises:
        InvalidInput: if it is none; nothing was sent.
    """
    try:
        return normalise_number(from_number or "", default_region or context.settings.default_region)
    except ValueError as error:
        raise InvalidInput(
            f"from_number: {error}. Nothing was sent. get_backend lists the account's numbers."
        ) from None


def _made(made: BatchCall) -> str:
    if made.status is BatchStatus.DRAFT:
        return "Made the draft"
    said = made.backend_status if made.status is BatchStatus.UNKNOWN else None
    return f"Made the batch call (status {made.status}" + (f": the backend says {quoted(said)})" if said else ")")
