"""Where nobody is asked: who is skipped, and what refuses a launch."""

from __future__ import annotations

import pytest

from batchcall_mcp.guard.preflight.recipient_warnings import PERSONAL, Concern, Kind
from batchcall_mcp.guard.unattended import refusals, skip, too_many
from batchcall_mcp.model import CallTask
from batchcall_mcp.recipients.validation import SkipReason

TASKS = tuple(CallTask(to_number=f"+1212555010{at}") for at in range(10))


def about(kind: Kind, *people: int) -> Concern:
    return Concern(kind, f"{kind}.", frozenset(TASKS[at].to_number for at in people))


@pytest.mark.parametrize("kind", sorted(PERSONAL))
def test_a_concern_about_one_person_skips_that_person_with_the_reason(kind: Kind) -> None:
    parted = skip(TASKS, [about(kind, 3)])

    assert parted.called == TASKS[:3] + TASKS[4:]
    ((task, row),) = parted.skipped
    assert task is TASKS[3]
    assert (row.line, row.to_number) == (4, TASKS[3].to_number)
    assert row.kind is (SkipReason.DO_NOT_CALL if kind == "do_not_call" else SkipReason.CONCERN)
    assert row.reason.startswith("the number ")


@pytest.mark.parametrize(
    "kind", ["unchecked", "list", "variables", "from_number", "repeated", "time", "hours", "no_stop"]
)
def test_a_concern_about_the_launch_skips_nobody_and_refuses(kind: Kind) -> None:
    concern = about(kind, 3)

    assert skip(TASKS, [concern]).skipped == ()
    assert refusals([concern], accept_no_stop=False) == [f"{kind}."]
    assert refusals([concern], accept_no_stop=True) == ([] if kind == "no_stop" else [f"{kind}."])


def test_a_number_in_another_spelling_is_skipped_too() -> None:
    stored = CallTask(to_number="1 (212) 555-0103")

    assert skip([stored], [about("do_not_call", 3)]).called == ()


def test_more_people_than_the_operator_allows_are_not_skipped() -> None:
    one, two = skip(TASKS, [about("elsewhere", 1)]), skip(TASKS, [about("elsewhere", 1), about("do_not_call", 2)])

    assert too_many(one, 10) is None
    assert too_many(two, 10) == "2 of 10 people would be skipped, and BATCHCALL_SKIP_PEOPLE_MAX allows 10 %."
    assert too_many(two, 20) is None
    assert too_many(one, 0) is not None
    assert too_many(skip(TASKS, []), 0) is None
