"""What a database knows of those who dial from it: their carriers, whether they ask a gate, where a file last dialled.

A copy of a file would call the same people, so it has to notice that it is one. A copy has another inode, a file that
was moved another path, a back-up in its old place another inode again: if either differs, nothing is dialled until a
person accepts the place (`batchcall-mcp dialer adopt`). The device is not compared: its number changes when a machine
starts again, or a volume is mounted again. A back-up that is written into the file itself has neither; `ran_file` is
what notices that one, and it then counts as a file that nobody has accepted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from batchcall_mcp.database import insert_of
from batchcall_mcp.dialer.storage.halts import Halt
from batchcall_mcp.dialer.storage.tables import batch_calls, carriers, installation
from batchcall_mcp.held_files import HeldFile

LOG = logging.getLogger(__name__)
_NOT_ACCEPTED: Final = ""
"""In place of the inode: an older database was found here."""
_MOVED: Final = Halt(
    "database_moved",
    "The dialer's database was copied, moved or restored since it last dialled: nothing is dialled or launched.",
    "If no other dialer uses the original, accept the new place with `batchcall-mcp dialer adopt`.",
)


class Location(NamedTuple):
    """A file as the table names it: its path without symbolic links, and its inode."""

    path: str
    inode: str

    @classmethod
    def of(cls, file: HeldFile) -> Location:
        return cls(os.path.realpath(file.path), str(file.inode))

    @property
    def is_taken(self) -> bool:
        """Whether this very file is there."""
        try:
            return str(Path(self.path).stat().st_ino) == self.inode
        except OSError:
            return False


def last(tx: sa.Connection) -> Location | None:
    """Where the database last dialled; None if it never did."""
    row = tx.execute(sa.select(installation.c.path, installation.c.inode)).one_or_none()
    return None if row is None or row.path is None else Location(row.path, row.inode)


def halt(tx: sa.Connection, file: HeldFile) -> Halt | None:
    """Whether the database dialled elsewhere before it came to be this file."""
    before = last(tx)
    return None if before in {None, Location.of(file)} else _MOVED


def is_gated(tx: sa.Connection) -> bool:
    """Whether a gate is asked before each dial from this database."""
    return bool(tx.scalar(sa.select(installation.c.gated)))


def set_gated(tx: sa.Connection, *, gated: bool) -> bool:
    """From now on only those dial who ask a gate, or also others; whether that is a change."""
    changed = is_gated(tx) != gated
    if changed:
        write(tx, gated=gated)
    return changed


def is_older(tx: sa.Connection, file: HeldFile) -> bool:
    """Whether an engine ran here later than the database knows of: an older one was put in its place.

    To be asked before anything dials or adopts it: an engine that runs writes one after the other. A new
    database, in the place of one that was deleted, is not an older one.
    """
    ran_at = last_ran(file)
    row = tx.execute(sa.select(installation.c.engine_ran_at, installation.c.path)).one_or_none()
    knows = None if row is None else row.engine_ran_at
    if ran_at is None or (knows is not None and ran_at <= knows):
        return False
    never = row is None or row.path is None
    return not never or tx.execute(sa.select(batch_calls.c.batch_call_id).limit(1)).first() is not None


def take_up(tx: sa.Connection, file: HeldFile) -> None:
    """Before an engine dials: settle where the database never did, and accept no older one in its place."""
    before, here = last(tx), Location.of(file)
    if before in {None, here} and is_older(tx, file):
        write(tx, **here._replace(inode=_NOT_ACCEPTED)._asdict())
    elif before is None:
        settle(tx, file)


def settle(tx: sa.Connection, file: HeldFile) -> None:
    """From now on this is where the database dials, as it is now."""
    write(tx, **Location.of(file)._asdict())
    ran_at = last_ran(file)
    if ran_at is not None:
        # What the file knows is taken over: it could not be changed in the moment in which this takes effect.
        later = installation.c.engine_ran_at.is_(None) | (installation.c.engine_ran_at < ran_at)
        tx.execute(installation.update().where(later).values(engine_ran_at=ran_at))


def write(tx: sa.Connection, **values: Any) -> None:
    """Change these columns of the one row that there is, or make it."""
    _put(tx, installation.c.one, 1, values)


def of_carrier(tx: sa.Connection, carrier: str) -> sa.Row[Any] | None:
    """The row of a carrier, held until the transaction ends. To be asked for after the batch calls are held."""
    return tx.execute(sa.select(carriers).where(carriers.c.carrier == carrier).with_for_update()).one_or_none()


def write_carrier(tx: sa.Connection, carrier: str, **values: Any) -> None:
    """Change these columns of a carrier's row, or make it."""
    _put(tx, carriers.c.carrier, carrier, values)


def _put(tx: sa.Connection, key: sa.Column[Any], value: Any, values: Mapping[str, Any]) -> None:
    row = insert_of(tx)(key.table).values({key.name: value, **values})
    tx.execute(row.on_conflict_do_update(index_elements=[key], set_=values))


def ran_file(file: HeldFile) -> Path:
    """The file next to a database that says when an engine last ran on it: an older database that is put in its place,
    with `cp backup.db dialer.db` for example, keeps path and inode, and is recognised by this file.

    It is written after the database says the same. So it is never newer than the database that it belongs to, and older
    only after a crash between the two. A link to the database is the same database.
    """
    return Path(f"{os.path.realpath(file.path)}.ran")


def last_ran(file: HeldFile) -> int | None:
    """When an engine last ran, in milliseconds; None: that is not known."""
    try:
        return int(ran_file(file).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def note_ran(file: HeldFile, at: int) -> None:
    """Replace it, whole or not at all. One that cannot be replaced is removed: it must not fall behind the database."""
    place = ran_file(file)
    new = place.with_name(f"{place.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as lines:
            lines.write(str(at))
            lines.flush()
            os.fsync(lines.fileno())
        new.replace(place)
    except OSError as error:
        LOG.warning("%s cannot be written (%s): a restored back-up may not be noticed", place, error.strerror)
        for left in (new, place):
            _remove(left)


def _remove(place: Path) -> None:
    try:
        place.unlink(missing_ok=True)
    except OSError:  # the folder cannot be written at all; nor can the database
        LOG.debug("%s cannot be removed", place)
