"""Why nothing may be dialled from a database: the file was replaced, copied or moved, or is of another version.

Looked at in the transactions that claim, place and launch, because all of it can happen while a dialer runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from batchcall_mcp.errors import IllegalTransition
from batchcall_mcp.held_files import HeldFile

HaltCode: TypeAlias = Literal["files_replaced", "database_moved", "database_version", "gate_missing"]


@dataclass(frozen=True, slots=True)
class Halt:
    """Why, for programs and for people, and what to do. `/readyz` shows it to anyone: it holds no path."""

    code: HaltCode
    why: str
    step: str
    of_process: bool = False
    """It is this process that may not dial; another one on the same database may."""

    def __str__(self) -> str:
        return f"{self.why} {self.step}"


class DialerHalted(IllegalTransition):
    """Nothing may be launched from this database, by this process."""

    code = "dialer_halted"

    def __init__(self, halt: Halt) -> None:
        super().__init__(f"{halt.why} Nothing was changed. {halt.step}")


_VERSION: Final = Halt(
    "database_version",
    "The database's tables are not of this version: nothing is dialled or launched.",
    "Restart this process on the newest version.",
    of_process=True,
)
_GATE: Final = Halt(
    "gate_missing",
    "Each call from this database is asked about at a gate before it is dialled, and this process has no gate: it "
    "dials and launches nothing.",
    "Set BATCHCALL_PREDIAL_URL and BATCHCALL_PREDIAL_SECRET here as in the other processes, and restart this one. To "
    "dial without the gate from now on, run `batchcall-mcp dialer remove-gate`.",
    of_process=True,
)


def of_files(files: Iterable[HeldFile]) -> Halt | None:
    """The first of the files that is no longer the one that was opened."""
    for file in files:
        if not file.is_in_place:
            gone = f"{file.path.name} was deleted, moved or replaced while the dialer ran"
            step = "Restart the dialer, or the MCP client that it runs in."
            return Halt("files_replaced", f"{gone}: nothing is dialled or launched.", step)
    return None


def of_version(recorded: str | None, head: str) -> Halt | None:
    """Whether another version of the program has migrated the tables."""
    return None if recorded == head else _VERSION


def of_gate(*, gated: bool, asks: bool) -> Halt | None:
    """Whether the gate that the database is dialled with is one that this process does not ask."""
    return _GATE if gated and not asks else None
