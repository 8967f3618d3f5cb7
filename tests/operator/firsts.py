"""What a command of a test does before anything else, as `FORKED_FIRST` in `tests.forked`. Imports nothing of tests."""

from __future__ import annotations

import os
import resource
from typing import Any

from batchcall_mcp.guard.ledger.database import LedgerDatabase

IMPATIENT = {"FORKED_FIRST": f"{__name__}:waits_a_moment_for_a_ledger"}
DISK_FULL_FOR_PEOPLE = {"FORKED_FIRST": f"{__name__}:has_no_disk_for_the_list_of_people"}


def waits_a_moment_for_a_ledger() -> None:
    """Where nothing else is said: half a minute otherwise, and it is the same refusal after it."""
    writing: Any = LedgerDatabase.writing
    (longest,) = writing.__wrapped__.__defaults__
    assert longest > 1
    writing.__wrapped__.__defaults__ = (0.1,)


def has_no_disk_for_the_list_of_people() -> None:
    """The ledger fits; the list of people does not."""
    opens = os.open

    def opening(path: Any, *more: Any) -> int:
        if "stopped-" in str(path):
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))
        return opens(path, *more)

    os.open = opening  # type: ignore[assignment]
