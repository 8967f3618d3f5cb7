"""Who may not be called, kept in the database, where every attempt is checked against it.

The operator's files hold for everybody, and so does who was forgotten. What came over the API, or what a carrier
reported, holds for one organisation, and stays when a file is read again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import SIMULATED
from batchcall_mcp.dialer.storage.store import CHUNK, INSERTED_AT_ONCE, Store, chunks
from batchcall_mcp.dialer.storage.tables import do_not_call
from batchcall_mcp.errors import BatchCallError, IllegalTransition, NotFound
from batchcall_mcp.recipients.do_not_call import read_do_not_call
from batchcall_mcp.recipients.phone.numbers import as_dialled
from batchcall_mcp.recipients.phone.spellings import is_forgotten

LOG = logging.getLogger(__name__)
Source: TypeAlias = Literal["api", "carrier", "simulator"]
"""Where an organisation's own rows come from. What the simulator reports, nobody has said."""
_State: TypeAlias = tuple[int, int, int, int] | None
TRIED_AGAIN_AFTER: Final = timedelta(seconds=10)
"""Before a file that could not be read is tried again, although it looks the same."""
_SIMULATOR: Final[Source] = "simulator"
_LOCK: Final = 0x62617463685F646E
_OF_EVERYBODY: Final = do_not_call.c.organization_id.is_(None)
_FORGOTTEN: Final = "forgotten"
"""The source of those whom `forget` put here: no file brings them, and none takes them away."""
_OF_FILES: Final = _OF_EVERYBODY & (do_not_call.c.source != _FORGOTTEN)


class NotRemovable(IllegalTransition):
    """A person's own opt-out is not removed over the API."""

    code = "opted_out"


def share(tx: sa.Connection) -> None:
    """Let nobody join the list until this transaction ends. To be asked for before any batch call is locked.

    Who dials does so: when somebody has joined, the last dial that did not know of it is over. SQLite needs no such
    lock, because it has one writer at a time.
    """
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_LOCK)))


def hold(tx: sa.Connection) -> None:
    """Wait until nobody dials, and hold dials off until this transaction ends. Before any batch call is locked."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def listed(tx: sa.Connection, numbers: Iterable[str], organization_id: str, carrier: str) -> set[str]:
    """Those of these numbers that this organisation may not call through this carrier, however they are written.

    What stands in the place of a forgotten number is always one of them.
    """
    spellings = {number: _spellings(number) for number in numbers}
    found = {number for number in spellings if is_forgotten(number)}
    own = do_not_call.c.organization_id == organization_id
    if carrier != SIMULATED:
        own &= do_not_call.c.source != _SIMULATOR
    whose = _OF_EVERYBODY | own
    for chunk in chunks(set().union(*spellings.values()), CHUNK):
        query = sa.select(do_not_call.c.to_number).where(do_not_call.c.to_number.in_(chunk), whose)
        found.update(tx.execute(query).scalars())
    return {number for number, spelt in spellings.items() if not spelt.isdisjoint(found)}


def add(
    tx: sa.Connection, organization_id: str, source: Source, numbers: Mapping[str, str | None], now: int
) -> tuple[int, int]:
    """Let these numbers, each with a reason, not be called by this organisation. The caller has `hold`.

    Returns:
        How many of them are new, and how many were there already from the same source: those keep their reason.
    """
    mine = (do_not_call.c.organization_id == organization_id) & (do_not_call.c.source == source)
    # As they were written too, so that they are found again like that.
    written = {spelling: number for number in numbers for spelling in _spellings(number)}
    written |= {number: number for number in numbers}
    new: set[str] = set()
    for chunk in chunks(written, CHUNK):
        there = sa.select(do_not_call.c.to_number).where(mine, do_not_call.c.to_number.in_(chunk))
        left = set(chunk) - set(tx.execute(there).scalars())
        new |= {written[one] for one in left}
        _insert(tx, [_row(one, organization_id, source, numbers[written[one]], now) for one in sorted(left)])
    return len(new), len(numbers) - len(new)


def opt_out(tx: sa.Connection, organization_id: str, carrier: str, number: str, reason: str, now: int) -> None:
    """Let a number not be called by this organisation, as the carrier reported. The caller has `hold`."""
    add(tx, organization_id, _SIMULATOR if carrier == SIMULATED else "carrier", {number: reason}, now)


def remove(tx: sa.Connection, organization_id: str, number: str) -> None:
    """Let the organisation call a number again that it had added itself. The caller has `hold`.

    Raises:
        NotRemovable: the person opted out: the carrier reported it.
        NotFound: the organisation has not added it.
    """
    of_it = (do_not_call.c.organization_id == organization_id) & do_not_call.c.to_number.in_(_spellings(number))
    sources = set(tx.execute(sa.select(do_not_call.c.source).where(of_it)).scalars())
    if "carrier" in sources:
        raise NotRemovable(
            "The carrier reported that this person opted out; such a number is not removed over the API. "
            "Nothing was changed."
        )
    if not sources:
        raise NotFound("The number is not on this organization's own do-not-call list. Nothing was changed.")
    tx.execute(do_not_call.delete().where(of_it))


def forget(tx: sa.Connection, number: str, spelt: Callable[[str], bool], now: int) -> bool:
    """Let nobody call a number ever, and keep nothing but the number: no other spelling, and no reason that somebody
    wrote. The caller has `hold`.

    `number` is in E.164, and `spelt` says whether a row's number is the same. Gives whether it was not there yet for
    everybody.
    """
    alike = do_not_call.c.to_number.endswith(number[-4:], autoescape=True)
    rows = [row for row in tx.execute(sa.select(do_not_call).where(alike)) if spelt(row.to_number)]
    others = [row.entry_id for row in rows if row.to_number != number]
    plain = {(row.organization_id, row.source) for row in rows if row.to_number == number}
    for row in rows:
        if row.to_number != number and (row.organization_id, row.source) not in plain:
            plain.add((row.organization_id, row.source))
            _insert(tx, [_row(number, row.organization_id, row.source, None, row.added_at)])
    tx.execute(do_not_call.delete().where(do_not_call.c.entry_id.in_(others)))
    written = do_not_call.c.reason.is_not(None) & (do_not_call.c.source == "api")
    tx.execute(do_not_call.update().where(do_not_call.c.to_number == number, written).values(reason=None))
    is_new = (None, _FORGOTTEN) not in plain
    if is_new:
        _insert(tx, [_row(number, None, _FORGOTTEN, None, now)])
    return is_new


def page(tx: sa.Connection, organization_id: str, page: int, limit: int) -> tuple[Sequence[sa.RowMapping], int]:
    """A page of an organisation's own rows, in the order in which they were added, and how many there are in all."""
    mine = do_not_call.c.organization_id == organization_id
    total = tx.execute(sa.select(sa.func.count()).select_from(do_not_call).where(mine)).scalar_one()
    columns = do_not_call.c["to_number", "source", "reason", "added_at"]
    rows = sa.select(*columns).where(mine).order_by(do_not_call.c.entry_id).offset(page * limit).limit(limit)
    return tx.execute(rows).mappings().all(), total


