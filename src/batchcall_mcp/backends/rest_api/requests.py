"""The batch-call REST API's requests, which states forbid them, and which of them make a phone ring. Pure.

Two dialects: `zudu` as its documents have it, and ours (`extended`), in which PATCH also takes from_number, window,
max_concurrency, dates, ends and the retry fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import date, datetime
from typing import Any, Final

from batchcall_mcp.backends.base import (
    At,
    Dials,
    Never,
    Now,
    name_with_retry_of,
    name_with_test_of,
    name_with_the_same_reference,
)
from batchcall_mcp.backends.capabilities import LAUNCHING, Operation
from batchcall_mcp.clock import to_ms
from batchcall_mcp.errors import IllegalTransition, InvalidInput
from batchcall_mcp.model import (
    FINISHED,
    FROM_SUNDAY,
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallingWindow,
    CallTask,
    RetryPolicy,
)
from batchcall_mcp.vendor_http.http_errors import JsonObject

ZUDU_NAME_LENGTH = 255

_PATCH_ALWAYS = frozenset({"name", "agent_id", "trigger_at", "timezone", "status", "send_now"})
_PATCH_EXTENDED = _PATCH_ALWAYS | {
    "from_number",
    "window",
    "max_concurrency",
    "retry",
    "trigger_on",
    "ends_at",
    "ends_on",
}
_BEFORE_THE_START: Final = frozenset({BatchStatus.DRAFT, BatchStatus.SCHEDULED})
_BEGUN: Final = frozenset({BatchStatus.RUNNING, BatchStatus.PAUSED})
_NOT_DIALLED_AGAIN: Final = _BEFORE_THE_START | {BatchStatus.PAUSED, BatchStatus.CANCELLED, BatchStatus.FAILED}


def create_body(request: BatchCallRequest, *, extended: bool) -> JsonObject:
    """The body of POST /batch-call.

    It always says what is to happen: in Zudu's documents a body with neither a time nor send_now dials at once.

    Raises:
        InvalidInput: missing or contradicting fields; nothing was sent.
    """
    check_schedule(request)
    if request.from_number is None or not request.tasks:
        raise InvalidInput("A batch call needs from_number and at least one task. Nothing was sent.")
    if request.status is BatchStatus.DRAFT and (request.trigger_at is not None or request.trigger_on is not None):
        raise InvalidInput("A draft has no time; give it with start_batch_call later. Nothing was sent.")
    name = request.name
    if request.retry_of is not None and not extended:
        name = name_with_retry_of(name, request.retry_of, ZUDU_NAME_LENGTH)
    if request.test_of is not None and not extended:
        name = name_with_test_of(name, request.test_of, ZUDU_NAME_LENGTH)
    body: JsonObject = {"from_number": request.from_number, "tasks": [_task(task) for task in request.tasks]}
    body |= _given(name=name, agent_id=request.agent_id, timezone=request.timezone)
    if request.send_now:
        body |= {"status": "sent", "send_now": True}
    elif not _no_time(request):
        body |= _timed_body(request)
    else:
        body |= {"status": "draft", "send_now": False}
    body |= _settings(request.window, request.max_concurrency, request.retry, extended=extended)
    body |= _end(request.ends_at, request.ends_on)
    return body | (_given(retry_of=request.retry_of, test_of=request.test_of) if extended else {})


def update_call(
    current: BatchCall, request: BatchCallRequest, *, extended: bool, patches_tasks: bool
) -> tuple[str, JsonObject]:
    """Method and body: PATCH with only what is given where the dialect can, else PUT with everything.

    Raises:
        InvalidInput: contradicting fields, or a full replacement that lacks something the backend does not give back.
        IllegalTransition: a full replacement of a batch call that is neither draft nor scheduled; nothing was sent.
    """
    check_schedule(request)
    if not extended:
        request = _with_reference(current, request)
    given = {name for name in _PATCH_EXTENDED | {"tasks"} if getattr(request, name) is not None}
    if not given:
        raise InvalidInput("Nothing to change was given. Nothing was sent.")
    if given - ({"tasks"} if patches_tasks else set()) <= (_PATCH_EXTENDED if extended else _PATCH_ALWAYS):
        return "PATCH", _patch_body(request, extended=extended)
    return "PUT", _put_body(current, request, extended=extended)


def _with_reference(current: BatchCall, request: BatchCallRequest) -> BatchCallRequest:
    """A new name keeps the reference that the old one carried, where the name is the only place for it."""
    if request.name is None:
        return request
    return replace(request, name=name_with_the_same_reference(request.name, current.name, ZUDU_NAME_LENGTH))


def tasks_body(tasks: Iterable[CallTask]) -> JsonObject:
    """The POST that adds people."""
    return {"tasks": [_task(task) for task in tasks]}


def schedule_body(at: datetime) -> JsonObject:
    """The PATCH that launches at a moment."""
    return {"trigger_timestamp": to_ms(at), "status": "scheduled", "send_now": False}


def launch_body(at: datetime | None) -> JsonObject:
    """The PATCH that launches at a moment, or now."""
    return {"send_now": True} if at is None else schedule_body(at)


def start_body(request: BatchCallRequest) -> JsonObject:
    """The PATCH that launches now, at a moment or on a date, with an end or without, for the first people or all."""
    is_timed = request.trigger_at is not None or request.trigger_on is not None
    when = _timed_body(request) if is_timed else launch_body(None)
    return when | _end(request.ends_at, request.ends_on) | _given(first=request.first)


def _timed_body(request: BatchCallRequest) -> JsonObject:
    """At a moment, or on a date; with both, on that date and not before this moment: time to think again."""
    return {
        "status": "scheduled",
        "send_now": False,
        **_given(
            trigger_timestamp=None if request.trigger_at is None else to_ms(request.trigger_at),
            trigger_date=None if request.trigger_on is None else request.trigger_on.isoformat(),
        ),
    }


def _end(at: datetime | None, on: date | None) -> JsonObject:
    return _given(
        expires_timestamp=None if at is None else to_ms(at), expires_date=None if on is None else on.isoformat()
    )


def check_schedule(request: BatchCallRequest) -> None:
    """Refuse words about when to dial that contradict each other.

    Raises:
        InvalidInput: nothing was sent.
    """
    if request.status is BatchStatus.DRAFT and request.send_now:
        raise InvalidInput("status=draft and send_now=true contradict each other. Nothing was sent. Give one of them.")
    if request.status is BatchStatus.SCHEDULED and _no_time(request):
        raise InvalidInput("status=scheduled needs a trigger_timestamp. Nothing was sent. Give the time too.")


def _no_time(request: BatchCallRequest) -> bool:
    return request.trigger_at is None and request.trigger_on is None and not request.send_now


def check_state(
    operation: Operation,
    request: BatchCallRequest | None,
    current: BatchCall | None,
    *,
    extended: bool,
    patches_tasks: bool,
) -> None:
    """Refuse what the server would refuse, or what could call somebody twice.

    What a server does with a state in a word that nobody knows is its own affair, except where a launch might call
    somebody twice.

    Raises:
        IllegalTransition: its state does not allow it; nothing was sent.
        InvalidInput: the request cannot be put into the dialect; nothing was sent.
    """
    if current is None:
        if operation is Operation.CREATE and request is not None:
            create_body(_first_task_only(request), extended=extended)
        return
    if operation is Operation.START:
        _check_startable(current)
    elif operation is Operation.UPDATE and request is not None:
        _check_changeable(current, request, extended=extended)
        update_call(current, _first_task_only(request), extended=extended, patches_tasks=patches_tasks)
    elif operation is Operation.APPEND:
        _check_open(current)
    elif operation is Operation.RETRY and current.status in _NOT_DIALLED_AGAIN:
        raise IllegalTransition(
            f"Could not retry tasks of batch call {current.batch_call_id}: it is {current.status}, and tasks are "
            "dialled again only while it is running or after it is completed. Nothing was sent. "
            + _instead_of_retry(current)
        )
    elif operation is Operation.DELETE:
        _check_deletable(current, extended=extended)


def _first_task_only(request: BatchCallRequest) -> BatchCallRequest:
    """A list of 100,000 is not put into the dialect twice to learn whether it can be."""
    return replace(request, tasks=request.tasks[:1]) if request.tasks else request


def _check_startable(current: BatchCall) -> None:
    if current.status in _BEFORE_THE_START:
        return
    following = "Use resume_batch_call." if current.status is BatchStatus.PAUSED else "Look at it with get_batch_call."
    if current.status in FINISHED:
        following = "To call those who were not reached, use retry_batch_call."
    raise IllegalTransition(
        f"Could not start batch call {current.batch_call_id}: it is {current.backend_status or current.status}, and "
        f"only a draft or scheduled one can be started. Nothing was sent. {following}"
    )


def _check_open(current: BatchCall) -> None:
    if current.status in FINISHED:
        raise IllegalTransition(
            f"Nobody can be added to batch call {current.batch_call_id}: it is {current.status}. Nothing was sent. "
            "create_batch_call makes a new draft of these people; retry_batch_call calls those of this one who were "
            "not reached."
        )


def _check_changeable(current: BatchCall, request: BatchCallRequest, *, extended: bool) -> None:
    status = current.status
    if request.status is BatchStatus.DRAFT and status not in _BEFORE_THE_START:
        raise IllegalTransition(
            f"{current.batch_call_id} is {status}: only one that is scheduled can become a draft again. Nothing was "
            "sent. pause_batch_call or cancel_batch_call, where there are such tools, stop one that dials."
        )
    given = {field.name for field in fields(request) if getattr(request, field.name) not in (None, False)}
    launches = not _no_time(request) or request.status is BatchStatus.SCHEDULED
    if extended:
        forbidden = status in _BEGUN | FINISHED and bool(given - {"name"})
        what = "only the name can be changed from then on"
    else:  # update page: COMPLETED ones "cannot be modified"; a launch of a running one could call somebody twice
        forbidden = status in FINISHED or (status in _BEGUN and bool(launches))
        what = "nothing can be changed from then on" if status in FINISHED else "it cannot be launched again"
    if forbidden:
        raise IllegalTransition(
            f"Could not update batch call {current.batch_call_id}: it is {status}, and {what}. Nothing was sent. "
            "create_batch_call makes a new one."
        )


def _check_deletable(current: BatchCall, *, extended: bool) -> None:
    if current.status is BatchStatus.SCHEDULED or current.status in _BEGUN:
        first = "cancel_batch_call ends it first."
        if not extended:
            scheduled = current.status is BatchStatus.SCHEDULED
            first = "cancel_batch_call makes a draft of it." if scheduled else "It can be deleted when it is over."
        raise IllegalTransition(
            f"Could not delete batch call {current.batch_call_id}: it is {current.status}, and only drafts and "
            f"finished ones can be deleted. Nothing was sent. {first}"
        )
    if extended and current.counts.calling:
        raise IllegalTransition(
            f"Could not delete batch call {current.batch_call_id}: calls are in progress. Nothing was sent. Try again "
            "when they have ended."
        )


def _instead_of_retry(current: BatchCall) -> str:
    if current.status is BatchStatus.PAUSED:
        return "resume_batch_call dials on; retry afterwards."
    if current.status in _BEFORE_THE_START:
        return "start_batch_call calls its people."
    return "create_batch_call with their numbers makes a new one."


def dials(operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> Dials:
    """Would this make a phone ring? Unsure means Now."""
    if operation not in LAUNCHING:
        return Never()
    if request is None:
        return Now()
    if operation is Operation.CREATE:
        return Now() if request.send_now else _at(request, otherwise=Never())
    if operation is Operation.START:
        return Now() if request.send_now else _at(request, otherwise=Now())
    if operation in {Operation.UPDATE, Operation.APPEND} and current is not None:
        return _update_dials(request, current) if operation is Operation.UPDATE else _append_dials(current)
    return Now()


def _append_dials(current: BatchCall) -> Dials:
    """Who is added is dialled when the others are: of a draft and a paused one, after somebody launches it."""
    if current.status in {BatchStatus.DRAFT, BatchStatus.PAUSED}:
        return Never()
    if current.status is BatchStatus.SCHEDULED and current.scheduled_on is not None:
        return At.date(current.scheduled_on)
    if current.status is BatchStatus.SCHEDULED and current.scheduled_at is not None:
        return At(current.scheduled_at)
    return Now()


def _update_dials(request: BatchCallRequest, current: BatchCall) -> Dials:
    if request.send_now:
        return Now()
    says_when = not _no_time(request) or request.status is BatchStatus.SCHEDULED
    changes = {name for name in _PATCH_EXTENDED | {"tasks"} if getattr(request, name) is not None} - {"send_now"}
    harmless = changes <= {"name"} or current.status is BatchStatus.DRAFT
    if request.status is BatchStatus.DRAFT or (harmless and not says_when):
        return Never()
    if not _no_time(request):
        return _at(request, otherwise=Now())
    if current.status is BatchStatus.SCHEDULED and current.scheduled_on is not None:
        return At.date(current.scheduled_on)
    if current.status is BatchStatus.SCHEDULED and current.scheduled_at is not None and not says_when:
        return At(current.scheduled_at)
    return Now()


def _at(request: BatchCallRequest, otherwise: Dials) -> Dials:
    if request.trigger_at is not None and request.status is not BatchStatus.DRAFT:
        return At(request.trigger_at)
    if request.trigger_on is not None and request.status is not BatchStatus.DRAFT:
        return At.date(request.trigger_on)
    return otherwise


def _patch_body(request: BatchCallRequest, *, extended: bool) -> JsonObject:
    body = _given(
        name=request.name,
        from_number=request.from_number,
        trigger_timestamp=None if request.trigger_at is None else to_ms(request.trigger_at),
        trigger_date=None if request.trigger_on is None else request.trigger_on.isoformat(),
        status=None if request.status is None else request.status.value,
        send_now=request.send_now,
        timezone=request.timezone,
        agent_id=request.agent_id,
        tasks=[_task(task) for task in request.tasks] if request.tasks else None,
    )
    body |= _end(request.ends_at, request.ends_on)
    return body | _settings(request.window, request.max_concurrency, request.retry, extended=extended)


def _put_body(current: BatchCall, request: BatchCallRequest, *, extended: bool) -> JsonObject:
    status = _put_status(current, request)
    if not request.tasks:
        raise InvalidInput(
            "This change replaces the whole batch call, and the backend does not give its tasks back with their "
            "variables. Nothing was sent. Pass tasks or tasks_file with the complete list too."
        )
    from_number = request.from_number or current.from_number
    if from_number is None:
        raise InvalidInput(
            "This change replaces the whole batch call, and the backend did not tell its from_number. Nothing was "
            "sent. Pass from_number too."
        )
    # A draft that was scheduled once may still show its old time.
    time = request.trigger_at or (None if status == "draft" else current.scheduled_at)
    on = request.trigger_on or (None if status == "draft" or not _no_time(request) else current.scheduled_on)
    # With a date that is given, a moment is time to think again; the one that it has came of the date that it had.
    time = request.trigger_at if on is not None else time
    if status == "scheduled" and time is None and on is None and not request.send_now:
        raise InvalidInput(
            "This change replaces the whole batch call, and the backend did not tell its time. Nothing was sent. Pass "
            "trigger_timestamp too, or status=draft."
        )
    body = _given(
        from_number=from_number,
        tasks=[_task(task) for task in request.tasks],
        name=request.name or current.name,
        trigger_timestamp=None if time is None else to_ms(time),
        trigger_date=None if on is None else on.isoformat(),
        agent_id=request.agent_id or current.agent_id,
        timezone=request.timezone or current.timezone,
        status=status,
        send_now=bool(request.send_now),
    )
    # A replacement removes what it does not name: what else the batch call holds must be named too.
    concurrency = request.max_concurrency or current.max_concurrency
    body |= _settings(
        request.window or current.window,
        concurrency if extended else None,
        request.retry or current.retry,
        extended=extended,
    )
    body |= _kept_end(current, request) if extended else {}
    keeps_launch = status == "scheduled" and _no_time(request)
    first = current.first if keeps_launch else None
    return body | (_given(retry_of=current.retry_of, test_of=current.test_of, first=first) if extended else {})


def _kept_end(current: BatchCall, request: BatchCallRequest) -> JsonObject:
    """The end that is given, else the one that it has: not one that only came of a date that is moved."""
    if request.ends_at is not None or request.ends_on is not None:
        return _end(request.ends_at, request.ends_on)
    if current.expires_on is not None:
        moved = current.expires_on == current.scheduled_on and not _no_time(request)
        return {} if moved else _end(None, current.expires_on)
    return _end(current.expires_at, None)


def _put_status(current: BatchCall, request: BatchCallRequest) -> str:
    begun_or_over = current.status in FINISHED | _BEGUN
    if request.status is not None and not begun_or_over:
        return request.status.value
    if current.status in _BEFORE_THE_START:
        return "sent" if request.send_now else current.status.value
    raise IllegalTransition(
        f"This change replaces the whole batch call, which can be done while it is a draft or scheduled; "
        f"{current.batch_call_id} is {current.status}. Nothing was sent. Make a new one with create_batch_call."
    )


def _task(task: CallTask) -> JsonObject:
    return _given(
        to_number=task.to_number,
        name=task.name,
        dynamic_variables=dict(task.dynamic_variables) or None,
        max_retries=task.max_retries,
        timezone=task.timezone,
        not_before=None if task.not_before is None else to_ms(task.not_before),
    )


def _settings(
    window: CallingWindow | None, max_concurrency: int | None, retry: RetryPolicy | None, *, extended: bool
) -> JsonObject:
    body = _given(max_concurrency=max_concurrency)
    if window is not None:
        body |= {"window": _window(window)} if extended else {"quiet_hours": quiet_hours(window)}
    return body if retry is None else body | _retry(retry, extended=extended)


def _window(window: CallingWindow) -> JsonObject:
    return {
        "start": window.start,
        "end": window.end,
        "days": sorted(FROM_SUNDAY.index(day) for day in set(window.days)),
        "timezone": window.timezone,
    }


def quiet_hours(window: CallingWindow) -> JsonObject:
    """The hours of the day outside the window, in its one time zone; disabled for a window of the whole day."""
    start = "00:00" if window.end == "24:00" else window.end
    end = window.start
    return {"enabled": start != end, "start_time": start, "end_time": end, "timezone": window.timezone}


def _retry(retry: RetryPolicy, *, extended: bool) -> JsonObject:
    """`max_attempts` is read as dials after the first, like a task's max_retries: the reading that calls less.

    Raises:
        InvalidInput: outcomes without a time to redial; nothing was sent.
    """
    body: JsonObject = {"retry_config": {"enabled": retry.max_retries > 0, "max_attempts": retry.max_retries}}
    if retry.after_minutes is not None and retry.at is not None:
        raise InvalidInput("retry: after_minutes and at exclude each other. Nothing was sent. Give one.")
    if retry.after_minutes is None and retry.at is None:
        if extended and set(retry.on) == {"no_answer", "busy"}:
            return body  # without rules the server redials these two, after a delay of its own
        raise InvalidInput("retry: say when to redial, with after_minutes or at. Nothing was sent.")
    timing = (
        {"type": "AFTER", "duration_minutes": retry.after_minutes}
        if retry.at is None
        else {"type": "AT", "time": retry.at}
    )
    body["retry_rules"] = [
        {"condition": outcome, "enabled": True, "retry_timing": dict(timing)} for outcome in retry.on
    ]
    return body


def _given(**members: Any) -> JsonObject:
    return {name: value for name, value in members.items() if value is not None}
