"""What is known of the numbers that a launch would call, as concerns. Pure; no number is ever named, only counted.

A list that a backend keeps may hold a number in another spelling than ours: numbers are compared as `comparable` has
them, and sent as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from batchcall_mcp import number_plans
from batchcall_mcp.model import CallTask
from batchcall_mcp.recipients.phone.destinations import kind_problem
from batchcall_mcp.recipients.phone.numbers import comparable, is_comparable
from batchcall_mcp.text import identifier, in_quotes

_MOST_IDS: Final = 3
_MOST_VARIABLES: Final = 10
_MOST_NOT_COMPARED: Final = 10

_MOST_NAMED: Final = 10
NO_COUNTRY: Final = "unknown"
"""Among `Preflight.countries`: numbers of no country, or of none that is known."""

Kind: TypeAlias = Literal[
    "unchecked",
    "list",
    "variables",
    "from_number",
    "repeated",
    "unreadable",
    "do_not_call",
    "elsewhere",
    "not_compared",
    "attempts",
    "time",
    "hours",
    "no_stop",
    "countries",
]
PERSONAL: Final[frozenset[Kind]] = frozenset({"unreadable", "do_not_call", "elsewhere", "attempts"})
"""About single people: these can be skipped, and the others called all the same."""


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that a person has to judge. `about`: the numbers, or the things, that it is about.

    A yes covers no more than what the question was about. What moves with the clock has no `about`: it is named in the
    question, and a yes is good for ten minutes.
    """

    kind: Kind
    sentence: str
    about: frozenset[str] = frozenset()


def unchecked(sentences: Iterable[str]) -> Iterator[Concern]:
    """What could not be checked. Why it could not be may be put in other words each time."""
    for sentence in sentences:
        yield Concern("unchecked", sentence, frozenset({sentence.partition(":")[0]}))


def not_compared(ids: Sequence[str], live: int, why: str) -> Concern:
    """Other live batch calls whose people are not known. A yes covers these and no others."""
    shown = ", ".join(map(identifier, ids[:_MOST_NOT_COMPARED]))
    more = f" and {len(ids) - _MOST_NOT_COMPARED} more" if len(ids) > _MOST_NOT_COMPARED else ""
    sentence = (
        f"{len(ids)} of {live} other live batch calls could not be compared with this list ({shown}{more}): {why}"
    )
    return Concern("not_compared", sentence, frozenset(ids))


def number_concerns(
    tasks: Sequence[CallTask],
    *,
    from_number: str | None,
    never: Container[str],
    lately: Mapping[str, str],
    elsewhere: Mapping[str, str],
    own_id: str | None,
) -> Iterator[Concern]:
    """What the numbers themselves say, and who else calls them.

    `never`: the do-not-call list. `lately`, `elsewhere`: number -> the other launch, the other live batch call.
    """
    numbers = [comparable(task.to_number) for task in tasks]
    yield from _from_number_concern(numbers, from_number)
    yield from _repeated_concern(numbers)
    yield from _unreadable_concern(numbers)
    yield from _do_not_call_concern(numbers, never)
    yield from _lately_concern(numbers, lately, elsewhere)
    yield from _elsewhere_concern(numbers, elsewhere, own_id)


def _from_number_concern(numbers: Sequence[str], from_number: str | None) -> Iterator[Concern]:
    """A line that calls itself is engaged."""
    own = comparable(from_number) if from_number else None
    yield from some_are("from_number", [number for number in numbers if number == own], "from_number itself")


def _repeated_concern(numbers: Sequence[str]) -> Iterator[Concern]:
    """A list that was made elsewhere may hold somebody twice; one that was read here does not."""
    found = len(numbers) - len(set(numbers))
    if found:
        times = Counter(numbers)
        sentence = f"{found} of the calls go to a number that is in the list more than once."
        yield Concern("repeated", sentence, frozenset(number for number, count in times.items() if count > 1))


def _unreadable_concern(numbers: Sequence[str]) -> Iterator[Concern]:
    """What is not written as a number escapes the do-not-call list and every comparison."""
    found = [number for number in numbers if not is_comparable(number)]
    if found:
        what = "number cannot be read" if len(found) == 1 else "numbers cannot be read"
        sentence = f"{len(found)} {what} as a phone number, so it is not known whether they may be called."
        yield Concern("unreadable", sentence, frozenset(found))


def _do_not_call_concern(numbers: Sequence[str], never: Container[str]) -> Iterator[Concern]:
    """A list that the backend keeps was read against the do-not-call list of another day."""
    found = [number for number in numbers if number in never]
    yield from some_are("do_not_call", found, "now on the do-not-call list")


def _elsewhere_concern(numbers: Sequence[str], elsewhere: Mapping[str, str], own_id: str | None) -> Iterator[Concern]:
    """Who is about to be called twice."""
    found = [number for number in numbers if elsewhere.get(number, own_id) != own_id] if elsewhere else []
    yield from in_live_ones(found, elsewhere)


def in_live_ones(found: Sequence[str], elsewhere: Mapping[str, str]) -> Iterator[Concern]:
    """So many of the numbers are in other live batch calls."""
    others = Counter(elsewhere[number] for number in found)
    shown = [identifier(one) for one, _ in others.most_common(_MOST_IDS)]
    more = f" and {len(others) - len(shown)} more" if len(others) > len(shown) else ""
    yield from some_are("elsewhere", found, f"in another live batch call ({', '.join(shown)}{more})")


