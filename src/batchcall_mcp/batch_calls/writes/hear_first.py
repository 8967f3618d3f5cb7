"""Hear it first: a call to one of the operator's own numbers, with what the first person of a list would hear.

It is a batch call of its own, with one task and `test_of`: the list is as it was, and nobody of it is called.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from batchcall_mcp.backends.base import ReadTasks
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.writes.results import Result
from batchcall_mcp.batch_calls.writes.write import Judged, People, Write
from batchcall_mcp.calling_hours import recipient_zones
from batchcall_mcp.errors import InvalidInput, NotSupported
from batchcall_mcp.guard.fingerprints import fingerprint
from batchcall_mcp.guard.people import masked, without_numbers, written
from batchcall_mcp.guard.preflight.schedule import Hours
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallingWindow, CallTask, TaskQuery
from batchcall_mcp.recipients.phone.numbers import comparable, normalise_number
from batchcall_mcp.text import in_quotes, shortened

_AT_ANY_HOUR: Final = CallingWindow(start="00:00", end="24:00", timezone="UTC")
_MOST_VARIABLES: Final = 5
_LONGEST_VALUE: Final = 40
_LONGEST_NAME: Final = 60


async def hear(
    context: CallContext, batch_call_id: str, test_number: str, idempotency_key: str | None = None
) -> Result:
    """Call a test number with the variables of the first row, the agent and the caller number of a batch call.

    Each is a call of its own: an equal one before it does not stand in the way, unless the caller's own key says so.

    Raises:
        InvalidInput: the number is not one of the operator's, is never called, or the batch call has nothing to hear.
        NotSupported: the backend does not give the variables back.
        PermissionDenied: the mode allows nothing that dials, or the emergency stop is on. Nothing was sent.
    """
    context.require(Operation.CREATE)
    number = _allowed(context, test_number)
    current, read, _ = await context.look(batch_call_id)
    request = _request(context, current, await _first_row(context, current, read), number)
    context.require_fields(request)
    if comparable(number) in await context.do_not_call():
        raise InvalidInput(
            f"test_number: {masked(number)} is on the do-not-call list, to which a test call keeps too. Nothing was "
            "sent."
        )

    async def people() -> People:
        return People(tasks=request.tasks, test=_question(batch_call_id, request))

    async def report(made: BatchCall, judged: Judged) -> Result:
        return Result(
            result="started",
            summary=f"Test call {made.batch_call_id} to {written(number)}, with the first row of {batch_call_id}; "
            f"its status is {made.status}. The list of {batch_call_id} is as it was.",
            next=context.next_of(made),
            batch_call=made,
            preflight=judged.preflight,
        )

    once = fingerprint(Operation.CREATE, request) if idempotency_key else secrets.token_hex(16)
    return await Write(context, Operation.CREATE, request, key=idempotency_key, known_as=once).run(
        people=people,
        send=lambda judged, ticket: context.backend.create(judged.request, ticket.backend_key),
        report=report,
        did=lambda made: ("started", f"called the test number ({made.batch_call_id})"),
    )


def _allowed(context: CallContext, test_number: str) -> str:
    numbers = context.settings.test_numbers
    if not numbers:
        raise NotSupported(
            "test_number: the operator has named no number for test calls (BATCHCALL_TEST_NUMBERS). Nothing was sent."
        )
    try:
        number = normalise_number(test_number, context.settings.default_region)
    except ValueError as error:
        raise InvalidInput(f"test_number: {error}. Nothing was sent.") from None
    if number not in numbers:
        theirs = ", ".join(masked(one) for one in numbers)
        raise InvalidInput(
            f"test_number: only a number of BATCHCALL_TEST_NUMBERS ({theirs}) can be called for a test. Nothing was "
            "sent. Ask the person for one of these."
        )
    return number


async def _first_row(context: CallContext, current: BatchCall, read: ReadTasks) -> CallTask:
    capabilities = context.backend.capabilities
    if capabilities.dynamic_variables and not capabilities.returns_variables:
        raise NotSupported(
            f"test_number: {context.backend.name} does not give the variables of its tasks back, so nobody can hear "
            "them from here. Nothing was sent. Make a batch call of one row instead: create_batch_call with the same "
            'from_number and agent_id, and tasks=[{"to_number": the test number, "dynamic_variables": those of the '
            "first row}]; then start that one."
        )
    if current.test_of is not None:
        raise InvalidInput(
            f"{current.batch_call_id} is itself a test call of {current.test_of}. Nothing was sent. Give the id of "
            "the batch call with the list."
        )
    page = await read(TaskQuery(limit=1))
    if not page.tasks:
        hidden = context.unlisted(current, 0)
        why = f" {hidden}" if hidden else ""
        raise InvalidInput(
            f"{current.batch_call_id} has no task whose variables could be heard.{why} Nothing was sent."
        )
    return page.tasks[0]


def _request(context: CallContext, current: BatchCall, row: CallTask, number: str) -> BatchCallRequest:
    capabilities = context.backend.capabilities
    if current.from_number is None:
        raise InvalidInput(
            f"The backend does not say from which number {current.batch_call_id} calls. Nothing was sent."
        )
    name = f"Test of {current.name}" if current.name else "Test call"
    task = CallTask(
        to_number=number,
        name=row.name if capabilities.task_names else None,
        dynamic_variables=row.dynamic_variables if capabilities.dynamic_variables else {},
    )
    return BatchCallRequest(
        from_number=current.from_number,
        tasks=(task,),
        name=shortened(name, capabilities.limits.name_length or _LONGEST_NAME * 4),
        agent_id=current.agent_id if capabilities.agent == "per_batch" else None,
        send_now=True,
        timezone=current.timezone if capabilities.drafts == "full" else None,
        window=_window(context, current, number, context.clock()) if capabilities.windows == "full" else None,
        test_of=current.batch_call_id,
    )


def _window(context: CallContext, current: BatchCall, number: str, now: datetime) -> CallingWindow:
    """The hours that hold for the list, where they are open: said, so that no other hours put the call off until then.

    At another hour it rings all the same, and the question warns of that.
    """
    hours = Hours.of(current.window, context.backend.capabilities, context.limits.calling_hours)
    opens = hours.opens(recipient_zones(number, None, current.timezone), now)
    is_open = opens is not None and opens <= now
    return (current.window or context.limits.calling_hours) if is_open else _AT_ANY_HOUR


def _question(batch_call_id: str, request: BatchCallRequest) -> str:
    (task,) = request.tasks or ()
    hears = _variables(task.dynamic_variables)
    return (
        f"Test call: only {masked(task.to_number)} rings, with the first row of {batch_call_id}{hears}. Nobody of its "
        "list is called."
    )


def _variables(variables: Mapping[str, str]) -> str:
    shown: Sequence[str] = [
        f"{in_quotes(name, _LONGEST_VALUE)}: {in_quotes(without_numbers(value), _LONGEST_VALUE)}"
        for name, value in list(variables.items())[:_MOST_VARIABLES]
    ]
    more = len(variables) - len(shown)
    listed = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    return f" ({listed})" if shown else ""
