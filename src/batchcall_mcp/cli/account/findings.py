"""What `doctor` says: one line for each finding, with the cure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

_CLOCK_OFF: Final = timedelta(seconds=30)
"""More than a slow answer and a date in whole seconds can make."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `look`: it works, and may not be what is meant; `wrong`: calls would fail."""

    word: Literal["ok", "look", "wrong"]
    about: str
    said: str

    def __str__(self) -> str:
        return f"{self.word:<6}{self.about}: {self.said}"


def listed_findings(
    numbers: Sequence[object] | None, agents: Sequence[object] | None, unlisted: str
) -> Iterator[Finding]:
    """How many caller numbers and agents there are; `unlisted`: why it is not known."""
    for about, found, none in (
        ("numbers", numbers, "Buy or import a caller number at the backend."),
        ("agents", agents, "Make an agent at the backend."),
    ):
        if found is None:
            yield Finding("look", about, unlisted)
        elif not found:
            yield Finding("wrong", about, f"there are none. {none}")
        else:
            yield Finding("ok", about, f"{len(found)}")


def clock_finding(off: Sequence[timedelta], whose: str) -> Finding:
    """This machine's clock next to another one: how far ahead it is, by each answer that had a date."""
    if not off:
        return Finding("look", "clock", f"{whose} does not say what time it is.")
    least = min(off, key=abs)
    if abs(least) <= _CLOCK_OFF:
        return Finding("ok", "clock", f"as {whose}'s, to some seconds.")
    seconds, side = abs(round(least.total_seconds())), "ahead of" if least > timedelta() else "behind"
    return Finding(
        "wrong",
        "clock",
        f"this machine is {seconds} s {side} {whose}: calls begin at another time than was confirmed. Set its "
        "clock by a time server (NTP).",
    )
