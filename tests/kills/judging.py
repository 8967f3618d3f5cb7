"""One point at which the process dies, the same tool call again, and what has to be true then."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kills.harness import Told, Zygote
from tests.kills.scenes import SCENES, TROUBLES, Scene, Trouble

NEVER = 10**9
"""A line that no call gets to."""


@dataclass(frozen=True)
class Point:
    """Where it dies: at a line of our code (a share of all that are passed), or because of what the backend does."""

    scene: str
    mode: str
    share: float
    trouble: Trouble
    lags: bool

    def __str__(self) -> str:
        where = f"line {self.share:.4f}" if self.trouble == "none" else self.trouble
        return f"{self.scene}, {self.mode}, {where}{', the backend lags' if self.lags else ''}"


@dataclass(frozen=True)
class Verdict:
    """What was seen. `first` and `second`: the two equal calls; `resolved`: a person had to say what happened."""

    point: Point
    killed: bool
    second: str
    resolved: bool


def points(count: int, seed: int) -> list[Point]:
    """The same ones for the same seed."""
    chance = random.Random(seed)
    return [
        Point(
            scene=chance.choice(list(SCENES)),
            mode=chance.choice(["auto", "legacy"]),
            share=chance.random(),
            trouble="none" if chance.random() < 0.7 else chance.choice(TROUBLES),
            lags=chance.random() < 0.3,
        )
        for _ in range(count)
    ]


class Judge:
    """Tries points one after the other. How many lines a scene passes is measured once."""

    def __init__(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self._lines: dict[tuple[str, str], int] = {}

    async def judge(self, point: Point, home: Path) -> Verdict:
        """Fails if anything was done twice, lost without a word, or claimed and not done."""
        lines = await self._lines_of(point, home / "measured")
        async with SCENES[point.scene](home / "judged", self._zygote.kill) as scene:
            scene.front.trouble = point.trouble
            kill_at = 1 + int(point.share * lines) if point.trouble == "none" else None
            lag = scene.lag if point.lags else None
            if lag:
                lag(True)
            first = await self._call(scene, point, kill_at)
            second = await self._call(scene, point)
            if lag:
                self._check_while_it_lags(second, await scene.effects())
                lag(False)
                second = await self._call(scene, point)
            done = await scene.effects()
            resolved = await self._check(scene, point, second, done)
            assert await scene.effects() == 1, f"{point}: {await scene.effects()} times"
            return Verdict(point, first.killed, second.code or second.answer["result"], resolved)

    def _check_while_it_lags(self, told: Told, done: int) -> None:
        assert done <= 1
        assert not told.error or told.code == "outcome_unknown", told.text

    async def _check(self, scene: Scene, point: Point, second: Told, done: int) -> bool:
        """Whether a person had to settle it; then the third call is checked too."""
        if not second.error:
            assert done == 1, f"{point}: claimed and not done: {second.text}"
            return False
        if second.code == "illegal_transition" and scene.keeps_keys:
            # The dialer's calls take milliseconds: they are over, and the batch call is not as the first one left it.
            assert "An equal call did that at" in second.text
            assert done == 1, f"{point}: {second.text}"
            return False
        assert second.code == "outcome_unknown", f"{point}: {second.text}"
        assert "Nothing was sent by this call" in second.text
        assert re.search(r"\(Ledger entry \d+\.\)", second.text)
        assert not scene.keeps_keys, f"{point}: with a key there is nothing to be unsure of"
        assert done == 0, f"{point}: the backend shows it, and the answer does not know: {second.text}"
        await scene.front.catch_up()
        late = await scene.effects()
        if not late:
            await self._run(scene, {"settle": "not-made"})
        third = await self._call(scene, point)
        assert not third.error, f"{point}: {third.text}"
        assert bool(third.answer.get("replayed")) is bool(late), f"{point}: {third.text}"
        return not late

    async def _lines_of(self, point: Point, home: Path) -> int:
        key = point.scene, point.mode
        if key not in self._lines:
            async with SCENES[point.scene](home, self._zygote.kill) as scene:
                told = await self._call(scene, point, kill_at=NEVER)
                assert not told.error, told.text
                assert told.steps > 100
                self._lines[key] = told.steps
        return self._lines[key]

    async def _call(self, scene: Scene, point: Point, kill_at: int | None = None) -> Told:
        job: dict[str, Any] = {"mode": point.mode, "tool": scene.tool, "arguments": scene.arguments}
        return await self._run(scene, job | ({"kill_at": kill_at} if kill_at else {}))

    async def _run(self, scene: Scene, job: Mapping[str, Any]) -> Told:
        told = await self._zygote.run({"environment": scene.environment, **job})
        assert not told.text.startswith("crash"), told.text
        return told
