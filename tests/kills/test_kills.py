"""`kill -9` between "recorded" and "answered", then the same tool call again: never two launches, no silent loss.

A sample of the points that `python -m tests.kills` tries, and whose figures stand in docs/guarantees.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kills.harness import zygote
from tests.kills.judging import Judge, Point, points
from tests.kills.scenes import SCENES, TROUBLES
from tests.sampling import sample
from tests.server.transports import ROOT

SEED = 20261124
POINTS = 200
LINES = 2
"""Of each scene, so many that die at a line of our code. One more dies when the backend is asked."""


def sampled() -> list[Point]:
    """Some of both, of each scene; and each trouble."""
    every = points(POINTS, SEED)
    lines = sample([point for point in every if point.trouble == "none"], LINES, lambda point: point.scene)
    others = [point for point in every if point.trouble != "none"]
    at_the_backend = sample(others, 1, lambda point: point.scene)
    met = {point.trouble for point in at_the_backend}
    unmet = sample([point for point in others if point.trouble not in met], 1, lambda point: point.trouble)
    return [*lines, *at_the_backend, *unmet]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scene", SCENES)
async def test_whenever_the_process_dies_nothing_is_done_twice_or_lost_without_a_word(
    scene: str, tmp_path: Path
) -> None:
    async with zygote() as process:
        judge = Judge(process)
        verdicts = [
            await judge.judge(point, tmp_path / str(number))
            for number, point in enumerate(point for point in sampled() if point.scene == scene)
        ]
    assert len(verdicts) >= LINES + 1
    assert sum(one.killed for one in verdicts) > len(verdicts) * 0.7, "most of them did die"


def test_the_points_meet_every_scene_and_every_trouble() -> None:
    chosen = points(POINTS, SEED)
    assert {one.scene for one in chosen} == {one.scene for one in sampled()} == set(SCENES)
    assert {one.trouble for one in chosen} == {one.trouble for one in sampled()} == {"none", *TROUBLES}
    assert {(one.mode, one.lags) for one in chosen} == {(m, b) for m in ("auto", "legacy") for b in (True, False)}


def test_the_page_says_which_figures_come_from_where() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    assert f"| all | {POINTS} | {POINTS} | done twice 0, lost without a word 0 |" in page
    assert "`python -m tests.kills`" in page
    assert f"CI tries a seeded sample of {len(sampled())} of them" in page
