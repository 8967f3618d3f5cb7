"""`kill -9` of dialling processes at random lines of their code: nobody is dialled twice, nobody is lost.

A sample of the points that `python -m tests.dialer_kills` tries, and whose figures stand in docs/guarantees.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import sampling
from tests.dialer_kills.harness import zygote
from tests.dialer_kills.judging import DATABASES, EVERYWHERE, FEW_DIGITS, REAL_BEATS, Database, Judge, Point, points
from tests.sampling import sample
from tests.server.transports import ROOT

SEED = 20261124
POINTS = 100


def sampled() -> list[Point]:
    """One of each place, by turns on one database and on the other. With a seed of the other parity they change."""
    turn = {place: DATABASES[(number + sampling.SEED) % 2] for number, place in enumerate(EVERYWHERE)}
    return sample([one for one in points(POINTS, SEED) if one.database == turn[one.place]], 1, lambda one: one.place)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", DATABASES)
async def test_whenever_a_process_dies_nobody_is_dialled_twice_and_nobody_is_lost(
    database: Database, tmp_path: Path
) -> None:
    chosen = [point for point in sampled() if point.database == database]
    async with zygote() as process:
        judge = Judge(process, tmp_path, {point.place for point in chosen}, FEW_DIGITS)
        verdicts = [await judge.judge(point) for point in chosen]
    assert len(verdicts) >= len(EVERYWHERE) // len(DATABASES)
    assert sum(one.killed for one in verdicts) * 3 >= len(verdicts) * 2, "most of them did die"
    assert sum(one.interrupted for one in verdicts) > 0, "and some of them while they were calling"


def test_the_points_meet_every_place_on_both_databases() -> None:
    chosen = points(POINTS, SEED)
    every = {(database, place) for database in DATABASES for place in EVERYWHERE}
    assert {(one.database, one.place) for one in chosen} == every
    assert sorted(one.place for one in sampled()) == sorted(EVERYWHERE)
    assert [one.database for one in chosen].count("postgresql") == len(chosen) / 2
    assert any(one.beat_seconds == REAL_BEATS for one in chosen if one.database == "postgresql")


def test_the_page_says_which_figures_come_from_where() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    assert f"| all | {POINTS} |" in page
    assert "`python -m tests.dialer_kills`" in page
    assert f"CI tries a seeded sample of {len(sampled())} of them" in page
