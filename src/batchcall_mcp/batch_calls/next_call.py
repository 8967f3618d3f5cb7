"""What is sensible next: a call that will be accepted, or something that a person must say. Pure.

It is made from the actual state. It never launches anything and never says when: where phones would ring, a person is
asked. It names no tool that this caller is not offered, and holds nothing that a backend or a list has written but ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.model import FINISHED, NOT_REACHED, BatchCall, BatchStatus, Counts, TaskStatus
from batchcall_mcp.recipients.phone.numbers import is_comparable
from batchcall_mcp.settings import Mode
from batchcall_mcp.text import printable

RETRIED: Final = frozenset({TaskStatus.NO_ANSWER, TaskStatus.BUSY, TaskStatus.FAILED})
"""Whom retry_batch_call calls again, where it is not said whom."""
_SOON: Final = timedelta(minutes=2)
"""So long it is worth waiting for a start."""
_SPARE_S: Final = 30
_LONGEST_ID: Final = 200
_OF_A_LIST: Final = (
    *("from_number", "tasks_file", "rows", "number_column", "columns", "sheet", "header_row", "timezones"),
    *("default_region", "agent_id", "window", "timezone"),
)
"""What check_batch_call and create_batch_call both take, without the people themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextCall:
    """A tool call that is accepted as it stands, and makes no phone ring."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterAnswer:
    """A tool, and those of its arguments that are known before the person has answered."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPerson:
    """What a person must say before anything else is sensible, and what is called after that."""

    ask_person: str
    then: AfterAnswer | None = None


Next: TypeAlias = NextCall | AskPerson | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What this caller can be advised: the tools that there are, what the backend can do, the operator's mode."""

    tools: frozenset[str]
    capabilities: Capabilities
    mode: Mode

    def call(self, tool: str, why: str, **arguments: Any) -> Next:
        """A call, where there is such a tool."""
        return NextCall(tool=tool, arguments=arguments, why=why) if tool in self.tools else None

    def ask(self, question: str, tool: str, **arguments: Any) -> Next:
        """A question, where there is the tool that follows the answer."""
        after = AfterAnswer(tool=tool, arguments=arguments)
        return AskPerson(ask_person=question, then=after) if tool in self.tools else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedList:
    """A list that was checked. `arguments`: those of the check, as it was called.

    `from_number`: in E.164, None if it is not a number; `region`: its country. `lacking_country`: rows whose number
    says no country. `refused`: why a batch call of it could not be made, in our words.
    """

    arguments: Mapping[str, Any]
    from_number: str | None = None
    calls: int
    skipped: int
    lacking_country: int = 0
    region: str | None = None
    parts: Sequence[str] = ()
    refused: str | None = None
    is_blocked: bool = False

    @property
    def is_timed(self) -> bool:
        """Whether it was checked for a time."""
        return "trigger_timestamp" in self.arguments

    @property
    def as_called(self) -> dict[str, Any]:
        """What names the list and how to read it, and never the people themselves."""
        given = {name: self.arguments[name] for name in _OF_A_LIST if name in self.arguments}
        if "window" in given:
            given["window"] = _said_of_window(given["window"])
        return given if self.from_number is None else {**given, "from_number": self.from_number}


def after_backend(offer: Offer, *, silent: bool) -> Next:
    """After the facts of the backend."""
    if silent:
        return offer.ask("The backend does not answer. Should the operator look at its address and key?", "get_backend")
    if offer.mode == "read-only":
        return offer.call("list_batch_calls", "This server only reads: what there is, newest first.")
    return offer.ask("Who is called, from which number, and what for? Ask what is not known yet.", "check_batch_call")


def after_list(found: Sequence[BatchCall], offer: Offer) -> Next:
    """After a page of batch calls: the only one of it; which of several, the caller knows."""
    if len(found) != 1 or not _can_be_named(found[0]):
        return None
    return offer.call("get_batch_call", "It is the only one.", batch_call_id=found[0].batch_call_id)


def after_check(checked: CheckedList, offer: Offer) -> Next:
    """After a list was checked."""
    given, inline = checked.as_called, "tasks" in checked.arguments
    if checked.lacking_country > checked.calls and "default_region" not in given:
        return _country(checked, offer, inline=inline)
    if not checked.calls:
        nobody = "Nobody on this list can be called: skipped_rows says why. What is the right list?"
        return offer.ask(nobody, "check_batch_call", **_without(given, "tasks_file", "rows"))
    splits = bool(checked.parts) and not inline
    if checked.refused is not None or (checked.is_blocked and not splits):
        why = checked.refused or "It cannot be launched as it is: preflight.blocks says why."
        return offer.ask(f"{why} What should change?", "check_batch_call", **given)
    if checked.from_number is None and "from_number" in offer.capabilities.required:
        part = {"rows": checked.parts[0]} if splits else {}
        question = "From which caller number? get_backend lists the account's."
        return offer.ask(question, "create_batch_call", **given, **part)
    return _part(checked, given, offer) if splits else _make(checked, given, offer, inline=inline)


