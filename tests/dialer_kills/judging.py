"""Points at which a dialling process dies, and the judge: the carrier's record, beside what is written."""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
import sqlalchemy as sa

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.carriers.simulated import simulate
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import attempts, batch_calls, tasks, workers
from tests.dialer.conftest import Caller, Clock, client_of, dialled
from tests.dialer_kills.harness import Dialling, Zygote
from tests.dialer_kills.zygote import PLACES
from tests.postgresql import postgresql_url

Database: TypeAlias = Literal["sqlite", "postgresql"]
DATABASES: tuple[Database, ...] = ("sqlite", "postgresql")
MOMENT = "at any moment"
EVERYWHERE = (*PLACES, MOMENT)
TAKEN_OVER_IN = 10.0
REAL_BEATS = 1.5
LINES: dict[Database, dict[str, int]] = {"sqlite": {}, "postgresql": {"capacity": 6}}
"""Of each of two processes as many as half of all calls need, so that both have their share of them."""
SHARE = 0.4
"""Of the lines that a process passes when it dials everybody, those that it passes for its part."""

AT_ONCE = {"type": "AFTER", "duration_minutes": 0}


def again(*outcomes: str) -> list[dict[str, Any]]:
    return [{"condition": outcome, "retry_timing": AT_ONCE} for outcome in outcomes]


LISTS: tuple[dict[str, Any], ...] = (
    {"max_concurrency": 4, "retry_config": {"max_attempts": 2}, "retry_rules": again("busy", "no_answer")},
    {"max_concurrency": 3},
    {"max_concurrency": 5, "retry_config": {"max_attempts": 2}, "retry_rules": again("interrupted", "no_answer")},
)
DIGITS = "04678906712647"
"""What becomes of the people of each list: answered, busy, not answered and then answered, a machine, failed."""
FEW_DIGITS = "0467892"
"""The same with each outcome once."""


@dataclass(frozen=True)
class Point:
    """Where a process dies. `fraction` is how far it comes among the lines that it passes there, or in its calls."""

    database: Database
    place: str
    fraction: float
    beat_seconds: float = 0.2


@dataclass(frozen=True)
class Verdict:
    """What was seen; whatever must not happen has failed already."""

    point: Point
    killed: bool
    interrupted: int
    dialled: int


