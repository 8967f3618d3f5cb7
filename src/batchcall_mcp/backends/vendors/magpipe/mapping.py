"""Magpipe's batch-calls function: its words, and which requests make a phone ring. Pure.

Where Magpipe's documents (docs.magpipe.ai) and its published source (elagerway/magpipe, supabase/functions) disagree,
the source is followed, in the reading that calls less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any

from batchcall_mcp.backends.base import (
    At,
    Dials,
    Never,
    Now,
    name_with_retry_of,
    name_with_test_of,
    name_with_the_same_reference,
    retry_of_in_name,
    test_of_in_name,
)
from batchcall_mcp.backends.capabilities import LAUNCHING, Operation
from batchcall_mcp.errors import InvalidInput, UnexpectedResponse
from batchcall_mcp.model import (
    FINISHED,
    FROM_SUNDAY,
    NOT_REACHED,
    WEEKDAYS,
    Agent,
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallerNumber,
    CallingWindow,
    CallTask,
    Counts,
    TaskStatus,
)
from batchcall_mcp.vendor_http.http_errors import JsonObject
from batchcall_mcp.vendor_http.json_values import first, moment, rows, status, text, time_of_day, whole

MAX_RECIPIENTS = 500
"""In the source; the documents' table of limits says unlimited."""
MAX_CONCURRENCY = 5
"""In the source, which cuts silently; the documents say 20."""

_BATCH_WORDS = {str(status): status for status in BatchStatus}
_TASK_WORDS = {
    **{str(status): status for status in TaskStatus},
    "initiated": TaskStatus.CALLING,
    "ringing": TaskStatus.CALLING,
    "in_progress": TaskStatus.CALLING,
}
VOICEMAIL_NOTE = "Magpipe counts a call that a machine answered as completed."


def create_body(request: BatchCallRequest) -> JsonObject:
    """The body of `create`. It always names status and send_now: together they decide whether it dials.

    `status` is not in the documents; without it `send_now: true` makes a draft, and with `running` it dials even with
    `send_now: false`: only the three pairs used here are safe.

    Raises:
        InvalidInput: missing or contradicting fields; nothing was sent.
    """
    _check(request)
    tasks = request.tasks or ()
    name = request.name or f"Batch call of {len(tasks)} tasks"
    if request.retry_of is not None:
        name = name_with_retry_of(name, request.retry_of)
    if request.test_of is not None:
        name = name_with_test_of(name, request.test_of)
    body: JsonObject = {
        "action": "create",
        "name": name,
        "caller_id": request.from_number,
        "recipients": [_recipient(task) for task in tasks],
    }
    if request.send_now:
        body |= {"status": "running", "send_now": True}
    elif request.trigger_at is not None:
        at = request.trigger_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body |= {"status": "scheduled", "send_now": False, "scheduled_at": at}
    else:
        body |= {"status": "draft", "send_now": False}
    if request.agent_id is not None:
        body["agent_id"] = request.agent_id
    if request.max_concurrency is not None:
        body["max_concurrency"] = request.max_concurrency
    return body | _window(request.window)


def update_body(current: BatchCall, request: BatchCallRequest) -> JsonObject:
    """The body of `update`: what it can change, and nothing that it would ignore."""
    body: JsonObject = {"action": "update", "batch_id": current.batch_call_id}
    if request.name is not None:
        body["name"] = name_with_the_same_reference(request.name, current.name)
    if request.from_number is not None:
        body["caller_id"] = request.from_number
    if request.agent_id is not None:
        body["agent_id"] = request.agent_id
    return body | _window(request.window)


