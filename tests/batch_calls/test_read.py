"""get_batch_call: the batch call and a page of its tasks are two reads, and the first is worth something alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tests.vendors.zudu import KEY, SECRET, Refused, Zudu
from tests.walks.stage import FROM, NEW_YORK, number, playing


class WithoutTasks(Zudu):
    """Refuses to show the tasks of a batch call."""

    async def _tasks(self, request: Request) -> Response:
        raise Refused(403, "Forbidden", "no tasks today")


@pytest.mark.parametrize("opened", [Zudu, WithoutTasks], ids=["shown", "refused"])
async def test_a_batch_call_is_shown_also_where_its_tasks_cannot_be_read(opened: type[Zudu], tmp_path: Path) -> None:
    vendor = opened()
    async with (
        vendor.served() as url,
        playing("auto", backend="zudu", url=url, api_key=KEY, api_secret=SECRET, data_dir=tmp_path) as model,
    ):
        made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": number(NEW_YORK, 1)}])
        batch_call_id = made["batch_call"]["batch_call_id"]
        asked_before = len(vendor.requests)
        found = await model.call("get_batch_call", batch_call_id=batch_call_id)
    path = f"/batch-call/{batch_call_id}"
    assert [one.path for one in vendor.requests[asked_before:]] == [path, f"{path}/tasks"]
    assert found["batch_call"]["counts"]["total"] == 1
    note = "Its tasks could not be read: Could not read the tasks of batch call"
    said = [one for one in found["batch_call"].get("notes", ()) if one.startswith(note)]
    assert len(said) == isinstance(vendor, WithoutTasks)
