"""What changes is told, in the same transaction, to those who want to know, and nothing private with it."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.domain.records import NewTask
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import commands, outbox
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import tasks, webhook_outbox, webhooks
from tests.dialer.conftest import Caller, Clock, eventually, numbers
from tests.dialer.hooks import add_webhook, messages
from tests.postgresql import postgresql_url

URL = "https://hooks.example.com/"
LATER = "2026-11-25T20:00:00+00:00"


def told(store: Store) -> list[str]:
    return [row["event"] for row in messages(store)]


def new_batch_call(tx: sa.Connection, organization_id: str = "local", count: int = 1) -> str:
    columns: dict[str, Any] = {"from_number": "+14157774444", "status": State.DRAFT, "max_concurrency": 1, "window": {}}
    made = commands.create(tx, organization_id, columns, [NewTask(to_number=one) for one in numbers(count)], 0)
    return made.batch_call_id


def task_ids(tx: sa.Connection, batch_call_id: str) -> list[str]:
    mine = tasks.c.batch_call_id == batch_call_id
    return list(tx.scalars(sa.select(tasks.c.task_id).where(mine).order_by(tasks.c.position)))


async def test_each_change_of_state_is_reported_once(desk: Caller) -> None:
    store = desk.dialer.store()
    add_webhook(store, URL)
    batch_call_id = await desk.create(numbers(1))
    assert told(store) == []
    path = f"/batch-call/{batch_call_id}"
    await desk.ask("PATCH", path, {"trigger_timestamp": LATER})
    await desk.ask("PATCH", path, {"name": "another name"})
    await desk.ask("POST", f"{path}/pause")
    await desk.ask("POST", f"{path}/pause")
    await desk.ask("POST", f"{path}/resume")
    await desk.ask("POST", f"{path}/execute")
    await desk.ask("POST", f"{path}/pause")
    await desk.ask("POST", f"{path}/resume")
    await desk.ask("POST", f"{path}/cancel")
    await desk.ask("POST", f"{path}/cancel")
    await desk.create(numbers(1), send_now=True)
    await desk.create(numbers(1), trigger_timestamp=LATER)
    assert [event.removeprefix("batch_call.") for event in told(store)] == [
        "scheduled",
        "paused",
        "resumed",
        "started",
        "paused",
        "resumed",
        "cancelled",
        "started",
        "scheduled",
    ]


async def test_a_time_that_moves_is_reported(desk: Caller) -> None:
    store = desk.dialer.store()
    add_webhook(store, URL)
    batch_call_id = await desk.create(numbers(1), trigger_timestamp=LATER)
    await desk.ask("PATCH", f"/batch-call/{batch_call_id}", {"trigger_timestamp": "2026-11-26T20:00:00+00:00"})
    assert told(store) == ["batch_call.scheduled"] * 2


async def test_a_retry_of_what_was_completed_starts_it_again(desk: Caller) -> None:
    store = desk.dialer.store()
    batch_call_id = await desk.create(numbers(1), send_now=True)
    add_webhook(store, URL)
    with store.writing() as tx:
        tx.execute(tasks.update().values(status="busy"))
        tx.execute(sa.text("UPDATE batch_calls SET status = 'completed'"))
    await desk.ask("POST", f"/batch-call/{batch_call_id}/retry", {"task_status": ["no_answer"]})
    assert told(store) == []
    await desk.ask("POST", f"/batch-call/{batch_call_id}/retry", {"task_status": ["busy"]})
    assert told(store) == ["batch_call.started"]


async def test_a_repetition_by_key_is_not_reported_again(desk: Caller) -> None:
    store = desk.dialer.store()
    add_webhook(store, URL)
    for _ in range(2):
        await desk.create(numbers(1), trigger_timestamp=LATER)
        await desk.ask("GET", "/batch-call/list")
    batch_call_id = await desk.create(numbers(1))
    for _ in range(2):
        await desk.ask("POST", f"/batch-call/{batch_call_id}/execute", headers={"Idempotency-Key": "k"})
    assert told(store) == ["batch_call.scheduled"] * 2 + ["batch_call.started"]


async def test_a_cancel_tells_of_those_who_were_dialled_one_by_one(desk: Caller) -> None:
    """The others are told of by the batch call's own message, so that no stop waits for 100,000 messages."""
    store = desk.dialer.store()
    add_webhook(store, URL)
    batch_call_id = await desk.create(numbers(3), send_now=True)
    with store.writing() as tx:
        first = task_ids(tx, batch_call_id)[0]
        tx.execute(tasks.update().where(tasks.c.task_id == first).values(last_outcome="busy", attempts=1))
    await desk.ask("POST", f"/batch-call/{batch_call_id}/cancel")
    assert told(store) == ["batch_call.started", "task.finished", "batch_call.cancelled"]
    data = json.loads(messages(store)[1]["payload"])["data"]
    assert (data["task_id"], data["status"]) == (first, "busy")


