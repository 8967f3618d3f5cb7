"""Where a SQLite database last dialled, so that a copy of it notices that it is one: it would call the same people.

A copy has another inode, a file that was moved another path, a back-up in its old place another inode again: if either
differs, nothing is dialled until a person accepts the place (`batchcall-mcp dialer adopt`). The device is not compared:
its number changes when a machine starts again, or a volume is mounted again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

import sqlalchemy as sa

from batchcall_mcp.dialer.halts import Halt
from batchcall_mcp.dialer.tables import installation
from batchcall_mcp.held_files import HeldFile

_MOVED: Final = Halt(
    "database_moved",
    "The dialer's database was copied, moved or restored since it last dialled: nothing is dialled or launched.",
    "If no other dialer uses the original, accept the new place with `batchcall-mcp dialer adopt`.",
)


class Place(NamedTuple):
    """A file as the table names it: its path without symbolic links, and its inode."""

    path: str
    inode: str

    @classmethod
    def of(cls, file: HeldFile) -> Place:
        return cls(os.path.realpath(file.path), str(file.inode))

    @property
    def is_taken(self) -> bool:
        """Whether this very file is there."""
        try:
            return str(Path(self.path).stat().st_ino) == self.inode
        except OSError:
            return False


def last(tx: sa.Connection) -> Place | None:
    """Where the database last dialled; None if it never did."""
    row = tx.execute(sa.select(installation.c.path, installation.c.inode)).one_or_none()
    return None if row is None or row.path is None else Place(row.path, row.inode)


def halt(tx: sa.Connection, file: HeldFile) -> Halt | None:
    """Whether the database dialled elsewhere before it came to be this file."""
    before = last(tx)
    return None if before in {None, Place.of(file)} else _MOVED


def settle(tx: sa.Connection, file: HeldFile) -> None:
    """From now on this is where the database dials."""
    values = Place.of(file)._asdict()
    if not tx.execute(installation.update().values(values)).rowcount:
        tx.execute(installation.insert().values(one=1, **values))
