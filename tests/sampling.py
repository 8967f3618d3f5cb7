"""The seeded samples of `make test`: of kills, of combinations, of databases, and of the cases of a sweep.

`make torture` tries it all, and `pytest FILE` all of that file.
"""

from __future__ import annotations

import math
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import pytest

SEED = int(os.environ.get("KILLS_SEED", "20261127"))
"""The same sample each time, unless the environment names another seed."""

EVERYTHING = "EXAMPLES" in os.environ
"""Whether whole products are tried, as by `make torture`."""

_TESTS = Path(__file__).parent
_DATABASES = ("sqlite", "postgresql")
_ON_BOTH = ("dialer/test_schemathesis.py", "dialer_kills/", "guard/ledger/", "interleavings/")
_SWEEPS = ("walks/", "tools/")
"""Where a test of several cases is a sweep, mostly over the eras of the protocol or over transports."""

_T = TypeVar("_T")
_W = TypeVar("_W")


def sample(points: Sequence[_T], of_each: int, kind: Callable[[_T], Hashable]) -> list[_T]:
    """Some points of each kind, in their order."""
    by_kind: defaultdict[Hashable, list[_T]] = defaultdict(list)
    for point in points:
        by_kind[kind(point)].append(point)
    chance = random.Random(SEED)
    return [point for alike in by_kind.values() for point in chance.sample(alike, min(of_each, len(alike)))]


def spread(
    cases: Sequence[_T], ways: Sequence[_W], kind: Callable[[_T], Hashable], *, one_in: int = 1
) -> list[tuple[_W, list[_T]]]:
    """Which cases are tried in which way, in their order: the first one of its kind in all of them, another in one way.

    Of the others, one in so many.

    For cases and ways that are decided one after the other: what a way is for is shown by one case of each kind, and
    what a case is for in any way. Which way a case gets does not follow its place in the list.
    """
    if EVERYTHING:
        return [(way, list(cases)) for way in ways]
    first = {kind(case): at for at, case in reversed(list(enumerate(cases)))}
    drawn = random.Random(SEED).sample(range(len(cases)), len(cases) // one_in)
    turn = {at: number % len(ways) for number, at in enumerate(drawn)}
    return [
        (way, [case for at, case in enumerate(cases) if turn.get(at) == number or first[kind(case)] == at])
        for number, way in enumerate(ways)
    ]


def on_one_database(tests: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Without every second test of those that run on SQLite and, with the same parameters, on PostgreSQL.

    One statement is met by many tests, so both databases meet it. Which test runs on which database is drawn by its
    name. Where the database itself is what is tested, a test runs on both.
    """
    by_case: defaultdict[str, dict[str, pytest.Item]] = defaultdict(dict)
    for test in tests:
        database = _database(test)
        if database is not None and not _place(test).startswith(_ON_BOTH):
            by_case[test.nodeid.replace(database, "")][database] = test
    dropped = {one[_DATABASES[_drawn(case) % 2]] for case, one in by_case.items() if len(one) == len(_DATABASES)}
    return [test for test in tests if test not in dropped]


def some_of_each_sweep(tests: Sequence[pytest.Item]) -> list[pytest.Item]:
    """A third of the cases of each sweep, and all other tests.

    Drawn by their names, and spread over them: of backends and faults, say, each is met before one is met again.
    """
    sweeps: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for test in tests:
        if test.get_closest_marker("sweep") is not None or _place(test).startswith(_SWEEPS):
            sweeps[test.nodeid.partition("[")[0]].append(test)
    dropped = {case for cases in sweeps.values() for case in cases} - {
        case for cases in sweeps.values() for case in _widest(cases, math.ceil(len(cases) / 3))
    }
    return [test for test in tests if test not in dropped]


def _widest(cases: Sequence[pytest.Item], count: int) -> list[pytest.Item]:
    left = sorted(cases, key=lambda case: _drawn(case.nodeid))
    met: Counter[str] = Counter()
    chosen: list[pytest.Item] = []
    while left and len(chosen) < count:
        chosen.append(min(left, key=lambda case: sum(met[part] for part in _parts(case))))
        left.remove(chosen[-1])
        met.update(_parts(chosen[-1]))
    return chosen


def _place(test: pytest.Item) -> str:
    return test.path.relative_to(_TESTS).as_posix()


def _parts(test: pytest.Item) -> list[str]:
    return test.nodeid.partition("[")[2].removesuffix("]").split("-")


def _drawn(name: str) -> int:
    return crc32(f"{name}{SEED}".encode())


def _database(test: pytest.Item) -> str | None:
    params = getattr(test, "callspec", None)
    return next((one for one in (params.params.values() if params else ()) if one in _DATABASES), None)
