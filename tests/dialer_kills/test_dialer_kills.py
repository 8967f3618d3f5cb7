"""`kill -9` of dialling processes at random lines of their code: nobody is dialled twice, nobody is lost.

`python -m tests.dialer_kills` does it at other points and tells the figures of docs/guarantees.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dialer_kills.harness import zygote
from tests.dialer_kills.judging import DATABASES, EVERYWHERE, REAL_BEATS, Judge, points
from tests.server.transports import ROOT

SEED = 20261124
CHUNKS, CHUNK = 4, 25


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_whenever_a_process_dies_nobody_is_dialled_twice_and_nobody_is_lost(chunk: int, tmp_path: Path) -> None:
    async with zygote() as process:
        judge = Judge(process, tmp_path)
        verdicts = [await judge.judge(point) for point in points(CHUNKS * CHUNK, SEED)[chunk::CHUNKS]]
    assert len(verdicts) == CHUNK
    assert sum(one.killed for one in verdicts) > CHUNK * 0.7, "most of them did die"
    assert sum(one.interrupted for one in verdicts) > 0, "and some of them while they were calling"


def test_the_points_meet_every_place_on_both_databases() -> None:
    chosen = points(CHUNKS * CHUNK, SEED)
    assert {(one.database, one.place) for one in chosen} == {(d, p) for d in DATABASES for p in EVERYWHERE}
    assert [one.database for one in chosen].count("postgresql") == len(chosen) / 2
    assert any(one.beat_seconds == REAL_BEATS for one in chosen if one.database == "postgresql")


def test_the_page_tells_of_as_many_points_as_are_tried_here() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    assert f"| all | {CHUNKS * CHUNK} |" in page
    assert "`python -m tests.dialer_kills`" in page
