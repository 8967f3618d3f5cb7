"""Money, as somebody attacked it who did not write it: launches that cost more than was said or allowed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from batchcall_mcp.backends.base import At
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.rest_api import mapping
from batchcall_mcp.backends.rest_api.dialer import DialerBackend, open_dialer_client
from batchcall_mcp.batch_calls import summing_up
from batchcall_mcp.batch_calls.report.tally import Tally
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.model import BatchCallRequest, CallTask, Counts, RetryPolicy, TaskStatus
from batchcall_mcp.money import Money
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials
from tests.promises.test_cost import AT_TALKING, AT_ZUDU, PRICE, at_zudu, draft, people, start
from tests.vendors.talking import Talking, TalkingBackend, installed
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Person, playing

__all__ = ["installed"]


async def test_retries_that_a_server_of_the_dialect_does_not_give_back_count(tmp_path: Path) -> None:
    """BATCHCALL_BACKEND=batchcall with a server that keeps retries and shows none of them."""
    vendor, person = Zudu(), Person()
    async with vendor.served() as url:
        settings: dict[str, Any] = {**AT_ZUDU, "backend": "batchcall", "max_cost_per_launch": "3 USD", **PRICE}
        async with playing("auto", person, url=url, data_dir=tmp_path, **settings) as model:
            made = await model.call("create_batch_call", from_number=FROM, tasks=people(0, 1, max_retries=2))
            one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
            text = await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="now")
            assert "about 6 USD for at most 6 dials" in text
    assert (vendor.dialled, person.questions) == ([], [])


async def test_a_list_that_was_changed_elsewhere_is_not_the_one_whose_retries_are_known(tmp_path: Path) -> None:
    vendor, person = Zudu(), Person()
    async with at_zudu(vendor, tmp_path, person, max_cost_per_launch="3 USD", **PRICE) as (model,):
        one = await draft(model, 0, 1)
        vendor.batches[one["batch_call_id"]].tasks[0].to_number = people(7)[0]["to_number"]
        text = await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="now")
        assert "how often its people are dialled again is not known here" in text
    assert (vendor.dialled, person.questions) == ([], [])


@pytest.mark.usefixtures("installed")
async def test_people_who_are_added_cost_together_with_those_who_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with calls: many small additions are one large list."""
    able = TalkingBackend.capabilities
    monkeypatch.setattr(TalkingBackend, "capabilities", replace(able, operations=able.operations | {Operation.APPEND}))
    vendor, person = Talking(price=Decimal("0.50")), Person()
    limit = {"max_cost_per_launch": "3 USD"}
    async with (
        vendor.served() as url,
        playing("auto", person, url=url, data_dir=tmp_path, **AT_TALKING, **limit) as model,
    ):
        one = await draft(model, 0, 1)
        await model.call("start_batch_call", **one, trigger_timestamp="2099-01-01T12:00Z")
        added = await model.call("update_batch_call", **one, add_tasks=people(2))
        assert added["preflight"]["cost"] == "about 1 USD for 1 call at 0.50 USD a minute, 2 minutes a call"
        text = await model.refused("update_batch_call", "invalid_input", **one, add_tasks=people(3))
        assert "about 4 USD for at most 4 dials (retries counted), with the 3 people who are in it already" in text
    assert len(person.questions) == 2


def test_rules_without_a_number_of_retries_are_one_redial() -> None:
    """What the dialer does with them (`BatchCallRecord.redialing`), and what a launch of it costs."""
    after = {"type": "AFTER", "duration_minutes": 5}
    rule = {"condition": "no_answer", "enabled": True, "retry_timing": after}
    data = {"batch_call_id": "b", "status": "draft", "retry_config": None, "retry_rules": [rule]}
    assert mapping.batch_call(data).retry == RetryPolicy(max_retries=1, on=("no_answer",), after_minutes=5)
    assert mapping.batch_call(data | {"retry_rules": [rule | {"enabled": False}]}).retry is None
    assert mapping.batch_call(data | {"retry_rules": []}).retry is None


def test_a_date_that_is_over_everywhere_means_now() -> None:
    """A backend may say that it waits for a date of years ago: what is launched there counts today."""
    now = datetime(2026, 11, 27, 11, tzinfo=UTC)
    assert At.date(date(2020, 1, 1)).counts_at(now) == now
    for day in (date(2026, 11, 26), date(2026, 11, 27), date(2027, 1, 1)):
        assert At.date(day).counts_at(now).date() == day


async def test_our_dialer_says_how_often_it_dials_again(tmp_path: Path) -> None:
    dialer = EmbeddedDialer(tmp_path)
    await dialer.start()
    async with open_dialer_client(dialer.app) as client:
        key, secret = map(SecretStr, dialer.credentials)
        backend = DialerBackend(BackendHttp(client, DialerBackend.default_url, 15), Credentials(key, secret))
        task = CallTask(to_number="+12125550100")
        made = await backend.create(BatchCallRequest(from_number=FROM, tasks=(task,)))
        assert not (await backend.get(made.batch_call_id)).hides_retry
    await dialer.aclose()


