"""What came of a finished batch call, where the backend itself does not count who was reached: its tasks say it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.vendors import bolna, dograh
from tests.vendors.bolna import Bolna
from tests.vendors.dograh import Dograh
from tests.walks.stage import FROM, NEW_YORK, Person, number, playing

PEOPLE = [number(NEW_YORK, line) for line in range(4)]
OUTCOMES = {PEOPLE[1]: "busy", PEOPLE[2]: "voicemail"}


@pytest.mark.parametrize(
    ("name", "opened", "agent_id"),
    [("bolna", Bolna, bolna.AGENT), ("dograh", partial(Dograh, lines=5), dograh.AGENT)],
    ids=["bolna", "dograh"],
)
async def test_tasks_are_counted_where_the_backend_counts_something_else(
    name: str, opened: Callable[[], Any], agent_id: str, tmp_path: Path
) -> None:
    vendor = opened()  # its clock begins now
    async with vendor.served() as url:
        variables = {"backend": name, "url": url, "api_key": vendor.key, "data_dir": tmp_path}
        async with playing("auto", Person("yes"), **variables) as model:
            tasks = [{"to_number": one} for one in PEOPLE]
            made = await model.call("create_batch_call", from_number=FROM, agent_id=agent_id, tasks=tasks)
            one: dict[str, Any] = {"batch_call_id": made["batch_call"]["batch_call_id"]}
            await model.call("start_batch_call", trigger_timestamp="now", **one)
            vendor.tick(vendor.now + timedelta(minutes=20))
            vendor.finish(one["batch_call_id"], OUTCOMES)
            shown = await model.call("get_batch_call", **one)
            page = await model.call("get_batch_call", limit=1, **one)
    for answer in (shown, page):
        results = answer["batch_call"]["results"]
        assert (results["reached"], results["not_reached"]) == (2, {"busy": 1, "voicemail": 1})
        assert "Not reached: 1 busy, 1 voicemail." in answer["summary"]
