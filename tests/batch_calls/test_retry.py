"""Who was not reached and is not called again by a retry is named with the way to call them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchcall_mcp.batch_calls.writes.retry import DEFAULT_STATUSES, left_alone
from batchcall_mcp.model import BatchCall, BatchStatus, Counts, TaskStatus
from tests.guard.test_preflight import FULL

FEW_OUTCOMES = replace(FULL, outcomes=(TaskStatus.COMPLETED, TaskStatus.FAILED))


def said(counts: Counts, statuses: frozenset[TaskStatus] = DEFAULT_STATUSES) -> str:
    current = BatchCall(batch_call_id="bc_1", status=BatchStatus.COMPLETED, counts=counts)
    return " ".join(left_alone(current, statuses, FULL))


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({"voicemail": 17}, '17 voicemails are not called again (task_status=["voicemail"] calls them).'),
        ({"voicemail": 1}, '1 voicemail is not called again (task_status=["voicemail"] calls them).'),
        (
            {"not_reached": 12, "no_answer": 4, "busy": 3, "voicemail": 0, "failed": 2},
            (
                "3 expired or interrupted calls are not called again "
                '(task_status=["expired", "interrupted"] calls them).'
            ),
        ),
        ({"skipped": 2}, "2 people were skipped by the backend and are not called."),
        ({"skipped": 1}, "1 person was skipped by the backend and is not called."),
        ({"no_answer": 4, "busy": 3, "failed": 2, "voicemail": 0}, ""),
        ({"not_reached": 12, "no_answer": 4}, ""),
        ({}, ""),
    ],
)
def test_who_is_left_alone_is_counted_where_the_backend_counts(counts: dict[str, int], sentence: str) -> None:
    assert said(Counts(**counts)) == sentence


def test_states_that_are_named_are_called_and_the_others_are_left_alone() -> None:
    only_voicemails = frozenset({TaskStatus.VOICEMAIL})

    assert said(Counts(voicemail=17, no_answer=1), only_voicemails) == (
        '1 person who did not answer is not called again (task_status=["no_answer"] calls them).'
    )
    assert said(Counts(skipped=2), frozenset({TaskStatus.SKIPPED})) == ""


def test_a_state_that_the_backend_does_not_tell_apart_is_not_offered() -> None:
    current = BatchCall(batch_call_id="bc_1", status=BatchStatus.COMPLETED, counts=Counts(voicemail=17))

    assert left_alone(current, DEFAULT_STATUSES, FEW_OUTCOMES) == ("17 voicemails are not called again.",)