async def test_what_is_reported_holds_no_variables(desk: Caller) -> None:
    store = desk.dialer.store()
    add_webhook(store, URL)
    task = {"to_number": numbers(1)[0], "name": "Ann", "dynamic_variables": {"diagnosis": "private"}}
    data = await desk.ask(
        "POST", "/batch-call", {"from_number": "+14157774444", "name": "spring", "send_now": True, "tasks": [task]}
    )
    with store.writing() as tx:
        [task_id] = task_ids(tx, data["batch_call_id"])
        tx.execute(tasks.update().values(status="completed", attempts=2))
        outbox.task_events(tx, [task_id], store.now())
    at = "2026-11-23T20:00:00.000+00:00"
    assert [json.loads(row["payload"]) for row in messages(store)] == [
        {
            "type": "batch_call.started",
            "timestamp": at,
            "data": {
                "batch_call_id": data["batch_call_id"],
                "name": "spring",
                "status": "sent",
                "total_task_count": 1,
            },
        },
        {
            "type": "task.finished",
            "timestamp": at,
            "data": {
                "task_id": task_id,
                "batch_call_id": data["batch_call_id"],
                "to_number": numbers(1)[0],
                "status": "completed",
                "attempts": 2,
            },
        },
    ]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, clock: Clock) -> Any:
    sqlite = request.param == "sqlite"
    made = Store.open(request.getfixturevalue("tmp_path") / "d.db" if sqlite else postgresql_url(), clock)
    yield made
    made.close()


def test_each_webhook_gets_what_its_organization_does_and_what_it_wants(store: Store) -> None:
    everything = add_webhook(store, URL)
    ends = add_webhook(store, URL, events=["batch_call.completed"])
    others = add_webhook(store, URL, organization_id="another")
    with store.writing() as tx:
        mine, theirs = new_batch_call(tx), new_batch_call(tx, "another")
        nobodys = new_batch_call(tx, "deaf")
        told_of: list[tuple[str, outbox.Event]] = [
            (mine, "batch_call.completed"),
            (theirs, "batch_call.completed"),
            (nobodys, "batch_call.completed"),
            (mine, "batch_call.started"),
        ]
        outbox.batch_call_events(tx, told_of, store.now())
        found = {
            (row.webhook_id, json.loads(row.payload)["data"]["batch_call_id"], row.event)
            for row in tx.execute(sa.select(webhook_outbox))
        }
    assert found == {
        (everything, mine, "batch_call.completed"),
        (everything, mine, "batch_call.started"),
        (ends, mine, "batch_call.completed"),
        (others, theirs, "batch_call.completed"),
    }


def test_only_tasks_that_are_over_are_reported_however_many(store: Store) -> None:
    webhook_id = add_webhook(store, URL, events=["task.finished"])
    add_webhook(store, URL, events=["batch_call.completed"])
    with store.writing() as tx:
        batch_call_id = new_batch_call(tx, count=1_203)
        ids = task_ids(tx, batch_call_id)
        tx.execute(tasks.update().where(tasks.c.position >= 2).values(status="completed", attempts=1))
        tx.execute(tasks.update().where(tasks.c.position == 1).values(status="calling"))
        outbox.task_events(tx, ids, store.now())
        rows = tx.execute(sa.select(webhook_outbox)).all()
    assert sorted(json.loads(row.payload)["data"]["task_id"] for row in rows) == sorted(ids[2:])
    assert {(row.webhook_id, row.event, row.due_at, row.tries) for row in rows} == {
        (webhook_id, "task.finished", store.now(), 0)
    }


def test_where_nobody_listens_it_is_one_query(store: Store) -> None:
    add_webhook(store, URL, organization_id="another")
    asked: list[str] = []
    with store.writing() as tx:
        batch_call_id = new_batch_call(tx, count=50)
        ids = task_ids(tx, batch_call_id)
        sa.event.listen(tx, "before_cursor_execute", lambda _c, _x, statement, *_: asked.append(statement))
        outbox.task_events(tx, ids, store.now())
        outbox.batch_call_events(tx, [(batch_call_id, "batch_call.completed")], store.now())
        assert len(asked) == 2
        outbox.task_events(tx, [], store.now())
        outbox.batch_call_events(tx, [], store.now())
        assert len(asked) == 2


def test_a_change_that_is_rolled_back_is_not_reported(store: Store) -> None:
    add_webhook(store, URL)
    with store.engine.connect() as tx:
        outbox.batch_call_events(tx, [(new_batch_call(tx), "batch_call.completed")], store.now())
        tx.rollback()
    with store.reading() as tx:
        assert tx.execute(sa.select(webhook_outbox)).all() == []


async def test_a_webhook_that_is_deleted_meanwhile_does_not_fail_the_change(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine records outcomes in such a transaction: nothing may roll it back."""
    store = Store.open(postgresql_url(), clock)
    add_webhook(store, URL)

    def delete() -> None:
        with store.writing() as tx:
            tx.execute(webhooks.delete())

    deleting = threading.Thread(target=delete)
    write = outbox._write

    def write_late(*given: Any) -> None:
        deleting.start()
        deleting.join(0.3)  # as long as it takes without a lock, and more
        write(*given)

    monkeypatch.setattr(outbox, "_write", write_late)
    with store.writing() as tx:
        outbox.batch_call_events(tx, [(new_batch_call(tx), "batch_call.completed")], store.now())
    await eventually(lambda: not deleting.is_alive())
    with store.reading() as tx:
        assert tx.execute(sa.select(webhook_outbox)).all() == []
    store.close()
