"""What exactly would happen if this request were sent: counts, places, hours, warnings. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from pydantic import Field

from batchcall_mcp.backends.base import At, Capabilities, Dials, Never
from batchcall_mcp.calling_hours import next_open, recipient_zones
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallingWindow, CallTask
from batchcall_mcp.recipients import LeftOut, country_of
from batchcall_mcp.wording import quoted

_LONGEST_NAME = 80

_STOP_SENTENCES = {
    "any_time": "You can stop it at any time; calls in progress end by themselves.",
    "pending_only": "You can stop the calls that have not been dialled yet.",
    "before_start": "It can be taken back only before it starts; once started it cannot be stopped.",
    "never": "Once sent, it cannot be stopped.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneGroup:
    """Recipients whose candidate time zones are the same."""

    timezone: Annotated[str, Field(description="IANA zone; several joined by a slash where the number fits several")]
    calls: int
    opens: Annotated[datetime | None, Field(description="when their calls may start, at the earliest")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What one request would do. `calls` None: the list could not be read."""

    calls: Annotated[int | None, Field(description="people who would be called")] = None
    max_dials: Annotated[int | None, Field(description="most dials, retries included")] = None
    starts: Annotated[str | None, Field(description="now, or a moment; left out: no phone rings")] = None
    rows_read: int | None = None
    left_out: Annotated[Mapping[str, int], Field(description="rows left out, by reason")] = field(default_factory=dict)
    countries: Annotated[Mapping[str, int], Field(description="calls by country")] = field(default_factory=dict)
    groups: tuple[ZoneGroup, ...] = ()
    can_stop: Annotated[str | None, Field(description="what can be stopped, and until when")] = None
    simulated: Annotated[bool | None, Field(description="true: no real phone rings")] = None
    warnings: tuple[str, ...] = ()
    blocks: Annotated[tuple[str, ...], Field(description="reasons why this cannot be launched at all")] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the operator allows."""

    max_calls_per_launch: int | None
    calling_hours: CallingWindow


def preflight(
    *,
    request: BatchCallRequest,
    current: BatchCall | None,
    tasks: Sequence[CallTask] | None,
    left_out: Sequence[LeftOut],
    rows_read: int | None,
    dials: Dials,
    capabilities: Capabilities,
    limits: Limits,
    now: datetime,
    extra_warnings: Sequence[str] = (),
) -> Preflight:
    """Judge one request. `tasks` are those that would be called; None if the backend's list could not be read."""
    from_number = request.from_number or (current.from_number if current else None)
    window = request.window or (current.window if current else None)
    batch_zone = request.timezone or (current.timezone if current else None)
    starts_at = _start(dials, now)
    groups = _groups(tasks or (), window or limits.calling_hours, batch_zone, starts_at or now)
    warnings = [*extra_warnings]
    blocks = []

    if tasks is None:
        warnings.append("The list of tasks could not be read, so that nothing of it was checked.")
    elif not tasks:
        blocks.append("no task is left that could be called")
    if from_number is not None and not _looks_dialable(from_number):
        blocks.append(f"from_number {from_number!r} is not an E.164 number")
    calls = None if tasks is None else len(tasks)
    if limits.max_calls_per_launch is not None and not isinstance(dials, Never):
        known = calls if calls is not None else (current.counts.total if current else None)
        if known is None or known > limits.max_calls_per_launch:
            blocks.append(
                f"{known if known is not None else 'an unknown number of'} calls are more than "
                f"BATCHCALL_MAX_CALLS_PER_LAUNCH={limits.max_calls_per_launch}"
            )
    if starts_at is not None:
        past = _named_time(request, current)
        if past is not None and past <= now:
            warnings.append(f"The time {_minute(past)} lies in the past: this means now.")
        warnings += _hours_warnings(groups, window, capabilities, starts_at, limits.calling_hours)
        if capabilities.stop in ("before_start", "never"):
            warnings.append(_STOP_SENTENCES[capabilities.stop])

    return Preflight(
        calls=calls,
        max_dials=_most_dials(tasks, request, current, capabilities),
        starts=_starts(dials, now),
        rows_read=rows_read,
        left_out=dict(Counter(str(row.kind) for row in left_out)),
        countries=dict(Counter(country_of(task.to_number) or "unknown" for task in tasks or ()).most_common(10)),
        groups=groups[:20],
        can_stop=None if isinstance(dials, Never) else _STOP_SENTENCES[capabilities.stop],
        simulated=capabilities.simulated or None,
        warnings=tuple(warnings),
        blocks=tuple(blocks),
    )


