"""A code, and an answer, is good for one launch, for ten minutes, on every process of a ledger."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batchcall_mcp.errors import NotConfirmed
from batchcall_mcp.guard.approval import Shown
from batchcall_mcp.guard.confirmation import LIFETIME_S, recall
from batchcall_mcp.guard.fingerprints import MEMBER_BYTES, Bound
from batchcall_mcp.guard.ledger import codes
from batchcall_mcp.guard.ledger import database as ledger_database
from batchcall_mcp.guard.ledger.codes import LIFETIME_MS, MOST_MEMBERS, MOST_OF_CALLER
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.settings import Settings
from tests.guard.ledger.conftest import Clock
from tests.postgresql import postgresql_url

ARGUMENTS: dict[str, Any] = {"batch_call_id": "bc_1", "trigger_timestamp": "now"}


def issued(ledger: Ledger, caller: str = "a", binding: str = "x", **arguments: Any) -> str:
    return ledger.codes.issue(
        caller=caller,
        tool="start_batch_call",
        binding=binding,
        arguments=arguments or ARGUMENTS,
        question="Call 1 person?",
    )


def used(ledger: Ledger, code: str) -> bool:
    found = ledger.codes.find(code)
    assert found is not None
    with ledger.database.writing() as tx:
        return ledger.codes.use(tx, found.token)


def test_a_code_is_used_once(ledger: Ledger) -> None:
    code = issued(ledger)

    assert used(ledger, code)
    assert not used(ledger, code)
    found = ledger.codes.find(code)
    assert found is not None
    assert found.is_used


@pytest.mark.parametrize("minutes", [11, -11])
def test_a_replica_whose_clock_is_off_says_so_and_leaves_others_codes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, minutes: int
) -> None:
    """It goes by the database's clock: it takes their codes, they take its own, and neither removes the other's."""
    settings = Settings.model_validate({"data_dir": tmp_path, "database_url": postgresql_url()})
    right = Ledger.open(settings)
    code = issued(right)
    assert "clock" not in caplog.text

    def wrong() -> datetime:
        return datetime.now(UTC) + timedelta(minutes=minutes)

    monkeypatch.setattr(ledger_database, "utc_now", wrong)
    off = Ledger.open(settings, wrong)
    mine = issued(off, "b", "y")
    off.codes.forget_old()
    assert off.codes.find(code) is not None
    assert right.codes.find(mine) is not None
    assert used(right, code)
    assert used(off, mine)
    for ledger in (right, off):
        ledger.close()
    where = "ahead of" if minutes > 0 else "behind"
    assert re.search(rf"This machine's clock is 6\d\d s {where} the database's", caplog.text)
    assert caplog.text.count("This machine's clock is") == 1


def test_another_process_on_the_ledger_takes_it(ledger: Ledger, settings: Settings, clock: Clock) -> None:
    code = issued(ledger)
    other = Ledger.open(settings, clock)

    found = other.codes.find(f" {code.lower()} ")
    assert found is not None
    assert (found.arguments, found.question, found.caller) == (ARGUMENTS, "Call 1 person?", "a")
    assert used(other, code)
    assert not used(ledger, code)
    other.close()


@pytest.mark.parametrize(("caller", "tool"), [("b", "start_batch_call"), ("a", "resume_batch_call")])
async def test_a_code_belongs_to_its_caller_and_tool(ledger: Ledger, caller: str, tool: str) -> None:
    code = issued(ledger)

    with pytest.raises(NotConfirmed, match="Nothing was sent"):
        await recall(ledger.codes, caller, tool, code, {})


def test_a_code_ends_after_ten_minutes(ledger: Ledger, clock: Clock) -> None:
    code = issued(ledger)

    clock.move(seconds=LIFETIME_S)
    assert ledger.codes.find(code) is not None
    clock.move(milliseconds=1)
    assert ledger.codes.find(code) is None
    assert LIFETIME_MS == LIFETIME_S * 1000


def test_a_clock_that_is_set_back_brings_no_code_to_life_again(ledger: Ledger, clock: Clock) -> None:
    code = issued(ledger)
    clock.move(seconds=LIFETIME_S + 1)
    assert ledger.codes.find(code) is None
    clock.move(seconds=-LIFETIME_S)
    assert ledger.codes.find(code) is None

    ahead = issued(ledger, binding="y")
    clock.move(hours=-3)
    assert ledger.codes.find(ahead) is None, "three hours in the future"
    clock.move(hours=3)
    assert ledger.codes.find(ahead) is None


async def test_with_a_code_other_arguments_may_be_left_out_but_not_changed(ledger: Ledger) -> None:
    code = issued(ledger)

    shown = await recall(ledger.codes, "a", "start_batch_call", code, {"batch_call_id": "bc_1"})
    assert shown.arguments == ARGUMENTS
    with pytest.raises(NotConfirmed, match="trigger_timestamp differ"):
        await recall(ledger.codes, "a", "start_batch_call", code, {"trigger_timestamp": "2026-11-24T09:00Z"})
    assert used(ledger, code), "a slip does not burn the code"


def test_of_two_codes_for_one_launch_only_the_last_counts(ledger: Ledger) -> None:
    first, other, last = issued(ledger), issued(ledger, caller="b"), issued(ledger)

    assert ledger.codes.find(first) is None
    assert used(ledger, last)
    assert used(ledger, other)


def test_an_answer_is_used_once(ledger: Ledger, clock: Clock) -> None:
    with ledger.database.writing() as tx:
        assert ledger.codes.use(tx, ledger.codes.answer("nonce"))
    clock.move(seconds=LIFETIME_S)
    with ledger.database.writing() as tx:
        assert not ledger.codes.use(tx, ledger.codes.answer("nonce"))
        assert ledger.codes.use(tx, ledger.codes.answer("another"))


def test_the_database_holds_neither_the_code_nor_whom_it_calls(ledger: Ledger) -> None:
    code = issued(ledger, tasks=[{"to_number": "+14155550123", "name": "Ann"}])
    with ledger.database.reading() as connection:
        row = connection.exec_driver_sql("SELECT * FROM codes").one()

    held = repr(tuple(row))
    assert [text for text in (code, "+14155550123", "Ann") if text in held] == []


def test_what_is_remembered_of_large_requests_is_bounded(ledger: Ledger) -> None:
    large = "x" * 10_000_000
    codes = [issued(ledger, binding=str(number), tasks=large) for number in range(8)]

    kept = [code for code in codes if ledger.codes.find(code) is not None]
    assert 1 < len(kept) < 8
    assert codes[-1] in kept


LARGE = "x" * 250_000
"""Of a sixteenth of the bounds: so large are 4 MB of the whole ones."""
SHOWN = Shown(question="Call 1 person?", word="1")


def bound_of(launch: str, size: int = 3) -> Bound:
    return Bound(launch, {"people": frozenset(member.to_bytes(MEMBER_BYTES, "big") for member in range(size))})


def fewer(bound: Bound) -> Bound:
    return Bound(bound.launch, {kind: frozenset(sorted(members)[1:]) for kind, members in bound.sets.items()})


def test_twenty_large_questions_of_one_caller_push_out_nothing_of_another_s(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "MOST_BYTES_OF_CALLER", codes.MOST_BYTES_OF_CALLER // 16)
    monkeypatch.setattr(codes, "MOST_BYTES", codes.MOST_BYTES // 16)
    code = issued(ledger, caller="b")
    asked = ledger.codes.approvals.ask(caller="b", tool="t", bound="y", shown=SHOWN)
    ledger.codes.remember(bound_of("b"), caller="b")
    for number in range(20):
        clock.move(milliseconds=1)
        issued(ledger, caller="a", binding=f"x{number}", tasks=LARGE)
        shown = replace(SHOWN, question=LARGE)
        ledger.codes.approvals.ask(caller="a", tool="t", bound=f"y{number}", shown=shown)
        ledger.codes.remember(bound_of(f"a{number}", MOST_MEMBERS // 16), caller="a")

    assert used(ledger, code)
    assert asked is not None
    assert ledger.codes.approvals.approve(asked.approval_id)
    assert ledger.codes.covers(bound_of("b").text, fewer(bound_of("b")))


def test_the_sets_of_one_caller_are_bounded_and_the_oldest_question_s_go_first(ledger: Ledger, clock: Clock) -> None:
    first, last = bound_of("first"), bound_of("last")
    ledger.codes.remember(first, caller="a")
    for number in range(MOST_OF_CALLER):
        clock.move(milliseconds=1)
        ledger.codes.remember(bound_of(f"x{number}") if number else last, caller="a")

    assert not ledger.codes.covers(first.text, fewer(first))
    assert ledger.codes.covers(last.text, fewer(last))


def test_of_many_callers_together_the_one_that_holds_most_loses_its_oldest(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "MOST_BYTES", 10_000)
    small = issued(ledger, caller="b")
    large = []
    for number in range(20):
        clock.move(milliseconds=1)
        large.append(issued(ledger, caller=f"a{number % 2}", binding=str(number), tasks="x" * 1000))

    assert used(ledger, small)
    kept = [ledger.codes.find(code) is not None for code in large]
    assert kept == sorted(kept)
    assert 5 <= sum(kept) <= 9


def test_codes_that_nobody_uses_do_not_pile_up(tmp_path: Any, clock: Clock) -> None:
    ledger = Ledger.open(Settings(data_dir=tmp_path), clock)
    first = issued(ledger)
    for number in range(MOST_OF_CALLER):
        clock.move(milliseconds=1)
        issued(ledger, binding=f"x{number}")

    assert ledger.codes.find(first) is None
    ledger.close()
