"""/metrics: one organisation's figures, from the database alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from batchcall_mcp import __version__
from batchcall_mcp.dialer.domain.records import HeldBy
from batchcall_mcp.dialer.rest import metrics
from batchcall_mcp.dialer.rest.metrics import Figures
from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import attempts, batch_calls, tasks, webhook_outbox, webhooks, workers
from tests.dialer.conftest import Clock, NewCaller, client_of, numbers
from tests.postgresql import postgresql_url

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    opened = Store.open(tmp_path / "dialer.db" if request.param == "sqlite" else postgresql_url(), clock)
    yield opened
    opened.close()


def add_batch_call(tx: sa.Connection, batch_call_id: str, status: str, organization_id: str = "mine") -> None:
    tx.execute(
        batch_calls.insert().values(
            batch_call_id=batch_call_id,
            organization_id=organization_id,
            from_number="+14157774444",
            status=status,
            total_task_count=1,
            max_concurrency=1,
            window={},
            created_at=0,
            updated_at=0,
        )
    )


def add_task(tx: sa.Connection, task_id: str, status: str, due_at: int | None) -> None:
    tx.execute(
        tasks.insert().values(
            task_id=task_id,
            batch_call_id=task_id.partition("/")[0],
            position=int(task_id.partition("/")[2]),
            to_number="+12132000000",
            status=status,
            attempts=0,
            answered=False,
            due_at=due_at,
            created_at=0,
        )
    )


def add_attempts(tx: sa.Connection, organization_id: str, ended: list[tuple[int, int | None, str | None]]) -> None:
    tx.execute(
        attempts.insert(),
        [
            {
                "task_id": f"{organization_id}{index}",
                "n": 1,
                "batch_call_id": "b",
                "organization_id": organization_id,
                "to_number": "+12132000000",
                "started_at": started_at,
                "ended_at": ended_at,
                "outcome": outcome,
            }
            for index, (started_at, ended_at, outcome) in enumerate(ended)
        ],
    )


def fill(store: Store) -> None:
    """Something of everything, and a neighbour who has as much of each."""
    now = store.now()
    with store.writing() as tx:
        for owner in ("mine", "other"):
            add_batch_call(tx, f"{owner}-running", "sent", owner)
            add_batch_call(tx, f"{owner}-paused", "paused", owner)
            late = batch_calls.c.batch_call_id == f"{owner}-paused"
            tx.execute(batch_calls.update().where(late).values(status_reason="late", status_reason_text="."))
            add_batch_call(tx, f"{owner}-done", "completed", owner)
            add_batch_call(tx, f"{owner}-draft", "draft", owner)
            add_task(tx, f"{owner}-running/0", "pending", now - 90 * SECOND)
            add_task(tx, f"{owner}-running/1", "pending", now)
            add_task(tx, f"{owner}-running/2", "pending", now + 1)
            add_task(tx, f"{owner}-running/3", "calling", None)
            add_task(tx, f"{owner}-paused/0", "pending", now - HOUR)
            add_attempts(
                tx,
                owner,
                [
                    (now - 2 * HOUR, now - HOUR, "completed"),
                    (now - 2 * HOUR, now - HOUR + 1, "completed"),
                    (now - MINUTE, now - SECOND, "voicemail"),
                    (now - MINUTE + 1, now - SECOND, "busy"),
                    (now, now, "interrupted"),
                    (now, None, None),
                ],
            )
            tx.execute(webhooks.insert().values(_webhook(owner)))
            for message, due_at in (("late", now - 1), ("due", now), ("later", now + 1), ("sent", None)):
                tx.execute(webhook_outbox.insert().values(_message(f"{owner}-{message}", owner, due_at)))
        tx.execute(
            workers.insert().values(worker_id="w", host="here", pid=1, capacity=50, beats=1, started_at=now),
        )


def _webhook(owner: str) -> dict[str, Any]:
    return {"webhook_id": owner, "organization_id": owner, "url": "https://x", "secret": "s", "created_at": 0}


def _message(message_id: str, webhook_id: str, due_at: int | None) -> dict[str, Any]:
    message = {"message_id": message_id, "webhook_id": webhook_id, "event": "e", "payload": "{}"}
    return message | {"created_at": 0, "tries": 0, "due_at": due_at}


def test_the_figures_are_those_of_one_organisation(store: Store) -> None:
    """To the millisecond at each border, on both databases."""
    fill(store)
    assert metrics.figures(store, "mine") == Figures(
        active=1,
        outcomes={"completed": 2, "voicemail": 1, "busy": 1, "interrupted": 1},
        ended_lately={"completed": 1, "voicemail": 1, "busy": 1, "interrupted": 1},
        started_last_minute=3,
        due=2,
        lag_s=90.0,
        batch_calls={"sent": 1, "paused": 1, "draft": 1},
        paused_because={"late": 1},
        held_back={},
        do_not_call={},
        webhook_messages_due=2,
        workers=1,
        engine_failures=0,
    )


def samples(text: str) -> dict[tuple[str, str], float]:
    """By name (without our prefix) and label."""
    return {
        (sample.name.removeprefix("batchcall_dialer_"), ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_they_are_given_in_prometheus_s_words(store: Store) -> None:
    """Also what is 0, so that every series is there from the beginning."""
    fill(store)
    assert samples(metrics.exposition(store, "mine").decode()) == {
        ("build_info", __version__): 1,
        ("active_calls", ""): 1,
        ("calls_started_total", ""): 6,
        ("calls_ended_total", "busy"): 1,
        ("calls_ended_total", "completed"): 2,
        ("calls_ended_total", "failed"): 0,
        ("calls_ended_total", "interrupted"): 1,
        ("calls_ended_total", "no_answer"): 0,
        ("calls_ended_total", "voicemail"): 1,
        ("dials_per_second", ""): 0.05,
        ("answer_ratio", ""): 0.5,
        ("tasks_due", ""): 2,
        ("queue_lag_seconds", ""): 90,
        ("batch_calls", "draft"): 1,
        ("batch_calls", "scheduled"): 0,
        ("batch_calls", "sent"): 1,
        ("batch_calls", "paused"): 1,
        ("batch_calls_paused", "stopped"): 0,
        ("batch_calls_paused", "late"): 1,
        ("batch_calls_paused", "failing"): 0,
        ("batch_calls_paused", "first_done"): 0,
        ("batch_calls_paused", "error"): 0,
        ("batch_calls_paused", "account"): 0,
        **{("tasks_held_back", reason): 0 for reason in get_args(HeldBy)},
        ("do_not_call_numbers", "api"): 0,
        ("do_not_call_numbers", "carrier"): 0,
        ("do_not_call_numbers", "simulator"): 0,
        ("webhook_messages_due", ""): 2,
        ("workers", ""): 1,
        ("engine_failures_total", ""): 0,
    }


def test_there_is_no_answer_rate_where_nobody_was_called(store: Store) -> None:
    """0 would say that nobody answers. Everything else is 0."""
    told = samples(metrics.exposition(store, "nobody").decode())
    assert ("answer_ratio", "") not in told
    assert {name for name, value in told.items() if value} == {("build_info", __version__)}


def test_attempts_are_counted_from_an_index_alone(tmp_path: Path) -> None:
    """A million of their rows are not read at every scrape."""
    store = Store.open(tmp_path / "dialer.db")
    plans: list[str] = []

    def explain(connection: sa.Connection, _c: Any, statement: str, parameters: Any, _x: Any, _m: Any) -> None:
        if "FROM attempts" in statement and not statement.startswith("EXPLAIN"):
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[-1] for row in rows)

    sa.event.listen(store.engine, "before_cursor_execute", explain)
    metrics.figures(store, "mine")
    store.close()
    assert len(plans) == 3
    assert all(plan.startswith("SEARCH attempts USING COVERING INDEX ") for plan in plans), plans


async def test_a_real_run_is_reported_alike_by_every_process_and_only_to_its_organisation(
    new_caller: NewCaller,
) -> None:
    """Without keys 401; a process that started later and dials nothing knows as much."""
    async with new_caller() as caller, new_caller(start=False) as later:
        batch_call_id = await caller.create([*numbers(3), *numbers(2, 7)], send_now=True)
        await caller.until_status(batch_call_id, "completed")
        answer = await caller.http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        told = samples(answer.text)
        assert told["calls_started_total", ""] == 5
        assert (told["calls_ended_total", "completed"], told["calls_ended_total", "busy"]) == (3, 2)
        assert told["answer_ratio", ""] == 0.6
        assert (await later.http.get("/metrics")).text == answer.text

        stranger = api_keys.new_pair()
        async with client_of(caller.dialer.app, *stranger) as unknown:
            refused = await unknown.get("/metrics")
            assert (refused.status_code, refused.json()["code"]) == (401, "authentication_failed")
        api_keys.add(caller.dialer.store(), stranger, "strangers")
        async with client_of(caller.dialer.app, *stranger) as known:
            told = samples((await known.get("/metrics")).text)
            assert told["calls_started_total", ""] == 0
