"""The one paragraph that a person reads before phones ring. Pure."""

from __future__ import annotations

from datetime import datetime

from batchcall_mcp.guard.preflight import Preflight
from batchcall_mcp.guard.time_words import MINUTE_FORMAT, counted, day_and_minute
from batchcall_mcp.model import BatchCall, BatchCallRequest
from batchcall_mcp.wording import quoted

_LONGEST_NAME = 80


def question(preflight: Preflight, request: BatchCallRequest, current: BatchCall | None, backend: str) -> str:
    """The paragraph that a person can judge: what is done, what is left out, what is odd, what can be taken back."""
    from_number = request.from_number or (current.from_number if current else None) or "the batch call's number"
    name = request.name or (current.name if current else None)
    concurrency = request.max_concurrency or (current.max_concurrency if current else None)
    # Without quotes of its own: what follows the closing one is ours, not the name's.
    called = " for " + quoted(name.replace('"', "'"), _LONGEST_NAME) if name else ""
    parts = [
        f"Call {_people(preflight)} from {from_number} {_when(preflight)}{called}",
        _places(preflight),
        f"at most {concurrency} at once" if concurrency else "",
        preflight.duration or "",
        _dials(preflight),
        f"through {backend}",
    ]
    sentences = [", ".join(part for part in parts if part) + _left_out(preflight) + "."]
    sentences += [*preflight.warnings, *preflight.notes]
    if preflight.can_stop and preflight.can_stop not in preflight.warnings:
        sentences.append(preflight.can_stop)
    if preflight.simulated:
        sentences.append("The carrier is simulated: no real phone rings.")
    return " ".join(sentences)


def _people(preflight: Preflight) -> str:
    if preflight.calls is None:
        return "an unknown number of people"
    left_out = sum(preflight.left_out.values())
    if left_out:
        return f"{preflight.calls} of {preflight.calls + left_out} people"
    return counted(preflight.calls, "person", "people")


def _when(preflight: Preflight) -> str:
    """The time of the launch, and of the first call if calling hours make it a later one."""
    starts, first = preflight.starts, preflight.first_start
    if starts is None or starts == "now":
        return "now" if first in (None, "now") else f"now (the first call {first})"
    if first is None:
        return f"at {starts}"
    same = first.startswith(day_and_minute(datetime.strptime(starts, MINUTE_FORMAT)))
    return f"at {starts} ({first.rpartition(', ')[2] if same else f'the first call {first}'})"


def _places(preflight: Preflight) -> str:
    """Only where there is more than one of either: most lists stay in one place."""
    countries, zones = preflight.country_count or 0, preflight.time_zones or 0
    if max(countries, zones) <= 1:
        return ""
    named = [
        counted(countries, "country", "countries") if countries else "",
        counted(zones, "time zone") if zones else "",
    ]
    return "in " + " and ".join(part for part in named if part)


def _dials(preflight: Preflight) -> str:
    calls, most, each = preflight.calls, preflight.max_dials, preflight.dials_each
    if not (calls and most and each) or most <= calls:
        return ""
    return f"up to {each} dials each" + ("" if most == calls * each else f" and {most} in all")


def _left_out(preflight: Preflight) -> str:
    rows = sum(preflight.left_out.values())
    if not rows:
        return ""
    reasons = ", ".join(_reason(kind, count) for kind, count in preflight.left_out.items())
    return f"; {counted(rows, 'row is', 'rows are')} left out: {reasons}"


def _reason(kind: str, count: int) -> str:
    return counted(count, kind) if kind == "duplicate" else f"{count} {kind.replace('_', '-')}"
