"""The batch-call REST API's answers as the model has them: both generations of Zudu's documents, and ours. Pure.

The two generations (docs.zudu.ai, hand-written and generated pages) disagree on the case of statuses, on seconds and
milliseconds, on ISO times, on the envelope and on what a page of a list reports; every reading is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import date
from typing import Any, cast

from batchcall_mcp.backends.base import retry_of_in_name, test_of_in_name
from batchcall_mcp.backends.row_reading import call_from
from batchcall_mcp.errors import UnexpectedResponse
from batchcall_mcp.model import (
    FROM_SUNDAY,
    NOT_REACHED,
    WEEKDAYS,
    Agent,
    AnsweredBy,
    BatchCall,
    BatchStatus,
    Call,
    CallerNumber,
    CallingWindow,
    CallTask,
    Counts,
    HeldBack,
    Results,
    RetryOutcome,
    RetryPolicy,
    StatusReason,
    TaskStatus,
    Weekday,
)
from batchcall_mcp.vendor_http.http_errors import JsonObject
from batchcall_mcp.vendor_http.json_values import (
    first,
    moment,
    money,
    names,
    rows,
    seconds,
    status,
    text,
    time_of_day,
    variables,
    whole,
)
from batchcall_mcp.vendor_http.paging import RawPage
from batchcall_mcp.vendor_http.transcripts import turns

SIMULATED_NOTE = "Simulated: no phone rings; the last digit of each number decides how its call goes."

_BATCH_WORDS = {status.value: status for status in BatchStatus} | {
    "sent": BatchStatus.RUNNING,
    "canceled": BatchStatus.CANCELLED,
}
_TASK_WORDS = {status.value: status for status in TaskStatus} | {"canceled": TaskStatus.CANCELLED}
_RETRY_OUTCOMES: tuple[RetryOutcome, ...] = ("no_answer", "busy", "voicemail", "failed")
_COUNTED = tuple(field.name for field in fields(Counts) if field.name != "total")


def payload(answer: JsonObject) -> Mapping[str, Any]:
    """What the envelope holds, or the answer itself where there is no envelope."""
    data = answer.get("data")
    return cast("Mapping[str, Any]", data) if isinstance(data, dict) else answer


def batch_call(data: Mapping[str, Any], fallback_id: str | None = None, *, extended: bool = True) -> BatchCall:
    """A batch call object; `extended`: words of our own dialect count.

    Raises:
        UnexpectedResponse: if it has no id and none is known.
    """
    batch_call_id = text(first(data, "batch_call_id", "id")) or fallback_id
    if batch_call_id is None:
        raise UnexpectedResponse(
            "The backend answered without a batch_call_id. Check BATCHCALL_URL and BATCHCALL_BACKEND, and look it up "
            "with list_batch_calls."
        )
    known, backend_status = batch_status(data.get("status"))
    name = text(data.get("name"))
    window, notes = _window(data)
    simulated = extended and data.get("carrier") == "simulated"  # a word of ours, which no vendor has
    if simulated:
        notes += (SIMULATED_NOTE,)
    elsewhere = extended and data.get("dialled_here") is False
    if elsewhere:
        notes += (
            f"It belongs to the carrier {text(data.get('carrier'), 100)}: the dialer here does not call its people.",
        )
    return BatchCall(
        batch_call_id=batch_call_id,
        status=known,
        backend_status=backend_status,
        status_reason=_status_reason(data.get("status_reason")) if extended else None,
        name=name,
        from_number=text(data.get("from_number")),
        agent_id=text(data.get("agent_id")),
        timezone=text(data.get("timezone")),
        scheduled_at=moment(first(data, "scheduled_timestamp", "trigger_timestamp", "scheduled_at")),
        scheduled_on=_day(data.get("trigger_date")) if extended else None,
        expires_at=moment(data.get("expires_timestamp")) if extended else None,
        expires_on=_day(data.get("expires_date")) if extended else None,
        created_at=moment(first(data, "created_timestamp", "created_at")),
        started_at=moment(first(data, "started_timestamp", "started_at", "execution_started_at")),
        completed_at=moment(first(data, "completed_timestamp", "completed_at")),
        last_sent_at=moment(first(data, "last_sent_timestamp", "last_sent_at")),
        window=window,
        max_concurrency=whole(data.get("max_concurrency")),
        retry=_retry(data),
        retry_of=text(data.get("retry_of")) or retry_of_in_name(name),
        test_of=text(data.get("test_of")) or test_of_in_name(name),
        first=whole(data.get("first")) if extended else None,
        holds_first=extended and "first" in data,
        hides_retry=not extended or "retry_config" not in data,
        counts=_counts(data),
        results=_results(data) if extended else None,
        held_back=_held_back(data.get("held_back")),
        organization_id=text(data.get("organization_id")),
        notes=notes,
        simulated=simulated,
        is_dialled_elsewhere=elsewhere,
        added=whole(data.get("appended_count")) if extended else None,
    )


def has_id(data: Mapping[str, Any]) -> bool:
    """Whether an entry of a list can be named at all."""
    return text(first(data, "batch_call_id", "id")) is not None


def batch_status(word: Any) -> tuple[BatchStatus, str | None]:
    """The model's status, and the backend's word where it is another."""
    return status(_BATCH_WORDS, word, BatchStatus.UNKNOWN)


def call_task(data: Mapping[str, Any]) -> CallTask:
    """A task object. Zudu's own says neither attempts nor variables."""
    known, backend_status = status(_TASK_WORDS, data.get("status"), TaskStatus.UNKNOWN)
    return CallTask(
        to_number=text(data.get("to_number")) or "",
        name=text(data.get("name")),
        dynamic_variables=variables(data.get("dynamic_variables")),
        max_retries=whole(data.get("max_retries")),
        timezone=text(data.get("timezone")),
        not_before=moment(data.get("not_before")),
        task_id=text(first(data, "task_id", "id")),
        status=known,
        backend_status=backend_status or text(data.get("backend_status")),
        attempts=whole(data.get("attempts")),
        call_id=text(data.get("call_id")),
        error=text(first(data, "error_message", "error")),
        attempted_at=moment(first(data, "attempted_timestamp", "attempted_at")),
        completed_at=moment(first(data, "completed_timestamp", "completed_at")),
        duration_seconds=seconds(data.get("duration_seconds")),
        answered_by=_answered_by(data.get("answered_by")),
        choice=text(data.get("choice"), 100),
        cost=money(data.get("cost")),
        summary=text(data.get("summary")),
        extracted=variables(data.get("extracted")),
    )


