"""A confirmation stands for exactly one launch, once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from batchcall_mcp.backends.base import Operation
from batchcall_mcp.errors import NotConfirmed
from batchcall_mcp.guard.confirmation import LIFETIME_S, Confirmations, binding
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, CallingWindow, CallTask, Counts, RetryPolicy
from batchcall_mcp.recipients import LeftOut, LeftOutKind

REQUEST = BatchCallRequest(
    from_number="+14155550199",
    send_now=True,
    trigger_at=None,
    window=CallingWindow(start="09:00", end="17:00"),
    retry=RetryPolicy(max_retries=2),
)
CURRENT = BatchCall(
    batch_call_id="bc_1",
    status=BatchStatus.DRAFT,
    from_number="+14155550199",
    counts=Counts(total=2, pending=2),
)
TASKS = (
    CallTask(to_number="+14155550101", dynamic_variables={"first_name": "Ann"}),
    CallTask(to_number="+14155550102", dynamic_variables={"first_name": "Ben"}),
)
LEFT_OUT = (LeftOut(line=7, kind=LeftOutKind.INVALID, reason="not a number", to_number=None),)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def bound(**changes: object) -> str:
    values: dict[str, object] = {
        "caller": "a",
        "backend": "dialer",
        "operation": Operation.START,
        "request": REQUEST,
        "current": CURRENT,
        "tasks": TASKS,
        "left_out": LEFT_OUT,
    }
    return binding(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"caller": "b"},
        {"backend": "zudu"},
        {"operation": Operation.RESUME},
        {"request": replace(REQUEST, send_now=False, trigger_at=datetime(2026, 11, 24, tzinfo=UTC))},
        {"request": replace(REQUEST, from_number="+14155550198")},
        {"request": replace(REQUEST, window=CallingWindow(start="09:00", end="18:00"))},
        {"request": replace(REQUEST, retry=None)},
        {"current": replace(CURRENT, status=BatchStatus.SCHEDULED)},
        {"current": replace(CURRENT, counts=Counts(total=3))},
        {"current": replace(CURRENT, batch_call_id="bc_2")},
        {"current": replace(CURRENT, agent_id="agent_2")},
        {"current": replace(CURRENT, name="Another")},
        {"current": replace(CURRENT, timezone="Asia/Tokyo")},
        {"current": replace(CURRENT, max_concurrency=100)},
        {"current": replace(CURRENT, window=CallingWindow(start="00:00", end="24:00"))},
        {"current": replace(CURRENT, retry=RetryPolicy(max_retries=10))},
        {"current": None},
        {"tasks": TASKS[::-1]},
        {"tasks": TASKS[:1]},
        {"tasks": (TASKS[0], replace(TASKS[1], dynamic_variables={"first_name": "Eve"}))},
        {"tasks": (TASKS[0], replace(TASKS[1], max_retries=5))},
        {"left_out": ()},
        {"left_out": (replace(LEFT_OUT[0], line=8),)},
    ],
)
def test_whatever_changes_what_would_be_dialled_changes_the_binding(changes: dict[str, object]) -> None:
    assert bound(**changes) != bound()


def test_a_retry_that_somebody_else_had_done_meanwhile_is_another_one() -> None:
    again = (TASKS[0], replace(TASKS[1], attempts=2))
    assert bound(operation=Operation.RETRY, tasks=again) != bound(operation=Operation.RETRY)


@pytest.mark.parametrize(
    "current",
    [
        replace(CURRENT, started_at=datetime(2026, 11, 23, tzinfo=UTC)),
        replace(CURRENT, last_sent_at=datetime(2026, 11, 23, tzinfo=UTC)),
        replace(CURRENT, counts=Counts(total=2, pending=1, calling=1)),
        replace(CURRENT, notes=("read a moment later",)),
    ],
)
def test_what_moves_with_the_clock_does_not_change_the_binding(current: BatchCall) -> None:
    assert bound(current=current) == bound()


def test_a_code_is_used_once() -> None:
    confirmations = Confirmations()
    code = confirmations.issue("a", "start_batch_call", "x", {"batch_call_id": "bc_1"})

    confirmations.use_code(code)

    with pytest.raises(NotConfirmed, match="used a moment ago"):
        confirmations.use_code(code)
    with pytest.raises(NotConfirmed, match="not valid here"):
        confirmations.recall("a", "start_batch_call", code, {})


@pytest.mark.parametrize(("caller", "tool"), [("b", "start_batch_call"), ("a", "resume_batch_call")])
def test_a_code_belongs_to_its_caller_and_tool(caller: str, tool: str) -> None:
    confirmations = Confirmations()
    code = confirmations.issue("a", "start_batch_call", "x", {})

    with pytest.raises(NotConfirmed, match="Nothing was sent"):
        confirmations.recall(caller, tool, code, {})


def test_a_code_ends_after_ten_minutes() -> None:
    clock = Clock()
    confirmations = Confirmations(clock)
    code = confirmations.issue("a", "t", "x", {})

    clock.now += LIFETIME_S
    assert confirmations.recall("a", "t", code, {}).binding == "x"

    clock.now += 0.001
    with pytest.raises(NotConfirmed, match="older than ten minutes"):
        confirmations.recall("a", "t", code, {})


def test_with_a_code_other_arguments_may_be_left_out_but_not_changed() -> None:
    confirmations = Confirmations()
    arguments = {"batch_call_id": "bc_1", "trigger_timestamp": "now"}
    code = confirmations.issue("a", "start_batch_call", "x", arguments)

    recalled = confirmations.recall("a", "start_batch_call", code.lower() + " ", {"batch_call_id": "bc_1"})
    assert recalled.arguments == arguments

    with pytest.raises(NotConfirmed, match="trigger_timestamp differ"):
        confirmations.recall("a", "start_batch_call", code, {"trigger_timestamp": "2026-11-24T09:00Z"})
    assert confirmations.recall("a", "start_batch_call", code, {}) == recalled, "a slip does not burn the code"


def test_an_answer_is_used_once_as_long_as_it_could_be_sent_again() -> None:
    clock = Clock()
    confirmations = Confirmations(clock)
    confirmations.use_nonce("n")

    clock.now += timedelta(seconds=LIFETIME_S).total_seconds()
    with pytest.raises(NotConfirmed, match="used already"):
        confirmations.use_nonce("n")


def test_of_two_codes_for_one_launch_only_the_last_counts() -> None:
    confirmations = Confirmations()
    first = confirmations.issue("a", "start_batch_call", "bound", {})
    other = confirmations.issue("b", "start_batch_call", "bound", {})
    last = confirmations.issue("a", "start_batch_call", "bound", {})
    with pytest.raises(NotConfirmed):
        confirmations.use_code(first)
    confirmations.use_code(last)
    confirmations.use_code(other)


def test_what_is_remembered_of_large_requests_is_bounded() -> None:
    confirmations = Confirmations()
    large = {"tasks": "x" * 4_000_000}
    codes = [confirmations.issue("a", "create_batch_call", f"bound {n}", large) for n in range(20)]
    kept = 0
    for code in codes:
        with suppress(NotConfirmed):
            kept += bool(confirmations.recall("a", "create_batch_call", code, {}))
    assert kept == 8
    assert confirmations.recall("a", "create_batch_call", codes[-1], {}).arguments == large


def test_codes_that_nobody_uses_do_not_pile_up() -> None:
    confirmations = Confirmations()
    first = confirmations.issue("a", "t", "x", {})
    for other in range(1000):
        confirmations.issue("a", "t", f"x{other}", {})

    with pytest.raises(NotConfirmed):
        confirmations.recall("a", "t", first, {})
