"""A question outside the client has one state, on which the page, the terminal and every process agree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from batchcall_mcp.guard.approval import Approval, Shown, meaning_of, samples_of
from batchcall_mcp.guard.ledger.codes import LIFETIME_MS
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.write_record import Token
from batchcall_mcp.model import CallTask
from batchcall_mcp.settings import Settings
from tests.guard.ledger.conftest import Clock

SHOWN = Shown(
    question="Call 1 person?",
    word="1",
    samples=("Ann B., +14…123",),
    skipped=("1 invalid",),
    concerns=("It is late.",),
)


def asked(ledger: Ledger, caller: str = "a", bound: str = "x", in_place_of: str | None = None) -> Approval:
    made = ledger.codes.approvals.ask(
        caller=caller, tool="start_batch_call", bound=bound, shown=SHOWN, in_place_of=in_place_of
    )
    assert made is not None
    return made


def used(ledger: Ledger, token: Token) -> bool:
    with ledger.database.writing() as tx:
        return ledger.codes.use(tx, token)


def test_a_question_is_approved_once_and_launches_once(ledger: Ledger) -> None:
    approvals, one = ledger.codes.approvals, asked(ledger)
    assert (one.state, one.shown) == ("waiting", SHOWN)
    assert not used(ledger, one.token), "nobody has answered"

    assert approvals.approve(one.approval_id)
    assert not approvals.approve(one.approval_id)
    assert not approvals.decline(one.approval_id)
    found = approvals.of_launch("a", "x")
    assert found is not None
    assert found.state == "approved"
    assert used(ledger, found.token)
    assert not used(ledger, found.token)
    assert approvals.of_launch("a", "x") is None
    after = approvals.find(one.approval_id)
    assert after is not None
    assert after.state == "used"


def test_a_no_is_final_and_reported_once(ledger: Ledger) -> None:
    approvals, one = ledger.codes.approvals, asked(ledger)
    assert approvals.decline(one.approval_id)
    assert not approvals.approve(one.approval_id)
    assert not used(ledger, one.token)
    assert approvals.report(one.approval_id)
    assert not approvals.report(one.approval_id)
    assert approvals.of_launch("a", "x") is None


def test_a_no_ends_a_yes_only_where_that_is_meant(ledger: Ledger) -> None:
    approvals, one = ledger.codes.approvals, asked(ledger)
    approvals.approve(one.approval_id)
    assert not approvals.decline(one.approval_id)
    assert approvals.decline(one.approval_id, after_a_yes=True)
    assert not used(ledger, one.token)


def test_answers_of_several_threads_and_processes_count_once(ledger: Ledger, settings: Settings, clock: Clock) -> None:
    one, other = asked(ledger), Ledger.open(settings, clock)
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda at: (
                    [ledger, other][at % 2].codes.approvals.approve(one.approval_id)
                    if at % 4 < 2
                    else [ledger, other][at % 2].codes.approvals.decline(one.approval_id)
                ),
                range(16),
            )
        )
    other.close()
    assert answers.count(True) == 1


def test_of_one_launch_only_the_last_question_counts(ledger: Ledger) -> None:
    approvals, first = ledger.codes.approvals, asked(ledger)
    assert approvals.ask(caller="a", tool="t", bound="x", shown=SHOWN) is None, "one waits already"
    other, last = asked(ledger, caller="b"), asked(ledger, in_place_of=first.approval_id)
    assert approvals.find(first.approval_id) is None
    assert not approvals.approve(first.approval_id)
    assert [one.approval_id for one in approvals.waiting()] == [other.approval_id, last.approval_id]


def test_a_question_ends_after_ten_minutes_for_good(ledger: Ledger, clock: Clock) -> None:
    approvals, waits, said_yes = ledger.codes.approvals, asked(ledger), asked(ledger, bound="y")
    approvals.approve(said_yes.approval_id)
    clock.move(milliseconds=LIFETIME_MS + 1)
    assert approvals.waiting() == []
    assert [one and one.state for one in map(approvals.find, (waits.approval_id, said_yes.approval_id))] == [
        "expired",
        "expired",
    ]
    assert not used(ledger, said_yes.token)
    assert not approvals.approve(waits.approval_id)
    clock.move(milliseconds=-LIFETIME_MS)
    assert not approvals.approve(waits.approval_id), "a clock that is set back brings nothing to life again"
    assert asked(ledger).state == "waiting"


def test_an_answer_in_another_way_ends_questions_and_codes_of_the_launch(ledger: Ledger) -> None:
    approvals, one, other = ledger.codes.approvals, asked(ledger), asked(ledger, bound="y")
    approvals.withdraw("a", "x")
    found = approvals.find(one.approval_id)
    assert found is not None
    assert found.state == "withdrawn"
    assert not approvals.approve(one.approval_id)
    assert approvals.approve(other.approval_id)
    code = ledger.codes.issue(caller="a", tool="t", binding="x", arguments={}, question="?")
    approvals.withdraw("a", "x")
    assert ledger.codes.find(code) is None


def test_an_approval_is_not_a_code_for_a_tool(ledger: Ledger) -> None:
    one = asked(ledger)
    ledger.codes.approvals.approve(one.approval_id)
    assert ledger.codes.find(one.approval_id) is None
    assert ledger.codes.find(one.short_id) is None


def test_the_database_does_not_hold_whom_a_question_calls(ledger: Ledger) -> None:
    asked(ledger)
    with ledger.database.reading() as connection:
        row = connection.exec_driver_sql("SELECT * FROM codes").one()
    held = b" ".join(value if isinstance(value, bytes) else str(value).encode() for value in tuple(row))
    assert [text for text in (b"Ann", b"123", b"Call 1") if text in held] == []


def test_the_first_three_people_are_shown() -> None:
    tasks = [CallTask(to_number=f"+1415555010{at}", name="Tara Mae Brown") for at in range(4)]
    assert samples_of(tasks) == tuple(f"Tara B., +1 … 10{at}" for at in range(3))


@pytest.mark.parametrize(
    ("line", "word", "meant"),
    [
        ("188", "188", "approve"),
        (" 1,880 ", "1880", "approve"),
        ("unknown", "unknown", "approve"),
        ("Delete", "delete", "approve"),
        ("", "188", "decline"),
        ("no", "188", "decline"),
        ("N", "unknown", "decline"),
        ("yes", "188", "neither"),
        ("y", "1", "neither"),
        ("189", "188", "neither"),
        ("0188", "188", "neither"),
        ("unknown", "188", "neither"),
        ("0", "unknown", "neither"),
    ],
)
def test_only_the_number_of_people_approves(line: str, word: str, meant: str) -> None:
    assert meaning_of(line, word) == meant
