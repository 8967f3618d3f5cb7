"""About how much a launch costs, and whether that is within the operator's limits. Pure.

An estimate, like the times: each dial is taken to be as long as `CALL_LASTS`. What is said is the cost of one dial of
each person, as the duration is; limits count every retry that there can be. A simulated call costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.guard.preflight.schedule import CALL_LASTS
from batchcall_mcp.guard.spending import Spent, day_limit_problem
from batchcall_mcp.model import CallTask
from batchcall_mcp.money import Money

MINUTES: Final = CALL_LASTS // timedelta(minutes=1)
ANYBODY: Final = CallTask(to_number="")
"""Somebody of whom nothing is known."""
_WHAT_TO_SET: Final = "set BATCHCALL_COST_PER_MINUTE, such as 0.14 USD"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLimits:
    """What the operator states and allows. All of it is in one currency."""

    per_minute: Money | None = None
    per_launch: Money | None = None
    per_day: Money | None = None

    @property
    def currency(self) -> str | None:
        """In which all of it is; None: nothing is set."""
        return next((one.currency for one in (self.per_minute, self.per_launch, self.per_day) if one), None)

    def price(self, reported: Money | None) -> Money | None:
        """What a minute costs: the higher one of what is stated and what the backend reports; None: not known.

        Of a backend that reports another currency nothing is known: see `other_currency`.
        """
        known = [one for one in (self.per_minute, reported) if one is not None]
        if len({one.currency for one in known} | ({self.currency} if self.currency else set())) > 1:
            return None
        return max(known, key=lambda one: one.amount, default=None)

    def other_currency(self, reported: Money | None) -> str | None:
        """What to do about a backend that reports another currency than what is set; None: it does not."""
        if reported is None or self.currency in {None, reported.currency}:
            return None
        return (
            f"the backend reports its price in {reported.currency}, and the operator's amounts are in {self.currency}: "
            "nothing is converted. The operator writes BATCHCALL_COST_PER_MINUTE, BATCHCALL_MAX_COST_PER_LAUNCH and "
            f"BATCHCALL_MAX_COST_PER_DAY in {reported.currency}, or removes them"
        )


def most_dialled(
    tasks: Sequence[CallTask], most_dials: Callable[[CallTask], int], unlisted: int, people: int | None
) -> Counter[int]:
    """So many of these people, by how often each is dialled at most: nobody knows which, so those with the most."""
    dialled = Counter(most_dials(task) for task in tasks)
    dialled[most_dials(ANYBODY)] += unlisted
    if people is None:
        return dialled
    found = Counter[int]()
    for each in sorted(dialled, reverse=True):
        found[each] = min(dialled[each], people - found.total())
    return found


def dial_cost(per_minute: Money) -> Money:
    """What one dial costs."""
    return per_minute.times(MINUTES)


def left_of(limit: Money, per_minute: Money, spent: Spent) -> Money | None:
    """What is left of the limit of a day; None: launches of that day are counted in another currency."""
    before = spent.at(dial_cost(per_minute))
    if before is None or before.currency != limit.currency:
        return None
    return Money(max(limit.amount - before.amount, Decimal(0)), limit.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one launch costs, as far as it is known. `dials` are the most that there can be."""

    calls: int | None
    dials: int | None
    per_minute: Money | None
    why_more: str | None = None
    """Why there may be more dials than that, and nobody knows how many; None: there are not."""
    joined: int = 0
    """People of the batch call whom these join: for the limit of a launch, many small additions are one large list."""
    joined_dials: int = 0

    @classmethod
    def of(
        cls, calls: int | None, dials: int | None, price: Money | None, why_more: str | None, there: Iterable[int]
    ) -> Estimate:
        """`there`: the most dials of each person of the batch call whom these people join."""
        of_each = list(there)
        joined = {"joined": len(of_each), "joined_dials": sum(of_each)}
        return cls(calls=calls, dials=dials, per_minute=price, why_more=why_more, **joined)

    @property
    def dial(self) -> Money | None:
        """Of one dial; None: what the launch costs is not known."""
        return None if self.per_minute is None or self.why_more else dial_cost(self.per_minute)

    @property
    def words(self) -> str | None:
        """`about 84 USD for 300 calls at 0.14 USD a minute, 2 minutes a call`, and what retries may add."""
        if self.per_minute is None or not self.calls or self.dials is None:
            return None
        one = dial_cost(self.per_minute)
        said = (
            f"about {one.times(self.calls).about} for {counted(self.calls, 'call')} at {self.per_minute} a minute, "
            f"{MINUTES} minutes a call"
        )
        if self.why_more:
            return f"{said}; not all of it: {self.why_more}"
        if self.dials <= self.calls:
            return said
        return f"{said}; retries not counted, up to {one.times(self.dials).about} with all of them"


def cost_blocks(estimate: Estimate, limits: CostLimits, reported: Money | None, spent: Spent) -> Iterator[str]:
    """What of the operator's limits this launch breaks; no confirmation cures it."""
    mismatch = limits.other_currency(reported)
    if mismatch is not None:
        yield mismatch
        return
    if limits.per_launch is None and limits.per_day is None:
        return
    dial, dials = estimate.dial, estimate.dials
    if dial is None or dials is None:
        yield _unknown(estimate, limits)
        return
    together = dials + estimate.joined_dials
    most = dial.times(together)
    if limits.per_launch is not None and most.amount > limits.per_launch.amount:
        there = counted(estimate.joined, "person who is", "people who are")
        joined = f", with the {there} in it already," if estimate.joined else ""
        yield (
            f"about {most} for at most {counted(together, 'dial')} (retries counted){joined} at {estimate.per_minute} "
            f"a minute, {MINUTES} minutes each, is more than BATCHCALL_MAX_COST_PER_LAUNCH={limits.per_launch}"
        )
    if limits.per_day is not None:
        problem = day_limit_problem(limits.per_day, dial, dials, spent)
        if problem is not None:
            yield problem


def _unknown(estimate: Estimate, limits: CostLimits) -> str:
    names = [("BATCHCALL_MAX_COST_PER_LAUNCH", limits.per_launch), ("BATCHCALL_MAX_COST_PER_DAY", limits.per_day)]
    kept = " and ".join(f"{name}={limit}" for name, limit in names if limit is not None)
    if estimate.per_minute is None:
        why = f"no price of a minute is known; the operator has to {_WHAT_TO_SET}"
    elif estimate.dials is None:
        why = "the list of tasks could not be read"
    else:
        why = estimate.why_more or ""
    return f"what this costs is not known, so {kept} cannot be kept: {why}"