def question(preflight: Preflight, request: BatchCallRequest, current: BatchCall | None, backend: str) -> str:
    """The paragraph that a person can judge."""
    from_number = request.from_number or (current.from_number if current else None) or "the batch call's number"
    left_out = sum(preflight.left_out.values())
    who = "an unknown number of people" if preflight.calls is None else _people(preflight.calls, left_out)
    name = request.name or (current.name if current else None)
    parts = [f"Call {who} from {from_number} {_when_words(preflight.starts)}"]
    if name:
        # Without quotes of its own: what follows the closing one is ours, not the name's.
        parts.append(" for " + quoted(name.replace('"', "'"), _LONGEST_NAME))
    concurrency = request.max_concurrency or (current.max_concurrency if current else None)
    if concurrency:
        parts.append(f", at most {concurrency} at once")
    if preflight.max_dials and preflight.calls and preflight.max_dials > preflight.calls:
        parts.append(f", at most {preflight.max_dials} dials with retries")
    text = "".join(parts) + f", through {backend}."
    if left_out:
        reasons = ", ".join(f"{count} {kind.replace('_', '-')}" for kind, count in preflight.left_out.items())
        text += f" {left_out} rows are left out: {reasons}."
    for warning in preflight.warnings:
        text += f" {warning}"
    if preflight.can_stop and preflight.can_stop not in preflight.warnings:
        text += f" {preflight.can_stop}"
    if preflight.simulated:
        text += " The carrier is simulated: no real phone rings."
    return text


def _people(calls: int, left_out: int) -> str:
    whole = f" of {calls + left_out}" if left_out else ""
    return f"{calls}{whole} {'person' if calls == 1 and not left_out else 'people'}"


def _when_words(starts: str | None) -> str:
    return "now" if starts in (None, "now") else f"at {starts}"


def _start(dials: Dials, now: datetime) -> datetime | None:
    if isinstance(dials, Never):
        return None
    return max(dials.time, now) if isinstance(dials, At) else now


def _starts(dials: Dials, now: datetime) -> str | None:
    if isinstance(dials, Never):
        return None
    return _minute(dials.time) if isinstance(dials, At) and dials.time > now else "now"


def _named_time(request: BatchCallRequest, current: BatchCall | None) -> datetime | None:
    if request.send_now:
        return None
    return request.trigger_at or (current.scheduled_at if current else None)


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _looks_dialable(number: str) -> bool:
    digits = number.removeprefix("+")
    return number.startswith("+") and digits.isascii() and digits.isdigit() and 6 <= len(digits) <= 15  # noqa: PLR2004 - E.164


def _most_dials(
    tasks: Sequence[CallTask] | None, request: BatchCallRequest, current: BatchCall | None, capabilities: Capabilities
) -> int | None:
    if tasks is None:
        return None
    policy = request.retry or (current.retry if current else None)
    default = policy.max_retries if policy and capabilities.retry_policy else 0
    return sum(1 + (task.max_retries if task.max_retries is not None else default) for task in tasks)


def _groups(
    tasks: Sequence[CallTask], window: CallingWindow, batch_zone: str | None, start: datetime
) -> tuple[ZoneGroup, ...]:
    start = start.replace(microsecond=0)
    counted = Counter(recipient_zones(task.to_number, task.timezone, batch_zone) for task in tasks)
    return tuple(
        ZoneGroup(timezone=_zone_name(zones), calls=calls, opens=next_open(window, zones, start) if zones else None)
        for zones, calls in counted.most_common()
    )


def _zone_name(zones: Sequence[str]) -> str:
    most_shown = 3
    shown = "/".join(zones[:most_shown]) if zones else "unknown"
    return shown + ("/…" if len(zones) > most_shown else "")


def _hours_warnings(
    groups: Sequence[ZoneGroup],
    window: CallingWindow | None,
    capabilities: Capabilities,
    start: datetime,
    hours: CallingWindow,
) -> list[str]:
    """Where nobody keeps to a window, say who would be called outside the operator's calling hours."""
    never = sum(group.calls for group in groups if group.opens is None)
    enforced = capabilities.windows == "full" or (window is not None and capabilities.windows != "none")
    found = []
    if enforced:
        if never:
            found.append(f"{never} calls have no known time zone or no open hour: they will not be dialled.")
        return found
    late = sum(group.calls for group in groups if group.opens is None or group.opens > start)
    if late:
        found.append(f"{late} calls would start outside {hours.start}-{hours.end} of the called person's own time.")
    return found