def call(data: Mapping[str, Any]) -> Call:
    """Our extension: a call with what was said in it."""
    row = data.get("task")
    task = call_task(cast("Mapping[str, Any]", row) if isinstance(row, dict) else {})
    said = turns(
        data.get("transcript"), {"agent": "agent", "person": "person"}, by="speaker", said="text", at="at_seconds"
    )
    found = call_from(data, task, said, recording="recording_url", ended="ended_reason")
    return replace(found, call_id=text(data.get("call_id")) or "")


def _answered_by(value: Any) -> AnsweredBy | None:
    return value if value in ("human", "machine") else None


def raw_page(answer: JsonObject, member: str, page: int, size: int) -> RawPage:
    """One page of `data[member]`, asked for as page number `page` of `size`.

    Raises:
        UnexpectedResponse: if there is no such list.
    """
    data = payload(answer)
    found = data.get(member)
    if found is None and isinstance(answer.get("data"), list):
        found = answer["data"]
    if not isinstance(found, list):
        raise UnexpectedResponse(
            f"The backend answered without a list of {member.replace('_', ' ')}. Nothing was changed. Check "
            "BATCHCALL_URL and BATCHCALL_BACKEND."
        )
    pagination = data.get("pagination")
    paging: Mapping[str, Any] = pagination if isinstance(pagination, dict) else {}
    size_reported = whole(first(paging, "limit", "size"))
    total = whole(first(paging, "total_count", "total"))
    has_more = _has_more(paging, page, size_reported or size, total, len(found))
    return RawPage(tuple(item if isinstance(item, dict) else None for item in found), size_reported or None, has_more)


def _has_more(paging: Mapping[str, Any], page: int, size: int, total: int | None, length: int) -> bool:
    if length == 0:
        return False
    has_next = paging.get("has_next_page")
    if isinstance(has_next, bool):
        return has_next
    pages = whole(paging.get("total_pages"))
    if pages is not None:
        return page + 1 < pages
    if total is not None:
        return page * size + length < total
    return length >= size


def caller_number(data: Mapping[str, Any]) -> CallerNumber | None:
    """A number of the account; None if it has no number."""
    number = text(first(data, "phone_number", "from_number", "number"))
    if number is None:
        return None
    agent_id = text(first(data, "outbound_agent_id", "agent_id"))
    return CallerNumber(from_number=number, name=text(first(data, "nickname", "name")), agent_id=agent_id)


def agent(data: Mapping[str, Any]) -> Agent | None:
    """An agent, with the names of the variables that its texts use; None if it has no id."""
    agent_id = text(first(data, "agent_id", "id"))
    if agent_id is None:
        return None
    llm = data.get("llm_config")
    lists = [data.get("variables"), data.get("begin_message_variables"), data.get("test_variables")]
    lists.append(llm.get("system_message_variables") if isinstance(llm, dict) else None)
    reported = any(found is not None for found in lists)
    found = dict.fromkeys(name for values in lists for name in names(values))
    name = text(first(data, "agent_name", "name"))
    begins = text(data.get("begin_message"))
    return Agent(agent_id=agent_id, name=name, variables=tuple(found) if reported else None, begins=begins)


