"""A start that skips people of the list: in one step, before anybody is dialled, each with the reason."""

from __future__ import annotations

from tests.dialer.conftest import Caller, body, numbers

WHY = "the number is in another live batch call"


async def test_people_who_are_skipped_are_not_dialled_and_the_others_are(caller: Caller) -> None:
    batch_call_id = await caller.create(numbers(4))
    ids = [task["task_id"] for task in await caller.tasks(batch_call_id)]
    await caller.ask("PATCH", f"/batch-call/{batch_call_id}", {"send_now": True, "skip_tasks": {WHY: ids[:2]}})
    data = await caller.until_status(batch_call_id, "completed")
    assert (data["counts"]["skipped"], data["counts"]["completed"]) == (2, 2)
    tasks = await caller.tasks(batch_call_id)
    assert [task["error_message"] for task in tasks] == [WHY, WHY, None, None]
    assert len(caller.dialled()) == 2


async def test_a_task_that_is_not_waiting_there_changes_nothing(caller: Caller) -> None:
    batch_call_id, other = await caller.create(numbers(2)), await caller.create(numbers(1))
    [theirs] = [task["task_id"] for task in await caller.tasks(other)]
    mine = [task["task_id"] for task in await caller.tasks(batch_call_id)]
    for ids in ([*mine, theirs], ["task_none"]):
        change = {"send_now": True, "skip_tasks": {WHY: ids}}
        refused = await caller.ask("PATCH", f"/batch-call/{batch_call_id}", change, status=422)
        assert "Nothing was changed" in str(refused)
    data = await caller.ask("GET", f"/batch-call/{batch_call_id}")
    assert (data["status"], data["counts"]["pending"]) == ("draft", 2)
    assert caller.dialled() == []


async def test_nobody_is_skipped_after_the_start_or_in_a_list_that_is_sent(caller: Caller) -> None:
    batch_call_id = await caller.create(numbers(1), send_now=True)
    [task] = await caller.tasks(batch_call_id)
    skipped = {"skip_tasks": {WHY: [task["task_id"]]}}
    await caller.until_status(batch_call_id, "completed")
    await caller.ask("PATCH", f"/batch-call/{batch_call_id}", skipped, status=409)
    await caller.ask("POST", "/batch-call", body(numbers(1)) | skipped, status=422)
