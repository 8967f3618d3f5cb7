"""`python -m tests.interleavings [--examples N] [--seed S] [--only K] [--database D]`: plays N examples, and tells.

Ends with an error at the first example in which somebody was called whom no question covered, or twice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import anyio

from tests.interleavings.house import DATABASES, Database, Played, opened
from tests.interleavings.scripts import script


def words(played: list[Played]) -> Counter[str]:
    """How the calls of all examples ended."""
    return Counter(f"{call.tool} {word}" for one in played for call in one.calls for word in call.words)


async def run(examples: list[int], seed: int, on: Database) -> list[Played]:
    """One after the other in one house."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder), on) as house:
            for number in examples:
                one = script(number, seed)
                began = time.monotonic()
                played = await house.play(one)
                took = time.monotonic() - began
                sys.stdout.write(f"{number}: {took:.2f} s {len(played.dials)} dials\n")
                found.append(played)
                if played.violations:
                    sys.stdout.write(f"\n{one}\n")
                    for call in sorted(played.calls, key=lambda one: one.began):
                        ended = call.ended.strftime("%S.%f") if call.ended else ""
                        sys.stdout.write(f"{call.began:%S.%f}-{ended} {call.what} {call.batch_call_id} {call.words}\n")
                        for question in call.questions:
                            answered = question.answered.strftime("%S.%f") if question.answered else ""
                            sys.stdout.write(
                                f"    {question.asked:%S.%f}-{answered} {question.said}: {question.text}\n"
                            )
                        for result in call.results:
                            sys.stdout.write(f"    {result.get('text') or result.get('summary')}\n")
                    for dial in played.dials:
                        sys.stdout.write(f"  dial {dial}\n")
                    sys.stdout.write("\n".join(played.violations) + "\n")
                    raise SystemExit(1)
    return found


def main() -> None:
    """Print how the calls ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.interleavings", description=__doc__)
    parser.add_argument("--examples", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    given = parser.parse_args()
    examples = list(range(given.first, given.first + given.examples))
    played = anyio.run(run, examples, given.seed, given.database)
    sys.stdout.write("\n".join(f"{count:6} {word}" for word, count in sorted(words(played).items())) + "\n")


if __name__ == "__main__":
    main()
