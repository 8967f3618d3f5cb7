"""The carrier's record against the answered questions. Pure.

A dial is covered by a consent: a question about that very batch call, naming the version of the list that the person is
on, that was answered yes before, in a tool call that launched. What was not covered, was dialled twice, went past a
limit or came after a stop is a violation.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from tests.interleavings.scripts import MAX_CALLS_PER_DAY, MAX_CALLS_PER_LAUNCH, People

Said: TypeAlias = Literal["yes", "no", "dismissed"]

_FIRST: Final = re.compile(r"(?:Person|First on the list): (Gaz[a-z]*) P\., ")
_MANY: Final = re.compile(r"Call ([\d,]+) (?:person|people)")
_CALLED_TWICE: Final = re.compile(
    "in another live batch call|launch of the last minutes|more than once|dialled in the last 24 hours"
    "|not known|could not be|not checked"
)
_LAUNCHED: Final = frozenset({"started", "scheduled", "resumed", "retried", "updated", "added"})
_STARTS: Final = frozenset({"start_batch_call", "update_batch_call"})
_NOT_REACHED: Final = frozenset("79")


@dataclass(slots=True)
class Question:
    """One question as a person saw it, and what was said."""

    text: str
    asked: datetime
    said: Said | None = None
    answered: datetime | None = None

    @property
    def tag(self) -> str:
        """Of the list version that it names."""
        found = _FIRST.search(self.text)
        assert found, self.text
        return found[1]

    @property
    def people(self) -> int:
        """How many it says are called."""
        found = _MANY.search(self.text)
        assert found, self.text
        return int(found[1].replace(",", ""))

    @property
    def warns(self) -> bool:
        """Whether somebody would be called twice, or that could not be found out."""
        return _CALLED_TWICE.search(self.text) is not None


@dataclass(slots=True)
class Call:
    """One tool call, as its caller saw it. Of answers that were sent twice, the results of both."""

    caller: str
    what: str
    tool: str
    batch_call_id: str | None
    began: datetime
    questions: list[Question] = field(default_factory=list)
    results: list[Mapping[str, Any]] = field(default_factory=list)
    """Of a success the structured answer, of an error `{"error": its code, "text": …}`."""
    ended: datetime | None = None
    added: str | None = None
    """The tag of those whom it adds."""

    @property
    def words(self) -> list[str]:
        """Of each result: the result word, or the code of the error."""
        return [str(one.get("error") or one["result"]) for one in self.results]

    @property
    def launched(self) -> bool:
        """Whether it, and no earlier one, launched something; or nobody knows."""
        return any(
            one.get("error") == "outcome_unknown" or (one.get("result") in _LAUNCHED and not one.get("replayed"))
            for one in self.results
        )

    @property
    def consent(self) -> Question | None:
        """The question whose yes let it pass: the last one."""
        asked = self.questions[-1] if self.questions else None
        return asked if asked is not None and asked.said == "yes" and self.launched else None

    @property
    def stopped(self) -> bool:
        """Whether nothing of the batch call may be dialled from its end on."""
        return any(
            not one.get("replayed")
            and (
                one.get("result") in {"paused", "cancelled"}
                or (one.get("result") == "updated" and one["batch_call"]["status"] == "draft" and "draft" in self.what)
            )
            for one in self.results
        )


@dataclass(frozen=True, slots=True)
class Dial:
    """One line of the carrier's record. `tag`: the person's, if the batch call still holds the task."""

    at: datetime
    batch_call_id: str
    to_number: str
    tag: str | None


@dataclass(frozen=True, slots=True)
class _Consent:
    call: Call
    question: Question
    answered: datetime
    added: frozenset[str] = frozenset()
    """The tags of those who may have been added before the question was asked: it counted them."""

    @property
    def batch_call_id(self) -> str | None:
        return self.call.batch_call_id

    def covers(self, dial: Dial, people: Mapping[str, People]) -> bool:
        tags = {self.question.tag, *self.added}
        return (
            self.batch_call_id == dial.batch_call_id
            and self.answered <= dial.at
            and dial.tag in {None, *tags}
            and any(dial.to_number in people[tag].numbers for tag in ({dial.tag} if dial.tag else tags) if tag)
        )


def violations(calls: Sequence[Call], dials: Sequence[Dial], people: Iterable[People], *, days: int = 1) -> list[str]:
    """What must not have happened, each in a sentence. `days`: UTC days that the example touched."""
    lists = {one.tag: one for one in people}
    consents = [
        _Consent(call, question, question.answered, _added(calls, call, question))
        for call in calls
        if (question := call.consent) is not None and question.answered is not None
    ]
    dials = sorted(dials, key=lambda one: one.at)
    return [
        *_uncovered(consents, dials, lists),
        *_misnamed(consents, lists),
        *_twice_in_one(consents, dials),
        *_twice_over_several(consents, dials, lists),
        *_above_the_limits(consents, dials, days),
        *_after_a_stop(calls, consents, dials),
        *_broken(calls),
    ]


def _added(calls: Sequence[Call], to: Call, question: Question) -> frozenset[str]:
    """A question about an addition is about these people alone; one about a launch, about those added before it."""
    if to.added:
        return frozenset()
    return frozenset(
        one.added
        for one in calls
        if one.added and one.batch_call_id == to.batch_call_id and one.began < question.asked and "added" in one.words
    )


def _uncovered(consents: Sequence[_Consent], dials: Sequence[Dial], lists: Mapping[str, People]) -> Iterator[str]:
    for dial in dials:
        if not any(one.covers(dial, lists) for one in consents):
            yield f"{_of(dial)} was dialled, and no answered question covered that"


def _misnamed(consents: Sequence[_Consent], lists: Mapping[str, People]) -> Iterator[str]:
    """A launch of a whole list names as many people as the list has."""
    for one in consents:
        said, has = one.question.people, len(lists[one.question.tag].numbers)
        whole = one.call.tool in _STARTS and not one.call.added and not one.added
        if said > has + sum(len(lists[tag].numbers) for tag in one.added) or (whole and said != has):
            yield f"the question of {one.call.what} named {said} people of a list of {has}"


def _twice_in_one(consents: Sequence[_Consent], dials: Sequence[Dial]) -> Iterator[str]:
    """One batch call dials a number once, and once more for each retry that a yes covered, if it was not reached."""
    times = Counter((one.batch_call_id, one.to_number) for one in dials)
    again: Counter[str] = Counter()
    for (batch_call_id, number), count in times.items():
        retries = [
            one for one in consents if one.batch_call_id == batch_call_id and one.call.tool == "retry_batch_call"
        ]
        most = 1 + len(retries) if number[-1] in _NOT_REACHED else 1
        again[batch_call_id] += count - 1
        if count > most:
            yield f"{number} was dialled {count} times by {batch_call_id}, and {most} were covered"
    for batch_call_id, count in again.items():
        named = sum(
            one.question.people
            for one in consents
            if one.batch_call_id == batch_call_id and one.call.tool == "retry_batch_call"
        )
        if count > named:
            yield f"{batch_call_id} dialled {count} people again, and questions named {named}"


def _twice_over_several(
    consents: Sequence[_Consent], dials: Sequence[Dial], lists: Mapping[str, People]
) -> Iterator[str]:
    """Nobody said yes to calling somebody whom another batch call called between that question and this dial."""
    of_number: dict[str, list[Dial]] = defaultdict(list)
    for dial in dials:
        of_number[dial.to_number].append(dial)
    for mine in of_number.values():
        for dial in mine:
            others = [one for one in mine if one.batch_call_id != dial.batch_call_id and one.at <= dial.at]
            covering = [one for one in consents if one.covers(dial, lists)]
            if covering and all(any(other.at > one.question.asked for other in others) for one in covering):
                yield (
                    f"{_of(dial)} was dialled, and since that question was asked by "
                    f"{', '.join(sorted({one.batch_call_id for one in others}))} too, which it did not name"
                )


def _above_the_limits(consents: Sequence[_Consent], dials: Sequence[Dial], days: int) -> Iterator[str]:
    for one in consents:
        if one.question.people > MAX_CALLS_PER_LAUNCH:
            yield f"{one.call.what} launched {one.question.people} people, past the limit of a launch"
    first: dict[str, set[str]] = defaultdict(set)
    again = 0
    for dial in dials:
        again += dial.to_number in first[dial.batch_call_id]
        first[dial.batch_call_id].add(dial.to_number)
    for batch_call_id, numbers in first.items():
        if len(numbers) > MAX_CALLS_PER_LAUNCH:
            yield f"{batch_call_id} dialled {len(numbers)} people, past the limit of a launch"
    called = again + sum(map(len, first.values()))
    if called > MAX_CALLS_PER_DAY * days:
        yield f"{called} people were dialled, past the limit of a day"


def _after_a_stop(calls: Sequence[Call], consents: Sequence[_Consent], dials: Sequence[Dial]) -> Iterator[str]:
    """After a stop has answered, only as many are dialled as questions named that were asked after it was sent."""
    for stop in calls:
        if not stop.stopped or stop.ended is None:
            continue
        late = [one for one in dials if one.batch_call_id == stop.batch_call_id and one.at > stop.ended]
        since = [one for one in consents if one.batch_call_id == stop.batch_call_id and one.question.asked > stop.began]
        for dial in late:
            if not any(one.answered <= dial.at for one in since):
                yield f"{_of(dial)} was dialled after {stop.what} had answered"
        if len(late) > (named := sum(one.question.people for one in since)):
            yield f"{len(late)} people were dialled after {stop.what}, and questions named {named}"


def _broken(calls: Sequence[Call]) -> Iterator[str]:
    known = {"illegal_transition", "not_confirmed", "invalid_input"}
    for call in calls:
        for one in call.results:
            if "error" in one and one["error"] not in known:
                yield f"{call.what} ended with {one['error']}: {one['text']}"


def _of(dial: Dial) -> str:
    return f"{dial.to_number} of {dial.batch_call_id} ({dial.tag or 'its list is gone'}) at {dial.at:%H:%M:%S.%f}"
