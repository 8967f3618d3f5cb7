"""`kill -9` between "recorded" and "answered", then the same tool call again: never two launches, no silent loss.

`python -m tests.kills` does it at more points and tells the figures of docs/guarantees.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kills.harness import zygote
from tests.kills.judging import Judge, points
from tests.kills.scenes import SCENES, TROUBLES
from tests.server.transports import ROOT

SEED = 20261124
CHUNKS, CHUNK = 8, 25


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_whenever_the_process_dies_nothing_is_done_twice_or_lost_without_a_word(
    chunk: int, tmp_path: Path
) -> None:
    async with zygote() as process:
        judge = Judge(process)
        verdicts = [
            await judge.judge(point, tmp_path / str(number))
            for number, point in enumerate(points(CHUNKS * CHUNK, SEED)[chunk::CHUNKS])
        ]
    assert len(verdicts) == CHUNK
    assert sum(one.killed for one in verdicts) > CHUNK * 0.8, "most of them did die"


def test_the_points_meet_every_scene_and_every_trouble() -> None:
    chosen = points(CHUNKS * CHUNK, SEED)
    assert {one.scene for one in chosen} == set(SCENES)
    assert {one.trouble for one in chosen} == {"none", *TROUBLES}
    assert {(one.mode, one.lags) for one in chosen} == {(m, b) for m in ("auto", "legacy") for b in (True, False)}


def test_the_page_tells_of_as_many_points_as_are_tried_here() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    points_told = f"| all | {CHUNKS * CHUNK} | {CHUNKS * CHUNK} | done twice 0, lost without a word 0 |"
    assert points_told in page
    assert "`python -m tests.kills`" in page
