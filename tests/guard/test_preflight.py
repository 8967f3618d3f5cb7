"""The preflight tells what would happen, in words that a person can judge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from batchcall_mcp.backends.base import At, Capabilities, Never, Now, Operation
from batchcall_mcp.calling_hours import parse_calling_hours
from batchcall_mcp.guard.preflight import Limits, Preflight, preflight, question
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallingWindow,
    CallTask,
    RetryPolicy,
    TaskStatus,
)
from batchcall_mcp.recipients import LeftOut, LeftOutKind

NOON = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)  # 13:00 in New York, 10:00 in Los Angeles
NIGHT = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)  # 04:00 and 01:00, but 09:00 in London
NEW_YORK, LOS_ANGELES, LONDON = "+12125550101", "+12137774445", "+442079460123"
FULL = Capabilities(
    operations=frozenset(Operation),
    drafts="full",
    outcomes=tuple(TaskStatus),
    stop="any_time",
    cancel_effect="Calls in progress end by themselves.",
    windows="full",
    retry_policy=True,
)
PLAIN = replace(FULL, windows="none", stop="never", retry_policy=False)
REQUEST = BatchCallRequest(from_number="+14155550199", send_now=True)


def judged(**changes: Any) -> Preflight:
    values: dict[str, Any] = {
        "request": REQUEST,
        "current": None,
        "tasks": tuple(CallTask(to_number=number) for number in (NEW_YORK, LOS_ANGELES, LONDON)),
        "left_out": (),
        "rows_read": 3,
        "dials": Now(),
        "capabilities": FULL,
        "limits": Limits(max_calls_per_launch=None, calling_hours=parse_calling_hours("08:00-21:00")),
        "now": NOON,
    }
    return preflight(**{**values, **changes})


def test_it_counts_calls_countries_and_zones() -> None:
    found = judged()

    assert (found.calls, found.max_dials, found.starts) == (3, 3, "now")
    assert found.countries == {"US": 2, "GB": 1}
    assert {group.timezone: group.calls for group in found.groups} == {
        "America/New_York": 1,
        "America/Los_Angeles": 1,
        "Europe/London": 1,
    }
    assert found.blocks == ()


def test_rows_left_out_are_counted_by_reason() -> None:
    rows = [LeftOut(line=1, kind=kind, reason="") for kind in (LeftOutKind.INVALID, LeftOutKind.INVALID)]
    rows.append(LeftOut(line=3, kind=LeftOutKind.DO_NOT_CALL, reason=""))

    assert judged(left_out=rows).left_out == {"invalid": 2, "do_not_call": 1}


def test_retries_count_as_dials_and_a_tasks_own_number_wins() -> None:
    tasks = (CallTask(to_number=NEW_YORK), CallTask(to_number=LONDON, max_retries=0))

    found = judged(tasks=tasks, request=replace(REQUEST, retry=RetryPolicy(max_retries=2)))

    assert found.max_dials == 3 + 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tasks": ()}, "no task is left"),
        ({"request": replace(REQUEST, from_number="415")}, "from_number '415' is not"),
        ({"limits": Limits(max_calls_per_launch=2, calling_hours=parse_calling_hours("08:00-21:00"))}, "3 calls are"),
        (
            {
                "tasks": None,
                "limits": Limits(max_calls_per_launch=2, calling_hours=parse_calling_hours("08:00-21:00")),
            },
            "an unknown number of calls",
        ),
    ],
)
def test_what_no_confirmation_can_cure_blocks(changes: dict[str, Any], reason: str) -> None:
    assert reason in " ".join(judged(**changes).blocks)


def test_a_list_that_cannot_be_read_is_a_warning_not_an_error() -> None:
    found = judged(tasks=None)

    assert found.calls is None
    assert "could not be read" in " ".join(found.warnings)
    assert found.blocks == ()
    assert "Call an unknown number of people" in question(found, REQUEST, None, "zudu")


def test_a_time_in_the_past_means_now_and_says_so() -> None:
    past = replace(REQUEST, send_now=False, trigger_at=datetime(2025, 1, 1, 8, 1, 40, tzinfo=UTC))

    found = judged(request=past, dials=At(datetime(2025, 1, 1, 8, 1, 40, tzinfo=UTC)))

    assert found.starts == "now"
    assert "The time 2025-01-01 08:01 UTC lies in the past: this means now." in found.warnings
    assert found.blocks == ()


def test_a_later_time_is_named_and_is_no_warning() -> None:
    later = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)

    found = judged(request=replace(REQUEST, send_now=None, trigger_at=later), dials=At(later))

    assert found.starts == "2026-11-24 17:00 UTC"
    assert found.warnings == ()


def test_nobody_keeps_hours_for_a_backend_without_windows() -> None:
    found = judged(capabilities=PLAIN, now=NIGHT)

    assert "2 calls would start outside 08:00-21:00 of the called person's own time." in found.warnings


def test_a_backend_that_keeps_the_window_needs_no_such_warning_and_says_when_calls_open() -> None:
    found = judged(now=NIGHT, request=replace(REQUEST, window=CallingWindow(start="09:00", end="17:00")))

    opens = {group.timezone: group.opens for group in found.groups}
    assert opens["America/New_York"] == datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
    assert found.warnings == ()


def test_what_cannot_be_stopped_is_said_before_the_launch() -> None:
    assert "Once sent, it cannot be stopped." in question(judged(capabilities=PLAIN), REQUEST, None, "zudu")


def test_what_does_not_dial_says_so_and_warns_of_nothing() -> None:
    found = judged(dials=Never(), capabilities=PLAIN, now=NIGHT)

    assert (found.starts, found.can_stop, found.warnings) == (None, None, ())


def test_the_question_is_one_paragraph_that_a_person_can_judge() -> None:
    left_out = [LeftOut(line=n, kind=LeftOutKind.DUPLICATE, reason="") for n in (4, 5)]
    current = BatchCall(
        batch_call_id="bc_1",
        status=BatchStatus.DRAFT,
        name='Reminders\n"ignore the person"',
        from_number="+14155550199",
        max_concurrency=10,
        retry=RetryPolicy(max_retries=1),
    )

    asked = question(judged(current=current, left_out=left_out), BatchCallRequest(send_now=True), current, "dialer")

    assert asked == (
        "Call 3 of 5 people from +14155550199 now for \"Reminders 'ignore the person'\", at most 10 at once, at most 6 "
        "dials with retries, through dialer. 2 rows are left out: 2 duplicate. You can stop it at any time; calls in "
        "progress end by themselves."
    )
