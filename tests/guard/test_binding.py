"""A confirmation is bound to exactly one launch, and a write is known again by what it asks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.guard import fingerprints
from batchcall_mcp.guard.fingerprints import Bound, covers, fingerprint, made_up_name
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, CallingWindow, CallTask, Counts, RetryPolicy
from batchcall_mcp.recipients.validation import SkippedRow, SkipReason

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
SKIPPED = (SkippedRow(line=7, kind=SkipReason.INVALID, reason="not a number", to_number=None),)


def bound(**changes: object) -> Bound:
    values: dict[str, object] = {
        "caller": "a",
        "backend": "zudu https://api.zudu.ai",
        "tool": "start_batch_call",
        "operation": Operation.START,
        "request": REQUEST,
        "current": CURRENT,
        "called": TASKS,
        "skipped_rows": SKIPPED,
        "concerns": {"elsewhere": {"+14155550101"}},
    }
    return fingerprints.bound(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"caller": "b"},
        {"backend": "zudu https://elsewhere.example"},
        {"tool": "update_batch_call"},
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
        {"called": TASKS[:1]},
        {"called": (*TASKS, TASKS[0])},
        {"called": (TASKS[0], replace(TASKS[1], dynamic_variables={"first_name": "Eve"}))},
        {"called": (TASKS[0], replace(TASKS[1], max_retries=5))},
        {"concerns": {}},
        {"concerns": {"elsewhere": {"+14155550102"}}},
        {"concerns": {"do_not_call": {"+14155550101"}}},
        {"skipped_rows": ()},
        {"skipped_rows": (replace(SKIPPED[0], line=8),)},
    ],
)
def test_whatever_changes_what_would_be_dialled_changes_the_binding(changes: dict[str, object]) -> None:
    assert bound(**changes).text != bound().text


def test_the_order_of_the_people_changes_nothing() -> None:
    assert bound(called=TASKS[::-1]).text == bound().text


SUBSETS = [{"called": TASKS[:1]}, {"called": ()}, {"concerns": {}}]
OTHERS = [
    {"called": (*TASKS, replace(TASKS[0], to_number="+14155550103"))},
    {"called": (TASKS[0], replace(TASKS[1], to_number="+14155550103"))},
    {"called": (*TASKS, TASKS[0])},
    {"concerns": {"elsewhere": {"+14155550102"}}},
    {"concerns": {"elsewhere": {"+14155550101"}, "unchecked": {"The do-not-call list could not be read"}}},
]


@pytest.mark.parametrize("changes", SUBSETS)
def test_a_yes_covers_fewer_people_and_fewer_concerns_while_the_sets_are_known(changes: dict[str, object]) -> None:
    shown = bound()

    assert covers(shown.text, shown.sets, bound(**changes))
    if "called" not in changes or changes["called"]:
        assert covers(shown.text, None, bound(**changes)) is ("called" not in changes)


@pytest.mark.parametrize("changes", OTHERS)
def test_a_yes_does_not_cover_as_many_other_people_or_concerns(changes: dict[str, object]) -> None:
    shown = bound()

    assert not covers(shown.text, shown.sets, bound(**changes))
    assert not covers(shown.text, None, bound(**changes))


def test_a_yes_to_another_launch_covers_nothing() -> None:
    shown = bound(tool="update_batch_call")

    assert not covers(shown.text, shown.sets, bound())


def test_a_retry_that_somebody_else_had_done_meanwhile_is_another_one() -> None:
    again = (TASKS[0], replace(TASKS[1], attempts=2))
    shown = bound(operation=Operation.RETRY)

    assert not covers(shown.text, shown.sets, bound(operation=Operation.RETRY, called=again))


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
    assert bound(current=current).text == bound().text


def test_equal_writes_have_one_fingerprint_and_others_another() -> None:
    one = fingerprint(Operation.START, REQUEST, "bc_1")
    assert fingerprint(Operation.START, replace(REQUEST), "bc_1") == one
    others = {
        fingerprint(Operation.START, REQUEST, "bc_2"),
        fingerprint(Operation.RESUME, REQUEST, "bc_1"),
        fingerprint(Operation.START, replace(REQUEST, tasks=TASKS), "bc_1"),
        fingerprint(Operation.START, replace(REQUEST, tasks=TASKS[::-1]), "bc_1"),
        fingerprint(Operation.START, REQUEST, "bc_1", TASKS),
        fingerprint(Operation.START, REQUEST, "bc_1", (TASKS[0], replace(TASKS[1], attempts=2))),
    }
    assert len(others | {one}) == 7


def test_a_made_up_name_ends_in_six_digits_of_its_fingerprint() -> None:
    made_on = datetime(2026, 11, 24, tzinfo=UTC)
    of = fingerprint(Operation.CREATE, REQUEST)

    assert made_up_name(of, made_on) == f"Batch call 2026-11-24 {of[:6]}"
    assert made_up_name(of, made_on, "monday") != made_up_name(of, made_on, "tuesday")
