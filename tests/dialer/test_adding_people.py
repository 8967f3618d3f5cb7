"""Who is added twice is called once: the dialer knows people by number, in the transaction that adds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.storage import tables
from batchcall_mcp.model import TaskStatus
from tests.dialer.conftest import Caller, NewCaller, emptied_postgresql, numbers

ANN, BOB, CYD = numbers(3)


def of(*to_numbers: str) -> dict[str, Any]:
    return {"tasks": [{"to_number": one} for one in to_numbers]}


async def test_whose_number_is_there_is_not_added_and_is_reported(desk: Caller) -> None:
    """By the batch call's list and by what comes before it in the same addition; as numbers are compared."""
    mexican = "+5215512345678"  # as it was written before 2019: today's is +525512345678
    batch_call_id = await desk.create([ANN, mexican])
    path = f"/batch-call/{batch_call_id}/tasks"
    data = await desk.ask("POST", path, of(ANN, BOB, "+525512345678", BOB, CYD))
    assert (data["appended_count"], data["already_there_count"], data["total"]) == (2, 3, 4)
    assert data["already_there"] == [ANN, "+525512345678", BOB]
    assert [task["to_number"] for task in await desk.tasks(batch_call_id)] == [ANN, mexican, BOB, CYD]


async def test_an_addition_that_adds_nobody_changes_nothing(desk: Caller) -> None:
    """Else a launch that a person looks at would be asked about again."""
    batch_call_id = await desk.create([ANN])
    before = await desk.http.get(f"/batch-call/{batch_call_id}")
    desk.clock.forward(minutes=1)
    answer = await desk.http.post(f"/batch-call/{batch_call_id}/tasks", json=of(ANN))
    assert answer.json()["message"] == "Everybody is there already"
    after = await desk.http.get(f"/batch-call/{batch_call_id}")
    assert (after.headers["etag"], after.json()) == (before.headers["etag"], before.json())


async def test_who_was_called_is_not_added_again_whatever_became_of_it(desk: Caller) -> None:
    batch_call_id = await desk.create([ANN])
    for status in TaskStatus:
        with desk.dialer.store().writing() as tx:
            tx.execute(tables.tasks.update().values(status=status, due_at=None))
        data = await desk.ask("POST", f"/batch-call/{batch_call_id}/tasks", of(ANN))
        assert (data["appended_count"], data["total"]) == (0, 1), status


@pytest.mark.parametrize("keys", [("one", "one"), ("one", "two"), (None, None)], ids=str)
async def test_the_same_addition_at_the_same_moment_takes_effect_once(
    desk: Caller, keys: tuple[str | None, str | None]
) -> None:
    """From connections of their own, with a key, with two and without."""
    batch_call_id = await desk.create([ANN])
    counted: list[tuple[int, int]] = []

    async def add(key: str | None) -> None:
        headers = {"Idempotency-Key": key} if key else {}
        data = await desk.ask("POST", f"/batch-call/{batch_call_id}/tasks", of(ANN, BOB, CYD), headers=headers)
        counted.append((data["appended_count"], data["already_there_count"]))

    async with anyio.create_task_group() as group:
        for key in keys:
            group.start_soon(add, key)
    assert sorted(counted) == ([(2, 1), (2, 1)] if keys[0] == keys[1] == "one" else [(0, 3), (2, 1)])
    assert [task["to_number"] for task in await desk.tasks(batch_call_id)] == [ANN, BOB, CYD]


async def test_two_processes_add_the_same_people_once(new_caller: NewCaller, tmp_path: Path) -> None:
    """To one database."""
    database = emptied_postgresql()
    async with (
        new_caller(start=False, database=database) as one,
        new_caller(start=False, database=database, folder=tmp_path / "other") as other,
    ):
        batch_call_id = await one.create([ANN])
        async with anyio.create_task_group() as group:
            for desk in (one, other) * 3:
                group.start_soon(desk.ask, "POST", f"/batch-call/{batch_call_id}/tasks", of(BOB, CYD))
        assert [task["to_number"] for task in await one.tasks(batch_call_id)] == [ANN, BOB, CYD]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_who_is_added_as_the_last_call_ends_is_called_or_refused(new_caller: NewCaller, kind: str) -> None:
    """Never a batch call that is completed, and holds somebody who waits."""
    async with new_caller(database=emptied_postgresql() if kind == "postgresql" else None) as caller:
        added = 0
        for index in range(8):
            first, second = f"+1213300{index:03d}0", f"+1213400{index:03d}0"
            batch_call_id = await caller.create([first], send_now=True)
            if index % 2:
                await caller.until(batch_call_id, lambda data: data["sent"] == 1)
            answer = await caller.http.post(f"/batch-call/{batch_call_id}/tasks", json=of(second))
            assert answer.status_code in {200, 409}
            added += answer.status_code == 200
            data = await caller.until_status(batch_call_id, "completed")
            assert data["counts"]["completed"] == data["total"] == (2 if answer.status_code == 200 else 1)
        assert len(caller.dialled()) == 8 + added


async def test_if_match_holds_an_addition_to_the_list_that_was_seen(desk: Caller) -> None:
    """Who is added to a paused one is not called because somebody resumed it meanwhile."""
    batch_call_id = await desk.create([ANN], trigger_timestamp=(desk.clock().timestamp() + 3600))
    await desk.ask("POST", f"/batch-call/{batch_call_id}/pause")
    tag = (await desk.http.get(f"/batch-call/{batch_call_id}")).headers["etag"]
    await desk.ask("POST", f"/batch-call/{batch_call_id}/resume")
    path, headers = f"/batch-call/{batch_call_id}/tasks", {"If-Match": tag}
    await desk.ask("POST", path, of(BOB), status=412, headers=headers)
    with desk.dialer.store().reading() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(tables.tasks)).scalar_one() == 1


async def test_a_cancel_at_the_same_moment_leaves_nobody_who_waits(desk: Caller) -> None:
    """Who is added before it is cancelled with the others; after it nobody is added."""
    for index in range(5):
        batch_call_id = await desk.create([ANN], trigger_timestamp=(desk.clock().timestamp() + 3600 + index))
        path = f"/batch-call/{batch_call_id}"

        async def add(path: str = path) -> None:
            answer = await desk.http.post(f"{path}/tasks", json=of(BOB, CYD))
            assert answer.status_code in {200, 409}

        async with anyio.create_task_group() as group:
            group.start_soon(add)
            group.start_soon(desk.ask, "POST", f"{path}/cancel")
        data = await desk.get(batch_call_id)
        assert (data["status"], data["counts"]["cancelled"]) == ("cancelled", data["total"])
