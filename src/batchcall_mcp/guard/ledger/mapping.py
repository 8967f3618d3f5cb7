"""The ledger's rows as entries, and what both its writing and its reading side ask of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

import sqlalchemy as sa

from batchcall_mcp.backends.base import FIRST_ZONE
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.clock import span_ms, to_ms
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.spending import Spent
from batchcall_mcp.guard.write_record import STOPS, Entry, Evidence, Newest, WriteState
from batchcall_mcp.model import FINISHED, BatchStatus
from batchcall_mcp.money import of_millionths

_DAY: Final = timedelta(days=1)
CLOCKS_APART_MS: Final = 60_000
"""How far the clocks of machines on one ledger may be apart."""
_RESTS: Final = frozenset({*map(str, FINISHED), str(BatchStatus.DRAFT)})
"""What the status of a batch call is that calls nobody; Zudu makes a draft of what is cancelled before its start."""
NOT_REFUSED: Final = t.writes.c.state != WriteState.REFUSED
OPEN: Final = t.writes.c.state.in_([WriteState.SENDING, WriteState.UNKNOWN])


def of(
    backend: str | sa.BindParameter[str], batch_call_id: str | sa.BindParameter[str] | None
) -> sa.ColumnElement[bool]:
    """Every write to a batch call."""
    return (t.writes.c.backend == backend) & (t.writes.c.batch_call_id == batch_call_id)


def last(tx: sa.Connection, condition: sa.ColumnElement[bool]) -> Entry | None:
    """The newest entry of which this is so."""
    row = tx.execute(sa.select(t.writes).where(condition).order_by(t.writes.c.write_id.desc()).limit(1)).first()
    return None if row is None else read(row)


# Asked several times for every write, so built once: to build such a statement takes longer than to run it.
_IT: Final = of(sa.bindparam("backend"), sa.bindparam("batch_call_id"))
_WRITES: Final = sa.select(t.writes).where(_IT)
_NEWEST: Final = _WRITES.where(NOT_REFUSED).order_by(t.writes.c.write_id.desc()).limit(1)
_NEWEST_LAUNCH: Final = _NEWEST.where(t.writes.c.dials)
_OPEN_LAUNCH: Final = _WRITES.where(OPEN, t.writes.c.dials).order_by(t.writes.c.write_id).limit(1)
_OPEN_CHANGES: Final = _WRITES.where(OPEN, ~t.writes.c.dials, t.writes.c.operation.not_in(STOPS)).order_by(
    t.writes.c.write_id
)


def newest_of(tx: sa.Connection, backend: str, batch_call_id: str) -> Entry | None:
    """The last write to a batch call that was not refused."""
    return next(iter(_entries(tx, _NEWEST, backend, batch_call_id)), None)


def newest_launch_of(tx: sa.Connection, backend: str, batch_call_id: str) -> Entry | None:
    """The last launch of a batch call that was not refused."""
    return next(iter(_entries(tx, _NEWEST_LAUNCH, backend, batch_call_id)), None)


def open_launch_of(tx: sa.Connection, backend: str, batch_call_id: str) -> Entry | None:
    """The first launch of a batch call whose outcome nobody knows."""
    return next(iter(_entries(tx, _OPEN_LAUNCH, backend, batch_call_id)), None)


def open_changes_of(tx: sa.Connection, backend: str, batch_call_id: str) -> list[Entry]:
    """The changes of a batch call of which nobody knows whether they arrived, oldest first."""
    return _entries(tx, _OPEN_CHANGES, backend, batch_call_id)


def _entries(tx: sa.Connection, query: sa.Select[Any], backend: str, batch_call_id: str) -> list[Entry]:
    return [read(row) for row in tx.execute(query, {"backend": backend, "batch_call_id": batch_call_id})]


def launches_after(tx: sa.Connection, since: Newest, *, simulated: bool, sent_after: int = 0) -> list[Entry]:
    """Launches that were recorded since, or sent once more since, by any caller to any backend."""
    again = (t.writes.c.sent_at != t.writes.c.at) & (t.writes.c.sent_at > since.at - CLOCKS_APART_MS)
    newer = ((t.writes.c.write_id > since.write_id) | again) & (t.writes.c.sent_at > sent_after)
    found = newer & t.writes.c.dials & NOT_REFUSED & (t.writes.c.simulated == simulated)
    return [read(row) for row in tx.execute(sa.select(t.writes).where(found).order_by(t.writes.c.write_id))]


def standing(tx: sa.Connection, launches: Sequence[Entry]) -> list[Entry]:
    """Those that were not withdrawn: cancelled or deleted before they were to begin, so that they called nobody."""
    if not launches:
        return []
    # There are many launches and few that were withdrawn, so most of them need no look of their own.
    ends = t.writes.c.operation.in_([Operation.CANCEL, Operation.DELETE]) & (t.writes.c.state == WriteState.DONE)
    since = t.writes.c.write_id > min(launch.write_id for launch in launches)
    found = tx.execute(sa.select(t.writes.c.backend, t.writes.c.batch_call_id).where(since & ends))
    ended = {(backend, batch_call_id) for backend, batch_call_id in found}
    return [
        launch
        for launch in launches
        if (launch.backend, launch.batch_call_id) not in ended or not _is_withdrawn(tx, launch)
    ]


def _is_withdrawn(tx: sa.Connection, launch: Entry) -> bool:
    if launch.batch_call_id is None or launch.starts_at is None:
        return False
    newest = newest_of(tx, launch.backend, launch.batch_call_id)
    return newest is not None and _ends(newest) and newest.sent_at + CLOCKS_APART_MS < _begins(launch)


def _begins(launch: Entry) -> int:
    """When a launch may call its first person."""
    ahead = FIRST_ZONE if launch.evidence.trigger_on is not None else timedelta()
    return (launch.starts_at or 0) - span_ms(ahead)


def is_ended(tx: sa.Connection, launch: Entry) -> bool:
    """Whether its caller has cancelled or deleted its batch call since, and done nothing more to it.

    Not one that was sent before the launch was answered: the launch may have arrived after it.
    """
    mine = of(launch.backend, launch.batch_call_id) & (t.writes.c.caller == launch.caller) & NOT_REFUSED
    newest = last(tx, mine) or launch
    return _ends(newest) and launch.settled_at is not None and launch.settled_at <= newest.sent_at


def _ends(write: Entry) -> bool:
    """Whether the backend answered that nobody is called any more; a cancel that it took may have changed nothing."""
    if write.state is not WriteState.DONE:
        return False
    return write.operation is Operation.DELETE or (write.operation is Operation.CANCEL and write.status in _RESTS)


def numbers_of(tx: sa.Connection, write_id: int) -> set[bytes]:
    """Whom a launch may dial, hashed."""
    return numbers_of_each(tx, [write_id])[write_id]


def numbers_of_each(tx: sa.Connection, write_ids: Collection[int]) -> dict[int, set[bytes]]:
    """The same of several launches."""
    query = sa.select(t.dialled.c.write_id, t.dialled.c.number_hash).where(t.dialled.c.write_id.in_(write_ids))
    numbers: dict[int, set[bytes]] = {write_id: set() for write_id in write_ids}
    for write_id, digest in tx.execute(query):
        numbers[write_id].add(bytes(digest))
    return numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    """Of a launch that is counted together with those of its day: people of its own batch call count once."""

    backend: str = ""
    batch_call_id: str | None = None
    write_id: int | None = None
    numbers: Callable[[], Collection[bytes]] = tuple
    """Hashed. Asked for only where its batch call was launched before on that day: 100,000 take a while."""
    calls_again: bool = False
    """A retry calls people again, so those whom its batch call has called count too."""


class _Launch(NamedTuple):
    """What a launch counts for on its day."""

    write_id: int
    calls: int
    max_dials: int
    dial_cost: int | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class _Day:
    """The launches of a day: those that call people again, those of each other batch call, and those of one's own."""

    again: Sequence[_Launch]
    others: Sequence[Sequence[_Launch]]
    own: Sequence[_Launch]


