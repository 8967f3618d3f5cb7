"""One promise of the contract: its name, for which backends it holds, and how it is tried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.testing.scene import Scene

Applies: TypeAlias = Callable[[Capabilities], bool]
Run: TypeAlias = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Check:
    """`applies`: by its capabilities, whether a backend promises this."""

    name: str
    run: Run
    applies: Applies


def always(_can: Capabilities) -> bool:
    """Of every backend."""
    return True


def offers(*operations: Operation) -> Applies:
    """Of those that can do all of these."""
    return lambda can: can.operations.issuperset(operations)


def reports_tasks(can: Capabilities) -> bool:
    """Of those whose tasks can be read."""
    return can.tasks_reported != "none" and Operation.GET in can.operations