def dials(operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> Dials:
    """Would this make a phone ring? Unsure means Now."""
    if operation is Operation.CREATE and request is not None:
        if request.send_now:
            return Now()
        timed = request.trigger_at is not None and request.status is not BatchStatus.DRAFT
        return At(request.trigger_at) if timed and request.trigger_at is not None else Never()
    if operation is Operation.UPDATE and request is not None and current is not None:
        # A recurring series calls by its new fields at its next run, whose time is not reported.
        harmless = (
            replace(request, name=None, retry_of=None) == BatchCallRequest() or current.status is BatchStatus.DRAFT
        )
        return Never() if harmless else Now()
    return Now() if operation in LAUNCHING else Never()


def batch_call(answer: Mapping[str, Any], recipients: Sequence[Mapping[str, Any]] | None = None) -> BatchCall:
    """A batch row. With its recipients the counts are taken from them: the row itself has only two counters.

    Raises:
        UnexpectedResponse: if it has no id.
    """
    batch_call_id = text(answer.get("id"))
    if batch_call_id is None:
        raise UnexpectedResponse("Magpipe answered without a batch id. Look it up with list_batch_calls.")
    known, backend_status = status(_BATCH_WORDS, answer.get("status"), BatchStatus.UNKNOWN)
    name = text(answer.get("name"))
    window, notes = _read_window(answer)
    return BatchCall(
        batch_call_id=batch_call_id,
        status=known,
        backend_status=backend_status,
        name=name,
        from_number=text(answer.get("caller_id")),
        agent_id=text(answer.get("agent_id")),
        scheduled_at=moment(answer.get("scheduled_at")),
        created_at=moment(answer.get("created_at")),
        started_at=moment(answer.get("started_at")),
        completed_at=moment(answer.get("completed_at")),
        window=window,
        max_concurrency=whole(answer.get("max_concurrency")),
        retry_of=retry_of_in_name(name),
        test_of=test_of_in_name(name),
        counts=_counts(recipients, answer),
        is_series=(text(answer.get("recurrence_type")) or "none").lower() != "none",
        notes=notes,
    )


def task_status(data: Mapping[str, Any]) -> TaskStatus:
    """The state of a recipient row."""
    return status(_TASK_WORDS, data.get("status"), TaskStatus.UNKNOWN)[0]


def task(data: Mapping[str, Any]) -> CallTask:
    """A recipient row."""
    known, backend_status = status(_TASK_WORDS, data.get("status"), TaskStatus.UNKNOWN)
    return CallTask(
        to_number=text(data.get("phone_number")) or "",
        name=text(data.get("name")),
        task_id=text(data.get("id")),
        status=known,
        backend_status=backend_status,
        call_id=text(data.get("call_record_id")),
        error=text(data.get("error_message")),
        attempted_at=moment(data.get("attempted_at")),
        completed_at=moment(data.get("completed_at")),
    )


def caller_number(data: Mapping[str, Any]) -> CallerNumber | None:
    """A number of the account, with the agent that speaks on it; None if it has no number."""
    number = text(first(data, "phone_number", "number"))
    if number is None or data.get("is_active") is False:
        return None
    return CallerNumber(
        from_number=number, name=text(first(data, "friendly_name", "name")), agent_id=text(data.get("agent_id"))
    )


def agent(data: Mapping[str, Any]) -> Agent | None:
    """An agent; None if it has no id."""
    agent_id = text(data.get("id"))
    return None if agent_id is None else Agent(agent_id=agent_id, name=text(data.get("name")))


def _check(request: BatchCallRequest) -> None:
    if request.from_number is None or not request.tasks:
        raise InvalidInput("A batch call needs from_number and at least one task. Nothing was sent.")
    if len(request.tasks) > MAX_RECIPIENTS:
        raise InvalidInput(
            f"Magpipe takes {MAX_RECIPIENTS} tasks in one batch call; these are {len(request.tasks)}. Nothing was sent."
        )
    if request.status is BatchStatus.DRAFT and (request.send_now or request.trigger_at is not None):
        raise InvalidInput("status=draft and a time to dial contradict each other. Nothing was sent.")
    if request.send_now and request.trigger_at is not None:
        raise InvalidInput("send_now=true and trigger_timestamp contradict each other. Nothing was sent.")
    if request.status is BatchStatus.SCHEDULED and request.trigger_at is None:
        raise InvalidInput("status=scheduled needs a trigger_timestamp. Nothing was sent.")


def _recipient(recipient: CallTask) -> JsonObject:
    named = {} if recipient.name is None else {"name": recipient.name}
    return {"phone_number": recipient.to_number, **named}


def _window(window: CallingWindow | None) -> JsonObject:
    """The end is included there to the minute: 23:59 is the end of the day."""
    if window is None:
        return {}
    if not window.days:
        raise InvalidInput("window.days: name at least one day; with none nobody is ever called. Nothing was sent.")
    return {
        "window_start_time": window.start,
        "window_end_time": "23:59" if window.end == "24:00" else window.end,
        "window_days": sorted(FROM_SUNDAY.index(day) for day in set(window.days)),
    }


def _read_window(answer: Mapping[str, Any]) -> tuple[CallingWindow | None, tuple[str, ...]]:
    start = time_of_day(answer.get("window_start_time"))
    end = time_of_day(answer.get("window_end_time"))
    if start is None or end is None:
        return None, ()
    listed = answer.get("window_days")
    numbers = listed if isinstance(listed, list) else list(range(7))
    days = tuple(day for day in WEEKDAYS if FROM_SUNDAY.index(day) in numbers)
    if (start, end, days) == ("00:00", "23:59", WEEKDAYS):
        return None, ()
    notes = [
        note
        for unreachable, note in (
            (not days, "Its window names no day: nobody is called."),
            (end < start, "Its window runs over midnight, which Magpipe's dialler never finds open: nobody is called."),
        )
        if unreachable
    ]
    window = CallingWindow(start=start, end="24:00" if end == "23:59" else end, days=days, timezone="UTC")
    return window, tuple(notes)


def _counts(recipients: Sequence[Mapping[str, Any]] | None, row: Mapping[str, Any]) -> Counts:
    """By the recipients, but for the total: a list that is cut off shows fewer than the row counts."""
    total = whole(row.get("total_recipients"))
    if recipients is None:
        completed, failed = whole(row.get("completed_count")), whole(row.get("failed_count"))
        return Counts(total=total, completed=completed, failed=failed)
    by_status = Counter(task_status(recipient) for recipient in recipients)
    waiting = by_status[TaskStatus.PENDING] + by_status[TaskStatus.SKIPPED] + by_status[TaskStatus.UNKNOWN]
    return Counts(
        total=max(len(recipients), total or 0),
        pending=by_status[TaskStatus.PENDING],
        calling=by_status[TaskStatus.CALLING],
        sent=len(recipients) - waiting,
        completed=by_status[TaskStatus.COMPLETED],
        no_answer=by_status[TaskStatus.NO_ANSWER],
        busy=by_status[TaskStatus.BUSY],
        failed=by_status[TaskStatus.FAILED],
        skipped=by_status[TaskStatus.SKIPPED],
        not_reached=sum(by_status[status] for status in NOT_REACHED),
    )


def recipients_of(answer: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]] | None, int]:
    """The recipient rows in their order and how many entries are none; None if the answer has no such list.

    Rows, not tasks: Magpipe sends all of them for every read, and a page shows a few.
    """
    if not isinstance(answer.get("recipients"), list):
        return None, 0
    return rows(answer["recipients"])


