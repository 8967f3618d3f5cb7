"""What an update changes, in words: for the question before it is sent, and for the result after it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from batchcall_mcp.backends.capabilities import Capabilities
from batchcall_mcp.calling_hours import RECIPIENT, is_timezone
from batchcall_mcp.guard.people import without_numbers, written
from batchcall_mcp.guard.preflight.dates import call_dates
from batchcall_mcp.guard.preflight.humanize import counted, day_and_minute
from batchcall_mcp.model import WEEKDAYS, BatchCall, BatchCallRequest, BatchStatus, CallingWindow, CallTask, RetryPolicy
from batchcall_mcp.text import identifier, in_quotes

_NAMES: Final = {
    "agent_id": "agent",
    "from_number": "caller number",
    "window": "hours",
    "retry": "redials",
    "max_concurrency": "calls at once",
    "timezone": "time zone",
    "name": "name",
}
"""Fields of a request that a batch call has too, the most telling first, in words."""


def list_change(before: Sequence[CallTask], after: Sequence[CallTask], capabilities: Capabilities) -> str | None:
    """How a whole list differs from the one that it replaces; None: not at all, and that is certain.

    Lists are compared by their numbers; where these are the same, by what else the backend gives back.
    """
    then, now = Counter(task.to_number for task in before), Counter(task.to_number for task in after)
    removed, added = (then - now).total(), (now - then).total()
    if removed or added:
        return _replaced(removed, added, len(before))
    same = f"the same {counted(len(after), 'person', 'people')}"
    others = (Counter(_details(after, capabilities)) - Counter(_details(before, capabilities))).total()
    if others:
        return f"{same}, {others:,} with other details"
    if capabilities.dynamic_variables and not capabilities.returns_variables:
        return f"{same} (whether their variables change is not known)"
    return None


def setting_changes(asked: BatchCallRequest, before: BatchCall, after: BatchCall | None = None) -> list[str]:
    """Each setting that is given and differs, with what it was: `agent agent_b instead of agent_a`.

    `after`: the batch call as the backend answered; None: before it is sent.
    """
    found = []
    for name in _given(asked):
        old = getattr(before, name)
        new = getattr(asked if after is None else after, name)
        if new is not None and new != old:
            instead = "" if old is None else f" instead of {_value(name, old)}"
            found.append(f"{_NAMES[name]} {_value(name, new)}{instead}")
    return found


def not_shown(asked: BatchCallRequest, after: BatchCall) -> list[str]:
    """Settings that are given and that the backend does not answer: whether they changed is not known."""
    return [_NAMES[name] for name in _given(asked) if getattr(after, name) is None]


def not_taken(asked: BatchCallRequest, before: BatchCall, after: BatchCall) -> list[str]:
    """Settings that the backend shows as they were, although another value is given."""
    kept = [name for name in _given(asked) if getattr(after, name) is not None]
    return [_NAMES[name] for name in kept if getattr(asked, name) != getattr(after, name) == getattr(before, name)]


def moved(asked: BatchCallRequest, before: BatchCall) -> list[str]:
    """That it was scheduled for another time."""
    if before.status is not BatchStatus.SCHEDULED or before.scheduled_at is None:
        return []
    same = asked.trigger_at in {None, before.scheduled_at} and asked.trigger_on in {None, before.scheduled_on}
    if not asked.send_now and same and not (before.scheduled_on and asked.trigger_at):
        return []
    return [f"it was scheduled for {scheduled_words(before)}"]


def scheduled_words(batch_call: BatchCall) -> str | None:
    """For when it is scheduled: `2026-11-27 (each person's own date)`."""
    if batch_call.scheduled_on is not None:
        return f"{batch_call.scheduled_on} (each person's own date)"
    return None if batch_call.scheduled_at is None else day_and_minute(batch_call.scheduled_at)


def end_change(asked: BatchCallRequest, before: BatchCall) -> list[str]:
    """That it ends at another time, or not any more: the end of a date goes when the launch is moved from it."""
    if asked.ends_on is not None and asked.ends_on != before.expires_on:
        new = f"{asked.ends_on} (each person's own date)"
    elif asked.ends_at is not None and (before.expires_on is not None or asked.ends_at != before.expires_at):
        new = day_and_minute(asked.ends_at)
    elif call_dates(asked, before).is_endless and (before.expires_on or before.expires_at):
        new = "none"
    else:
        return []
    old = f"{before.expires_on} (each person's own date)" if before.expires_on is not None else None
    if old is None and before.expires_at is not None:
        old = day_and_minute(before.expires_at)
    return [f"end {new}" + ("" if old is None else f" instead of {old}")]


def _given(asked: BatchCallRequest) -> Iterable[str]:
    return (name for name in _NAMES if getattr(asked, name) is not None)


def _replaced(removed: int, added: int, before: int) -> str:
    if removed == added:
        return f"{removed:,} of {counted(before, 'person', 'people')} replaced"
    parts = [f"{counted(added, 'person', 'people')} added"] if added else []
    parts += [f"{counted(removed, 'person', 'people')} removed"] if removed else []
    return f"{' and '.join(parts)}, of {before:,} before"


def _details(tasks: Iterable[CallTask], capabilities: Capabilities) -> Iterable[tuple[Any, ...]]:
    """What the new list sets of each person and the backend gives back, so that it can be compared."""
    for task in tasks:
        yield (
            task.to_number,
            tuple(sorted(task.dynamic_variables.items())) if capabilities.returns_variables else None,
            task.name if capabilities.task_names else None,
            task.timezone if capabilities.task_timezones else None,
            task.not_before if capabilities.not_before else None,
            task.max_retries if capabilities.task_max_retries else None,
        )


def _value(name: str, value: Any) -> str:
    if isinstance(value, CallingWindow):
        return hours_words(value)
    if isinstance(value, RetryPolicy):
        return _redials(value)
    if name == "timezone":
        return _zone(str(value))
    if name == "from_number":
        return written(str(value))
    if name == "name":
        return in_quotes(without_numbers(str(value)))
    return identifier(str(value))


def hours_words(window: CallingWindow) -> str:
    """`9:00 to 17:00 on mon, tue, wed, thu, fri, their time`."""
    start, end = (clock.removeprefix("0") for clock in (window.start, window.end))
    days = "" if set(window.days) == set(WEEKDAYS) else f" on {', '.join(window.days)}"
    if window.timezone == RECIPIENT:
        return f"{start} to {end}{days} their time"
    return f"{start} to {end}{days} {_zone(window.timezone)} time"


def _zone(name: str) -> str:
    return name if is_timezone(name) else in_quotes(name)


def _redials(policy: RetryPolicy) -> str:
    if not policy.max_retries:
        return "none"
    when = f" after {policy.after_minutes} minutes" if policy.after_minutes is not None else ""
    when = f" at {policy.at}" if policy.at else when
    return f"{policy.max_retries} for {', '.join(outcome.replace('_', ' ') for outcome in policy.on)}{when}"
