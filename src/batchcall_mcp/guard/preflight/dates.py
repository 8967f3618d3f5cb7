"""On which dates a launch calls, whom it does not reach any more, and what is said about that. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from batchcall_mcp.backends.capabilities import Capabilities
from batchcall_mcp.call_dates import ANY_DATE, CallDates
from batchcall_mcp.calling_hours import recipient_zones
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.guard.people import person
from batchcall_mcp.guard.preflight.humanize import counted, day, minute
from batchcall_mcp.guard.preflight.recipient_warnings import Concern
from batchcall_mcp.guard.preflight.schedule import Hours, Timetable
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, CallingWindow, CallTask
from batchcall_mcp.recipients.phone.numbers import comparable

_MOST_NAMED = 20


def call_dates(request: BatchCallRequest, current: BatchCall | None) -> CallDates:
    """The dates that a batch call has when this request is carried out."""
    held = ANY_DATE
    if current is not None:
        until = None if current.expires_on is not None else current.expires_at
        held = CallDates(first=current.scheduled_on, last=current.expires_on, until=until)
    says_when = bool(request.send_now) or request.status is BatchStatus.DRAFT
    says_when = says_when or request.trigger_at is not None or request.trigger_on is not None
    return held.moved(says_when=says_when, first=request.trigger_on, last=request.ends_on, until=request.ends_at)


def check_promises(
    request: BatchCallRequest, current: BatchCall | None, capabilities: Capabilities, calling_hours: CallingWindow
) -> None:
    """Refuse a new list with a call-back that is promised for after the end.

    Raises:
        InvalidInput: naming each task; nothing was sent.
    """
    window = request.window or (current.window if current else None)
    dates = call_dates(request, current)
    if dates.first is not None and dates.last is not None and dates.last < dates.first:
        raise InvalidInput(
            f"ends_at: {dates.last} is before {dates.first}, on which it begins. Nothing was sent. Give a later date."
        )
    if request.tasks is None:
        return
    hours = Hours.of(window, capabilities, calling_hours, dates)
    zone = request.timezone or (current.timezone if current else None)
    problems = list(broken_promises(request.tasks, hours, zone))
    if problems:
        raise InvalidInput(
            "A call-back is promised for when nobody is called any more. Nothing was sent. Give a later ends_at, or an "
            "earlier not_before.",
            problems[:_MOST_NAMED],
        )


def broken_promises(tasks: Sequence[CallTask], hours: Hours, batch_zone: str | None) -> Iterator[str]:
    """Of each task whose promised call-back is not before the end: which one it is, and why."""
    if hours.dates == ANY_DATE:
        return
    window = hours.kept or hours.own
    for row, task in enumerate(tasks, 1):
        if task.not_before is not None:
            end = hours.dates.end(window, recipient_zones(task.to_number, task.timezone, batch_zone))
            if end is not None and task.not_before >= end:
                yield f"task {row} ({person(task)}): not_before {minute(task.not_before)} is after the end there"


def date_concerns(
    tasks: Sequence[CallTask], table: Timetable, hours: Hours, batch_zone: str | None, start: datetime, now: datetime
) -> Iterator[Concern]:
    """Who is not called because the dates are over where they are, or because no hour is open on them."""
    if table.over:
        window = hours.kept or hours.own
        about = frozenset(
            comparable(task.to_number)
            for task in tasks
            if _is_over(hours, window, recipient_zones(task.to_number, task.timezone, batch_zone), start)
        )
        last = hours.dates.last
        over = f"It is no longer {day(last, now)} where" if last is not None else "Its time is over for"
        are = "is: that person is" if table.over == 1 else "are: they are"
        who = f"{table.over:,} of them"
        sentence = f"{over} {who} {are} not called." if last is not None else f"{over} {who}: they are not called."
        yield Concern("time", sentence, about)
    if table.shut:
        calls = counted(table.shut, "person is", "people are")
        yield Concern("hours", f"{calls} not called: no hour is open where they are before it ends.")


def _is_over(hours: Hours, window: CallingWindow, zones: tuple[str, ...], start: datetime) -> bool:
    end = hours.dates.end(window, zones)
    return end is not None and end <= start


def promises_note(tasks: Sequence[CallTask], now: datetime) -> Iterator[str]:
    """That some people have a promised call-back still to come."""
    later = [task.not_before for task in tasks if task.not_before is not None and task.not_before > now]
    if later:
        who = (
            "1 of them has a promised call-back"
            if len(later) == 1
            else f"{len(later):,} of them have promised call-backs"
        )
        yield f"{who}: not before {minute(min(later))}{'' if len(later) == 1 else ' or later'}."


def over_for_all(
    table: Timetable, hours: Hours, request: BatchCallRequest, current: BatchCall | None, start: datetime
) -> str | None:
    """Why nobody would be called at all, or not on the date that is named, if that is because it is over."""
    dates = hours.dates
    if request.trigger_on is not None and table.groups:
        named = Hours(hours.kept, hours.own, CallDates(last=request.trigger_on))
        if all(named.is_over(group.zones, start) for group in table.groups):
            return (
                f"it is no longer {request.trigger_on} where any of these people is, so nobody would be called on it; "
                "give a later date"
            )
    again = "give a later time" if current is None or not _ends(current) else "create a new batch call for these people"
    if dates.until is not None and dates.until <= start:
        return f"it expires at {minute(dates.until)}, so nobody would be called; {again}"
    if dates.named and table.groups and table.over and all(group.opens is None for group in table.groups):
        what = f"it is no longer {dates.last or dates.first} where any of these people is"
        return f"{what}, so nobody would be called; {again}"
    return None


def _ends(current: BatchCall) -> bool:
    return current.expires_at is not None and current.started_at is not None
