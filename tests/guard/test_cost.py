"""About how much a launch costs: said as an estimate, and plain about retries; limits count all of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from batchcall_mcp.backends.base import Never
from batchcall_mcp.guard.preflight.cost import CostLimits, Estimate, cost_blocks
from batchcall_mcp.guard.preflight.preflight import Limits, Preflight, Surroundings
from batchcall_mcp.guard.preflight.question import question
from batchcall_mcp.guard.spending import Spent, day_limit_problem
from batchcall_mcp.model import BatchCallRequest, CallTask, RetryPolicy
from batchcall_mcp.money import Money, parse_money
from tests.guard.test_preflight import FULL, HOURS, REQUEST, STORED, judged

PRICE = parse_money("0.14 USD")
REAL = replace(FULL, simulated=False, returns_variables=True)
TWO_RETRIES = replace(REQUEST, retry=RetryPolicy(max_retries=2))


def limits(**cost: str) -> Limits:
    amounts = {name: parse_money(amount) for name, amount in cost.items()}
    return Limits(max_calls_per_launch=None, calling_hours=HOURS, cost=CostLimits(**amounts))


def priced(**changes: Any) -> Preflight:
    return judged(**({"limits": limits(per_minute="0.14 USD"), "capabilities": REAL} | changes))


@pytest.mark.parametrize(
    ("calls", "dials", "words"),
    [
        (300, 300, "about 84 USD for 300 calls at 0.14 USD a minute, 2 minutes a call"),
        (1, 1, "about 0.28 USD for 1 call at 0.14 USD a minute, 2 minutes a call"),
        (
            300,
            900,
            (
                "about 84 USD for 300 calls at 0.14 USD a minute, 2 minutes a call; retries not counted, up to 252 USD "
                "with all of them"
            ),
        ),
    ],
)
def test_an_estimate_says_what_it_is_made_of(calls: int, dials: int, words: str) -> None:
    assert Estimate(calls=calls, dials=dials, per_minute=PRICE).words == words


def test_the_question_says_it_after_how_long_it_takes() -> None:
    found = priced(request=TWO_RETRIES)

    said = question(found, TWO_RETRIES, None, "vendor")

    assert (
        " Up to 3 dials each. About 0.84 USD for 3 calls at 0.14 USD a minute, 2 minutes a call; retries not "
        "counted, up to 2.52 USD with all of them. You can stop it." in said
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"capabilities": replace(REAL, simulated=True)},
        {"dials": Never()},
        {"limits": limits()},
        {"current": replace(STORED, simulated=True)},
    ],
    ids=["simulated", "a draft", "no price", "a simulated carrier"],
)
def test_money_is_not_talked_about_where_there_is_none(changes: dict[str, Any]) -> None:
    found = priced(**changes)

    assert found.cost is None
    assert "USD" not in question(found, REQUEST, None, "vendor")


@pytest.mark.parametrize("limit", ["per_launch", "per_day"])
def test_a_limit_counts_every_retry_that_there_can_be(limit: str) -> None:
    for request, most, blocked in ((REQUEST, "0.84 USD", 0), (REQUEST, "0.83 USD", 1), (TWO_RETRIES, "2.51 USD", 1)):
        found = priced(request=request, limits=limits(per_minute="0.14 USD", **{limit: most}))

        assert len(found.blocks) == blocked, (request, most)
    assert "2.52 USD" in found.blocks[0]
    assert "retries counted" in found.blocks[0]
    assert f"BATCHCALL_MAX_COST_{limit.upper()}=2.51 USD" in found.blocks[0]


@pytest.mark.parametrize("limit", ["per_launch", "per_day"])
def test_what_costs_nobody_knows_how_much_passes_no_limit(limit: str) -> None:
    nothing = limits(**{limit: "1000 USD"})
    unpriced = priced(limits=nothing).blocks
    assert "no price of a minute is known; the operator has to set BATCHCALL_COST_PER_MINUTE" in unpriced[0]
    stated = limits(per_minute="0.14 USD", **{limit: "1000 USD"})
    assert "the list of tasks could not be read" in priced(limits=stated, tasks=None, current=STORED).blocks[0]
    series = priced(limits=stated, current=replace(STORED, is_series=True)).blocks
    assert "it calls everybody again in each run of the series" in series[0]
    assert priced(limits=nothing, capabilities=replace(REAL, simulated=True)).blocks == ()


HIDES = replace(REAL, returns_variables=False)


def test_retries_that_a_backend_does_not_give_back_are_those_of_the_list_as_it_was_made() -> None:
    start = BatchCallRequest(send_now=True)
    stated = limits(per_minute="0.14 USD", per_launch="2 USD")
    known = priced(request=start, current=STORED, capabilities=HIDES, surroundings=Surroundings(listed_dials=3))
    assert (known.max_dials, known.dials_each) == (9, 3)
    assert "up to 2.52 USD with all of them" in (known.cost or "")
    elsewhere = priced(request=start, current=STORED, capabilities=HIDES, limits=stated)
    assert (elsewhere.cost or "").endswith("not all of it: how often its people are dialled again is not known here")
    assert "is not known here" in elsewhere.blocks[0]


def test_the_first_people_cost_what_those_cost_who_are_dialled_most() -> None:
    people = (CallTask(to_number="+12125550101", max_retries=4), CallTask(to_number="+12125550102"))

    found = priced(tasks=people, request=replace(REQUEST, first=1, tasks=None), current=None)

    assert "about 0.28 USD for 1 call" in (found.cost or "")
    assert "up to 1.40 USD" in (found.cost or "")


def test_the_higher_price_counts_where_two_are_known() -> None:
    stated = CostLimits(per_minute=PRICE)
    assert stated.price(parse_money("0.30 USD")) == parse_money("0.30 USD")
    assert stated.price(parse_money("0.10 USD")) == PRICE
    assert CostLimits().price(PRICE) == PRICE
    assert CostLimits().price(None) is None


@pytest.mark.parametrize("setting", ["per_minute", "per_launch", "per_day"])
def test_a_backend_that_reports_another_currency_is_refused_with_what_to_do(setting: str) -> None:
    found = priced(
        limits=limits(**{setting: "5 EUR"}), surroundings=Surroundings(reported_price=parse_money("0.1 USD"))
    )

    assert found.cost is None
    (block,) = found.blocks
    assert "reports its price in USD, and the operator's amounts are in EUR" in block
    assert "in USD, or removes them" in block


def test_a_day_adds_what_other_launches_may_cost() -> None:
    spent = Spent(amounts={"USD": Decimal("9.50")}, unpriced=1)
    assert day_limit_problem(parse_money("10.06 USD"), parse_money("0.28 USD"), 1, spent) is None
    assert day_limit_problem(parse_money("10.05 USD"), parse_money("0.28 USD"), 1, spent) == (
        "about 0.28 USD (retries counted) and about 9.78 USD of other launches on that day (UTC) are more than "
        "BATCHCALL_MAX_COST_PER_DAY=10.05 USD: launch fewer, or on another day"
    )


def test_a_day_with_launches_in_another_currency_cannot_be_added_up() -> None:
    spent = Spent(amounts={"EUR": Decimal(1)})

    problem = day_limit_problem(parse_money("10 USD"), parse_money("0.28 USD"), 1, spent)

    assert problem is not None
    assert "are counted in EUR, USD, and nothing is converted" in problem


def test_one_launch_that_breaks_both_limits_says_both() -> None:
    both = CostLimits(per_minute=PRICE, per_launch=parse_money("1 USD"), per_day=parse_money("2 USD"))
    estimate = Estimate(calls=10, dials=10, per_minute=PRICE)

    assert len(list(cost_blocks(estimate, both, None, Spent()))) == 2
    assert estimate.dial == Money(Decimal("0.28"), "USD")
