"""What a process and all that it started hold and have computed, read from /proc (Linux)."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def status(pid: int, field: str) -> float:
    """A line of /proc/<pid>/status in MiB: VmHWM is the highest resident memory so far, VmRSS the one now."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on: the name before it may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()


def cpu(pid: int) -> float:
    """CPU seconds of a process so far, in user mode and for it in the kernel; 0 if it has ended."""
    try:
        return sum(map(int, stat(pid)[11:13])) / TICKS
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def members(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for one in found:
        for thread in Path(f"/proc/{one}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text(encoding="ascii").split()]
    return found


def resident(pid: int) -> float:
    """MiB that a process and its descendants hold now."""
    return sum(status(one, "VmRSS") for one in members(pid))


def cpu_of_all(pid: int) -> float:
    """CPU seconds so far of a process and its descendants, those that have ended among them."""
    return sum(sum(map(int, stat(one)[11:15])) / TICKS for one in members(pid))
