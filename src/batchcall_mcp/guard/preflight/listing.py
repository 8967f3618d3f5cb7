"""How many people a launch is about, and what is known of those whom the backend does not show. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from batchcall_mcp.backends.capabilities import Capabilities
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.guard.preflight.recipient_warnings import Concern, dialled_too_often, in_live_ones, some_are
from batchcall_mcp.guard.preflight.schedule import CALL_LASTS, Timetable

_MOST_LAUNCHES: Final = 3
_AGAIN: Final = ", and are compared with the do-not-call list of today."


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the people of a list are, as it was judged when it was sent. Zones: IANA names, several with a space."""

    countries: Mapping[str, int] = field(default_factory=dict)
    zones: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, countries: Mapping[str, int], zones: Mapping[tuple[str, ...], int]) -> Places:
        return cls(countries=dict(countries), zones={" ".join(names): calls for names, calls in zones.items()})

    def counted(self) -> tuple[Counter[str], Counter[tuple[str, ...]]]:
        """The same, as `preflight` counts them."""
        return Counter(self.countries), Counter({tuple(names.split()): calls for names, calls in self.zones.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the ledger knows of the list that a batch call holds. None: it was not sent from here, or changed since."""

    total: int | None = None
    places: Places | None = None
    do_not_call: frozenset[str] = frozenset()
    """Those of them, under names that say nothing, who are on the operator's list of today."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Under such names, their dials of the last 24 hours sent through us."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Under such names, a live batch call that will call them too."""
    lately: Mapping[str, str] = field(default_factory=dict)
    """Under such names, a launch of the last minutes that calls them too."""
    entries: tuple[int, ...] = ()
    """The ledger entries that sent the list, where its people are remembered."""

    def concerns(self, dials_each: int, most_in_a_day: int) -> Iterator[Concern]:
        """As about people who can be read: by how often each is dialled at most with this launch."""
        yield from some_are("do_not_call", sorted(self.do_not_call), "now on the do-not-call list")
        yield from in_live_ones(sorted(self.elsewhere), self.elsewhere)
        lately = sorted(self.lately.keys() - self.elsewhere.keys())
        others = ", ".join(sorted({self.lately[name] for name in lately})[:_MOST_LAUNCHES])
        yield from some_are("elsewhere", lately, f"in another launch of the last minutes ({others})")
        yield from dialled_too_often(dict.fromkeys(self.attempts, dials_each), self.attempts, most_in_a_day)


class Unlisted(NamedTuple):
    """People who are called and whom the backend does not show; `people` None: nobody knows how many.

    `are_known`: they are those whom the ledger knows. `concern` is about them, or `note` is.
    """

    people: int | None = 0
    are_known: bool = False
    concern: Concern | None = None
    note: str | None = None


def unlisted(listed: int, total: int | None, capabilities: Capabilities, recorded: Recorded) -> Unlisted:
    """Tasks that the backend counts, or that were sent from here, and that its list does not show.

    `listed`: how many it shows in all; `total`: how many it counts.
    """
    if capabilities.tasks_reported == "all":
        missing = max((total or 0) - listed, 0)
        return Unlisted(missing, concern=_shortfall(listed, missing)) if missing else Unlisted()
    return _not_dialled(total, listed, capabilities, recorded)


def _not_dialled(total: int | None, listed: int, capabilities: Capabilities, recorded: Recorded) -> Unlisted:
    shows = (
        "The backend lists people only once they are dialled"
        if capabilities.tasks_reported == "dialled_only"
        else "The backend does not list the people of a batch call"
    )
    everybody = recorded.total if total is None else total
    if everybody is None:
        unknown = f"{shows}, and does not say how many there are: nothing of the list was checked."
        return Unlisted(None, concern=Concern("list", unknown, frozenset({"unread"})))
    missing = max(everybody - listed, 0)
    if not missing:
        return Unlisted()
    if recorded.total != everybody or not recorded.entries:
        unchecked = f"{shows}: {counted(missing, 'person', 'people')} of this list could not be checked."
        return Unlisted(missing, concern=Concern("list", unchecked, frozenset({unchecked})))
    who = f"these {missing:,} of the {everybody:,}" if listed else f"these {missing:,}"
    return Unlisted(
        missing, are_known=True, note=f"{shows}: {who} were checked when the list was sent from here{_AGAIN}"
    )


def _shortfall(listed: int, missing: int) -> Concern:
    total = f"{listed + missing:,} task{'s' if listed + missing > 1 else ''}"
    sentence = f"The backend says that this batch call has {total}, but its list shows {listed:,}."
    return Concern("list", sentence, frozenset({sentence}))


class Size(NamedTuple):
    """How many are called, of how many who wait. None: the list could not be read."""

    calls: int | None
    listed: int | None
    is_for_the_first: bool

    @classmethod
    def of(cls, listed: int | None, first: int | None) -> Size:
        if first is None or (listed is not None and listed <= first):
            return cls(listed, listed, is_for_the_first=False)
        return cls(first, listed, is_for_the_first=True)

    def part_of(self, table: Timetable, lines: int | None) -> Timetable:
        """The times of those who are called: who they are is up to calling hours, so the first start is as for all."""
        if not self.is_for_the_first or table.takes is None or lines is None:
            return table
        takes = min(table.takes, -(-(self.calls or 0) // lines) * CALL_LASTS)
        return replace(table, takes=takes, last=None, not_before=None, waiting=0, beyond=0, tail=0)
