"""What the REST face has beyond the dialect: added tasks, attempts, export, expiry, and writes at the same moment."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.domain.rules import State, check_expiry
from batchcall_mcp.dialer.rest import csv_export
from batchcall_mcp.dialer.rest.messages import response_models
from batchcall_mcp.dialer.storage import tables
from batchcall_mcp.dialer.storage.store import Store, WriteRequest
from batchcall_mcp.errors import InvalidInput, NotFound
from tests.dialer.conftest import CALLER, Caller, NewCaller, body, numbers, on_sqlite
from tests.dialer.test_api import reach

NEW = [{"to_number": f"+1310200{index:04d}"} for index in range(3)]
MORE = [{"to_number": f"+1310200{index:04d}"} for index in range(3, 6)]


@pytest.mark.parametrize("status", ["draft", "scheduled", "sent", "paused", "cancelled"])
@on_sqlite("desk")
async def test_tasks_are_added_after_the_last(desk: Caller, status: str) -> None:
    """As long as it is not over; what was there stays as it was."""
    batch_call_id = await reach(desk, status)
    before, first = await desk.get(batch_call_id), await desk.tasks(batch_call_id)
    desk.clock.forward(seconds=1)
    path = f"/batch-call/{batch_call_id}/tasks"
    if status == "cancelled":
        refused = await desk.ask("POST", path, {"tasks": NEW}, status=409)
        assert refused["error"] == (
            "Cannot add tasks to a batch call with status cancelled; that is possible with status "
            "draft, scheduled, sent, paused. Nothing was changed."
        )
        return
    for times, more in ((1, NEW), (2, MORE)):
        data = await desk.ask("POST", path, {"tasks": more})
        assert (data.pop("appended_count"), data["total"], data["status"]) == (3, 2 + 3 * times, status)
        assert (data.pop("already_there_count"), data.pop("already_there")) == (0, [])
        assert data | {"held_back": [], "results": None} == await desk.get(batch_call_id)
    tasks = await desk.tasks(batch_call_id)
    assert tasks[:2] == first
    assert [task["to_number"] for task in tasks[2:]] == [task["to_number"] for task in NEW + MORE]
    assert [page["position"] for page in await exported(desk, batch_call_id)] == [str(n) for n in range(8)]
    assert data["updated_timestamp"] == before["updated_timestamp"] + 1000


async def test_the_same_addition_takes_effect_once(desk: Caller) -> None:
    """With one key."""
    batch_call_id = await desk.create(numbers(1))
    headers = {"Idempotency-Key": "more"}
    for _ in range(2):
        await desk.ask("POST", f"/batch-call/{batch_call_id}/tasks", {"tasks": NEW}, headers=headers)
    assert (await desk.get(batch_call_id))["total"] == 4


@pytest.mark.parametrize("asked", [{}, {"tasks": []}, {"tasks": NEW, "name": "x"}, {"tasks": [{"to_number": CALLER}]}])
@on_sqlite("desk")
async def test_a_wrong_addition_changes_nothing(desk: Caller, asked: dict[str, Any]) -> None:
    """Nothing to add, another field, or the caller itself."""
    batch_call_id = await desk.create(numbers(1))
    await desk.ask("POST", f"/batch-call/{batch_call_id}/tasks", asked, status=422)
    assert (await desk.get(batch_call_id))["total"] == 1


async def test_who_is_added_to_a_running_batch_call_is_dialled_now(caller: Caller) -> None:
    """And counted like everybody."""
    batch_call_id = await caller.create([*numbers(1), "+12132000019"], send_now=True)
    await caller.until(batch_call_id, lambda data: data["counts"]["pending"] == 0)
    long = await caller.create(numbers(1), send_now=True, window={"start": "03:00", "end": "03:01"})
    await caller.ask("POST", f"/batch-call/{long}/tasks", {"tasks": [{**NEW[0], "timezone": "Etc/GMT-7"}]})
    data = await caller.until(long, lambda data: data["counts"]["completed"] == 1)
    assert (data["total"], data["sent"], data["counts"]["pending"]) == (2, 1, 1)
    assert [line["to_number"] for line in caller.dialled()][-1] == NEW[0]["to_number"]


async def test_the_attempts_of_a_task_come_oldest_first(caller: Caller) -> None:
    """With how each ended; for one that was not dialled there are none."""
    batch_call_id = await caller.create(
        ["+12132000006", *numbers(1, 9)], send_now=True, retry_config={"max_attempts": 1}
    )
    await caller.until(
        batch_call_id, lambda data: (data["sent"], data["counts"]["failed"], data["counts"]["pending"]) == (2, 1, 1)
    )
    caller.clock.forward(minutes=30)
    await caller.until_status(batch_call_id, "completed")
    first, failed = await caller.tasks(batch_call_id)
    data = await caller.ask("GET", f"/batch-call/{batch_call_id}/tasks/{first['task_id']}/attempts")
    response_models.Attempts.model_validate(data)
    assert data["task_id"] == first["task_id"]
    assert [(attempt["n"], attempt["outcome"], attempt["to_number"]) for attempt in data["attempts"]] == [
        (1, "no_answer", "+12132000006"),
        (2, "completed", "+12132000006"),
    ]
    assert [attempt["attempt_id"] for attempt in data["attempts"]] == [
        line["attempt_id"] for line in caller.dialled() if line["to_number"] == "+12132000006"
    ]
    assert data["attempts"][0]["started_at"] == "2026-11-23T20:00:00.000+00:00"
    assert data["attempts"][0]["ended_at"] < data["attempts"][1]["started_at"] == first["attempted_at"]
    [only] = (await caller.ask("GET", f"/batch-call/{batch_call_id}/tasks/{failed['task_id']}/attempts"))["attempts"]
    assert only["error_message"]


async def test_attempts_are_only_of_a_task_of_this_batch_call(desk: Caller) -> None:
    """Not of one that is not there, nor of another batch call's."""
    one, other = await desk.create(numbers(1)), await desk.create(numbers(1))
    [task] = await desk.tasks(one)
    path = f"tasks/{task['task_id']}/attempts"
    assert (await desk.ask("GET", f"/batch-call/{one}/{path}"))["attempts"] == []
    for missing in (
        f"{other}/{path}",
        f"none/{path}",
        f"%00/{path}",
        f"{one}/tasks/none/attempts",
        f"{one}/tasks/%00/attempts",
    ):
        refused = await desk.ask("GET", f"/batch-call/{missing}", status=404)
        assert "Nothing was changed." in refused["error"]


