"""`python -m tests.kills [--points N] [--seed S]`: kills at N random points and tells what was seen, as a table.

Ends with an error at the first point where something was done twice, lost without a word, or claimed and not done.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import anyio

from tests.kills.harness import zygote
from tests.kills.judging import Judge, Verdict, points
from tests.kills.scenes import SCENES
from tests.kills.test_kills import POINTS, SEED


async def judged(count: int, seed: int) -> list[Verdict]:
    """One verdict a point."""
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        async with zygote() as process:
            judge = Judge(process)
            for number, point in enumerate(points(count, seed)):
                verdicts.append(await judge.judge(point, Path(folder) / str(number)))
                sys.stderr.write(f"\r{number + 1} of {count}")
    sys.stderr.write("\n")
    return verdicts


def table(verdicts: list[Verdict]) -> list[str]:
    """A row a scene."""
    lines = [
        "| backend and call | points | died | the same call again answered | settled by a person as not made |",
        "|---|---|---|---|---|",
    ]
    for scene in SCENES:
        mine = [one for one in verdicts if one.point.scene == scene]
        told = ", ".join(f"{words} {number}" for words, number in Counter(one.second for one in mine).most_common())
        died, resolved = sum(one.killed for one in mine), sum(one.resolved for one in mine)
        lines.append(f"| {scene} | {len(mine)} | {died} | {told} | {resolved} |")
    died, resolved = sum(one.killed for one in verdicts), sum(one.resolved for one in verdicts)
    lines.append(f"| all | {len(verdicts)} | {died} | done twice 0, lost without a word 0 | {resolved} |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    sys.stdout.write("\n".join(table(anyio.run(judged, given.points, given.seed))) + "\n")


if __name__ == "__main__":
    main()
