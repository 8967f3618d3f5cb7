"""The order of a run in several workers: what takes long comes first, and not the same kind in all workers at once.

pytest-xdist gives each worker an equal stretch of the tests, and one that has nothing left takes from the end of
another one's. A test of a minute that begins last is a minute in which one core works; so each stretch ends with tests
that take no time. The tests of a file stay together: they share what they begin with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain, groupby
from pathlib import Path

import pytest

LONGEST_FIRST = ("kills", "foreign", "process", "long")


def dealt(items: Sequence[pytest.Item], workers: int, tier: Callable[[pytest.Item], str]) -> list[pytest.Item]:
    """The tests in the order in which so many workers get them, each an equal stretch of it."""
    stretches: list[list[pytest.Item]] = []
    by_tier: defaultdict[str, dict[Path, list[pytest.Item]]] = defaultdict(dict)
    for path, together in groupby(items, lambda item: item.path):
        for item in together:
            by_tier[tier(item)].setdefault(path, []).append(item)
    short = list(chain.from_iterable(by_tier.pop("fast", {}).values()))
    size = len(items) // workers
    for number in range(workers):
        turned = [*LONGEST_FIRST[number % 4 :], *LONGEST_FIRST[: number % 4]]
        files = chain.from_iterable(list(by_tier[one].values())[number::workers] for one in turned)
        long = list(chain.from_iterable(files))
        room = max(0, size - len(long))
        stretches.append([*long, *short[:room]])
        del short[:room]
    return [*chain.from_iterable(stretches), *short]
