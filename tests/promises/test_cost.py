"""No launch costs more than the operator allows: refused before anybody is asked, and again before it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchcall_mcp.model import WEEKDAYS
from tests.vendors import talking, zudu
from tests.vendors.talking import Talking, installed
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Model, Person, Thinking, number, playing

__all__ = ["installed"]
PRICE = {"cost_per_minute": "0.50 USD"}
"""A dial is 1 USD."""
OPEN = {"calling_hours": "00:00-24:00"}
AT_ZUDU = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET, **OPEN}
AT_TALKING = {"backend": "talking", "api_key": talking.KEY, "api_secret": talking.SECRET, **OPEN}
ALL_DAY = {"start": "00:00", "end": "24:00", "timezone": "UTC", "days": list(WEEKDAYS)}


def people(*lines: int, **more: Any) -> list[dict[str, Any]]:
    return [{"to_number": number(NEW_YORK, line), **more} for line in lines]


async def draft(model: Model, *lines: int, retries: int = 0, **of_each: Any) -> dict[str, str]:
    retry = {"retry": {"max_retries": retries, "after_minutes": 60}} if retries else {}
    tasks = people(*lines, dynamic_variables={"name": "Ann", "first_name": "Ann"}, **of_each)
    made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, window=ALL_DAY, **retry)
    return {"batch_call_id": made["batch_call"]["batch_call_id"]}


async def start(model: Model, one: dict[str, str], **more: Any) -> dict[str, Any]:
    return await model.call("start_batch_call", **one, trigger_timestamp="now", **more)


@asynccontextmanager
async def at_zudu(vendor: Zudu, tmp_path: Path, *persons: Person, **settings: str) -> AsyncIterator[list[Model]]:
    """One server for each person, on one ledger."""
    async with vendor.served() as url:
        opened = [playing("auto", one, url=url, data_dir=tmp_path, **AT_ZUDU, **settings) for one in persons]
        async with opened[0] as first:
            if len(opened) == 1:
                yield [first]
                return
            async with opened[1] as second:
                yield [first, second]


async def test_a_launch_that_costs_too_much_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    vendor, person = Zudu(), Person()
    async with at_zudu(vendor, tmp_path, person, max_cost_per_launch="2.99 USD", **PRICE) as (model,):
        one = await draft(model, 0, 1, 2)
        text = await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="now")
        assert "about 3 USD for at most 3 dials (retries counted) at 0.50 USD a minute, 2 minutes each" in text
        assert "BATCHCALL_MAX_COST_PER_LAUNCH=2.99 USD" in text
        judged = await model.call("check_batch_call", **one)
        assert judged["preflight"]["cost"] == "about 3 USD for 3 calls at 0.50 USD a minute, 2 minutes a call"
        assert "BATCHCALL_MAX_COST_PER_LAUNCH=2.99 USD" in judged["preflight"]["blocks"][0]
    assert (vendor.dialled, person.questions) == ([], [])


async def test_retries_that_zudu_does_not_give_back_count(tmp_path: Path) -> None:
    """They were set when the list was made: at its start Zudu shows nothing of them."""
    vendor, person = Zudu(), Person()
    async with at_zudu(vendor, tmp_path, person, max_cost_per_launch="3 USD", **PRICE) as (model,):
        text = await model.refused(
            "start_batch_call", "invalid_input", **await draft(model, 0, 1, max_retries=1), trigger_timestamp="now"
        )
        assert "about 4 USD for at most 4 dials" in text
        text = await model.refused(
            "start_batch_call", "invalid_input", **await draft(model, 2, 3, retries=2), trigger_timestamp="now"
        )
        assert "about 6 USD for at most 6 dials" in text
        await start(model, await draft(model, 4, 5))
    assert (len(vendor.dialled), len(person.questions)) == (2, 1)


async def test_a_day_is_kept_by_two_servers_that_ask_at_the_same_time(tmp_path: Path) -> None:
    """Both questions are shown while the day has room for either; the second yes comes too late."""
    vendor = Zudu()
    first, second = Thinking(), Thinking()
    async with at_zudu(vendor, tmp_path, first, second, max_cost_per_day="5 USD", **PRICE) as (one, other):
        assert (await one.call("get_backend"))["cost_left_today"] == "5 USD"
        a, b = await draft(one, 0, 1, 2), await draft(other, 3, 4, 5)

        async def meanwhile() -> None:
            await start(other, b)

        first.meanwhile = meanwhile
        text = await one.refused("start_batch_call", "invalid_input", **a, trigger_timestamp="now")
        assert "about 3 USD (retries counted) and about 3 USD of other launches on that day (UTC)" in text
        assert "BATCHCALL_MAX_COST_PER_DAY=5 USD" in text
        assert (await one.call("get_backend"))["cost_left_today"] == "2 USD"
    assert len(vendor.dialled) == 3
    assert (len(first.questions), len(second.questions)) == (1, 1)


async def test_launches_that_are_sent_together_do_not_pass_the_day_together(tmp_path: Path) -> None:
    vendor = Zudu()
    limits = {"confirm": "off", "accept_no_stop": "true", "max_calls_per_launch": "9", "max_cost_per_day": "5 USD"}
    async with at_zudu(vendor, tmp_path, Person(), Person(), **limits, **PRICE) as models:
        drafts = [(models[at % 2], await draft(models[at % 2], 10 * at, 10 * at + 1)) for at in range(4)]
        ends = []

        async def launch(model: Model, one: dict[str, str]) -> None:
            arguments = {**one, "trigger_timestamp": "now"}
            ends.append((await model.client.call_tool("start_batch_call", arguments)).is_error)

        async with anyio.create_task_group() as group:
            for model, one in drafts:
                group.start_soon(launch, model, one)
    assert sorted(ends) == [False, False, True, True]
    assert len(vendor.dialled) == 4


async def test_without_a_price_a_limit_of_cost_refuses_and_says_what_to_set(tmp_path: Path) -> None:
    vendor, person = Zudu(), Person()
    async with at_zudu(vendor, tmp_path, person, max_cost_per_day="5 USD") as (model,):
        one = await draft(model, 0)
        text = await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="now")
        assert "the operator has to set BATCHCALL_COST_PER_MINUTE, such as 0.14 USD" in text
    assert (vendor.dialled, person.questions) == ([], [])


async def test_a_yes_to_one_price_is_not_a_yes_to_a_higher_one(tmp_path: Path) -> None:
    vendor, code = Zudu(), {"confirm": "code"}
    async with vendor.served() as url:
        account: dict[str, Any] = {**AT_ZUDU, **code, "url": url, "data_dir": tmp_path}
        async with playing("auto", None, **account, **PRICE) as model:
            one = await draft(model, 0)
            asked = await start(model, one)
            assert "About 1 USD for 1 call at 0.50 USD a minute" in asked["summary"]
        async with playing("auto", None, **account, cost_per_minute="0.60 USD") as model:
            asked = await start(model, one, confirmation_code=asked["confirmation_code"])
            assert asked["result"] == "confirmation_required"
            assert "About 1.20 USD for 1 call at 0.60 USD a minute" in asked["summary"]
            assert vendor.dialled == []
            await start(model, one, confirmation_code=asked["confirmation_code"])
    assert len(vendor.dialled) == 1


@pytest.mark.usefixtures("installed")
class TestABackendThatReportsItsPrice:
    async def test_it_needs_no_setting(self, tmp_path: Path) -> None:
        vendor, person = Talking(price=Decimal("0.14")), Person()
        async with vendor.served() as url, playing("auto", person, url=url, data_dir=tmp_path, **AT_TALKING) as model:
            assert (await model.call("get_backend"))["cost_per_minute"] == "0.14 USD"
            started = await start(model, await draft(model, 0, 1, retries=1))
            words = "about 0.56 USD for 2 calls at 0.14 USD a minute, 2 minutes a call"
            retries = "; retries not counted, up to 1.12 USD with all of them"
            assert started["preflight"]["cost"] == words + retries
            assert f"A{words[1:]}{retries}." in person.questions[0]
        assert len(vendor.dialled) == 2

    async def test_in_another_currency_nothing_is_launched_and_it_says_what_to_do(self, tmp_path: Path) -> None:
        vendor, person = Talking(price=Decimal("0.14")), Person()
        limit = {"max_cost_per_day": "1000 EUR", "cost_per_minute": "0.10 EUR"}
        async with (
            vendor.served() as url,
            playing("auto", person, url=url, data_dir=tmp_path, **AT_TALKING, **limit) as model,
        ):
            facts = await model.call("get_backend")
            assert "Nothing launches: the backend reports its price in USD" in facts["notes"][0]
            one = await draft(model, 0)
            text = await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="now")
            assert "the operator's amounts are in EUR: nothing is converted" in text
            assert "BATCHCALL_MAX_COST_PER_DAY in USD, or removes them" in text
        assert (vendor.dialled, person.questions) == ([], [])

    async def test_people_who_are_called_after_a_pause_cost_once(self, tmp_path: Path) -> None:
        vendor, person = Talking(price=Decimal("0.50")), Person()
        limit = {"max_cost_per_day": "2 USD"}
        async with (
            vendor.served() as url,
            playing("auto", person, url=url, data_dir=tmp_path, **AT_TALKING, **limit) as model,
        ):
            one = await draft(model, 0, 1)
            later = {**one, "trigger_timestamp": "2099-01-01T12:00Z"}
            await model.call("start_batch_call", **later)
            await model.call("pause_batch_call", **one)
            await model.call("resume_batch_call", **one)
            assert (await model.call("get_backend"))["cost_left_today"] == "0 USD"
            text = await model.refused(
                "start_batch_call", "invalid_input", **await draft(model, 2), trigger_timestamp="now"
            )
            assert "about 1 USD (retries counted) and about 2 USD of other launches" in text


async def test_simulated_calls_cost_nothing_and_no_limit_of_cost_holds_them_up(tmp_path: Path) -> None:
    person = Person()
    cheap = {"max_cost_per_launch": "0.01 USD", "max_cost_per_day": "0.01 USD"}
    async with playing("auto", person, data_dir=tmp_path, **cheap, **PRICE, **OPEN) as model:
        facts = await model.call("get_backend")
        assert not {name for name in facts if "cost" in name}
        made = await model.call("create_batch_call", from_number=FROM, tasks=people(0, 1))
        started = await start(model, {"batch_call_id": made["batch_call"]["batch_call_id"]})
        assert "cost" not in started["preflight"]
    assert "USD" not in person.questions[0]


async def test_a_server_whose_account_names_no_price_needs_one(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        settings = {**AT_ZUDU, "backend": "batchcall", "max_cost_per_launch": "5 USD"}
        async with playing("auto", Person(), url=url, data_dir=tmp_path, **settings) as model:
            made = await model.call("create_batch_call", from_number=FROM, tasks=people(0))
            one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
            text = await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="now")
            assert "no price of a minute is known" in text
    assert vendor.dialled == []
