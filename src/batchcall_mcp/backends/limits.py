"""What a backend needs of a batch call, how large and how far ahead it may be, and when it then really starts. Pure.

`over_limits` is asked before anything is sent, by every write; it names each limit that is passed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from batchcall_mcp.backends.capabilities import Capabilities, Limits
from batchcall_mcp.clock import utc_now
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import BatchCallRequest, BatchStatus, CallTask
from batchcall_mcp.vendor_http.http_call import csv_of

_NUMBER = "(phone number)"
"""A column of which no variable has the name: as long as those that vendors want."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def missing_fields(request: BatchCallRequest, capabilities: Capabilities) -> tuple[str, ...]:
    """The fields that create needs on this backend and that a request does not have, in the order of the alphabet."""
    return tuple(name for name in sorted(capabilities.required - {"tasks"}) if not getattr(request, name))


def check_create(request: BatchCallRequest, capabilities: Capabilities, title: str) -> None:
    """Refuse a create that lacks something, is too long, or says two things about when it dials.

    Raises:
        InvalidInput: nothing was sent.
    """
    lacking = (*(() if request.tasks else ("tasks",)), *missing_fields(request, capabilities))
    if lacking:
        raise InvalidInput(f"{lacking[0]}: {title} needs it for a batch call. Nothing was sent.")
    problems = over_limits(request, capabilities, utc_now())
    if problems:
        raise InvalidInput(f"This is more than {title} takes. Nothing was sent.", problems)
    if capabilities.drafts == "now_only" and (request.send_now or request.trigger_at is not None):
        raise InvalidInput(
            f"{title} makes drafts and holds no time. Nothing was sent. Start the draft when it is time."
        )
    if request.status is BatchStatus.DRAFT and (request.send_now or request.trigger_at is not None):
        raise InvalidInput("status=draft and a time to dial contradict each other. Nothing was sent.")
    if request.send_now and request.trigger_at is not None:
        raise InvalidInput("send_now=true and trigger_timestamp contradict each other. Nothing was sent.")
    if request.status is BatchStatus.SCHEDULED and request.trigger_at is None:
        raise InvalidInput("status=scheduled needs a trigger_timestamp. Nothing was sent.")


def check_variables(request: BatchCallRequest, own: Collection[str], title: str) -> None:
    """Refuse variables of a create by whose names a service knows something else.

    Raises:
        InvalidInput: naming one; nothing was sent.
    """
    names = {name for task in request.tasks or () for name in task.dynamic_variables}
    if taken := sorted(names.intersection(own)):
        raise InvalidInput(
            f"dynamic_variables: {title} takes {taken[0]} for its own. Nothing was sent. Give the variable another "
            "name, for the agent too."
        )


def over_limits(request: BatchCallRequest, capabilities: Capabilities, now: datetime) -> list[str]:
    """Which limits a request passes, one sentence each, with the argument first; empty if it keeps to all of them."""
    limits = capabilities.limits
    return [*_of_its_list(request.tasks or (), limits), *_of_its_time(request.trigger_at, limits, now)]


def _of_its_list(tasks: Sequence[CallTask], limits: Limits) -> Iterator[str]:
    if limits.tasks is not None and len(tasks) > limits.tasks:
        yield f"tasks: it takes {limits.tasks:,} in one batch call, these are {len(tasks):,}"
    if limits.list_bytes is not None and (size := list_bytes(tasks)) > limits.list_bytes:
        yield f"tasks: it takes a list of {limits.list_bytes:,} bytes, this one has {size:,}; make smaller batch calls"
    if limits.variables_bytes is not None:
        for row, task in enumerate(tasks):
            size = len(json.dumps(dict(task.dynamic_variables), ensure_ascii=False).encode())
            if size > limits.variables_bytes:
                yield (
                    f"tasks[{row}].dynamic_variables: it takes {limits.variables_bytes:,} bytes of a task, these have "
                    f"{size:,}"
                )
                return


def _of_its_time(at: datetime | None, limits: Limits, now: datetime) -> Iterator[str]:
    if at is None or at <= now:  # the past means now
        return
    if limits.ahead is not None and at > now + limits.ahead:
        yield f"trigger_timestamp: it can be scheduled {_span(limits.ahead)} ahead, until {_minute(now + limits.ahead)}"
    if limits.lead is not None and at < now + limits.lead:
        first = _up(now + limits.lead, timedelta(minutes=1))
        yield (
            f"trigger_timestamp: it has to be scheduled {_span(limits.lead)} before its start; give {_minute(first)} "
            "or later, or now"
        )


def list_bytes(tasks: Iterable[CallTask]) -> int:
    """The size of a list as a CSV file: the number, and a column for each variable."""
    return len(csv_of(tasks, _NUMBER))


def moved_start(at: datetime | None, limits: Limits, now: datetime) -> datetime | None:
    """When something really starts that is to start at `at` (None or past: now); None: as it was asked for."""
    if limits.lead is None and limits.rounding is None:
        return None
    is_now = at is None or at <= now
    asked = now if is_now or at is None else at
    begins = now + (limits.lead or timedelta()) if is_now else asked
    begins = begins if limits.rounding is None else _up(begins, limits.rounding)
    return None if begins == asked else begins


def _up(moment: datetime, step: timedelta) -> datetime:
    """The next multiple of `step`, of an hour that is whole in UTC."""
    over = (moment - _EPOCH) % step
    return moment if not over else moment + step - over


def _span(length: timedelta) -> str:
    for unit, one in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        number, rest = divmod(length, one)
        if number and not rest:
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{length.total_seconds():g} seconds"


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