def points(count: int, seed: int) -> list[Point]:
    """By turns on both databases, at every place in turn, at random within it; a few with the real sign of life."""
    chance = random.Random(seed)
    chosen = []
    for number in range(count):
        database = DATABASES[number % 2]
        place = EVERYWHERE[number // 2 % len(EVERYWHERE)]
        beat = REAL_BEATS if database == "postgresql" and number % 26 == 1 else 0.2
        chosen.append(Point(database, place, chance.uniform(0.02, 0.85), beat))
    return chosen


async def poll(reached: Callable[[], bool], seconds: float = 60, longest_pause: float = 0.02) -> None:
    """Wait until it is so."""
    pause = 0.02
    with anyio.fail_after(seconds):
        while True:
            if await anyio.to_thread.run_sync(reached):
                return
            await anyio.sleep(pause)
            pause = min(pause * 1.2, longest_pause)


@dataclass(frozen=True)
class Dead:
    """A process that was killed: its name as a worker, and the attempts as they were then."""

    pid: int
    name: str
    left: Mapping[tuple[str, int], str | None]
    is_victim: bool


@dataclass
class Scene:
    """A database of its own, with people to call."""

    desk: Caller
    data_dir: Path
    options: dict[str, Any]
    zygote: Zygote
    digits: str
    lists: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def start(self, place: str | None = None, at: int = 0, **options: Any) -> Dialling:
        """A process that dials; see Zygote.start."""
        return await self.zygote.start(self.data_dir, place, at, **self.options | options)

    async def two(self, **options: Any) -> tuple[Dialling, Dialling]:
        """Two of them, ready."""
        first, second = await self.start(**options), await self.start(**options)
        await self.until(lambda: len(self.workers()) == 2)
        return first, second

    def list_of(self, index: int) -> list[str]:
        """Whom a batch call calls."""
        return [f"+12132{index * 100 + number:05d}{digit}" for number, digit in enumerate(self.digits)]

    @property
    def people(self) -> int:
        """How many in all."""
        return len(LISTS) * len(self.digits)

    async def call_all(self) -> None:
        """Everybody."""
        for index, asked in enumerate(LISTS):
            self.lists[await self.desk.create(self.list_of(index), send_now=True, **asked)] = asked

    async def until_dialled(self, count: int) -> None:
        """So many."""
        await poll(lambda: len(dialled(self.data_dir)) >= count)

    @property
    def store(self) -> Store:
        return self.desk.dialer.store()

    def rows(self, query: sa.Select[Any]) -> list[Any]:
        with self.store.reading() as tx:
            return list(tx.execute(query).all())

    async def until(self, reached: Callable[[], bool], seconds: float = 30) -> None:
        """Poll what is written until it is so and stays so: less often with time, because each look costs queries."""
        await poll(reached, seconds, 0.1)

    def workers(self) -> dict[int, str]:
        return {row.pid: row.worker_id for row in self.rows(sa.select(workers))}

    def who_is_left(self) -> set[str]:
        """Whoever is in the list, or has an attempt that is open."""
        open_ones = self.rows(sa.select(attempts.c.worker_id).where(attempts.c.outcome.is_(None)))
        return {*self.workers().values(), *(row.worker_id for row in open_ones)}

    def completed(self) -> bool:
        states = [row.status for row in self.rows(sa.select(batch_calls.c.status))]
        return len(states) == len(self.lists) and set(states) == {"completed"}


class Judge:
    """Has processes dial, and die, and looks at what came of it. Keeps what is made once for all points."""

    def __init__(
        self, zygote: Zygote, folder: Path, places: Collection[str] = tuple(PLACES), digits: str = DIGITS
    ) -> None:
        """`places`: where processes die; `digits`: what becomes of the people of each list."""
        self._zygote = zygote
        self._digits = digits
        self._places = [place for place in places if place != MOMENT]
        self._folder = folder
        self._passed: dict[Database, Mapping[str, int]] = {}
        self._templates: dict[Database, Path | str] = {}
        self._made = 0

    async def judge(self, point: Point) -> Verdict:
        """One point."""
        at = 0
        if point.place != MOMENT:
            if point.database not in self._passed:
                self._passed[point.database] = await self._measure(point.database)
            at = round(point.fraction * self._passed[point.database][point.place])
            if point.database == "postgresql" and point.place != "take-over":
                at = round(at * SHARE)
        async with self.scene(point.database, point.beat_seconds, **LINES[point.database]) as scene:
            end = self._on_postgresql if point.database == "postgresql" else self._on_sqlite
            dead = await end(scene, point, at)
            await check(scene, dead)
            interrupted = [row for row in scene.rows(sa.select(attempts)) if row.outcome == "interrupted"]
            killed = any(one.is_victim for one in dead)
            return Verdict(point, killed, len(interrupted), len(dialled(scene.data_dir)))

    async def _on_sqlite(self, scene: Scene, point: Point, at: int) -> list[Dead]:
        dead: list[Dead] = []
        await scene.call_all()
        if point.place == "take-over":
            await self._cut_short(scene, await scene.start(), point, dead)
        if point.place == MOMENT:
            victim = await scene.start()
            await self._cut_short(scene, victim, point, dead, victim=True)
        else:
            victim = await scene.start(point.place, at)
            await self._died_or_done(scene, victim, dead)
        if not scene.completed():
            await scene.start()
        await scene.until(scene.completed)
        return dead

    async def _on_postgresql(self, scene: Scene, point: Point, at: int) -> list[Dead]:
        dead: list[Dead] = []
        place = None if point.place == MOMENT else point.place
        others = [await scene.start()]
        victim = await scene.start(place, at)
        # Unless it dies while it launches.
        await scene.until(lambda: victim.status is not None or len(scene.workers()) == 2)
        await scene.until(lambda: others[0].pid in scene.workers())
        names = scene.workers()
        await scene.call_all()
        if place == "take-over":
            await self._cut_short(scene, others.pop(), point, dead, names)
            await self._died_or_done(scene, victim, dead, names)
            if victim.status is not None:
                others.append(await scene.start())
        elif place is None:
            await self._cut_short(scene, victim, point, dead, names, victim=True)
        else:
            await self._died_or_done(scene, victim, dead, names)
        if dead:
            # Whoever lives takes over, and none of the dead was started again for it.
            names_of_the_dead = {one.name for one in dead}
            await scene.until(lambda: not names_of_the_dead & scene.who_is_left(), TAKEN_OVER_IN)
        await scene.until(scene.completed)
        assert all(one.status is None for one in others), [one.said() for one in others]
        return dead

    async def _cut_short(
        self,
        scene: Scene,
        process: Dialling,
        point: Point,
        dead: list[Dead],
        names: Mapping[int, str] | None = None,
        *,
        victim: bool = False,
    ) -> None:
        """Kill it from outside when so many have been dialled."""
        enough = max(1, round(point.fraction * scene.people * (1 if victim else 0.5)))
        await poll(lambda: process.status is not None or len(dialled(scene.data_dir)) >= enough)
        known = names or scene.workers()
        process.kill()
        await process.gone()
        dead.append(Dead(process.pid, known.get(process.pid, ""), snapshot(scene), is_victim=victim))

    async def _died_or_done(
        self, scene: Scene, process: Dialling, dead: list[Dead], names: Mapping[int, str] | None = None
    ) -> None:
        await poll(lambda: process.status is not None or scene.completed(), longest_pause=0.1)
        if process.status is not None:
            assert process.status == -9, process.said()
            dead.append(Dead(process.pid, (names or {}).get(process.pid, ""), snapshot(scene), is_victim=True))

    async def _measure(self, database: Database) -> Mapping[str, int]:
        """How many lines a process passes in each place, in a run like those in which it will die."""
        async with self.scene(database, **LINES[database]) as scene:
            if database == "sqlite":
                await scene.call_all()
                counted = await scene.start(counted=self._places)
            else:
                first = await scene.start()
                counted = await scene.start(counted=self._places)
                await scene.until(lambda: scene.workers().keys() == {first.pid, counted.pid})
                await scene.call_all()
                await self._cut_short(scene, first, Point(database, MOMENT, 0.9), [])
            await scene.until(scene.completed)
            await counted.close()
            return counted.passed()

    @asynccontextmanager
    async def scene(self, database: Database, beat_seconds: float = 0.2, /, **given: Any) -> AsyncIterator[Scene]:
        """A new one, with no process that dials."""
        self._made += 1
        data_dir = self._folder / str(self._made)
        data_dir.mkdir(parents=True)
        options: dict[str, Any] = {"beat_seconds": beat_seconds, **given}
        if database not in self._templates:
            self._templates[database] = await anyio.to_thread.run_sync(self._template, database)
        template = self._templates[database]
        if isinstance(template, Path):
            shutil.copy(template, data_dir / "dialer.db")
        else:
            options.setdefault("database", postgresql_url(template))
        dialer = EmbeddedDialer(data_dir, database=options.get("database"))
        before = set(self._zygote.living.values())
        try:
            async with client_of(dialer.app, *dialer.credentials) as http:
                yield Scene(Caller(dialer, http, Clock(), data_dir), data_dir, options, self._zygote, self._digits)
        finally:
            for one in set(self._zygote.living.values()) - before:
                one.kill()
                await one.gone()
            await dialer.aclose()

    def _template(self, database: Database) -> Path | str:
        """A database with all its tables: making them takes longer than the calls."""
        from dbos import DBOS

        where: Path | str = self._folder / "template.db" if database == "sqlite" else postgresql_url()
        store = Store.open(where)
        url = store.engine.url.set(drivername=store.engine.url.get_backend_name())
        DBOS.migrate(url.render_as_string(hide_password=False))
        if not store.shared:
            with store.engine.connect() as connection:
                connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.close()
        return where


def snapshot(scene: Scene) -> dict[tuple[str, int], str | None]:
    """Every attempt, and its outcome, as it is now."""
    return {(row.task_id, row.n): row.outcome for row in scene.rows(sa.select(attempts))}


async def check(scene: Scene, dead: list[Dead], *, clock_jumps: bool = False) -> None:
    """Nobody twice, nobody lost, nothing that is not told."""
    placed = dialled(scene.data_dir)
    rows = scene.rows(sa.select(attempts).order_by(attempts.c.task_id, attempts.c.n))
    written = {f"{row.task_id}:{row.n}": row for row in rows}
    twice = [name for name, times in Counter(line["attempt_id"] for line in placed).items() if times > 1]
    assert not twice, "dialled twice"
    assert {line["attempt_id"] for line in placed} <= written.keys(), "dialled, and nothing tells of it"
    assert all(written[line["attempt_id"]].to_number == line["to_number"] for line in placed)
    unplaced = written.keys() - {line["attempt_id"] for line in placed}
    assert {written[name].outcome for name in unplaced} <= {"interrupted"}, "an outcome of a call that never was"
    _interrupted_are_those_that_were_open(rows, dead, shared=scene.store.shared)
    by_task: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_task[row.task_id].append(row)
    found = scene.rows(sa.select(tasks))
    assert len(found) == scene.people, "lost"
    for task in found:
        ended_as_it_had_to(task, by_task[task.task_id], scene.lists[task.batch_call_id])
    for batch_call_id, asked in scene.lists.items():
        data = await scene.desk.get(batch_call_id)
        statuses = Counter(task.status for task in found if task.batch_call_id == batch_call_id)
        assert {status: count for status, count in data["counts"].items() if count} == statuses
        assert data["sent"] == data["total"] == len(scene.digits)
        # By moments that are written down, which say nothing where the clock jumps.
        assert (
            clock_jumps
            or most_at_once(row for row in rows if row.batch_call_id == batch_call_id) <= asked["max_concurrency"]
        )


def most_at_once(rows: Iterable[Any]) -> int:
    """Open attempts at the same time, by what is written."""
    changes = sorted(change for row in rows for change in ((row.started_at, 1), (row.ended_at, -1)))
    return max(accumulate(change for _, change in changes), default=0)


def _interrupted_are_those_that_were_open(rows: list[Any], dead: list[Dead], *, shared: bool) -> None:
    interrupted = {(row.task_id, row.n): row.worker_id for row in rows if row.outcome == "interrupted"}
    if shared:
        assert set(interrupted.values()) <= {one.name for one in dead}, "interrupted, and its process lives"
    else:
        # On SQLite whoever was open when a process died is interrupted, all of them and nobody else.
        assert interrupted.keys() == {key for one in dead for key, outcome in one.left.items() if outcome is None}
    last = {(row.task_id, row.n): row.outcome for row in rows}
    for one in dead:
        for key, outcome in one.left.items():
            assert outcome is None or last[key] == outcome, "an outcome was changed"


def ended_as_it_had_to(task: Any, rows: list[Any], asked: Mapping[str, Any]) -> None:
    """A person, by their attempts, and by what was asked for their batch call."""
    assert [row.n for row in rows] == list(range(1, task.attempts + 1))
    assert rows, "never dialled"
    outcomes = [row.outcome for row in rows]
    for n, outcome in enumerate(outcomes, 1):
        assert outcome in {"interrupted", simulate(task.to_number, n)[0].status}
    redialled = {rule["condition"] for rule in asked.get("retry_rules", ())}
    most = 1 + asked.get("retry_config", {}).get("max_attempts", 0)
    assert len(rows) <= most
    assert set(outcomes[:-1]) <= redialled, "dialled again without a rule that says so"
    assert outcomes[-1] not in redialled or len(rows) == most, "not dialled again"
    assert task.status == outcomes[-1]


async def stop_until_taken_over(scene: Scene, process: Dialling, name: str) -> dict[tuple[str, int], str | None]:
    """Stop it until others have taken over; the attempts as they were then.

    Not in the middle of a transaction: that holds its batch call for as long, and nobody dials it at all.
    """
    while True:
        process.kill(signal.SIGSTOP)
        left = snapshot(scene)
        with anyio.move_on_after(4):
            await scene.until(partial(_taken_over, scene, name))
            return left
        before = _beats(scene, name)
        process.kill(signal.SIGCONT)
        # So that it is somewhere else when it is stopped again.
        await poll(partial(_gone_on, scene, name, before))


def _beats(scene: Scene, name: str) -> list[Any]:
    return list(scene.rows(sa.select(workers.c.beats).where(workers.c.worker_id == name)))


def _gone_on(scene: Scene, name: str, before: list[Any]) -> bool:
    return _beats(scene, name) != before


def _taken_over(scene: Scene, name: str) -> bool:
    listed = scene.rows(sa.select(workers.c.worker_id).where(workers.c.worker_id == name))
    return not listed and name not in scene.who_is_left()