def _lately_concern(
    numbers: Sequence[str], lately: Mapping[str, str], elsewhere: Mapping[str, str]
) -> Iterator[Concern]:
    """Who was launched a moment ago, and may have been called already."""
    found = [number for number in numbers if number in lately and number not in elsewhere] if lately else []
    others = ", ".join(sorted({identifier(lately[number]) for number in found})[:_MOST_IDS])
    yield from some_are("elsewhere", found, f"in another launch of the last minutes ({others})")


def attempts_concern(
    tasks: Sequence[CallTask], attempts: Mapping[str, int], most_dials: Callable[[CallTask], int], cap: int
) -> Iterator[Concern]:
    """Who was dialled today, and might be dialled more often than `cap` with this launch."""
    ours: Counter[str] = Counter()
    for task in tasks if attempts else ():
        number = comparable(task.to_number)
        if attempts.get(number, 0) > 0:
            ours[number] += most_dials(task)
    yield from dialled_too_often(ours, attempts, cap)


def dialled_too_often(ours: Mapping[str, int], attempts: Mapping[str, int], cap: int) -> Iterator[Concern]:
    """`ours`: how often this launch dials each at most; `attempts`: how often each was dialled today."""
    found = frozenset(number for number, dials in ours.items() if attempts[number] + dials > cap)
    if found:
        numbers = "number was" if len(found) == 1 else "numbers were"
        yield Concern(
            "attempts",
            f"{len(found)} {numbers} dialled in the last 24 hours, and may now be dialled more than {cap} times in a "
            "day.",
            found,
        )


def variables_concern(
    tasks: Sequence[CallTask], variables: Sequence[str] | None, *, known: Collection[str] | None
) -> Iterator[Concern]:
    """Whose blanks the agent would read out.

    `known`: None where the tasks hold their variables; else those that all of them are known to have.
    """
    if not variables or not tasks:
        return
    if known is not None:
        if not set(variables) <= set(known):
            sentence = (
                "The backend does not return the variables of its tasks: it was not checked whether any lacks one."
            )
            yield Concern("unchecked", sentence, frozenset({"variables of the tasks"}))
        return
    lacking = {
        name: frozenset(task.to_number for task in tasks if not task.dynamic_variables.get(name))
        for name in dict.fromkeys(variables)
    }
    found = [(name, people) for name, people in lacking.items() if people]
    for name, people in found[:_MOST_VARIABLES]:
        sentence = f"{_tasks(len(people))} the agent's variable {in_quotes(name)}."
        yield Concern("variables", sentence, frozenset(f"{number} {name}" for number in people))
    if len(found) > _MOST_VARIABLES:
        rest = found[_MOST_VARIABLES:]
        about = frozenset(f"{number} {name}" for name, people in rest for number in people)
        yield Concern("variables", f"{len(rest)} more variables are missing.", about)


def about(concerns: Iterable[Concern]) -> dict[str, frozenset[str]]:
    """Of each kind, all that it is about: what a confirmation is bound to."""
    found: dict[str, frozenset[str]] = {}
    for one in concerns:
        if one.about:
            found[one.kind] = found.get(one.kind, frozenset()) | one.about
    return found


def some_are(kind: Kind, found: Sequence[str], what: str) -> Iterator[Concern]:
    """So many of the numbers are what is said."""
    if found:
        sentence = f"{len(found)} of the numbers {'is' if len(found) == 1 else 'are'} {what}."
        yield Concern(kind, sentence, frozenset(found))


def _tasks(count: int) -> str:
    return "1 task lacks" if count == 1 else f"{count} tasks lack"


@dataclass(frozen=True, slots=True)
class Refused:
    """Whom the account behind the backend may not call, whatever else is right about them: `people` of them."""

    people: int
    concerns: tuple[Concern, ...]


def refused(tasks: Sequence[CallTask], countries: Mapping[str, int], allowed: frozenset[str] | None) -> Refused:
    """Who is in another country, and whose number is of a kind that is never called; nobody is counted twice.

    Args:
        tasks: those that are known.
        countries: so many people are in each, also those whom a backend hides; see `Preflight.countries`.
        allowed: the only ones that may be called; None: not known, or all, or no real phone rings.
    """
    if allowed is None:
        return Refused(0, ())
    abroad = {one: people for one, people in countries.items() if one not in allowed and one != NO_COUNTRY}
    dear: dict[str, set[str]] = {}
    for number in (comparable(task.to_number) for task in tasks):
        if (problem := kind_problem(number)) is not None and number_plans.place(number).country in {None, *allowed}:
            dear.setdefault(problem, set()).add(number)
    concerns = []
    if abroad:
        named = ", ".join(f"{people:,} in {one}" for one, people in list(abroad.items())[:_MOST_NAMED])
        sentence = f"Numbers outside {', '.join(sorted(allowed))} are refused: {named}."
        concerns.append(Concern("countries", sentence, frozenset(abroad)))
    if dear:
        named = ", ".join(f"{len(numbers):,} ({problem})" for problem, numbers in dear.items())
        sentence = f"Numbers of a kind that is never called are refused: {named}."
        concerns.append(Concern("countries", sentence, frozenset().union(*dear.values())))
    return Refused(sum(abroad.values()) + sum(map(len, dear.values())), tuple(concerns))
