"""The sentences of the report: what came of it, and what is not known. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from batchcall_mcp.batch_calls.report.tally import Tally
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.model import FINISHED, BatchCall, TaskStatus

OUTCOMES: Final = {
    TaskStatus.COMPLETED: "Reached",
    TaskStatus.NO_ANSWER: "No answer",
    TaskStatus.BUSY: "Busy",
    TaskStatus.VOICEMAIL: "Voicemail",
    TaskStatus.FAILED: "The call failed",
    TaskStatus.EXPIRED: "The time ran out",
    TaskStatus.INTERRUPTED: "The call broke off",
    TaskStatus.PLACED: "Called, outcome not reported",
    TaskStatus.PENDING: "Not called yet",
    TaskStatus.CALLING: "In a call",
    TaskStatus.SKIPPED: "Skipped",
    TaskStatus.CANCELLED: "Cancelled before the call",
    TaskStatus.UNKNOWN: "Not known",
}
"""In the order of the chart; what a person reads who has never seen the product."""
_TELLING: Final = (TaskStatus.NO_ANSWER, TaskStatus.BUSY, TaskStatus.VOICEMAIL, TaskStatus.FAILED)
_MINUTE_S, _HOUR_S = 60, 3600
_TOO_LARGE_TO_ROUND: Final = Decimal(10) ** 15


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the report knows besides the tasks. Times are aware UTC, and shown on the clock of `zone`."""

    batch_call: BatchCall
    backend: str
    reported: frozenset[TaskStatus]
    """The states that the backend reports of a task."""
    carried: frozenset[str]
    """The fields of a task in which it says how a call went, as of `Capabilities.results`."""
    zone: ZoneInfo
    made_at: datetime
    agent_name: str | None = None


def headline(tally: Tally, batch_call: BatchCall) -> str:
    """What came of it, in one line."""
    if not tally.people:
        return "There is nobody on this list" if not batch_call.counts.total else "Nobody of this list is shown"
    if tally.waiting == tally.people and not tally.statuses[TaskStatus.CALLING] and not tally.dials.total:
        return "Nobody has been called yet"
    if tally.placed and tally.called == tally.placed:
        return f"{_people(tally.placed)} called; how the calls went is not reported"
    so_far = "So far, " if tally.waiting and batch_call.status not in FINISHED else ""
    people = "person" if tally.people == 1 else "people"
    were = "was" if tally.reached == 1 else "were"
    if not tally.reached and tally.people == 1:
        return f"{so_far}the person was not reached" if so_far else "The person was not reached"
    return f"{so_far}{tally.reached:,} of {tally.people:,} {people} {were} reached"


def lead(tally: Tally, batch_call: BatchCall) -> str:
    """Where the others are."""
    parts = []
    if tally.not_reached and tally.people > 1:
        parts.append(f"{_people(tally.not_reached)} not reached")
    if tally.not_called:
        parts.append(f"{_people(tally.not_called)} not called, but skipped or cancelled")
    if tally.unknown:
        parts.append(f"of {counted(tally.unknown, 'person', 'people')} the outcome is not known")
    if tally.placed:
        parts.append(f"{_people(tally.placed)} called, and the outcome is not reported")
    if tally.waiting:
        left = counted(tally.waiting, "person", "people")
        ended = batch_call.status in FINISHED
        parts.append(f"{_people(tally.waiting)} not called" if ended else f"the calls to {left} are not finished")
    sentence = "; ".join(parts)
    return sentence[:1].upper() + sentence[1:] + "." if sentence else ""


def _people(count: int) -> str:
    return f"{counted(count, 'person', 'people')} {'was' if count == 1 else 'were'}"


def not_known(tally: Tally, about: About) -> Iterator[str]:
    """One sentence for each thing that a reader could expect here and that nobody reported."""
    if tally.people < (about.batch_call.counts.total or 0):
        total = counted(about.batch_call.counts.total or 0, "person", "people")
        yield f"{about.backend} counts {total} and shows {tally.people:,}: the figures here are of those."
    if not tally.people:
        return
    yield from _not_reported(tally, about)
    yield from _reported_of_some(tally)
    yield from _in_doubt(tally, about)
    if tally.waiting and about.batch_call.status not in FINISHED:
        yield "The calls are not finished: this report shows how things stood when it was made."