def _country(checked: CheckedList, offer: Offer, *, inline: bool) -> Next:
    region, given = checked.region, checked.as_called
    if region is None or inline:
        guess = f" Is it {region}, as that of the caller number?" if region else ""
        known = {"default_region": region} if region else {}
        question = f"In which country are the numbers without +?{guess} It goes into default_region."
        return offer.ask(question, "check_batch_call", **given, **known)
    why = f"Most numbers say no country; {region} is that of the caller number. See whether they fit."
    return offer.call("check_batch_call", why, **given, default_region=region)


def _part(checked: CheckedList, given: Mapping[str, Any], offer: Offer) -> Next:
    """The first part of a list that is too long. Where all of its rows may be skipped, it is checked first."""
    part = {**given, "rows": checked.parts[0]}
    first, _, last = checked.parts[0].partition("-")
    sure = checked.skipped <= int(last) - int(first) and not checked.is_blocked
    if not sure or _dials(checked, offer):
        return offer.call("check_batch_call", "One batch call cannot hold the list: this is its first part.", **part)
    why = f"One batch call cannot hold the list: this makes a draft of the first of {len(checked.parts)} parts."
    return offer.call("create_batch_call", why, **part)


def _dials(checked: CheckedList, offer: Offer) -> bool:
    """Whether a batch call that is made as it was checked dials by itself."""
    drafts = offer.capabilities.drafts
    return drafts == "none" or (drafts == "start_now_only" and checked.is_timed)


def _make(checked: CheckedList, given: Mapping[str, Any], offer: Offer, *, inline: bool) -> Next:
    if _dials(checked, offer):
        if offer.mode != "full":
            return None
        question = "May it be made? create_batch_call with its time dials by itself then, after a confirmation."
        return offer.ask(question, "create_batch_call", **given)
    if inline:
        return None  # the people would have to be repeated
    if offer.capabilities.agent == "caller_number" and "agent_id" in given:
        question = "The agent of the caller number speaks here, whatever agent_id says. Is that right?"
        return offer.ask(question, "create_batch_call", **_without(given, "agent_id"))
    when = " start_batch_call says when." if checked.is_timed else ""
    return offer.call("create_batch_call", f"It makes a draft of this list; no phone rings.{when}", **given)


def after_check_of(current: BatchCall, offer: Offer, now: datetime, *, is_blocked: bool, is_timed: bool) -> Next:
    """After a batch call that exists was checked."""
    startable = {BatchStatus.DRAFT, BatchStatus.SCHEDULED}
    if current.status not in startable or current.is_dialled_elsewhere or not _can_be_named(current):
        return of_state(current, offer, now)
    if "start_batch_call" not in offer.tools:
        return None
    if is_blocked:
        return AskPerson(ask_person="It cannot be launched as it is: preflight.blocks says why. What should change?")
    if is_timed and offer.capabilities.drafts != "full":
        return _instead_of_a_schedule(current, offer)
    if current.status is BatchStatus.SCHEDULED:
        one = {"batch_call_id": current.batch_call_id}
        return offer.ask("Should it be moved? It is scheduled.", "start_batch_call", **one)
    return of_state(current, offer, now)


def _instead_of_a_schedule(current: BatchCall, offer: Offer) -> Next:
    if offer.capabilities.drafts == "now_only":
        one = {"batch_call_id": current.batch_call_id}
        return offer.ask("Nothing can be scheduled here. Should it be started now?", "start_batch_call", **one)
    is_number = current.from_number is not None and is_comparable(current.from_number)
    known = {"from_number": current.from_number} if is_number else {}
    question = (
        "A stored draft cannot be scheduled here. Should it be made again, from the same list, with its time? Then "
        "it dials by itself."
    )
    return offer.ask(question, "create_batch_call", **known)


def of_state(current: BatchCall, offer: Offer, now: datetime) -> Next:
    """What follows from the state of a batch call alone."""
    if not _can_be_named(current) or (current.is_dialled_elsewhere and current.status not in FINISHED):
        return None
    one = {"batch_call_id": current.batch_call_id}
    status, at = current.status, current.scheduled_at
    if status is BatchStatus.DRAFT:
        return offer.ask("May this draft be started, and when? Show what is in it.", "start_batch_call", **one)
    if status is BatchStatus.PAUSED:
        return offer.ask("May it dial on? It is paused.", "resume_batch_call", **one)
    if status is BatchStatus.RUNNING:
        return offer.call("watch_batch_call", "It dials: wait for its end.", **one)
    if status is BatchStatus.SCHEDULED and at is not None and at - now <= _SOON:
        wait = max((at - now).total_seconds(), 0) + _SPARE_S
        return offer.call("watch_batch_call", "It starts soon.", **one, until="started", timeout_seconds=int(wait))
    return _of_finished(current, offer) if status in FINISHED else None


