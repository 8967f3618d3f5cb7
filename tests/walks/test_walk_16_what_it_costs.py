"""Walk 16: "call these 300, but do not spend more than 50 dollars": the cost refused, over stdio and over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.server.transports import Way
from tests.tools.desk import SOME_WAYS, Person, opened
from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import numbers

PEOPLE = [{"to_number": one, "dynamic_variables": {"name": "Ann"}} for one in numbers(300)]
WINDOW = {"start": "00:00", "end": "24:00", "timezone": "America/New_York"}


@pytest.mark.parametrize("way", SOME_WAYS, ids=str)
def test_a_list_that_costs_too_much_is_cut_to_what_may_be_spent(way: Way, tmp_path: Path) -> None:
    vendor, person = Zudu(), Person()
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(vendor.served()) as url:
        settings = {
            "BATCHCALL_BACKEND": "zudu",
            "BATCHCALL_URL": url,
            "BATCHCALL_COST_PER_MINUTE": "0.14 USD",
            "BATCHCALL_MAX_COST_PER_LAUNCH": "50 USD",
            "BATCHCALL_MAX_COST_PER_DAY": "60 USD",
        }
        pair = {"X-API-KEY": zudu.KEY, "X-API-SECRET": zudu.SECRET}
        if way.transport == "stdio":
            settings |= {"BATCHCALL_API_KEY": zudu.KEY, "BATCHCALL_API_SECRET": zudu.SECRET}
        with opened(portal, way, tmp_path, person, settings, pair) as desk:
            facts = desk.call("get_backend")
            assert (facts["cost_per_minute"], facts["max_cost_per_launch"]) == ("0.14 USD", "50 USD")
            assert (facts["max_cost_per_day"], facts["cost_left_today"]) == ("60 USD", "60 USD")

            # The check says it, before anything is made.
            found = desk.call("check_batch_call", tasks=PEOPLE, from_number=zudu.NUMBER)["preflight"]
            assert found["cost"] == "about 84 USD for 300 calls at 0.14 USD a minute, 2 minutes a call"
            assert "is more than BATCHCALL_MAX_COST_PER_LAUNCH=50 USD" in found["blocks"][0]
            assert "are more than BATCHCALL_MAX_COST_PER_DAY=60 USD" in found["blocks"][1]

            # It is drafted all the same: its launch is refused, and nobody is asked.
            whole = {"batch_call_id": desk.draft(PEOPLE, window=WINDOW)}
            text = desk.refused("start_batch_call", **whole, trigger_timestamp="now")
            assert text.startswith("[invalid_input] ")
            assert "about 84 USD for at most 300 dials (retries counted)" in text
            assert "Nothing was sent" in text

            # As many as may be called: each may be dialled once more, and that counts too.
            retry = {"max_retries": 1, "after_minutes": 60}
            part = {"batch_call_id": desk.draft(PEOPLE[:89], window=WINDOW, retry=retry)}
            desk.call("start_batch_call", **part, trigger_timestamp="now")
            assert len(person.questions) == 1
            assert (
                "About 24.92 USD for 89 calls at 0.14 USD a minute, 2 minutes a call; retries not counted, up to "
                "49.84 USD with all of them."
            ) in person.questions[0]
            assert desk.call("get_backend")["cost_left_today"] == "10.16 USD"

            # The rest of the day is too short for the others, and another day is not.
            rest = {"batch_call_id": desk.draft(PEOPLE[89:189], window=WINDOW)}
            text = desk.refused("start_batch_call", **rest, trigger_timestamp="now")
            assert "about 28 USD (retries counted) and about 49.84 USD of other launches on that day (UTC)" in text
            desk.call("start_batch_call", **rest, trigger_timestamp="2099-01-01T15:00:00Z")
            assert "About 28 USD for 100 calls" in person.questions[1]
    assert len(vendor.dialled) == 89
    assert len(person.questions) == 2
