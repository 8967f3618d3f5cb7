"""What the launches of a day may cost is counted like their calls, in the transaction that records them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.spending import Spent
from batchcall_mcp.guard.write_record import Entry, Intent, Overtaken, WriteState
from batchcall_mcp.money import parse_money
from batchcall_mcp.settings import Settings
from tests.guard.ledger.conftest import BEGIN
from tests.guard.ledger.test_writes import START as UNPRICED
from tests.guard.ledger.test_writes import begun

ANN, BOB = "+14155550101", "+14155550102"
START = replace(UNPRICED, max_dials=4, dial_cost=parse_money("0.25 USD"))
"""Ann once and Bob three times: 1 USD at most."""


def amount(ledger: Ledger, **of: Any) -> Decimal:
    return ledger.history.spent_on(BEGIN, **of).amounts.get("USD", Decimal(0))


def other(ledger: Ledger, batch_call_id: str = "bc_2", **changes: Any) -> Intent:
    new = replace(START, batch_call_id=batch_call_id, caller="b", fingerprint=batch_call_id * 8)
    return replace(new, since=ledger.history.newest(), **changes)


def after(ledger: Ledger, **changes: Any) -> Intent:
    """A later write to the batch call of START."""
    newest = ledger.history.newest_of(START.backend, "bc_1")
    return replace(START, seen=newest.write_id if newest else 0, **changes)


def launched(ledger: Ledger, intent: Intent) -> Entry:
    entry = begun(ledger, intent)
    return ledger.writes.finish(entry.write_id, WriteState.DONE, status="running")


def test_a_day_may_cost_so_much_and_no_more(ledger: Ledger) -> None:
    launched(ledger, START)
    with pytest.raises(InvalidInput, match=r"About 1 USD \(retries counted\) and about 1 USD of other launches"):
        ledger.writes.begin(other(ledger), max_cost_per_day=parse_money("1.99 USD"))
    assert isinstance(ledger.writes.begin(other(ledger), max_cost_per_day=parse_money("2 USD")), Entry)
    assert amount(ledger) == 2
    assert ledger.history.spent_on(BEGIN + timedelta(days=1)) == Spent(on_the_same=Spent())


def test_the_people_of_one_batch_call_cost_once_however_often_it_is_launched(ledger: Ledger) -> None:
    launched(ledger, START)
    resume = after(ledger, operation=Operation.RESUME, calls=1, numbers=((BOB, 3),), max_dials=3)
    assert amount(ledger, backend=START.backend, own_id="bc_1", numbers=[BOB]) == Decimal("0.25")
    entry = ledger.writes.begin(resume, max_cost_per_day=parse_money("1 USD"))
    assert isinstance(entry, Entry)
    assert amount(ledger) == 1


def test_who_may_have_been_dialled_often_before_is_not_cheaper_when_fewer_retries_are_left(ledger: Ledger) -> None:
    launched(ledger, START)
    resume = after(ledger, operation=Operation.RESUME, calls=1, numbers=((BOB, 1),), max_dials=1)
    with pytest.raises(InvalidInput, match="BATCHCALL_MAX_COST_PER_DAY"):
        ledger.writes.begin(resume, max_cost_per_day=parse_money("0.99 USD"))
    assert isinstance(ledger.writes.begin(resume, max_cost_per_day=parse_money("1 USD")), Entry)


def test_a_launch_whose_people_are_no_longer_known_costs_what_it_was_recorded_with(ledger: Ledger) -> None:
    """A person took it for one that was not made, and then its answer came."""
    entry = begun(ledger, START)
    assert ledger.writes.settle(entry, WriteState.REFUSED)
    ledger.writes.finish(entry.write_id, WriteState.DONE, status="running", sent=entry)
    assert amount(ledger) == 1
    resume = after(ledger, operation=Operation.RESUME, calls=1, numbers=((BOB, 1),), max_dials=1)
    with pytest.raises(InvalidInput, match="BATCHCALL_MAX_COST_PER_DAY"):
        ledger.writes.begin(resume, max_cost_per_day=parse_money("0.99 USD"))
    assert isinstance(ledger.writes.begin(resume, max_cost_per_day=parse_money("1 USD")), Entry)


def test_a_retry_and_people_who_are_added_cost_more(ledger: Ledger) -> None:
    launched(ledger, START)
    added = after(ledger, operation=Operation.APPEND, calls=1, numbers=(("+14155550103", 1),), max_dials=1)
    with pytest.raises(InvalidInput, match="BATCHCALL_MAX_COST_PER_DAY"):
        ledger.writes.begin(added, max_cost_per_day=parse_money("1.24 USD"))
    launched(ledger, added)
    retry = after(ledger, operation=Operation.RETRY, calls=1, numbers=((ANN, 1),), max_dials=1)
    with pytest.raises(InvalidInput, match="BATCHCALL_MAX_COST_PER_DAY"):
        ledger.writes.begin(retry, max_cost_per_day=parse_money("1.49 USD"))
    assert isinstance(ledger.writes.begin(retry, max_cost_per_day=parse_money("1.5 USD")), Entry)
    assert amount(ledger) == Decimal("1.5")


def test_a_launch_for_the_first_people_costs_what_they_cost(ledger: Ledger) -> None:
    launched(ledger, replace(START, calls=1, max_dials=3))

    assert amount(ledger) == Decimal("0.75")


def test_what_was_refused_or_is_simulated_costs_nothing(ledger: Ledger) -> None:
    ledger.writes.finish(begun(ledger, START).write_id, WriteState.REFUSED)
    free = other(ledger, simulated=True, dial_cost=None)
    assert isinstance(ledger.writes.begin(free, max_cost_per_day=parse_money("0.01 USD")), Entry)
    assert amount(ledger) == 0


def test_a_launch_without_a_price_counts_at_the_price_of_the_one_that_is_judged(ledger: Ledger) -> None:
    launched(ledger, replace(START, dial_cost=None))
    assert ledger.history.spent_on(BEGIN).unpriced == 4
    with pytest.raises(InvalidInput, match="about 1 USD of other launches"):
        ledger.writes.begin(other(ledger), max_cost_per_day=parse_money("1.99 USD"))


@pytest.mark.parametrize("unknown", [{"dial_cost": None}, {"max_dials": None}])
def test_a_launch_of_unknown_cost_is_over_every_limit(ledger: Ledger, unknown: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="What this costs is not known"):
        ledger.writes.begin(replace(START, **unknown), max_cost_per_day=parse_money("1000000 USD"))


def test_launches_in_another_currency_are_not_added_up(ledger: Ledger) -> None:
    launched(ledger, replace(START, dial_cost=parse_money("1 EUR")))
    with pytest.raises(InvalidInput, match="counted in EUR, USD, and nothing is converted"):
        ledger.writes.begin(other(ledger), max_cost_per_day=parse_money("1000000 USD"))


def test_of_many_launches_at_the_same_time_no_more_pass_than_the_day_may_cost(
    ledger: Ledger, settings: Settings, clock: Callable[[], Any]
) -> None:
    replicas = [ledger, Ledger.open(settings, clock)]
    intents = [other(ledger, f"bc_{at}", numbers=((f"+1415555{at:04}", 4),)) for at in range(12)]

    def begin(at: int) -> Entry | Overtaken | Any:
        try:
            return replicas[at % 2].writes.begin(intents[at], max_cost_per_day=parse_money("5.99 USD"))
        except InvalidInput as error:
            return error

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(begin, range(12)))
    replicas[1].close()
    assert sum(isinstance(one, Entry) for one in found) == 5
    assert amount(ledger) == 5


def test_a_ledger_of_the_version_before_goes_on_and_knows_how_often_its_launches_dial(settings: Settings) -> None:
    """Its launches of today count at the price that is known now."""
    ledger = Ledger.open(settings, lambda: BEGIN)
    launched(ledger, UNPRICED)
    engine = ledger.database.engine
    with engine.begin() as tx:
        for column in ("max_dials", "dial_cost", "currency"):
            tx.execute(sa.text(f"ALTER TABLE writes DROP COLUMN {column}"))
        tx.execute(sa.text("DROP TABLE forgotten"))
        tx.execute(sa.text("UPDATE alembic_version SET version_num = '0004'"))
    ledger.close()

    again = Ledger.open(settings, lambda: BEGIN)
    assert again.history.spent_on(BEGIN).unpriced == 4
    again.close()