def _spellings(number: str) -> set[str]:
    """The number as it is written, and as it is dialled."""
    return {number, as_dialled(number)}


def _row(number: str, organization_id: str | None, source: str, reason: str | None, now: int) -> dict[str, Any]:
    return {
        "to_number": number,
        "organization_id": organization_id,
        "source": source,
        "reason": reason,
        "added_at": now,
    }


def _insert(tx: sa.Connection, rows: Iterable[dict[str, Any]]) -> None:
    for chunk in chunks(rows, INSERTED_AT_ONCE):
        tx.execute(do_not_call.insert(), chunk)


class DoNotCallFiles:
    """The operator's files; each is read again when it changes.

    Without a path the stored list stays: several processes share a database, and one that was started without the
    setting must not take the list from the others. An empty file empties its part.
    """

    def __init__(self, paths: Sequence[Path] = (), default_region: str | None = None) -> None:
        self._default_region = default_region
        self._paths = tuple(dict.fromkeys(paths))
        self._seen: dict[Path, _State] = {}
        self._failed: dict[Path, tuple[_State, datetime, str]] = {}

    def load(self, to: Store) -> None:
        """Make the files' numbers part of the stored list, as one change. What came from other files stays.

        Raises:
            BatchCallError: one of them cannot be read; the stored list stays as it was.
        """
        if self._paths:
            self._load(to, self._paths)

    def forget_others(self, to: Store) -> None:
        """Remove what came from files that are not named any more: for the process that dials, by whose files."""
        if self._paths:
            with to.writing() as tx:
                self._lock(tx, to)
                mine = [_source(path) for path in self._paths]
                tx.execute(do_not_call.delete().where(_OF_FILES, do_not_call.c.source.not_in(mine)))

    def refresh(self, to: Store) -> None:
        """Load those again that changed; while one cannot be read, its last numbers go on to hold."""
        for path in self._paths:
            seen, now = _state(path), to.clock()
            failed, at, text = self._failed.get(path, (None, now, None))
            if path in self._seen and seen == self._seen[path]:
                continue
            if text is not None and failed == seen and abs(now - at) < TRIED_AGAIN_AFTER:
                continue
            try:
                self._load(to, [path])
            except BatchCallError as error:
                if str(error) != text:
                    LOG.warning("A do-not-call file cannot be read, its last list holds: %s", error)
                self._failed[path] = seen, now, str(error)

    def _load(self, to: Store, paths: Collection[Path]) -> None:
        seen = {path: _state(path) for path in paths}
        found = {path: read_do_not_call(path, self._default_region) for path in paths}
        for one in found.values():
            for note in one.notes():
                LOG.warning(note)
        with to.writing() as tx:
            self._lock(tx, to)
            tx.execute(
                do_not_call.delete().where(_OF_FILES, do_not_call.c.source.in_([_source(path) for path in paths]))
            )
            for path, read in found.items():
                now = to.now()
                _insert(tx, (_row(number, None, _source(path), None, now) for number in sorted(read.numbers)))
        self._seen |= seen
        for path in paths:
            self._failed.pop(path, None)

    @staticmethod
    def _lock(tx: sa.Connection, to: Store) -> None:
        if to.shared:
            # Two processes may load them at once; readers go on with the list as it was.
            tx.execute(sa.text("LOCK TABLE do_not_call IN SHARE ROW EXCLUSIVE MODE"))


def _source(path: Path) -> str:
    return f"file:{path}"


def _state(path: Path) -> _State:
    """What differs when a file was changed, or another one took its place, which may bring its time along."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