def object_in(answer: JsonObject, member: str) -> Mapping[str, Any]:
    """A member that must be an object.

    Raises:
        UnexpectedResponse: if it is none.
    """
    found = answer.get(member)
    if isinstance(found, dict):
        return found
    raise UnexpectedResponse(f"Magpipe answered without a {member}. Look it up with list_batch_calls.")


def list_in(answer: JsonObject, member: str) -> list[Any]:
    """A member that must be a list.

    Raises:
        UnexpectedResponse: if it is none.
    """
    found = answer.get(member)
    if isinstance(found, list):
        return found
    raise UnexpectedResponse(
        f"Magpipe answered without a list of {member}. Nothing was changed. Check BATCHCALL_URL and BATCHCALL_BACKEND."
    )


def with_runs(series: BatchCall, runs: Any) -> BatchCall:
    """What the runs of a series say; of a paused one, whether a run dials: one in words that nobody knows may."""
    if not isinstance(runs, list):
        return series
    notes = [*series.notes, f"A recurring series, which calls everybody in each run; {len(runs)} runs are shown."]
    rests = {str(status) for status in (*FINISHED, BatchStatus.DRAFT, BatchStatus.PAUSED)}
    dials = any((text(run.get("status")) or "").lower() not in rests for run in rows(runs)[0])
    run_dials = dials and series.status is BatchStatus.PAUSED
    if run_dials:
        notes.append("A run of it is under way and calls on; cancel_batch_call cancels the series and that run.")
    return replace(series, notes=tuple(notes), run_dials=run_dials)
