"""Real phones over a wire: processes that die, two of them on one account, and a simulation next to them.

A sample of the points that `python -m tests.dialer_kills --wire` tries, and whose figures stand in docs/guarantees.md.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.storage.tables import attempts, batch_calls
from tests import sampling
from tests.dialer.conftest import dialled, numbers
from tests.dialer.wire import Wire
from tests.dialer.wired import Desk
from tests.dialer_kills.by_wire import EVERYWHERE, OWN, Point, WireJudge, most_in_a_second, points, rung
from tests.dialer_kills.harness import zygote
from tests.dialer_kills.judging import (
    DATABASES,
    FEW_DIGITS,
    Database,
    Judge,
    Scene,
    most_at_once,
    stop_until_taken_over,
)
from tests.dialer_kills.test_dialer_kills import POINTS, SEED
from tests.sampling import sample
from tests.server.transports import ROOT


def sampled() -> list[Point]:
    """One of each place that other processes have not, by turns on one database and on the other.

    With a seed of the other parity they change.
    """
    turn = {place: DATABASES[(number + sampling.SEED) % 2] for number, place in enumerate(OWN)}
    return sample(
        [one for one in points(POINTS, SEED) if one.database == turn.get(one.place)], 1, lambda one: one.place
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", DATABASES)
async def test_whenever_a_process_dies_nobody_is_rung_twice_and_what_the_vendor_knows_is_known(
    database: Database, tmp_path: Path
) -> None:
    chosen = [point for point in sampled() if point.database == database]
    async with zygote() as process:
        judge = WireJudge(Judge(process, tmp_path, digits=FEW_DIGITS), {point.place for point in chosen})
        verdicts = [await judge.judge(point) for point in chosen]
    assert sum(one.killed for one in verdicts) > 0, "of a few, one may be done before it comes to its line"
    assert sum(one.recovered for one in verdicts) > 0, "and some of them while they were calling"


def test_the_points_meet_every_place_on_both_databases() -> None:
    chosen = points(POINTS, SEED)
    every = {(database, place) for database in DATABASES for place in EVERYWHERE}
    assert {(one.database, one.place) for one in chosen} == every
    assert sorted(one.place for one in sampled()) == sorted(OWN)


def test_the_page_says_which_figures_come_from_where() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    assert "`python -m tests.dialer_kills --wire`" in page
    assert f"CI tries a seeded sample of {len(sampled())} of these" in page


def pids(scene: Scene) -> set[str]:
    return {call["pid"] for call in rung(scene)}


def of_lists(scene: Scene) -> set[str]:
    return {call["to_number"][-1] for call in rung(scene)}


async def test_an_account_of_one_call_a_second_has_no_second_with_two(judge: Judge) -> None:
    """Two processes and two batch calls, all of which get on."""
    account = {"capacity": 6, "calls_per_second": 1.0, "speed": 40.0}
    async with judge.scene("postgresql", wire=account) as scene:
        await scene.two()
        desk = Desk(scene.store)
        keys = [desk.running(numbers(6, digit)) for digit in (0, 1)]
        # Both processes get on, and both batch calls.
        await scene.until(lambda: len(rung(scene)) >= 6 and len(pids(scene)) == len(of_lists(scene)) == 2)
        assert most_in_a_second(rung(scene)) == 1
        with scene.store.writing() as tx:
            tx.execute(batch_calls.update().where(batch_calls.c.batch_call_id.in_(keys)).values(status="cancelled"))


async def test_two_processes_have_no_more_lines_than_their_account(judge: Judge) -> None:
    """Two batch calls and two processes; which process has which line does not matter."""
    account = {"capacity": 3, "calls_per_second": 50.0, "speed": 40.0}
    async with judge.scene("postgresql", wire=account) as scene:
        await scene.two()
        desk = Desk(scene.store)
        for digit in (0, 1):
            scene.lists[desk.running(numbers(12, digit))] = {}
        await scene.until(scene.completed)
        assert most_at_once(scene.rows(sa.select(attempts))) == 3
        assert len({call["to_number"] for call in rung(scene)}) == len(rung(scene)) == 24


async def test_calls_of_a_process_that_is_stopped_are_read_on_by_another_one_and_it_asks_for_none_twice(
    judge: Judge,
) -> None:
    """It is taken for dead, and goes on: it finds its calls with their outcomes, and calls that are not its own."""
    account = {"capacity": 3, "calls_per_second": 50.0, "speed": 20.0}
    async with judge.scene("postgresql", wire=account) as scene:
        first = await scene.start()
        await scene.until(lambda: len(scene.workers()) == 1)
        key = Desk(scene.store).running(numbers(12))
        scene.lists[key] = {}
        placed = sa.select(attempts.c.task_id).where(attempts.c.carrier_call_id.is_not(None))
        await scene.until(lambda: len(scene.rows(placed)) >= 3)
        name = scene.workers()[first.pid]
        first.kill(signal.SIGSTOP)
        await scene.start()
        await stop_until_taken_over(scene, first, name)
        await scene.until(lambda: len(rung(scene)) >= 6)
        first.kill(signal.SIGCONT)
        await scene.until(scene.completed)
        await scene.until(lambda: first.pid in scene.workers())
        assert Desk(scene.store).statuses(key) == {"completed": 12}
        assert len({call["to_number"] for call in rung(scene)}) == len(rung(scene)) == 12


async def test_a_simulation_next_to_a_wire_on_one_database(judge: Judge) -> None:
    """Each calls its own people, and when the wire's process dies, only another one of the wire reads its calls on."""
    account = {"capacity": 6, "calls_per_second": 50.0, "speed": 0.001}
    async with judge.scene("postgresql") as scene:
        desk = Desk(scene.store)
        simulated = await scene.start()
        wired = await scene.start(wire=account)
        await scene.until(lambda: len(scene.workers()) == 2)
        rehearsal = desk.running(numbers(12, 2), carrier="simulated")
        real = desk.running(numbers(6))
        await scene.until(lambda: desk.statuses(rehearsal) == {"completed": 12} and len(rung(scene)) == 6)
        wired.kill()
        await wired.gone()
        await scene.until(lambda: scene.workers().keys() == {simulated.pid})
        later = desk.running(numbers(6, 1))
        again = desk.running(numbers(6, 3), carrier="simulated")
        await scene.until(lambda: desk.statuses(again) == {"completed": 6})
        assert (desk.statuses(real), desk.statuses(later)) == ({"calling": 6}, {"pending": 6})
        await scene.start(wire=account | {"speed": 1000.0})
        await scene.until(lambda: desk.statuses(real) == desk.statuses(later) == {"completed": 6})
        assert {call["to_number"] for call in rung(scene)} == {*numbers(6), *numbers(6, 1)}
        assert {line["to_number"] for line in dialled(scene.data_dir)} == {*numbers(12, 2), *numbers(6, 3)}
        assert len(rung(scene)) == Wire(scene.data_dir).count() == 12