async def exported(desk: Caller, batch_call_id: str) -> list[dict[str, str]]:
    answer = await desk.http.get(f"/batch-call/{batch_call_id}/export.csv")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{batch_call_id}.csv"'
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


@on_sqlite("desk")
async def test_an_export_holds_every_task_and_runs_no_formula(desk: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the list, over several reads."""
    monkeypatch.setattr(csv_export, "_ROWS", 2)
    wanted: list[dict[str, Any]] = [
        {"to_number": "+12132000010", "name": '=HYPERLINK("http://x")', "dynamic_variables": {"a": "=1", "b": "ü\n"}},
        {"to_number": "+12132000020", "name": 'O"Neil, Ann\nof Bonn'},
        {"to_number": "+12132000030", "name": "-2"},
        {"to_number": "+12132000040"},
    ]
    for count in range(1, 5):
        batch_call_id = (await desk.ask("POST", "/batch-call", body([]) | {"tasks": wanted[:count]}))["batch_call_id"]
        rows = await exported(desk, batch_call_id)
        assert [row["to_number"] for row in rows] == [task["to_number"] for task in wanted[:count]]
    assert list(rows[0]) == list(csv_export.COLUMNS)
    assert [row["name"] for row in rows] == ['\'=HYPERLINK("http://x")', 'O"Neil, Ann\nof Bonn', "'-2", ""]
    assert [json.loads(row["dynamic_variables"]) for row in rows] == [wanted[0]["dynamic_variables"], {}, {}, {}]
    assert [row["task_id"] for row in rows] == [task["task_id"] for task in await desk.tasks(batch_call_id)]
    assert {(row["status"], row["attempts"], row["attempted_at"]) for row in rows} == {("pending", "0", "")}
    await desk.ask("GET", "/batch-call/none/export.csv", status=404)


async def test_an_export_of_what_is_deleted_meanwhile_breaks_off(desk: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a file must not look whole."""
    monkeypatch.setattr(csv_export, "_ROWS", 2)
    batch_call_id = await desk.create(numbers(4))
    pieces = csv_export.lines(desk.dialer.store, "local", batch_call_id)
    assert next(pieces).count("\n") == 3
    await desk.ask("DELETE", f"/batch-call/{batch_call_id}")
    with pytest.raises(NotFound):
        next(pieces)


def ms(desk: Caller, **later: float) -> int:
    return int((desk.clock() + timedelta(**later)).timestamp() * 1000)


async def test_pace_and_expiry_are_kept_and_taken_back(desk: Caller) -> None:
    """By create, PATCH and PUT."""
    expires = ms(desk, hours=2)
    asked: dict[str, Any] = {"calls_per_second": 0.5, "expires_timestamp": expires}
    batch_call_id = await desk.create(numbers(1), **asked)

    async def kept() -> dict[str, Any]:
        data = await desk.get(batch_call_id)
        return {name: data[name] for name in asked}

    assert await kept() == asked
    await desk.ask("PATCH", f"/batch-call/{batch_call_id}", {"calls_per_second": 7})
    assert await kept() == {"calls_per_second": 7.0, "expires_timestamp": expires}
    later = (desk.clock() + timedelta(hours=3)).isoformat()
    await desk.ask("PATCH", f"/batch-call/{batch_call_id}", {"expires_timestamp": later})
    assert await kept() == {"calls_per_second": 7.0, "expires_timestamp": ms(desk, hours=3)}
    await desk.ask("PUT", f"/batch-call/{batch_call_id}", body(numbers(1)))
    assert await kept() == {"calls_per_second": None, "expires_timestamp": None}


@pytest.mark.parametrize("pace", [0, -1, 1000.5, "1", True, [1]])
@on_sqlite("desk")
async def test_a_pace_is_a_number_of_calls(desk: Caller, pace: Any) -> None:
    """More than none, at most a thousand."""
    refused = await desk.ask("POST", "/batch-call", body(numbers(1), calls_per_second=pace), status=422)
    assert "calls_per_second: " in refused["error"]


@on_sqlite("desk")
async def test_what_has_expired_is_not_launched(desk: Caller) -> None:
    """Refused at creation, by PATCH, execute and retry alike; a draft may have any expiry."""
    past, future = ms(desk, hours=-1), ms(desk, hours=1)
    for asked in (
        {"send_now": True, "expires_timestamp": past},
        {"trigger_timestamp": future, "expires_timestamp": future},
        {"trigger_timestamp": ms(desk, hours=-3), "expires_timestamp": past},
        {"status": "draft", "trigger_timestamp": future, "expires_timestamp": past},
    ):
        refused = await desk.ask("POST", "/batch-call", body(numbers(1), **asked), status=422)
        assert "expires_timestamp: " in refused["error"]
        assert "Nothing was changed" in refused["error"]
    batch_call_id = await desk.create(numbers(1), expires_timestamp=past)
    for method, path, change in (
        ("POST", "/execute", None),
        ("PATCH", "", {"send_now": True}),
        ("PATCH", "", {"trigger_timestamp": future}),
    ):
        refused = await desk.ask(method, f"/batch-call/{batch_call_id}{path}", change, status=422)
        assert "expires_timestamp: " in refused["error"]
    assert (await desk.get(batch_call_id))["status"] == "draft"
    await desk.ask("PATCH", f"/batch-call/{batch_call_id}", {"expires_timestamp": future, "send_now": True})
    desk.clock.forward(hours=2)
    [task] = await desk.tasks(batch_call_id)
    path = f"/batch-call/{batch_call_id}/retry"
    assert "expires_timestamp: " in (await desk.ask("POST", path, {"task_ids": [task["task_id"]]}, status=422))["error"]
    await desk.ask("POST", f"/batch-call/{batch_call_id}/pause")


@pytest.mark.parametrize(
    ("state", "scheduled_at", "expires_at", "refused"),
    [
        (State.SENT, None, 10, True),
        (State.SENT, None, 11, False),
        (State.SENT, 50, 11, False),
        (State.SCHEDULED, 20, 20, True),
        (State.SCHEDULED, 20, 21, False),
        (State.SCHEDULED, 5, 10, True),
        (State.DRAFT, None, 1, False),
        (State.DRAFT, 5, 5, True),
        (State.SENT, None, None, False),
    ],
)
def test_expiry(state: State, scheduled_at: int | None, expires_at: int | None, refused: bool) -> None:
    """Now is 10."""
    if refused:
        with pytest.raises(InvalidInput, match=r"^expires_timestamp: "):
            check_expiry(state, scheduled_at=scheduled_at, expires_at=expires_at, now=10)
    else:
        check_expiry(state, scheduled_at=scheduled_at, expires_at=expires_at, now=10)


async def test_two_equal_requests_at_once_take_effect_once(desk: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stand before the transaction before either goes in, in threads of their own."""
    together = threading.Barrier(2, timeout=20)
    once = Store.once

    def at_once(
        self: Store, write: WriteRequest, effect: Callable[[sa.Connection], Mapping[str, Any]]
    ) -> tuple[Mapping[str, Any], bool]:
        together.wait()
        return once(self, write, effect)

    monkeypatch.setattr(Store, "once", at_once)
    for round_ in range(5):
        found: list[dict[str, Any]] = []

        async def ask(key: str, found: list[dict[str, Any]]) -> None:
            answer = await desk.http.post("/batch-call", json=body(numbers(3)), headers={"Idempotency-Key": key})
            found.append(answer.json())

        async with anyio.create_task_group() as both:
            both.start_soon(ask, str(round_), found)
            both.start_soon(ask, str(round_), found)
        first, second = sorted(found, key=lambda answer: "replayed" in answer)
        assert second == first | {"replayed": True}
        assert (await desk.ask("GET", "/batch-call/list"))["pagination"]["total_count"] == round_ + 1
    with desk.dialer.store().reading() as tx:
        assert tx.scalar(sa.select(sa.func.count()).select_from(tables.tasks)) == 15


@pytest.mark.parametrize("path", ["list?page=10000000&limit=100", "{id}/tasks?page=10000000&limit=1000"])
async def test_the_farthest_page_is_empty(desk: Caller, path: str) -> None:
    """And no number is too large for the database; beyond it is a 422."""
    batch_call_id = await desk.create(numbers(1))
    data = await desk.ask("GET", f"/batch-call/{path.format(id=batch_call_id)}")
    assert data["pagination"]["total_count"] == 1
    assert data["pagination"]["has_next_page"] is False
    beyond = path.format(id=batch_call_id).replace("10000000", str(2**63))
    await desk.ask("GET", f"/batch-call/{beyond}", status=422)


@pytest.mark.parametrize("query", ["agent_id=%00", "name=a%00", "&".join(["agent_id=a"] * 101), "created_after=nan"])
async def test_a_filter_that_a_database_cannot_take_is_refused(desk: Caller, query: str) -> None:
    """Alike on both, before it is asked."""
    await desk.ask("GET", f"/batch-call/list?{query}", status=422)


@on_sqlite("desk")
async def test_a_wrong_method_is_answered_with_all_the_right_ones(desk: Caller) -> None:
    """Not only those of the first route that fits."""
    for path, allowed in (
        ("/batch-call/list", "GET, POST"),
        ("/batch-call/x", "GET, PUT, PATCH, DELETE"),
        ("/batch-call/x/tasks", "GET, POST"),
        ("/batch-call/x/tasks/y/attempts", "GET"),
    ):
        answer = await desk.http.request("OPTIONS", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_a_served_answer_is_as_its_model_says(new_caller: NewCaller) -> None:
    """Also with an engine that dials."""
    async with new_caller() as caller:
        batch_call_id = await caller.create(
            numbers(3, 7), send_now=True, retry_rules=[], retry_config={"max_attempts": 0}
        )
        await caller.until_status(batch_call_id, "completed")
        response_models.BatchCallRead.model_validate(await caller.get(batch_call_id))
        tasks = await caller.ask("GET", f"/batch-call/{batch_call_id}/tasks")
        response_models.Tasks.model_validate(tasks)
        assert {task["status"] for task in tasks["tasks"]} == {"busy"}
