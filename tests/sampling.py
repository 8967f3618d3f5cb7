"""The seeded sample of points at which `make test` kills processes; `make torture` tries all of them."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

SEED = int(os.environ.get("KILLS_SEED", "20261127"))
"""The same sample each time, unless the environment names another seed."""

_T = TypeVar("_T")


def sample(points: Sequence[_T], of_each: int, kind: Callable[[_T], Hashable]) -> list[_T]:
    """Some points of each kind, in their order."""
    by_kind: defaultdict[Hashable, list[_T]] = defaultdict(list)
    for point in points:
        by_kind[kind(point)].append(point)
    chance = random.Random(SEED)
    return [point for alike in by_kind.values() for point in chance.sample(alike, min(of_each, len(alike)))]
