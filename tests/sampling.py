"""The seeded samples of `make test`: where processes are killed, what is combined, and on which database a test runs.

`make torture` tries it all.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
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
        if database is not None and not test.path.relative_to(_TESTS).as_posix().startswith(_ON_BOTH):
            by_case[test.nodeid.replace(database, "")][database] = test
    dropped = {
        one[_DATABASES[crc32(f"{case}{SEED}".encode()) % 2]]
        for case, one in by_case.items()
        if len(one) == len(_DATABASES)
    }
    return [test for test in tests if test not in dropped]


def _database(test: pytest.Item) -> str | None:
    params = getattr(test, "callspec", None)
    return next((one for one in (params.params.values() if params else ()) if one in _DATABASES), None)