def _launches_on(tx: sa.Connection, day: datetime, *, simulated: bool, mine: Mine) -> _Day:
    midnight = day.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    of_day = (t.writes.c.starts_at >= to_ms(midnight)) & (t.writes.c.starts_at < to_ms(midnight + _DAY))
    names = ("backend", "batch_call_id", "operation", *_Launch._fields)
    columns = (getattr(t.writes.c, name) for name in names)
    launches = sa.select(*columns).where(of_day, NOT_REFUSED, t.writes.c.simulated == simulated)
    again: list[_Launch] = []
    groups: dict[tuple[str, str], list[_Launch]] = {}
    for backend, batch_call_id, operation, write_id, calls, max_dials, *cost in tx.execute(
        launches.order_by(t.writes.c.write_id)
    ):
        if write_id == mine.write_id:
            continue
        launch = _Launch(write_id, calls or 0, max(calls or 0, max_dials or 0), *cost)
        if operation == Operation.RETRY:
            again.append(launch)
        else:
            groups.setdefault((backend, batch_call_id or f"entry {write_id}"), []).append(launch)
    own = [] if mine.calls_again else groups.pop((mine.backend, mine.batch_call_id or ""), [])
    return _Day(again, list(groups.values()), own)


def calls_on(tx: sa.Connection, day: datetime, *, simulated: bool, mine: Mine) -> int:
    """People whom launches may call that start on a UTC day, by all callers; those that are `mine` are not counted.

    The people of one batch call count once, however often it is launched; others in their place count too.
    """
    found = _launches_on(tx, day, simulated=simulated, mine=mine)
    again = sum(launch.calls for launch in found.again)
    others = sum(_people(tx, group) for group in found.others)
    before = set[bytes]().union(*(numbers_of(tx, launch.write_id) for launch in found.own))
    return again + others + (len(before.difference(mine.numbers())) if before else 0)


