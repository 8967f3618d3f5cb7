"""Why nothing may be dialled from a database: the file was replaced, copied or moved, or is of another version.

Looked at in the transactions that claim, place and launch, because all of it can happen while a dialer runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import sqlalchemy as sa

from batchcall_mcp.dialer.tables import installation
from batchcall_mcp.errors import IllegalTransition
from batchcall_mcp.held_files import HeldFile

HaltCode: TypeAlias = Literal["files_replaced", "database_moved", "database_version"]


@dataclass(frozen=True, slots=True)
class Halt:
    """Why, for programs and for people, and what to do. `/readyz` shows it to anyone: it holds no path."""

    code: HaltCode
    why: str
    step: str

    def __str__(self) -> str:
        return f"{self.why} {self.step}"


class DialerHalted(IllegalTransition):
    """Nothing may be launched from this database, by this process."""

    code = "dialer_halted"

    def __init__(self, halt: Halt) -> None:
        super().__init__(f"{halt.why} Nothing was changed. {halt.step}")


_MOVED: Final = Halt(
    "database_moved",
    "The dialer's database was copied or moved since it last dialled: nothing is dialled or launched.",
    "If no other dialer uses the original, accept the new place with `batchcall-mcp dialer adopt`.",
)
_VERSION: Final = Halt(
    "database_version",
    "The database's tables are not of this version: nothing is dialled or launched.",
    "Restart this process on the newest version.",
)


def of_files(files: Iterable[HeldFile]) -> Halt | None:
    """The first of the files that is no longer the one that was opened."""
    for file in files:
        if not file.is_in_place:
            gone = f"{file.path.name} was deleted, moved or replaced while the dialer ran"
            step = "Restart the dialer, or the MCP client that it runs in."
            return Halt("files_replaced", f"{gone}: nothing is dialled or launched.", step)
    return None


def of_version(tx: sa.Connection, versions: str, head: str) -> Halt | None:
    """Whether another version of the program has migrated the tables."""
    found = tx.scalar(sa.select(sa.column("version_num")).select_from(sa.table(versions)))
    return None if found == head else _VERSION


def of_place(tx: sa.Connection, file: HeldFile) -> Halt | None:
    """Whether the database last dialled under another path, or as another file: then this one may be a copy.

    The device is not compared: its number changes when a machine starts again, or a volume is mounted again.
    """
    known = tx.execute(sa.select(installation.c.path, installation.c.inode)).one_or_none()
    if known is None or known.path is None:
        return None
    return None if (known.path, known.inode) == place_of(file) else _MOVED


def place_of(file: HeldFile) -> tuple[str, str]:
    """The path, without symbolic links, and the inode, as the table holds them."""
    return os.path.realpath(file.path), str(file.inode)