def _of_finished(current: BatchCall, offer: Offer) -> Next:
    if current.test_of is not None:
        if not _is_id(current.test_of):
            return None
        what = "What did they hear? May the list be called, and when?"
        return offer.ask(what, "start_batch_call", batch_call_id=current.test_of)
    hidden = offer.capabilities.tasks_reported == "none"
    if hidden or current.counts.not_reached == 0 or not NOT_REACHED & set(offer.capabilities.outcomes):
        return None
    return offer.call(
        "get_batch_call",
        "It has ended: see who was not reached.",
        batch_call_id=current.batch_call_id,
        task_status=["not_reached"],
    )


def after_get(
    current: BatchCall, offer: Offer, now: datetime, *, asked: frozenset[TaskStatus] | None, found: int | None
) -> Next:
    """After a batch call was read, with so many of the tasks in the states that were `asked` for (None: any)."""
    hidden = offer.capabilities.tasks_reported == "none"
    if hidden or asked is None or not asked <= NOT_REACHED:
        return of_state(current, offer, now)
    if current.status not in FINISHED or not _can_be_named(current):
        return of_state(current, offer, now)
    missed = current.counts.not_reached
    if current.is_dialled_elsewhere or current.test_of is not None or missed == 0 or (found == 0 and not missed):
        return None
    whole, timed = _retries_everybody(offer.capabilities), _retries_at_a_time(offer.capabilities)
    again = {} if whole else _called_again(asked, current.counts)
    people = "these people" if asked != NOT_REACHED or missed is None else _people(missed)
    people = "everybody who was not reached" if whole and asked != NOT_REACHED else people
    held = whole or not offer.capabilities.needs_list_again
    needed = "" if held else " The list that it was made from is needed for it: which one is it?"
    question = f"Should {people} be called again{', and when' if timed else ''}?{needed}"
    return offer.ask(question, "retry_batch_call", batch_call_id=current.batch_call_id, **again)


def _retries_everybody(can: Capabilities) -> bool:
    """A retry cannot be for some of those who were not reached."""
    return Operation.RETRY in can.operations and can.retry in {"all_unreached", "child_draft"}


def _retries_at_a_time(can: Capabilities) -> bool:
    """A retry is a new batch call that dials by itself, at its time."""
    return Operation.RETRY not in can.operations and can.drafts == "none"


def after_watch(current: BatchCall, offer: Offer, now: datetime, *, reached: bool, idle: bool) -> Next:
    """After a wait: it saw what it waited for (`reached`), nothing can happen for long (`idle`), or it ran out."""
    if reached or current.status in FINISHED or current.status is BatchStatus.DRAFT:
        return of_state(current, offer, now)
    if idle:
        return of_state(current, offer, now) if current.status is BatchStatus.PAUSED else None
    if current.status not in {BatchStatus.RUNNING, BatchStatus.SCHEDULED, BatchStatus.PAUSED}:
        return None
    if not _can_be_named(current):
        return None
    question = "Should it be watched on? Say how far it is."
    return offer.ask(question, "watch_batch_call", batch_call_id=current.batch_call_id)


def after_cancel(current: BatchCall, offer: Offer) -> Next:
    """After a stop: who had been called before, if anybody was."""
    counts = current.counts
    if not any((counts.sent, counts.completed, counts.calling, counts.not_reached)) or not _can_be_named(current):
        return None
    why = "See who was called before."
    return offer.call("get_batch_call", why, batch_call_id=current.batch_call_id)


def in_words(following: Mapping[str, Any]) -> str:
    """A next call or question, as the wire has it, in a sentence."""
    if "tool" in following:
        return f"{_call_in_words(following)}: {following['why']}"
    after = following.get("then")
    return f"Ask the person: {following['ask_person']}" + (f" Then {_call_in_words(after)}." if after else "")


def _call_in_words(call: Mapping[str, Any]) -> str:
    given = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"
        for name, value in (call.get("arguments") or {}).items()
    )
    return f"{call['tool']} with {given}" if given else str(call["tool"])


def _called_again(asked: frozenset[TaskStatus], counts: Counts) -> dict[str, Any]:
    """The states that a retry has to be given, where it would not call these people by itself."""
    if asked == NOT_REACHED:
        return {} if _by_itself(counts) else {"task_status": ["not_reached"]}
    return {} if asked == RETRIED else {"task_status": sorted(map(str, asked))}


def _by_itself(counts: Counts) -> bool:
    """Whether anybody was missed whom a retry calls again; also where that is not reported."""
    missed = (counts.no_answer, counts.busy, counts.failed)
    return None in missed or any(missed)


def _people(number: int) -> str:
    return "the 1 person who was not reached" if number == 1 else f"the {number:,} people who were not reached"


def _can_be_named(current: BatchCall) -> bool:
    """Whether its id is one that a tool takes."""
    return _is_id(current.batch_call_id)


def _is_id(name: str) -> bool:
    """Whether it is one: a sentence is not, whatever field it stands in."""
    return 0 < len(name) <= _LONGEST_ID and printable(name) == name and " " not in name


def _said_of_window(window: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is so by default: some backends have no such fields."""
    said = {name: value for name, value in window.items() if value is not None}
    if len(said.get("days", ())) == 7:  # noqa: PLR2004 - a week
        del said["days"]
    if said.get("timezone") == "recipient":
        del said["timezone"]
    return said


def _without(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}
