"""Points at which a process dies that dials over a wire, and the judge: the vendor's file, which outlives processes.

What the vendor knows is read on by whoever dials next, to its true outcome; only what it does not know is
`interrupted`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.simulated import simulate
from batchcall_mcp.dialer.storage.tables import attempts, tasks
from tests.dialer.wire import Wire, call_id_of
from tests.dialer.wired import Desk
from tests.dialer_kills.harness import Dialling
from tests.dialer_kills.judging import (
    DATABASES,
    LISTS,
    MOMENT,
    SHARE,
    Database,
    Judge,
    Scene,
    ended_as_it_had_to,
    most_at_once,
    poll,
)
from tests.dialer_kills.zygote import BY_WIRE, PLACES

EVERYWHERE: Final = (*BY_WIRE, MOMENT)
OWN: Final = tuple(place for place in BY_WIRE if place not in PLACES)
"""Where only a process with a wire is."""
AFTER_A_DEATH: Final = frozenset({"taken over", "looked up"})
"""Where a process is only after another one has died."""
AT_ONCE: Final = 6
A_SECOND: Final = 40
ACCOUNT: Final[dict[str, Any]] = {"capacity": AT_ONCE, "calls_per_second": A_SECOND, "speed": 100.0}
SECOND: Final = timedelta(seconds=1)
PATIENCE: Final = 120.0


@dataclass(frozen=True)
class Point:
    """Where a process dies. `fraction` is how far it comes among the lines that it passes there, or in its calls."""

    database: Database
    place: str
    fraction: float


@dataclass(frozen=True)
class Verdict:
    """What was seen; whatever must not happen has failed already.

    `open`: calls that were open when a process died. Of these `recovered` were read on to their end, and the others
    interrupted.
    """

    point: Point
    killed: bool
    rung: int
    open: int
    recovered: int
    interrupted: int


def points(count: int, seed: int) -> list[Point]:
    """By turns on both databases, at every place in turn, at random within it."""
    chance = random.Random(seed)
    return [
        Point(DATABASES[number % 2], EVERYWHERE[number // 2 % len(EVERYWHERE)], chance.uniform(0.02, 0.85))
        for number in range(count)
    ]


@dataclass
class _Death:
    """A process that was killed, and the attempts that were open then."""

    open: frozenset[tuple[str, int]]
    is_victim: bool


class WireJudge:
    """Has processes dial over a wire, and die, and looks at what came of it."""

    def __init__(self, judge: Judge, places: Collection[str] = tuple(BY_WIRE)) -> None:
        """`places`: where processes die."""
        self._judge = judge
        self._places = [place for place in places if place != MOMENT]
        self._passed: dict[Database, Mapping[str, int]] = {}

    async def judge(self, point: Point) -> Verdict:
        """One point."""
        at = 0
        if point.place != MOMENT:
            if point.database not in self._passed:
                self._passed[point.database] = await self._measure(point.database)
            at = max(1, round(point.fraction * self._passed[point.database][point.place]))
            if point.database == "postgresql" and point.place not in AFTER_A_DEATH:
                at = max(1, round(at * SHARE))
        async with self._scene(point.database) as scene:
            deaths = await self._dies(scene, point, at)
            return _verdict(scene, point, deaths)

    async def _dies(self, scene: Scene, point: Point, at: int) -> list[_Death]:
        deaths: list[_Death] = []
        place = None if point.place == MOMENT else point.place
        shared = point.database == "postgresql"
        if point.place in AFTER_A_DEATH:
            victim = await self._after_a_death(scene, place, at, deaths)
        else:
            if shared:
                await scene.start()
            victim = await scene.start(place, at)
        if place is None:
            enough = max(1, round(point.fraction * scene.people))
            await poll(lambda: victim.status is not None or len(rung(scene)) >= enough)
            victim.kill()
        await poll(lambda: victim.status is not None or scene.completed(), seconds=PATIENCE, longest_pause=0.1)
        if victim.status is not None:
            assert victim.status == -9, victim.said()
            deaths.append(_Death(_open(scene), is_victim=True))
            if not shared or point.place in AFTER_A_DEATH:
                await scene.start()
        if shared and deaths:
            living = {one.pid for one in scene.zygote.living.values() if one.status is None}
            await scene.until(lambda: scene.workers().keys() <= living, PATIENCE)
        await scene.until(scene.completed, PATIENCE)
        return deaths

    async def _after_a_death(
        self, scene: Scene, place: str | None, at: int, deaths: list[_Death], **options: Any
    ) -> Dialling:
        """One that takes over from a process that died in the middle of asking for a call."""
        first = await scene.start("written, not committed" if at % 2 else "granted, not written", 6)
        await poll(lambda: first.status is not None or scene.completed())
        assert first.status == -9, first.said()
        deaths.append(_Death(_open(scene), is_victim=False))
        return await scene.start(place, at, **options)

    async def _measure(self, database: Database) -> Mapping[str, int]:
        """How many lines a process passes in each place, in a run like those in which it will die."""
        async with self._scene(database) as scene:
            counted = await self._after_a_death(scene, None, 0, [], counted=self._places)
            await scene.until(scene.completed, PATIENCE)
            await counted.close()
            return counted.passed()

    @asynccontextmanager
    async def _scene(self, database: Database) -> AsyncIterator[Scene]:
        async with self._judge.scene(database, wire=ACCOUNT) as scene:
            desk = Desk(scene.store)
            for index, asked in enumerate(LISTS):
                redials = {name: _stored(asked[name]) for name in ("retry_config", "retry_rules") if name in asked}
                key = desk.running(scene.list_of(index), max_concurrency=asked["max_concurrency"], **redials)
                scene.lists[key] = asked | {"retry_rules": _redialled(asked)}
            yield scene


def _redialled(asked: Mapping[str, Any]) -> list[Any]:
    """Without who may have been talked to: no rule rings them again."""
    return [rule for rule in asked.get("retry_rules", ()) if rule["condition"] != "interrupted"]


def _stored(asked: Any) -> Any:
    """As the REST face writes it."""
    return [one | {"enabled": True} for one in asked] if isinstance(asked, list) else asked | {"enabled": True}


def rung(scene: Scene) -> list[dict[str, str]]:
    """What the vendor was asked for."""
    return Wire(scene.data_dir).calls()


def _open(scene: Scene) -> frozenset[tuple[str, int]]:
    found = scene.rows(sa.select(attempts.c.task_id, attempts.c.n).where(attempts.c.outcome.is_(None)))
    return frozenset((row.task_id, row.n) for row in found)


def _verdict(scene: Scene, point: Point, deaths: list[_Death]) -> Verdict:
    """Nobody twice, nobody lost, nothing unknown that the vendor knows; the account's limits hold."""
    calls = rung(scene)
    twice = [name for name, times in Counter(call["attempt_id"] for call in calls).items() if times > 1]
    assert not twice, "rung twice"
    rows = scene.rows(sa.select(attempts).order_by(attempts.c.task_id, attempts.c.n))
    written = {f"{row.task_id}:{row.n}": row for row in rows}
    known = {call["attempt_id"] for call in calls}
    assert known <= written.keys(), "rung, and nothing tells of it"
    for name, row in written.items():
        if name in known:
            assert row.outcome == simulate(row.to_number, row.n)[0].status, f"the vendor knows what came of it: {row}"
            assert row.carrier_call_id == call_id_of(name)
        else:
            assert row.outcome == "interrupted", "an outcome of a call that never was"
    left = frozenset[tuple[str, int]]().union(*(one.open for one in deaths))
    interrupted = {(row.task_id, row.n) for row in rows if row.outcome == "interrupted"}
    assert interrupted <= left, (
        f"interrupted, and nobody died: {[written[f'{key}:{n}'] for key, n in interrupted - left]}"
    )
    by_task: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_task[row.task_id].append(row)
    found = scene.rows(sa.select(tasks))
    assert len(found) == scene.people, "lost"
    for task in found:
        ended_as_it_had_to(task, by_task[task.task_id], scene.lists[task.batch_call_id])
    for key, asked in scene.lists.items():
        assert most_at_once(row for row in rows if row.batch_call_id == key) <= asked["max_concurrency"]
    assert most_at_once(rows) <= AT_ONCE
    assert most_in_a_second(calls) <= A_SECOND
    return Verdict(
        point,
        any(one.is_victim for one in deaths),
        len(calls),
        len(left),
        len(left - interrupted),
        len(interrupted),
    )


def most_in_a_second(calls: list[dict[str, str]]) -> int:
    """Requests in one second, wherever it begins."""
    moments = sorted(datetime.fromisoformat(call["at"]) for call in calls)
    return max((sum(first <= at < first + SECOND for at in moments) for first in moments), default=0)
