"""What the launches of a day may cost, and whether one more is within the operator's limit. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from batchcall_mcp.money import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What launches may cost at most, retries counted, each at the price that was known when it was recorded."""

    amounts: Mapping[str, Decimal] = field(default_factory=dict)
    """By currency."""
    unpriced: int = 0
    """Dials of which no price was known then: they count at the price of today."""
    on_the_same: Spent | None = None
    """On the very people of the launch that is judged, by earlier launches of the same batch call: it may have dialled
    them already, so the more of the two counts."""

    @property
    def currencies(self) -> set[str]:
        """In which launches were counted."""
        return {*self.amounts, *(self.on_the_same.amounts if self.on_the_same else ())}

    def at(self, dial: Money) -> Money | None:
        """All of it, where a dial costs so much today; None: some of it is in another currency."""
        if self.amounts.keys() - {dial.currency}:
            return None
        return Money(self.amounts.get(dial.currency, Decimal(0)) + dial.amount * self.unpriced, dial.currency)


def day_limit_problem(limit: Money, dial: Money | None, dials: int | None, spent: Spent) -> str | None:
    """Why a launch of so many dials is not within the limit of its day; None if it is.

    Args:
        limit: BATCHCALL_MAX_COST_PER_DAY.
        dial: what one dial costs; None: not known.
        dials: the most that there can be; None: not known.
        spent: what the other launches of that day may cost.
    """
    name = f"BATCHCALL_MAX_COST_PER_DAY={limit}"
    if dial is None or dials is None:
        return f"what this costs is not known, so {name} cannot be kept"
    before, same = spent.at(dial), (spent.on_the_same or Spent()).at(dial)
    if before is None or same is None or dial.currency != limit.currency:
        found = ", ".join(sorted(spent.currencies | {dial.currency}))
        return (
            f"launches of that day (UTC) are counted in {found}, and nothing is converted, so {name} cannot be kept: "
            "use one currency for all servers with this ledger, or launch on another day"
        )
    own = max(dial.times(dials), same, key=lambda one: one.amount)
    if own.amount + before.amount <= limit.amount:
        return None
    others = f" and about {before} of other launches" if before.amount else ""
    return (
        f"about {own} (retries counted){others} on that day (UTC) are more than {name}: launch fewer, or on another day"
    )
