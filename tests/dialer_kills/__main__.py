"""`python -m tests.dialer_kills [--wire] [--points N] [--seed S]`: kills dialling processes at N points, and tells.

With `--wire` they dial over a wire, and the vendor at its end is the judge.

Ends with an error at the first point where somebody was dialled twice, lost, or counted wrongly.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import anyio

from tests.dialer_kills import by_wire
from tests.dialer_kills.harness import zygote
from tests.dialer_kills.judging import DATABASES, EVERYWHERE, Judge, Verdict, points
from tests.dialer_kills.test_dialer_kills import POINTS, SEED


async def judged(count: int, seed: int) -> list[Verdict]:
    """One verdict a point."""
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        async with zygote() as process:
            judge = Judge(process, Path(folder))
            for number, point in enumerate(points(count, seed)):
                try:
                    verdicts.append(await judge.judge(point))
                except BaseException:
                    sys.stderr.write(f"\n{point}\n")
                    raise
                sys.stderr.write(f"\r{number + 1} of {count}")
    sys.stderr.write("\n")
    return verdicts


async def judged_by_wire(count: int, seed: int) -> list[by_wire.Verdict]:
    """The same over a wire."""
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        async with zygote() as process:
            judge = by_wire.WireJudge(Judge(process, Path(folder)))
            for number, point in enumerate(by_wire.points(count, seed)):
                try:
                    verdicts.append(await judge.judge(point))
                except BaseException:
                    sys.stderr.write(f"\n{point}\n")
                    raise
                sys.stderr.write(f"\r{number + 1} of {count}")
    sys.stderr.write("\n")
    return verdicts


def row(name: str, verdicts: list[Verdict]) -> str:
    """A line of the table."""
    died = sum(one.killed for one in verdicts)
    calls, interrupted = sum(one.dialled for one in verdicts), sum(one.interrupted for one in verdicts)
    return f"| {name} | {len(verdicts)} | {died} | {calls} | {interrupted} | 0 | 0 |"


def table(verdicts: list[Verdict]) -> list[str]:
    """A row for each database and place."""
    lines = [
        "| database, and where it died | points | died | calls dialled | interrupted | dialled twice | lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for database in DATABASES:
        for place in EVERYWHERE:
            mine = [one for one in verdicts if (one.point.database, one.point.place) == (database, place)]
            if mine:
                lines.append(row(f"{database}, {place}", mine))
    return [*lines, row("all", verdicts)]


def row_by_wire(name: str, verdicts: list[by_wire.Verdict]) -> str:
    """A line of the table."""
    died = sum(one.killed for one in verdicts)
    told = [(one.rung, one.open, one.recovered, one.interrupted) for one in verdicts]
    rung, left, recovered, interrupted = (sum(figures) for figures in zip(*told, strict=True))
    return f"| {name} | {len(verdicts)} | {died} | {rung} | {left} | {recovered} | {interrupted} | 0 | 0 |"


def table_by_wire(verdicts: list[by_wire.Verdict]) -> list[str]:
    """A row for each database and place."""
    head = (
        "| database, and where it died | points | died | calls rung | open at a death | read on, or rung later | "
        "interrupted | rung twice | lost |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for database in DATABASES:
        for place in by_wire.EVERYWHERE:
            mine = [one for one in verdicts if (one.point.database, one.point.place) == (database, place)]
            if mine:
                lines.append(row_by_wire(f"{database}, {place}", mine))
    return [*lines, row_by_wire("all", verdicts)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.dialer_kills", description=__doc__)
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--wire", action="store_true")
    given = parser.parse_args()
    if given.wire:
        lines = table_by_wire(anyio.run(judged_by_wire, given.points, given.seed))
    else:
        lines = table(anyio.run(judged, given.points, given.seed))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
