"""The `timezones` argument: whom of a list it selects, and what the list has. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

from batchcall_mcp.calling_hours import check_timezone, zones_of
from batchcall_mcp.errors import InvalidInput

_MOST_LISTED = 20
_MOST_JOINED = 6


class ZoneSelection:
    """Takes the people of some zones, and counts the others.

    A person's zones are the one that the list gives, else those of the number's prefix. A number that may be in several
    zones is taken only if all of them are selected: else it could be called at the hours of another place.
    """

    def __init__(self, zones: frozenset[str]) -> None:
        self._zones = zones
        self._taken = 0
        self._others: Counter[tuple[str, ...]] = Counter()

    @classmethod
    def of(cls, names: Sequence[str]) -> ZoneSelection:
        """Of IANA names.

        Raises:
            InvalidInput: if there is none, or one is not the name of a zone.
        """
        if not names:
            raise InvalidInput("timezones: the list is empty. Nothing was sent. Omit it to select everybody.")
        return cls(frozenset(canonical(check_timezone(name, "timezones")) for name in names))

    def takes(self, own_zone: str | None, number: str, *, counts: bool = True) -> bool:
        """Whether it takes this person; `counts` is false for one who is on the list already."""
        own = (own_zone or "").strip()
        zones = _todays((own,) if own else zones_of(number))
        takes = bool(zones) and self._zones.issuperset(zones)
        if counts and takes:
            self._taken += 1
        elif counts:
            self._others[zones] += 1
        return takes

    def check(self, where: str) -> None:
        """Hold it against the list that was read.

        Raises:
            InvalidInput: if nobody was taken; it names the zones that the list has, with counts.
        """
        if self._taken or not self._others:
            return
        raise InvalidInput(
            f"timezones: nobody of {where} is in {', '.join(sorted(self._zones))} alone. Nothing was sent. "
            f"Its time zones: {_listed(self._others)}."
        )

    def remarks(self) -> tuple[str, ...]:
        """How many people were selected, of how many; and those whom no single zone would select."""
        people = self._taken + self._others.total()
        several = Counter({zones: count for zones, count in self._others.items() if len(zones) > 1})
        said = [f"timezones selects {self._taken} of {people} people."]
        if several:
            said.append(
                f"{several.total()} who may be in several zones were not selected, because timezones does not have all "
                f"of theirs: {_listed(several)}."
            )
        if unknown := self._others[()]:
            said.append(f"{unknown} of no known zone were not selected; a timezone column of the list says theirs.")
        return (" ".join(said),)


@lru_cache(maxsize=1024)
def canonical(zone: str) -> str:
    """Today's name of a zone: `Asia/Kolkata` for `Asia/Calcutta`, which prefix data still has.

    Only a former name is replaced. Places that share a clock today, such as Oslo and Berlin, stay two.
    """
    places, links = _places(), _links()
    while zone not in places and zone in links:
        zone = links[zone]
    return zone


@lru_cache(maxsize=4096)
def _todays(zones: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({canonical(zone) for zone in zones}))


@lru_cache(maxsize=1)
def _places() -> frozenset[str]:
    lines = _table("zone.tab").splitlines()
    return frozenset(line.split("\t")[2] for line in lines if line and not line.startswith("#"))


@lru_cache(maxsize=1)
def _links() -> dict[str, str]:
    lines = (line.split() for line in _table("tzdata.zi").splitlines() if line.startswith("L "))
    return {name: zone for _, zone, name in lines}


def _joined(names: tuple[str, ...]) -> str:
    more = f" + {len(names) - _MOST_JOINED} more" if len(names) > _MOST_JOINED else ""
    return (" + ".join(names[:_MOST_JOINED]) or "unknown") + more


def _table(name: str) -> str:
    return files("tzdata").joinpath("zoneinfo", name).read_text(encoding="utf-8")


def _listed(zones: Counter[tuple[str, ...]]) -> str:
    shown = [f"{_joined(names)} ({count})" for names, count in zones.most_common(_MOST_LISTED)]
    more = len(zones) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