def _day(value: Any) -> date | None:
    """Our extension: a date on each called person's own clock."""
    try:
        return None if text(value) is None else date.fromisoformat(str(value))
    except ValueError:
        return None


def _status_reason(value: Any) -> StatusReason | None:
    """Our extension: why it is paused, though nobody asked for it."""
    reason: Mapping[str, Any] = value if isinstance(value, dict) else {}
    code = text(reason.get("code"), 100)
    return None if code is None else StatusReason(code=code, text=text(reason.get("text")) or code)


def _held_back(value: Any) -> tuple[HeldBack, ...]:
    """Our extension: why pending tasks are not dialled now; an entry without a number says nothing."""
    found = ((text(one.get("reason"), 100), whole(one.get("calls")), one.get("until")) for one in rows(value)[0])
    return tuple(
        HeldBack(reason=reason or "", calls=calls, until=moment(until)) for reason, calls, until in found if calls
    )


def _counts(data: Mapping[str, Any]) -> Counts:
    nested = data.get("counts")
    counted: Mapping[str, Any] = {**data, **nested} if isinstance(nested, dict) else data
    numbers = {name: whole(counted.get(name)) for name in _COUNTED}
    if numbers["not_reached"] is None:
        parts = [whole(counted.get(status)) for status in NOT_REACHED]
        numbers["not_reached"] = None if None in parts else sum(filter(None, parts))
    return Counts(total=whole(first(counted, "total", "total_task_count")), **numbers)


def _results(data: Mapping[str, Any]) -> Results | None:
    """Our extension: what came of a batch call that is over."""
    found, counted = data.get("results"), data.get("counts")
    if not isinstance(found, dict):
        return None
    numbers: Mapping[str, Any] = counted if isinstance(counted, dict) else data
    missed = {str(status): number for status in sorted(NOT_REACHED) if (number := whole(numbers.get(status)))}
    chosen = found.get("choices")
    pairs = (
        [(text(choice, 100), whole(people)) for choice, people in chosen.items()] if isinstance(chosen, dict) else []
    )
    return Results(
        reached=whole(numbers.get("completed")),
        not_reached=missed,
        talk_seconds=seconds(found.get("talk_seconds")),
        cost=money(found.get("cost")),
        choices={choice: people for choice, people in pairs if choice is not None and people is not None},
    )


def _window(data: Mapping[str, Any]) -> tuple[CallingWindow | None, tuple[str, ...]]:
    window = data.get("window")
    if isinstance(window, dict):
        start, end = time_of_day(window.get("start")), time_of_day(window.get("end"))
        zone = text(window.get("timezone"))
        if start and end:
            return CallingWindow(start=start, end=end, days=_days(window.get("days")), timezone=zone or "recipient"), ()
        return None, ("The backend's calling window could not be read.",)
    quiet = data.get("quiet_hours")
    if not isinstance(quiet, dict) or quiet.get("enabled") is False:
        return None, ()
    # Quiet hours are when not to call: the window is the rest of the day, every day, in one zone.
    start, end = time_of_day(quiet.get("end_time")), time_of_day(quiet.get("start_time"))
    zone = text(first(quiet, "timezone")) or text(data.get("timezone"))
    if start is None or end is None or zone is None:
        return None, ("The backend's quiet hours could not be read.",)
    start = "00:00" if start == "24:00" else start
    return CallingWindow(start=start, end="24:00" if end == "00:00" else end, timezone=zone), ()


def _days(value: Any) -> tuple[Weekday, ...]:
    if not isinstance(value, list):
        return WEEKDAYS
    found = {
        FROM_SUNDAY[day]
        for day in value
        if isinstance(day, int) and not isinstance(day, bool) and 0 <= day < len(FROM_SUNDAY)
    }
    found |= {day for day in WEEKDAYS if day in [str(item).lower()[:3] for item in value]}
    return tuple(day for day in WEEKDAYS if day in found)


def _retry(data: Mapping[str, Any]) -> RetryPolicy | None:
    config = data.get("retry_config")
    rules = [rule for rule in rows(data.get("retry_rules"))[0] if rule.get("enabled") is not False]
    if config is None and rules:  # the dialer then redials once
        config = {"max_attempts": 1}
    if not isinstance(config, dict) or config.get("enabled") is False:
        return None
    limit = whole(config.get("max_attempts"))
    if limit is None:
        return None
    conditions = [str(rule.get("condition")).lower() for rule in rules]
    timings = [timing for rule in rules if isinstance(timing := rule.get("retry_timing"), dict)]
    after = next((minutes for timing in timings if (minutes := whole(timing.get("duration_minutes")))), None)
    at = next((clock for timing in timings if (clock := time_of_day(timing.get("time")))), None)
    named = tuple(outcome for outcome in _RETRY_OUTCOMES if outcome in conditions)
    return RetryPolicy(
        max_retries=limit,
        on=named or ("no_answer", "busy"),
        after_minutes=after,
        at=at if after is None else None,
    )
