"""What came of the calls, as the carrier says it: kept with each task, counted for a batch call that is over."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import Attempt, Line, Outcome
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier, simulate
from batchcall_mcp.model import TaskStatus
from tests.dialer.conftest import Caller, NewCaller, numbers

EVERY_DIGIT = [f"+1213200000{digit}" for digit in range(10)]


async def ended(caller: Caller, to_numbers: list[str] = EVERY_DIGIT) -> str:
    batch_call_id = await caller.create(to_numbers, send_now=True)
    await caller.until_status(batch_call_id, "completed")
    return batch_call_id


def of_calls(tasks: list[dict[str, Any]]) -> dict[str, tuple[object, ...]]:
    names = ("status", "duration_seconds", "answered_by", "choice")
    return {task["to_number"][-1]: tuple(task[name] for name in names) for task in tasks}


async def test_a_task_says_how_its_last_call_went(caller: Caller) -> None:
    found = of_calls(await caller.tasks(await ended(caller)))
    assert found == {
        "0": ("completed", 20, "human", "1"),
        "1": ("completed", 20, "human", "1"),
        "2": ("completed", 20, "human", "2"),
        "3": ("completed", 20, "human", "2"),
        "4": ("completed", 3, "human", None),
        "5": ("completed", 100, "human", None),
        "6": ("no_answer", None, None, None),
        "7": ("busy", None, None, None),
        "8": ("voicemail", 6, "machine", None),
        "9": ("failed", None, None, None),
    }


async def test_a_batch_call_that_is_over_says_what_came_of_it(caller: Caller) -> None:
    draft = await caller.create(EVERY_DIGIT)
    assert (await caller.get(draft))["results"] is None
    found = (await caller.get(await ended(caller)))["results"]
    assert found == {"talk_seconds": 189, "choices": {"1": 2, "2": 2}, "cost": None}


async def test_tasks_are_found_by_what_came_of_them(real: Caller) -> None:
    """On SQLite and on PostgreSQL; a choice is a word, and no pattern."""
    path = f"/batch-call/{await ended(real)}/tasks"

    async def found(**query: str) -> str:
        data = await real.ask("GET", path, params=query)
        assert data["pagination"]["total_count"] == len(data["tasks"])
        return "".join(task["to_number"][-1] for task in data["tasks"])

    assert await found(choice="1") == "01"
    assert await found(choice="2", answered_by="human") == "23"
    assert await found(answered_by="machine") == "8"
    assert await found(choice="1", status="busy") == ""
    assert await found(choice="%") == ""
    assert (await real.ask("GET", path, params={"answered_by": "nobody"}, status=422))["code"] == "invalid_input"
    assert (await real.get(path.split("/")[2]))["results"]["talk_seconds"] == 189


async def test_the_export_has_them_and_no_cell_is_a_formula(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def outcome(_self: SimulatedCarrier, attempt: Attempt, line: Line) -> Outcome:
        said = "=1+1" if attempt.to_number.endswith("0") else "one\nand\x00 more" + "x" * 200
        return Outcome(TaskStatus.COMPLETED, duration_seconds=1.2345, answered_by="human", choice=said)

    monkeypatch.setattr(SimulatedCarrier, "outcome", outcome)
    async with new_caller() as caller:
        batch_call_id = await ended(caller, EVERY_DIGIT[:2])
        text = (await caller.http.get(f"/batch-call/{batch_call_id}/export.csv")).text
        plain, long = csv.DictReader(io.StringIO(text, newline=""))
        assert (plain["choice"], plain["duration_seconds"], plain["answered_by"]) == ("'=1+1", "1.234", "human")
        assert long["choice"].startswith("one and  more")
        assert len(long["choice"]) == 100


async def test_a_redial_replaces_what_the_call_before_it_came_to(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def outcome(_self: SimulatedCarrier, attempt: Attempt, line: Line) -> Outcome:
        return simulate("+12132000008" if attempt.n == 1 else "+12132000007", attempt.n)[0]

    monkeypatch.setattr(SimulatedCarrier, "outcome", outcome)
    async with new_caller() as caller:
        batch_call_id = await ended(caller, numbers(1))
        assert set(of_calls(await caller.tasks(batch_call_id)).values()) == {("voicemail", 6, "machine", None)}
        (task,) = await caller.tasks(batch_call_id)
        await caller.ask("POST", f"/batch-call/{batch_call_id}/retry", {"task_ids": [task["task_id"]]})
        await caller.until(batch_call_id, lambda data: data["counts"]["busy"] == 1)
        assert set(of_calls(await caller.tasks(batch_call_id)).values()) == {("busy", None, None, None)}


async def test_a_page_of_all_tasks_is_found_by_its_positions_and_passes_over_no_others(desk: Caller) -> None:
    """With an offset each page of a long list would cost more than the one before it."""
    batch_call_id = await desk.create(numbers(5))
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_others: object) -> None:
        asked.append(statement)

    sa.event.listen(desk.dialer.store().engine, "before_cursor_execute", note)
    path = f"/batch-call/{batch_call_id}/tasks?limit=2&page="
    shown = [(await desk.ask("GET", f"{path}{page}"))["tasks"] for page in range(3)]
    assert [task["to_number"] for page in shown for task in page] == numbers(5)
    assert not [statement for statement in asked if "OFFSET" in statement or "count(*)" in statement]
