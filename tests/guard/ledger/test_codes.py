"""A code, and an answer, is good for one launch, for ten minutes, on every process of a ledger."""

from __future__ import annotations

from typing import Any

import pytest

from batchcall_mcp.errors import NotConfirmed
from batchcall_mcp.guard.confirmation import LIFETIME_S, recall
from batchcall_mcp.guard.ledger.code_rows import LIFETIME_MS, MOST_CODES
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.settings import Settings
from tests.guard.ledger.conftest import Clock

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


def test_codes_that_nobody_uses_do_not_pile_up(tmp_path: Any, clock: Clock) -> None:
    ledger = Ledger.open(Settings(data_dir=tmp_path), clock)
    first = issued(ledger)
    for number in range(MOST_CODES):
        clock.move(milliseconds=1)
        issued(ledger, binding=f"x{number}")

    assert ledger.codes.find(first) is None
    ledger.close()
