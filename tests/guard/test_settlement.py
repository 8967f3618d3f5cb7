"""What a backend shows is proof that a write took effect; what it does not show is none that it did not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.guard.delivery.effect_evidence import is_as_left, is_made_by, is_older, took_effect
from batchcall_mcp.guard.write_record import Entry, Evidence, WriteState
from batchcall_mcp.model import BatchCall, BatchStatus, Counts

SENT = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
LATER = SENT + timedelta(hours=3)
MS = round(SENT.timestamp() * 1000)
ENTRY = Entry(
    write_id=1,
    at=MS,
    sent_at=MS,
    caller="a",
    backend="zudu https://api.zudu.ai",
    tool="start_batch_call",
    operation=Operation.START,
    batch_call_id="bc_1",
    key_hash=None,
    fingerprint="f",
    dials=True,
    calls=2,
    starts_at=MS,
    state=WriteState.UNKNOWN,
    owner="o",
    backend_key="k",
    evidence=Evidence(status_before="draft", launches=True),
    status=None,
    absent_at=None,
    settled_at=None,
)
AT_LATER = Evidence(status_before="draft", trigger_at=round(LATER.timestamp() * 1000))


def seen(status: BatchStatus, **more: Any) -> BatchCall:
    return BatchCall(batch_call_id="bc_1", status=status, **more)


SCHEDULED = seen(BatchStatus.SCHEDULED, scheduled_at=LATER)


@pytest.mark.parametrize(
    ("operation", "evidence", "shown", "not_shown"),
    [
        (
            Operation.START,
            ENTRY.evidence,
            [seen(BatchStatus.RUNNING), seen(BatchStatus.COMPLETED), seen(BatchStatus.PAUSED)],
            [seen(BatchStatus.DRAFT), SCHEDULED, seen(BatchStatus.UNKNOWN), seen(BatchStatus.CANCELLED)],
        ),
        (
            Operation.START,
            AT_LATER,
            [SCHEDULED, seen(BatchStatus.SCHEDULED, scheduled_at=LATER - timedelta(seconds=59))],
            [seen(BatchStatus.DRAFT), seen(BatchStatus.SCHEDULED, scheduled_at=SENT), seen(BatchStatus.SCHEDULED)],
        ),
        (
            Operation.RESUME,
            Evidence(status_before="paused"),
            [seen(BatchStatus.RUNNING), seen(BatchStatus.RECURRING)],
            [seen(BatchStatus.PAUSED), seen(BatchStatus.CANCELLED), seen(BatchStatus.UNKNOWN)],
        ),
        (Operation.PAUSE, Evidence(status_before="running"), [seen(BatchStatus.PAUSED)], [seen(BatchStatus.RUNNING)]),
        (
            Operation.CANCEL,
            Evidence(status_before="scheduled"),
            [seen(BatchStatus.CANCELLED), seen(BatchStatus.DRAFT)],
            [SCHEDULED],
        ),
        (
            Operation.UPDATE,
            Evidence(status_before="draft", launches=True),
            [seen(BatchStatus.RUNNING)],
            [seen(BatchStatus.DRAFT)],
        ),
        (Operation.UPDATE, AT_LATER, [SCHEDULED], [seen(BatchStatus.DRAFT)]),
        (
            Operation.UPDATE,
            Evidence(status_before="scheduled", total=3, total_before=2),
            [replace(SCHEDULED, counts=Counts(total=3))],
            [replace(SCHEDULED, counts=Counts(total=2)), SCHEDULED],
        ),
        (
            Operation.UPDATE,
            Evidence(status_before="scheduled", total=2, total_before=2),
            [],
            [replace(SCHEDULED, counts=Counts(total=2))],
        ),
        (Operation.UPDATE, Evidence(status_before="running", launches=True), [], [seen(BatchStatus.RUNNING)]),
        (
            Operation.RETRY,
            Evidence(status_before="completed"),
            [seen(BatchStatus.RUNNING), seen(BatchStatus.COMPLETED, last_sent_at=SENT + timedelta(seconds=1))],
            [seen(BatchStatus.COMPLETED, last_sent_at=SENT - timedelta(hours=1)), seen(BatchStatus.COMPLETED)],
        ),
        (Operation.RETRY, Evidence(status_before="running"), [], [seen(BatchStatus.RUNNING)]),
        (
            Operation.APPEND,
            Evidence(status_before="running", total=2, total_before=3),
            [replace(seen(BatchStatus.RUNNING), counts=Counts(total=total)) for total in (5, 6)],
            [replace(seen(BatchStatus.RUNNING), counts=Counts(total=total)) for total in (3, 4, None)],
        ),
        (
            Operation.APPEND,
            Evidence(status_before="running", total=2),
            [],
            [replace(seen(BatchStatus.RUNNING), counts=Counts(total=5))],
        ),
        (Operation.DELETE, Evidence(status_before="draft"), [], [seen(BatchStatus.DRAFT)]),
    ],
)
def test_only_what_it_shows_counts(
    operation: Operation, evidence: Evidence, shown: list[BatchCall], not_shown: list[BatchCall]
) -> None:
    entry = replace(ENTRY, operation=operation, evidence=evidence)

    assert [took_effect(entry, one) for one in shown] == [True] * len(shown)
    assert [took_effect(entry, one) for one in not_shown] == [False] * len(not_shown)


MADE = BatchCall(
    batch_call_id="bc_9",
    status=BatchStatus.DRAFT,
    name="Batch call 2026-11-24 abcdef",
    from_number="+14155550100",
    created_at=SENT + timedelta(seconds=2),
    counts=Counts(total=2),
)
CREATE = replace(
    ENTRY,
    operation=Operation.CREATE,
    batch_call_id=None,
    evidence=Evidence(name="Batch call 2026-11-24 abcdef", from_number="number +14155550100", total=2),
)


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"from_number": None}, True),
        ({"counts": Counts()}, True),
        ({"created_at": None}, True),
        ({"created_at": SENT - timedelta(minutes=9)}, True),
        ({"created_at": SENT - timedelta(minutes=11)}, False),
        ({"name": "Batch call 2026-11-24 abcde0"}, False),
        ({"name": None}, False),
        ({"counts": Counts(total=3)}, False),
        ({"retry_of": "bc_1"}, False),
        ({"name": "Batch call 2026-11-24 abcdef (retry of bc_1)", "retry_of": "bc_1"}, False),
        ({"name": "Batch call 2026-11-24 abcdef (retry of bc_1)"}, False),
    ],
)
def test_what_the_backend_does_not_tell_speaks_neither_for_nor_against_it(
    changes: dict[str, Any], *, fits: bool
) -> None:
    assert is_made_by(CREATE, replace(MADE, **changes), str) is fits
    assert is_made_by(CREATE, replace(MADE, from_number="+1"), str) is False


def test_a_name_that_was_given_is_known_by_its_hash() -> None:
    given = replace(CREATE, evidence=replace(CREATE.evidence, name=None, given_name="name Ann Smith"))

    assert is_made_by(given, replace(MADE, name="  Ann \n Smith "), str)
    assert not is_made_by(given, replace(MADE, name="Ann"), str)
    assert not is_made_by(given, MADE, str)


def test_a_retry_is_found_by_its_plain_name_and_what_it_retries() -> None:
    retry = replace(CREATE, evidence=replace(CREATE.evidence, retry_of="bc_1"))
    found = replace(MADE, name="Batch call 2026-11-24 abcdef (retry of bc_1)", retry_of="bc_1")

    assert is_made_by(retry, found, str)
    assert not is_made_by(retry, MADE, str)


def test_the_list_need_not_be_read_beyond_what_is_too_old() -> None:
    assert is_older(CREATE, replace(MADE, created_at=SENT - timedelta(minutes=11)))
    assert not is_older(CREATE, replace(MADE, created_at=SENT - timedelta(minutes=9)))
    assert not is_older(CREATE, replace(MADE, created_at=None))


@pytest.mark.parametrize(
    ("left", "found", "as_left"),
    [
        ("running", seen(BatchStatus.RUNNING), True),
        ("running", seen(BatchStatus.COMPLETED), False),
        ("running", seen(BatchStatus.PAUSED), False),
        ("scheduled", SCHEDULED, True),
        ("scheduled", seen(BatchStatus.SCHEDULED, scheduled_at=SENT), False),
        ("scheduled", seen(BatchStatus.RUNNING), True),
        ("scheduled", seen(BatchStatus.DRAFT), False),
        (None, seen(BatchStatus.DRAFT), True),
    ],
)
def test_a_launch_is_repeated_only_while_it_is_as_the_first_one_left_it(
    left: str | None, found: BatchCall, *, as_left: bool
) -> None:
    entry = replace(ENTRY, state=WriteState.DONE, status=left, evidence=AT_LATER)

    assert is_as_left(entry, found) is as_left