def _people(tx: sa.Connection, launches: Sequence[_Launch]) -> int:
    """Different people of launches of one batch call, each with its calls: those of unknown numbers may be others."""
    if len(launches) == 1:
        return launches[0].calls
    known = numbers_of_each(tx, [launch.write_id for launch in launches]).values()
    unknown = (max(launch.calls - len(numbers), 0) for numbers, launch in zip(known, launches, strict=True))
    return len(set[bytes]().union(*known)) + sum(unknown)


_Price: TypeAlias = tuple[int, str] | None
"""Of one dial: millionths and the currency; None: no price was known."""


def spent_on(tx: sa.Connection, day: datetime, *, simulated: bool, mine: Mine) -> Spent:
    """What launches may cost that start on a UTC day: for the people that `calls_on` counts, with all their dials."""
    found = _launches_on(tx, day, simulated=simulated, mine=mine)
    dials = Counter[_Price]()
    for launch in found.again:
        dials[_price(launch)] += launch.max_dials
    for group in found.others:
        dials.update(_dials(tx, group)[0])
    unlike, same = _dials(tx, found.own, mine.numbers() if found.own else ())
    dials.update(unlike)
    return replace(_spent(dials), on_the_same=_spent(same))


def _spent(dials: Counter[_Price]) -> Spent:
    amounts: dict[str, Decimal] = {}
    for price, number in dials.items():
        if price is not None and price[0] * number:
            cost = of_millionths(price[0] * number, price[1])
            amounts[cost.currency] = amounts.get(cost.currency, Decimal(0)) + cost.amount
    return Spent(amounts=amounts, unpriced=dials[None])


def _price(launch: _Launch) -> _Price:
    return None if launch.dial_cost is None or launch.currency is None else (launch.dial_cost, launch.currency)


def _dials(
    tx: sa.Connection, launches: Sequence[_Launch], numbers: Collection[bytes] | None = None
) -> tuple[Counter[_Price], Counter[_Price]]:
    """Dials of launches of one batch call by price: of all others, and of these numbers. A person counts once.

    With `numbers` given, one more launch is judged: a person without a known number counts as one that it calls.
    """
    others, same, unknown = Counter[_Price](), Counter[_Price](), Counter[_Price]()
    if numbers is None and len(launches) == 1:  # as many as it is for, which may be fewer than it names
        others[_price(launches[0])] = launches[0].max_dials
        return others, same
    each: dict[bytes, tuple[_Price, int]] = {}
    query = sa.select(t.dialled.c.number_hash, t.dialled.c.dials)
    for launch in launches:
        price, named = _price(launch), 0
        for digest, dials in tx.execute(query.where(t.dialled.c.write_id == launch.write_id)):
            number = bytes(digest)
            each[number] = _dearer(each.get(number), (price, dials))
            named += dials
        if numbers is None:
            others[price] += max(launch.max_dials - named, 0)
        else:
            unknown[price] = max(unknown[price], launch.max_dials - named)
    for number, (price, dials) in each.items():
        (same if numbers is not None and number in numbers else others)[price] += dials
    return others, same + unknown


def _dearer(before: tuple[_Price, int] | None, newer: tuple[_Price, int]) -> tuple[_Price, int]:
    """Of two launches that may dial the same person; the newer one where their prices cannot be compared."""
    if before is None or (before[0] and before[0][1]) != (newer[0] and newer[0][1]):
        return newer
    return max(newer, before, key=lambda one: (one[0][0] if one[0] else 1) * one[1])


def entry_of(tx: sa.Connection, write_id: int) -> Entry:
    """An entry that is there."""
    return read(tx.execute(sa.select(t.writes).where(t.writes.c.write_id == write_id)).one())


def read(row: sa.Row[Any]) -> Entry:
    """A whole row of `writes`."""
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a row's columns by name
    return Entry(
        **values
        | {
            "operation": Operation(values["operation"]),
            "state": WriteState(values["state"]),
            "evidence": Evidence(**values["evidence"]),
        }
    )
