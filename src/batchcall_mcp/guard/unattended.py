"""BATCHCALL_CONFIRM=off: nobody is asked. Who should not be called is skipped; what a person would judge refuses. Pure.

A concern about single people costs the others nothing: these people are skipped, where that is possible and as long as
they are few. A concern about the launch as a whole refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from batchcall_mcp.guard.preflight.recipient_warnings import PERSONAL, Concern, Kind
from batchcall_mcp.model import CallTask
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.recipients.validation import SkippedRow, SkipReason

_WHY: Mapping[Kind, str] = {
    "unreadable": "the number cannot be read as a phone number",
    "do_not_call": "the number is on the do-not-call list",
    "elsewhere": "the number is in another live batch call, or in a launch of the last minutes",
    "attempts": "the number was dialled in the last 24 hours, and may not be dialled more often today",
}


@dataclass(frozen=True, slots=True)
class Skipping:
    """The people who are called, and those who are not, each with the reason. `rows` count from 1 in the list."""

    called: tuple[CallTask, ...]
    skipped: tuple[tuple[CallTask, SkippedRow], ...]


def skip(called: Sequence[CallTask], concerns: Iterable[Concern]) -> Skipping:
    """Part the people whom a concern is about from the others."""
    why: dict[str, Kind] = {}
    for concern in concerns:
        if concern.kind in PERSONAL:
            for number in concern.about:
                why.setdefault(number, concern.kind)
    kept: list[CallTask] = []
    skipped: list[tuple[CallTask, SkippedRow]] = []
    for line, task in enumerate(called, 1):
        kind = why.get(comparable(task.to_number))
        if kind is None:
            kept.append(task)
        else:
            of = SkipReason.DO_NOT_CALL if kind == "do_not_call" else SkipReason.CONCERN
            skipped.append((task, SkippedRow(line=line, kind=of, reason=_WHY[kind], to_number=task.to_number)))
    return Skipping(tuple(kept), tuple(skipped))


def refusals(concerns: Iterable[Concern], *, accept_no_stop: bool) -> list[str]:
    """What refuses a launch that nobody is asked about, one sentence each."""
    return [one.sentence for one in concerns if not (one.kind == "no_stop" and accept_no_stop)]


def too_many(skipping: Skipping, most_percent: float) -> str | None:
    """Why so many people are not skipped without a person; None if they are few enough."""
    people = len(skipping.called) + len(skipping.skipped)
    if len(skipping.skipped) * 100 <= most_percent * people:
        return None
    return (
        f"{len(skipping.skipped)} of {people} people would be skipped, and BATCHCALL_SKIP_PEOPLE_MAX allows "
        f"{most_percent:g} %."
    )