TASK = CallTask(to_number="+12125550100", status=TaskStatus.COMPLETED)


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-5", "1E+40"])
def test_what_can_be_no_amount_is_not_added_up(amount: str) -> None:
    """An adapter of somebody else may give anything."""
    told, tally = summing_up.Sum(), Tally()
    for cost in (Money(Decimal("0.14"), "USD"), Money(Decimal(amount), "USD")):
        told.add(replace(TASK, cost=cost))
        tally.add(replace(TASK, cost=cost))
    found = told.results(Counts(), whole=True)
    assert (found.cost, tally.costs) == (Money(Decimal("0.14"), "USD"), {"USD": Decimal("0.14")})


@pytest.mark.usefixtures("installed")
async def test_a_cost_of_some_calls_is_not_said_to_be_that_of_all(tmp_path: Path) -> None:
    vendor, person = Talking(price=Decimal("0.14"), at_once=True), Person()
    async with vendor.served() as url, playing("auto", person, url=url, data_dir=tmp_path, **AT_TALKING) as model:
        one = await draft(model, 0, 1, 2)
        await start(model, one)
        first = vendor.tasks[one["batch_call_id"]][0]
        assert first.pop("cost")
        got = await model.call("get_batch_call", **one)
        assert "Cost: 0.28 USD." in got["summary"]
        assert "The cost is that of the calls to 2 of 3 people: it is not known of the others." in _notes(got)
        first["cost"] = {"amount": "1", "currency": "EUR"}
        got = await model.call("get_batch_call", **one)
        assert "cost" not in got["batch_call"]["results"]
        assert "The cost is in several currencies (EUR, USD), which have no sum" in _notes(got)


def _notes(got: dict[str, Any]) -> str:
    return " ".join(got["batch_call"]["notes"])


@pytest.mark.usefixtures("installed")
async def test_a_check_of_what_has_begun_is_about_those_who_are_still_to_be_called(tmp_path: Path) -> None:
    vendor, person = Talking(price=Decimal("0.50")), Person()
    async with vendor.served() as url, playing("auto", person, url=url, data_dir=tmp_path, **AT_TALKING) as model:
        one = await draft(model, 0, 1, 2)
        await model.call("start_batch_call", **one, trigger_timestamp="2099-01-01T12:00Z")
        await model.call("pause_batch_call", **one)
        vendor.tasks[one["batch_call_id"]][0]["status"] = "completed"
        judged = await model.call("check_batch_call", **one)
        assert judged["preflight"]["cost"] == "about 2 USD for 2 calls at 0.50 USD a minute, 2 minutes a call"
        await model.call("resume_batch_call", **one)
    assert "About 2 USD for 2 calls" in person.questions[-1]


@pytest.mark.usefixtures("installed")
async def test_the_first_people_and_the_next_ones_are_within_a_day_that_has_room_for_them(tmp_path: Path) -> None:
    """Of 4 people 2 are called, then the others, of whom each costs once."""
    vendor, person = Talking(price=Decimal("0.50")), Person()
    limit = {"max_cost_per_day": "4 USD"}
    async with (
        vendor.served() as url,
        playing("auto", person, url=url, data_dir=tmp_path, **AT_TALKING, **limit) as model,
    ):
        one = await draft(model, 0, 1, 2, 3)
        await model.call("start_batch_call", **one, trigger_timestamp="2099-01-01T12:00Z")
        await model.call("pause_batch_call", **one)
        for task in vendor.tasks[one["batch_call_id"]][:2]:
            task["status"] = "completed"
        await model.call("resume_batch_call", **one)


@pytest.mark.usefixtures("installed")
async def test_a_retry_that_is_made_more_often_is_within_the_limits_too(tmp_path: Path) -> None:
    vendor, person = Talking(price=Decimal("0.50")), Person()
    limit = {"max_cost_per_launch": "3 USD"}
    async with (
        vendor.served() as url,
        playing("auto", person, url=url, data_dir=tmp_path, **AT_TALKING, **limit) as model,
    ):
        one = await draft(model, 0, 1)
        await model.call("update_batch_call", **one, retry={"max_retries": 2, "after_minutes": 60})
        text = await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="now")
        assert "about 6 USD for at most 6 dials" in text
        for batch in vendor.batches.values():  # a server that keeps it, and does not show it
            batch.pop("retry_config")
        text = await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="now")
        assert "about 6 USD for at most 6 dials" in text
    assert (vendor.dialled, person.questions) == ([], [])
