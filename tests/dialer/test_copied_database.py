"""A database that was copied, moved or restored dials nobody until a person accepts its new place."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from batchcall_mcp.clock import utc_now
from tests.dialer.conftest import Clock, NewCaller, dialled, eventually, numbers
from tests.dialer.test_health import anonymous
from tests.dialer.test_replaced_files import NEVER_NOW, dialer
from tests.operator.processes import command, dialling, variables

SAYS = "was copied, moved or restored since it last dialled"
ADOPT = "`batchcall-mcp dialer adopt`"


def copied(database: Path, to: Path) -> None:
    """As `cp` has it, once nothing writes."""
    to.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(database, to)


async def test_a_copy_rings_nobody_again_and_goes_on_when_it_is_adopted_and_resumed(
    new_caller: NewCaller, tmp_path: Path
) -> None:
    """Real processes: the first is ended in the middle, the second starts on `cp dialer.db`."""
    first, second = tmp_path / "first", tmp_path / "second"
    async with new_caller(start=False, clock=utc_now, folder=first) as desk:
        running = await desk.create(numbers(200), send_now=True, max_concurrency=10, name="November")
        later = await desk.create(numbers(2, 1), trigger_timestamp="2099-12-01T12:00:00Z", name="December")
    log = tmp_path / "log"
    with log.open("wb") as lines:
        async with dialer(first, 200, lines) as one:
            await one.says("running")
            await eventually(lambda: len(dialled(first)) >= 20)
            assert await one.close() == 0
        rang = {line["to_number"] for line in dialled(first)}
        copied(first / "dialer.db", second / "dialer.db")
        before = variables(second, simulated_speed="10000")

        async with dialer(second, 10_000, lines) as other:
            await other.says("running")
            await eventually(lambda: SAYS in log.read_text())
            async with new_caller(start=False, clock=utc_now, folder=second) as desk:
                paused = await desk.until_status(running, "paused")
                assert paused["status_reason"]["code"] == "error"
                assert ADOPT in paused["status_reason"]["text"]
                refused = await desk.ask("POST", f"/batch-call/{running}/resume", status=409)
                assert refused["code"] == "dialer_halted"
                assert SAYS in refused["error"]
                assert ADOPT in refused["error"]
                async with anonymous(desk.dialer.app) as http:
                    assert (await http.get("/readyz")).json()["code"] == "database_moved"
                assert dialled(second) == []

                adopted = await command(before, "dialer", "adopt")
                assert (adopted.code, adopted.err) == (0, "")
                assert f"It last dialled as {first / 'dialer.db'}." in adopted.out
                assert f"The original is still there: a dialer on {first / 'dialer.db'} calls the same" in adopted.out
                waits = (await desk.get(running))["counts"]["pending"]
                assert f"paused: {running} (November) of local, {waits} of 200 people not called" in adopted.out
                assert (
                    f"scheduled: {later} (December) of local, 2 of 2 people not called, dials at 2099-12-01 12:00 UTC"
                    in (adopted.out)
                )
                assert (await desk.get(running))["status"] == "paused"
                assert dialled(second) == []
                again = await command(before, "dialer", "adopt")
                assert (again.code, "nothing to adopt" in again.out) == (0, True)

                await desk.ask("POST", f"/batch-call/{running}/resume")
                await desk.until_status(running, "completed")
            assert await other.close() == 0
    assert rang.isdisjoint(line["to_number"] for line in dialled(second))
    assert len(dialled(second)) == waits
    assert log.read_text().count(SAYS) == 1


def to_another_path(folder: Path) -> Path:
    copied(folder / "dialer.db", folder.parent / "copy" / "dialer.db")
    return folder.parent / "copy"


def renamed(folder: Path) -> Path:
    return folder.rename(folder.parent / "renamed")


def restored(folder: Path) -> Path:
    copied(folder / "dialer.db", folder / "backup.db")
    (folder / "backup.db").replace(folder / "dialer.db")
    return folder


def linked(folder: Path) -> Path:
    other = folder.parent / "other"
    other.mkdir()
    os.link(folder / "dialer.db", other / "dialer.db")
    return other


def by_a_symbolic_link(folder: Path) -> Path:
    other = folder.parent / "by link"
    other.symlink_to(folder, target_is_directory=True)
    return other


@pytest.mark.parametrize(
    ("move", "asks"),
    [(to_another_path, True), (renamed, True), (restored, True), (linked, True), (by_a_symbolic_link, False)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_what_counts_as_another_place(
    new_caller: NewCaller, tmp_path: Path, move: Callable[[Path], Path], asks: bool
) -> None:
    """Another path or another inode; the same file by a symbolic link is where it was."""
    async with new_caller(folder=tmp_path / "data") as caller:
        due = await caller.create(numbers(3), send_now=True, window=NEVER_NOW)
    async with new_caller(folder=move(tmp_path / "data")) as caller:
        if asks:
            paused = await caller.until_status(due, "paused")
            assert SAYS in paused["status_reason"]["text"]
        else:
            await caller.until_status(await caller.create(numbers(3), send_now=True), "completed")
            assert (await caller.get(due))["status"] == "sent"


async def test_what_comes_due_before_it_is_adopted_is_paused_too(
    new_caller: NewCaller, tmp_path: Path, clock: Clock
) -> None:
    async with new_caller(folder=tmp_path / "data") as caller:
        at = caller.clock().timestamp() + 3600
        soon = await caller.create(numbers(3), trigger_timestamp=at)
    async with new_caller(folder=renamed(tmp_path / "data")) as caller:
        assert (await caller.get(soon))["status"] == "scheduled"
        clock.forward(hours=2)
        await caller.until_status(soon, "paused")
    assert caller.dialled() == []


async def test_a_copy_is_not_adopted_while_a_dialer_dials_from_the_original(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    async with dialling(variables(first)):
        copied(first / "dialer.db", second / "dialer.db")
        refused = await command(variables(second), "dialer", "adopt")
    assert refused.code == 1
    assert "A dialer dials from the original at this moment" in refused.err
    assert "End that one first" in refused.err
    assert (await command(variables(second), "dialer", "adopt")).code == 0


@pytest.mark.parametrize(
    ("there", "said"), [({}, "does not exist"), ({"database_url": "postgresql://nobody@/none"}, "uses PostgreSQL")]
)
async def test_where_nothing_can_have_moved_there_is_nothing_to_adopt(
    tmp_path: Path, there: dict[str, str], said: str
) -> None:
    ended = await command(variables(tmp_path / "data", **there), "dialer", "adopt")
    assert ended.code == 1
    assert said in ended.err
    assert not (tmp_path / "data").exists()


async def test_one_file_under_two_names_is_not_adopted(new_caller: NewCaller, tmp_path: Path) -> None:
    async with new_caller(folder=tmp_path / "data"):
        pass
    refused = await command(variables(linked(tmp_path / "data")), "dialer", "adopt")
    assert refused.code == 1
    assert "are one file under two names" in refused.err
