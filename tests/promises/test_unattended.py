"""BATCHCALL_CONFIRM=off: what could not be checked is not passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.kills.scenes import Front
from tests.vendors import magpipe
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.walks.stage import FROM, NEW_YORK, number, playing

PEOPLE = [number(NEW_YORK, line) for line in (0, 1)]
OTHER = number(NEW_YORK, 9)


async def test_a_list_that_could_not_be_compared_with_all_that_is_live_is_not_launched(tmp_path: Path) -> None:
    """The same two people wait in the oldest of 51 live batch calls."""
    vendor = Magpipe()
    vendor._stored({"name": "old", "caller_id": FROM}, PEOPLE, "scheduled")
    for at in range(50):
        vendor._stored({"name": f"{at}", "caller_id": FROM}, [OTHER], "scheduled")
    unattended: dict[str, Any] = {"confirm": "off", "max_calls_per_launch": "10", "calling_hours": "00:00-24:00"}
    account: dict[str, Any] = {"backend": "magpipe", "api_key": magpipe.KEY}
    async with vendor.served() as url, playing("auto", url=url, data_dir=tmp_path, **account, **unattended) as model:
        launch = {"from_number": FROM, "tasks": [{"to_number": one} for one in PEOPLE], "trigger_timestamp": "now"}
        await model.client.call_tool("create_batch_call", launch)
    assert vendor.dialled == []


async def test_people_whose_launch_has_an_unknown_outcome_are_not_launched_again_by_a_new_key(tmp_path: Path) -> None:
    """A scheduler that runs the job once more with its next key, while the first request is still on its way."""
    vendor = Magpipe()
    front = Front(
        vendor.recording,
        lambda _method, path, body: path == "/batch-calls" and body["action"] == "create",
        lambda: None,
    )
    unattended: dict[str, Any] = {"confirm": "off", "max_calls_per_launch": "10", "calling_hours": "00:00-24:00"}
    account: dict[str, Any] = {"backend": "magpipe", "api_key": magpipe.KEY}
    async with listening(front) as url, playing("auto", url=url, data_dir=tmp_path, **account, **unattended) as model:
        launch = {"from_number": FROM, "tasks": [{"to_number": one} for one in PEOPLE], "trigger_timestamp": "now"}
        front.trouble = "carried out later"
        await model.refused("create_batch_call", "outcome_unknown", **launch, idempotency_key="run-1")
        await model.client.call_tool("create_batch_call", launch | {"idempotency_key": "run-2"})
        await front.catch_up()
    assert sorted(vendor.dialled) == PEOPLE