def _not_reported(tally: Tally, about: About) -> Iterator[str]:
    """What nobody said: because the backend never does, or because it did not of these calls."""
    expected = (
        ("duration_seconds", "how long the calls lasted", tally.talk_seconds.people),
        ("cost", "what they cost", tally.costs_known),
        ("choice", "what people chose", tally.choices_known),
        ("attempts", "how often people were dialled", tally.dials.people),
        ("attempted_at", "when people were called", len(tally.reached_at_ms) + len(tally.others_at_ms)),
        ("answered_by", "whether a person or a machine answered", tally.answered_by.total()),
    )
    absent = [(name, what) for name, what, known in expected if not known]
    if never := [what for name, what in absent if name not in about.carried]:
        yield f"Not reported by {about.backend}: {', '.join(never)}."
    if here := [what for name, what in absent if name in about.carried]:
        yield f"Reported of none of these calls: {', '.join(here)}."


def _reported_of_some(tally: Tally) -> Iterator[str]:
    if 0 < tally.talk_seconds.people < tally.reached:
        yield f"Talk time is that of {counted(tally.talk_seconds.people, 'call')}: it is not known of the others."
    if 0 < tally.costs_known < tally.called:
        of = f"{tally.costs_known:,} of {tally.called:,} people"
        yield f"The cost is that of the calls to {of}: it is not known of the others."


def _in_doubt(tally: Tally, about: About) -> Iterator[str]:
    silent = [OUTCOMES[one].lower() for one in _TELLING if one not in about.reported]
    if silent:
        yield (
            f"Outcomes that {about.backend} does not report: {', '.join(silent)}. Such a call is counted under another "
            "outcome, and may count as reached."
        )
    if tally.machines_reached:
        count = "counts" if tally.machines_reached == 1 else "count"
        yield f"A machine answered {counted(tally.machines_reached, 'call')} that {count} as reached."
    if broken := tally.statuses[TaskStatus.INTERRUPTED]:
        yield f"How {counted(broken, 'call')} ended is not known: the system that placed them stopped meanwhile."
    if tally.placed:
        went = counted(tally.placed, "call")
        yield f"{about.backend} does not report how {went} went: nobody of them counts as reached."
    if tally.unknown:
        yield f"Of {counted(tally.unknown, 'person', 'people')} the outcome is a word that we do not know."


def duration(seconds: float) -> str:
    """`5 h 12 min`, `12 min 30 s`, `48 s`."""
    whole = round(seconds)
    hours, minutes, rest = whole // _HOUR_S, whole % _HOUR_S // _MINUTE_S, whole % _MINUTE_S
    if hours:
        return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{rest} s"


def amount(value: Decimal, currency: str, places: int = 4) -> str:
    """`24.10 USD`: at least two places, and as many as there are up to `places`."""
    rounded = value.quantize(Decimal(1).scaleb(-places)) if abs(value) < _TOO_LARGE_TO_ROUND else value
    plain = f"{rounded:,f}"
    whole, _, rest = plain.partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')} {currency}"


def rest(tally: Tally) -> str:
    """What those are who were neither reached nor missed."""
    if unclear := tally.unknown + tally.placed:
        others = tally.people - tally.reached - tally.not_reached
        return "Not called, or not known" if unclear < others else "Not known"
    return "Not called" if tally.not_called or not tally.waiting else "Not called yet"


def moment(at: datetime, zone: ZoneInfo) -> str:
    """`Fri 27 Nov 2026, 14:05` on the clock of `zone`."""
    local = at.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b %Y, %H:%M}"


def short_moment(at: datetime, about: About) -> str:
    """`26 Nov, 14:05` on the report's clock, with the year where the report was made in another one."""
    local = at.astimezone(about.zone)
    year = "" if local.year == about.made_at.astimezone(about.zone).year else f" {local.year}"
    return f"{local.day} {local:%b}{year}, {local:%H:%M}"


def span(first: datetime, last: datetime, zone: ZoneInfo) -> str:
    """`Thu 26 Nov 2026, 09:00 to 12:05`, with the second day where it is another one."""
    begins, ends = moment(first, zone), moment(last, zone)
    if begins == ends:
        return begins
    day, _, clock = ends.rpartition(", ")
    return f"{begins} to {clock if begins.startswith(day) else ends}"
